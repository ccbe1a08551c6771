package persistence

import (
	"bytes"
	"slices"
	"time"
)

const (
	keepUnreadable     = 100      // records
	maxUnreadableValue = 64 << 10 // bytes kept of each
)

var quarantine = NewBucket[unreadable](1, "quarantine")

// An unreadable record is kept for whoever wants to know what happened.
type unreadable struct {
	Bucket string    `json:"bucket"`
	Key    []byte    `json:"key"`
	Value  []byte    `json:"value"`
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"`
}

type badRecord struct {
	bucket Raw
	key    []byte
	value  []byte
	reason error
}

// unreadable remembers a record until the transaction ends.
func (tx *Tx) unreadable(bucket Raw, key, value []byte, reason error) {
	for _, b := range tx.bad {
		if bytes.Equal(b.key, key) && slices.Equal(b.bucket.path, bucket.path) {
			return
		}
	}
	tx.bad = append(tx.bad, badRecord{bucket, bytes.Clone(key), bytes.Clone(value), reason})
}

// quarantine moves the bad records. One that was written anew in the meantime
// stays where it is.
func (tx *Tx) quarantine() error {
	for _, b := range tx.bad {
		if bytes.Equal(b.bucket.Get(tx, b.key), b.value) {
			if err := b.bucket.Delete(tx, b.key); err != nil {
				return err
			}
		}
		n, err := quarantine.Add(tx, unreadable{
			Bucket: b.bucket.String(), Key: b.key, Value: b.value[:min(len(b.value), maxUnreadableValue)],
			Reason: b.reason.Error(), Time: time.Now().UTC(),
		})
		if err != nil {
			return err
		}
		if err := quarantine.Raw().Trim(tx, n, keepUnreadable); err != nil {
			return err
		}
	}
	return nil
}

// Trim deletes the oldest of a bucket whose keys are numbers, so that those in
// the last keep numbers up to newest remain.
func (r Raw) Trim(tx *Tx, newest, keep uint64) error {
	var old [][]byte
	for key := range r.All(tx) {
		if n, ok := Number(key); !ok || n > newest || newest-n < keep {
			break
		}
		old = append(old, bytes.Clone(key))
	}
	for _, key := range old {
		if err := r.Delete(tx, key); err != nil {
			return err
		}
	}
	return nil
}

// quarantineSeen moves what a View could not read, unless somebody else did.
func (db *DB) quarantineSeen(bad []badRecord) {
	err := db.Update(func(tx *Tx) error {
		for _, b := range bad {
			if bytes.Equal(b.bucket.Get(tx, b.key), b.value) {
				tx.bad = append(tx.bad, b)
			}
		}
		return nil
	})
	if err != nil {
		db.log.Error().Err(err).Int("records", len(bad)).Msg("unreadable records not set aside")
	}
}

func (db *DB) report(bad []badRecord) {
	for _, b := range bad {
		db.log.Error().Err(b.reason).Str("bucket", b.bucket.String()).Str("key", printable([]string{string(b.key)})).
			Msg("record cannot be read; set aside")
	}
}
