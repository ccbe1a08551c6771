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
	s, err := nearest(path, space)
	if err != nil {
		return Space{}, fmt.Errorf("free space of %s: %w", path, err)
	}
	return s, nil
}

// SameDisk tells whether two paths lie on one file system; false where nobody
// can tell. Of a path that does not exist yet, the nearest folder above counts.
func SameDisk(a, b string) bool {
	one, errA := nearest(a, disk)
	two, errB := nearest(b, disk)
	return errA == nil && errB == nil && one == two
}

// nearest asks about path, or about the nearest folder above it that exists.
func nearest[T any](path string, ask func(string) (T, error)) (T, error) {
	path, err := filepath.Abs(path)
	for err == nil {
		var answer T
		if answer, err = ask(path); err == nil {
			return answer, nil
		}
		above := filepath.Dir(path)
		if !errors.Is(err, fs.ErrNotExist) || above == path {
			break
		}
		path, err = above, nil
	}
	var none T
	return none, err
}
