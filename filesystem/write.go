package filesystem

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
)

// Write replaces the content of the file at path, through symbolic links. A
// file that exists keeps its mode and owner; a new one gets mode, whatever the
// umask says.
func Write(path string, data []byte, mode fs.FileMode) error {
	return write(path, data, mode, true)
}

// WritePrivate is Write for what nobody else may read: the file has mode 0600
// afterwards, whatever it had before.
func WritePrivate(path string, data []byte) error {
	return write(path, data, PrivateFile, false)
}

// WriteIfChanged is Write, but leaves a file alone that holds exactly data
// already, so that neither flash memory nor a watcher of the file is bothered.
func WriteIfChanged(path string, data []byte, mode fs.FileMode) (changed bool, err error) {
	if sameContent(path, data) {
		return false, nil
	}
	return true, Write(path, data, mode)
}

// sameContent compares without reading a file of another size.
func sameContent(path string, data []byte) bool {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() || info.Size() != int64(len(data)) {
		return false
	}
	old, err := os.ReadFile(path)
	return err == nil && bytes.Equal(old, data)
}

// WriteBelow replaces the file name below the folder root and makes the folders
// between them (0700). It is for folders that an app can write to: no link that
// the app laid there leads the write out of root, and a link at name itself is
// replaced by the file. The file has mode afterwards. Content that is there
// already is left alone.
func WriteBelow(root, name string, data []byte, mode fs.FileMode) (changed bool, err error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return false, fmt.Errorf("write %s below %s: %w", name, root, err)
	}
	defer r.Close()
	defer lockTarget(filepath.Join(root, name))()

	if info, err := r.Lstat(name); err == nil && info.Mode().IsRegular() && info.Size() == int64(len(data)) && (info.Mode().Perm() == mode || !hasModes) {
		if old, err := r.ReadFile(name); err == nil && bytes.Equal(old, data) {
			return false, nil
		}
	}
	folder, base := filepath.Split(filepath.Clean(name))
	if folder != "" {
		if err := r.MkdirAll(filepath.Clean(folder), PrivateDir); err != nil {
			return false, fmt.Errorf("write %s below %s: %w", name, root, err)
		}
	}
	if err := replace(r, folder, base, data, func(f *os.File) { _ = f.Chmod(mode) }); err != nil {
		return false, fmt.Errorf("write %s below %s: %w", name, root, err)
	}
	return true, nil
}

func write(path string, data []byte, mode fs.FileMode, keepMode bool) error {
	target, err := Resolve(path)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer lockTarget(target)()

	old, err := os.Stat(target)
	if err == nil && !old.Mode().IsRegular() {
		return fmt.Errorf("write %s: it is not an ordinary file", target)
	}
	root, err := os.OpenRoot(filepath.Dir(target))
	if err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	defer root.Close()
	err = replace(root, "", filepath.Base(target), data, func(f *os.File) {
		// Errors are ignored on purpose: vfat has neither owners nor modes, and
		// the temporary file was made 0600, so that failing errs on the safe side.
		if old != nil {
			keepOwner(f, old)
			if keepMode {
				mode = old.Mode().Perm()
			}
		}
		_ = f.Chmod(mode)
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", target, err)
	}
	return nil
}

// replace writes a temporary file beside the target, brings it to the disk and
// renames it over the target.
func replace(root *os.Root, folder, base string, data []byte, dress func(*os.File)) (err error) {
	temp := folder + tempName(base)
	// What lies there was left by a write that a power cut ended.
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, PrivateFile)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = root.Remove(temp)
		}
	}()
	dress(f)
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	if err := root.Rename(temp, folder+base); err != nil {
		return err
	}
	return syncFolder(root, folder)
}

// tempName is always the same for a target, so that interrupted writes do not
// pile up. The leading dot keeps it out of patterns such as "reagent-*".
func tempName(base string) string { return "." + base + ".tmp" }

// Resolve follows path to the file that a write would replace. The file need
// not exist, its folder must.
func Resolve(path string) (string, error) {
	for range 40 { // as many links as Linux follows
		folder, base := filepath.Split(path)
		if base == "" || base == "." || base == ".." {
			return "", fmt.Errorf("%s names no file", path)
		}
		if folder == "" {
			folder = "."
		}
		folder, err := filepath.EvalSymlinks(folder)
		if err != nil {
			return "", err
		}
		target := filepath.Join(folder, base)
		info, err := os.Lstat(target)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return target, nil
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink == 0:
			return target, nil
		}
		link, err := os.Readlink(target)
		if err != nil {
			return "", err
		}
		path = link
		if !filepath.IsAbs(link) {
			// Not Join: it would fold "link/.." before the link is followed.
			path = folder + string(filepath.Separator) + link
		}
	}
	return "", fmt.Errorf("%s: too many levels of symbolic links", path)
}

// MakePrivateDir makes a folder and those above it, and closes the folder
// itself to everybody else, also when it was there before.
func MakePrivateDir(path string) error {
	if err := os.MkdirAll(path, PrivateDir); err != nil {
		return fmt.Errorf("make folder %s: %w", path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("make folder %s: %w", path, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		_ = os.Chmod(path, PrivateDir) // vfat cannot
	}
	return nil
}

// SyncFolder brings to the disk what was made, renamed and removed in a folder.
func SyncFolder(path string) error {
	root, err := os.OpenRoot(path)
	if err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	defer root.Close()
	if err := syncFolder(root, ""); err != nil {
		return fmt.Errorf("sync folder %s: %w", path, err)
	}
	return nil
}

// Two goroutines that write the same target share the name of its temporary
// file. Stripes instead of one mutex a path: their number does not grow.
var (
	stripes [64]sync.Mutex
	seed    = maphash.MakeSeed()
)

func lockTarget(path string) (unlock func()) {
	m := &stripes[maphash.String(seed, path)%uint64(len(stripes))]
	m.Lock()
	return m.Unlock
}
