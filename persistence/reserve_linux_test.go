package persistence_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"reagent/persistence"
)

// fullDisk fills a disk of a few megabytes on which a file was opened, after
// prepare, and writes records until one is not taken.
func fullDisk(t *testing.T, prepare func(*persistence.DB)) (taken int, err error) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a disk of one's own needs root")
	}
	dir := t.TempDir()
	must(t, syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=4m,mode=0700"))
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	db, err := persistence.Open(filepath.Join(dir, "state.bolt"), options(t))
	must(t, err)
	t.Cleanup(func() { must(t, errors.Join(db.Check(), db.Close())) })
	put(t, db, 0, fruit{Name: "before"})
	prepare(db)

	fill, err := os.Create(filepath.Join(dir, "fill"))
	must(t, err)
	defer fill.Close()
	for err == nil {
		_, err = fill.Write(make([]byte, 4<<10))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("fill the disk: %v", err)
	}
	const many = 400
	for taken = range many {
		// Half of them replace, half of them add.
		key := uint64(1 + taken/2*(taken%2))
		err := db.Update(func(tx *persistence.Tx) error {
			return fruits.Put(tx, persistence.Key(key), fruit{Name: fmt.Sprint("after ", taken), Count: taken})
		})
		if err != nil {
			return taken, err
		}
	}
	return many, nil
}

func TestChangesGoOnOnAFullDisk(t *testing.T) {
	taken, err := fullDisk(t, func(db *persistence.DB) { must(t, db.Reserve(256<<10)) })
	if err != nil {
		t.Errorf("after %d changes: %v, want all taken", taken, err)
	}
	taken, err = fullDisk(t, func(*persistence.DB) {})
	if !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("without a reserve %d changes were taken, then %v; want a full disk to be felt", taken, err)
	}
}

func TestAReserveThatIsThereCostsNoRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	size := func() int64 {
		t.Helper()
		info, err := os.Stat(path)
		must(t, err)
		return info.Size()
	}
	db := mustOpen(t, path, options(t))
	must(t, db.Reserve(1<<20))
	once := size()
	if once < 1<<20 {
		t.Fatalf("the file has %d bytes, want the reserve in it", once)
	}
	for range 20 {
		put(t, db, 1, fruit{Name: "again"})
		must(t, db.Reserve(1<<20))
	}
	if got := size(); got > once+2<<20 {
		t.Errorf("20 reserves later the file has %d bytes, had %d", got, once)
	}
}
