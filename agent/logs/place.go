package logs

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// A mark is the last line that was taken of one of a container's two streams.
type mark struct {
	at   time.Time // zero = none was
	n    int       // so many lines with that time were, one after the other
	size int       // bytes of the last one, as it was printed
}

// A place is how far the log of a container was taken.
type place struct {
	marks [2]mark   // of stdout and stderr
	peak  time.Time // the latest time of any line
	used  uint64    // seq of the last line; tells which place to forget

	// An earlier run of the agent took the lines: nobody knows what the clock did
	// since. It is not written down.
	stale bool
}

// take moves the place behind a line.
func (p *place) take(k kind, at time.Time, size int, seq uint64) {
	p.used = seq
	if at.IsZero() {
		return // the engine's time could not be read: no line to look for
	}
	m := &p.marks[k]
	if !m.at.Equal(at) {
		m.n = 0
	}
	m.at, m.size = at, size
	m.n++
	if at.After(p.peak) {
		p.peak = at
	}
}

// newest is the time of the last line of either stream.
func (p place) newest() time.Time {
	if p.marks[stderr].at.After(p.marks[stdout].at) {
		return p.marks[stderr].at
	}
	return p.marks[stdout].at
}

// started tells whether any line was taken.
func (p place) started() bool { return !p.newest().IsZero() }

// orderly tells whether times say what is new: they do not where the clock was,
// or may have been, set back since a line was printed.
func (p place) orderly(now time.Time) bool {
	return !p.stale && !p.peak.After(p.newest()) && !p.peak.After(now)
}

// Places are how far the logs of an app's containers were taken.
type places map[source]place

// maxPlaces bounds how many containers are remembered.
const maxPlaces = 64

func (ps places) take(l line, seq uint64) {
	p := ps[l.source]
	p.take(l.kind, l.at, l.size, seq)
	ps[l.source] = p
}

// bound forgets the containers that were heard of the longest ago. Those that are
// still there count as just heard of, however quiet they are.
func (ps places) bound(there map[source]bool) {
	if len(ps) <= maxPlaces {
		return
	}
	now := uint64(0)
	for _, p := range ps {
		now = max(now, p.used)
	}
	for of, p := range ps {
		if there[of] {
			p.used = now
			ps[of] = p
		}
	}
	sources := slices.SortedFunc(maps.Keys(ps), func(a, b source) int { return cmp.Compare(ps[a].used, ps[b].used) })
	for _, of := range sources[:len(ps)-maxPlaces] {
		delete(ps, of)
	}
}

// placesFormat begins what append makes.
const placesFormat = 1

// append writes the places down: each segment of the journal begins with them.
func (ps places) append(b []byte) []byte {
	b = append(b, placesFormat)
	for _, of := range slices.Sorted(maps.Keys(ps)) {
		p := ps[of]
		b = binary.BigEndian.AppendUint64(b, uint64(of))
		b = binary.AppendVarint(b, nanos(p.peak))
		b = binary.AppendUvarint(b, p.used)
		for _, m := range p.marks {
			b = binary.AppendVarint(b, nanos(m.at))
			b = binary.AppendUvarint(b, uint64(m.n))
			b = binary.AppendUvarint(b, uint64(m.size))
		}
	}
	return b
}

// parsePlaces reads what append has written.
func parsePlaces(b []byte) (places, error) {
	ps := places{}
	if len(b) == 0 {
		return ps, nil
	}
	if b[0] != placesFormat {
		return ps, errRecord
	}
	b = b[1:]
	signed := func() (n int64) { n, b = number(binary.Varint, b); return n }
	unsigned := func() (n uint64) { n, b = number(binary.Uvarint, b); return n }
	for len(b) > 0 {
		if len(b) < 8 || len(ps) >= maxPlaces {
			return places{}, errRecord
		}
		of := source(binary.BigEndian.Uint64(b))
		b = b[8:]
		p := place{peak: fromNanos(signed()), used: unsigned()}
		for i := range p.marks {
			p.marks[i] = mark{at: fromNanos(signed()), n: int(unsigned() & maxCount), size: int(unsigned() & maxCount)}
		}
		if b == nil {
			return places{}, errRecord
		}
		ps[of] = p
	}
	return ps, nil
}

const maxCount = 1<<31 - 1

// number reads one of b; nil is left of what does not hold one.
func number[N int64 | uint64](read func([]byte) (N, int), b []byte) (N, []byte) {
	n, size := read(b)
	if size <= 0 {
		return 0, nil
	}
	return n, b[size:len(b):len(b)]
}

// A finder finds the first new line of a container's log that is read again.
//
// Lines are taken in the engine's order, so what was taken is the beginning of a
// log. As long as the clock was never set back, times tell: what is older than
// the last line of its stream was taken, and where a new line comes although no
// line that was taken has been met, the engine has dropped those, and perhaps
// more. Where the clock was set back only the last line itself tells; there scan
// has to look first whether, and where, it is there. By the time that next looks
// for it the engine may have dropped it: it is met later than scan met it, then
// never.
type finder struct {
	place  place
	stamps [2][]byte // the marks' times, as the engine writes them; nil = none
	since  time.Time // the engine was asked for lines from then on; zero = for all
	seen   [2]int    // lines that have the mark's time
	found  [2]bool
	begun  bool // there was a new line
	lost   bool // lines are missing

	scanned bool    // times do not tell
	lines   int     // so many were looked at, by scan or by next …
	end     int     // … when scan met the last mark; 0 = none is there
	met     [2]bool // the marks that scan met
	gone    bool    // that mark is not there any more: all has to begin anew
}

// newFinder begins behind a place. whole says that times do not tell what is new.
func newFinder(p place, now time.Time, whole bool) *finder {
	f := &finder{place: p}
	for k, m := range p.marks {
		if !m.at.IsZero() {
			f.stamps[k] = []byte(m.at.UTC().Format(stamped) + " ")
		}
	}
	if !p.started() {
		f.found = [2]bool{true, true}
		return f
	}
	if whole || !p.orderly(now) {
		return f
	}
	f.since = p.newest().Add(-disorder)
	for i, m := range p.marks {
		f.found[i] = m.at.Before(f.since)
	}
	return f
}

// disorder is how much a line of one stream may come later into the engine's
// file than a line of the other that was printed after it.
const disorder = time.Second

// certain tells whether next may be asked; if not, scan has to be, with all of
// the log, and endScan, before.
func (f *finder) certain() bool { return !f.since.IsZero() || !f.place.started() || f.scanned }

// scan looks at a line for the marks.
func (f *finder) scan(k kind, at time.Time) {
	f.lines++
	if f.matches(k, at) {
		f.end, f.met[k] = f.lines, true
	}
}

func (f *finder) endScan() {
	f.scanned, f.lines, f.seen = true, 0, [2]int{}
	if f.end == 0 {
		f.found, f.lost = [2]bool{true, true}, true
		return
	}
	for k, m := range f.place.marks {
		f.found[k] = m.at.IsZero() // nothing was taken of it
	}
}

// matches counts the lines with a mark's time up to the marked one.
func (f *finder) matches(k kind, at time.Time) bool {
	m := f.place.marks[k]
	if m.at.IsZero() || !at.Equal(m.at) {
		return false
	}
	f.seen[k]++
	return f.seen[k] == m.n
}

// next tells whether a line is new. last is set for the marked one, which ends
// in new text where another line was glued to it (see split).
func (f *finder) next(k kind, at time.Time) (fresh, last bool) {
	f.lines++
	if f.found[k] {
		f.first()
		return true, false
	}
	if f.matches(k, at) {
		// Of a stream, all behind its own mark is new: a line without an end comes
		// late, when the other stream's next lines were there already.
		f.found[k] = true
		if f.scanned && !f.met[1-k] { // that one's mark was dropped
			f.found[1-k] = true
		}
		return false, true
	}
	if f.scanned {
		f.gone = f.lines > f.end
		return false, false
	}
	if at.After(f.place.marks[k].at) {
		f.found[k] = true
		f.first()
		return true, false
	}
	return false, false
}

// over tells that there are no more lines.
func (f *finder) over() {
	f.gone = f.scanned && f.end != 0 && !(f.met[stdout] && f.found[stdout]) && !(f.met[stderr] && f.found[stderr])
}

// first notes that a line is new: if it is the first one, what was taken has to
// have come before.
func (f *finder) first() {
	if !f.begun {
		f.begun = true
		f.lost = f.lost || !f.since.IsZero() && f.seen == [2]int{}
	}
}
