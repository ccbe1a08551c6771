package messenger

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/gammazero/nexus/v3/wamp"
	"github.com/rs/zerolog"

	"reagent/protocol"
)

// A guard is the wamp.Peer that nexus' client gets. It stands between the client
// and the wire because the client trusts its router, and a device must not:
//
//	                     ┌──────────────── guard ────────────────┐
//	client.run ◄── rd ───┤ receive: one answer per question,     │◄── wire.read
//	                     │   no pass-through payloads, no repeats │
//	client calls ─ wr ──►┤ send: never blocks on a dead link,     ├──► wire.write
//	                     │   an answer that cannot be sent is an  │
//	                     │   error, questions get a time limit    │
//	                     └────────────────────────────────────────┘
//
// What the client would do without it:
//   - It hands each answer to the goroutine that asked and waits until that has
//     taken it. A second answer to one question, or one that arrives in the
//     instant in which the asker gives up, stops the client for ever. So each
//     question is noted on its way out, exactly one final answer is let in, and
//     the guard gives up questions itself, by answering them with an error, in
//     an order with the router's messages that everybody agrees on (deliver).
//   - It panics on payloads in pass-through mode that are not what they say, and
//     waits for ever on a second INVOCATION with a number that is in use.
//   - It forgets why it was refused.
//   - It sends to a peer whose writer is gone: it blocks, or panics.
//   - Having cancelled a call, it waits for an ERROR and for nothing else, even
//     when the connection has ended. It does not learn of a call's context; the
//     guard gives calls up (giveUp).
//   - An INVOCATION or EVENT that follows its REGISTERED or SUBSCRIBED at once
//     finds no handler; it is held back here for the moment it takes (settle).
type guard struct {
	wire    wire
	log     zerolog.Logger
	respond time.Duration // how long a question may stay unanswered; calls have their own deadlines

	rd       chan wamp.Message
	wr       chan wamp.Message
	dead     chan struct{} // closed by kill: the wire is of no use any more
	released chan struct{} // closed by Close: nobody will send again
	reader   chan struct{} // closed when nothing will be received any more
	tasks    sync.WaitGroup

	// deliver is held while a message is judged and handed to the client, so
	// that an answer of the guard's own cannot overtake one that has passed.
	deliver sync.Mutex

	mu       sync.Mutex // guards what follows
	killed   bool
	cause    error
	farewell *refusal // the last ABORT or GOODBYE of the router
	joined   bool
	leaving  bool // nothing is asked any more
	asked    map[wamp.ID]*ticket
	lastCall wamp.ID                       // newest INVOCATION
	settling map[settlement]chan struct{}  // answered, but the client has no handler yet
	odd      map[wamp.MessageType]struct{} // kinds of messages already complained about
}

type settlement struct {
	kind wamp.MessageType // REGISTERED or SUBSCRIBED
	id   wamp.ID
}

// A ticket accompanies one question from the link that asks through the client
// to the guard and brings back what the client would lose: the answer as it was.
// It travels in the options of the message and is taken out here.
type ticket struct {
	kind     wamp.MessageType // of the question
	id       wamp.ID
	progress bool // a call that wants parts of its answer ahead
	timer    *time.Timer
	final    wamp.Message // the final answer that was let in
	err      error        // why the guard itself answered
	given    error        // why nobody waits for the answer any more
}

// ticketKey is the option that carries a ticket. It never leaves the process.
const ticketKey = "\x00ticket"

// options makes the options of a message that carries t.
func (t *ticket) options(options map[string]any) wamp.Dict {
	d := make(wamp.Dict, len(options)+1)
	for k, v := range options {
		d[k] = v
	}
	d[ticketKey] = t
	return d
}

func takeTicket(options wamp.Dict) *ticket {
	t, ok := options[ticketKey].(*ticket)
	if !ok {
		return &ticket{}
	}
	delete(options, ticketKey)
	return t
}

var (
	errNoAnswer  = errors.New("the router does not answer")
	errAbandoned = errors.New("the connection ends")
	errLeft      = errors.New("the session was left")
	errSilent    = errors.New("the router answers no keepalive")
)

// newGuard starts to read from and write to w. Close ends it.
func newGuard(w wire, respond, ping time.Duration, log zerolog.Logger) *guard {
	g := &guard{
		wire:     w,
		log:      log,
		respond:  respond,
		rd:       make(chan wamp.Message),
		wr:       make(chan wamp.Message),
		dead:     make(chan struct{}),
		released: make(chan struct{}),
		reader:   make(chan struct{}),
		asked:    map[wamp.ID]*ticket{},
		settling: map[settlement]chan struct{}{},
		odd:      map[wamp.MessageType]struct{}{},
	}
	go g.readLoop()
	g.tasks.Go(g.writeLoop)
	if p, ok := w.(pinger); ok && ping > 0 {
		g.tasks.Go(func() { g.keepAlive(p, ping) })
	}
	return g
}

func (g *guard) Recv() <-chan wamp.Message { return g.rd }
func (g *guard) Send() chan<- wamp.Message { return g.wr }
func (g *guard) IsLocal() bool             { return false }

// Close takes leave of the other side and waits until nothing of the guard runs.
// Nothing may be sent afterwards.
func (g *guard) Close() {
	g.mu.Lock()
	first := !isClosed(g.released)
	if first {
		close(g.released)
	}
	g.mu.Unlock()
	if first {
		g.kill(errLeft)
	}
	<-g.reader
	g.tasks.Wait()
}

// kill ends the wire. Messages that are still sent are thrown away until Close.
func (g *guard) kill(cause error) {
	g.mu.Lock()
	if g.killed {
		g.mu.Unlock()
		return
	}
	g.killed, g.cause = true, cause
	for _, t := range g.asked {
		t.stop()
	}
	close(g.dead)
	g.mu.Unlock()
	g.wire.close(cause == errLeft)
}

// ended says why the link ended, in words for people.
func (g *guard) ended() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.farewell != nil {
		return g.farewell
	}
	return g.cause
}

// keepAlive pings and gives the link up at the tick that finds two pings
// unanswered. Whatever is heard is an answer: a router that is in the middle of
// a long message cannot put a pong in between.
func (g *guard) keepAlive(p pinger, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var heard uint64
	for unanswered := 0; ; {
		select {
		case <-tick.C:
		case <-g.dead:
			return
		}
		if now := p.heard(); now != heard {
			heard, unanswered = now, 0
		}
		if unanswered == 2 {
			g.kill(errSilent)
			return
		}
		if p.ping(every) {
			unanswered++
		}
	}
}

func (g *guard) writeLoop() {
	for {
		select {
		case msg := <-g.wr:
			if isClosed(g.dead) {
				continue
			}
			if msg = g.send(msg); msg == nil {
				continue
			}
			if err := g.wire.write(msg); err != nil {
				g.unsent(msg, err)
			}
		case <-g.released:
			return
		}
	}
}

// send prepares a message for the wire: it notes questions, and completes or
// drops (nil) what the client would not send rightly.
func (g *guard) send(msg wamp.Message) wamp.Message {
	sent := true
	switch m := msg.(type) {
	case *wamp.Authenticate:
		if m.Extra == nil {
			m.Extra = wamp.Dict{}
		}
	case *wamp.Register:
		sent = g.ask(m.Request, wamp.REGISTER, takeTicket(m.Options))
	case *wamp.Unregister:
		sent = g.ask(m.Request, wamp.UNREGISTER, &ticket{})
	case *wamp.Subscribe:
		sent = g.ask(m.Request, wamp.SUBSCRIBE, takeTicket(m.Options))
	case *wamp.Unsubscribe:
		sent = g.ask(m.Request, wamp.UNSUBSCRIBE, &ticket{})
	case *wamp.Publish:
		t := takeTicket(m.Options)
		if ack, _ := m.Options[wamp.OptAcknowledge].(bool); ack {
			sent = g.ask(m.Request, wamp.PUBLISH, t)
		}
	case *wamp.Call:
		t := takeTicket(m.Options)
		t.progress, _ = m.Options[wamp.OptReceiveProgress].(bool)
		sent = g.ask(m.Request, wamp.CALL, t)
	}
	if !sent {
		return nil
	}
	return msg
}

// ask notes a question. It reports false where nobody waits for the answer any
// more; the client gets one then, and the router is not asked.
func (g *guard) ask(id wamp.ID, kind wamp.MessageType, t *ticket) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.killed {
		return false
	}
	t.id, t.kind = id, kind
	g.asked[id] = t
	given := t.given
	if g.leaving {
		given = errAbandoned
	}
	if given != nil {
		g.tasks.Go(func() { g.answer(t, given) })
		return false
	}
	if kind != wamp.CALL && g.respond > 0 {
		t.timer = time.AfterFunc(g.respond, func() {
			g.answer(t, fmt.Errorf("%w within %v", errNoAnswer, g.respond))
		})
	}
	return true
}

func (t *ticket) stop() {
	if t.timer != nil {
		t.timer.Stop()
	}
}

// giveUp ends a call that nobody waits for any more: the client gets an ERROR at
// once, whatever the router does, and the router is told.
func (g *guard) giveUp(t *ticket, err error) {
	g.mu.Lock()
	t.given = err
	asked, id := t.id != 0, t.id
	g.mu.Unlock()
	if !asked || !g.answer(t, err) {
		return // ask gives it up, or it was answered in between
	}
	select {
	case g.wr <- &wamp.Cancel{Request: id, Options: wamp.Dict{wamp.OptMode: wamp.CancelModeKillNoWait}}:
	case <-g.released:
	}
}

// answer gives a question up with an error of our own, unless it was answered,
// and reports whether it did.
func (g *guard) answer(t *ticket, err error) bool {
	g.deliver.Lock()
	defer g.deliver.Unlock()
	g.mu.Lock()
	if t.final != nil || g.killed {
		g.mu.Unlock()
		return false
	}
	msg := g.close(t, err)
	g.mu.Unlock()
	g.hand(msg)
	return true
}

// close makes the ERROR with which the guard answers t. The caller holds mu.
func (g *guard) close(t *ticket, err error) wamp.Message {
	msg := &wamp.Error{Type: t.kind, Request: t.id, Details: wamp.Dict{}, Error: wamp.ErrCanceled}
	t.final, t.err = msg, err
	t.stop()
	delete(g.asked, t.id)
	return msg
}

// abandon gives all questions up: the link is about to end, and nobody shall
// wait for a router that may be gone.
func (g *guard) abandon() {
	g.mu.Lock()
	g.leaving = true
	open := make([]*ticket, 0, len(g.asked))
	for _, t := range g.asked {
		open = append(open, t)
	}
	g.mu.Unlock()
	for _, t := range open {
		g.answer(t, errAbandoned)
	}
}

// finish is called when the client has returned from the question of t. It says
// what the answer was, nil if there was none.
func (g *guard) finish(t *ticket) (wamp.Message, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.stop()
	delete(g.asked, t.id)
	if s, ok := settles(t.final); ok {
		if wait := g.settling[s]; wait != nil {
			close(wait)
			delete(g.settling, s)
		}
	}
	return t.final, t.err
}

func settles(final wamp.Message) (settlement, bool) {
	switch m := final.(type) {
	case *wamp.Registered:
		return settlement{wamp.REGISTERED, m.Registration}, true
	case *wamp.Subscribed:
		return settlement{wamp.SUBSCRIBED, m.Subscription}, true
	}
	return settlement{}, false
}

// unsent deals with a message that did not get out. One that cannot be encoded
// or is too long is its sender's affair; everything else is the end of the link.
func (g *guard) unsent(msg wamp.Message, err error) {
	var bad *unsendable
	if !errors.As(err, &bad) {
		g.kill(err)
		return
	}
	var id wamp.ID
	switch m := msg.(type) {
	case *wamp.Yield:
		if ahead, _ := m.Options[wamp.OptProgress].(bool); ahead {
			g.log.Warn().Err(bad).Msg("part of an answer not sent")
			return
		}
		g.replace(m.Request, bad)
		return
	case *wamp.Error:
		g.replace(m.Request, bad)
		return
	case *wamp.Call:
		id = m.Request
	case *wamp.Publish:
		id = m.Request
		g.log.Warn().Err(bad).Str("topic", protocol.Loggable(string(m.Topic))).Msg("event not published")
	case *wamp.Register:
		id = m.Request
	case *wamp.Subscribe:
		id = m.Request
	default:
		g.log.Warn().Err(bad).Stringer("message", msg.MessageType()).Msg("message not sent")
		return
	}
	g.mu.Lock()
	t := g.asked[id]
	if t != nil && !g.killed {
		g.tasks.Go(func() { g.answer(t, bad) })
	}
	g.mu.Unlock()
}

// replace answers an invocation with an error instead of what cannot be sent.
func (g *guard) replace(request wamp.ID, bad *unsendable) {
	g.log.Warn().Err(bad).Msg("answer not sent")
	err := g.wire.write(&wamp.Error{
		Type: wamp.INVOCATION, Request: request, Details: wamp.Dict{},
		Error:     protocol.ErrorContract,
		Arguments: wamp.List{wamp.Dict{"error": "the answer cannot be sent: " + bad.Error(), "code": string(bad.code)}},
	})
	if err != nil {
		g.kill(err)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
