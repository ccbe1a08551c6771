package messenger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gammazero/nexus/v3/wamp"
	"github.com/rs/zerolog"
)

// product is the product's pace: design S1 and the flags' defaults of the contract.
func product() Config {
	return Config{
		Realm: TestRealm, Log: zerolog.Nop(),
		PingInterval: 5 * time.Second, ResponseTimeout: 7 * time.Second, ConnectTimeout: 1250 * time.Millisecond,
	}
}

func TestProductValues(t *testing.T) {
	got := Config{}.withDefaults()
	for name, v := range map[string][2]any{
		"ResponseTimeout":   {got.ResponseTimeout, 5 * time.Second},
		"CallTimeout":       {got.CallTimeout, 30 * time.Second},
		"GoodbyeTimeout":    {got.GoodbyeTimeout, time.Second},
		"MinRetry":          {got.MinRetry, 500 * time.Millisecond},
		"MaxRetry":          {got.MaxRetry, 30 * time.Second},
		"UnauthorizedRetry": {got.UnauthorizedRetry, 5 * time.Minute},
		"GoodAfter":         {got.GoodAfter, time.Minute},
		"longestConnect":    {longestConnect, 30 * time.Second},
		"MaxMessage":        {got.MaxMessage, int64(64 << 20)},
		"MaxSend":           {got.MaxSend, int64(16 << 20)},
		"Serializations":    {fmt.Sprint(got.Serializations), "[json cbor msgpack]"},
		"PingInterval":      {got.PingInterval, time.Duration(0)},
		"ConnectTimeout":    {got.ConnectTimeout, time.Duration(0)},
	} {
		if v[0] != v[1] {
			t.Errorf("%s = %v, want %v", name, v[0], v[1])
		}
	}
}

func TestPaceOfFailures(t *testing.T) {
	cfg := product().withDefaults()
	failure := ending{err: errors.New("connection refused")}
	refused := ending{err: fmt.Errorf("log in: %w", &refusal{uri: "wamp.error.not_authorized", login: true})}
	twin := ending{err: ErrDuplicate, lasted: time.Second}
	anew := ending{err: ErrRejoin, lasted: time.Second}
	good := ending{err: errors.New("cut"), lasted: time.Minute}
	short := ending{err: errors.New("cut"), lasted: 59 * time.Second}

	type step struct {
		ending
		state   State
		longest time.Duration
	}
	for name, history := range map[string][]step{
		"doubles to the cap": {
			{failure, Offline, 500 * time.Millisecond}, {failure, Offline, time.Second}, {failure, Offline, 2 * time.Second},
			{failure, Offline, 4 * time.Second}, {failure, Offline, 8 * time.Second}, {failure, Offline, 16 * time.Second},
			{failure, Offline, 30 * time.Second}, {failure, Offline, 30 * time.Second},
		},
		"a good session resets, a short one does not": {
			{failure, Offline, 500 * time.Millisecond}, {short, Offline, time.Second}, {good, Offline, 500 * time.Millisecond}, {failure, Offline, time.Second},
		},
		"a refused login is slow at once and always": {
			{refused, Unauthorized, 5 * time.Minute}, {refused, Unauthorized, 5 * time.Minute}, {failure, Offline, 500 * time.Millisecond},
		},
		"a twin is met more and more slowly": {
			{twin, Duplicate, 500 * time.Millisecond}, {twin, Duplicate, time.Second}, {twin, Duplicate, 2 * time.Second}, {twin, Duplicate, 4 * time.Second},
			{twin, Duplicate, 8 * time.Second}, {twin, Duplicate, 16 * time.Second}, {twin, Duplicate, 32 * time.Second}, {twin, Duplicate, 64 * time.Second},
			{twin, Duplicate, 128 * time.Second}, {twin, Duplicate, 256 * time.Second}, {twin, Duplicate, 300 * time.Second}, {twin, Duplicate, 300 * time.Second},
		},
		"beginning anew is free once": {
			{anew, Offline, 0}, {anew, Offline, 500 * time.Millisecond}, {anew, Offline, time.Second}, {good, Offline, 500 * time.Millisecond}, {anew, Offline, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Pauses are random; of many runs the longest comes near its bound.
			longest := make([]time.Duration, len(history))
			for range 2000 {
				p := newPace(&cfg)
				for i, step := range history {
					state, pause := p.after(step.ending)
					if state != step.state {
						t.Fatalf("state after %d = %s, want %s", i, state, step.state)
					}
					longest[i] = max(longest[i], pause)
				}
			}
			for i, step := range history {
				if longest[i] > step.longest || longest[i] < step.longest*95/100 {
					t.Errorf("longest pause after %d = %v, want near %v", i, longest[i], step.longest)
				}
			}
		})
	}
}

func TestConnectTimeoutDoublesUntilASessionWasGood(t *testing.T) {
	cfg := product().withDefaults()
	p := newPace(&cfg)
	late := ending{err: errors.New("late"), late: true}
	var got []time.Duration
	for range 7 {
		got = append(got, p.connect)
		p.after(late)
	}
	want := []time.Duration{1250, 2500, 5000, 10000, 20000, 30000, 30000}
	for i := range want {
		want[i] *= time.Millisecond
	}
	if !slices.Equal(got, want) {
		t.Errorf("limits = %v, want %v", got, want)
	}
	p.after(ending{err: errors.New("short session"), lasted: time.Second})
	if p.connect != 30*time.Second {
		t.Errorf("limit after a short session = %v, want it kept", p.connect)
	}
	p.after(ending{err: errors.New("good session"), lasted: time.Hour})
	if p.connect != cfg.ConnectTimeout {
		t.Errorf("limit after a good session = %v, want the first again", p.connect)
	}
	cfg.ConnectTimeout = 0
	if p = newPace(&cfg); p.connect != 0 {
		t.Errorf("limit = %v, want none", p.connect)
	}
	cfg.ConnectTimeout = time.Minute
	if p = newPace(&cfg); p.connect != time.Minute {
		t.Errorf("limit = %v, want what was asked for", p.connect)
	}
	if p.after(late); p.connect != time.Minute {
		t.Errorf("limit = %v, want it not shortened", p.connect)
	}
}

// What follows runs whole sessions at the product's pace, in no time.

func TestDialsThatHangAreGivenUpAndGetMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := product()
		var limits []time.Duration
		cfg.Dial = func(ctx context.Context) (wamp.Peer, error) {
			deadline, _ := ctx.Deadline()
			limits = append(limits, time.Until(deadline))
			<-ctx.Done()
			return nil, ctx.Err()
		}
		s := Start(t, cfg, nil, nil)
		for range 3 {
			if got := s.Wait(Offline); got.Reason == "" || got.NextTry.Before(time.Now()) {
				t.Errorf("status = %+v", got)
			}
		}
		s.Stop()
		if got, want := fmt.Sprint(limits[:3]), "[1.25s 2.5s 5s]"; got != want {
			t.Errorf("limits = %s, want %s", got, want)
		}
	})
}

// An hour with a router that refuses the login: the tries are few, spread, and
// go on; the state does not flicker.
func TestRefusedLoginIsRetriedAtTheSlowestPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := product()
		var tries []time.Time
		cfg.Identity = func() (string, string) { return "41-7", "s" }
		cfg.Dial = routerOf(t, func(f *fakeRouter) {
			tries = append(tries, time.Now())
			<-f.peer.Recv()
			f.send(&wamp.Abort{Reason: "wamp.error.not_authorized", Details: wamp.Dict{}})
		})
		s := Start(t, cfg, nil, nil)
		time.Sleep(time.Hour)
		s.Stop()
		if len(tries) < 12 || len(tries) > 60 {
			t.Errorf("%d tries in an hour, want about 24", len(tries))
		}
		states := map[State]int{}
		var since []time.Time
		for len(s.States) > 0 {
			st := <-s.States
			states[st.State]++
			if st.State == Unauthorized {
				since = append(since, st.Since)
			}
		}
		if states[Connecting] != 1 || states[Unauthorized] != len(tries) || states[Offline] != 1 {
			t.Errorf("states = %v of %d tries, want unauthorized throughout", states, len(tries))
		}
		if since[0] != since[len(since)-1] {
			t.Error("the state began anew with each try")
		}
	})
}

func TestSilentRouterIsNoticedWithinFifteenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := product()
		w := &silentWire{closed: make(chan struct{})}
		begin := time.Now()
		g := newGuard(w, cfg.ResponseTimeout, cfg.PingInterval, cfg.Log)
		time.Sleep(21 * time.Second) // pings at 5, 10, 15 and 20 s are answered
		if isClosed(g.dead) {
			t.Fatal("a link that answers was given up")
		}
		w.dead.Store(true)
		<-g.dead
		if took := time.Since(begin) - 20*time.Second; took < 10*time.Second || took > 15*time.Second {
			t.Errorf("given up %v after its last answer, want 10 to 15 s", took)
		}
		if !errors.Is(g.ended(), errSilent) {
			t.Errorf("ended by %v", g.ended())
		}
		g.Close()
	})
}

// silentWire answers pings until it is dead, and sends nothing.
type silentWire struct {
	closed chan struct{}
	dead   atomic.Bool
	seen   uint64
}

func (w *silentWire) read() (wamp.Message, error) { <-w.closed; return nil, errors.New("closed") }
func (w *silentWire) write(wamp.Message) error    { return nil }
func (w *silentWire) close(bool)                  { close(w.closed) }
func (w *silentWire) heard() uint64               { return w.seen }
func (w *silentWire) ping(time.Duration) bool {
	if !w.dead.Load() {
		w.seen++
	}
	return true
}

func TestFreshReconnectIsQuickAtTheMedian(t *testing.T) {
	cfg := product().withDefaults()
	var pauses []time.Duration
	for range 1001 {
		_, pause := newPace(&cfg).after(ending{err: errors.New("reset by peer"), lasted: time.Hour})
		pauses = append(pauses, pause)
	}
	slices.Sort(pauses)
	if median := pauses[500]; median > 280*time.Millisecond {
		t.Errorf("median pause = %v, want it to leave room within 300 ms", median)
	}
}
