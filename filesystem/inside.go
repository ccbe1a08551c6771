package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Inside joins a name that came from a stranger to a folder of ours. It refuses
// a name that is absolute, climbs with "..", names the folder itself, or leads
// out through a symbolic link, relative or absolute. What the path names need
// not exist.
//
// The answer is true of this instant. Where somebody else may lay links into
// the folder at any time, open the file through an os.Root, or write it with
// [WriteBelow].
func Inside(root, name string) (string, error) {
	if !filepath.IsLocal(name) || filepath.Clean(name) == "." {
		return "", fmt.Errorf("%q is not a name below %s", name, root)
	}
	path := filepath.Join(root, name)
	r, err := os.OpenRoot(root)
	if errors.Is(err, fs.ErrNotExist) {
		return path, nil // a folder that is not there has no links in it
	}
	if err != nil {
		return "", err
	}
	defer r.Close()
	if _, err := r.Stat(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%q is not a name below %s: %w", name, root, err)
	}
	return path, nil
}
