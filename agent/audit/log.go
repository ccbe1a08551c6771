package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/persistence/journal"
	"reagent/protocol"
)

// Config says where the log is. Zero values stand for the defaults in brackets.
type Config struct {
	Journal  *journal.Journal // of its own
	Refusals int              // of one caller in a Window [10]
	Window   time.Duration    // [10 min]
	Streams  int              // for accounts; more share one [64]
	Log      zerolog.Logger
}

// A Log is the audit of a device. Make one with New.
type Log struct {
	cfg Config

	mu       sync.Mutex
	next     uint64
	accounts int // that have a stream
	streams  map[string]*journal.Stream
	refused  map[string]*refusals // by stream
}

// refusals are those of one window.
type refusals struct {
	since   time.Time
	written int
	more    uint64
	last    protocol.AuditEntry // of those that were only counted
}

// The streams that are no account's.
const (
	ofTheSystem = "system"
	ofOthers    = "others"
)

// New makes a log that goes on where the journal ends.
func New(c Config) *Log {
	c.Refusals = cmp.Or(c.Refusals, 10)
	c.Window = cmp.Or(c.Window, 10*time.Minute)
	c.Streams = cmp.Or(c.Streams, 64)
	l := &Log{cfg: c, next: 1, streams: map[string]*journal.Stream{}, refused: map[string]*refusals{}}
	for _, name := range c.Journal.Streams() {
		l.stream(name)
	}
	return l
}

// stream opens a stream, whose numbers are entries': jumps are other streams'.
func (l *Log) stream(name string) *journal.Stream {
	s := l.cfg.Journal.Stream(name)
	l.streams[name] = s
	if name != ofTheSystem && name != ofOthers {
		l.accounts++
	}
	_, next := s.Bounds()
	l.next = max(l.next, next)
	return s
}

// of finds the stream of a caller.
func (l *Log) of(e protocol.AuditEntry) (name string, s *journal.Stream) {
	account, _ := protocol.Uint(e.AuthID)
	if e.ForAccount != nil {
		account = *e.ForAccount
	}
	switch {
	case account != 0:
		name = "account-" + strconv.FormatUint(account, 10)
	case e.AuthRole == protocol.RoleSystem || e.AuthRole == "" && e.AuthID == protocol.AuthIDSystem:
		name = ofTheSystem
	default:
		name = ofOthers
	}
	if s = l.streams[name]; s == nil && account != 0 && l.accounts >= l.cfg.Streams {
		name = ofOthers
		s = l.streams[name]
	}
	if s == nil {
		s = l.stream(name)
	}
	return name, s
}

// Record writes an entry; seq and time are filled in. With synced it is on the
// disk afterwards. What does not work is logged and holds up nobody.
func (l *Log) Record(e protocol.AuditEntry, synced bool) {
	tidy(&e)
	now := time.Now()
	l.mu.Lock()
	name, s := l.of(e)
	if e.Result == protocol.AuditRefused && !l.admits(name, e, now) {
		l.mu.Unlock()
		return
	}
	err := l.append(s, e, now)
	l.mu.Unlock()
	if synced && err == nil {
		err = s.Flush(true)
	}
	if err != nil {
		// The journal has told that it cannot be written.
		l.cfg.Log.Debug().Err(err).Str("procedure", e.Procedure).Str("caller", e.AuthID).Msg("an entry of the audit is in memory only")
	}
}

// admits tells whether a refusal is written, and counts it when not. mu is held.
func (l *Log) admits(name string, e protocol.AuditEntry, now time.Time) bool {
	r := l.refused[name]
	if r == nil {
		r = &refusals{since: now}
		l.refused[name] = r
	}
	if now.Sub(r.since).Abs() >= l.cfg.Window {
		l.settle(name, now)
		*r = refusals{since: now}
	}
	if r.written < l.cfg.Refusals {
		r.written++
		return true
	}
	r.more++
	e.Time = protocol.DeviceTime(now)
	r.last = e
	return false
}

// settle writes the entry that stands for all that were only counted. mu is held.
func (l *Log) settle(name string, now time.Time) {
	r := l.refused[name]
	if r.more == 0 {
		return
	}
	e := r.last
	e.Count = r.more
	r.more = 0
	if err := l.append(l.streams[name], e, now); err != nil {
		l.cfg.Log.Debug().Err(err).Msg("refusals of the audit are in memory only")
	}
}

// append gives an entry its number and writes it. mu is held.
func (l *Log) append(s *journal.Stream, e protocol.AuditEntry, now time.Time) error {
	e.Seq, e.Time = l.next, cmp.Or(e.Time, protocol.DeviceTime(now))
	record, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("encode: %w", err)
	}
	_, next := s.Bounds()
	s.Skip(l.next - next)
	s.Append(record)
	l.next++
	return s.Flush(false)
}

// Run writes what was only counted when its time has come, until ctx ends.
func (l *Log) Run(ctx context.Context) error {
	tick := time.NewTicker(l.cfg.Window)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			l.settleAll(0)
			_ = l.cfg.Journal.Close() // what cannot be written is logged
			return ctx.Err()
		case <-tick.C:
			l.settleAll(l.cfg.Window)
		}
	}
}

// settleAll settles the windows that are that old, and forgets those.
func (l *Log) settleAll(age time.Duration) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, r := range l.refused {
		if now.Sub(r.since).Abs() >= age {
			l.settle(name, now)
			delete(l.refused, name)
		}
	}
}
