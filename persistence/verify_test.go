package persistence

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
)

// verifyPath verifies a file as Open does.
func verifyPath(t *testing.T, path string) error {
	t.Helper()
	why, _, err := verifyFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return why
}

// What bbolt itself finds sound, after any history, must be sound for us: a
// false alarm would throw away a good file.
func TestEverySoundFileIsFoundSound(t *testing.T) {
	for _, pageSize := range []int{1 << 10, 1 << 12, 1 << 14, 1 << 16} {
		t.Run(fmt.Sprint(pageSize), func(t *testing.T) {
			random := rand.New(rand.NewPCG(uint64(pageSize), 1))
			path := filepath.Join(t.TempDir(), "file")
			db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: pageSize, NoSync: true})
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			for round := range 80 {
				err := db.Update(func(tx *bbolt.Tx) error {
					b, err := tx.CreateBucketIfNotExists(fmt.Append(nil, "bucket", random.IntN(4)))
					if err != nil {
						return err
					}
					if random.IntN(3) == 0 {
						if b, err = b.CreateBucketIfNotExists(fmt.Append(nil, "inner", random.IntN(20))); err != nil {
							return err
						}
					}
					for range random.IntN(60) {
						key := fmt.Append(nil, "key", random.IntN(500))
						if random.IntN(3) == 0 {
							err = b.Delete(key)
						} else {
							err = b.Put(key, make([]byte, random.IntN(1+random.IntN(min(3*pageSize, 20000)))))
						}
						if err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if err := verifyPath(t, path); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
		})
	}
}

func TestAFileOfNothingButTheFirstInstantIsSound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := verifyPath(t, path); err != nil {
		t.Errorf("got %v; want nil", err)
	}
}

func TestATornMetaPageIsNoDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			return b.Put([]byte("k"), fmt.Append(nil, i))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for meta := range 2 {
		torn := bytes.Clone(good)
		clear(torn[meta*os.Getpagesize()+pageHeader+40 : (meta+1)*os.Getpagesize()])
		if err := verify(bytes.NewReader(torn), int64(len(torn))); err != nil {
			t.Errorf("meta page %d torn: got %v; want nil", meta, err)
		}
	}
}

func FuzzVerify(f *testing.F) {
	path := filepath.Join(f.TempDir(), "file")
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{PageSize: 1 << 10, NoSync: true})
	if err != nil {
		f.Fatal(err)
	}
	for i := range 40 {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(fmt.Append(nil, "b", i%3))
			if err != nil {
				return err
			}
			return b.Put(fmt.Append(nil, i), make([]byte, 20*i))
		})
		if err != nil {
			f.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(uint16(0), uint64(0), []byte(nil))
	f.Add(uint16(20), uint64(1<<40), []byte("garbage"))
	f.Fuzz(func(t *testing.T, at uint16, number uint64, rest []byte) {
		// A mutated good file reaches deeper than mutated noise.
		b := bytes.Clone(good)
		if i := int(at) % (len(b) - 8); number != 0 {
			byteOrder.PutUint64(b[i:], number)
		}
		copy(b[min(len(b), int(at)):], rest)
		_ = verify(bytes.NewReader(b), int64(len(b)))
		_ = verify(bytes.NewReader(rest), int64(len(rest)))
	})
}
