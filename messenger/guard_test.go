package messenger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gammazero/nexus/v3/wamp"

	"reagent/internal/backoff"
)

// hostile is a session and the means to be wrong towards it.
type hostile struct {
	*RunningSession
	to       chan wamp.Message // what the router sends next
	answered chan wamp.Message // YIELDs and ERRORs of the session
	dials    atomic.Int64
	first    int64 // the dial that the test began with
}

const echoRegistration = 1000

// startHostile starts a session whose router answers as special says and
// otherwise decently, and sends what comes through to.
func startHostile(t *testing.T, change func(*Config), special func(f *fakeRouter, msg wamp.Message) bool) *hostile {
	h := &hostile{to: make(chan wamp.Message), answered: make(chan wamp.Message, 4096)}
	cfg := Quick()
	cfg.ResponseTimeout = 2 * time.Second
	if change != nil {
		change(&cfg)
	}
	cfg.Dial = routerOf(t, func(f *fakeRouter) {
		h.dials.Add(1)
		f.join()
		over := make(chan struct{})
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			for {
				select {
				case msg := <-h.to:
					f.send(msg)
				case <-over:
					return
				}
			}
		}()
		f.serve(func(msg wamp.Message) bool {
			switch m := msg.(type) {
			case *wamp.Register:
				if m.Procedure == "test.echo" {
					f.send(&wamp.Registered{Request: m.Request, Registration: echoRegistration})
					return true
				}
			case *wamp.Yield, *wamp.Error:
				h.answered <- m
			}
			return special != nil && special(f, msg)
		})
		close(over)
		<-sent
	})
	h.RunningSession = Start(t, cfg, func(s *Session) {
		s.Declare("test.echo", nil, Echo)
		s.DeclareTopic("test.topic", "", func(context.Context, Event) {})
	}, nil)
	h.Wait(Online)
	h.first = h.dials.Load() // with short limits and a busy machine it may take some
	return h
}

// checkAlive fails the test if the session of before is deaf or gone.
func (h *hostile) checkAlive(id wamp.ID) {
	h.t.Helper()
	for len(h.answered) > 0 {
		<-h.answered
	}
	h.to <- &wamp.Invocation{Request: id, Registration: echoRegistration, Details: wamp.Dict{}, Arguments: wamp.List{"still there?"}}
	for {
		select {
		case msg := <-h.answered:
			if y, ok := msg.(*wamp.Yield); ok && y.Request == id && fmt.Sprint(y.Arguments) == "[still there?]" {
				if _, err := h.Call(h.t.Context(), "test.any", nil, nil); err != nil {
					h.t.Errorf("a call of the session's own: %v", err)
				}
				if n := h.dials.Load(); n != h.first {
					h.t.Errorf("the session was lost %d times: %v", n-h.first, h.Wait(Offline).Reason)
				}
				return
			}
		case <-time.After(10 * time.Second):
			h.t.Fatal("the session is deaf")
		}
	}
}

func TestSecondAnswersDoNotDeafen(t *testing.T) {
	h := startHostile(t, nil, func(f *fakeRouter, msg wamp.Message) bool {
		switch m := msg.(type) {
		case *wamp.Call:
			for range 5 {
				f.send(&wamp.Result{Request: m.Request, Details: wamp.Dict{"progress": true}})
				f.send(&wamp.Result{Request: m.Request, Details: wamp.Dict{}})
				f.send(&wamp.Error{Type: wamp.CALL, Request: m.Request, Details: wamp.Dict{}, Error: "x.y"})
			}
			return true
		case *wamp.Register:
			for range 5 {
				f.send(&wamp.Subscribed{Request: m.Request, Subscription: 3})
				f.send(&wamp.Error{Type: wamp.CALL, Request: m.Request, Details: wamp.Dict{}, Error: "x.y"})
				f.send(&wamp.Registered{Request: m.Request, Registration: f.id()})
			}
			return true
		case *wamp.Publish:
			for range 5 {
				f.send(&wamp.Published{Request: m.Request, Publication: 1})
			}
			return true
		}
		return false
	})
	link := h.link.Load()
	for i := range 100 {
		if _, err := h.Call(t.Context(), "test.any", nil, nil); err != nil {
			t.Fatalf("call: %v", err)
		}
		if err := link.Register(t.Context(), fmt.Sprintf("test.p%d", i), nil, Echo); err != nil {
			t.Fatalf("register: %v", err)
		}
		if err := h.Publish(t.Context(), "test.t", map[string]any{"acknowledge": true}, nil, nil); err != nil {
			t.Fatalf("publish: %v", err)
		}
	}
	h.checkAlive(1)
}

// The instant in which an asker gives up is when nexus' client could be stopped:
// answers are sent around it, again and again.
func TestAnswersInTheInstantOfTheTimeoutDoNotDeafen(t *testing.T) {
	const limit = 2 * time.Millisecond
	h := startHostile(t, func(cfg *Config) { cfg.ResponseTimeout = limit }, func(f *fakeRouter, msg wamp.Message) bool {
		late := func(answer wamp.Message) {
			<-time.After(limit - time.Millisecond/2 + backoff.Jitter(time.Millisecond))
			f.send(answer)
			f.send(answer)
		}
		switch m := msg.(type) {
		case *wamp.Publish:
			late(&wamp.Published{Request: m.Request, Publication: 1})
			return true
		case *wamp.Call:
			if m.Procedure == "test.late" {
				late(&wamp.Result{Request: m.Request, Details: wamp.Dict{"progress": rand.N(2) == 0}})
				late(&wamp.Error{Type: wamp.CALL, Request: m.Request, Details: wamp.Dict{}, Error: wamp.ErrCanceled})
				return true
			}
		}
		return false
	})
	var both [2]bool
	for range 300 {
		err := h.Publish(t.Context(), "test.t", map[string]any{"acknowledge": true}, nil, nil)
		both[map[bool]int{true: 0, false: 1}[err == nil]] = true
		if err != nil && !errors.Is(err, errNoAnswer) {
			t.Fatalf("publish: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		_, err = h.CallProgress(ctx, "test.late", nil, nil, func(Result) {})
		cancel()
		var refused *CallError
		if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.As(err, &refused) {
			t.Fatalf("call: %v", err)
		}
	}
	if both != [2]bool{true, true} {
		t.Errorf("the answers were never near the limit: %v", both)
	}
	h.checkAlive(1)
}

func TestOddPayloadsDoNotEndTheProcess(t *testing.T) {
	h := startHostile(t, nil, func(f *fakeRouter, msg wamp.Message) bool {
		if m, ok := msg.(*wamp.Call); ok && m.Procedure == "test.ppt" {
			f.send(&wamp.Result{Request: m.Request, Details: wamp.Dict{"ppt_scheme": "wamp", "ppt_serializer": "cbor"}, Arguments: wamp.List{7}})
			return true
		}
		return false
	})
	id := wamp.ID(0)
	for _, scheme := range []any{"wamp", "mqtt", "x_any", "?", 7, nil} {
		for _, serializer := range []any{"cbor", "json", "native", "?", 7, nil} {
			for _, args := range []wamp.List{nil, {}, {nil}, {7}, {[]byte("\xff")}, {"x"}} {
				details := wamp.Dict{"ppt_scheme": scheme, "ppt_serializer": serializer, "progress": true}
				id++
				h.to <- &wamp.Invocation{Request: id, Registration: echoRegistration, Details: details, Arguments: args}
				h.to <- &wamp.Invocation{Request: id, Registration: echoRegistration, Details: details, Arguments: args} // a second part
				h.to <- &wamp.Event{Subscription: 1, Publication: 1, Details: details, Arguments: args}
			}
		}
	}
	if _, err := h.Call(t.Context(), "test.ppt", nil, nil); err != nil {
		t.Errorf("a result in pass-through mode: %v, want it as it is", err)
	}
	h.checkAlive(id + 1)
}

func TestWrongLoginAnswersAreFailures(t *testing.T) {
	for name, answer := range map[string]wamp.Message{
		"WELCOME without details":   &wamp.Welcome{},
		"WELCOME with odd roles":    &wamp.Welcome{ID: 1, Details: wamp.Dict{"roles": []any{1, nil}}},
		"WELCOME with nested roles": &wamp.Welcome{ID: 1, Details: wamp.Dict{"roles": wamp.Dict{"x": nil, "y": wamp.Dict{"features": 7}}}},
		"ABORT":                     &wamp.Abort{},
		"ABORT with odd message":    &wamp.Abort{Reason: "x", Details: wamp.Dict{"message": []any{1}}},
		"GOODBYE":                   &wamp.Goodbye{},
		"CHALLENGE of nothing":      &wamp.Challenge{},
		"CHALLENGE twice":           &wamp.Challenge{AuthMethod: "wampcra", Extra: wamp.Dict{"challenge": 7}},
		"CHALLENGE for ever":        &wamp.Challenge{AuthMethod: "wampcra", Extra: wamp.Dict{"salt": "s", "iterations": uint64(1 << 60), "keylen": uint64(1 << 60)}},
		"RESULT":                    &wamp.Result{},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Quick()
			cfg.ResponseTimeout = 50 * time.Millisecond
			cfg.Identity = func() (string, string) { return "41-7", "s" }
			cfg.Dial = routerOf(t, func(f *fakeRouter) {
				<-f.peer.Recv()
				f.send(answer)
				f.send(answer)
			})
			s := Start(t, cfg, nil, nil)
			for range 3 {
				if got := s.Wait(Offline); got.Reason == "" {
					t.Errorf("status = %+v, want a reason", got)
				}
			}
		})
	}
}

func TestUnknownChallengeIsAnsweredWithAnEmptySignature(t *testing.T) {
	got := make(chan *wamp.Authenticate, 1)
	cfg := Quick()
	cfg.Identity = func() (string, string) { return "41-7", "s" }
	cfg.Dial = routerOf(t, func(f *fakeRouter) {
		<-f.peer.Recv()
		f.send(&wamp.Challenge{AuthMethod: "ticket", Extra: wamp.Dict{}})
		got <- (<-f.peer.Recv()).(*wamp.Authenticate)
		f.welcome()
		f.serve(nil)
	})
	s := Start(t, cfg, nil, nil)
	s.Wait(Online)
	if m := <-got; m.Signature != "" || m.Extra == nil || len(m.Extra) != 0 {
		t.Errorf("AUTHENTICATE = %+v, want an empty signature and {}", m)
	}
}

func TestAnyWordingOfARefusedLoginIsUnauthorized(t *testing.T) {
	for _, c := range []struct {
		reason, text string
		want         State
	}{
		{"wamp.error.not_authorized", "WAMP-CRA client signature is invalid", Unauthorized},
		{"wamp.error.authentication_failed", "invalid signature", Unauthorized},
		{"wamp.error.authorization_failed", "", Unauthorized},
		{"wamp.error.no_such_principal", "", Unauthorized},
		{"wamp.error.no_such_role", "", Unauthorized},
		{"wamp.error.no_auth_method", "", Unauthorized},
		{"com.example.cannot_authenticate", "", Unauthorized},
		{"com.example.kicked", "WAMP-CRA client signature is invalid", Unauthorized},
		{"wamp.error.no_such_realm", "no realm \"authority\" exists", Offline},
		{"wamp.close.system_shutdown", "", Offline},
		{"wamp.error.protocol_violation", "", Offline},
		{"authority.example.busy", "", Offline},
		{"", "", Offline},
	} {
		t.Run(c.reason+" "+c.text, func(t *testing.T) {
			for _, afterChallenge := range []bool{false, true} {
				cfg := Quick()
				cfg.Identity = func() (string, string) { return "41-7", "s" }
				cfg.Dial = routerOf(t, func(f *fakeRouter) {
					<-f.peer.Recv()
					if afterChallenge {
						f.send(&wamp.Challenge{AuthMethod: "wampcra", Extra: wamp.Dict{"challenge": "x"}})
						<-f.peer.Recv()
					}
					f.send(&wamp.Abort{Reason: wamp.URI(c.reason), Details: wamp.Dict{"message": c.text}})
				})
				s := Start(t, cfg, nil, nil)
				<-s.States // connecting
				got := <-s.States
				if got.State != c.want || !strings.Contains(got.Reason, c.reason) || !strings.Contains(got.Reason, c.text) {
					t.Errorf("after a challenge %v: %+v, want %s with the router's words", afterChallenge, got, c.want)
				}
			}
		})
	}
}

func TestSilentRouterDoesNotHoldTheLoginUp(t *testing.T) {
	cfg := Quick()
	cfg.ResponseTimeout = 30 * time.Millisecond
	cfg.Dial = routerOf(t, func(*fakeRouter) {})
	s := Start(t, cfg, nil, nil)
	if got := s.Wait(Offline); !strings.Contains(got.Reason, "no answer to the login within 30ms") {
		t.Errorf("reason = %q", got.Reason)
	}
}

func TestEndDuringTheLoginIsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := Quick()
		cfg.Dial = routerOf(t, func(*fakeRouter) {})
		s := Start(t, cfg, nil, nil)
		synctest.Wait()
		begin := time.Now()
		s.Stop()
		if took := time.Since(begin); took > 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestRouterThatTakesNothingIsGivenUp(t *testing.T) {
	cfg := Quick()
	cfg.WriteTimeout = 30 * time.Millisecond
	cfg.ResponseTimeout = time.Hour
	cfg.Dial = func(context.Context) (wamp.Peer, error) { return deafPeer{}, nil }
	s := Start(t, cfg, nil, nil)
	if got := s.Wait(Offline); !strings.Contains(got.Reason, "took nothing for 30ms") {
		t.Errorf("reason = %q", got.Reason)
	}
}

// deafPeer takes no message and sends none.
type deafPeer struct{}

func (deafPeer) Close()                    {}
func (deafPeer) IsLocal() bool             { return true }
func (deafPeer) Recv() <-chan wamp.Message { return nil }
func (deafPeer) Send() chan<- wamp.Message { return nil }

func TestTextIsValidInEveryFormat(t *testing.T) {
	bad := "a\xffb"
	args := wamp.List{bad, []any{bad, 7}, map[string]any{bad: bad, "ok": "ok"}, "fine"}
	for name, format := range formats {
		raw, err := format.encode(&wamp.Yield{Request: 1, Options: wamp.Dict{}, Arguments: args, ArgumentsKw: wamp.Dict{"k": bad}}, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(raw), "\xffb") {
			t.Errorf("%s carries a text that is not UTF-8: %q", name, raw)
		}
		msg, err := format.decode(raw)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := fmt.Sprint(msg.(*wamp.Yield).Arguments, msg.(*wamp.Yield).ArgumentsKw)
		if want := "[a\uFFFDb [a\uFFFDb 7] map[a\uFFFDb:a\uFFFDb ok:ok] fine] map[k:a\uFFFDb]"; got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if args[0] != bad || args[1].([]any)[0] != bad {
		t.Error("the caller's payload was changed")
	}
}
