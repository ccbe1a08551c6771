package studio

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"reagent/messenger"
	"reagent/protocol"
	"reagent/studio/backend"
	"reagent/studio/router"
)

// A Session attaches a backend to a router: the one of this studio, or any other
// that discloses callers.
type Session struct {
	wamp *messenger.Session
}

// local is the session of the studio's own backend.
func local(r *router.Router, log zerolog.Logger) messenger.Config {
	return messenger.Config{
		Realm:          protocol.RealmDevices,
		Dial:           r.Dialer(protocol.RealmDevices, protocol.AuthIDSystem, protocol.RoleSystem),
		MaxInvocations: 1 << 14, // a whole fleet that comes back
		EventQueue:     1 << 16,
		MaxSend:        64 << 20,
		Log:            log,
	}
}

// NewSession makes a session; Attach and Run bring it to life.
func NewSession(cfg messenger.Config) (*Session, error) {
	s, err := messenger.New(cfg)
	if err != nil {
		return nil, err
	}
	return &Session{s}, nil
}

// Attach declares what a backend answers and listens to. The options go with each
// registration: a router of others may need to be told to disclose callers, or to
// share the procedures between several backends.
func (s *Session) Attach(b *backend.Backend, registerOptions map[string]any) {
	for uri, answer := range b.Procedures() {
		s.wamp.Declare(uri, registerOptions, func(ctx context.Context, inv messenger.Invocation) messenger.Outcome {
			reply := answer(ctx, backend.Request{
				Args: inv.Args, Kwargs: inv.Kwargs, Disclosed: inv.Disclosed, AuthID: inv.Caller, Role: inv.CallerRole,
			})
			return messenger.Outcome{Args: reply.Args, Error: reply.Error}
		})
	}
	for uri, listen := range b.Topics() {
		s.wamp.DeclareTopic(uri, "exact", func(ctx context.Context, e messenger.Event) { listen(ctx, e.Args) })
	}
}

// Run keeps the session open until ctx ends. online is called on each connection
// once everything is registered.
func (s *Session) Run(ctx context.Context, online func(ctx context.Context) error) error {
	return s.wamp.Run(ctx, func(ctx context.Context, link *messenger.Link) error {
		if err := link.Apply(ctx); err != nil {
			return err
		}
		return online(ctx)
	})
}

// Online reports whether the session is open.
func (s *Session) Online() bool { return s.wamp.Online() }

// Call calls a procedure.
func (s *Session) Call(ctx context.Context, uri string, args []any, kwargs map[string]any) ([]any, error) {
	r, err := s.wamp.Call(ctx, uri, args, kwargs)
	var answer *messenger.CallError
	if errors.As(err, &answer) {
		return nil, &backend.CallError{URI: answer.URI, Text: answer.Text()}
	}
	return r.Args, err
}

// Publish publishes an event.
func (s *Session) Publish(ctx context.Context, topic string, options map[string]any, args []any) error {
	return s.wamp.Publish(ctx, topic, options, args, nil)
}
