package filesystem

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// archive packs headers; the content of a file is its size times "x".
func archive(t testing.TB, compressed bool, headers ...tar.Header) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.Writer = &out
	if compressed {
		z := gzip.NewWriter(&out)
		defer z.Close()
		w = z
	}
	tw := tar.NewWriter(w)
	for _, h := range headers {
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := tw.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			if _, err := tw.Write(bytes.Repeat([]byte("x"), int(h.Size))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if z, ok := w.(*gzip.Writer); ok {
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return out.Bytes()
}

var roomy = ArchiveLimits{Entries: 100, Bytes: 1 << 20}

func TestAnArchiveIsUnpackedInThePlaceOfTheOldFolder(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "app", "old"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, compressed := range []bool{true, false} {
		raw := archive(t, compressed,
			tar.Header{Name: "./", Typeflag: tar.TypeDir},
			tar.Header{Name: "./run.sh", Size: 3, Mode: 0o4755},
			tar.Header{Name: "deep/er/file", Size: 2, Mode: 0o666},
			tar.Header{Name: "deep/empty/", Typeflag: tar.TypeDir, Mode: 0})
		if err := ExtractArchive(bytes.NewReader(raw), dir, "app", roomy); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]fs.FileMode{"run.sh": 0o755, "deep/er/file": 0o644, "deep/empty": fs.ModeDir | 0o755} {
			info, err := os.Stat(filepath.Join(dir, "app", name))
			if err != nil || info.Mode() != want {
				t.Errorf("%s: %v (%v), want mode %v", name, info, err, want)
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "app", "old")); err == nil {
			t.Error("what lay there before is still there")
		}
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d entries beside the folder, want none", len(entries)-1)
	}
}

func TestHostileArchivesAreRefusedAsAWhole(t *testing.T) {
	good := tar.Header{Name: "a", Size: 1, Mode: 0o644}
	for name, raw := range map[string][]byte{
		"climbs":          archive(t, true, good, tar.Header{Name: "../b", Size: 1}),
		"climbs later":    archive(t, true, good, tar.Header{Name: "x/../../b", Size: 1}),
		"absolute":        archive(t, true, good, tar.Header{Name: "/etc/b", Size: 1}),
		"backslashes":     archive(t, true, good, tar.Header{Name: `..\b`, Size: 1}),
		"symbolic link":   archive(t, true, good, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc"}),
		"hard link":       archive(t, true, good, tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "a"}),
		"device":          archive(t, true, good, tar.Header{Name: "d", Typeflag: tar.TypeBlock}),
		"pipe":            archive(t, true, good, tar.Header{Name: "p", Typeflag: tar.TypeFifo}),
		"file as folder":  archive(t, true, good, tar.Header{Name: "f/", Typeflag: tar.TypeDir}, tar.Header{Name: "f/g", Size: 1}, tar.Header{Name: "f", Size: 1}),
		"folder on file":  archive(t, true, good, tar.Header{Name: "a/b", Size: 1}),
		"empty":           {},
		"no archive":      []byte(strings.Repeat("hello ", 200)),
		"cut off":         archive(t, true, good, tar.Header{Name: "b", Size: 5000})[:60],
		"cut off plain":   archive(t, false, good, tar.Header{Name: "b", Size: 5000})[:2500],
		"damaged gzip":    append([]byte{0x1f, 0x8b}, "rubbish"...),
		"too many":        archive(t, true, manyFiles(101)...),
		"too large":       archive(t, true, tar.Header{Name: "big", Size: 4 << 20}),
		"too large later": archive(t, true, good, tar.Header{Name: "b", Size: 1 << 20}, tar.Header{Name: "c", Size: 2 << 20}),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.MkdirAll(filepath.Join(dir, "app", "old"), 0o755); err != nil {
				t.Fatal(err)
			}
			err := ExtractArchive(bytes.NewReader(raw), dir, "app", roomy)
			if err == nil {
				t.Fatal("no error")
			}
			if !errors.Is(err, ErrArchive) {
				t.Errorf("%v: not told to be the archive's fault", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "app", "old")); err != nil {
				t.Errorf("what lay there before: %v", err)
			}
			if entries, _ := os.ReadDir(dir); len(entries) != 1 {
				t.Errorf("%d entries beside the folder, want none", len(entries)-1)
			}
		})
	}
}

func manyFiles(n int) []tar.Header {
	out := make([]tar.Header, n)
	for i := range out {
		out[i] = tar.Header{Name: strings.Repeat("a", i+1)}
	}
	return out
}

func TestFilesOfAnArchiveAreShownWithoutUnpacking(t *testing.T) {
	raw := archive(t, true, tar.Header{Name: "./Dockerfile", Size: 4}, tar.Header{Name: "sub/Dockerfile.armv7", Size: 3},
		tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: "/etc/passwd"}, tar.Header{Name: "dir", Typeflag: tar.TypeDir})
	got := map[string]int64{}
	err := WalkArchive(bytes.NewReader(raw), roomy, func(name string, size int64, content io.Reader) error {
		all, err := io.ReadAll(content)
		if int64(len(all)) != size {
			t.Errorf("%s has %d bytes, announced %d", name, len(all), size)
		}
		got[name] = size
		return err
	})
	if err != nil || len(got) != 2 || got["Dockerfile"] != 4 || got["sub/Dockerfile.armv7"] != 3 {
		t.Errorf("shown %v (%v)", got, err)
	}
}

// Whatever the bytes are, nothing lands beside the folder.
func FuzzExtractArchive(f *testing.F) {
	f.Add(archive(f, false, tar.Header{Name: "a", Size: 1}, tar.Header{Name: "b/c", Size: 1}))
	f.Add(archive(f, false, tar.Header{Name: "../a", Size: 1}))
	f.Add(archive(f, true, tar.Header{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, tar.Header{Name: "l/x", Size: 1}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		parent := t.TempDir()
		dir := filepath.Join(parent, "build")
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		err := ExtractArchive(bytes.NewReader(raw), dir, "app", ArchiveLimits{Entries: 20, Bytes: 1 << 16})
		want := 0
		if err == nil {
			want = 1
		}
		if entries, _ := os.ReadDir(dir); len(entries) != want {
			t.Errorf("%d entries (%v), want %d", len(entries), err, want)
		}
		if entries, _ := os.ReadDir(parent); len(entries) != 1 {
			t.Errorf("something beside the folder: %v", entries)
		}
	})
}

func TestADraftHasNoNameBeforeItIsWhole(t *testing.T) {
	dir := t.TempDir()
	elsewhere := filepath.Join(t.TempDir(), "victim")
	if err := errors.Join(os.WriteFile(elsewhere, []byte("old"), 0o600), os.Symlink(elsewhere, filepath.Join(dir, "x"))); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"", ".", "..", "../x", "a/b", "/x", ".draft-x"} {
		if d, err := NewDraft(dir, bad); err == nil {
			d.Discard()
			t.Errorf("%q is accepted as a name", bad)
		}
	}
	d, err := NewDraft(dir, "x")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	if err := d.Commit(); err != nil {
		t.Fatal(err)
	}
	if raw, _ := os.ReadFile(elsewhere); string(raw) != "old" {
		t.Errorf("the link was followed: %q", raw)
	}
	if raw, err := os.ReadFile(filepath.Join(dir, "x")); string(raw) != "new" {
		t.Errorf("x = %q (%v)", raw, err)
	}
	lost, err := NewDraft(dir, "y")
	if err != nil {
		t.Fatal(err)
	}
	if err := SweepDrafts(dir); err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%d entries after the sweep, want 1", len(entries))
	}
	if lost.Commit() == nil {
		t.Error("a draft that was swept away is committed")
	}
}
