package messenger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"

	. "reagent/messenger"
	"reagent/protocol"
)

func TestPlainAndSaltedSecretsLogIn(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "bm90LWE=", "salted-7": "c2FsdA=="})
	caller := tr.peer()
	for _, authid := range []string{"41-7", "salted-7"} {
		for _, format := range []string{"json", "cbor", "msgpack"} {
			t.Run(authid+" "+format, func(t *testing.T) {
				cfg := tr.config(authid, tr.keys.secrets[authid])
				cfg.Serializations = []string{format}
				uri := "test." + authid + "." + format
				s := Start(t, cfg, func(s *Session) { s.Declare(uri, nil, Echo) }, nil)
				s.Wait(Online)
				if !s.Online() {
					t.Error("Online() = false in state online")
				}
				got, err := call(t, caller, uri, "hello", 7)
				if err != nil || fmt.Sprint(got.Arguments) != "[hello 7]" {
					t.Errorf("answer = %v, %v, want [hello 7]", got, err)
				}
			})
		}
	}
}

func TestWrongSecretIsAStateAndHealsByItself(t *testing.T) {
	for _, authid := range []string{"41-7", "nobody"} {
		t.Run(authid, func(t *testing.T) {
			tr := startRouter(t, map[string]string{"41-7": "right"})
			s := Start(t, tr.config(authid, "wrong"), nil, nil)
			got := s.Wait(Unauthorized)
			if !strings.Contains(got.Reason, "refused the login") || got.NextTry.IsZero() {
				t.Errorf("status = %+v, want a reason and a next try", got)
			}
			s.Wait(Unauthorized) // tried again
			if strings.Contains(got.Reason, "wrong") {
				t.Errorf("the secret is in the reason: %q", got.Reason)
			}
			tr.keys.set(authid, "wrong")
			s.Wait(Online)
		})
	}
}

func TestUnknownRealmIsAnOrdinaryFailure(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	cfg := tr.config("41-7", "s")
	cfg.Realm = "no.such.realm"
	s := Start(t, cfg, nil, nil)
	got := s.Wait(Offline)
	for range 9 { // the library's listener may close the socket before its last word is written
		if strings.Contains(got.Reason, "no_such_realm") {
			return
		}
		got = s.Wait(Offline)
	}
	t.Errorf("reason = %q, want the router's", got.Reason)
}

func TestDeclarationsTakeOneRoundTrip(t *testing.T) {
	const many, way = 200, 100 * time.Millisecond
	tr := startRouter(t, map[string]string{"41-7": "s"})
	tr.relay.SetDelay(way)
	took := make(chan time.Duration, 1)
	s := Start(t, tr.config("41-7", "s"), func(s *Session) {
		for i := range many {
			s.Declare(fmt.Sprintf("test.p%d", i), map[string]any{"force_reregister": true}, Echo)
			s.DeclareTopic(fmt.Sprintf("test.t%d", i), "", func(context.Context, Event) {})
		}
	}, func(ctx context.Context, l *Link) error {
		begin := time.Now()
		err := l.Apply(ctx)
		took <- time.Since(begin)
		return err
	})
	s.Wait(Online)
	// One after the other would be 400 round trips. A machine that is busy with
	// other things may make one look like several, but not like so many.
	if got := <-took; got < 2*way || got >= many/4*2*way {
		t.Errorf("%d registrations and as many subscriptions took %v, that is %.1f round trips, want one", many, got, float64(got)/float64(2*way))
	}
	caller := tr.peer()
	for _, i := range []int{0, many - 1} {
		if _, err := call(t, caller, fmt.Sprintf("test.p%d", i)); err != nil {
			t.Errorf("procedure %d: %v", i, err)
		}
	}
}

func TestCutLinkComesBackWithItsDeclarations(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	caller := tr.peer()
	events := make(chan Event, 10)
	s := Start(t, tr.config("41-7", "s"), func(s *Session) {
		s.Declare("test.echo", nil, Echo)
		s.DeclareTopic("test.topic", "", func(_ context.Context, e Event) { events <- e })
	}, nil)
	for i := range 5 {
		s.Wait(Online)
		if _, err := call(t, caller, "test.echo", i); err != nil {
			t.Fatalf("call on connection %d: %v", i, err)
		}
		if err := caller.Publish("test.topic", nil, wamp.List{i}, nil); err != nil {
			t.Fatal(err)
		}
		if got := <-events; fmt.Sprint(got.Args) != fmt.Sprintf("[%d]", i) || got.Topic != "test.topic" || got.PublisherAuthID != "42" || got.PublisherRole != "trusted" {
			t.Errorf("event on connection %d = %+v", i, got)
		}
		tr.relay.Cut()
		s.Wait(Offline)
	}
	if open, total := tr.relay.Links(); open > 1 || total < 5 {
		t.Errorf("links: %d open, %d in all; want one at a time, five at least", open, total)
	}
}

func TestHalfOpenLinkIsNoticedAfterTwoPings(t *testing.T) {
	const ping = 200 * time.Millisecond
	tr := startRouter(t, map[string]string{"41-7": "s"})
	cfg := tr.config("41-7", "s")
	cfg.PingInterval = ping
	s := Start(t, cfg, nil, nil)
	s.Wait(Online)
	<-time.After(5 * ping) // a link that answers stays
	if open, total := tr.relay.Links(); total != 1 || open != 1 {
		t.Fatalf("links = %d open, %d in all: an answering link was given up", open, total)
	}
	begin := time.Now()
	tr.relay.Freeze()
	got := s.Wait(Offline)
	if took := time.Since(begin); took < 2*ping-ping/2 || took > 3*ping+ping {
		t.Errorf("noticed after %v, want two to three intervals of %v", took, ping)
	}
	if !strings.Contains(got.Reason, "keepalive") {
		t.Errorf("reason = %q, want the keepalive", got.Reason)
	}
	tr.relay.Thaw()
	s.Wait(Online)
}

// A long message keeps pings and pongs behind it; on a narrow link that must not
// look like a dead one, in neither direction.
func TestBulkOnANarrowLinkDoesNotLookLikeADeadOne(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	tr.relay.SetRate(1 << 20)
	cfg := tr.config("41-7", "s")
	cfg.PingInterval = 800 * time.Millisecond
	s := Start(t, cfg, func(s *Session) { s.Declare("test.echo", nil, Echo) }, nil)
	s.Wait(Online)
	big := strings.Repeat("x", 3<<20)
	got, err := call(t, tr.peer(), "test.echo", big)
	if err != nil || got.Arguments[0] != big {
		t.Fatalf("3 MiB and back: %v", err)
	}
	if _, total := tr.relay.Links(); total != 1 {
		t.Errorf("%d links, want 1", total)
	}
}

func TestGhostSessionIsWaitedOut(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	ghost := tr.peer()
	const probe = "re.mgmt.sn." + protocol.ConnectionEstablished
	if err := ghost.Register(probe, func(context.Context, *wamp.Invocation) client.InvokeResult { return client.InvokeResult{} }, nil); err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var errs []error
	s := Start(t, tr.config("41-7", "s"), nil, func(ctx context.Context, l *Link) error {
		err := l.Register(ctx, probe, nil, Echo)
		mu.Lock()
		errs = append(errs, err)
		mu.Unlock()
		var refused *CallError
		if errors.As(err, &refused) && refused.URI == protocol.ErrorProcedureExists {
			return ErrDuplicate
		}
		return err
	})
	for range 3 {
		s.Wait(Duplicate)
	}
	ghost.Close()
	s.Wait(Online)
	if open, _ := tr.relay.Links(); open != 1 {
		t.Errorf("%d links open, want 1", open)
	}
}

func TestRejoinTakesTheNewIdentityAtOnce(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s", "42-7": "s"})
	var swarm atomic.Int64
	swarm.Store(41)
	cfg := tr.config("", "")
	cfg.MinRetry, cfg.MaxRetry = time.Hour, time.Hour // no ordinary pause is survived
	cfg.Identity = func() (string, string) { return fmt.Sprintf("%d-7", swarm.Load()), "s" }
	caller := tr.peer()
	s := Start(t, cfg, nil, func(ctx context.Context, l *Link) error {
		if swarm.Add(1) == 42 {
			return ErrRejoin
		}
		return nil
	})
	s.Wait(Online)
	got, err := call(t, caller, "wamp.session.list")
	if err != nil {
		t.Fatal(err)
	}
	var authids []string
	ids, _ := wamp.AsList(got.Arguments[0])
	for _, id := range ids {
		d, err := call(t, caller, "wamp.session.get", id)
		if err != nil {
			continue
		}
		details, _ := wamp.AsDict(d.Arguments[0])
		authids = append(authids, fmt.Sprint(details["authid"]))
	}
	if all := strings.Join(authids, " "); !strings.Contains(all, "42-7") || strings.Contains(all, "41-7") {
		t.Errorf("sessions of %s, want 42-7 and no longer 41-7", all)
	}
}

func TestLostLinkIsClosedAndDialledAnew(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	links := make(chan *Link, 10)
	s := Start(t, tr.config("41-7", "s"), nil, func(_ context.Context, l *Link) error { links <- l; return nil })
	s.Wait(Online)
	first := <-links
	first.Lost(errors.New("two heartbeats failed"))
	if got := s.Wait(Offline); !strings.Contains(got.Reason, "two heartbeats failed") {
		t.Errorf("reason = %q, want the one given", got.Reason)
	}
	s.Wait(Online)
	if second := <-links; second.ID() == first.ID() {
		t.Error("the same session, want a new one")
	}
	if _, err := first.Call(t.Context(), "test.any", nil, nil); !errors.Is(err, ErrOffline) {
		t.Errorf("call on a lost link = %v, want ErrOffline", err)
	}
}

func TestOnlineIsEndedWithItsConnection(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	began, ended := make(chan struct{}, 10), make(chan error, 10)
	Start(t, tr.config("41-7", "s"), nil, func(ctx context.Context, l *Link) error {
		began <- struct{}{}
		<-ctx.Done()
		ended <- ctx.Err()
		return ctx.Err()
	})
	<-began
	tr.relay.Cut()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("context's error = %v, want canceled", err)
	}
	<-began
}

func TestEndSaysGoodbyeAndIsQuickWithoutARouter(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	watcher := tr.peer()
	left := make(chan struct{}, 10)
	if err := watcher.Subscribe("wamp.session.on_leave", func(*wamp.Event) { left <- struct{}{} }, nil); err != nil {
		t.Fatal(err)
	}
	s := Start(t, tr.config("41-7", "s"), nil, nil)
	s.Wait(Online)
	begin := time.Now()
	s.Stop()
	if took := time.Since(begin); took > 500*time.Millisecond {
		t.Errorf("leaving a router that is there took %v", took)
	}
	<-left

	s = Start(t, tr.config("41-7", "s"), nil, nil)
	s.Wait(Online)
	tr.relay.Freeze()
	// A call that nobody will answer must not hold the end up.
	answer := make(chan error, 1)
	go func() { _, err := s.Call(context.Background(), "test.any", nil, nil); answer <- err }()
	begin = time.Now()
	s.Stop()
	if took := time.Since(begin); took > 2500*time.Millisecond {
		t.Errorf("leaving a router that is gone took %v, want about 1 s", took)
	}
	if err := <-answer; !errors.Is(err, ErrOffline) {
		t.Errorf("call at the end = %v, want ErrOffline", err)
	}
	tr.relay.Thaw()
}

// One connection at a time, and the old one is closed before the next is dialled,
// however the connections end.
func TestNeverTwoConnections(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	cfg := tr.config("41-7", "s")
	cfg.MinRetry, cfg.MaxRetry = 1, 1
	var n atomic.Int64
	Start(t, cfg, nil, func(ctx context.Context, l *Link) error {
		// The relay learns of the close a moment later.
		Within(t, 5*time.Second, "old link closed", func() bool { open, _ := tr.relay.Links(); return open == 1 })
		now := n.Add(1)
		if now > 40 { // it stays: nexus' own closing races with its letting in
			return nil
		}
		switch now % 4 {
		case 0:
			return ErrDuplicate
		case 1:
			return ErrRejoin
		case 2:
			l.Lost(errors.New("test"))
		case 3:
			tr.relay.Cut()
		}
		return nil
	})
	Within(t, 20*time.Second, "40 connections and one", func() bool { return n.Load() > 40 })
}

func TestRouterThatComesBackElsewhereIsFound(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	s := Start(t, tr.config("41-7", "s"), nil, nil)
	s.Wait(Online)
	other := startRouter(t, map[string]string{"41-7": "s"})
	tr.relay.SetTarget("127.0.0.1:1") // nobody
	tr.relay.Cut()
	s.Wait(Offline)
	s.Wait(Offline)
	tr.relay.SetTarget(other.serve(nil))
	s.Wait(Online)
}

func TestRunRefusesToRunTwice(t *testing.T) {
	s, err := New(Config{Realm: "r", URL: "ws://127.0.0.1:1/"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("first Run = %v", err)
	}
	if err := s.Run(t.Context(), nil); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("second Run = %v, want a refusal", err)
	}
}
