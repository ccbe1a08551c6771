package router

import (
	"errors"
	"sync"
	"time"

	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
)

// A peer is one session as nexus sees it.
//
//	nexus ── wr ──► pump: gate, encode ──► outbox ──► write ──► wire
//	nexus ◄── rd ── read: gate ◄──────────────────────────────── wire
//
// nexus never waits for it: pump takes whatever comes, at once, until nexus calls
// Close, also when the wire is long dead. What the client is too slow for is
// dropped or ends the session, by the bytes that wait.
type peer struct {
	wire wire
	gate *gate
	cfg  Config

	rd   chan wamp.Message
	wr   chan wamp.Message
	out  *outbox
	over chan struct{} // closed by finish: nothing that the client says counts any more
	left chan struct{} // closed by Close: nexus has let go of the session
	dead chan struct{} // closed by end: the wire is closed

	overOnce, leftOnce, deadOnce sync.Once

	mu       sync.Mutex // guards what follows
	detached bool       // rd is closed, or about to be
	backs    sync.WaitGroup
}

// What nexus may hand over before pump takes it: nexus drops what does not fit, so
// it is generous; pump is never busy for long. Devices are many and are sent
// little at once.
const (
	queue       = 4096
	deviceQueue = 512
)

func newPeer(w wire, g *gate, cfg Config) *peer {
	size := queue
	if g.who.Role == protocol.RoleDevice {
		size = deviceQueue
	}
	return &peer{
		wire: w, gate: g, cfg: cfg,
		rd: make(chan wamp.Message, 1), wr: make(chan wamp.Message, size), out: newOutbox(),
		over: make(chan struct{}), left: make(chan struct{}), dead: make(chan struct{}),
	}
}

func (p *peer) Recv() <-chan wamp.Message { return p.rd }
func (p *peer) Send() chan<- wamp.Message { return p.wr }

// IsLocal is never true: nexus trusts local sessions more than it should, and
// gives them messages that it also gives to others.
func (p *peer) IsLocal() bool { return false }

// Close is how nexus lets go of the session. It may be called from within
// nexus' own loop, so it waits for nothing.
func (p *peer) Close() { p.leftOnce.Do(func() { close(p.left) }) }

// run serves the session until it is over and nothing of it runs any more.
// attach brings it to nexus, or refuses it; either ends with a Close.
func (p *peer) run(attach func()) {
	var work sync.WaitGroup
	work.Go(p.pump)
	work.Go(p.write)
	attach()
	p.read()
	p.detach()
	p.lastWords()
	<-p.left
	work.Wait()
	p.gate.close()
}

// read hands the client's messages to nexus.
func (p *peer) read() {
	for {
		msg, err := p.wire.read()
		if errors.Is(err, errUnreadable) {
			p.violated(err)
			return
		}
		if err != nil {
			p.gate.log.Debug().Err(err).Msg("connection ended")
			p.end()
			return
		}
		if isClosed(p.over) || isClosed(p.left) {
			return
		}
		v := p.gate.admit(msg, p.dead)
		switch {
		case v.broken != nil:
			p.violated(v.broken)
			return
		case v.answer != nil:
			p.push(v.answer)
		}
		if v.forward == nil {
			continue
		}
		select {
		case p.rd <- v.forward:
		case <-p.left:
			return
		case <-p.dead:
			return
		}
	}
}

// detach lets nexus see that the client is gone.
func (p *peer) detach() {
	p.mu.Lock()
	p.detached = true
	p.mu.Unlock()
	p.backs.Wait()
	close(p.rd)
}

// back says something to nexus in the client's name.
func (p *peer) back(msg wamp.Message) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.detached {
		return
	}
	p.backs.Go(func() {
		select {
		case p.rd <- msg:
		case <-p.left:
		case <-p.dead:
		}
	})
}

// lastWords reads on, for nobody, so that the client gets what it is told last:
// closing a connection with unread data would take it away.
func (p *peer) lastWords() {
	for !isClosed(p.dead) {
		if _, err := p.wire.read(); err != nil {
			break
		}
	}
	p.end()
}

// pump takes what nexus sends until nexus lets go.
func (p *peer) pump() {
	var dropped uint64
	for {
		select {
		case msg := <-p.wr:
			dropped += p.pass(msg)
		case <-p.left:
			for {
				select {
				case msg := <-p.wr:
					dropped += p.pass(msg)
					continue
				default:
				}
				break
			}
			if dropped > 0 {
				p.gate.log.Warn().Uint64("dropped", dropped).Msg("session was too slow for its events")
			}
			p.finish()
			return
		}
	}
}

// pass sends one message of nexus on. It returns 1 if it had to drop it.
func (p *peer) pass(msg wamp.Message) (dropped uint64) {
	msg = p.gate.release(msg) // first: it keeps the books
	if msg == nil || isClosed(p.dead) {
		return 0
	}
	if p.out.waiting() > p.cfg.MaxBacklog && droppable(msg) {
		return 1
	}
	p.push(msg)
	return 0
}

// droppable reports whether a slow client can do without a message: one that is
// part of a stream, not the answer to a question.
func droppable(msg wamp.Message) bool {
	switch m := msg.(type) {
	case *wamp.Event:
		return true
	case *wamp.Result:
		progress, _ := m.Details[wamp.OptProgress].(bool)
		return progress
	}
	return false
}

// push puts a message into the outbox.
func (p *peer) push(msg wamp.Message) {
	raw, err := p.wire.encode(msg)
	if err != nil {
		p.gate.log.Error().Err(err).Stringer("type", msg.MessageType()).Msg("message cannot be encoded")
		return
	}
	if size := len(raw); int64(size) > p.cfg.MaxForward {
		instead, back := p.gate.tooLong(msg, size, p.cfg.MaxForward)
		if back != nil {
			p.back(back)
		}
		if instead == nil {
			return
		}
		if raw, err = p.wire.encode(instead); err != nil {
			return
		}
	}
	if p.out.add(raw) > p.cfg.MaxBacklog+p.cfg.MaxForward {
		p.gate.log.Warn().Msg("session reads too slowly; ended")
		p.end()
	}
}

// write writes the outbox to the wire, and between messages asks whether the
// client is there.
func (p *peer) write() {
	defer p.end()
	tick := time.NewTicker(p.cfg.PingInterval)
	defer tick.Stop()
	var heard uint64
	unanswered := 0
	for {
		frame, over := p.out.take()
		if frame != nil {
			if err := p.wire.write(frame); err != nil {
				if !isClosed(p.dead) {
					p.gate.log.Debug().Err(err).Msg("write failed; session ended")
				}
				return
			}
			continue
		}
		if over {
			p.wire.bye()
			select {
			case <-p.dead: // the client has closed too
			case <-time.After(p.cfg.CloseTimeout):
			}
			return
		}
		select {
		case <-p.out.wake:
		case <-p.dead:
			return
		case <-tick.C:
			if now := p.wire.heard(); now != heard {
				heard, unanswered = now, 0
			}
			if unanswered == 2 {
				p.gate.log.Info().Msg("client answers no keepalive; session ended")
				return
			}
			if p.wire.ping() {
				unanswered++
			}
		}
	}
}

// alive asks the client for a sign of life.
func (p *peer) alive(within time.Duration) bool {
	before := p.wire.heard()
	p.wire.ping()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	look := time.NewTicker(min(within/20+1, 20*time.Millisecond))
	defer look.Stop()
	for {
		select {
		case <-look.C:
			if p.wire.heard() != before {
				return true
			}
		case <-p.dead:
			return false
		case <-deadline.C:
			return p.wire.heard() != before
		}
	}
}

// expel ends the session and tells the client why.
func (p *peer) expel(reason wamp.URI, text string) {
	p.gate.log.Info().Str("reason", text).Msg("session ended by the studio")
	p.push(&wamp.Goodbye{Reason: reason, Details: wamp.Dict{wamp.OptMessage: text}})
	p.finish()
}

// violated ends the session of a client that does not speak WAMP.
func (p *peer) violated(err error) {
	p.gate.log.Warn().Err(err).Msg("client does not speak WAMP; session ended")
	p.push(&wamp.Abort{Reason: wamp.ErrProtocolViolation, Details: wamp.Dict{wamp.OptMessage: err.Error()}})
	p.finish()
}

// refuse is an attach that does not.
func (p *peer) refuse(reason wamp.URI, text string) {
	p.push(&wamp.Abort{Reason: reason, Details: wamp.Dict{wamp.OptMessage: text}})
	p.Close()
}

// finish lets the client read what is in the outbox, for a moment, and ends the
// session.
func (p *peer) finish() {
	p.overOnce.Do(func() {
		close(p.over)
		p.out.finish()
		time.AfterFunc(p.cfg.CloseTimeout, p.end)
	})
}

// end closes the wire.
func (p *peer) end() {
	p.deadOnce.Do(func() {
		close(p.dead)
		p.wire.close()
	})
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A wire carries whole messages. read is used by one goroutine, write and bye by
// another; the rest by any.
type wire interface {
	read() (wamp.Message, error)
	encode(wamp.Message) ([]byte, error)
	write(frame []byte) error
	// ping asks the other side for a sign of life and reports whether one may be
	// expected; heard changes with each.
	ping() bool
	heard() uint64
	bye()   // says that nothing more will be written
	close() // ends read and write, at once
}

var errClosed = errors.New("the connection is closed")
