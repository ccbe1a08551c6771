package main

import (
	"time"

	"reagent/internal/testenv"
)

// routerDown is how long a killed router stays away.
const routerDown = 50 * time.Millisecond

// reconnect measures how long a device is gone when its router dies and comes
// back, and when only its link was cut.
//
// Each round has an agent of its own: one that has just started draws its first
// pause from the same range as one whose session was good, without the minute
// that the latter takes.
func (l *lab) reconnect(t *stage) []figure {
	relay := testenv.NewRelay(t, l.router.addr)
	d := l.newDevice(t, relay.Addr(), "127.0.0.1")
	direct := l.newDevice(t, l.router.addr, "127.0.0.1")

	var figures []figure
	for _, way := range []struct {
		name, about string
		device      *testenv.Device
		fault       func() (begun time.Time)
	}{
		{"cut", "link cut", d, func() time.Time {
			begun := time.Now()
			relay.Cut()
			return begun
		}},
		{"router", "router killed, back after 50 ms", direct, func() time.Time {
			begun := time.Now()
			l.router.kill()
			l.rest(t, routerDown)
			if err := l.router.serve(); err != nil {
				t.Fatal(err)
			}
			return begun
		}},
	} {
		var registered, connects sample
		for i := range l.cuts {
			l.progress.say("reconnect, %s: %d of %d", way.about, i+1, l.cuts)
			a := l.connect(t, way.device)
			mark := l.witness.mark()
			begun := way.fault()
			registered.add(l.awaitProcedures(t, mark).Sub(begun))
			connects.add(l.await(t, mark, connected).Sub(begun))
			a.stop()
		}
		figures = append(figures,
			median("reconnect."+way.name+".registered", way.about+" → all registered again", "ms", registered),
			median("reconnect."+way.name+".connected", way.about+" → CONNECTED again", "ms", connects))
	}
	return figures
}
