package main

import (
	"time"

	"reagent/internal/testenv"
)

// farDelay is how long each way is on the far link: a round trip of 200 ms. A
// relay cannot hold the kernel's own packets back, so the round trip of the TCP
// handshake is added to what is measured.
const (
	farDelay     = 100 * time.Millisecond
	tcpHandshake = 2 * farDelay
)

// startUp measures from the start of the process to what the studio sees of it:
// in a fresh folder, in one that the agent has run in before, and over a link
// that is as long as a mobile one.
func (l *lab) startUp(t *stage) []figure {
	near := l.newDevice(t, l.router.addr, "127.0.0.1")
	l.connect(t, near).stop() // the first start of all reads the binary from the disk

	relay := testenv.NewRelay(t, l.router.addr)
	relay.SetDelay(farDelay)
	far := l.newDevice(t, relay.Addr(), "127.0.0.1")

	var figures []figure
	for _, way := range []struct {
		name, about string
		device      *testenv.Device
		fresh       bool
		hidden      time.Duration
	}{
		{"fresh", "fresh folder", near, true, 0},
		{"reused", "reused folder", near, false, 0},
		{"far", "fresh folder, 200 ms round trip", far, true, tcpHandshake},
	} {
		var registered, connects sample
		for i := range l.starts {
			l.progress.say("start, %s: %d of %d", way.about, i+1, l.starts)
			if way.fresh {
				forget(t, way.device)
			}
			a := l.start(t, way.device)
			registered.add(l.awaitProcedures(t, a.mark).Sub(a.begun) + way.hidden)
			connects.add(l.await(t, a.mark, connected).Sub(a.begun) + way.hidden)
			a.stop()
		}
		figures = append(figures,
			median("start.registered."+way.name, "start → all registered, "+way.about, "ms", registered),
			median("start.connected."+way.name, "start → CONNECTED, "+way.about, "ms", connects))
	}
	return figures
}
