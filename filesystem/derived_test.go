package filesystem_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reagent/filesystem"
)

func TestDerivedFilesDoNotFollowAnAppsLinks(t *testing.T) {
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(root, "env"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(root, "env", "A.txt")); err != nil {
		t.Fatal(err)
	}
	if err := filesystem.WriteDerived(root, "env", map[string][]byte{"A.txt": []byte("1")}, 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(outside); string(got) != "untouched" {
		t.Errorf("the file outside holds %q", got)
	}
	if got, _ := os.ReadFile(filepath.Join(root, "env", "A.txt")); string(got) != "1" {
		t.Errorf("A.txt holds %q, want 1", got)
	}
	info, err := os.Stat(filepath.Join(root, "env"))
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("folder = %v (%v), want 0700", info.Mode(), err)
	}
	if err := os.RemoveAll(filepath.Join(root, "env")); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Dir(outside), filepath.Join(root, "env")); err != nil {
		t.Fatal(err)
	}
	if err := filesystem.WriteDerived(root, "env", map[string][]byte{"secret": []byte("1")}, 0o600); err == nil {
		t.Error("a folder that leads out was written to")
	}
	if got, _ := os.ReadFile(outside); string(got) != "untouched" {
		t.Errorf("the file outside holds %q", got)
	}
	for _, bad := range []string{"../x", "a/b", "..", ""} {
		if err := filesystem.WriteDerived(t.TempDir(), "env", map[string][]byte{bad: nil}, 0o600); err == nil {
			t.Errorf("the name %q was taken", bad)
		}
	}
}

func TestRemoveBelowTakesOnlyWhatItIsTold(t *testing.T) {
	root := t.TempDir()
	if err := filesystem.RemoveBelow(root, "env", func(string) bool { return true }); err != nil {
		t.Errorf("a folder that is not there: %v", err)
	}
	if err := filesystem.WriteDerived(root, "env", map[string][]byte{"a.txt": nil, "b_CLOUD.txt": nil}, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := filesystem.RemoveBelow(root, "env", func(n string) bool { return strings.HasSuffix(n, "_CLOUD.txt") }); err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(filepath.Join(root, "env"))
	if len(left) != 1 || left[0].Name() != "a.txt" {
		t.Errorf("left %v, want a.txt", left)
	}
}
