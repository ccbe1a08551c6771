package persistence

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"slices"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// A Tx is a look at the file, or a change of it, that is all or nothing. It is
// good for the length of the function that it was given to, on its goroutine.
type Tx struct {
	bolt    *bbolt.Tx
	changed bool
	bad     []badRecord
}

var errNoBucket = errors.New("a record is where a bucket belongs")

// errUnchanged makes bbolt drop an update that has nothing to write.
var errUnchanged = errors.New("nothing changed")

// Update runs f in a transaction of its own. All that f wrote is on the disk
// when Update returns nil; nothing of it when f or the disk failed.
func (db *DB) Update(f func(*Tx) error) error {
	tx := &Tx{}
	err := db.bolt.Update(func(b *bbolt.Tx) error {
		tx.bolt = b
		if err := f(tx); err != nil {
			return err
		}
		if err := tx.quarantine(); err != nil {
			return fmt.Errorf("set unreadable records aside: %w", err)
		}
		if !tx.changed {
			return errUnchanged
		}
		return nil
	})
	if errors.Is(err, errUnchanged) {
		return nil
	}
	if err == nil {
		db.report(tx.bad)
	}
	return err
}

// View runs f on the file as it is at this moment.
func (db *DB) View(f func(*Tx) error) error {
	tx := &Tx{}
	err := db.bolt.View(func(b *bbolt.Tx) error {
		tx.bolt = b
		return f(tx)
	})
	if len(tx.bad) > 0 {
		db.quarantineSeen(tx.bad)
	}
	return err
}

// Check looks for inconsistencies in the structure of the open file.
func (db *DB) Check() error {
	return db.bolt.View(func(tx *bbolt.Tx) error {
		var all []error
		for err := range tx.Check() {
			all = append(all, err)
		}
		return errors.Join(all...)
	})
}

// A Raw is a bucket of plain bytes. The value of a variable of this type is only
// a path: it costs nothing to make and the bucket appears with its first value.
// Most owners want a [Bucket] instead.
type Raw struct{ path []string }

// RawBucket names the bucket at a path.
func RawBucket(path ...string) Raw { return Raw{path} }

// In names a bucket inside this one.
func (r Raw) In(names ...string) Raw { return Raw{slices.Concat(r.path, names)} }

func (r Raw) open(tx *Tx) *bbolt.Bucket {
	b := tx.bolt.Bucket([]byte(r.path[0]))
	for _, name := range r.path[1:] {
		if b == nil {
			return nil
		}
		b = b.Bucket([]byte(name))
	}
	return b
}

// make makes what is missing of the path. A value that lies where a bucket
// belongs is damage that the structure of the file does not show; it is set
// aside, or the bucket could not be used ever again.
func (r Raw) make(tx *Tx) (*bbolt.Bucket, error) {
	b, err := tx.bolt.CreateBucketIfNotExists([]byte(r.path[0]))
	for i := 1; i < len(r.path) && err == nil; i++ {
		name, parent := []byte(r.path[i]), b
		if b, err = parent.CreateBucketIfNotExists(name); errors.Is(err, bolterrors.ErrIncompatibleValue) {
			tx.unreadable(Raw{r.path[:i]}, name, parent.Get(name), errNoBucket)
			if err = parent.Delete(name); err == nil {
				b, err = parent.CreateBucket(name)
			}
		}
	}
	if err != nil {
		return nil, fmt.Errorf("bucket %s: %w", r, err)
	}
	return b, nil
}

// Get returns the value of a key, nil if there is none. It is valid as long as
// the transaction.
func (r Raw) Get(tx *Tx, key []byte) []byte {
	if b := r.open(tx); b != nil {
		return b.Get(key)
	}
	return nil
}

// Put writes a value, unless it is there already.
func (r Raw) Put(tx *Tx, key, value []byte) error {
	if len(value) > MaxRecord {
		return fmt.Errorf("%s: %w: %d bytes, at most %d", r, ErrTooLarge, len(value), MaxRecord)
	}
	if old := r.Get(tx, key); old != nil && bytes.Equal(old, value) {
		return nil
	}
	b, err := r.make(tx)
	if err != nil {
		return err
	}
	if err := b.Put(key, value); err != nil {
		return fmt.Errorf("bucket %s: %w", r, err)
	}
	tx.changed = true
	return nil
}

// Delete removes a key, if it is there.
func (r Raw) Delete(tx *Tx, key []byte) error {
	b := r.open(tx)
	if b == nil || b.Get(key) == nil {
		return nil
	}
	if err := b.Delete(key); err != nil {
		return fmt.Errorf("bucket %s: %w", r, err)
	}
	tx.changed = true
	return nil
}

// Remove removes the bucket with all that is in it, if it is there.
func (r Raw) Remove(tx *Tx) error {
	if r.open(tx) == nil {
		return nil
	}
	var err error
	if last := len(r.path) - 1; last == 0 {
		err = tx.bolt.DeleteBucket([]byte(r.path[0]))
	} else {
		err = Raw{r.path[:last]}.open(tx).DeleteBucket([]byte(r.path[last]))
	}
	if err != nil {
		return fmt.Errorf("bucket %s: %w", r, err)
	}
	tx.changed = true
	return nil
}

// All goes through the values in the order of their keys. The bucket must not be
// changed on the way.
func (r Raw) All(tx *Tx) iter.Seq2[[]byte, []byte] {
	return r.walk(tx, (*bbolt.Cursor).First, (*bbolt.Cursor).Next)
}

// Backward is All from the last key to the first.
func (r Raw) Backward(tx *Tx) iter.Seq2[[]byte, []byte] {
	return r.walk(tx, (*bbolt.Cursor).Last, (*bbolt.Cursor).Prev)
}

func (r Raw) walk(tx *Tx, begin, next func(*bbolt.Cursor) (k, v []byte)) iter.Seq2[[]byte, []byte] {
	return func(yield func(k, v []byte) bool) {
		b := r.open(tx)
		if b == nil {
			return
		}
		c := b.Cursor()
		for k, v := begin(c); k != nil; k, v = next(c) {
			if v != nil && !yield(k, v) { // nil: a bucket
				return
			}
		}
	}
}

// Names lists the buckets inside this one.
func (r Raw) Names(tx *Tx) []string {
	var names []string
	if b := r.open(tx); b != nil {
		_ = b.ForEachBucket(func(k []byte) error {
			names = append(names, string(k))
			return nil
		})
	}
	return names
}

// Empty reports whether there is nothing in the bucket, no bucket either.
func (r Raw) Empty(tx *Tx) bool {
	b := r.open(tx)
	if b == nil {
		return true
	}
	k, _ := b.Cursor().First()
	return k == nil
}

// Next returns 1, then 2, and so on: a number that the bucket never gave before.
func (r Raw) Next(tx *Tx) (uint64, error) {
	b, err := r.make(tx)
	if err != nil {
		return 0, err
	}
	n, err := b.NextSequence()
	if err != nil {
		return 0, fmt.Errorf("bucket %s: %w", r, err)
	}
	tx.changed = true
	return n, nil
}

func (r Raw) String() string { return printable(r.path) }
