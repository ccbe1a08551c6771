package container

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net/url"
	"strconv"
)

// MaxLine is the length at which a line of a log is cut; the rest of it is
// dropped.
const MaxLine = 1 << 20

// Logs hands over a container's log line by line, in the engine's order and
// from the calling goroutine, without the line's end; stream is "stdout" or
// "stderr" (with a terminal all is "stdout"), line is valid until the function
// returns. With Follow it lasts until the container ends; nil then.
func (e *Engine) Logs(ctx context.Context, id string, o LogOptions, line func(stream string, line []byte)) error {
	return e.stream(ctx, "read log of container", id, func(ctx context.Context, p *peer, w *watchdog) error {
		c, err := p.inspect(ctx, id)
		if err != nil {
			return err
		}
		answer, err := p.get(ctx, "/containers/"+c.ID+"/logs", o.query())
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		w.rest()
		from, size := io.Reader(answer.Body), 4<<10 // one that follows waits for each app, all the time
		if !o.Follow {
			// What is there comes without a pause, but the engine may have to
			// look for its first line in a file of any size.
			w.span = e.cfg.LogIdle
			from, size = watched{from, w}, 32<<10
		}
		body := bufio.NewReaderSize(from, size)
		if c.TTY {
			return readRaw(body, o.splitter("stdout", line))
		}
		return readFrames(body, o, line)
	})
}

func (o LogOptions) query() url.Values {
	q := url.Values{"stdout": {"1"}, "stderr": {"1"}, "tail": {"all"}}
	switch {
	case o.Tail > 0:
		q.Set("tail", strconv.Itoa(o.Tail))
	case o.Tail < 0:
		q.Set("tail", "0")
	}
	if o.Follow {
		q.Set("follow", "1")
	}
	if o.Timestamps {
		q.Set("timestamps", "1")
	}
	if !o.Since.IsZero() {
		q.Set("since", seconds(o.Since))
	}
	if !o.Until.IsZero() {
		q.Set("until", seconds(o.Until))
	}
	return q
}

// A watched reader is given up while it does not give anything for too long. What
// is done between two reads takes as long as it takes.
type watched struct {
	io.Reader
	dog *watchdog
}

func (w watched) Read(b []byte) (int, error) {
	w.dog.touch()
	defer w.dog.rest()
	return w.Reader.Read(b)
}

func (o LogOptions) splitter(stream string, line func(string, []byte)) *splitter {
	return &splitter{stream: stream, stamped: o.Timestamps, running: o.Running, line: line}
}

// readRaw reads the log of a container with a terminal: nothing but its bytes.
func readRaw(r *bufio.Reader, s *splitter) error {
	for {
		part, err := r.ReadSlice('\n')
		s.write(part)
		switch err {
		case nil, bufio.ErrBufferFull:
		case io.EOF:
			s.end()
			return nil
		default:
			return err
		}
	}
}

// readFrames reads the log of a container without a terminal.
func readFrames(r *bufio.Reader, o LogOptions, line func(string, []byte)) error {
	out, err := o.splitter("stdout", line), o.splitter("stderr", line)
	if e := unframe(r, out.write, err.write); e != nil {
		return e
	}
	out.end()
	err.end()
	return nil
}

// unframe takes what comes without a terminal apart: frames of one stream or the
// other, each with a head that says which and how long. What it hands over is
// valid until the function returns.
func unframe(r *bufio.Reader, stdout, stderr func(part []byte)) error {
	for {
		var head [8]byte
		switch _, e := io.ReadFull(r, head[:]); e {
		case nil:
		case io.EOF:
			return nil
		default:
			return e
		}
		length := int(binary.BigEndian.Uint32(head[4:]))
		var to func([]byte)
		switch head[0] {
		case 0, 1:
			to = stdout
		case 2:
			to = stderr
		case 3: // the engine's own error, in the midst of the stream
			text, e := io.ReadAll(io.LimitReader(r, int64(min(length, MaxLine))))
			if e != nil {
				return e
			}
			return fmt.Errorf("%s", bytes.TrimSpace(text))
		default:
			return fmt.Errorf("the engine sent a frame of unknown kind %d", head[0])
		}
		for length > 0 {
			part, e := r.Peek(min(length, max(r.Buffered(), 1)))
			if len(part) == 0 {
				return e
			}
			to(part)
			length -= len(part)
			_, _ = r.Discard(len(part)) // what was peeked can be discarded
		}
	}
}

// A splitter makes lines of what arrives in parts.
type splitter struct {
	stream  string
	stamped bool
	running bool // a last line of full parts may be about to be printed
	line    func(stream string, line []byte)
	pending []byte // the beginning of a line, cut at MaxLine
}

func (s *splitter) write(part []byte) {
	for len(part) > 0 {
		head, tail, whole := bytes.Cut(part, []byte{'\n'})
		if whole && len(s.pending) == 0 { // the common case, without a copy
			s.emit(head)
		} else {
			s.pending = append(s.pending, head[:min(len(head), MaxLine-len(s.pending))]...)
			if whole {
				s.emit(s.pending)
				s.pending = s.pending[:0]
			}
		}
		part = tail
	}
	if cap(s.pending) > 4*partSize && len(s.pending) == 0 {
		s.pending = nil // one huge line must not cost its memory for ever
	}
}

// end hands over a last line that has no end.
func (s *splitter) end() {
	if len(s.pending) > 0 && !(s.running && s.half()) {
		s.emit(s.pending)
	}
	s.pending = nil
}

// half tells whether the engine may hold back the rest of the line: it keeps a
// part when that is full, and the rest when the line ends.
func (s *splitter) half() bool {
	part := partSize
	if s.stamped {
		part += stampSize
	}
	return len(s.pending)%part == 0
}

// emit cuts the carriage return that a terminal adds, and only that one.
func (s *splitter) emit(line []byte) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if s.stamped && len(line) > stampSize+partSize {
		line = joinParts(line)
	}
	s.line(s.stream, line)
}

// The engine keeps a line in parts of partSize and puts the same time before
// each of them.
const (
	partSize  = 16 << 10
	stampSize = len("2006-01-02T15:04:05.000000000Z ")
)

// joinParts takes the times out that stand before all parts but the first.
func joinParts(line []byte) []byte {
	stamp := line[:stampSize]
	joined := bytes.Clone(line[:stampSize+partSize])
	for rest := line[stampSize+partSize:]; len(rest) > 0; {
		rest = bytes.TrimPrefix(rest, stamp)
		part := rest[:min(len(rest), partSize)]
		joined = append(joined, part...)
		rest = rest[len(part):]
	}
	return joined
}
