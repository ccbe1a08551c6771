package main

import (
	"slices"
	"sync"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
)

const (
	callers = 64 // at once, each with a session of its own
	turns   = 20 // of many callers, floor and agent by turns; single callers change with each call
)

// calling measures device_handshake beside the floor, one caller first, then many.
func (l *lab) calling(t *stage) []figure {
	echo := l.startEcho(t)
	d := l.newDevice(t, l.router.addr, "127.0.0.1")
	a := l.connect(t, d)
	defer a.stop()

	sessions := make([]*client.Client, callers)
	for i := range sessions {
		s, err := l.router.join(t.ctx, protocol.AuthIDSystem)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		sessions[i] = s
	}
	// The same for both: of the size of the handshake's answer, which the echo
	// gives back and the handshake does not look at.
	kwargs := wamp.Dict{"utp": time.Now().Format(time.RFC3339), "id": d.Serial}
	call := func(s *client.Client, uri string) time.Duration {
		begun := time.Now()
		if _, err := s.Call(t.ctx, uri, nil, nil, kwargs, nil); err != nil {
			t.Errorf("call %s: %v", uri, err)
		}
		return time.Since(begun)
	}
	kinds := []*struct {
		name, about, uri    string
		pid                 int
		idle                float64 // ticks that the process had spent before
		single, many, rates sample
	}{
		{name: "floor", about: "bare client's echo", uri: echoProcedure, pid: echo},
		{name: "handshake", about: "device_handshake", uri: protocol.Procedure(d.Serial, protocol.DeviceHandshake), pid: a.PID()},
	}
	for _, k := range kinds {
		k.idle = look(t, k.pid).ticks
	}
	check := func() {
		if t.Failed() {
			t.FailNow()
		}
	}
	for i := range l.calls {
		if i%100 == 0 {
			l.progress.say("calls, one caller: %d of %d", i, l.calls)
			check()
		}
		for _, k := range inTurn(kinds, i) {
			k.single.add(call(sessions[0], k.uri))
		}
	}
	for turn := range turns {
		for _, k := range inTurn(kinds, turn) {
			l.progress.say("calls, %d callers of %s: %d of %d", callers, k.about, turn+1, turns)
			took := load(sessions, l.load/turns, func(s *client.Client) time.Duration { return call(s, k.uri) })
			k.many = append(k.many, took...)
			k.rates = append(k.rates, float64(len(took))/(l.load/turns).Seconds())
			check()
		}
	}
	var figures []figure
	for _, k := range kinds {
		calls := float64(len(k.single) + len(k.many))
		figures = append(figures,
			median("calls.p50."+k.name, k.about+", one caller, p50", "ms", k.single),
			ofMany("calls.p99."+k.name, k.about+", one caller, p99", "ms", k.single.quantile(0.99), k.single),
			median("calls.rate."+k.name, k.about+", 64 callers", "calls/s", k.rates),
			ofMany("calls.p50.many."+k.name, k.about+", 64 callers, p50", "ms", k.many.median(), k.many),
			ofMany("calls.p99.many."+k.name, k.about+", 64 callers, p99", "ms", k.many.quantile(0.99), k.many),
			single("calls.cpu."+k.name, k.about+", CPU of its process per call", "µs", (look(t, k.pid).ticks-k.idle)*microsecondsPerTick/calls))
	}
	floor, handshake := kinds[0], kinds[1]
	return append(figures,
		single("calls.latency.ratio", "latency of one caller, p50, to the floor's", "×", handshake.single.median()/floor.single.median()),
		median("calls.rate.ratio", "calls per second of 64 callers, to the floor's", "×", handshake.rates.over(floor.rates)))
}

// inTurn lets another one begin each time: who is called after itself costs less
// than who is called after the other.
func inTurn[T any](all []T, round int) []T {
	return slices.Concat(all[round%len(all):], all[:round%len(all)])
}

// load has every session call again and again for a while, and returns how long
// each call took.
func load(sessions []*client.Client, during time.Duration, call func(*client.Client) time.Duration) sample {
	end := time.Now().Add(during)
	took := make([]sample, len(sessions))
	var group sync.WaitGroup
	for i, s := range sessions {
		group.Go(func() {
			for time.Now().Before(end) {
				took[i].add(call(s))
			}
		})
	}
	group.Wait()
	var all sample
	for _, s := range took {
		all = append(all, s...)
	}
	return all
}
