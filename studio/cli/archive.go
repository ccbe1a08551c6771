package cli

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// An archive is a tar file whose members are read where they lie, so that an
// image of gigabytes is not unpacked to be sent.
type archive struct {
	file    *os.File
	members map[string]member
}

// A member is where a file lies in the archive.
type member struct{ offset, size int64 }

// indexArchive notes where everything is.
func indexArchive(f *os.File) (*archive, error) {
	const most = 100_000
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	a := &archive{file: f, members: map[string]member{}}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("the file is no tar archive, or is cut short: %w", err)
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		if len(a.members) == most {
			return nil, fmt.Errorf("the archive holds more than %d files", most)
		}
		offset, err := f.Seek(0, io.SeekCurrent) // the reader does not read ahead
		if err != nil {
			return nil, err
		}
		a.members[path.Clean(h.Name)] = member{offset, h.Size}
	}
}

func (a *archive) has(name string) bool { _, ok := a.members[name]; return ok }

func (a *archive) open(name string) (*io.SectionReader, error) {
	m, ok := a.members[name]
	if !ok {
		return nil, fmt.Errorf("%s is missing in the archive", name)
	}
	return io.NewSectionReader(a.file, m.offset, m.size), nil
}

// small reads a member that is no layer.
func (a *archive) small(name string) ([]byte, error) {
	const longest = 8 << 20
	r, err := a.open(name)
	if err != nil {
		return nil, err
	}
	if r.Size() > longest {
		return nil, fmt.Errorf("%s is longer than %d MiB", name, longest>>20)
	}
	return io.ReadAll(r)
}

func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// ociImages are the images for Linux of an OCI layout.
func (a *archive) ociImages() ([]v1.Image, error) { return a.indexed("index.json", 0) }

// indexed are the images that an index leads to; an index may name others.
func (a *archive) indexed(name string, depth int) (images []v1.Image, err error) {
	const deepest = 4
	raw, err := a.small(name)
	if err != nil {
		return nil, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for _, d := range index.Manifests {
		switch {
		case d.Platform != nil && d.Platform.OS != "linux": // also "unknown": what BuildKit attests
			continue
		case d.MediaType.IsIndex():
			if depth == deepest {
				return nil, fmt.Errorf("%s: its indexes lead too deep", name)
			}
			more, err := a.indexed(blobName(d.Digest), depth+1)
			if err != nil {
				return nil, err
			}
			images = append(images, more...)
		case d.MediaType.IsImage():
			img, err := a.image(d)
			if err != nil {
				return nil, err
			}
			images = append(images, img)
		}
	}
	return images, nil
}

func (a *archive) image(d v1.Descriptor) (v1.Image, error) {
	raw, err := a.small(blobName(d.Digest))
	if err != nil {
		return nil, err
	}
	img := &ociImage{archive: a, raw: raw, mediaType: d.MediaType}
	if err := json.Unmarshal(raw, &img.manifest); err != nil {
		return nil, fmt.Errorf("manifest %s: %w", d.Digest, err)
	}
	return partial.CompressedToImage(img)
}

// An ociImage is an image in an archive.
type ociImage struct {
	*archive
	raw       []byte
	manifest  v1.Manifest
	mediaType types.MediaType
}

func (i *ociImage) MediaType() (types.MediaType, error) { return i.mediaType, nil }
func (i *ociImage) RawManifest() ([]byte, error)        { return i.raw, nil }
func (i *ociImage) RawConfigFile() ([]byte, error) {
	return i.small(blobName(i.manifest.Config.Digest))
}

func (i *ociImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, d := range append(i.manifest.Layers, i.manifest.Config) {
		if d.Digest == h {
			return &ociLayer{i.archive, d}, nil
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", h)
}

// An ociLayer is a layer in an archive.
type ociLayer struct {
	archive *archive
	desc    v1.Descriptor
}

func (l *ociLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *ociLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *ociLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *ociLayer) Descriptor() (*v1.Descriptor, error) { return &l.desc, nil }
func (l *ociLayer) Compressed() (io.ReadCloser, error) {
	r, err := l.archive.open(blobName(l.desc.Digest))
	if err != nil {
		return nil, err
	}
	return io.NopCloser(r), nil
}
