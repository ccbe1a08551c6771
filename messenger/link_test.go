package messenger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/rs/zerolog"

	. "reagent/messenger"
	"reagent/protocol"
)

// online starts a session of device 41-7 and waits until it is on-line.
func online(t *testing.T, tr *testRouter, change func(*Config), declare func(*Session)) *RunningSession {
	t.Helper()
	tr.keys.set("41-7", "s")
	cfg := tr.config("41-7", "s")
	if change != nil {
		change(&cfg)
	}
	s := Start(t, cfg, declare, nil)
	s.Wait(Online)
	return s
}

func TestPanickingHandlersAnswerAnErrorAndTheSessionStays(t *testing.T) {
	tr := startRouter(t, nil)
	caller := tr.peer()
	var log strings.Builder
	seen := make(chan any, 2)
	s := online(t, tr, func(cfg *Config) { cfg.Log = zerolog.New(zerolog.SyncWriter(&log)) }, func(s *Session) {
		s.Declare("test.panic", nil, func(_ context.Context, inv Invocation) Outcome { return Outcome{Args: inv.Args[5:9]} })
		s.DeclareTopic("test.topic", "", func(_ context.Context, e Event) { seen <- e.Args[0]; panic("event " + fmt.Sprint(e.Args[0])) })
	})
	for range 3 {
		_, err := call(t, caller, "test.panic")
		var refused client.RPCError
		if !errors.As(err, &refused) || refused.Err.Error != protocol.ErrorContract || !strings.Contains(fmt.Sprint(refused.Err.Arguments), "internal error") {
			t.Errorf("call = %v, want the contract's error", err)
		}
	}
	for i := range 2 {
		if err := caller.Publish("test.topic", nil, wamp.List{i}, nil); err != nil {
			t.Fatal(err)
		}
		<-seen
	}
	if _, total := tr.relay.Links(); total != 1 || !s.Online() {
		t.Errorf("%d links, online %v: the session did not stay", total, s.Online())
	}
	s.Stop()
	for _, want := range []string{"slice bounds out of range", "link_test.go", "event 1"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log without %q:\n%s", want, log.String())
		}
	}
}

func TestCallerIsToldAsTheRouterDisclosesIt(t *testing.T) {
	tr := startRouter(t, nil)
	got := make(chan Invocation, 1)
	online(t, tr, nil, func(s *Session) {
		s.Declare("test.who", nil, func(_ context.Context, inv Invocation) Outcome { got <- inv; return Outcome{} })
	})
	if _, err := call(t, tr.peer(), "test.who"); err != nil {
		t.Fatal(err)
	}
	if inv := <-got; !inv.Disclosed || inv.Caller != "42" || inv.CallerRole != "trusted" || inv.Progress != nil {
		t.Errorf("caller = %+v, want 42, role trusted", inv)
	}
}

func TestCancelledCallEndsItsHandlersContext(t *testing.T) {
	tr := startRouter(t, nil)
	began, ended := make(chan struct{}), make(chan error, 1)
	online(t, tr, nil, func(s *Session) {
		s.Declare("test.hang", nil, func(ctx context.Context, _ Invocation) Outcome {
			close(began)
			<-ctx.Done()
			ended <- ctx.Err()
			return Outcome{}
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := tr.peer().Call(ctx, "test.hang", nil, nil, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("call = %v, want canceled", err)
	}
	<-ended
}

func TestProgressGoesAheadOfTheAnswer(t *testing.T) {
	tr := startRouter(t, nil)
	s := online(t, tr, nil, func(s *Session) {
		s.Declare("test.count", nil, func(ctx context.Context, inv Invocation) Outcome {
			for i := range 50 {
				if err := inv.Progress(ctx, i); err != nil {
					t.Errorf("progress: %v", err)
				}
			}
			return Outcome{Args: []any{"done"}}
		})
	})
	var got []any
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	res, err := s.CallProgress(ctx, "test.count", nil, nil, func(r Result) { got = append(got, r.Args...) })
	if err != nil || fmt.Sprint(res.Args) != "[done]" || len(got) != 50 || fmt.Sprint(got[49]) != "49" {
		t.Errorf("answer = %v, %v, after %v", res, err, got)
	}
}

func TestSlowTakerOfProgressLosesItsCallOnly(t *testing.T) {
	tr := startRouter(t, nil)
	block := make(chan struct{})
	s := online(t, tr, func(cfg *Config) { cfg.EventQueue = 8 }, func(s *Session) {
		s.Declare("test.flood", nil, func(ctx context.Context, inv Invocation) Outcome {
			for i := 0; ctx.Err() == nil; i++ {
				_ = inv.Progress(ctx, i)
			}
			close(block)
			return Outcome{}
		})
		s.Declare("test.echo", nil, Echo)
	})
	_, err := s.CallProgress(t.Context(), "test.flood", nil, nil, func(Result) { <-block })
	if err == nil || !strings.Contains(err.Error(), "faster than it is taken") {
		t.Errorf("call = %v, want it given up", err)
	}
	if _, err := s.Call(t.Context(), "test.echo", nil, nil); err != nil {
		t.Errorf("the next call: %v", err)
	}
}

func TestTooManyCallsAtOnceAreRefused(t *testing.T) {
	tr := startRouter(t, nil)
	caller := tr.peer()
	began, end := make(chan struct{}, 10), make(chan struct{})
	online(t, tr, func(cfg *Config) { cfg.MaxInvocations = 3 }, func(s *Session) {
		s.Declare("test.hang", nil, func(context.Context, Invocation) Outcome { began <- struct{}{}; <-end; return Outcome{} })
	})
	held := make(chan error, 3)
	for range 3 {
		go func() { _, err := call(t, caller, "test.hang"); held <- err }()
		<-began
	}
	_, err := call(t, caller, "test.hang")
	if err == nil || !strings.Contains(err.Error(), "too many calls") {
		t.Errorf("fourth call = %v, want a refusal", err)
	}
	close(end)
	for range 3 {
		if err := <-held; err != nil {
			t.Errorf("held call: %v", err)
		}
	}
	if _, err := call(t, caller, "test.hang"); err != nil {
		t.Errorf("call after the others ended: %v", err)
	}
}

func TestAnAnswerThatIsSentOrDroppedIsLetGo(t *testing.T) {
	tr := startRouter(t, nil)
	caller := tr.peer()
	gone, began := make(chan struct{}, 1), make(chan struct{}, 1)
	online(t, tr, nil, func(s *Session) {
		answer := Outcome{Args: []any{"x"}, Sent: func() { gone <- struct{}{} }}
		s.Declare("test.sent", nil, func(context.Context, Invocation) Outcome { return answer })
		s.Declare("test.dropped", nil, func(ctx context.Context, _ Invocation) Outcome {
			began <- struct{}{}
			<-ctx.Done()
			return answer
		})
	})
	if _, err := call(t, caller, "test.sent"); err != nil {
		t.Fatal(err)
	}
	<-gone
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := caller.Call(ctx, "test.dropped", nil, nil, nil, nil)
		ended <- err
	}()
	<-began
	cancel()
	if err := <-ended; err == nil {
		t.Error("a call that was cancelled was answered")
	}
	<-gone
}

func TestEventsKeepTheirOrderAndASlowHandlerHoldsNobodyUp(t *testing.T) {
	tr := startRouter(t, nil)
	caller := tr.peer()
	release, got := make(chan struct{}), make(chan string, 100)
	var log strings.Builder
	s := online(t, tr, func(cfg *Config) { cfg.EventQueue = 10; cfg.Log = zerolog.New(zerolog.SyncWriter(&log)) }, func(s *Session) {
		s.DeclareTopic("test.slow", "prefix", func(_ context.Context, e Event) {
			<-release
			got <- fmt.Sprint(e.Topic, e.Args)
		})
		s.Declare("test.echo", nil, Echo)
	})
	for i := range 40 {
		if err := caller.Publish("test.slow.a", nil, wamp.List{i}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := call(t, caller, "test.echo"); err != nil { // goes past the 40 events
		t.Fatalf("call beside a slow handler: %v", err)
	}
	close(release)
	for i := range 10 {
		if g, w := <-got, fmt.Sprintf("test.slow.a[%d]", i); g != w {
			t.Fatalf("event %d = %s, want %s", i, g, w)
		}
	}
	Within(t, 5*time.Second, "idle", s.Idle)
	s.Stop()
	if !strings.Contains(log.String(), `"lost":29`) && !strings.Contains(log.String(), `"lost":30`) {
		t.Errorf("the loss is not in the log: %s", log.String())
	}
}

func TestDeclarationsTakeEffectAtOnceWhileOnline(t *testing.T) {
	tr := startRouter(t, nil)
	caller := tr.peer()
	s := online(t, tr, nil, nil)
	answers := func(uri, want string) func() bool {
		return func() bool {
			r, err := call(t, caller, uri)
			return err == nil && fmt.Sprint(r.Arguments) == want
		}
	}
	say := func(what string) Handler {
		return func(context.Context, Invocation) Outcome { return Outcome{Args: []any{what}} }
	}
	withdrawFirst := s.Declare("test.late", nil, say("first"))
	Within(t, 5*time.Second, "declared while online", answers("test.late", "[first]"))
	withdraw := s.Declare("test.late", nil, say("second"))
	Within(t, 5*time.Second, "replaced", answers("test.late", "[second]"))
	withdrawFirst() // no longer its own
	if !answers("test.late", "[second]")() {
		t.Error("withdrawing a replaced declaration withdrew the new one")
	}
	withdraw()
	Within(t, 5*time.Second, "withdrawn", func() bool {
		_, err := call(t, caller, "test.late")
		var refused client.RPCError
		return errors.As(err, &refused) && refused.Err.Error == wamp.ErrNoSuchProcedure
	})
	for i := range 200 { // in quick succession: the last word counts
		withdraw := s.Declare("test.late", nil, say(fmt.Sprint(i)))
		if i < 199 {
			withdraw()
		}
	}
	Within(t, 5*time.Second, "declared anew", answers("test.late", "[199]"))
	link := s.Link()
	Within(t, 5*time.Second, "nothing of withdrawn ones kept", func() bool { return link.Entries() == 1 })

	events := make(chan Event, 1)
	unsubscribe := s.DeclareTopic("test.topic", "exact", func(_ context.Context, e Event) { events <- e })
	Within(t, 5*time.Second, "event of a late subscription", func() bool {
		_ = caller.Publish("test.topic", nil, nil, nil)
		select {
		case <-events:
			return true
		default:
			return false
		}
	})
	unsubscribe()
}

// Each answer is asked for at once, so that any of them would be wrong where
// Settle did not wait.
func TestSettledDeclarationsAreThere(t *testing.T) {
	tr := startRouter(t, nil)
	caller := tr.peer()
	s := online(t, tr, nil, nil)
	events := make(chan Event, 1)
	for i := range 50 {
		uri := fmt.Sprintf("test.%d", i)
		withdraw := s.Declare(uri, nil, Echo)
		unsubscribe := s.DeclareTopic(uri+".keys", "", func(_ context.Context, e Event) { events <- e })
		if err := s.Settle(t.Context(), uri, uri+".keys"); err != nil {
			t.Fatalf("Settle = %v", err)
		}
		if _, err := call(t, caller, uri); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		if err := caller.Publish(uri+".keys", wamp.Dict{"acknowledge": true}, nil, nil); err != nil {
			t.Fatal(err)
		}
		select {
		case <-events:
		case <-time.After(10 * time.Second):
			t.Fatalf("event %d does not arrive", i)
		}
		withdraw()
		unsubscribe()
		if err := s.Settle(t.Context(), uri, uri+".keys"); err != nil {
			t.Fatalf("Settle after the withdrawal = %v", err)
		}
		if _, err := call(t, caller, uri); err == nil {
			t.Fatalf("call %d is answered after its withdrawal", i)
		}
	}
	if n := s.Link().Entries(); n != 0 {
		t.Errorf("%d entries are kept", n)
	}
	withdraw := s.Declare("bad uri#", nil, Echo)
	defer withdraw()
	if err := s.Settle(t.Context(), "bad uri#"); err == nil {
		t.Error("what the router refuses is settled")
	}
	s.Stop()
	if err := s.Settle(t.Context(), "test.1"); !errors.Is(err, ErrOffline) {
		t.Errorf("Settle without a connection = %v, want ErrOffline", err)
	}
}

func TestApplySaysWhichDeclarationFailed(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	other := tr.peer()
	if err := other.Register("test.taken", func(context.Context, *wamp.Invocation) client.InvokeResult { return client.InvokeResult{} }, nil); err != nil {
		t.Fatal(err)
	}
	result := make(chan error, 1)
	Start(t, tr.config("41-7", "s"), func(s *Session) {
		s.Declare("test.taken", nil, Echo)
		s.Declare("test.free", nil, Echo)
		s.Declare("bad uri#", nil, Echo)
	}, func(ctx context.Context, l *Link) error { result <- l.Apply(ctx); return nil })
	err := <-result
	var refused *CallError
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), "register test.taken: "+protocol.ErrorProcedureExists) || strings.Contains(err.Error(), "test.free") {
		t.Errorf("Apply = %v, want test.taken and the router's reason", err)
	}
	if _, err := call(t, other, "test.free"); err != nil {
		t.Errorf("the others: %v", err)
	}
}

func TestCallErrors(t *testing.T) {
	tr := startRouter(t, nil)
	s := online(t, tr, nil, func(s *Session) {
		s.Declare("test.refuse", nil, func(context.Context, Invocation) Outcome {
			return Outcome{Error: "re.error.conflict", Args: []any{map[string]any{"error": "it is there", "code": "conflict"}}, Kwargs: map[string]any{"a": "b"}}
		})
		s.Declare("test.hang", nil, func(ctx context.Context, _ Invocation) Outcome { <-ctx.Done(); return Outcome{} })
	})
	_, err := s.Call(t.Context(), "test.refuse", nil, nil)
	var refused *CallError
	if !errors.As(err, &refused) || refused.URI != "re.error.conflict" || refused.Text() != "it is there" || refused.Kwargs["a"] != "b" {
		t.Errorf("refused call = %#v", err)
	}
	if want := "call test.refuse: re.error.conflict: it is there"; err == nil || err.Error() != want {
		t.Errorf("text = %v, want %s", err, want)
	}
	if _, err = s.Call(t.Context(), "test.nobody", nil, nil); !errors.As(err, &refused) || refused.URI != protocol.ErrorNoSuchProcedure {
		t.Errorf("call of nobody = %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if _, err = s.Call(ctx, "test.hang", nil, nil); !errors.Is(err, context.DeadlineExceeded) || time.Since(begin) > 5*time.Second {
		t.Errorf("late call = %v after %v, want the deadline", err, time.Since(begin))
	}
	if _, err = s.Call(t.Context(), "test.refuse", []any{complex(1, 2)}, nil); err == nil || !strings.Contains(err.Error(), "encode CALL") {
		t.Errorf("call that cannot be encoded = %v", err)
	}
	s.Stop()
	if _, err = s.Call(t.Context(), "test.refuse", nil, nil); !errors.Is(err, ErrOffline) {
		t.Errorf("call offline = %v, want ErrOffline", err)
	}
	if err = s.Publish(t.Context(), "test.topic", nil, nil, nil); !errors.Is(err, ErrOffline) {
		t.Errorf("publication offline = %v, want ErrOffline", err)
	}
}

func TestLostConnectionEndsCalls(t *testing.T) {
	tr := startRouter(t, nil)
	began := make(chan struct{})
	s := online(t, tr, nil, func(s *Session) {
		s.Declare("test.hang", nil, func(ctx context.Context, _ Invocation) Outcome { close(began); <-ctx.Done(); return Outcome{} })
	})
	go func() { <-began; tr.relay.Cut() }()
	if _, err := s.Call(t.Context(), "test.hang", nil, nil); !errors.Is(err, ErrOffline) {
		t.Errorf("call over a lost connection = %v, want ErrOffline", err)
	}
}

func TestPublishIsAcknowledgedWhenAsked(t *testing.T) {
	tr := startRouter(t, nil)
	got := make(chan *wamp.Event, 2)
	peer := tr.peer()
	if err := peer.Subscribe("test.topic", func(e *wamp.Event) { got <- e }, nil); err != nil {
		t.Fatal(err)
	}
	s := online(t, tr, nil, nil)
	options := map[string]any{"acknowledge": true}
	if err := s.Publish(t.Context(), "test.topic", options, []any{1}, map[string]any{"k": "v"}); err != nil {
		t.Errorf("acknowledged publication: %v", err)
	}
	if len(options) != 1 {
		t.Errorf("the caller's options were changed: %v", options)
	}
	if e := <-got; fmt.Sprint(e.Arguments, e.ArgumentsKw) != "[1] map[k:v]" || len(e.Details) > 3 {
		t.Errorf("event = %+v", e)
	}
	if err := s.Publish(t.Context(), "test.topic", nil, []any{2}, nil); err != nil {
		t.Errorf("publication: %v", err)
	}
	<-got
	var refused *CallError
	if err := s.Publish(t.Context(), "bad topic#", options, nil, nil); !errors.As(err, &refused) {
		t.Errorf("refused publication = %v, want a CallError", err)
	}
}

func TestLongMessages(t *testing.T) {
	tr := startRouter(t, nil)
	caller := tr.peer()
	s := online(t, tr, func(cfg *Config) { cfg.MaxMessage, cfg.MaxSend = 4<<20, 1<<20 }, func(s *Session) {
		s.Declare("test.length", nil, func(_ context.Context, inv Invocation) Outcome {
			return Outcome{Args: []any{len(inv.Args[0].(string))}}
		})
		s.Declare("test.make", nil, func(_ context.Context, inv Invocation) Outcome {
			n, _ := protocol.Uint(inv.Args[0])
			return Outcome{Args: []any{strings.Repeat("x", int(n))}}
		})
	})
	const room = 200 // for what is around the text
	if got, err := call(t, caller, "test.length", strings.Repeat("x", 4<<20-room)); err != nil || fmt.Sprint(got.Arguments[0]) != fmt.Sprint(4<<20-room) {
		t.Errorf("a message just below the limit: %v", err)
	}
	if _, err := call(t, caller, "test.make", 1<<20-room); err != nil {
		t.Errorf("an answer just below the limit: %v", err)
	}
	_, err := call(t, caller, "test.make", 1<<20)
	if err == nil || !strings.Contains(err.Error(), "too_large") {
		t.Errorf("an answer above the limit = %v, want an error with the code too_large", err)
	}
	if _, err := s.Call(t.Context(), "test.length", []any{strings.Repeat("x", 1<<20)}, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a call above the limit = %v, want ErrTooLarge", err)
	}
	if err := s.Publish(t.Context(), "test.topic", map[string]any{"acknowledge": true}, []any{strings.Repeat("x", 1<<20)}, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("an event above the limit = %v, want ErrTooLarge", err)
	}
	if _, total := tr.relay.Links(); total != 1 {
		t.Errorf("%d links so far, want 1", total)
	}
	if _, err := call(t, caller, "test.length", strings.Repeat("x", 5<<20)); err == nil {
		t.Error("a message above the limit was answered")
	}
	if got := s.Wait(Offline); !strings.Contains(got.Reason, "limit") {
		t.Errorf("reason = %q, want the limit", got.Reason)
	}
	s.Wait(Online)
	if _, err := call(t, caller, "test.length", "x"); err != nil {
		t.Errorf("after a message above the limit: %v", err)
	}
}
