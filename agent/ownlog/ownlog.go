// Package ownlog reads the agent's own log back, for people who cannot log in to
// the device.
//
// The log is a file with a JSON object a line, and beside it the files that
// rotation left, with the time of it in their names. Lines that are no such
// object, such as a panic of the runtime or the torn last line before a power
// cut, belong to the line before them.
//
// Promises:
//
//   - Any number of callers at once; one reads, the others wait for as long as
//     their context lets them.
//   - Files are read from their end, and no further than the question reaches.
//     Memory is bounded by the answer's own bound, whatever the files hold.
//   - Nothing is written, and no file but these is read.
package ownlog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"reagent/protocol"
)

// Config says where the log is. A zero stands for the product's value.
type Config struct {
	Path  string        // "" = there is no file
	Limit time.Duration // of answering one question; 30 s
}

// A Log is the agent's own log. Make it with New.
type Log struct {
	cfg     Config
	reading chan struct{} // has an element while somebody reads
}

// New makes the log that lies at a path. Nothing is read before Query.
func New(cfg Config) *Log {
	if cfg.Limit == 0 {
		cfg.Limit = 30 * time.Second
	}
	return &Log{cfg: cfg, reading: make(chan struct{}, 1)}
}

// Query answers query_device_logs of the contract (wire §5.7).
func (l *Log) Query(ctx context.Context, q protocol.QueryDeviceLogsArgs) (protocol.DeviceLogsAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.Limit)
	defer cancel()
	select {
	case l.reading <- struct{}{}:
		defer func() { <-l.reading }()
	case <-ctx.Done():
		return protocol.DeviceLogsAnswer{}, fmt.Errorf("read the agent's log: somebody else reads it: %w", ctx.Err())
	}
	files, err := open(l.cfg.Path)
	if err != nil {
		return protocol.DeviceLogsAnswer{}, fmt.Errorf("read the agent's log: %w", err)
	}
	defer files.close()
	s := search{q: q}
	scanned, err := s.files(ctx, files)
	if err != nil {
		return protocol.DeviceLogsAnswer{}, fmt.Errorf("read the agent's log: %w", err)
	}
	slices.Reverse(s.lines)
	answer := protocol.DeviceLogsAnswer{
		Lines: s.lines, Returned: len(s.lines), Truncated: s.truncated, FilesScanned: scanned,
		DeviceTime: protocol.DeviceTime(time.Now()),
	}
	if at := files.oldest(); !at.IsZero() {
		answer.OldestAvailable = protocol.DeviceTime(at)
	}
	if len(files) == 0 {
		answer.Hint = "this agent writes no log file; name one with -logFile, or read its console"
	}
	return answer, nil
}

// A search gathers the lines that a question is about, the newest first.
type search struct {
	q         protocol.QueryDeviceLogsArgs
	lines     []string
	size      int  // of lines, as they are encoded
	truncated bool // there are older ones

	pending []string // no records; they belong to the record that comes next
	waiting int      // bytes of these, as they are encoded
	lost    bool     // some of these did not fit
	over    bool     // nothing older is asked for
}

// files searches all files, the newest first, and counts those that it looked into.
func (s *search) files(ctx context.Context, files files) (scanned int, err error) {
	for _, f := range files {
		scanned++
		for b := newBackwards(f); !s.over; {
			raw, cut, err := b.next()
			if err == io.EOF {
				break
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				return scanned, err
			}
			s.line(raw, cut)
		}
		if s.over {
			return scanned, nil
		}
	}
	if s.q.Since.IsZero() { // nothing tells when these were written
		s.record(record{severity: severities["info"]}, nil)
	}
	return scanned, nil
}

// line takes in one line of a file.
func (s *search) line(raw []byte, cut int) {
	if len(raw) == 0 {
		return
	}
	if r, ok := skim(raw); ok && cut == 0 && s.outside(r) {
		s.record(r, nil)
		return
	}
	if r, ok := parse(raw); ok && cut == 0 {
		s.record(r, r.text)
		return
	}
	text := clean(raw, cut)
	size := protocol.EncodedText(text) + 1
	if len(s.lines)+len(s.pending) > s.q.Tail || s.waiting+size > protocol.MaxLogAnswer {
		s.lost = true
		return
	}
	s.pending, s.waiting = append(s.pending, text), s.waiting+size
}

// outside reports whether a record is not asked for.
func (s *search) outside(r record) bool {
	return r.severity < severities[s.q.Level] ||
		!s.q.Since.IsZero() && r.at.Before(s.q.Since) || !s.q.Until.IsZero() && r.at.After(s.q.Until)
}

// record takes in a record, and with it the lines that belong to it; text is nil
// where it does not matter, and for the one that is missing before a log's first
// line.
func (s *search) record(r record, text func() string) {
	lines, lost := s.pending, s.lost
	s.pending, s.waiting, s.lost = nil, 0, false
	if s.outside(r) {
		// A device without a battery begins in the past, and then its clock is set:
		// that is not yet where the window begins.
		s.over = r.at.Before(s.q.Since) && r.at.After(clockIsSet)
		return
	}
	for _, line := range lines {
		s.take(line)
	}
	if lost {
		s.over, s.truncated = true, true
	}
	if text != nil {
		s.take(text())
	}
}

// take adds a line to the answer, or tells that there is one that does not fit.
func (s *search) take(line string) {
	size := s.size + protocol.EncodedText(line) + 1
	if s.over || len(s.lines) >= s.q.Tail || size > protocol.MaxLogAnswer {
		s.over, s.truncated = true, true
		return
	}
	s.lines, s.size = append(s.lines, line), size
}

// clockIsSet is a time before which no agent ran: an earlier one was told by a
// clock that nobody had set.
var clockIsSet = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// files are the log's files, the newest first.
type files []*os.File

func (list files) close() {
	for _, f := range list {
		_ = f.Close()
	}
}

// open opens the log's files. None is no error, and one that rotation takes away
// meanwhile is left out.
func open(path string) (list files, err error) {
	defer func() {
		if err != nil {
			list.close()
		}
	}()
	if path == "" {
		return nil, nil
	}
	var seen []fs.FileInfo
	add := func(path string) error {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular() {
			return nil
		}
		if err != nil {
			return err
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		list = append(list, f)
		if info, err = f.Stat(); err != nil {
			return err
		}
		if slices.ContainsFunc(seen, func(s fs.FileInfo) bool { return os.SameFile(s, info) }) {
			list = list[:len(list)-1] // it was rotated between the two looks
			return f.Close()
		}
		seen = append(seen, info)
		return nil
	}
	if err := add(path); err != nil {
		return list, err
	}
	older, err := rotated(path)
	if err != nil {
		return list, err
	}
	for _, path := range older {
		if err := add(path); err != nil {
			return list, err
		}
	}
	return list, nil
}

// oldest is the time of the oldest record, as far as the beginnings of the files
// tell; zero = unknown.
func (list files) oldest() time.Time {
	head := make([]byte, blockSize)
	for _, f := range slices.Backward(list) {
		n, err := f.ReadAt(head, 0)
		if err != nil && err != io.EOF {
			continue
		}
		if at := firstTime(head[:n]); !at.IsZero() {
			return at
		}
	}
	return time.Time{}
}
