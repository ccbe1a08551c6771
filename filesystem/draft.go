package filesystem

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// draftPrefix begins the names under which drafts are written.
const draftPrefix = ".draft-"

// A Draft is a file that is written piece by piece, over minutes: nobody sees
// it under its name before Commit, and one that is never committed leaves
// nothing behind but what SweepDrafts removes. It belongs to one goroutine.
type Draft struct {
	root       *os.Root
	f          *os.File
	temp, name string
}

// NewDraft begins the file name of a folder, which has to exist. No link leads
// it out of there, and a link at name itself is replaced.
func NewDraft(folder, name string) (*Draft, error) {
	if name != filepath.Base(name) || !filepath.IsLocal(name) || name == "." || strings.HasPrefix(name, draftPrefix) {
		return nil, fmt.Errorf("%q is no name of a file", name)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return nil, fmt.Errorf("write %s in %s: %w", name, folder, err)
	}
	temp := draftPrefix + rand.Text()
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, PrivateFile)
	if err != nil {
		_ = root.Close()
		return nil, fmt.Errorf("write %s in %s: %w", name, folder, err)
	}
	return &Draft{root: root, f: f, temp: temp, name: name}, nil
}

// Write appends to the draft.
func (d *Draft) Write(p []byte) (int, error) { return d.f.Write(p) }

// Commit brings the file to the disk and gives it its name, in the place of one
// that has it. Whatever it answers, the draft is over.
func (d *Draft) Commit() error {
	err := d.f.Sync()
	if closeErr := d.f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = d.root.Rename(d.temp, d.name)
	}
	if err == nil {
		err = syncFolder(d.root, "")
	} else {
		_ = d.root.Remove(d.temp)
	}
	_ = d.root.Close()
	if err != nil {
		return fmt.Errorf("write %s: %w", d.name, err)
	}
	return nil
}

// Discard gives the draft up.
func (d *Draft) Discard() {
	_ = d.f.Close()
	_ = d.root.Remove(d.temp)
	_ = d.root.Close()
}

// SweepDrafts removes what drafts of a process that has ended left in a folder.
func SweepDrafts(folder string) error {
	entries, err := os.ReadDir(folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), draftPrefix) && e.Type().IsRegular() {
			err = errors.Join(err, os.Remove(filepath.Join(folder, e.Name())))
		}
	}
	return err
}
