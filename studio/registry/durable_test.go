package registry

import (
	"os"
	"path/filepath"
	"testing"
)

func TestWhatWasPutIsThereUnderItsName(t *testing.T) {
	d := newDurable(t.TempDir())
	if err := d.PutContent(t.Context(), "/a/b/c", []byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := d.Move(t.Context(), "/a/b/c", "/x/y/z"); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(filepath.Join(d.root, "x", "y", "z")); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v, want hello", got, err)
	}
	if err := d.Move(t.Context(), "/nothing", "/n"); err == nil {
		t.Error("a move of nothing = nil, want an error")
	}
}

func TestAFolderThatCannotBeBroughtToTheDiskIsAnError(t *testing.T) {
	d := newDurable(t.TempDir())
	if err := d.settle("/not/there"); err == nil {
		t.Error("settle below a folder that is not there = nil, want an error")
	}
}
