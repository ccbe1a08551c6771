package persistence_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"reagent/persistence"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type fruit struct {
	Name  string `json:"name"`
	Count int    `json:"count,omitempty"`
}

var fruits = persistence.NewBucket[fruit](1, "fruits")

func options(t *testing.T) persistence.Options {
	return persistence.Options{Log: zerolog.New(zerolog.NewTestWriter(t)), LockTimeout: 100 * time.Millisecond}
}

// mustOpen opens a file and closes it with the test, after a look for
// inconsistencies.
func mustOpen(t *testing.T, path string, o persistence.Options) *persistence.DB {
	t.Helper()
	db, err := persistence.Open(path, o)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		_ = db.Close()
		again, err := persistence.Open(path, o)
		if err != nil {
			t.Fatalf("Open after the test: %v", err)
		}
		if err := errors.Join(again.Check(), again.Close()); err != nil {
			t.Errorf("the file is inconsistent: %v", err)
		}
	})
	return db
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func put(t *testing.T, db *persistence.DB, key uint64, f fruit) {
	t.Helper()
	must(t, db.Update(func(tx *persistence.Tx) error { return fruits.Put(tx, persistence.Key(key), f) }))
}

func get(t *testing.T, db *persistence.DB, key uint64) (f fruit, ok bool) {
	t.Helper()
	must(t, db.View(func(tx *persistence.Tx) error {
		f, ok = fruits.Get(tx, persistence.Key(key))
		return nil
	}))
	return f, ok
}

// filled makes a closed file with enough in it to have branch pages, overflowing
// pages, free pages and inline buckets.
func filled(t *testing.T) (path string, content []byte) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "state.bolt")
	db, err := persistence.Open(path, options(t))
	must(t, err)
	for i := range uint64(300) {
		put(t, db, i, fruit{Name: strings.Repeat("apple", 20), Count: int(i)})
	}
	must(t, db.Update(func(tx *persistence.Tx) error {
		if err := fruits.In("small").Put(tx, persistence.Key(1), fruit{Name: "fig"}); err != nil {
			return err
		}
		return fruits.In("large").Put(tx, persistence.Key(1), fruit{Name: strings.Repeat("melon", 5000)})
	}))
	for i := range uint64(50) {
		must(t, db.Update(func(tx *persistence.Tx) error { return fruits.Delete(tx, persistence.Key(100+i)) }))
	}
	must(t, db.Close())
	content, err = os.ReadFile(path)
	must(t, err)
	return path, content
}

// names lists a folder.
func names(t *testing.T, folder string) (all []string) {
	t.Helper()
	entries, err := os.ReadDir(folder)
	must(t, err)
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestFileAndFolderAreMadePrivate(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no permission bits")
	}
	top := t.TempDir()
	must(t, os.Chmod(top, 0o755))
	path := filepath.Join(top, "new", "state.bolt")
	mustOpen(t, path, options(t))
	for name, want := range map[string]fs.FileMode{top: 0o755, filepath.Dir(path): 0o700, path: 0o600, path + ".lock": 0o600} {
		info, err := os.Stat(name)
		must(t, err)
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s: got mode %o; want %o", name, got, want)
		}
	}
}

func TestASecondOpenerIsToldWhoHasTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	mustOpen(t, path, options(t))
	_, err := persistence.Open(path, options(t))
	if !errors.Is(err, persistence.ErrLocked) {
		t.Fatalf("second Open: got %v; want ErrLocked", err)
	}
	for _, want := range []string{filepath.Dir(path), fmt.Sprintf("process %d", os.Getpid())} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q: %v", want, err)
		}
	}
}

func TestOpenWaitsForTheHolderToLetGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	first, err := persistence.Open(path, options(t))
	must(t, err)
	put(t, first, 1, fruit{Name: "fig"})
	o := options(t)
	o.LockTimeout = time.Minute
	type opened struct {
		db  *persistence.DB
		err error
	}
	done := make(chan opened)
	go func() {
		db, err := persistence.Open(path, o)
		done <- opened{db, err}
	}()
	must(t, first.Close())
	second := <-done
	must(t, second.err)
	if f, _ := get(t, second.db, 1); f.Name != "fig" {
		t.Errorf("got %+v; want the fig", f)
	}
	must(t, second.db.Close())
}

func TestAnSQLiteFileIsRefusedAndLeftAsItIs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reagent.db")
	content := append([]byte("SQLite format 3\x00"), bytes.Repeat([]byte{7}, 8000)...)
	must(t, os.WriteFile(path, content, 0o644))
	_, err := persistence.Open(path, options(t))
	if !errors.Is(err, persistence.ErrForeign) || !strings.Contains(err.Error(), "SQLite") {
		t.Errorf("Open: got %v; want ErrForeign that names SQLite", err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("the file changed (%v)", err)
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o644 {
		t.Errorf("its mode: got %v, %v; want 0644", info.Mode(), err)
	}
	if got := names(t, filepath.Dir(path)); len(got) != 1 {
		t.Errorf("beside it: got %v; want nothing", got)
	}
}

func TestAnotherProgramsBoltFileIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "other.db")
	db, err := bbolt.Open(path, 0o644, nil)
	must(t, err)
	must(t, db.Update(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("theirs")); return err }))
	must(t, db.Close())
	before, err := os.ReadFile(path)
	must(t, err)
	_, err = persistence.Open(path, options(t))
	if !errors.Is(err, persistence.ErrForeign) {
		t.Errorf("Open: got %v; want ErrForeign", err)
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file changed (%v)", err)
	}
}

func TestWhatIsNoFileIsRefused(t *testing.T) {
	path := t.TempDir()
	if _, err := persistence.Open(path, options(t)); !errors.Is(err, persistence.ErrForeign) {
		t.Errorf("Open of a folder: got %v; want ErrForeign", err)
	}
}

func TestALinkIsFollowedAndStays(t *testing.T) {
	folder := t.TempDir()
	target, link := filepath.Join(folder, "partition", "real.bolt"), filepath.Join(folder, "state.bolt")
	must(t, os.Mkdir(filepath.Dir(target), 0o700))
	must(t, os.WriteFile(target, []byte("not a database, but longer than nothing"), 0o600))
	must(t, os.Symlink(target, link))
	db := mustOpen(t, link, options(t))
	if filepath.Dir(db.Damaged()) != filepath.Dir(db.Path()) || filepath.Base(db.Path()) != "real.bolt" {
		t.Errorf("path %s, damaged %s; want both beside the target", db.Path(), db.Damaged())
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v, %v", info, err)
	}
}

func TestAnEmptyFileIsANewOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	must(t, os.WriteFile(path, nil, 0o644))
	db := mustOpen(t, path, options(t))
	if !db.Rebuilt() || db.Damaged() != "" {
		t.Errorf("Rebuilt %t, Damaged %q; want true and none", db.Rebuilt(), db.Damaged())
	}
	if info, err := os.Stat(path); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Errorf("mode: got %v, %v; want 0600", info.Mode(), err)
	}
}

func TestADamagedFileIsSetAsideAndANewOneBegins(t *testing.T) {
	_, good := filled(t)
	pages := len(good) / os.Getpagesize()
	damaged := map[string][]byte{
		"text":           []byte("these are not the bytes you are looking for\n"),
		"zeros":          make([]byte, len(good)),
		"one page":       good[:os.Getpagesize()],
		"half":           good[:pages/2*os.Getpagesize()],
		"cut in a page":  good[:os.Getpagesize()*3+100],
		"no meta pages":  slices.Concat(make([]byte, 2*os.Getpagesize()), good[2*os.Getpagesize():]),
		"only metas":     slices.Concat(good[:2*os.Getpagesize()], make([]byte, len(good)-2*os.Getpagesize())),
		"shifted by one": good[1:],
	}
	for name, content := range damaged {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "state.bolt")
			must(t, os.WriteFile(path, content, 0o600))
			db := mustOpen(t, path, options(t))
			if !db.Rebuilt() || db.Damaged() == "" {
				t.Fatalf("Rebuilt %t, Damaged %q; want true and a file", db.Rebuilt(), db.Damaged())
			}
			if kept, err := os.ReadFile(db.Damaged()); err != nil || !bytes.Equal(kept, content) {
				t.Errorf("what was set aside is not what was there (%v)", err)
			}
			put(t, db, 1, fruit{Name: "fig"})
			must(t, db.Close())
			again := mustOpen(t, path, options(t))
			if f, _ := get(t, again, 1); f.Name != "fig" || again.Rebuilt() {
				t.Errorf("after reopening: got %+v, rebuilt %t; want the fig, false", f, again.Rebuilt())
			}
		})
	}
}

func TestAtMostThreeDamagedFilesAreKept(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	var last string
	for i := range 6 {
		must(t, os.WriteFile(path, fmt.Appendf(nil, "damage %d", i), 0o600))
		db, err := persistence.Open(path, options(t))
		must(t, err)
		last = db.Damaged()
		must(t, db.Close())
	}
	var kept []string
	for _, n := range names(t, filepath.Dir(path)) {
		if strings.Contains(n, ".damaged-") {
			kept = append(kept, n)
		}
	}
	if len(kept) != 3 || !slices.Contains(kept, filepath.Base(last)) {
		t.Errorf("kept: got %v; want three with %s", kept, filepath.Base(last))
	}
}

// A flipped bit, a page of rubbish or a page of another time may leave the file
// usable or not, but nothing that is done with it may end the process.
func TestNoDamageEndsTheProcess(t *testing.T) { damageFiles(t, 600, rand.New(rand.NewPCG(3, 14))) }

// TestMoreDamage is for make soak: REAGENT_SOAK says how much.
func TestMoreDamage(t *testing.T) {
	if n, _ := strconv.Atoi(os.Getenv("REAGENT_SOAK")); n > 0 {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		damageFiles(t, 20*n, rand.New(rand.NewPCG(seed, 0)))
	}
}

func damageFiles(t *testing.T, files int, random *rand.Rand) {
	path, good := filled(t)
	size := os.Getpagesize()
	page := func() int { return random.IntN(len(good) / size) }
	wounds := []func(b []byte){
		func(b []byte) { b[random.IntN(len(b))] ^= 1 << random.IntN(8) },
		func(b []byte) { b[page()*size+random.IntN(64)] ^= byte(1 + random.IntN(255)) }, // where the headers are
		func(b []byte) { p := page(); copy(b[p*size:(p+1)*size], b[page()*size:]) },
		func(b []byte) {
			for i, end := page()*size, 0; end < size; end++ {
				b[i+end] = byte(random.Uint32())
			}
		},
		func(b []byte) { p := page(); clear(b[p*size : (p+1)*size]) },
	}
	quiet := options(t)
	quiet.Log = zerolog.Nop()
	aside := 0
	for i := range files {
		content := bytes.Clone(good)
		wounds[i%len(wounds)](content)
		must(t, os.WriteFile(path, content, 0o600))
		db, err := persistence.Open(path, quiet)
		if errors.Is(err, persistence.ErrForeign) || errors.Is(err, persistence.ErrNewer) {
			continue // the schema itself was hit
		}
		must(t, err)
		if db.Damaged() != "" {
			aside++
		}
		must(t, db.View(func(tx *persistence.Tx) error {
			for range fruits.All(tx) {
			}
			return nil
		}))
		put(t, db, 1000, fruit{Name: "fig"})
		if f, _ := get(t, db, 1000); f.Name != "fig" {
			t.Fatalf("wound %d: got %+v; want the fig", i, f)
		}
		if err := db.Check(); err != nil && !strings.Contains(err.Error(), "unreachable unfreed") {
			t.Fatalf("wound %d was not found: %v", i, err)
		}
		must(t, db.Close())
	}
	if aside == 0 || aside == files {
		t.Errorf("%d of %d files were set aside; want some", aside, files)
	}
}

func TestCloseMayBeCalledTwice(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.bolt"), options(t))
	must(t, db.Close())
	must(t, db.Close())
	if err := db.View(func(*persistence.Tx) error { return nil }); err == nil {
		t.Error("View after Close: got nil; want an error")
	}
}
