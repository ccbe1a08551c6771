package messenger

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/rs/zerolog"

	"reagent/protocol"
)

// A declaration is a procedure or a topic that shall be there on each connection.
type declaration struct {
	options map[string]any // of a procedure
	call    Handler        // one of these two
	event   EventHandler
}

type declarationKey struct {
	topic bool
	uri   string
	match string // of a topic
}

// Declare offers a procedure: on each connection from its Link.Apply on, and at
// once where that has been. A second declaration of the same URI takes the
// first one's place without a gap; its options count from the next connection.
// A failure is logged, and tried again on the next connection. withdraw ends it.
func (s *Session) Declare(uri string, options map[string]any, h Handler) (withdraw func()) {
	return s.declare(declarationKey{uri: uri}, &declaration{options: options, call: h})
}

// DeclareTopic listens to a topic in the same way. match is "" (or "exact"),
// "prefix" or "wildcard"; one text should be used with one of them only.
func (s *Session) DeclareTopic(uri, match string, h EventHandler) (withdraw func()) {
	if match == "exact" {
		match = ""
	}
	return s.declare(declarationKey{topic: true, uri: uri, match: match}, &declaration{event: h})
}

func (s *Session) declare(key declarationKey, d *declaration) (withdraw func()) {
	s.mu.Lock()
	s.declared[key] = d
	s.mu.Unlock()
	s.changed(key)
	return func() {
		s.mu.Lock()
		current := s.declared[key] == d
		if current {
			delete(s.declared, key)
		}
		s.mu.Unlock()
		if current {
			s.changed(key)
		}
	}
}

func (s *Session) wanted(key declarationKey) *declaration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.declared[key]
}

// changed brings one declaration to the router, in the background, where the
// others are there already.
func (s *Session) changed(key declarationKey) {
	l := s.link.Load()
	if l == nil {
		return
	}
	l.mu.Lock()
	applied := l.applied
	l.mu.Unlock()
	if !applied {
		return
	}
	l.use(func() {
		if err := l.reconcile(key); err != nil && l.ctx.Err() == nil {
			s.cfg.Log.Error().Str(zerolog.ErrorFieldName, protocol.Loggable(err.Error())).Msg("declaration not applied; tried again on the next connection")
		}
	})
}

// Settle waits until the router has what is declared under these URIs, or lets go
// of what was withdrawn: who answers a caller that a topic is listened to wants it
// to be true. Only exact topics are meant.
func (s *Session) Settle(ctx context.Context, uris ...string) error {
	l := s.link.Load()
	if l == nil {
		return ErrOffline
	}
	var keys []declarationKey
	for _, uri := range uris {
		keys = append(keys, declarationKey{uri: uri}, declarationKey{uri: uri, topic: true})
	}
	return l.reconcileAll(ctx, keys)
}

// Apply brings all declarations to the router, all in one flight, and returns
// when each is answered: nil, or the errors of those that failed, joined. From
// then on declarations take effect at once.
func (l *Link) Apply(ctx context.Context) error {
	l.mu.Lock()
	l.applied = true
	l.mu.Unlock()
	l.s.mu.Lock()
	keys := make([]declarationKey, 0, len(l.s.declared))
	for key := range l.s.declared {
		keys = append(keys, key)
	}
	l.s.mu.Unlock()
	return l.reconcileAll(ctx, keys)
}

// reconcileAll does so in one flight, and waits for the answers.
func (l *Link) reconcileAll(ctx context.Context, keys []declarationKey) error {
	answers := make(chan error, len(keys))
	for _, key := range keys {
		if !l.use(func() { answers <- l.reconcile(key) }) {
			return ErrOffline
		}
	}
	var errs []error
	for range keys {
		select {
		case err := <-answers:
			errs = append(errs, err)
		case <-ctx.Done():
			return ctx.Err() // the rest goes on by itself
		}
	}
	return errors.Join(errs...)
}

// An entry is what a link knows about one declaration.
type entry struct {
	mu      sync.Mutex // held while the router is asked; guards the next two
	there   bool       // the router has it
	gone    bool       // no longer in Link.entries
	current atomic.Pointer[declaration]
}

// enter locks the entry of a declaration.
func (l *Link) enter(key declarationKey) *entry {
	for {
		l.mu.Lock()
		e := l.entries[key]
		if e == nil {
			e = new(entry)
			l.entries[key] = e
		}
		l.mu.Unlock()
		e.mu.Lock()
		if !e.gone {
			return e
		}
		e.mu.Unlock()
	}
}

// reconcile makes the router's side of one declaration what the session's is. It
// looks at the two and not at what happened, so that changes in quick succession
// may be dealt with in any order.
func (l *Link) reconcile(key declarationKey) error {
	e := l.enter(key)
	defer e.mu.Unlock()
	want := l.s.wanted(key)
	e.current.Store(want)
	var err error
	switch {
	case want != nil && !e.there && key.topic:
		err = l.subscribe(l.ctx, key.uri, key.match, e.event)
	case want != nil && !e.there:
		err = l.register(l.ctx, key.uri, want.options, e.call)
	case want == nil && e.there && key.topic:
		err = l.do(l.ctx, func(*ticket) error { return l.client.Unsubscribe(key.uri) })
	case want == nil && e.there:
		err = l.do(l.ctx, func(*ticket) error { return l.client.Unregister(key.uri) })
	}
	if err == nil {
		e.there = want != nil
	}
	if want == nil { // the client forgot it, whatever the router said
		e.there, e.gone = false, true
		l.mu.Lock()
		delete(l.entries, key)
		l.mu.Unlock()
	}
	return err
}

func (e *entry) call() Handler {
	if d := e.current.Load(); d != nil {
		return d.call
	}
	return nil
}

func (e *entry) event() EventHandler {
	if d := e.current.Load(); d != nil {
		return d.event
	}
	return nil
}
