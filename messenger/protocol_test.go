package messenger

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/wamp"
)

func TestHelloSaysExactlyWhatTheContractHas(t *testing.T) {
	cfg := Quick()
	hello := make(chan wamp.Dict, 1)
	cfg.Identity = func() (string, string) { return "41-1207", "secret" }
	cfg.Dial = routerOf(t, func(f *fakeRouter) {
		m := (<-f.peer.Recv()).(*wamp.Hello)
		hello <- m.Details
		f.welcome()
		f.serve(nil)
	})
	s := Start(t, cfg, nil, nil)
	s.Wait(Online)
	got := wamp.NormalizeDict(<-hello)
	want := wamp.Dict{
		"authid": "41-1207", "authmethods": wamp.List{"wampcra"},
		"roles": wamp.Dict{
			"publisher":  features("subscriber_blackwhite_listing", "publisher_exclusion", "publisher_identification", "payload_passthru_mode"),
			"subscriber": features("pattern_based_subscription", "publisher_identification", "payload_passthru_mode"),
			"callee": features("pattern_based_registration", "shared_registration", "call_canceling", "call_timeout", "caller_identification",
				"progressive_call_invocations", "progressive_call_results", "payload_passthru_mode"),
			"caller": features("call_canceling", "call_timeout", "caller_identification", "progressive_call_invocations",
				"progressive_call_results", "payload_passthru_mode"),
		},
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("HELLO details\n got %v\nwant %v", got, want)
	}
}

func features(names ...string) wamp.Dict {
	d := wamp.Dict{}
	for _, n := range names {
		d[n] = true
	}
	return wamp.Dict{"features": d}
}

func TestUndisclosedCallersAreSaidToBe(t *testing.T) {
	for name, c := range map[string]struct {
		details wamp.Dict
		caller  string
		ok      bool
	}{
		"nothing":    {wamp.Dict{}, "", false},
		"null":       {wamp.Dict{"caller_authid": nil, "caller_authrole": "system"}, "", false},
		"empty":      {wamp.Dict{"caller_authid": ""}, "", false},
		"list":       {wamp.Dict{"caller_authid": []any{"system"}}, "", false},
		"true":       {wamp.Dict{"caller_authid": true}, "", false},
		"negative":   {wamp.Dict{"caller_authid": int64(-1)}, "", false},
		"text":       {wamp.Dict{"caller_authid": "system"}, "system", true},
		"number":     {wamp.Dict{"caller_authid": uint64(123456789)}, "123456789", true},
		"big number": {wamp.Dict{"caller_authid": float64(1 << 40)}, "1099511627776", true},
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan Invocation, 1)
			cfg := Quick()
			cfg.Dial = routerOf(t, func(f *fakeRouter) {
				f.join()
				f.serve(func(msg wamp.Message) bool {
					if m, ok := msg.(*wamp.Register); ok {
						f.send(&wamp.Registered{Request: m.Request, Registration: 9})
						f.send(&wamp.Invocation{Request: 1, Registration: 9, Details: c.details})
						return true
					}
					return false
				})
			})
			Start(t, cfg, func(s *Session) {
				s.Declare("test.who", nil, func(_ context.Context, inv Invocation) Outcome { got <- inv; return Outcome{} })
			}, nil)
			inv := <-got
			if inv.Caller != c.caller || inv.Disclosed != c.ok || !c.ok && inv.CallerRole != "" {
				t.Errorf("caller = %q, %q, disclosed %v; want %q, %v", inv.Caller, inv.CallerRole, inv.Disclosed, c.caller, c.ok)
			}
		})
	}
}

// An INVOCATION or EVENT that follows its REGISTERED or SUBSCRIBED at once must
// find its handler.
func TestNothingIsLostBetweenRegisteredAndTheFirstCall(t *testing.T) {
	const many = 300
	var answered, refused atomic.Int64
	all := make(chan struct{})
	cfg := Quick()
	cfg.Dial = routerOf(t, func(f *fakeRouter) {
		f.join()
		f.serve(func(msg wamp.Message) bool {
			switch m := msg.(type) {
			case *wamp.Register:
				id := f.id()
				f.send(&wamp.Registered{Request: m.Request, Registration: id})
				f.send(&wamp.Invocation{Request: id, Registration: id, Details: wamp.Dict{}})
				return true
			case *wamp.Subscribe:
				id := f.id()
				f.send(&wamp.Subscribed{Request: m.Request, Subscription: id})
				f.send(&wamp.Event{Subscription: id, Publication: id, Details: wamp.Dict{}})
				return true
			case *wamp.Yield:
				if answered.Add(1) == 2*many {
					close(all)
				}
			case *wamp.Error:
				refused.Add(1)
			}
			return false
		})
	})
	Start(t, cfg, func(s *Session) {
		for i := range many {
			s.Declare(fmt.Sprintf("test.p%d", i), nil, Echo)
			s.DeclareTopic(fmt.Sprintf("test.t%d", i), "", func(context.Context, Event) {
				if answered.Add(1) == 2*many {
					close(all)
				}
			})
		}
	}, nil)
	select {
	case <-all:
	case <-time.After(10 * time.Second):
		t.Errorf("%d of %d arrived, %d calls were refused", answered.Load(), 2*many, refused.Load())
	}
}

func TestCallWithoutADeadlineGetsOneAndIsCancelled(t *testing.T) {
	cancelled := make(chan wamp.Dict, 1)
	cfg := Quick()
	cfg.CallTimeout = 30 * time.Millisecond
	cfg.Dial = routerOf(t, func(f *fakeRouter) {
		f.join()
		f.serve(func(msg wamp.Message) bool {
			if m, ok := msg.(*wamp.Cancel); ok {
				cancelled <- m.Options
			}
			_, ok := msg.(*wamp.Call)
			return ok // never answered
		})
	})
	s := Start(t, cfg, nil, nil)
	s.Wait(Online)
	if _, err := s.Call(context.Background(), "test.hang", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("call = %v, want the deadline", err)
	}
	if got := <-cancelled; got["mode"] != "killnowait" {
		t.Errorf("CANCEL options = %v, want mode killnowait", got)
	}
}
