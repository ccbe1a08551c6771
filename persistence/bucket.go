package persistence

import (
	"encoding/binary"
	"iter"
	"strconv"
	"strings"
	"unicode"
)

// MaxRecord is the most that one record may take, in bytes.
const MaxRecord = 1 << 20

// A Bucket holds records of one type under keys, in the order of the keys. It is
// a name, as a [Raw] is, and may be a package variable.
//
// A record is a JSON object: the fields of T and "v", the version of the
// record's layout. Keys that T does not have were written by another version of
// this program; they are kept when the record is written again, in the record
// itself and in the structs that are part of it, but not behind pointers, in
// lists or in maps: those are replaced as a whole.
type Bucket[T any] struct {
	raw   Raw
	codec *codec
}

// NewBucket names the bucket at a path whose records have this version. T is a
// struct without a field "v"; anything else is a mistake in the program and
// panics.
func NewBucket[T any](version int, path ...string) Bucket[T] {
	return Bucket[T]{RawBucket(path...), newCodec[T](version)}
}

// In names a bucket of the same records inside this one.
func (b Bucket[T]) In(names ...string) Bucket[T] { return Bucket[T]{b.raw.In(names...), b.codec} }

// Raw is the bucket without its type.
func (b Bucket[T]) Raw() Raw { return b.raw }

// Get reads a record. One that cannot be read counts as not there, and is put
// into quarantine when the transaction ends.
func (b Bucket[T]) Get(tx *Tx, key []byte) (v T, ok bool) {
	raw := b.raw.Get(tx, key)
	if raw == nil {
		return v, false
	}
	if err := b.codec.decode(raw, &v); err != nil {
		tx.unreadable(b.raw, key, raw, err)
		var none T
		return none, false
	}
	return v, true
}

// Put writes a record. One that is the same already costs no write.
func (b Bucket[T]) Put(tx *Tx, key []byte, v T) error {
	raw, err := b.codec.encode(v, b.raw.Get(tx, key))
	if err != nil {
		return err
	}
	return b.raw.Put(tx, key, raw)
}

// Add writes a record under the next number and returns it.
func (b Bucket[T]) Add(tx *Tx, v T) (uint64, error) {
	n, err := b.raw.Next(tx)
	if err != nil {
		return 0, err
	}
	return n, b.Put(tx, Key(n), v)
}

// Delete removes a record, if it is there.
func (b Bucket[T]) Delete(tx *Tx, key []byte) error { return b.raw.Delete(tx, key) }

// All goes through the records in the order of their keys, without those that
// cannot be read. The bucket must not be changed on the way.
func (b Bucket[T]) All(tx *Tx) iter.Seq2[[]byte, T] { return b.walk(tx, b.raw.All(tx)) }

// Backward is All from the last key to the first.
func (b Bucket[T]) Backward(tx *Tx) iter.Seq2[[]byte, T] { return b.walk(tx, b.raw.Backward(tx)) }

func (b Bucket[T]) walk(tx *Tx, all iter.Seq2[[]byte, []byte]) iter.Seq2[[]byte, T] {
	return func(yield func([]byte, T) bool) {
		for key, raw := range all {
			var v T
			if err := b.codec.decode(raw, &v); err != nil {
				tx.unreadable(b.raw, key, raw, err)
				continue
			}
			if !yield(key, v) {
				return
			}
		}
	}
}

// Key is a number as a key: keys are in the order of their numbers.
func Key(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// Number is the number of a key.
func Number(key []byte) (n uint64, ok bool) {
	if len(key) != 8 {
		return 0, false
	}
	return binary.BigEndian.Uint64(key), true
}

// Name is a number as the name of a bucket inside another.
func Name(n uint64) string { return string(Key(n)) }

// printable is a path for people: numbers as such.
func printable(path []string) string {
	parts := make([]string, len(path))
	for i, p := range path {
		n, number := Number([]byte(p))
		odd := strings.ContainsFunc(p, func(r rune) bool { return r == unicode.ReplacementChar || !unicode.IsPrint(r) })
		switch {
		case odd && number:
			parts[i] = strconv.FormatUint(n, 10)
		case odd:
			parts[i] = strconv.Quote(p)
		default:
			parts[i] = p
		}
	}
	return strings.Join(parts, "/")
}
