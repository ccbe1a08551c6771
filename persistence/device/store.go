// Package device keeps what a device must not forget: what is wanted of each
// app, what there is of it, what the studio has not been told yet, and what was.
//
//	meta                                  schema, and small values by name
//	wanted/<STAGE>/<key>                  Wanted; its sequence numbers the wishes
//	actual/<STAGE>/<key>                  Actual
//	history/<seq>                         HistoryEntry, the last 1000 of the device
//	outbox/<STAGE>/<key>/state/<seq>      reports of states, at most 64 of an app
//	outbox/<STAGE>/<key>/ports/<seq>      the newest report of ports of an app
//	quarantine/<seq>                      records that could not be read
//
// Keys are big-endian numbers; the sequence of outbox numbers the reports of all
// apps in the order in which they were accepted. Records are JSON (see
// persistence). No logs and no credentials of registries are kept.
//
// Promises: every method may be called from any goroutine. What a method wrote
// is on the disk when it returns, all of it or, with an error, nothing. What
// changes nothing writes nothing. A record that cannot be read is set aside and
// counts as not there.
package device

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"reagent/persistence"
	"reagent/protocol"
)

var (
	wanted  = persistence.NewBucket[Wanted](1, "wanted")
	actual  = persistence.NewBucket[Actual](1, "actual")
	history = persistence.NewBucket[HistoryEntry](1, "history")
)

const keepHistory = 1000

// A Store is the open database of one device.
type Store struct {
	db *persistence.DB
}

// Open opens the database at path, or makes it. Its errors say how to mend what
// they tell of; persistence.ErrLocked is one of them.
func Open(path string, log zerolog.Logger) (*Store, error) {
	db, err := persistence.Open(path, persistence.Options{Log: log, Migrations: migrations})
	if err != nil {
		return nil, err
	}
	return &Store{db}, nil
}

// Close waits for what is under way and lets go of the file.
func (s *Store) Close() error { return s.db.Close() }

// reserved is the room for changes on a full disk: some hundred states and
// wishes, or the largest wish twice.
const reserved = 1 << 20

// Reserve makes room for further changes in the file, so that they are stored
// when the disk is full, too. See persistence.DB.Reserve for what it costs.
func (s *Store) Reserve() error { return s.db.Reserve(reserved) }

// Rebuilt reports whether the store began empty: it is new, or the old file was
// damaged and was set aside.
func (s *Store) Rebuilt() bool { return s.db.Rebuilt() }

// Want stores the newest wish for an app. Its Seq is a new one, and changed is
// true, when the wish differs from the one before or was asked for directly; a
// difference in Current alone does not count. An owner that is known is kept
// when the wish names none.
func (s *Store) Want(r protocol.AppRequest, direct bool) (w Wanted, changed bool, err error) {
	if err := valid(r.ID()); err != nil {
		return Wanted{}, false, err
	}
	hosts := slices.Sorted(maps.Keys(r.DockerCredentials))
	r.DockerCredentials = nil // never stored
	err = s.db.Update(func(tx *persistence.Tx) error {
		b, key := place(wanted, r.ID())
		old, known := b.Get(tx, key)
		if r.DeviceOwnerAccountKey == 0 {
			r.DeviceOwnerAccountKey = old.Request.DeviceOwnerAccountKey
		}
		same, err := sameWish(old.Request, r)
		if err != nil {
			return err
		}
		w = old
		w.Deed = pending(old, r, direct)
		w.Request = r
		if changed = !known || !same || direct; changed {
			if w.Seq, err = wanted.Raw().Next(tx); err != nil {
				return err
			}
			w.Time, w.Credentials = time.Now().UTC(), hosts
		}
		if direct {
			w.Direct = w.Seq
		}
		return b.Put(tx, key, w)
	})
	if err != nil {
		return Wanted{}, false, fmt.Errorf("store the wish for %s: %w", r.ID(), err)
	}
	return w, changed, nil
}

// pending is the deed that stays to be done when another wish comes: not when
// that one calls it off, or is for a deed itself.
func pending(old Wanted, r protocol.AppRequest, direct bool) *Deed {
	switch {
	case direct && (r.CancelTransition || r.Target.Settled().Gone() || deed(r)):
		return nil
	case direct && deed(old.Request):
		return &Deed{Request: old.Request, Seq: old.Direct, Credentials: old.Credentials}
	}
	return old.Deed
}

func deed(r protocol.AppRequest) bool {
	return r.Target == protocol.Built || r.Target == protocol.Published
}

// sameWish compares what is stored of two wishes, apart from the sender's view
// of the current state.
func sameWish(a, b protocol.AppRequest) (bool, error) {
	a.Current, b.Current = "", ""
	one, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	two, err := json.Marshal(b)
	return string(one) == string(two), err
}

// Wanted reads the newest wish for an app.
func (s *Store) Wanted(id protocol.AppID) (Wanted, bool, error) { return get(s, wanted, id) }

// AllWanted reads the newest wish for every app, by stage and key.
func (s *Store) AllWanted() ([]Wanted, error) { return all(s, wanted) }

// Actual reads what is known of an app.
func (s *Store) Actual(id protocol.AppID) (Actual, bool, error) { return get(s, actual, id) }

// AllActual reads what is known of every app, by stage and key.
func (s *Store) AllActual() ([]Actual, error) { return all(s, actual) }

// Save stores what is known of an app, the state that it had before where state,
// version or release changed, and reports for the studio, all together.
func (s *Store) Save(a Actual, out ...Outgoing) error {
	if err := valid(a.ID()); err != nil {
		return err
	}
	err := s.db.Update(func(tx *persistence.Tx) error {
		b, key := place(actual, a.ID())
		old, known := b.Get(tx, key)
		if known && (old.State != a.State || old.Version != a.Version || old.ReleaseKey != a.ReleaseKey) {
			if err := remember(tx, old); err != nil {
				return err
			}
		}
		if err := b.Put(tx, key, a); err != nil {
			return err
		}
		return post(tx, out)
	})
	if err != nil {
		return fmt.Errorf("store the state of %s: %w", a.ID(), err)
	}
	return nil
}

// Drop forgets an app, unless a newer wish than seq came for it: then nothing
// happens and dropped is false. The reports are for the studio all the same;
// they stay in the outbox, as those before them do.
func (s *Store) Drop(id protocol.AppID, seq uint64, out ...Outgoing) (dropped bool, err error) {
	if err := valid(id); err != nil {
		return false, err
	}
	err = s.db.Update(func(tx *persistence.Tx) error {
		wishes, key := place(wanted, id)
		if wish, ok := wishes.Get(tx, key); ok && wish.Seq != seq {
			return nil
		}
		dropped = true
		if err := wishes.Delete(tx, key); err != nil {
			return err
		}
		states, key := place(actual, id)
		if old, ok := states.Get(tx, key); ok {
			if err := remember(tx, old); err != nil {
				return err
			}
		}
		if err := states.Delete(tx, key); err != nil {
			return err
		}
		return post(tx, out)
	})
	if err != nil {
		return false, fmt.Errorf("forget %s: %w", id, err)
	}
	return dropped, nil
}

// remember writes a state into the history before it changes.
func remember(tx *persistence.Tx, old Actual) error {
	n, err := history.Add(tx, HistoryEntry{
		AppKey: old.AppKey, Stage: old.Stage, AppName: old.AppName, State: old.State,
		Version: old.Version, ReleaseKey: old.ReleaseKey, Time: time.Now().UTC(),
	})
	if err != nil {
		return err
	}
	return history.Raw().Trim(tx, n, keepHistory)
}

// History lists the last states that apps had before they changed, the newest
// first. A limit of 0 or less is none.
func (s *Store) History(limit int) (entries []HistoryEntry, err error) {
	err = s.db.View(func(tx *persistence.Tx) error {
		for _, e := range history.Backward(tx) {
			if entries = append(entries, e); len(entries) == limit {
				break
			}
		}
		return nil
	})
	return entries, err
}

// Meta reads a small value that belongs to the device as a whole.
func (s *Store) Meta(name string) (value string, ok bool, err error) {
	err = s.db.View(func(tx *persistence.Tx) error {
		value, ok = persistence.Meta(tx, name)
		return nil
	})
	return value, ok, err
}

// SetMeta writes one.
func (s *Store) SetMeta(name, value string) error {
	return s.db.Update(func(tx *persistence.Tx) error { return persistence.SetMeta(tx, name, value) })
}

// valid keeps anything that is no app out of the bucket tree.
func valid(id protocol.AppID) error {
	if id.Key == 0 || !id.Stage.Valid() {
		return fmt.Errorf("%s is no app", id)
	}
	return nil
}

// place is where the record of an app is.
func place[T any](b persistence.Bucket[T], id protocol.AppID) (persistence.Bucket[T], []byte) {
	return b.In(string(id.Stage)), persistence.Key(id.Key)
}

func get[T any](s *Store, b persistence.Bucket[T], id protocol.AppID) (v T, ok bool, err error) {
	err = s.db.View(func(tx *persistence.Tx) error {
		b, key := place(b, id)
		v, ok = b.Get(tx, key)
		return nil
	})
	return v, ok, err
}

func all[T any](s *Store, b persistence.Bucket[T]) (list []T, err error) {
	err = s.db.View(func(tx *persistence.Tx) error {
		for _, stage := range b.Raw().Names(tx) {
			for _, v := range b.In(stage).All(tx) {
				list = append(list, v)
			}
		}
		return nil
	})
	return list, err
}

// Check looks for inconsistencies in the structure of the file.
func (s *Store) Check() error { return s.db.Check() }
