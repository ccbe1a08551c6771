package filesystem

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
)

// put makes a file for a test.
func put(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// wantFile compares content and, where they exist, mode bits.
func wantFile(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != content {
		t.Errorf("%s holds %q, want %q", path, got, content)
	}
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !info.Mode().IsRegular() {
		t.Errorf("%s is %v, want an ordinary file", path, info.Mode())
	}
	if hasModes && info.Mode().Perm() != mode {
		t.Errorf("%s has mode %v, want %v", path, info.Mode().Perm(), mode)
	}
}

// wantOnly checks that nothing else, such as a temporary file, lies in a folder.
func wantOnly(t *testing.T, folder string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(names) {
		t.Errorf("%s holds %v, want %v", folder, got, names)
	}
}

func link(t *testing.T, to, at string) {
	t.Helper()
	if err := os.Symlink(to, at); err != nil {
		if runtime.GOOS == "windows" {
			t.Skip("this user may not make symbolic links")
		}
		t.Fatal(err)
	}
}

func TestNewFileHasTheModeAskedFor(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "new")
	if err := Write(path, []byte("one"), 0o666); err != nil { // the umask does not count
		t.Fatal(err)
	}
	wantFile(t, path, "one", 0o666)
	wantOnly(t, dir, "new")
}

func TestRewrittenFileKeepsItsMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old")
	put(t, path, "one", 0o644)
	if err := Write(path, []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "two", 0o644)
}

func TestPrivateWriteClosesAnOpenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "old")
	put(t, path, "one", 0o644)
	if err := WritePrivate(path, []byte("two")); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "two", 0o600)
}

// The device file of a flashed image is a link onto the boot partition.
func TestWriteFollowsLinksAndKeepsThem(t *testing.T) {
	base := t.TempDir()
	boot, etc := filepath.Join(base, "boot"), filepath.Join(base, "etc")
	put(t, filepath.Join(boot, "press.reswarm"), "one", 0o755)
	if err := os.MkdirAll(filepath.Join(etc, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, filepath.Join(boot, "press.reswarm"), filepath.Join(etc, "absolute"))
	link(t, "../boot/press.reswarm", filepath.Join(etc, "relative"))
	link(t, "relative", filepath.Join(etc, "chain"))
	link(t, etc, filepath.Join(base, "via"))
	// "deep/.." is where the link points, not the folder it lies in.
	link(t, filepath.Join(etc, "deep"), filepath.Join(boot, "elsewhere"))
	link(t, "elsewhere/../../boot/press.reswarm", filepath.Join(boot, "tricky"))

	for _, name := range []string{"etc/absolute", "etc/relative", "etc/chain", "via/relative", "boot/tricky"} {
		path := filepath.Join(base, name)
		if err := Write(path, []byte(name), 0o600); err != nil {
			t.Errorf("Write(%s): %v", name, err)
			continue
		}
		wantFile(t, filepath.Join(boot, "press.reswarm"), name, 0o755)
		if info, err := os.Lstat(path); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("after Write(%s) the link is gone: %v, %v", name, info, err)
		}
	}
	wantOnly(t, boot, "elsewhere", "press.reswarm", "tricky")
	wantOnly(t, etc, "absolute", "chain", "deep", "relative")
}

func TestWriteThroughADanglingLinkMakesItsTarget(t *testing.T) {
	dir := t.TempDir()
	link(t, "later", filepath.Join(dir, "link"))
	if err := Write(filepath.Join(dir, "link"), []byte("one"), 0o640); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, "later"), "one", 0o640)
}

func TestWriteRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	link(t, "loop", filepath.Join(dir, "loop"))
	for _, path := range []string{dir, dir + "/", filepath.Join(dir, "loop"), filepath.Join(dir, "missing", "file"), ".."} {
		if err := Write(path, []byte("x"), 0o600); err == nil {
			t.Errorf("Write(%s) succeeded, want an error", path)
		}
	}
	wantOnly(t, dir, "loop")
}

// A power cut leaves the temporary file behind, of whatever content and mode.
func TestLeftoverOfAnInterruptedWriteIsReplaced(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	put(t, path, "old", 0o600)
	put(t, filepath.Join(dir, tempName("file")), "half of the new conte", 0o444)
	if got, err := os.ReadFile(path); err != nil || string(got) != "old" {
		t.Fatalf("before the write: %q, %v", got, err)
	}
	if err := Write(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFile(t, path, "new", 0o600)
	wantOnly(t, dir, "file")
}

func TestTemporaryFileThatIsALinkIsNotFollowed(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "victim"), "precious", 0o600)
	link(t, "victim", filepath.Join(dir, tempName("file")))
	if err := Write(filepath.Join(dir, "file"), []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantFile(t, filepath.Join(dir, "victim"), "precious", 0o600)
	wantFile(t, filepath.Join(dir, "file"), "new", 0o600)
}

func TestFailedWriteLeavesTheOldFileAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	put(t, path, "old", 0o600)
	// A folder with content in the place of the temporary file cannot be removed.
	put(t, filepath.Join(dir, tempName("file"), "x"), "", 0o600)
	if err := Write(path, []byte("new"), 0o600); err == nil {
		t.Fatal("Write succeeded, want an error")
	}
	wantFile(t, path, "old", 0o600)
}

func TestUnchangedContentIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for i, step := range []struct {
		content string
		changed bool
	}{{"one", true}, {"one", false}, {"two", true}, {"", true}, {"", false}} {
		before, _ := os.Stat(path)
		changed, err := WriteIfChanged(path, []byte(step.content), 0o600)
		if err != nil || changed != step.changed {
			t.Fatalf("step %d: WriteIfChanged = %v, %v, want %v", i, changed, err, step.changed)
		}
		after, _ := os.Stat(path)
		if before != nil && os.SameFile(before, after) == changed {
			t.Errorf("step %d: replaced = %v, want %v", i, !os.SameFile(before, after), changed)
		}
	}
}

func TestReadersNeverSeeAMixture(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	whole := func(c byte) []byte { return bytes.Repeat([]byte{c}, 64<<10) }
	if err := Write(path, whole('a'), 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, c := range []byte("bcd") { // the writers share one temporary name
		wg.Go(func() {
			for range 20 {
				if err := Write(path, whole(c), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for {
		got, err := os.ReadFile(path)
		if err != nil || len(got) != 64<<10 || strings.Trim(string(got), string(got[:1])) != "" {
			t.Fatalf("read %d bytes, %v", len(got), err)
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestWriteBelowStaysBelow(t *testing.T) {
	base := t.TempDir()
	root := filepath.Join(base, "data")
	put(t, filepath.Join(base, "host"), "precious", 0o600)
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, filepath.Join(base, "host"), filepath.Join(root, "A.txt"))
	link(t, "..", filepath.Join(root, "up"))

	changed, err := WriteBelow(root, "A.txt", []byte("value"), 0o600)
	if err != nil || !changed {
		t.Fatalf("WriteBelow through a link = %v, %v", changed, err)
	}
	wantFile(t, filepath.Join(root, "A.txt"), "value", 0o600)
	for _, name := range []string{"up/host", "../host", filepath.Join(base, "host"), "", "."} {
		if _, err := WriteBelow(root, name, []byte("taken"), 0o600); err == nil {
			t.Errorf("WriteBelow(%q) succeeded, want an error", name)
		}
	}
	wantFile(t, filepath.Join(base, "host"), "precious", 0o600)

	for i, want := range []bool{true, false} {
		changed, err := WriteBelow(root, "env/sub/B.txt", []byte("b"), 0o644)
		if err != nil || changed != want {
			t.Errorf("write %d of env/sub/B.txt = %v, %v, want %v", i+1, changed, err, want)
		}
	}
	wantFile(t, filepath.Join(root, "env/sub/B.txt"), "b", 0o644)
	if changed, err := WriteBelow(root, "env/sub/B.txt", []byte("b"), 0o600); err != nil || changed != hasModes {
		t.Errorf("another mode: changed = %v, %v", changed, err)
	}
}

func TestPrivateFolderIsClosedAlsoWhenItWasThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	for range 2 {
		if err := MakePrivateDir(dir); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(dir); err != nil || hasModes && info.Mode().Perm() != PrivateDir {
			t.Fatalf("mode %v, %v, want %v", info.Mode(), err, PrivateDir)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
}
