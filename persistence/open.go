package persistence

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rs/zerolog"
	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"reagent/filesystem"
)

// Options say how a file is opened.
type Options struct {
	Log zerolog.Logger
	// Migrations lead from schema 1 to the newest one, each from the schema that
	// is its position in the list, counted from 1, to the next. A new file
	// begins with the newest.
	Migrations []Migration
	// LockTimeout is how long another process may take to let go of the file;
	// 0 means 2 s.
	LockTimeout time.Duration
}

const (
	lockTimeout = 2 * time.Second
	lockPause   = 50 * time.Millisecond
	keepDamaged = 3 // files
)

// A DB is an open file. Make one with [Open].
type DB struct {
	bolt    *bbolt.DB
	lock    *filesystem.FileLock
	path    string
	log     zerolog.Logger
	rebuilt bool
	aside   string
	close   func() error
}

// Open opens the file at path, or makes it, and brings its schema up to date.
// Links are followed. A damaged file is set aside first: see [DB.Rebuilt].
// Errors may be ErrLocked, ErrForeign or ErrNewer and say how to mend it.
func Open(path string, o Options) (*DB, error) {
	if err := os.MkdirAll(filepath.Dir(path), filesystem.PrivateDir); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	real, err := filesystem.Resolve(path)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	// Before the lock, whose file would appear beside what is not ours.
	if err := refuse(real); err != nil {
		return nil, err
	}
	if o.LockTimeout == 0 {
		o.LockTimeout = lockTimeout
	}
	lock, err := take(real, o.LockTimeout)
	if err != nil {
		return nil, err
	}
	db := &DB{lock: lock, path: real, log: o.Log}
	db.close = sync.OnceValue(db.closeOnce)
	if err := db.open(o); err != nil {
		_ = db.close()
		return nil, err
	}
	return db, nil
}

func (db *DB) open(o Options) error {
	why, fresh, err := verifyFile(db.path)
	if err != nil {
		return fmt.Errorf("check %s: %w", db.path, err)
	}
	if why == nil {
		err = db.attach(o.LockTimeout)
		if damaged := (*damage)(nil); errors.As(err, &damaged) {
			why, err = damaged, nil
		}
		if err != nil {
			return err
		}
	}
	if why != nil {
		if db.aside, err = setAside(db.path, time.Now()); err != nil {
			return fmt.Errorf("set the damaged %s aside: %w", db.path, err)
		}
		db.log.Error().Err(why).Str("file", db.path).Str("kept", db.aside).Msg("state is damaged; beginning anew")
		if err := db.attach(o.LockTimeout); err != nil {
			return err
		}
		fresh = true
	}
	db.rebuilt = fresh
	if err := db.prepare(o.Migrations); err != nil {
		return err
	}
	if info, err := os.Stat(db.path); err == nil && info.Mode().Perm()&0o077 != 0 {
		_ = os.Chmod(db.path, filesystem.PrivateFile) // vfat cannot
	}
	return syncFolder(filepath.Dir(db.path))
}

// attach opens the file with bbolt. A panic or a page fault in there is damage
// that the check did not see.
func (db *DB) attach(timeout time.Duration) (err error) {
	var file *os.File
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			if file != nil {
				_ = file.Close()
			}
			db.bolt, err = nil, &damage{fmt.Sprintf("bbolt: %v", r)}
		}
	}()
	db.bolt, err = bbolt.Open(db.path, filesystem.PrivateFile, &bbolt.Options{
		Timeout:      timeout, // somebody may look into it with another tool
		NoStatistics: true,
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			f, err := os.OpenFile(name, flag, mode)
			file = f
			return f, err
		},
	})
	switch {
	case err == nil:
	case errors.Is(err, bolterrors.ErrTimeout):
		return locked(db.path, nil)
	case errors.Is(err, bolterrors.ErrInvalid), errors.Is(err, bolterrors.ErrChecksum), errors.Is(err, bolterrors.ErrVersionMismatch):
		return &damage{err.Error()}
	default:
		return fmt.Errorf("open %s: %w", db.path, err)
	}
	return nil
}

// Rebuilt reports whether there was nothing to read: the file is new, or the old
// one was damaged.
func (db *DB) Rebuilt() bool { return db.rebuilt }

// Damaged is where a damaged file was put by Open, "" if there was none.
func (db *DB) Damaged() string { return db.aside }

// Path is the file, links followed.
func (db *DB) Path() string { return db.path }

// Close waits for what is under way and lets go of the file. It may be called
// more than once.
func (db *DB) Close() error { return db.close() }

func (db *DB) closeOnce() error {
	var err error
	if db.bolt != nil {
		err = db.bolt.Close()
	}
	_ = db.lock.Close()
	return err
}

func take(path string, timeout time.Duration) (*filesystem.FileLock, error) {
	deadline := time.Now().Add(timeout)
	for {
		lock, err := filesystem.Lock(path + ".lock")
		if err == nil {
			return lock, nil
		}
		var held *filesystem.HeldError
		if !errors.As(err, &held) {
			return nil, err
		}
		if time.Until(deadline) <= 0 {
			return nil, locked(path, err)
		}
		time.Sleep(lockPause)
	}
}

// refuse recognises what must not even be set aside.
func refuse(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("open %s: %w", path, err)
	case !info.Mode().IsRegular():
		return foreign(path, "no regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer f.Close()
	head := make([]byte, 16)
	n, _ := f.ReadAt(head, 0)
	if bytes.Equal(head[:n], []byte("SQLite format 3\x00")) {
		return foreign(path, "an SQLite database")
	}
	return nil
}

// setAside moves a damaged file out of the way and forgets the oldest of those
// that were moved before.
func setAside(path string, now time.Time) (string, error) {
	prefix := path + ".damaged-"
	to := prefix + now.UTC().Format("20060102T150405.000000000Z")
	if err := os.Rename(path, to); err != nil {
		return "", err
	}
	old := siblings(prefix)
	old = slices.DeleteFunc(old, func(name string) bool { return name == to }) // whatever the clock says
	for _, name := range old[:max(0, len(old)-(keepDamaged-1))] {
		_ = os.Remove(name)
	}
	return to, syncFolder(filepath.Dir(path))
}

// siblings lists the files whose path begins like this, in the order of their names.
func siblings(prefix string) []string {
	folder, begin := filepath.Split(prefix)
	entries, _ := os.ReadDir(folder)
	var found []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), begin) && e.Type().IsRegular() {
			found = append(found, folder+e.Name())
		}
	}
	return found
}

// syncFolder brings new names to the disk. Not every file system can.
func syncFolder(folder string) error {
	d, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Sync(); errors.Is(err, syscall.EIO) {
		return fmt.Errorf("sync %s: %w", folder, err)
	}
	return nil
}
