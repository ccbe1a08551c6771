package commands

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"sync"
	"unicode/utf8"

	"reagent/protocol"
)

// What a program prints is kept in frames: the stream, the length, the bytes. A
// frame is a part of the answer too, so that parts have the same numbers for
// everybody who attaches.
const (
	frameHead = 5
	// maxFrame leaves room for what becomes of bytes in a text: three for each
	// that is no UTF-8.
	maxFrame = 16 << 10
	// maxSpare is what is kept in memory when the disk does not take it.
	maxSpare = 256 << 10
)

var streams = [2]string{protocol.StreamStdout, protocol.StreamStderr}

// maxAnswer is how long the output in an answer may be once it is encoded: a
// frame of WAMP stays below 8 MiB.
const maxAnswer = 8<<20 - 64<<10

type frame struct {
	stream int
	data   []byte
}

// An output is what a run prints: written by its program, read by all who are
// attached, from the beginning and each at its own pace.
type output struct {
	most  int // bytes that are kept
	store *store
	id    string

	mu     sync.Mutex // guards what follows
	file   *os.File   // nil = there is none, or it is full
	size   int64      // of the file, in whole frames
	spare  []byte     // frames that the file did not take
	held   int        // bytes that are kept
	seen   [2]uint64  // bytes that were printed
	rest   [2][]byte  // the beginning of a character
	ended  bool
	change chan struct{} // closed when there is more, or the end
}

func newOutput(most int, s *store, id string) *output {
	return &output{most: most, store: s, id: id, change: make(chan struct{})}
}

func (o *output) stdout(part []byte) { o.add(0, part) }
func (o *output) stderr(part []byte) { o.add(1, part) }

// add takes a part of a stream. A character is not cut apart: its beginning waits
// for its end.
func (o *output) add(stream int, part []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.seen[stream] += uint64(len(part))
	if len(o.rest[stream]) > 0 {
		part = append(o.rest[stream], part...)
		o.rest[stream] = nil
	}
	for len(part) > 0 {
		n := whole(part[:min(len(part), maxFrame)])
		if n == 0 {
			o.rest[stream] = append([]byte(nil), part...)
			break
		}
		o.keep(stream, part[:n])
		part = part[n:]
	}
}

// whole is the length of b without the beginning of a character at its end.
func whole(b []byte) int {
	for back := 1; back <= min(len(b), utf8.UTFMax-1); back++ {
		if tail := b[len(b)-back:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return len(b) - back
			}
			break
		}
	}
	return len(b)
}

// keep keeps a part as far as it may. The caller holds mu.
func (o *output) keep(stream int, part []byte) {
	if room := o.most - o.held; len(part) > room {
		part = part[:whole(part[:room])]
		o.most = o.held + len(part) // what comes behind a gap is not kept
	}
	if len(part) == 0 {
		return
	}
	f := make([]byte, frameHead, frameHead+len(part))
	f[0] = byte(stream)
	binary.BigEndian.PutUint32(f[1:], uint32(len(part)))
	f = append(f, part...)
	if !o.write(f) {
		o.most = o.held
		return
	}
	o.held += len(part)
	close(o.change)
	o.change = make(chan struct{})
}

// write brings a frame to the file or, where that does not take it, into memory.
// The caller holds mu.
func (o *output) write(f []byte) bool {
	if !o.store.room(int64(len(f))) {
		return false
	}
	if len(o.spare) == 0 && o.store.outputFits() {
		if o.file == nil && o.size == 0 {
			o.file, _ = os.OpenFile(o.store.outputFile(o.id), os.O_CREATE|os.O_RDWR|os.O_TRUNC, 0o600)
		}
		if o.file != nil {
			if _, err := o.file.WriteAt(f, o.size); err == nil {
				o.size += int64(len(f))
				return true
			}
		}
	}
	if len(o.spare)+len(f) > maxSpare {
		o.store.release(int64(len(f)))
		return false
	}
	o.spare = append(o.spare, f...)
	return true
}

// finish says that nothing comes any more.
func (o *output) finish() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for stream, rest := range o.rest {
		if len(rest) > 0 {
			o.keep(stream, rest)
		}
	}
	if o.file != nil {
		if len(o.spare) == 0 || !o.store.outputFits() {
			_ = o.file.Truncate(o.size) // of a frame that did not fit
		} else { // there is room again; what is read from memory stays there
			_, _ = o.file.WriteAt(o.spare, o.size)
		}
		_ = o.file.Close()
	}
	o.ended = true
	close(o.change)
}

// printed is how much was printed, kept or not.
func (o *output) printed() (stdout, stderr uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.seen[0], o.seen[1]
}

func (o *output) kept() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.held
}

// fit is all output that fits into an answer, once it has ended.
func (o *output) fit(asBase64 bool) (stdout, stderr string, cut bool) {
	r := o.reader()
	defer r.close()
	a := newAnswer(asBase64)
	for !a.cut {
		f, err := r.next(context.Background()) // it has ended: no wait
		if err != nil {
			a.cut = !errors.Is(err, errEnd)
			break
		}
		a.add(f)
	}
	stdout, stderr = a.texts()
	return stdout, stderr, a.cut
}

// An answer collects frames as far as they fit.
type answer struct {
	asBase64 bool
	left     int
	cut      bool // there were more
	kept     [2][]byte
}

func newAnswer(asBase64 bool) *answer { return &answer{asBase64: asBase64, left: maxAnswer} }

// add takes a frame, unless it or one before did not fit.
func (a *answer) add(f frame) {
	if a.asBase64 {
		a.left -= base64.StdEncoding.EncodedLen(len(f.data))
	} else {
		a.left -= protocol.EncodedText(encoded(f.data, false))
	}
	if a.cut = a.cut || a.left < 0; !a.cut {
		a.kept[f.stream] = append(a.kept[f.stream], f.data...)
	}
}

func (a *answer) texts() (stdout, stderr string) {
	return encoded(a.kept[0], a.asBase64), encoded(a.kept[1], a.asBase64)
}

// errEnd is the end of an output.
var errEnd = io.EOF

// A reader reads an output from its beginning.
type reader struct {
	output *output
	file   *os.File
	at     int64
}

func (o *output) reader() *reader { return &reader{output: o} }

func (r *reader) close() {
	if r.file != nil {
		_ = r.file.Close()
	}
}

// next waits for the next frame. At the end it is errEnd.
func (r *reader) next(ctx context.Context) (frame, error) {
	for {
		o := r.output
		o.mu.Lock()
		size, spare, change, ended := o.size, o.spare, o.change, o.ended
		o.mu.Unlock()
		switch {
		case r.at < size:
			if r.file == nil {
				var err error
				if r.file, err = os.Open(o.store.outputFile(o.id)); err != nil {
					return frame{}, err
				}
			}
			f, n, err := readFrame(io.NewSectionReader(r.file, r.at, size-r.at))
			r.at += n
			return f, err
		case r.at < size+int64(len(spare)):
			f, n, err := readFrame(bytes.NewReader(spare[r.at-size:]))
			r.at += n
			return f, err
		case ended:
			return frame{}, errEnd
		}
		select {
		case <-change:
		case <-ctx.Done():
			return frame{}, ctx.Err()
		}
	}
}

// errTorn means that the rest of a file is not what was written there.
var errTorn = errors.New("the kept output is damaged")

// readFrame reads one frame. At the end it is errEnd.
func readFrame(from io.Reader) (f frame, n int64, err error) {
	var head [frameHead]byte
	switch _, err := io.ReadFull(from, head[:]); {
	case err == io.EOF:
		return f, 0, errEnd
	case err != nil:
		return f, 0, errTorn
	}
	length := binary.BigEndian.Uint32(head[1:])
	if head[0] > 1 || length == 0 || length > maxFrame {
		return f, 0, errTorn
	}
	f = frame{int(head[0]), make([]byte, length)}
	if _, err := io.ReadFull(from, f.data); err != nil {
		return f, 0, errTorn
	}
	return f, frameHead + int64(length), nil
}

// bytes is how much of the disk it takes.
func (o *output) bytes() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.size + int64(len(o.spare))
}
