package journal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// A view is what a stream holds at one moment. Nothing in it changes any more,
// but a file may be gone when its turn comes.
type view struct {
	s        *Stream
	segments []segment // the newest is the last
	marks    []mark    // of the newest
	stored   uint64
	next     uint64
	chunks   [2]chunk
}

func (s *Stream) look() view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := view{s: s, segments: s.older, marks: s.marks, stored: s.stored, next: s.next, chunks: [2]chunk{s.writing, s.buf}}
	if s.writing.last < s.stored { // it is in its file by now
		v.chunks[0] = chunk{}
	}
	if s.newest.first != 0 {
		v.segments = append(s.older[:len(s.older):len(s.older)], s.newest)
	}
	return v
}

// limit is the number with which what follows a segment begins.
func (v view) limit(i int) uint64 {
	if i+1 < len(v.segments) {
		return v.segments[i+1].first
	}
	return v.stored
}

// Read visits the records with numbers from from on, in their order, those
// included that are in no file yet, until visit returns false. A jump of
// numbers is records that were evicted, damaged or lost. The record is good
// until visit returns. An error says that this could not be read now; damage is
// no error.
func (s *Stream) Read(from uint64, visit func(seq uint64, record []byte) bool) error {
	v := s.look()
	for i, seg := range v.segments {
		if v.limit(i) <= from {
			continue
		}
		if goOn, err := v.readFile(i, seg, from, visit); err != nil || !goOn {
			return err
		}
	}
	for _, c := range v.chunks {
		if len(c.frames) > 0 && !each(scanMemory(c.frames, 0, c.first, v.next), from, visit) {
			return nil
		}
	}
	return nil
}

// each visits what a scanner finds.
func each(sc *scanner, from uint64, visit func(seq uint64, record []byte) bool) (goOn bool) {
	for {
		seq, record, ok := sc.next()
		if !ok {
			return true
		}
		if seq >= from && !visit(seq, record) {
			return false
		}
	}
}

func (v view) readFile(i int, seg segment, from uint64, visit func(seq uint64, record []byte) bool) (goOn bool, err error) {
	f, err := v.open(seg)
	if f == nil {
		return true, err
	}
	defer f.Close()
	at := v.begin(i, f)
	if i == len(v.segments)-1 {
		for _, m := range v.marks {
			if m.seq <= from {
				at = m
			}
		}
	}
	sc := scan(io.NewSectionReader(f, at.off, seg.size-at.off), at.off, at.seq, v.limit(i))
	goOn = each(sc, from, visit)
	v.complain(sc.err)
	return goOn, nil
}

// open opens a segment's file; nil when it was evicted meanwhile.
func (v view) open(seg segment) (*os.File, error) {
	f, err := os.Open(v.s.path(seg.first))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the journal of %q: %w", v.s.Name(), err)
	}
	return f, nil
}

// begin tells where the frames of a segment begin. Behind a damaged header they
// are looked for from the front.
func (v view) begin(i int, f *os.File) mark {
	if i == len(v.segments)-1 && len(v.marks) > 0 {
		return v.marks[0]
	}
	_, start, err := readHeader(f)
	if err != nil {
		start = 0
	}
	return mark{v.segments[i].first, start}
}

// complain logs that a part of a file cannot be read: for readers it is lost as
// if it were damaged.
func (v view) complain(err error) {
	if err != nil {
		v.s.j.cfg.Log.Warn().Err(err).Str("stream", v.s.Name()).Msg("a file of the journal cannot be read to its end")
	}
}

// ReadBack is Read in the opposite order: the newest record first that has a
// number smaller than before.
func (s *Stream) ReadBack(before uint64, visit func(seq uint64, record []byte) bool) error {
	v := s.look()
	for i := len(v.chunks) - 1; i >= 0; i-- {
		c := v.chunks[i]
		if len(c.frames) > 0 && !eachBack(scanMemory(c.frames, 0, c.first, v.next), before, visit) {
			return nil
		}
	}
	for i := len(v.segments) - 1; i >= 0; i-- {
		if v.segments[i].first >= before {
			continue
		}
		if goOn, err := v.readFileBack(i, before, visit); err != nil || !goOn {
			return err
		}
	}
	return nil
}

// eachBack visits what a scanner of memory finds, from its end.
func eachBack(sc *scanner, before uint64, visit func(seq uint64, record []byte) bool) (goOn bool) {
	type frame struct {
		seq    uint64
		record []byte
	}
	var frames []frame
	for {
		seq, record, ok := sc.next()
		if !ok || seq >= before {
			break
		}
		frames = append(frames, frame{seq, record})
	}
	for i := len(frames) - 1; i >= 0; i-- {
		if !visit(frames[i].seq, frames[i].record) {
			return false
		}
	}
	return true
}

// readFileBack reads a segment piece by piece, from its end. Where the pieces
// begin the marks know, or a first pass over the file.
func (v view) readFileBack(i int, before uint64, visit func(seq uint64, record []byte) bool) (goOn bool, err error) {
	seg := v.segments[i]
	f, err := v.open(seg)
	if f == nil {
		return true, err
	}
	defer f.Close()
	marks := v.marks
	if i < len(v.segments)-1 || len(marks) == 0 {
		var sc *scanner
		sc, marks = survey(f, v.begin(i, f), seg.size, v.limit(i))
		v.complain(sc.err)
	}
	end := seg.size
	for k := len(marks) - 1; k >= 0; k-- {
		m := marks[k]
		if m.seq < before && end > m.off {
			piece := make([]byte, end-m.off)
			n, err := f.ReadAt(piece, m.off)
			if err != nil && err != io.EOF {
				v.complain(err)
			}
			if !eachBack(scanMemory(piece[:n], m.off, m.seq, v.limit(i)), before, visit) {
				return false, nil
			}
		}
		end = m.off
	}
	return true, nil
}

// survey passes over a segment and marks places in it.
func survey(f io.ReaderAt, begin mark, size int64, limit uint64) (*scanner, []mark) {
	sc := scan(io.NewSectionReader(f, begin.off, size-begin.off), begin.off, begin.seq, limit)
	marks := []mark{begin}
	for {
		at := sc.good
		seq, _, ok := sc.next()
		if !ok {
			return sc, marks
		}
		if at-marks[len(marks)-1].off >= window {
			marks = append(marks, mark{seq, at})
		}
	}
}
