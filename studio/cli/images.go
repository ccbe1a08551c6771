package cli

import (
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"reagent/container"
	"reagent/protocol"
)

// A source is where the images of one version come from: an archive on the disk,
// one image for each architecture.
type source struct {
	images map[string]v1.Image // by architecture, as in the image's name
	file   *os.File
	temp   bool // the file is ours
}

func (s *source) Close() {
	if s.file == nil {
		return
	}
	_ = s.file.Close()
	if s.temp {
		_ = os.Remove(s.file.Name())
	}
}

// openImages opens what a person named: an archive that "docker save" or an OCI
// tool made, or an image of the local engine.
func (c *Call) openImages(ctx context.Context, what string) (*source, error) {
	s := &source{}
	err := s.open(ctx, c, what)
	if err == nil {
		err = s.read()
	}
	if err != nil {
		s.Close()
		return nil, fmt.Errorf("image %s: %w", what, err)
	}
	return s, nil
}

func (s *source) open(ctx context.Context, c *Call, what string) (err error) {
	info, err := os.Stat(what)
	switch {
	case err == nil && info.Mode().IsRegular():
		return s.openArchive(ctx, what)
	case err == nil && looksLikePath(what):
		return errors.New("it is not a file; pack an OCI layout with \"tar -cf FILE.tar -C FOLDER .\" first")
	case errors.Is(err, fs.ErrPermission):
		return err
	case looksLikePath(what):
		return errors.New("there is no such file")
	}
	return s.export(ctx, c, what)
}

func looksLikePath(what string) bool {
	for _, prefix := range []string{"/", "./", "../", "~"} {
		if strings.HasPrefix(what, prefix) {
			return true
		}
	}
	for _, suffix := range []string{".tar", ".tgz", ".gz"} {
		if strings.HasSuffix(what, suffix) {
			return true
		}
	}
	return false
}

// export copies an image out of the local engine. Its layers are needed more
// than once: to know their digests, and to send them.
func (s *source) export(ctx context.Context, c *Call, ref string) error {
	if err := s.tempFile(); err != nil {
		return err
	}
	bar := c.bar("reading " + ref)
	err := c.Engine.SaveImage(ctx, ref, io.MultiWriter(s.file, bar))
	bar.end(err)
	switch {
	case errors.Is(err, container.ErrNotFound):
		return fmt.Errorf("there is no such file, and no such image in the local Docker Engine: %w", container.ErrNotFound)
	case errors.Is(err, container.ErrUnavailable):
		return fmt.Errorf("there is no such file, and no Docker Engine answers here (%w)", err)
	}
	return err
}

func (s *source) tempFile() (err error) {
	s.file, err = os.CreateTemp("", "reagent-studio-*.tar")
	s.temp = err == nil
	return err
}

// openArchive opens a file, unpacked first where it is packed: it is read at many
// places.
func (s *source) openArchive(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	in := bufio.NewReader(f)
	magic, _ := in.Peek(2) // an empty file is found out later
	if string(magic) != "\x1f\x8b" {
		s.file = f
		return nil
	}
	defer f.Close()
	unzip, err := gzip.NewReader(in)
	if err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	if err := s.tempFile(); err != nil {
		return err
	}
	if _, err := io.Copy(s.file, untilDone{ctx, unzip}); err != nil {
		return fmt.Errorf("unpack: %w", err)
	}
	return nil
}

// untilDone is a reader that ends with its context.
type untilDone struct {
	ctx context.Context
	io.Reader
}

func (r untilDone) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

// read finds the images in the archive.
func (s *source) read() error {
	tar, err := indexArchive(s.file)
	if err != nil {
		return err
	}
	var images []v1.Image
	switch {
	case tar.has("manifest.json"): // docker save; newer ones write index.json too, for the same image
		images, err = dockerImages(s.file)
	case tar.has("index.json"):
		images, err = tar.ociImages()
	default:
		err = errors.New("the file is no archive of an image: neither of docker save, nor an OCI one")
	}
	if err != nil {
		return err
	}
	s.images = map[string]v1.Image{}
	for _, img := range images {
		arch, err := architecture(img)
		if err != nil {
			return err
		}
		if s.images[arch] != nil {
			return fmt.Errorf("the archive holds two images for %s: pack one only", arch)
		}
		s.images[arch] = img
	}
	if len(s.images) == 0 {
		return errors.New("the archive holds no image for Linux")
	}
	return nil
}

func dockerImages(f *os.File) ([]v1.Image, error) {
	open := func() (io.ReadCloser, error) {
		size, err := f.Seek(0, io.SeekEnd)
		return io.NopCloser(io.NewSectionReader(f, 0, size)), err
	}
	manifest, err := tarball.LoadManifest(open)
	if err != nil {
		return nil, fmt.Errorf("manifest.json: %w", err)
	}
	if len(manifest) != 1 {
		return nil, fmt.Errorf("the archive holds %d images: save one only", len(manifest))
	}
	img, err := tarball.Image(open, nil)
	return []v1.Image{img}, err
}

// architecture is what an image was made for, as it is glued into names.
func architecture(img v1.Image) (string, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return "", fmt.Errorf("its configuration: %w", err)
	}
	if config.OS != "" && config.OS != "linux" {
		return "", fmt.Errorf("it is made for %s; apps run on Linux", printable(config.OS))
	}
	arch := protocol.Architecture(config.Architecture, config.Variant)
	if strings.Trim(arch, "abcdefghijklmnopqrstuvwxyz0123456789") != "" || arch == "" {
		return "", fmt.Errorf("it says no known architecture (%q)", arch)
	}
	return arch, nil
}
