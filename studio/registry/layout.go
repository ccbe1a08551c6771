package registry

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

// A layout is distribution's storage as files:
//
//	blobs/<algorithm>/<xx>/<hex>/data                              content, whoever's
//	repositories/<name>/_layers/<algorithm>/<hex>/link             a blob that the repository has
//	repositories/<name>/_manifests/revisions/<algorithm>/<hex>/link
//	repositories/<name>/_manifests/tags/<tag>/current/link         the digest that the tag means
//	repositories/<name>/_manifests/tags/<tag>/index/…              those that it meant
//	repositories/<name>/_uploads/<id>/…
//
// Content is found through its links only: one that leads nowhere is to
// distribution as if it were not there.
type layout struct{ root string }

func newLayout(images string) layout {
	return layout{filepath.Join(images, "docker", "registry", "v2")}
}

func (l layout) blobs() string { return filepath.Join(l.root, "blobs") }

func (l layout) data(d digest.Digest) string {
	return filepath.Join(l.blobs(), d.Algorithm().String(), d.Encoded()[:2], d.Encoded(), "data")
}

func (l layout) repository(name string) string {
	return filepath.Join(l.root, "repositories", filepath.FromSlash(name))
}

func (l layout) layers(name string) string { return filepath.Join(l.repository(name), "_layers") }
func (l layout) revisions(name string) string {
	return filepath.Join(l.repository(name), "_manifests", "revisions")
}
func (l layout) tags(name string) string {
	return filepath.Join(l.repository(name), "_manifests", "tags")
}

func (l layout) tag(name, tag string) string {
	return filepath.Join(l.tags(name), tag, "current", "link")
}

// link is that of a digest below a folder of layers or revisions.
func link(folder string, d digest.Digest) string {
	return filepath.Join(folder, d.Algorithm().String(), d.Encoded(), "link")
}

// repositories lists the names of all repositories.
func (l layout) repositories() (names []string, err error) {
	top := filepath.Join(l.root, "repositories")
	err = filepath.WalkDir(top, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !e.IsDir() || !strings.HasPrefix(e.Name(), "_"):
			return nil
		}
		name, err := filepath.Rel(top, filepath.Dir(path))
		if name = filepath.ToSlash(name); len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
		if err == nil {
			err = fs.SkipDir
		}
		return err
	})
	return names, err
}

// digests lists what a folder holds that is split by algorithm. The names of
// blobs are split again, by their first two letters.
func digests(folder string, split bool) (all []digest.Digest, err error) {
	algorithms, err := names(folder)
	for _, algorithm := range algorithms {
		folders := []string{filepath.Join(folder, algorithm)}
		if split {
			parts, err := names(folders[0])
			if err != nil {
				return nil, err
			}
			for i, part := range parts {
				parts[i] = filepath.Join(folders[0], part)
			}
			folders = parts
		}
		for _, f := range folders {
			encoded, err := names(f)
			if err != nil {
				return nil, err
			}
			for _, hex := range encoded {
				if d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), hex); d.Validate() == nil {
					all = append(all, d)
				}
			}
		}
	}
	return all, err
}

// names lists a folder; one that is not there is empty.
func names(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	all := make([]string, 0, len(entries))
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all, err
}

// readLink is the digest that a link leads to.
func readLink(path string) (digest.Digest, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	return digest.Parse(strings.TrimSpace(string(text)))
}

// used says that a file is of use now. What is not there stays so.
func used(paths ...string) {
	now := time.Now()
	for _, path := range paths {
		_ = os.Chtimes(path, now, now)
	}
}

// usedSince reports whether a file is there and was written, or said to be of use,
// after a time.
func usedSince(path string, since time.Time) (young bool, err error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && info.ModTime().After(since), err
}
