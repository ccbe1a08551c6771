package journal

import (
	"crypto/rand"
	"encoding/hex"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A Stream is one of the sequences of records in a journal.
type Stream struct {
	j   *Journal
	dir string

	syncing sync.Mutex // brings files to the disk; before files
	files   sync.Mutex // reads and writes the newest segment's file; before mu
	loaded  atomic.Bool

	mu       sync.Mutex
	id, name string
	older    []segment // their files do not change any more
	newest   segment
	held     int64  // bytes that all of them take, as the journal's sum has them
	marks    []mark // of the newest, some 32 KiB apart; only ever appended to
	sealed   bool   // nothing may be added to the newest
	stored   uint64 // all smaller numbers are in files, or nowhere
	next     uint64
	writing  chunk     // on its way into a file …
	buf      chunk     // … and behind it
	unsynced []uint64  // segments whose content may not be on the disk
	unnamed  bool      // nor may their names be
	retry    time.Time // no write before, unless somebody asks for one
	grown    chan struct{}
}

// A chunk is frames that are in no file yet.
type chunk struct {
	frames      []byte
	first, last uint64 // their numbers
	begins      bool   // with these a new segment begins …
	head        []byte // … and this is its head
}

// maxID bounds an ID in a header; ours are shorter.
const maxID = 64

func newStream(j *Journal, folder, name string) *Stream {
	return &Stream{j: j, dir: filepath.Join(j.cfg.Dir, folder), name: name, id: newID(), next: 1, stored: 1}
}

func newID() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // it does not fail
	return hex.EncodeToString(b[:])
}

// Name is what the stream is called; "" while a damaged file is all that is
// known of it.
func (s *Stream) Name() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name
}

// ID is a short text of [0-9a-f] that was made with the stream: it tells one
// that was removed and begun anew from the old one.
func (s *Stream) ID() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id
}

// Bounds gives the oldest number that is kept and the one that comes next. They
// are the same when there is nothing.
func (s *Stream) Bounds() (oldest, next uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(s.older) > 0:
		return s.older[0].first, s.next
	case s.newest.first != 0 && s.newest.first < s.stored:
		return s.newest.first, s.next
	case len(s.writing.frames) > 0:
		return s.writing.first, s.next
	case len(s.buf.frames) > 0:
		return s.buf.first, s.next
	}
	return s.next, s.next
}

// Grown is closed by the next Append, or when the stream is removed.
func (s *Stream) Grown() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.grown == nil {
		s.grown = make(chan struct{})
	}
	return s.grown
}

// begun tells whether anything was ever appended.
func (s *Stream) begun() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest.first != 0 || s.next > 1
}

// Append adds a record and gives its number. The record is copied. One that is
// longer than MaxRecord is lost: its number never comes.
func (s *Stream) Append(record []byte) (seq uint64) { return s.AppendAfter(nil, record) }

// AppendAfter is Append for an owner who has to find its place again after a
// restart. Where a new segment begins, it begins with what head returns, which
// is the state before this record; Head finds it there. head is called in
// AppendAfter or not at all, and must not use the stream.
func (s *Stream) AppendAfter(head func() []byte, record []byte) (seq uint64) {
	cfg := &s.j.cfg
	s.mu.Lock()
	seq = s.next
	s.next++
	if len(record) > MaxRecord {
		s.mu.Unlock()
		s.j.lost.Add(1)
		cfg.Log.Error().Str("stream", s.name).Int("bytes", len(record)).Msg("a record is too long for the journal")
		return seq
	}
	c := &s.buf
	if len(c.frames) == 0 {
		c.first = seq
		limit := s.j.segmentLimit()
		c.begins = s.sealed || s.newest.first == 0 ||
			s.newest.size+min(int64(cfg.FlushBytes), limit/4) > limit
		if c.begins && head != nil {
			c.head = s.fitting(head())
		}
	}
	c.frames = appendFrame(c.frames, seq, record)
	c.last = seq
	s.j.buffered.Add(int64(frameSize + len(record)))
	if s.grown != nil {
		close(s.grown)
		s.grown = nil
	}
	failed := !s.retry.IsZero()
	waits := failed && time.Now().Before(s.retry)
	full := len(c.frames) >= cfg.FlushBytes
	if failed && (len(c.frames) >= 2*cfg.FlushBytes || s.j.buffered.Load() > 2*cfg.BufferBytes) {
		s.forget()
	}
	s.mu.Unlock()

	switch {
	case waits:
	case full:
		_ = s.write(false) // it is logged, and the records stay
	case s.j.buffered.Load() > cfg.BufferBytes:
		_ = s.j.flush()
	}
	return seq
}

// Skip leaves out the next n numbers: the owner knows of so many records that
// never will come. Like a record, it is kept by the next flush.
func (s *Stream) Skip(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next += n
}

// forget drops the older half of what cannot be written. mu is held.
func (s *Stream) forget() {
	scanner := scanMemory(s.buf.frames, 0, s.buf.first, s.next)
	half := int64(len(s.buf.frames) / 2)
	for scanner.off < half {
		if _, _, ok := scanner.next(); !ok {
			break
		}
		s.j.lost.Add(1)
	}
	if scanner.seq > s.buf.last { // it was one long record
		s.j.buffered.Add(-int64(len(s.buf.frames)))
		s.buf = chunk{}
		return
	}
	s.j.buffered.Add(-scanner.off)
	// The rest is copied: readers may have the old one.
	s.buf.frames, s.buf.first = slices.Clone(s.buf.frames[scanner.off:]), scanner.seq
}

// Head gives the newest head that is kept and the number of the first record
// behind it. Without one, from is the oldest number.
func (s *Stream) Head() (head []byte, from uint64) {
	s.files.Lock()
	defer s.files.Unlock()
	v := s.look()
	for _, c := range []chunk{v.chunks[1], v.chunks[0]} {
		if len(c.head) > 0 {
			return c.head, c.first
		}
	}
	for i := len(v.segments) - 1; i >= 0; i-- {
		if h, err := s.header(v.segments[i].first); err == nil && len(h.head) > 0 {
			return h.head, v.segments[i].first
		}
	}
	from, _ = s.Bounds()
	return nil, from
}
