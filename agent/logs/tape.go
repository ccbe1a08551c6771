package logs

import (
	"context"
	"iter"
	"sync"
	"time"

	"reagent/container"
	"reagent/internal/backoff"
	"reagent/persistence/journal"
	"reagent/protocol"
)

// A tape is the log of one app as it is kept: its stream of the journal, and how
// far the logs of its containers were taken into that.
type tape struct {
	stream *journal.Stream

	mu     sync.Mutex      // one line at a time; taken before Logs.mu, never inside
	places places          // nil = not read yet
	there  map[source]bool // containers that the engine has
	buf    []byte          // of the record that is being made

	securing sync.Mutex
	secured  time.Time // when that was done last
	safe     uint64    // numbers below it survive a power cut
}

// write appends a line. t.mu is held.
func (t *tape) write(l line) (seq uint64) {
	t.load()
	t.places.bound(t.there)
	t.buf = l.append(t.buf[:0])
	seq = t.stream.AppendAfter(t.head, t.buf)
	if cap(t.buf) > keepBuffer {
		t.buf = nil // one huge line must not cost its memory for ever
	}
	if l.kind.printed() {
		t.places.take(l, seq)
	}
	return seq
}

const keepBuffer = 4 << 10

// head is what a segment begins with: the places before its first record.
func (t *tape) head() []byte { return t.places.append(nil) }

// keep says which containers must not be forgotten.
func (t *tape) keep(sources []container.LogSource) {
	there := make(map[source]bool, len(sources))
	for _, s := range sources {
		there[sourceOf(s.ID)] = true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.there = there
}

// load finds the places again: those that the newest segment begins with, moved
// by what is in it.
func (t *tape) load() {
	if t.places != nil {
		return
	}
	head, first := t.stream.Head()
	t.places = placesAfter(head, func(visit func(uint64, []byte) bool) {
		_ = t.stream.Read(first, visit) // what cannot be read is stored once more
	})
	for of, p := range t.places {
		p.stale = true
		t.places[of] = p
	}
}

// placesAfter are the places behind a head and the records that follow it.
func placesAfter(head []byte, records iter.Seq2[uint64, []byte]) places {
	ps, err := parsePlaces(head)
	if err != nil {
		ps = places{} // what the containers still have is stored once more
	}
	for seq, record := range records {
		l, _, err := parseHead(record)
		if err == nil && l.kind.printed() {
			ps.take(l, seq)
		}
	}
	return ps
}

// Carry is for the Config of the journal that a Logs writes: how far a log was
// taken is known for longer than its lines are kept.
func Carry(head []byte, records iter.Seq2[uint64, []byte]) []byte {
	ps := placesAfter(head, records)
	ps.bound(nil)
	return ps.append(nil)
}

// proved notes that all lines of a container were taken so far, whatever their
// times are.
func (t *tape) proved(of source) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if p, is := t.places[of]; is {
		p.stale = false
		t.places[of] = p
	}
}

// place tells how far a container's log was taken.
func (t *tape) place(of source) place {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.load()
	return t.places[of]
}

// secure sees to it that all lines so far survive a power cut, and tells the
// number behind them: nobody must be shown a number that could mean another line
// one day. It writes at most once in a while, for all who ask.
func (t *tape) secure(ctx context.Context, pause time.Duration) (next uint64, err error) {
	t.securing.Lock()
	defer t.securing.Unlock()
	if _, next = t.stream.Bounds(); next == t.safe {
		return next, nil
	}
	if wait := pause - time.Since(t.secured); wait > 0 {
		if err := backoff.Sleep(ctx, wait); err != nil {
			return 0, err
		}
	}
	_, next = t.stream.Bounds()
	err = t.stream.Flush(true)
	t.secured = time.Now()
	if err == nil {
		t.safe = next
	}
	return next, err
}

// read hands over the lines from a number on, up to but without end. A jump of
// numbers, also before the first or after the last, means that lines are gone.
func (t *tape) read(from, end uint64, visit func(seq uint64, l line) bool) error {
	return t.stream.Read(from, func(seq uint64, record []byte) bool {
		if seq >= end {
			return false
		}
		l, err := parseLine(record)
		return err != nil || visit(seq, l)
	})
}

// back hands over the lines below a number, the newest first; 0 = all.
func (t *tape) back(before uint64, visit func(seq uint64, l line) bool) error {
	if before == 0 {
		_, before = t.stream.Bounds()
	}
	return t.stream.ReadBack(before, func(seq uint64, record []byte) bool {
		l, err := parseLine(record)
		return err != nil || visit(seq, l)
	})
}

// next is the number of the next line.
func (t *tape) next() uint64 {
	_, next := t.stream.Bounds()
	return next
}

// wire is the line as the procedures of our own tell it.
func (l line) wire(seq uint64) protocol.LogLine {
	w := protocol.LogLine{Seq: seq, Stream: kindNames[l.kind], Service: l.service, Text: l.text, Cut: l.cut}
	if !l.at.IsZero() {
		w.Time = l.at.UTC().Format(time.RFC3339Nano)
	}
	return w
}
