package persistence_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reagent/persistence"
)

// ripen is a migration that changes each fruit's name.
func ripen(tx *persistence.Tx) error {
	for _, n := range []uint64{1, 2} {
		f, ok := fruits.Get(tx, persistence.Key(n))
		if !ok {
			continue
		}
		f.Name = "ripe " + f.Name
		if err := fruits.Put(tx, persistence.Key(n), f); err != nil {
			return err
		}
	}
	return nil
}

func withMigrations(t *testing.T, n int) persistence.Options {
	o := options(t)
	for range n {
		o.Migrations = append(o.Migrations, persistence.Migration{Name: "ripen", Apply: ripen})
	}
	return o
}

// schemaOne makes a file of schema 1 with one fruit.
func schemaOne(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "state.bolt")
	db, err := persistence.Open(path, options(t))
	must(t, err)
	put(t, db, 1, fruit{Name: "fig"})
	must(t, db.Close())
	return path
}

func TestEachMigrationHappensOnce(t *testing.T) {
	path := schemaOne(t)
	for _, step := range []struct {
		migrations int
		want       string
	}{{1, "ripe fig"}, {1, "ripe fig"}, {3, "ripe ripe ripe fig"}, {3, "ripe ripe ripe fig"}} {
		db, err := persistence.Open(path, withMigrations(t, step.migrations))
		must(t, err)
		if f, _ := get(t, db, 1); f.Name != step.want {
			t.Errorf("with %d migrations: got %q; want %q", step.migrations, f.Name, step.want)
		}
		if db.Rebuilt() {
			t.Error("a migrated file says that it is new")
		}
		must(t, db.Close())
	}
}

func TestANewFileIsNotMigrated(t *testing.T) {
	o := withMigrations(t, 2)
	db := mustOpen(t, filepath.Join(t.TempDir(), "state.bolt"), o)
	put(t, db, 1, fruit{Name: "fig"})
	must(t, db.Close())
	again := mustOpen(t, db.Path(), o)
	if f, _ := get(t, again, 1); f.Name != "fig" {
		t.Errorf("got %q; want the fig as it is", f.Name)
	}
	if got := names(t, filepath.Dir(db.Path())); slices.ContainsFunc(got, func(n string) bool { return strings.HasSuffix(n, ".bak") }) {
		t.Errorf("beside a new file: got %v; want no copies", got)
	}
}

func TestACopyFromBeforeEachMigrationIsKept(t *testing.T) {
	path := schemaOne(t)
	mustOpen(t, path, withMigrations(t, 3))
	var copies []string
	for _, n := range names(t, filepath.Dir(path)) {
		if strings.Contains(n, ".bak") {
			copies = append(copies, n)
		}
	}
	if want := []string{"state.bolt.v2.bak", "state.bolt.v3.bak"}; !slices.Equal(copies, want) {
		t.Fatalf("copies: got %v; want %v", copies, want)
	}
	// The copy is good for going back to the version that wrote it.
	back := mustOpen(t, path+".v2.bak", withMigrations(t, 1))
	if f, _ := get(t, back, 1); f.Name != "ripe fig" {
		t.Errorf("in the copy of schema 2: got %q; want the ripe fig", f.Name)
	}
}

func TestAFailedMigrationLeavesTheFileAsItWas(t *testing.T) {
	path := schemaOne(t)
	o := withMigrations(t, 1)
	broken := errors.New("broken")
	o.Migrations = append(o.Migrations, persistence.Migration{Name: "spoil", Apply: func(tx *persistence.Tx) error {
		if err := ripen(tx); err != nil {
			return err
		}
		return broken
	}})
	_, err := persistence.Open(path, o)
	if !errors.Is(err, broken) {
		t.Fatalf("Open: got %v; want %v", err, broken)
	}
	for _, want := range []string{"spoil", path + ".v2.bak"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not name %q: %v", want, err)
		}
	}
	db := mustOpen(t, path, withMigrations(t, 1))
	if f, _ := get(t, db, 1); f.Name != "ripe fig" {
		t.Errorf("got %q; want what the first migration made", f.Name)
	}
}

func TestAFileOfANewerSchemaIsRefusedAndLeftAsItIs(t *testing.T) {
	path := schemaOne(t)
	db, err := persistence.Open(path, withMigrations(t, 2))
	must(t, err)
	must(t, db.Close())
	before, err := os.ReadFile(path)
	must(t, err)
	_, err = persistence.Open(path, withMigrations(t, 1))
	if !errors.Is(err, persistence.ErrNewer) {
		t.Fatalf("Open: got %v; want ErrNewer", err)
	}
	for _, want := range []string{"schema 3", "up to 2", "state.bolt.v2.bak"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
	if after, err := os.ReadFile(path); err != nil || !bytes.Equal(before, after) {
		t.Errorf("the file changed (%v)", err)
	}
}

func TestValuesOfTheFileAsAWhole(t *testing.T) {
	db := fresh(t)
	must(t, db.Update(func(tx *persistence.Tx) error { return persistence.SetMeta(tx, "colour", "red") }))
	must(t, db.View(func(tx *persistence.Tx) error {
		if v, ok := persistence.Meta(tx, "colour"); v != "red" || !ok {
			t.Errorf("Meta: got %q, %t; want red", v, ok)
		}
		if v, ok := persistence.Meta(tx, "taste"); v != "" || ok {
			t.Errorf("Meta of what is not there: got %q, %t", v, ok)
		}
		return nil
	}))
	if err := db.Update(func(tx *persistence.Tx) error { return persistence.SetMeta(tx, "schema", "9") }); err == nil {
		t.Error("SetMeta took the name of the schema")
	}
}
