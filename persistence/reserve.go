package persistence

import (
	"fmt"

	"go.etcd.io/bbolt"
)

// reserve is the bucket that lends its pages.
var reserve = []byte("reserve")

// Reserve makes room for size bytes of changes inside the file: a value of that
// size is written and deleted again, and its pages are free from then on. A
// change takes free pages before it makes the file longer, so it succeeds on a
// disk that somebody else has filled, as long as the file system overwrites in
// place (ext4, xfs, vfat; one that copies on write keeps room of its own for
// that). A file that has the room already does not grow.
//
// It costs two commits and size bytes of writing: call it at the start and when
// the disk begins to run low, not at intervals.
func (db *DB) Reserve(size int) error {
	err := db.bolt.Update(func(tx *bbolt.Tx) error {
		if tx.Bucket(reserve) != nil {
			return nil // left by a power cut between the two: its pages are there
		}
		b, err := tx.CreateBucket(reserve)
		if err != nil {
			return err
		}
		// All ones: a file system that leaves out zeros would reserve nothing.
		return b.Put(reserve, ones(size))
	})
	if err == nil {
		err = db.bolt.Update(func(tx *bbolt.Tx) error { return tx.DeleteBucket(reserve) })
	}
	if err != nil {
		return fmt.Errorf("reserve %d bytes in %s: %w", size, db.path, err)
	}
	return nil
}

func ones(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = 0xff
	}
	return b
}
