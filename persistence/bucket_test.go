package persistence_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reagent/persistence"
)

// A basket is a record with everything that a record may have.
type basket struct {
	Owner   string         `json:"owner"`
	Best    fruit          `json:"best"`
	Spare   *fruit         `json:"spare,omitempty"`
	Bought  time.Time      `json:"bought"`
	Labels  map[string]any `json:"labels,omitempty"`
	private string
}

var baskets = persistence.NewBucket[basket](2, "baskets")

func putRaw(t *testing.T, db *persistence.DB, b persistence.Raw, key uint64, value string) {
	t.Helper()
	must(t, db.Update(func(tx *persistence.Tx) error { return b.Put(tx, persistence.Key(key), []byte(value)) }))
}

func rawOf(t *testing.T, db *persistence.DB, b persistence.Raw, key uint64) (value string) {
	t.Helper()
	must(t, db.View(func(tx *persistence.Tx) error {
		value = string(b.Get(tx, persistence.Key(key)))
		return nil
	}))
	return value
}

func fresh(t *testing.T) *persistence.DB {
	t.Helper()
	return mustOpen(t, filepath.Join(t.TempDir(), "state.bolt"), options(t))
}

func TestUnknownKeysSurviveARewrite(t *testing.T) {
	db := fresh(t)
	putRaw(t, db, baskets.Raw(), 1, `{"v":2,"owner":"eve","OWNER":"mallory","colour":"red","huge":12345678901234567890,
		"best":{"name":"fig","taste":{"sweet":true}},"spare":{"name":"nut","taste":"dry"},"bought":"2026-01-02T03:04:05Z"}`)
	must(t, db.Update(func(tx *persistence.Tx) error {
		b, ok := baskets.Get(tx, persistence.Key(1))
		if !ok {
			t.Fatal("the record cannot be read")
		}
		b.Owner, b.Best.Count, b.private = "bob", 3, "x"
		b.Spare = &fruit{Name: "kiwi"}
		return baskets.Put(tx, persistence.Key(1), b)
	}))
	want := `{"best":{"count":3,"name":"fig","taste":{"sweet":true}},"bought":"2026-01-02T03:04:05Z","colour":"red",` +
		`"huge":12345678901234567890,"owner":"bob","spare":{"name":"kiwi"},"v":2}`
	if got := rawOf(t, db, baskets.Raw(), 1); got != want {
		t.Errorf("the record:\n got %s\nwant %s", got, want)
	}
}

func TestAKnownKeyThatBecameEmptyGoes(t *testing.T) {
	db := fresh(t)
	put(t, db, 1, fruit{Name: "fig", Count: 3})
	put(t, db, 1, fruit{Name: "fig"})
	if got, want := rawOf(t, db, fruits.Raw(), 1), `{"name":"fig","v":1}`; got != want {
		t.Errorf("the record: got %s; want %s", got, want)
	}
}

func TestTheSameRecordIsNotWrittenAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	db := mustOpen(t, path, options(t))
	b := basket{Owner: "eve", Labels: map[string]any{"z": 1.0, "a": []any{"x"}, "m": nil}, Spare: &fruit{Name: "nut"}}
	write := func() []byte {
		must(t, db.Update(func(tx *persistence.Tx) error { return baskets.Put(tx, persistence.Key(1), b) }))
		raw, err := os.ReadFile(path)
		must(t, err)
		return raw
	}
	if first := write(); !bytes.Equal(first, write()) {
		t.Error("writing the same record again changed the file")
	}
}

func TestAFailedUpdateWritesNothing(t *testing.T) {
	db := fresh(t)
	put(t, db, 1, fruit{Name: "fig"})
	broken := errors.New("broken")
	err := db.Update(func(tx *persistence.Tx) error {
		if err := fruits.Put(tx, persistence.Key(1), fruit{Name: "nut"}); err != nil {
			return err
		}
		return broken
	})
	if !errors.Is(err, broken) {
		t.Errorf("Update: got %v; want %v", err, broken)
	}
	if f, _ := get(t, db, 1); f.Name != "fig" {
		t.Errorf("got %+v; want the fig", f)
	}
}

func TestUnreadableRecordsGoToQuarantineAndTheOthersStay(t *testing.T) {
	bad := map[string]string{
		"no JSON":      `{"v":1,"name":`,
		"wrong type":   `{"v":1,"name":7}`,
		"no version":   `{"name":"fig"}`,
		"newer":        `{"v":2,"name":"fig"}`,
		"no object":    `["v",1]`,
		"null":         `null`,
		"nothing":      ``,
		"binary":       "\x00\xff\xfe",
		"odd version":  `{"v":"one","name":"fig"}`,
		"out of range": `{"v":1,"name":"fig","count":1e400}`,
	}
	for name, value := range bad {
		for _, how := range []string{"view", "update", "get"} {
			t.Run(name+" by "+how, func(t *testing.T) {
				db := fresh(t)
				put(t, db, 1, fruit{Name: "fig"})
				putRaw(t, db, fruits.Raw(), 2, value)
				put(t, db, 3, fruit{Name: "nut"})
				read := db.View
				if how == "update" {
					read = db.Update
				}
				var got []string
				must(t, read(func(tx *persistence.Tx) error {
					if how == "get" {
						if f, ok := fruits.Get(tx, persistence.Key(2)); ok {
							t.Errorf("the bad record was read as %+v", f)
						}
					}
					for _, f := range fruits.All(tx) {
						got = append(got, f.Name)
					}
					return nil
				}))
				if !slices.Equal(got, []string{"fig", "nut"}) {
					t.Errorf("records: got %v; want fig and nut", got)
				}
				if left := rawOf(t, db, fruits.Raw(), 2); left != "" {
					t.Errorf("the bad record is still there: %q", left)
				}
				kept := struct {
					Bucket string `json:"bucket"`
					Value  []byte `json:"value"`
				}{}
				must(t, json.Unmarshal([]byte(rawOf(t, db, persistence.RawBucket("quarantine"), 1)), &kept))
				if kept.Bucket != "fruits" || string(kept.Value) != value {
					t.Errorf("quarantine: got %s, %q; want fruits, %q", kept.Bucket, kept.Value, value)
				}
			})
		}
	}
}

func TestARecordThatReplacesABadOneStays(t *testing.T) {
	db := fresh(t)
	putRaw(t, db, fruits.Raw(), 1, "rubbish")
	must(t, db.Update(func(tx *persistence.Tx) error {
		if f, ok := fruits.Get(tx, persistence.Key(1)); ok {
			t.Errorf("the bad record was read as %+v", f)
		}
		return fruits.Put(tx, persistence.Key(1), fruit{Name: "fig"})
	}))
	if f, ok := get(t, db, 1); !ok || f.Name != "fig" {
		t.Errorf("got %+v, %t; want the fig", f, ok)
	}
	if rawOf(t, db, persistence.RawBucket("quarantine"), 1) == "" {
		t.Error("the bad record is not in quarantine")
	}
}

func TestQuarantineIsBounded(t *testing.T) {
	db := fresh(t)
	must(t, db.Update(func(tx *persistence.Tx) error {
		for i := range uint64(300) {
			if err := fruits.Raw().Put(tx, persistence.Key(i), bytes.Repeat([]byte("x"), 1000)); err != nil {
				return err
			}
		}
		return fruits.Raw().Put(tx, persistence.Key(300), bytes.Repeat([]byte("y"), persistence.MaxRecord))
	}))
	count, longest := 0, 0
	must(t, db.View(func(tx *persistence.Tx) error {
		for range fruits.All(tx) {
		}
		return nil
	}))
	must(t, db.View(func(tx *persistence.Tx) error {
		for _, v := range persistence.RawBucket("quarantine").All(tx) {
			count++
			longest = max(longest, len(v))
		}
		return nil
	}))
	if count != 100 || longest > 100<<10 {
		t.Errorf("%d records of at most %d bytes; want 100 of less than 100 KiB", count, longest)
	}
}

func TestARecordThatIsTooLargeIsRefused(t *testing.T) {
	db := fresh(t)
	err := db.Update(func(tx *persistence.Tx) error {
		return fruits.Put(tx, persistence.Key(1), fruit{Name: strings.Repeat("x", persistence.MaxRecord)})
	})
	if !errors.Is(err, persistence.ErrTooLarge) {
		t.Errorf("Put: got %v; want ErrTooLarge", err)
	}
}

func TestKeysAreInTheOrderOfTheirNumbers(t *testing.T) {
	db := fresh(t)
	for _, n := range []uint64{256, 1, 1 << 40, 255, 2} {
		put(t, db, n, fruit{Count: int(n)})
	}
	var forth, back []int
	must(t, db.View(func(tx *persistence.Tx) error {
		for key, f := range fruits.All(tx) {
			if n, ok := persistence.Number(key); !ok || n != uint64(f.Count) {
				t.Errorf("key of %d: got %d, %t", f.Count, n, ok)
			}
			forth = append(forth, f.Count)
		}
		for _, f := range fruits.Backward(tx) {
			back = append(back, f.Count)
		}
		return nil
	}))
	want := []int{1, 2, 255, 256, 1 << 40}
	if !slices.Equal(forth, want) {
		t.Errorf("All: got %v; want %v", forth, want)
	}
	if slices.Reverse(back); !slices.Equal(back, want) {
		t.Errorf("Backward, reversed: got %v; want %v", back, want)
	}
}

func TestBucketsWithinBucketsKeepApart(t *testing.T) {
	db := fresh(t)
	inner := fruits.In("PROD", persistence.Name(7))
	must(t, db.Update(func(tx *persistence.Tx) error {
		if err := inner.Put(tx, persistence.Key(1), fruit{Name: "fig"}); err != nil {
			return err
		}
		return fruits.Put(tx, persistence.Key(1), fruit{Name: "nut"})
	}))
	must(t, db.View(func(tx *persistence.Tx) error {
		if f, _ := inner.Get(tx, persistence.Key(1)); f.Name != "fig" {
			t.Errorf("inner: got %+v; want the fig", f)
		}
		if got := fruits.Raw().Names(tx); !slices.Equal(got, []string{"PROD"}) {
			t.Errorf("Names: got %v; want PROD", got)
		}
		if got, want := inner.Raw().String(), "fruits/PROD/7"; got != want {
			t.Errorf("String: got %s; want %s", got, want)
		}
		return nil
	}))
	must(t, db.Update(func(tx *persistence.Tx) error { return fruits.In("PROD").Raw().Remove(tx) }))
	must(t, db.View(func(tx *persistence.Tx) error {
		if !inner.Raw().Empty(tx) {
			t.Error("the inner bucket is still there")
		}
		return nil
	}))
}

func TestARecordWhereABucketBelongsMakesRoom(t *testing.T) {
	db := fresh(t)
	must(t, db.Update(func(tx *persistence.Tx) error { return fruits.Raw().Put(tx, []byte("PROD"), []byte("rubbish")) }))
	inner := fruits.In("PROD")
	must(t, db.Update(func(tx *persistence.Tx) error {
		if f, ok := inner.Get(tx, persistence.Key(1)); ok {
			t.Errorf("got %+v from a bucket that is none", f)
		}
		return inner.Put(tx, persistence.Key(1), fruit{Name: "fig"})
	}))
	must(t, db.View(func(tx *persistence.Tx) error {
		if f, _ := inner.Get(tx, persistence.Key(1)); f.Name != "fig" {
			t.Errorf("got %+v; want the fig", f)
		}
		return nil
	}))
	if rawOf(t, db, persistence.RawBucket("quarantine"), 1) == "" {
		t.Error("the record is not in quarantine")
	}
}

func TestReadersAndWritersDoNotDisturbEachOther(t *testing.T) {
	db := fresh(t)
	const writers, each = 4, 50
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				counts := map[string]int{}
				err := db.View(func(tx *persistence.Tx) error {
					for _, f := range fruits.All(tx) {
						counts[f.Name]++
					}
					return nil
				})
				if err != nil {
					t.Errorf("View: %v", err)
				}
				for name, n := range counts {
					if n%2 != 0 {
						t.Errorf("%s: got %d records, half of a transaction", name, n)
					}
				}
			}
		})
	}
	var writing sync.WaitGroup
	for w := range writers {
		writing.Go(func() {
			for range each {
				err := db.Update(func(tx *persistence.Tx) error {
					for range 2 {
						if _, err := fruits.Add(tx, fruit{Name: fmt.Sprint("writer", w)}); err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	writing.Wait()
	close(stop)
	group.Wait()
	n := 0
	must(t, db.View(func(tx *persistence.Tx) error {
		for range fruits.All(tx) {
			n++
		}
		return nil
	}))
	if want := writers * each * 2; n != want {
		t.Errorf("records: got %d; want %d", n, want)
	}
}

func TestOnlyStructsWithoutAVersionAreRecords(t *testing.T) {
	for name, f := range map[string]func(){
		"a map":   func() { persistence.NewBucket[map[string]int](1, "b") },
		"a time":  func() { persistence.NewBucket[time.Time](1, "b") },
		"a clash": func() { persistence.NewBucket[struct{ V int }](1, "b") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: got a bucket; want a panic", name)
				}
			}()
			f()
		}()
	}
}

// Whatever lies in the file, reading it gives a record or sets it aside, and
// what was read can be written and read again.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{
		`{"v":2,"owner":"eve"}`, `{"v":2,"best":{"name":"fig","x":[1]},"spare":null,"extra":{"a":1}}`,
		`{"v":2,"V":2,"best":[]}`, `{"v":2,"bought":"yesterday"}`, `null`, `{"v":2,"best":null,"labels":{"a":{"b":1e9}}}`, "",
	} {
		f.Add([]byte(s))
	}
	db, err := persistence.Open(filepath.Join(f.TempDir(), "state.bolt"), persistence.Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = db.Close() })
	key := persistence.Key(1)
	rollback := errors.New("not to be kept")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) > persistence.MaxRecord {
			return
		}
		err := db.Update(func(tx *persistence.Tx) error {
			must(t, baskets.Raw().Put(tx, key, raw))
			b, ok := baskets.Get(tx, key)
			if !ok {
				return rollback
			}
			if err := baskets.Put(tx, key, b); errors.Is(err, persistence.ErrTooLarge) {
				return rollback // escaping made it longer
			} else if err != nil {
				t.Fatalf("a record that was read cannot be written: %v", err)
			}
			if _, ok = baskets.Get(tx, key); !ok {
				t.Fatalf("what was written cannot be read: %s", baskets.Raw().Get(tx, key))
			}
			return rollback
		})
		if !errors.Is(err, rollback) {
			t.Fatal(err)
		}
	})
}
