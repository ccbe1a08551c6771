package messenger

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
)

// A Link is one connection of a session, from its login to its loss. What is
// asked of it after that is answered with ErrOffline.
type Link struct {
	s      *Session
	client *client.Client
	guard  *guard

	ctx    context.Context // ends with the connection
	cancel context.CancelFunc
	ops    *gate // those who use client

	mu      sync.Mutex // guards what follows
	applied bool       // declarations take effect at once
	entries map[declarationKey]*entry
}

func newLink(ctx context.Context, s *Session, c *client.Client, g *guard) *Link {
	l := &Link{s: s, client: c, guard: g, ops: newGate(), entries: map[declarationKey]*entry{}}
	l.ctx, l.cancel = context.WithCancel(ctx)
	return l
}

// ID is the WAMP session id.
func (l *Link) ID() uint64 { return uint64(l.client.ID()) }

// Lost says that the connection is of no use, whatever it looks like from here:
// the socket is closed at once, and Run dials anew.
func (l *Link) Lost(err error) {
	l.guard.kill(fmt.Errorf("given up: %w", err))
}

// end leaves the router, if it is still there, and closes the connection. It
// waits for everybody who uses the client, but not for handlers.
func (l *Link) end() {
	l.cancel()
	late := time.AfterFunc(l.s.cfg.GoodbyeTimeout, func() { l.guard.kill(errLeft) })
	defer late.Stop()
	idle := l.ops.shut()
	l.guard.abandon()
	<-idle
	_ = l.client.Close() // GOODBYE; says only that it was closed before
}

// Call calls a procedure and waits for its answer: until ctx ends, or for
// Config.CallTimeout where ctx has no deadline; then the call is cancelled. An
// error that was answered is a *CallError.
func (l *Link) Call(ctx context.Context, uri string, args []any, kwargs map[string]any) (Result, error) {
	return l.CallProgress(ctx, uri, args, kwargs, nil)
}

// CallProgress is Call for procedures that send parts of their answer ahead.
// progress is called on the caller's goroutine, in order, and not after
// CallProgress has returned. One that falls behind by more than
// Config.EventQueue parts ends the call.
func (l *Link) CallProgress(ctx context.Context, uri string, args []any, kwargs map[string]any, progress func(Result)) (Result, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.s.cfg.CallTimeout)
		defer cancel()
	}
	callCtx, giveUp := context.WithCancel(ctx)
	defer giveUp()

	var (
		ahead   chan Result
		receive client.ProgressHandler
		slow    atomic.Bool
	)
	if progress != nil {
		ahead = make(chan Result, l.s.cfg.EventQueue)
		receive = func(r *wamp.Result) {
			select {
			case ahead <- result(r):
			default: // never hold up the connection for one caller
				slow.Store(true)
				giveUp()
			}
		}
	}

	type answer struct {
		result Result
		err    error
	}
	done := make(chan answer, 1)
	if !l.use(func() {
		r, err := l.call(callCtx, uri, args, kwargs, receive)
		done <- answer{r, err}
	}) {
		return Result{}, uriError("call", uri, ErrOffline)
	}
	for {
		select {
		case r := <-ahead:
			progress(r)
		case a := <-done:
			for len(ahead) > 0 {
				progress(<-ahead)
			}
			switch {
			case a.err == nil:
				return a.result, nil
			case slow.Load():
				a.err = errors.New("the answer comes faster than it is taken")
			}
			return Result{}, uriError("call", uri, a.err)
		case <-ctx.Done():
			return Result{}, uriError("call", uri, ctx.Err())
		case <-l.ctx.Done():
			return Result{}, uriError("call", uri, ErrOffline)
		}
	}
}

func (l *Link) call(ctx context.Context, uri string, args []any, kwargs map[string]any, receive client.ProgressHandler) (_ Result, err error) {
	defer unreadable(&err)
	t := new(ticket)
	// The client does not learn of ctx: having cancelled a call, it waits for an
	// ERROR and for nothing else, also when the connection ends meanwhile. The
	// guard gives the call up instead.
	given := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(given)
		l.guard.giveUp(t, ctx.Err())
	})
	r, err := l.client.Call(context.WithoutCancel(ctx), uri, t.options(nil), args, kwargs, receive)
	if !stop() {
		<-given
	}
	final, why := l.guard.finish(t)
	if err == nil {
		return result(r), nil
	}
	return Result{}, asked(err, final, why)
}

func result(r *wamp.Result) Result { return Result{Args: r.Arguments, Kwargs: r.ArgumentsKw} }

// unreadable ends a panic over what came as an answer: one of the edges at which
// panics end.
func unreadable(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the answer cannot be read: %v", p)
	}
}

// asked finds the reason why a question failed: the guard's, the router's, the
// client's.
func asked(err error, final wamp.Message, why error) error {
	switch {
	case why == errAbandoned, why == nil && errors.Is(err, client.ErrNotConn):
		return ErrOffline
	case why != nil:
		return why
	}
	if e, ok := final.(*wamp.Error); ok {
		return &CallError{URI: string(e.Error), Args: e.Arguments, Kwargs: e.ArgumentsKw}
	}
	return err
}

// use runs op on its own goroutine, which the link's end waits for: the client
// below may have to wait for a slow link longer than a caller may wait for it.
// It reports false where the link has ended.
func (l *Link) use(op func()) bool {
	if !l.ops.enter() {
		return false
	}
	go func() {
		defer l.ops.leave()
		op()
	}()
	return true
}

// do is use for operations that only succeed or fail, and waits for them.
func (l *Link) do(ctx context.Context, op func(t *ticket) error) error {
	done := make(chan error, 1)
	if !l.use(func() {
		t := new(ticket)
		err := func() (err error) {
			defer unreadable(&err)
			return op(t)
		}()
		final, why := l.guard.finish(t)
		if err != nil {
			err = asked(err, final, why)
		}
		done <- err
	}) {
		return ErrOffline
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ctx.Done():
		return ErrOffline
	}
}

// Publish publishes an event. With the option "acknowledge" it waits for the
// router's word, otherwise only until the event is on its way.
func (l *Link) Publish(ctx context.Context, topic string, options map[string]any, args []any, kwargs map[string]any) error {
	err := l.do(ctx, func(t *ticket) error { return l.client.Publish(topic, t.options(options), args, kwargs) })
	if err != nil {
		return uriError("publish on", topic, err)
	}
	return nil
}

// Register offers a procedure on this connection only.
func (l *Link) Register(ctx context.Context, uri string, options map[string]any, h Handler) error {
	return l.register(ctx, uri, options, func() Handler { return h })
}

// Subscribe listens to a topic on this connection only. match is "" (or "exact"),
// "prefix" or "wildcard".
func (l *Link) Subscribe(ctx context.Context, topic, match string, h EventHandler) error {
	return l.subscribe(ctx, topic, match, func() EventHandler { return h })
}

func (l *Link) register(ctx context.Context, uri string, options map[string]any, handler func() Handler) error {
	err := l.do(ctx, func(t *ticket) error { return l.client.Register(uri, l.serve(uri, handler), t.options(options)) })
	if err != nil {
		return uriError("register", uri, err)
	}
	return nil
}

func (l *Link) subscribe(ctx context.Context, topic, match string, handler func() EventHandler) error {
	var options map[string]any
	if match != "" && match != wamp.MatchExact {
		options = map[string]any{wamp.OptMatch: match}
	}
	q := &eventQueue{link: l, topic: topic, handler: handler}
	err := l.do(ctx, func(t *ticket) error { return l.client.Subscribe(topic, q.push, t.options(options)) })
	if err != nil {
		return uriError("subscribe to", topic, err)
	}
	return nil
}

// guarded runs a handler and reports a panic of it, which ends here.
func (l *Link) guarded(what, uri string, run func()) (panicked bool) {
	defer func() {
		if p := recover(); p != nil {
			panicked = true
			l.s.cfg.Log.Error().Str(what, protocol.Loggable(uri)).Str("panic", fmt.Sprint(p)).Bytes("stack", debug.Stack()).Msg("handler panicked")
		}
	}()
	run()
	return false
}
