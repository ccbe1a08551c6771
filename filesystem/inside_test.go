package filesystem

import (
	"os"
	"path/filepath"
	"testing"
)

func TestNamesOfStrangersStayInside(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "root")
	put(t, filepath.Join(root, "sub", "file"), "x", 0o600)
	put(t, filepath.Join(base, "secret"), "x", 0o600)
	link(t, "sub", filepath.Join(root, "within"))
	link(t, "..", filepath.Join(root, "up"))
	link(t, base, filepath.Join(root, "absolute"))
	link(t, "../nowhere", filepath.Join(root, "dangling"))

	for name, ok := range map[string]bool{
		"file": true, "sub/file": true, "sub/new/deeper": true, "within/file": true, "a..b": true, "sub/../sub": true,
		"": false, ".": false, "sub/..": false, "..": false, "../secret": false, "sub/../../secret": false, "/etc/passwd": false,
		"up": false, "up/secret": false, "absolute/secret": false, "dangling": false, "sub\x00": false,
	} {
		got, err := Inside(root, name)
		if (err == nil) != ok {
			t.Errorf("Inside(%q) = %q, %v, want ok = %v", name, got, err, ok)
		}
		if ok && got != filepath.Join(root, name) {
			t.Errorf("Inside(%q) = %q", name, got)
		}
	}
	if got, err := Inside(filepath.Join(base, "missing"), "file"); err != nil || got != filepath.Join(base, "missing", "file") {
		t.Errorf("below a folder that is not there: %q, %v", got, err)
	}
}

// Whatever Inside accepts must lead to a place below the root.
func FuzzInside(f *testing.F) {
	for _, s := range []string{"a", "../a", "a/../../b", "/a", "up/x", "a\\..\\b", "C:x", "\x00", "within/../../x"} {
		f.Add(s)
	}
	root := f.TempDir()
	if err := os.Symlink("..", filepath.Join(root, "up")); err != nil {
		f.Skip(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		path, err := Inside(root, name)
		if err != nil {
			return
		}
		rel, err := filepath.Rel(root, path)
		if err != nil || !filepath.IsLocal(rel) || rel == "." {
			t.Errorf("Inside(%q) = %q, which is %q from the root (%v)", name, path, rel, err)
		}
	})
}

func TestFreeSpaceOfAFolderToBe(t *testing.T) {
	dir := t.TempDir()
	now, err := Free(dir)
	if err != nil {
		t.Fatal(err)
	}
	later, err := Free(filepath.Join(dir, "not", "yet"))
	if err != nil {
		t.Fatal(err)
	}
	if now.Total == 0 || now.Free == 0 || now.Free > now.Total || later.Total != now.Total {
		t.Errorf("Free = %+v and %+v", now, later)
	}
}
