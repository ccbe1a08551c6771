package messenger

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/wamp"
)

// FuzzHostileRouter plays a router that sends whatever comes to mind, in every
// format, and demands that the session neither panics nor goes deaf.
func FuzzHostileRouter(f *testing.F) {
	for seed := range uint64(24) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 1))
		h := startHostile(t, func(cfg *Config) { cfg.ResponseTimeout = 5 * time.Millisecond }, func(f *fakeRouter, msg wamp.Message) bool {
			if m, ok := msg.(*wamp.Call); ok && m.Procedure != "test.any" {
				if r.IntN(2) == 0 {
					f.send(&wamp.Result{Request: m.Request, Details: randomDict(r, 2), Arguments: randomList(r, 2)})
				}
				return true
			}
			_, publication := msg.(*wamp.Publish)
			return publication && r.IntN(2) == 0
		})
		sender := rand.New(rand.NewPCG(seed, 2))
		ctx, cancel := context.WithCancel(t.Context())
		busy := make(chan struct{})
		go func() {
			defer close(busy)
			for ctx.Err() == nil {
				callCtx, cancel := context.WithTimeout(ctx, time.Millisecond)
				_, _ = h.CallProgress(callCtx, "test.other", nil, nil, func(Result) {})
				cancel()
				_ = h.Publish(ctx, "test.t", map[string]any{"acknowledge": true}, nil, nil)
			}
		}()
		for range 400 {
			h.to <- randomMessage(sender)
		}
		cancel()
		<-busy
		h.checkAlive(wamp.MaxID / 4)
	})
}

// randomMessage makes any message but those that rightly end a session, with
// numbers that are in use.
func randomMessage(r *rand.Rand) wamp.Message {
	id := func() wamp.ID { return wamp.ID(r.IntN(40)) }
	reg := func() wamp.ID { return []wamp.ID{echoRegistration, 1, id()}[r.IntN(3)] }
	d, l, k := randomDict(r, 2), randomList(r, 2), randomDict(r, 2)
	kind := []wamp.MessageType{wamp.CALL, wamp.REGISTER, wamp.PUBLISH, wamp.SUBSCRIBE, wamp.INVOCATION, wamp.MessageType(r.IntN(80))}[r.IntN(6)]
	switch r.IntN(14) {
	case 0:
		return &wamp.Welcome{ID: id(), Details: d}
	case 1:
		return &wamp.Challenge{AuthMethod: "wampcra", Extra: d}
	case 2:
		return &wamp.Error{Type: kind, Request: id(), Details: d, Error: "x", Arguments: l, ArgumentsKw: k}
	case 3:
		return &wamp.Published{Request: id(), Publication: id()}
	case 4:
		return &wamp.Subscribed{Request: id(), Subscription: id()}
	case 5:
		return &wamp.Unsubscribed{Request: id()}
	case 6:
		return &wamp.Event{Subscription: reg(), Publication: id(), Details: d, Arguments: l, ArgumentsKw: k}
	case 7:
		return &wamp.Result{Request: id(), Details: d, Arguments: l, ArgumentsKw: k}
	case 8:
		return &wamp.Registered{Request: id(), Registration: reg()}
	case 9:
		return &wamp.Unregistered{Request: id()}
	case 10:
		return &wamp.Interrupt{Request: id(), Options: d}
	case 11:
		return wamp.NewMessage([]wamp.MessageType{wamp.HELLO, wamp.CALL, wamp.CANCEL, wamp.YIELD, wamp.REGISTER}[r.IntN(5)])
	}
	return &wamp.Invocation{Request: id(), Registration: reg(), Details: d, Arguments: l, ArgumentsKw: k}
}

func randomDict(r *rand.Rand, depth int) wamp.Dict {
	if r.IntN(8) == 0 {
		return nil
	}
	keys := []string{"progress", "receive_progress", "ppt_scheme", "ppt_serializer", "timeout", "topic", "publisher", "caller_authid", "message", "reason", "x"}
	d := wamp.Dict{}
	for range r.IntN(5) {
		d[keys[r.IntN(len(keys))]] = randomValue(r, depth)
	}
	return d
}

func randomList(r *rand.Rand, depth int) wamp.List {
	if r.IntN(8) == 0 {
		return nil
	}
	l := wamp.List{}
	for range r.IntN(4) {
		l = append(l, randomValue(r, depth))
	}
	return l
}

func randomValue(r *rand.Rand, depth int) any {
	if depth == 0 {
		return nil
	}
	values := []any{
		nil, true, false, "wamp", "mqtt", "native", "cbor", "json", "x_y", "", "\xff", []byte{1, 2}, uint64(1 << 63), int64(-1), 1.5,
		uint64(r.IntN(10)), map[string]any(randomDict(r, depth-1)), []any(randomList(r, depth-1)), map[any]any{1: 2},
	}
	return values[r.IntN(len(values))]
}

// FuzzDecode feeds bytes of strangers to the decoders.
func FuzzDecode(f *testing.F) {
	for name, format := range formats {
		for range 20 {
			r := rand.New(rand.NewPCG(uint64(len(name)), 3))
			raw, err := format.encode(randomMessage(r), 1<<20)
			if err == nil {
				f.Add(raw)
			}
		}
	}
	f.Add([]byte("[36,1,2,{},[" + strings.Repeat("[", 5000)))
	f.Add([]byte{0x84, 0x18, 0x24, 0xc0, 0xfb})
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, format := range formats {
			if msg, err := format.decode(raw); err == nil && msg == nil {
				t.Errorf("%s: neither a message nor an error", format.name)
			}
		}
	})
}
