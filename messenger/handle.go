package messenger

import (
	"context"
	"strconv"
	"sync"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
)

// serve makes the client's handler of a procedure. handler says who answers now;
// nil means nobody any more.
func (l *Link) serve(uri string, handler func() Handler) client.InvocationHandler {
	return func(ctx context.Context, msg *wamp.Invocation) client.InvokeResult {
		if !l.s.handlers.enter() {
			return refuse(protocol.ErrorContract, protocol.CodeUnavailable, "the device is stopping")
		}
		defer l.s.handlers.leave()
		select {
		case l.s.slots <- struct{}{}:
			defer func() { <-l.s.slots }()
		default:
			return refuse(protocol.ErrorContract, protocol.CodeUnavailable, "too many calls at once; try again later")
		}
		h := handler()
		if h == nil {
			return refuse(protocol.ErrorNoSuchProcedure, protocol.CodeNotFound, "the procedure was withdrawn")
		}
		var out Outcome
		told, done := l.told(ctx)
		defer done()
		if l.guarded("procedure", uri, func() { out = h(told, l.invocation(ctx, msg)) }) {
			return refuse(protocol.ErrorContract, protocol.CodeInternal, "internal error")
		}
		if out.Sent != nil {
			context.AfterFunc(ctx, out.Sent) // the client ends it when it has let go of the answer
		}
		return client.InvokeResult{Args: out.Args, Kwargs: out.Kwargs, Err: wamp.URI(out.Error)}
	}
}

// told gives a handler a context that says why it ended. The client cancels a
// call's own in both cases, and without a word; but when the connection is why,
// it is done for before.
func (l *Link) told(ctx context.Context) (_ context.Context, done func()) {
	told, end := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		cause := ctx.Err()
		if isClosed(l.client.Done()) || l.ctx.Err() != nil {
			cause = ErrOffline
		}
		end(cause)
	})
	return told, func() {
		stop()
		end(nil)
	}
}

func refuse(uri string, code protocol.Code, text string) client.InvokeResult {
	return client.InvokeResult{Err: wamp.URI(uri), Args: wamp.List{wamp.Dict{"error": text, "code": string(code)}}}
}

func (l *Link) invocation(ctx context.Context, msg *wamp.Invocation) Invocation {
	inv := Invocation{Args: msg.Arguments, Kwargs: msg.ArgumentsKw}
	inv.Caller, inv.Disclosed = identity(msg.Details["caller_authid"])
	if inv.Disclosed {
		inv.CallerRole, _ = identity(msg.Details["caller_authrole"])
	}
	if wanted, _ := msg.Details[wamp.OptReceiveProgress].(bool); wanted {
		inv.Progress = func(sendCtx context.Context, args ...any) error {
			if err := sendCtx.Err(); err != nil {
				return err
			}
			return l.client.SendProgress(ctx, args, nil) // this ctx carries the call's number
		}
	}
	return inv
}

// identity reads an authid or role as the router disclosed it. Anything but a
// text or a whole number is no identity.
func identity(v any) (string, bool) {
	if text, ok := wamp.AsString(v); ok {
		return text, text != ""
	}
	if n, ok := protocol.Uint(v); ok {
		return strconv.FormatUint(n, 10), true
	}
	return "", false
}

// An eventQueue keeps the events of one subscription until its handler has time
// for them. It has a goroutine only while there are events.
type eventQueue struct {
	link    *Link
	topic   string
	handler func() EventHandler

	mu      sync.Mutex
	waiting []Event
	busy    bool // a goroutine works on waiting
	lost    int  // not yet in the log
}

// push is called on the goroutine that receives, so it never waits.
func (q *eventQueue) push(msg *wamp.Event) {
	e := Event{Topic: q.topic, Args: msg.Arguments, Kwargs: msg.ArgumentsKw}
	if topic, ok := wamp.AsString(msg.Details["topic"]); ok && topic != "" {
		e.Topic = topic
	}
	if id, ok := wamp.AsID(msg.Details["publisher"]); ok {
		e.Publisher = uint64(id)
	}
	if by, disclosed := identity(msg.Details["publisher_authid"]); disclosed {
		e.PublisherAuthID = by
		e.PublisherRole, _ = identity(msg.Details["publisher_authrole"])
	}

	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= q.link.s.cfg.EventQueue {
		q.lost++
		return
	}
	q.waiting = append(q.waiting, e)
	if !q.busy && q.link.s.handlers.enter() {
		q.busy = true
		go q.work()
	}
}

func (q *eventQueue) work() {
	defer q.link.s.handlers.leave()
	for {
		e, ok := q.pop()
		if !ok {
			return
		}
		if h := q.handler(); h != nil && q.link.ctx.Err() == nil {
			q.link.guarded("topic", e.Topic, func() { h(q.link.ctx, e) })
		}
	}
}

// pop takes the oldest event; without one, work is over.
func (q *eventQueue) pop() (e Event, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lost > 0 && (len(q.waiting) == 0 || q.lost >= q.link.s.cfg.EventQueue) {
		q.link.s.cfg.Log.Warn().Str("topic", protocol.Loggable(q.topic)).Int("lost", q.lost).Msg("events lost: their handler is too slow")
		q.lost = 0
	}
	if len(q.waiting) == 0 {
		q.waiting, q.busy = nil, false
		return Event{}, false
	}
	e = q.waiting[0]
	q.waiting[0] = Event{} // its content is not kept by the slice behind
	q.waiting = q.waiting[1:]
	return e, true
}
