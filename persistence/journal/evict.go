package journal

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

// segmentLimit is how large a file may become: what MaxBytes has to be divided
// into must be several pieces for each stream.
func (j *Journal) segmentLimit() int64 {
	j.mu.Lock()
	n := int64(len(j.streams))
	j.mu.Unlock()
	return max(min(int64(j.cfg.SegmentBytes), j.cfg.MaxBytes/(4*max(n, 1))), block)
}

// evict deletes segments until the files fit. No lock of a stream may be held.
func (j *Journal) evict() {
	if j.held.Load() <= j.cfg.MaxBytes { // as a rule: each write asks
		return
	}
	j.evicting.Lock()
	defer j.evicting.Unlock()
	for j.held.Load() > j.cfg.MaxBytes {
		largest := j.largest((*Stream).bytes)
		if largest == nil || !largest.dropOldest() && !largest.dropAll() {
			return
		}
	}
}

// makeRoom deletes one segment that is not a stream's newest, on a full disk. It
// does not go on for as long as somebody else takes the room that was made: all
// that is kept would go, and help nobody.
func (j *Journal) makeRoom() bool {
	r := &j.room
	r.mu.Lock()
	defer r.mu.Unlock()
	now, wrote := time.Now(), j.wrote.Load()
	if wrote-r.wrote < r.freed/2 && now.Sub(r.at).Abs() < j.cfg.Retry {
		return false
	}
	largest := j.largest((*Stream).evictable)
	if largest == nil {
		return false
	}
	before := largest.bytes()
	if !largest.dropOldest() {
		return false
	}
	r.at, r.wrote, r.freed = now, wrote, before-largest.bytes()
	return true
}

// largest finds the stream that has the most of something, nil where all have
// none.
func (j *Journal) largest(of func(*Stream) int64) (largest *Stream) {
	most := int64(0)
	for _, s := range j.all() {
		if n := of(s); n > most {
			most, largest = n, s
		}
	}
	return largest
}

// room is what was made on a full disk.
type room struct {
	mu    sync.Mutex
	at    time.Time
	freed int64
	wrote int64 // so many bytes had been written by then
}

// recount brings what the files take into the journal's sum. mu is held.
func (s *Stream) recount() {
	n := blocks(s.newest.size)
	for _, seg := range s.older {
		n += blocks(seg.size)
	}
	s.j.held.Add(n - s.held)
	s.held = n
}

// bytes is what the files take.
func (s *Stream) bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held
}

// evictable is what the files take that may go on a full disk.
func (s *Stream) evictable() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.held - blocks(s.newest.size)
}

// dropOldest deletes the oldest segment, unless it is the newest as well.
func (s *Stream) dropOldest() bool {
	s.mu.Lock()
	if len(s.older) == 0 {
		s.mu.Unlock()
		return false
	}
	first := s.older[0].first
	s.older = s.older[1:]
	s.recount()
	s.unsynced = slices.DeleteFunc(s.unsynced, func(n uint64) bool { return n == first })
	s.mu.Unlock()
	s.j.removeFile(s.path(first))
	return true
}

// dropAll puts a segment without records in the place of the only one, which
// says what number comes next. Its head is the old one, moved over all that goes.
func (s *Stream) dropAll() bool {
	s.load("")
	s.files.Lock()
	defer s.files.Unlock()
	s.mu.Lock()
	only := s.newest
	empty := len(s.older) > 0 || only.first == 0 || only.first == s.stored
	next := s.stored
	s.mu.Unlock()
	if empty {
		return false
	}
	if err := s.begin(chunk{first: next, last: next - 1, head: s.carried()}); err != nil {
		s.j.cfg.Log.Warn().Err(err).Msg("the journal's oldest segment cannot be replaced")
		return false
	}
	return s.dropOldest()
}

// carried is the head of the newest segment, moved over its records. files is
// held.
func (s *Stream) carried() []byte {
	if s.j.cfg.Carry == nil {
		return nil
	}
	v := s.look()
	i := len(v.segments) - 1
	h, _ := s.header(v.segments[i].first) // of a damaged one the records are left
	return s.fitting(s.j.cfg.Carry(h.head, func(visit func(uint64, []byte) bool) {
		_, err := v.readFile(i, v.segments[i], 0, visit)
		v.complain(err)
	}))
}

// fitting is a head as it may be kept.
func (s *Stream) fitting(head []byte) []byte {
	if len(head) > MaxHead {
		s.j.cfg.Log.Error().Str("stream", filepath.Base(s.dir)).Int("bytes", len(head)).Msg("a head is too long for the journal")
		return nil
	}
	return slices.Clone(head)
}

// remove deletes everything and begins anew.
func (s *Stream) remove() error {
	s.syncing.Lock()
	defer s.syncing.Unlock()
	s.files.Lock()
	defer s.files.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the journal of %q: %w", s.name, err)
	}
	s.j.buffered.Add(-int64(len(s.buf.frames)))
	if !s.retry.IsZero() {
		s.retry = time.Time{}
		s.j.failing.Add(-1)
	}
	s.loaded.Store(true)
	s.id, s.next, s.stored = newID(), 1, 1
	s.older, s.newest, s.marks, s.sealed = nil, segment{}, nil, false
	s.recount()
	s.buf, s.unsynced, s.unnamed = chunk{}, nil, false
	if s.grown != nil { // its readers are at another stream now
		close(s.grown)
		s.grown = nil
	}
	return nil
}
