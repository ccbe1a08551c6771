package filesystem

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"
)

// ArchiveLimits bound what an archive of a stranger may make us read or write.
type ArchiveLimits struct {
	Entries int
	Bytes   int64 // of all files, unpacked
}

// ErrArchive is in the chain of every error that says what is wrong with an
// archive itself, as opposed to the disk.
var ErrArchive = errors.New("the archive cannot be used")

func badArchive(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrArchive, fmt.Sprintf(format, args...))
}

// WalkArchive reads a tar, gzip'd or not, without unpacking it, and shows each
// ordinary file with its cleaned name, which is local (see [filepath.IsLocal]),
// its size and its content, of which as much may be read as is wanted.
func WalkArchive(r io.Reader, limits ArchiveLimits, file func(name string, size int64, content io.Reader) error) error {
	return walkArchive(r, limits, func(h *tar.Header, name string, content io.Reader) error {
		if h.Typeflag != tar.TypeReg {
			return nil
		}
		return file(name, h.Size, content)
	})
}

// ExtractArchive unpacks a tar, gzip'd or not, into the folder name of dir: all
// of it or nothing. What lay there before is replaced. Only files and folders
// come out of it, with modes 0755 and 0644 (0755 for what is executable): an
// archive that holds anything else (links, devices), or a name that leads out of
// the folder, is refused as a whole.
func ExtractArchive(r io.Reader, dir, name string, limits ArchiveLimits) (err error) {
	if name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." {
		return fmt.Errorf("%q is no name of a folder", name)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	fresh, old := "."+name+".new", "."+name+".old"
	if err := errors.Join(root.RemoveAll(fresh), root.RemoveAll(old)); err != nil {
		return fmt.Errorf("clear what an interrupted extraction left: %w", err)
	}
	if err := root.Mkdir(fresh, 0o755); err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.RemoveAll(fresh)
		}
	}()
	into, err := root.OpenRoot(fresh)
	if err != nil {
		return err
	}
	err = walkArchive(r, limits, func(h *tar.Header, name string, content io.Reader) error {
		return extract(into, h, name, content)
	})
	_ = into.Close()
	if err != nil {
		return err
	}
	// Two renames, as a folder that is not empty cannot be replaced by one. A
	// power cut between them leaves no folder, and the next extraction makes it.
	switch err := root.Rename(name, old); {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := root.Rename(fresh, name); err != nil {
		return err
	}
	return root.RemoveAll(old)
}

func extract(root *os.Root, h *tar.Header, name string, content io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o755)
	case tar.TypeReg:
	default:
		return badArchive("%q is neither a file nor a folder", h.Name)
	}
	if folder := filepath.Dir(name); folder != "." {
		if err := root.MkdirAll(folder, 0o755); errors.Is(err, syscall.ENOTDIR) || errors.Is(err, fs.ErrExist) {
			return badArchive("%q is a file and a folder", filepath.Dir(h.Name))
		} else if err != nil {
			return err
		}
	}
	mode := fs.FileMode(0o644)
	if h.Mode&0o111 != 0 {
		mode = 0o755
	}
	if err := root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return badArchive("%q is a folder and a file", h.Name)
	}
	f, err := root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// walkArchive shows every entry that is not about the archive itself.
func walkArchive(r io.Reader, limits ArchiveLimits, entry func(h *tar.Header, name string, content io.Reader) error) error {
	buffered := bufio.NewReader(r)
	magic, err := buffered.Peek(2)
	if errors.Is(err, io.EOF) {
		return badArchive("it is empty")
	} else if err != nil {
		return err
	}
	plain := io.Reader(buffered)
	if magic[0] == 0x1f && magic[1] == 0x8b {
		z, err := gzip.NewReader(buffered)
		if err != nil {
			return badArchive("%v", err)
		}
		defer z.Close()
		plain = z
	}
	// The limit is on what comes out of the compression: headers, and files that
	// nobody reads, cost time too. The archive's own frame is allowed for.
	most := limits.Bytes + int64(limits.Entries)*2048 + 1<<20
	counted := &io.LimitedReader{R: plain, N: most + 1}
	archive := tar.NewReader(counted)
	for n := 0; ; n++ {
		h, err := archive.Next()
		switch {
		case counted.N <= 0:
			return badArchive("it holds more than %d bytes", limits.Bytes)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return badArchive("%v", err)
		case n >= limits.Entries:
			return badArchive("it holds more than %d entries", limits.Entries)
		case h.Typeflag == tar.TypeXGlobalHeader:
			continue
		}
		name := path.Clean(strings.ReplaceAll(h.Name, `\`, "/"))
		if name == "." && h.Typeflag == tar.TypeDir {
			continue
		}
		if !filepath.IsLocal(name) || name == "." {
			return badArchive("%q leads out of its folder", h.Name)
		}
		err = entry(h, filepath.FromSlash(name), &reading{archive})
		switch {
		case counted.N <= 0:
			return badArchive("it holds more than %d bytes", limits.Bytes)
		case err != nil:
			return err
		}
	}
}

// reading tells errors of an archive that is cut off or damaged from those of
// whoever writes what is read.
type reading struct{ r io.Reader }

func (r *reading) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = badArchive("%v", err)
	}
	return n, err
}
