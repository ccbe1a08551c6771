package messenger

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

// What tests inside and outside of the package share. Those that stand on
// testenv are outside, because testenv also stands on this package.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// quick has no waits that a test would have to sit through.
func Quick() Config {
	return Config{
		Realm: TestRealm, MinRetry: time.Millisecond, MaxRetry: 20 * time.Millisecond,
		UnauthorizedRetry: 20 * time.Millisecond, Log: zerolog.Nop(),
	}
}

// A RunningSession is a session whose Run runs until the end of the test.
type RunningSession struct {
	*Session
	t      testing.TB
	States chan Status
	Stop   func() error // ends Run and returns its error
}

// start runs a session. online may be nil: all declarations are applied then.
func Start(t testing.TB, cfg Config, declare func(*Session), online func(context.Context, *Link) error) *RunningSession {
	t.Helper()
	rs := &RunningSession{t: t, States: make(chan Status, 10000)}
	changed := cfg.Changed
	cfg.Changed = func(s Status) {
		if changed != nil {
			changed(s)
		}
		rs.States <- s
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	rs.Session = s
	if declare != nil {
		declare(s)
	}
	if online == nil {
		online = func(ctx context.Context, l *Link) error { return l.Apply(ctx) }
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, online) }()
	rs.Stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			return errors.New("Run does not end")
		}
	})
	t.Cleanup(func() {
		if err := rs.Stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want context.Canceled", err)
		}
	})
	return rs
}

// wait waits for a state and returns the first status that has it.
func (rs *RunningSession) Wait(state State) Status {
	rs.t.Helper()
	late := time.After(time.Minute)
	var last Status
	for {
		select {
		case s := <-rs.States:
			if s.State == state {
				return s
			}
			last = s
		case <-late:
			rs.t.Fatalf("state %q did not come; last: %+v", state, last)
		}
	}
}

func Echo(_ context.Context, inv Invocation) Outcome {
	return Outcome{Args: inv.Args, Kwargs: inv.Kwargs}
}

// within polls until what holds or the test fails.
func Within(t testing.TB, limit time.Duration, claim string, what func() bool) {
	t.Helper()
	deadline := time.Now().Add(limit)
	for !what() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", limit, claim)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Idle reports whether no handler runs.
func (rs *RunningSession) Idle() bool { return rs.handlers.left() == 0 }

// Link is the connection of the moment.
func (rs *RunningSession) Link() *Link { return rs.link.Load() }

// Entries is how many declarations a link keeps something about.
func (l *Link) Entries() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.entries)
}

// TestRealm is where tests meet.
const TestRealm = "realm1"
