package main

import (
	"fmt"

	"reagent/protocol"
)

// fewApps is how many apps an idle agent looks after.
const fewApps = 5

// idleAlone measures an agent that has nothing to do.
func (l *lab) idleAlone(t *stage) []figure {
	d := l.newDevice(t, l.router.addr, "127.0.0.1")
	a := l.connect(t, d)
	defer a.stop()
	return l.idleFigures(t, a, "none", "no app")
}

// idleWithApps measures one whose apps run.
func (l *lab) idleWithApps(t *stage) []figure {
	y := l.openYard(t)
	d := l.newDevice(t, l.router.addr, y.registry.Host)
	a := l.connect(t, d)
	defer a.stop()
	var apps []app
	for range fewApps {
		apps = append(apps, y.newApp(t, 0))
	}
	mark := l.witness.mark()
	for _, app := range apps {
		y.want(t, d, app, protocol.Running)
	}
	for _, app := range apps {
		l.await(t, mark, app.reported(protocol.Running))
	}
	return l.idleFigures(t, a, "five", fmt.Sprint(fewApps, " apps"))
}

// idleFigures leaves the agent alone for a while and then looks at it.
func (l *lab) idleFigures(t *stage, a agent, name, about string) []figure {
	l.progress.say("idle, %s: %v", about, l.idle)
	before := look(t, a.PID())
	l.rest(t, l.idle)
	after := look(t, a.PID())
	return []figure{
		single("idle.pss."+name, about+", PSS", "MiB", after.pss),
		single("idle.anonymous."+name, about+", anonymous", "MiB", after.anonymous),
		single("idle.rss."+name, about+", RSS", "MiB", after.rss),
		single("idle.cpu."+name, fmt.Sprintf("%s, CPU over %v s", about, l.idle.Seconds()), "ticks", after.ticks-before.ticks),
	}
}
