// Package store keeps what a studio knows: accounts, projects, devices, apps and
// their releases, who may do what, what is wished of the devices, and what they
// reported.
//
//	accounts/<account>                  Account; its sequence numbers the accounts, as below
//	projects/<swarm>                    Project
//	devices/<device>                    Device
//	apps/<app>                          App
//	releases/<app>/<release>            Release; numbered by the sequence of releases
//	grants/<account>/<device>           grant
//	wishes/<device>/<STAGE>/<app>       Wish
//	states/<device>/<STAGE>/<app>       Reported
//	history/<device>/<STAGE>/<app>/<n>  PastState, the last 100
//	index/account|app|device/<name>     the key of what has the name, in lower case
//	index/serial/<serial>               the key of the device
//	index/secret/<sha256>               the key of the device
//
// Keys are big-endian numbers that are never used twice. Records are JSON (see
// persistence).
//
// Promises: every method may be called from any goroutine. What a method wrote is
// on the disk when it returns, all of it or, with an error, nothing. The one
// exception is what devices say all the time (status, last seen, refused
// logins): that is kept in memory and written in batches by Run, at the latest by
// Close. Files are 0600, for they hold the secrets of all devices; secrets leave
// the store through the methods that say so, and never by an error or a log line.
// A damaged file is never replaced by an empty one: a studio that forgot its
// devices would lock them all out.
//
// Errors that a user should see are *protocol.Error.
package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/rs/zerolog"

	"reagent/persistence"
	"reagent/protocol"
)

// FileName is the name of the store's file in its folder.
const FileName = "studio.bolt"

var (
	accounts = persistence.NewBucket[Account](1, "accounts")
	projects = persistence.NewBucket[Project](1, "projects")
	devices  = persistence.NewBucket[Device](1, "devices")
	apps     = persistence.NewBucket[App](1, "apps")
	releases = persistence.NewBucket[Release](1, "releases")
	grants   = persistence.NewBucket[grant](1, "grants")
	wishes   = persistence.NewBucket[Wish](1, "wishes")
	states   = persistence.NewBucket[Reported](1, "states")
	history  = persistence.NewBucket[PastState](1, "history")

	accountNames  = persistence.RawBucket("index", "account")
	appNames      = persistence.RawBucket("index", "app")
	deviceNames   = persistence.RawBucket("index", "device")
	deviceSerials = persistence.RawBucket("index", "serial")
	deviceSecrets = persistence.RawBucket("index", "secret")
)

// A Store is the open store of one studio.
type Store struct {
	db  *persistence.DB
	log zerolog.Logger

	mu       sync.Mutex // guards what follows
	live     map[uint64]*live
	sessions map[uint64]uint64 // session to device
	gone     map[uint64]struct{}
	goneIn   []uint64 // gone in the order of their going, a ring
	goneNext int
}

// keepGone is how many sessions that ended are remembered: what a router tells of
// joining and leaving does not always come in this order.
const keepGone = 4096

// flushEvery is how much of what devices say all the time a power cut may take.
const flushEvery = 10 * time.Second

// Open opens the store in a folder, or makes it, with the administrator and the
// first project in it.
func Open(folder string, log zerolog.Logger) (*Store, error) {
	path := filepath.Join(folder, FileName)
	db, err := persistence.Open(path, persistence.Options{Log: log})
	if err != nil {
		return nil, err
	}
	if aside := db.Damaged(); aside != "" {
		err := db.Close()
		if err == nil {
			err = os.Rename(aside, path)
		}
		if err != nil {
			return nil, fmt.Errorf("%s is damaged and was moved to %s: %w", path, aside, err)
		}
		return nil, fmt.Errorf("%s is damaged: put a copy of it in its place; or move it away to begin with no devices at all", path)
	}
	s := &Store{db: db, log: log, live: map[uint64]*live{}, sessions: map[uint64]uint64{}, gone: map[uint64]struct{}{}}
	if err := s.begin(); err != nil {
		_ = db.Close()
		return nil, fmt.Errorf("set up %s: %w", path, err)
	}
	return s, nil
}

// begin makes what every studio has.
func (s *Store) begin() error {
	return s.db.Update(func(tx *persistence.Tx) error {
		if _, ok := accounts.Get(tx, persistence.Key(protocol.AccountAdministrator)); !ok {
			if _, err := addAccount(tx, "admin"); err != nil {
				return err
			}
		}
		if _, ok := projects.Get(tx, persistence.Key(firstProject)); !ok {
			_, err := projects.Add(tx, Project{Name: "studio", Owner: protocol.AccountAdministrator, Created: now()})
			return err
		}
		return nil
	})
}

// Run writes what devices say all the time, now and then, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := s.Flush(); err != nil {
				s.log.Error().Err(err).Msg("status of devices not written")
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Close writes what is not written yet and lets go of the file.
func (s *Store) Close() error {
	err := s.Flush()
	if closed := s.db.Close(); err == nil {
		err = closed
	}
	return err
}

// now is the time to the millisecond, as records and answers show it.
func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// newSecret is 32 random bytes in base64.
func newSecret() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return base64.StdEncoding.EncodeToString(b)
}

func notFound(kind, ref string) error {
	return &protocol.Error{Code: protocol.CodeNotFound, Text: fmt.Sprintf("there is no %s %q", kind, clip(ref))}
}

func conflict(format string, args ...any) error {
	return &protocol.Error{Code: protocol.CodeConflict, Text: fmt.Sprintf(format, args...)}
}

func invalid(format string, args ...any) error {
	return &protocol.Error{Code: protocol.CodeInvalid, Text: fmt.Sprintf(format, args...)}
}

func clip(text string) string {
	if len(text) > 60 {
		return text[:60] + "…"
	}
	return text
}

// checkName refuses a name that would confuse: with a key, or on a terminal.
func checkName(kind, name string) error {
	switch {
	case name == "":
		return invalid("the name of the %s is empty", kind)
	case len(name) > 100:
		return invalid("the name of the %s is longer than 100 bytes", kind)
	case strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
		return invalid("the name of the %s: no control characters, and no spaces at its ends", kind)
	case strings.Trim(name, "0123456789") == "":
		return invalid("the name of the %s needs a letter: %q could be a key", kind, name)
	}
	return nil
}

// lookup finds the key behind a name, or a decimal key.
func lookup(tx *persistence.Tx, index persistence.Raw, ref string) (uint64, bool) {
	if raw := index.Get(tx, []byte(strings.ToLower(ref))); raw != nil {
		return persistence.Number(raw)
	}
	n, ok := protocol.Uint(ref)
	return n, ok && n != 0
}

// claim enters a name for a key.
func claim(tx *persistence.Tx, index persistence.Raw, kind, name string, key uint64) error {
	lower := []byte(strings.ToLower(name))
	if index.Get(tx, lower) != nil {
		return conflict("there is a %s %q already", kind, name)
	}
	return index.Put(tx, lower, persistence.Key(key))
}

func fingerprint(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// view runs f on the store as it is; its error is a mistake of the disk's.
func view[T any](s *Store, f func(*persistence.Tx) (T, error)) (out T, err error) {
	err = s.db.View(func(tx *persistence.Tx) error {
		out, err = f(tx)
		return err
	})
	return out, err
}

// update runs f in a transaction.
func update[T any](s *Store, f func(*persistence.Tx) (T, error)) (out T, err error) {
	err = s.db.Update(func(tx *persistence.Tx) error {
		out, err = f(tx)
		return err
	})
	return out, err
}
