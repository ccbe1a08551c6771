//go:build linux

package terminal

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/messenger"
	"reagent/protocol"
)

const patience = time.Minute

// join joins a router and stays until the test ends.
func join(t *testing.T, url, authid, format string, declare func(*messenger.Session), online func()) *messenger.Session {
	t.Helper()
	s, err := messenger.New(messenger.Config{
		URL: url, Realm: protocol.RealmDevices, Serializations: []string{format},
		Identity: func() (string, string) { return authid, "secret" },
		MinRetry: 10 * time.Millisecond, MaxRetry: 50 * time.Millisecond,
		EventQueue: 8192,
		Log:        zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.ErrorLevel),
	})
	if err != nil {
		t.Fatal(err)
	}
	if declare != nil {
		declare(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done, up := make(chan error, 1), make(chan struct{}, 100)
	go func() {
		done <- s.Run(ctx, func(ctx context.Context, link *messenger.Link) error {
			err := link.Apply(ctx)
			if online != nil {
				online()
			}
			up <- struct{}{}
			return err
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-up:
	case <-time.After(patience):
		t.Fatalf("%s does not join", authid)
	}
	return s
}

// startDevice runs a device's terminals on a router. stop ends them.
func startDevice(t *testing.T, url, format string, configure func(*Config)) (m *Manager, stop func()) {
	t.Helper()
	join(t, url, "7-42", format, func(s *messenger.Session) {
		cfg := Config{
			Serial: serial, Link: s, DeviceShell: true,
			Offer: func(r Resize) func() {
				return s.Declare(r.URI, nil, func(ctx context.Context, inv messenger.Invocation) messenger.Outcome {
					if err := r.Handle(ctx, Caller{AuthID: inv.Caller, Role: inv.CallerRole}, inv.Args); err != nil {
						return messenger.Outcome{Error: protocol.ErrorContract, Args: []any{map[string]any{"error": err.Error()}}}
					}
					return messenger.Outcome{}
				})
			},
			Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel),
		}
		if configure != nil {
			configure(&cfg)
		}
		m = newManager(cfg, atHome(t, cfg))
	}, func() { m.Online() })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	stop = sync.OnceFunc(func() { cancel(); <-done })
	t.Cleanup(stop)
	for { // Run has begun
		m.mu.Lock()
		running := m.ctx != nil
		m.mu.Unlock()
		if running {
			return m, stop
		}
		<-time.After(time.Millisecond)
	}
}

// A screen is a client of a terminal: what it has got of the output.
type screen struct {
	t       *testing.T
	session *messenger.Session
	names   protocol.TerminalSession

	mu     sync.Mutex
	got    strings.Builder
	events []messenger.Event
	eofs   int
	grown  chan struct{}
}

// look subscribes to a session's output.
func look(t *testing.T, by *messenger.Session, names protocol.TerminalSession) *screen {
	t.Helper()
	s := &screen{t: t, session: by, names: names, grown: make(chan struct{}, 1)}
	withdraw := by.DeclareTopic(names.DataTopic, "", s.take)
	t.Cleanup(withdraw)
	if err := by.Settle(t.Context(), names.DataTopic); err != nil {
		t.Fatalf("subscribe: %v", err)
	}
	return s
}

func (s *screen) take(_ context.Context, e messenger.Event) {
	p, ok := protocol.TerminalBytes(protocol.Arg(e.Args, 0), strings.Contains(s.names.DataTopic, ".term_data."))
	if !ok {
		s.t.Errorf("an event without output: %v", e.Args)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events = append(s.events, e); string(p) == protocol.TerminalEOF {
		s.eofs++
	} else {
		s.got.Write(p)
	}
	select {
	case s.grown <- struct{}{}:
	default:
	}
}

// wait waits until the output holds text.
func (s *screen) wait(text string) {
	s.t.Helper()
	s.until("the output holds "+text, func() bool { return strings.Contains(s.got.String(), text) })
}

func (s *screen) waitEOF() {
	s.t.Helper()
	s.until("the end", func() bool { return s.eofs > 0 })
}

func (s *screen) until(what string, holds func() bool) {
	s.t.Helper()
	late := time.After(patience)
	for {
		s.mu.Lock()
		ok := holds()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-s.grown:
		case <-late:
			s.mu.Lock()
			defer s.mu.Unlock()
			got := s.got.String()
			s.t.Fatalf("not within %v: %s; there are %d bytes, the last %q", patience, what, len(got), got[max(0, len(got)-500):])
		}
	}
}

func (s *screen) text() string { s.mu.Lock(); defer s.mu.Unlock(); return s.got.String() }

// write publishes keystrokes.
func (s *screen) write(text string) { write(s.t, s.session, s.names, text, nil) }

func write(t *testing.T, by *messenger.Session, names protocol.TerminalSession, text string, kwargs map[string]any) {
	t.Helper()
	if err := by.Publish(t.Context(), names.WriteTopic, map[string]any{"acknowledge": true}, []any{text}, kwargs); err != nil {
		t.Fatalf("type %q: %v", text, err)
	}
}

func resize(t *testing.T, by *messenger.Session, names protocol.TerminalSession, args ...any) string {
	t.Helper()
	_, err := by.Call(t.Context(), names.ResizeTopic, args, nil)
	var refused *messenger.CallError
	if errors.As(err, &refused) {
		return refused.Text()
	}
	if err != nil {
		t.Fatalf("resize: %v", err)
	}
	return ""
}
