package terminal

import (
	"sync"
	"unicode/utf8"

	"reagent/protocol"
)

// Bounds of what a session keeps of its output.
const (
	window  = protocol.TerminalWindow // unsent while there is a connection, or beyond what a client has processed
	history = 256 << 10               // kept at all, for clients that ask again
	offline = 1 << 20                 // kept without a connection
	ending  = 2 << 20                 // kept of a shell that has ended: what the kernel had of its output, too
)

// An output is what a shell printed and what was sent of it. Positions count the
// bytes from the beginning of the session.
//
//	0 ─────── start ──── received ──── next ──── end
//	forgotten │ kept, for a client that asks again │ not sent yet
//
// The reader of the shell writes and waits for room; the publisher takes what is
// due, one event at a time, and says what became of it.
type output struct {
	text bool // positions to cut at are those between characters

	mu         sync.Mutex // guards what follows
	changed    *sync.Cond
	kept       ring
	start, end uint64
	next       uint64
	lost       uint64 // bytes that were forgotten before they were sent, and nobody was told yet
	flow       bool   // the client says what it has received
	received   uint64
	gone       bool   // the client asked for what is forgotten, and was not told yet
	young      bool   // a client may not be there yet
	held       bool   // nothing is sent before the session was started
	away       bool   // there is no connection
	epoch      uint64 // counts connections and the clients' questions: what was sent in another one may be lost
	draining   bool   // the shell has ended: what is left does not wait for room
	over       bool   // nothing will be written any more
	eof        bool   // … and that was sent
	closed     bool   // nobody sends any more
}

// An event is what the publisher is to send next. One of data, lost and eof is
// set.
type event struct {
	data  []byte
	at    uint64 // position of the first byte; of eof, the end
	lost  uint64
	eof   bool
	flow  bool
	gone  bool   // it answers a client that asked for what is forgotten …
	kept  uint64 // … and this is the oldest that is not
	epoch uint64
}

func newOutput(text, held bool) *output {
	o := &output{text: text, held: held}
	o.changed = sync.NewCond(&o.mu)
	return o
}

// write appends what the shell printed, as soon as there is room for it.
func (o *output) write(p []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for o.full() {
		o.changed.Wait()
	}
	if o.closed {
		return
	}
	o.end += uint64(len(p))
	o.forget()
	o.kept.add(p)
	o.changed.Broadcast()
}

func (o *output) full() bool {
	return !o.closed && !o.draining && (o.flow || !o.away) && o.end-o.unsure() >= window
}

// unsure is the position from which on nothing must be forgotten yet.
func (o *output) unsure() uint64 {
	if o.flow {
		return min(o.received, o.next)
	}
	return o.next
}

// forget drops what is too much: of what was taken soon, of the rest late.
func (o *output) forget() {
	most := uint64(offline)
	if o.draining {
		most = ending
	}
	oldest := o.end - min(o.end, history)
	oldest = min(oldest, max(o.unsure(), o.start))
	oldest = max(oldest, o.end-min(o.end, most), o.start)
	o.kept.drop(int(oldest - o.start)) // never more than there is: a piece is shorter than the history
	o.start = oldest
	if o.next < o.start {
		o.lost += o.start - o.next
		o.next = o.start
	}
	o.received = min(o.received, o.next)
}

// take waits for something to send, of at most so many bytes (with flow control:
// flowing). ok is false when nothing will be sent any more.
func (o *output) take(most, flowing int) (e event, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for {
		if o.closed || o.eof && !o.flow && !o.young {
			return event{}, false
		}
		limit := most
		if o.flow {
			limit = flowing
		}
		if e, ok := o.due(limit); ok {
			return e, true
		}
		o.changed.Wait()
	}
}

func (o *output) due(most int) (event, bool) {
	e := event{at: o.next, flow: o.flow, gone: o.flow && o.gone, kept: o.start, epoch: o.epoch}
	if o.held || o.away {
		return e, false
	}
	if o.flow { // the gap between the positions tells it
		o.lost = 0
	}
	if o.lost > 0 {
		e.lost = o.lost
		return e, true
	}
	if n := min(o.end-o.next, uint64(most), o.allowed()); n > 0 {
		e.data = o.chunk(int(n))
		e.at = o.next
		if len(e.data) > 0 {
			return e, true
		}
	}
	if e.eof = o.over && !o.eof && o.next == o.end; e.eof {
		return e, true
	}
	return e, false
}

// allowed is how much a client with flow control may be sent.
func (o *output) allowed() uint64 {
	if !o.flow {
		return o.end
	}
	return o.received + window - min(o.received+window, o.next)
}

// chunk copies the next n bytes, or less: a text is cut between characters.
func (o *output) chunk(n int) []byte {
	from := int(o.next - o.start)
	if o.text {
		for n > 0 && !utf8.RuneStart(o.kept.at(from)) { // its beginning was forgotten, or not asked for
			from, n = from+1, n-1
			o.next++
		}
		whole := n
		for whole > 0 && from+whole < o.kept.n && !utf8.RuneStart(o.kept.at(from+whole)) {
			whole--
		}
		n = whole
	}
	p := make([]byte, n)
	o.kept.copy(p, from)
	if string(p) == protocol.TerminalEOF { // printed by a program; in two events it is no end
		p = p[:n-1]
	}
	return p
}

// sent says that an event is with the router.
func (o *output) sent(e event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case e.lost > 0:
		o.lost -= min(o.lost, e.lost)
	case o.epoch != e.epoch && (e.flow || o.flow): // perhaps before somebody asked for it; else it was acknowledged
	case e.at > o.next: // somebody has asked for what is before it
	case e.eof:
		o.eof, o.gone = true, false
	default:
		after := e.at + uint64(len(e.data))
		// What was forgotten of it while it was under way is not lost.
		o.lost -= min(o.lost, min(o.next, after)-e.at)
		o.next = max(o.next, after)
		o.gone = false
	}
	o.forget()
	o.kept.shrink(2 * history)
	o.changed.Broadcast()
}

// cut says that there is no connection, if an event could not be sent on the one
// that it was taken for.
func (o *output) cut(epoch uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.epoch == epoch {
		o.away = true
		o.changed.Broadcast()
	}
}

// connected says that there is a new connection. What was sent on the old one
// without an acknowledgement may be lost.
func (o *output) connected() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.epoch++
	o.away = false
	if o.flow {
		o.next = max(o.received, o.start)
	}
	o.changed.Broadcast()
}

// hear is told what a client says of its flow control.
func (o *output) hear(f protocol.TerminalFlow) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if f.Release {
		o.young = false
		o.plain()
		return
	}
	switch told := min(f.Received, o.next); {
	case f.Resume:
		if f.Tail > 0 {
			told = max(told, o.next-min(o.next, f.Tail))
		}
		o.received, o.gone = max(told, o.start), told < o.start
		o.next, o.eof = o.received, false
		o.epoch++
	case !o.flow:
		o.received = max(told, o.start)
	default:
		o.received = max(o.received, told)
	}
	o.flow = true
	o.changed.Broadcast()
}

// release ends the flow control of whoever was there.
func (o *output) release() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.plain()
}

func (o *output) plain() {
	o.flow = false
	o.forget()
	o.changed.Broadcast()
}

// told says that the end was sent, or that there is nobody to send it to: a session
// that was not started before its end never is.
func (o *output) told() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.eof || o.held
}

// begin lets what was printed out.
func (o *output) begin() { o.turn(&o.held, false) }

// age says that whoever wanted to see this from the beginning is there.
func (o *output) age() { o.turn(&o.young, false) }

// drain says that the shell has ended: what is still to be read is not much.
func (o *output) drain() { o.turn(&o.draining, true) }

// finish says that nothing will be written any more.
func (o *output) finish() { o.turn(&o.over, true) }

// close sets everybody free.
func (o *output) close() { o.turn(&o.closed, true) }

func (o *output) turn(what *bool, to bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	*what = to
	o.changed.Broadcast()
}
