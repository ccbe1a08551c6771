package persistence

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"reagent/filesystem"
)

// What an opener may want to tell apart.
var (
	// ErrLocked says that another process has the file open.
	ErrLocked = errors.New("in use by another process")
	// ErrForeign says that the file belongs to another program. It was not changed.
	ErrForeign = errors.New("not a file of ours")
	// ErrNewer says that a newer version of this program wrote the file. It was
	// not changed.
	ErrNewer = errors.New("written by a newer version")
	// ErrTooLarge says that a record is larger than MaxRecord.
	ErrTooLarge = errors.New("record is too large")
)

func locked(path string, cause error) error {
	by := ""
	var held *filesystem.HeldError
	if errors.As(cause, &held) && held.PID != 0 {
		by = fmt.Sprintf(" (process %d)", held.PID)
	}
	return fmt.Errorf("the state in %s is %w%s; end that one, or use another folder", filepath.Dir(path), ErrLocked, by)
}

func newer(path string, schema, known int) error {
	older := ""
	if name := backupName(path, known); exists(name) {
		older = fmt.Sprintf("put its older copy %s in its place, ", name)
	}
	return fmt.Errorf("%s is %w (schema %d, this one knows up to %d): install that version again, %sor move the file away to begin anew",
		path, ErrNewer, schema, known, older)
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func foreign(path, what string) error {
	return fmt.Errorf("%s is %s, %w; it was left as it is, choose another path", path, what, ErrForeign)
}
