package cli

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// folder writes files below a new folder; a name with "->" is a link.
func folder(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		file, target, isLink := strings.Cut(name, "->")
		file = filepath.Join(dir, file)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		switch {
		case err != nil:
		case isLink:
			err = os.Symlink(target, file)
		default:
			err = os.WriteFile(file, []byte(content), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

var theFolder = []buildContext{{root: "."}}

// unpacked are the entries of an archive, folders with a slash, links with "->".
func unpacked(t *testing.T, p *packed) map[string]string {
	t.Helper()
	raw := io.NewSectionReader(p.file, 0, p.size)
	zip, err := gzip.NewReader(raw)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeSymlink {
			h.Name += "->" + h.Linkname
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.Gname != "" {
			t.Errorf("%s says whose it was here: %d %d %q %q", h.Name, h.Uid, h.Gid, h.Uname, h.Gname)
		}
		got[h.Name] = string(content)
	}
	if rest, err := io.Copy(io.Discard, zip); rest != 0 || err != nil {
		t.Errorf("%d bytes behind the archive, %v", rest, err)
	}
	return got
}

func packFolder(t *testing.T, dir string, contexts []buildContext) *packed {
	t.Helper()
	p, err := pack(t.Context(), dir, contexts, mostPacked)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func names(t *testing.T, p *packed) []string { return slices.Sorted(maps.Keys(unpacked(t, p))) }

func TestPackKeepsFilesModesAndLinks(t *testing.T) {
	dir := folder(t, map[string]string{"Dockerfile": "FROM scratch\n", "bin/run": "#!", "ünï cödé": "x", "bin/again->run": "", "broken->../out": ""})
	if err := os.Chmod(filepath.Join(dir, "bin/run"), 0o755); err != nil {
		t.Fatal(err)
	}
	p := packFolder(t, dir, theFolder)
	got := unpacked(t, p)
	want := map[string]string{"Dockerfile": "FROM scratch\n", "bin/": "", "bin/run": "#!", "ünï cödé": "x", "bin/again->run": "", "broken->../out": ""}
	if !maps.Equal(got, want) || p.files != 5 {
		t.Errorf("archive of %d files %v, want %v", p.files, got, want)
	}
	zip, _ := gzip.NewReader(io.NewSectionReader(p.file, 0, p.size))
	for r := tar.NewReader(zip); ; {
		h, err := r.Next()
		if err != nil {
			t.Fatal("bin/run is missing")
		}
		if h.Name == "bin/run" {
			if h.Mode&0o777 != 0o755 {
				t.Errorf("bin/run has mode %o, want 755", h.Mode)
			}
			return
		}
	}
}

func TestTheSameFolderGivesTheSameBytes(t *testing.T) {
	dir := folder(t, map[string]string{"Dockerfile": "FROM scratch", "a/b": "1", "a/c": "2", "z": "3"})
	read := func() string {
		p := packFolder(t, dir, theFolder)
		raw, err := io.ReadAll(io.NewSectionReader(p.file, 0, p.size))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	if one, two := read(), read(); one != two {
		t.Errorf("two archives of the same folder differ (%d and %d bytes)", len(one), len(two))
	}
}

func TestDockerignoreDecidesWhatIsSent(t *testing.T) {
	for _, c := range []struct {
		claim, ignore string
		want          []string
	}{
		{"nothing is ignored", "", []string{".dockerignore", "Dockerfile", "Dockerfile.armv7", "a/", "a/keep.log", "a/x.log", "a/y.txt", "b.log"}},
		{"patterns, comments and empty lines", "# logs\n\n*/*.log\n", []string{".dockerignore", "Dockerfile", "Dockerfile.armv7", "a/", "a/y.txt", "b.log"}},
		{"at any depth, with an exception", "**/*.log\n!a/keep.log\n", []string{".dockerignore", "Dockerfile", "Dockerfile.armv7", "a/", "a/keep.log", "a/y.txt"}},
		{"a folder", "/a\n", []string{".dockerignore", "Dockerfile", "Dockerfile.armv7", "b.log"}},
		{"an exception in a folder", "a\n!a/y.txt\n", []string{".dockerignore", "Dockerfile", "Dockerfile.armv7", "a/y.txt", "b.log"}},
		{"what the build itself reads is never ignored", "*\n", []string{".dockerignore", "Dockerfile", "Dockerfile.armv7"}},
	} {
		dir := folder(t, map[string]string{".dockerignore": c.ignore, "Dockerfile": "", "Dockerfile.armv7": "", "a/x.log": "", "a/keep.log": "", "a/y.txt": "", "b.log": ""})
		if got := names(t, packFolder(t, dir, theFolder)); !slices.Equal(got, c.want) {
			t.Errorf("%s: sent %v, want %v", c.claim, got, c.want)
		}
	}
}

func TestEachBuildHasItsOwnDockerignore(t *testing.T) {
	dir := folder(t, map[string]string{
		".dockerignore": "web\ndb\ndocs\n", "compose.yaml": "", "docs/a": "", "conf/app.conf": "",
		"web/.dockerignore": "node_modules\nci\n", "web/Dockerfile": "", "web/index.html": "", "web/node_modules/x": "", "web/ci/Dockerfile.web": "", "web/ci/rest": "",
		"db/Dockerfile": "", "db/schema.sql": "",
	})
	got := names(t, packFolder(t, dir, []buildContext{{root: "db"}, {root: "web", dockerfile: "ci/Dockerfile.web"}}))
	want := []string{".dockerignore", "compose.yaml", "conf/", "conf/app.conf", "db/", "db/Dockerfile", "db/schema.sql",
		"web/", "web/.dockerignore", "web/Dockerfile", "web/ci/Dockerfile.web", "web/index.html"}
	if !slices.Equal(got, want) {
		t.Errorf("sent\n%v, want\n%v", got, want)
	}
	// A build of the whole folder wants it too.
	got = names(t, packFolder(t, dir, []buildContext{{root: "."}, {root: "web"}}))
	want = []string{".dockerignore", "compose.yaml", "conf/", "conf/app.conf", "web/", "web/.dockerignore", "web/Dockerfile", "web/index.html"}
	if !slices.Equal(got, want) {
		t.Errorf("with a build of the whole folder sent\n%v, want\n%v", got, want)
	}
}

func TestWhatIsNoFileIsLeftOutAndSaid(t *testing.T) {
	dir := folder(t, map[string]string{"Dockerfile": ""})
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := packFolder(t, dir, theFolder)
	if got := names(t, p); !slices.Equal(got, []string{"Dockerfile"}) || len(p.left) != 1 || !strings.HasPrefix(p.left[0], "s is neither") {
		t.Errorf("sent %v, left out %v; want the Dockerfile alone, and that s was left out", got, p.left)
	}
}

func TestAFolderThatIsTooLargeIsNamed(t *testing.T) {
	dir := folder(t, map[string]string{"Dockerfile": "", "small": "x"})
	noise := make([]byte, 64<<10)
	for i, n := 0, uint32(1); i < len(noise); i++ {
		n = n*1664525 + 1013904223
		noise[i] = byte(n >> 24)
	}
	if err := os.MkdirAll(filepath.Join(dir, "node_modules"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "node_modules/big"), noise, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", t.TempDir())
	_, err := pack(t.Context(), dir, theFolder, 32<<10)
	if err == nil || !strings.Contains(err.Error(), "larger than 32.0 KiB") || !strings.Contains(err.Error(), ".dockerignore") || !strings.Contains(err.Error(), "node_modules") {
		t.Errorf("pack = %v, want what is too large and the way out", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := pack(ctx, dir, theFolder, mostPacked); !errors.Is(err, context.Canceled) {
		t.Errorf("pack after Ctrl-C = %v", err)
	}
	if left, err := os.ReadDir(os.TempDir()); len(left) > 0 || err != nil {
		t.Errorf("archives were left behind: %v %v", left, err)
	}
}

func TestSizesAsPeopleSayThem(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 3 << 20: "3.0 MiB", 5 << 29: "2.5 GiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}
