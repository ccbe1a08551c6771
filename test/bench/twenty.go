package main

import (
	"fmt"
	"sync"
	"time"

	"reagent/protocol"
)

const (
	// manyApps are wanted at once, as after a reboot or when a fleet's device is
	// given its purpose.
	manyApps = 20
	// calm is how long the agent is left alone before what it keeps is looked at.
	calm = 20 * time.Second
	// glance is how often it is looked at while it works.
	glance = 50 * time.Millisecond
)

// twenty measures many apps that are wanted at once, each with an image of its
// own to be pulled: how long until all run, and what it costs the agent.
func (l *lab) twenty(t *stage) []figure {
	y := l.openYard(t)
	d := l.newDevice(t, l.router.addr, y.registry.Host)
	a := l.connect(t, d)
	defer a.stop()
	apps := make([]app, manyApps)
	for i := range apps {
		l.progress.say("twenty apps: image %d of %d", i+1, manyApps)
		apps[i] = y.newApp(t, ballast)
	}
	l.rest(t, min(calm, l.idle))
	before := look(t, a.PID())

	l.progress.say("twenty apps: all wanted at once")
	tick := time.NewTicker(glance)
	defer tick.Stop()
	peak := watchPeak(a.PID(), tick.C)
	mark, begun := l.witness.mark(), time.Now()
	for _, one := range apps {
		y.want(t, d, one, protocol.Running)
	}
	var running sample
	for _, one := range apps {
		running.add(l.await(t, mark, one.reported(protocol.Running)).Sub(begun))
	}
	highest := peak()
	l.rest(t, min(calm, l.idle))
	after := look(t, a.PID())

	mark, begun = l.witness.mark(), time.Now()
	for _, one := range apps {
		y.want(t, d, one, protocol.Removed)
	}
	var gone sample
	for _, one := range apps {
		gone.add(l.await(t, mark, one.reported(protocol.Removed)).Sub(begun))
	}
	about := fmt.Sprintf("%d apps at once, ", manyApps)
	return []figure{
		ofMany("twenty.running", about+"asked → all reported RUNNING, with pulls of 1 MiB", "ms", running.quantile(1), running),
		ofMany("twenty.removed", about+"asked → all reported REMOVED", "ms", gone.quantile(1), gone),
		single("twenty.pss.before", about+"PSS before", "MiB", before.pss),
		single("twenty.pss.peak", about+"highest PSS meanwhile", "MiB", highest.pss),
		single("twenty.pss.after", about+"PSS after", "MiB", after.pss),
		single("twenty.anonymous.peak", about+"highest anonymous memory meanwhile", "MiB", highest.anonymous),
		single("twenty.anonymous.after", about+"anonymous memory after", "MiB", after.anonymous),
		single("twenty.cpu", about+"CPU until all run", "ticks", highest.ticks-before.ticks),
	}
}

// watchPeak looks at a process with each tick, until what it returns is called:
// that tells the most that was seen.
func watchPeak(pid int, ticks <-chan time.Time) func() footprint {
	var (
		highest footprint
		group   sync.WaitGroup
		done    = make(chan struct{})
	)
	glimpse := func() {
		f, err := readFootprint(pid)
		if err != nil {
			return // it has ended, which whoever waits for it will say
		}
		highest.pss, highest.rss = max(highest.pss, f.pss), max(highest.rss, f.rss)
		highest.anonymous, highest.ticks = max(highest.anonymous, f.anonymous), max(highest.ticks, f.ticks)
	}
	group.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-ticks:
				glimpse()
			}
		}
	})
	return func() footprint {
		close(done)
		group.Wait()
		glimpse()
		return highest
	}
}
