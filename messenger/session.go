package messenger

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/rs/zerolog"

	"reagent/internal/backoff"
	"reagent/protocol"
)

// A Session keeps one WAMP session open while Run runs. Make it with New.
type Session struct {
	cfg    Config
	dial   dialer
	status Status // of Run's goroutine

	link     atomic.Pointer[Link] // nil while not joined
	running  atomic.Bool
	handlers *gate         // procedures and event handlers that run
	slots    chan struct{} // … of which so many procedures at once

	mu       sync.Mutex // guards what follows
	declared map[declarationKey]*declaration
}

// New checks cfg and makes a session of it. Nothing is dialled before Run.
func New(cfg Config) (*Session, error) {
	cfg = cfg.withDefaults()
	if cfg.Realm == "" {
		return nil, errors.New("a session needs a realm")
	}
	s := &Session{
		cfg:      cfg,
		handlers: newGate(),
		slots:    make(chan struct{}, cfg.MaxInvocations),
		declared: map[declarationKey]*declaration{},
	}
	dial, router, err := newDialer(&s.cfg)
	if err != nil {
		return nil, err
	}
	s.dial = dial
	s.status = Status{State: Connecting, Since: time.Now(), Router: router}
	return s, nil
}

// Run keeps the session open until ctx ends, and returns ctx's error. It is the
// only goroutine that dials, so there is never more than one connection; a
// session runs once.
//
// online is called once per connection, on a goroutine of its own that Run waits
// for, with a context that ends with the connection. While it runs the link may
// be used already. Returning nil keeps the connection and makes the state
// Online; ErrRejoin, ErrDuplicate or another error ends it. It must return soon
// after its context has ended, for Run does not dial before.
func (s *Session) Run(ctx context.Context, online func(ctx context.Context, link *Link) error) error {
	if !s.running.CompareAndSwap(false, true) {
		return errors.New("this session has been run before")
	}
	s.cfg.Changed(s.status)
	defer s.stop()
	p := newPace(&s.cfg)
	for ctx.Err() == nil {
		end := s.once(ctx, p.connect, online)
		if ctx.Err() != nil {
			break
		}
		state, pause := p.after(end)
		s.set(Status{State: state, NextTry: time.Now().Add(pause), Reason: end.err.Error()})
		s.cfg.Log.Warn().Err(end.err).Str("state", string(state)).Dur("lasted", end.lasted).Dur("retry_in", pause).Msg("session lost")
		if backoff.Sleep(ctx, pause) != nil {
			break
		}
	}
	return ctx.Err()
}

// stop ends what Run leaves behind.
func (s *Session) stop() {
	s.set(Status{State: Offline, Reason: "stopped"})
	late := time.NewTimer(s.cfg.GoodbyeTimeout)
	defer late.Stop()
	select {
	case <-s.handlers.shut():
	case <-late.C:
		s.cfg.Log.Warn().Int("handlers", s.handlers.left()).Msg("handlers do not heed their context, and are left behind")
	}
}

// set publishes a change of the status.
func (s *Session) set(next Status) {
	next.Router, next.Since = s.status.Router, s.status.Since
	if next.State != s.status.State {
		next.Since = time.Now()
	}
	if next != s.status {
		s.status = next
		s.cfg.Changed(next)
	}
}

// once is one connection from its dial to its end.
func (s *Session) once(ctx context.Context, limit time.Duration, online func(context.Context, *Link) error) ending {
	w, late, err := s.open(ctx, limit)
	if err != nil {
		return ending{err: err, late: late}
	}
	link, err := s.join(ctx, w)
	if err != nil {
		return ending{err: err}
	}
	joined := time.Now()
	s.link.Store(link)
	s.cfg.Log.Info().Uint64("session", link.ID()).Str("router", s.status.Router).Msg("session joined")

	ready := make(chan error, 1)
	go func() { ready <- online(link.ctx, link) }()
	waiting := true
	for err == nil {
		select {
		case err = <-ready:
			waiting = false
			ready = nil
			if err == nil {
				s.set(Status{State: Online})
			}
		case <-link.client.Done():
			err = link.guard.ended()
			if err == nil {
				err = ErrOffline
			}
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	s.link.Store(nil)
	link.end()
	if waiting {
		<-ready
	}
	return ending{err: err, lasted: max(time.Since(joined), 1)}
}

// open dials, for at most limit.
func (s *Session) open(ctx context.Context, limit time.Duration) (w wire, late bool, err error) {
	dialCtx := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		dialCtx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	w, err = s.dial(dialCtx)
	if err == nil {
		return w, false, nil
	}
	// The deadline on the socket may fire an instant before the context's own.
	var slow net.Error
	late = limit > 0 && ctx.Err() == nil &&
		(errors.Is(dialCtx.Err(), context.DeadlineExceeded) || errors.As(err, &slow) && slow.Timeout())
	if late {
		err = fmt.Errorf("no connection within %v", limit)
	}
	return nil, late, fmt.Errorf("connect: %w", err)
}

// join says HELLO and logs in.
func (s *Session) join(ctx context.Context, w wire) (*Link, error) {
	g := newGuard(w, s.cfg.ResponseTimeout, s.cfg.PingInterval, s.cfg.Log)
	log := zerolog.Nop()
	if s.cfg.Debug {
		log = s.cfg.Log
	}
	hello := maps.Clone(wamp.Dict(s.cfg.Details))
	if hello == nil {
		hello = wamp.Dict{}
	}
	cfg := client.Config{
		Realm:        s.cfg.Realm,
		HelloDetails: hello,
		Logger:       libraryLog{log},
		Debug:        s.cfg.Debug,
		// The guard keeps the time: were the client to stop waiting by itself,
		// an answer in that instant would stop it for ever.
		ResponseTimeout: 1000 * time.Hour,
	}
	if s.cfg.Identity != nil {
		if authid, secret := s.cfg.Identity(); authid != "" {
			hello["authid"] = authid
			cfg.AuthHandlers = authHandlers(secret)
		}
	}
	late := time.AfterFunc(s.cfg.ResponseTimeout, func() {
		g.kill(fmt.Errorf("no answer to the login within %v", s.cfg.ResponseTimeout))
	})
	stop := context.AfterFunc(ctx, func() { g.kill(ctx.Err()) })
	c, err := client.NewClient(g, cfg) // closes g where it fails
	late.Stop()
	stop()
	if err != nil {
		if why := g.ended(); why != nil && why != errLeft {
			err = why
		}
		return nil, fmt.Errorf("log in: %w", err)
	}
	return newLink(ctx, s, c, g), nil
}

// Online reports whether there is a connection that can be used. The state may
// still be another than Online, while the function given to Run is at work.
func (s *Session) Online() bool { return s.link.Load() != nil }

// Call calls a procedure. See Link.Call.
func (s *Session) Call(ctx context.Context, uri string, args []any, kwargs map[string]any) (Result, error) {
	return s.CallProgress(ctx, uri, args, kwargs, nil)
}

// CallProgress calls a procedure that sends parts of its answer ahead. See
// Link.CallProgress.
func (s *Session) CallProgress(ctx context.Context, uri string, args []any, kwargs map[string]any, progress func(Result)) (Result, error) {
	link := s.link.Load()
	if link == nil {
		return Result{}, uriError("call", uri, ErrOffline)
	}
	return link.CallProgress(ctx, uri, args, kwargs, progress)
}

// Publish publishes an event. See Link.Publish.
func (s *Session) Publish(ctx context.Context, topic string, options map[string]any, args []any, kwargs map[string]any) error {
	link := s.link.Load()
	if link == nil {
		return uriError("publish on", topic, ErrOffline)
	}
	return link.Publish(ctx, topic, options, args, kwargs)
}

// libraryLog is the log of nexus' client, of use to those who look for a fault
// in it.
type libraryLog struct{ to zerolog.Logger }

func (l libraryLog) Print(v ...any)            { l.Println(v...) }
func (l libraryLog) Printf(f string, v ...any) { l.say(func() string { return fmt.Sprintf(f, v...) }) }
func (l libraryLog) Println(v ...any)          { l.say(func() string { return fmt.Sprintln(v...) }) }

func (l libraryLog) say(what func() string) {
	if e := l.to.Debug(); e.Enabled() {
		e.Msg(protocol.Loggable(strings.TrimSuffix(what(), "\n")))
	}
}
