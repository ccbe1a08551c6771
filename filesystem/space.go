package filesystem

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// Space is the room on a file system, in bytes. Free is what our user may
// still fill; the reserve of the system's administrator is not part of it.
type Space struct {
	Total, Free uint64
}

// Free tells the room on the file system that holds path. Where path does not
// exist yet, the nearest folder above it that does is asked.
func Free(path string) (Space, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return Space{}, fmt.Errorf("free space: %w", err)
	}
	for {
		s, err := space(path)
		above := filepath.Dir(path)
		if err == nil {
			return s, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || above == path {
			return Space{}, fmt.Errorf("free space of %s: %w", path, err)
		}
		path = above
	}
}
