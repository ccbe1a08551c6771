//go:build linux

package fault

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/test/rig"
)

// A point is a moment in what is done to an app, seen from outside.
type point func(s *site, ctx context.Context, app string) <-chan struct{}

// A cut is a point at which something is killed, and what has to come of the
// order that was being carried out all the same.
type cut struct {
	name   string
	always bool // also where there is no time for all of them
	fresh  bool // the app is not on the device before
	order  order
	at     point
}

var (
	install   = order{"install 1.0.0", func(s *site, app string) { s.Deploy(app, s.device.Serial, "1.0.0", nil) }, protocol.Running, "1.0.0"}
	halt      = order{"stop", func(s *site, app string) { s.Operator.Stop(app, s.device.Serial) }, protocol.Present, ""}
	uninstall = order{"uninstall", func(s *site, app string) { s.Remove(app, s.device.Serial, true) }, protocol.Uninstalled, ""}
)

var cuts = []cut{
	{"told that it downloads", true, true, install, told(protocol.Downloading)},
	{"image pulled", false, true, install, pulled},
	{"told that the image is there", false, true, install, told(protocol.Present)},
	{"container made", true, true, install, happened(events.ActionCreate, "1.0.0")},
	{"container started", false, true, install, happened(events.ActionStart, "1.0.0")},
	{"told that it stops", false, false, halt, told(protocol.Stopping)},
	{"container ended by a stop", false, false, halt, happened(events.ActionDie, "1.0.0")},
	{"container removed by a stop", true, false, halt, happened(events.ActionDestroy, "1.0.0")},
	{"told that it is deleted", false, false, uninstall, told(protocol.Deleting)},
	{"container ended by an uninstall", false, false, uninstall, happened(events.ActionDie, "1.0.0")},
	{"container removed by an uninstall", true, false, uninstall, happened(events.ActionDestroy, "1.0.0")},
	{"told that it is removed", true, false, uninstall, told(protocol.Removed)},
}

// thorough tells whether every cut is to be made (make soak).
func thorough() bool { return os.Getenv("REAGENT_SOAK") != "" }

// TestKilledAtEachStepItEndsAsWanted kills the agent while it installs, stops and
// uninstalls an app; TestKilledAtEachStepOfAnUpdateItEndsAsWanted is the rest.
func TestKilledAtEachStepItEndsAsWanted(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	keep := s.app("keep")
	s.Release(keep, rig.Release{Version: "1.0.0"})
	agent := s.start(quick(t))
	untouched := s.run(keep, "1.0.0")
	for _, c := range cuts {
		if !c.always && !thorough() {
			continue
		}
		t.Log(c.name)
		app := s.app(strings.ReplaceAll(c.name, " ", "-"))
		s.Release(app, rig.Release{Version: "1.0.0", Image: testenv.App{Ballast: ballast(app)}})
		if !c.fresh {
			s.run(app, "1.0.0")
		}
		s.reach(app, c.at, func() { c.order.give(s, app) })
		agent.Kill()
		agent = s.start(quick(t))
		s.ended(app, c.order, c.name)
		s.same(keep, untouched)
		s.tidy(app, c.order)
	}
}

// reach gives an order and waits for a point in what comes of it.
func (s *site) reach(app string, at point, give func()) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 60*time.Second)
	defer cancel()
	moment := at(s, ctx, app)
	give()
	select {
	case <-moment:
	case <-ctx.Done():
		s.t.Errorf("that moment never came; reported %+v, containers %q", s.State(app, s.device.Serial), s.containers(app))
	}
}

// tidy takes an app away again, unless it is gone.
func (s *site) tidy(app string, after order) {
	s.t.Helper()
	if !after.state.Gone() {
		uninstall.give(s, app)
		s.ended(app, uninstall, "uninstall of "+app)
	}
}

// told is the moment at which the studio is told a state of an app.
func told(state protocol.State) point {
	return func(s *site, ctx context.Context, app string) <-chan struct{} {
		moment := make(chan struct{})
		seen := false
		withdraw := s.DeclareTopic(protocol.StudioAppState, "", func(_ context.Context, e messenger.Event) {
			var row protocol.AppOnDeviceRow
			if protocol.Decode(protocol.Arg(e.Args, 0), &row) != nil || row.AppName != app || row.State != state || seen {
				return
			}
			seen = true
			close(moment)
		})
		context.AfterFunc(ctx, withdraw)
		return moment
	}
}

// pulled is the moment at which the engine has an image of an app.
func pulled(s *site, ctx context.Context, app string) <-chan struct{} {
	return s.event(ctx, func(e events.Message) bool {
		return e.Type == events.ImageEventType && e.Action == events.ActionPull && strings.Contains(e.Actor.ID, app)
	})
}

// TestEngineKilledInTheMiddleOfAnUpdateItEndsAsWanted kills the engine, and the
// agent goes on.
func TestEngineKilledInTheMiddleOfAnUpdateItEndsAsWanted(t *testing.T) {
	t.Parallel()
	e := testenv.NewPrivateEngine(t)
	s := newSite(t, e.Engine)
	s.start(quick(t))
	for _, row := range []struct {
		name   string
		always bool
		at     point
	}{
		{"while it pulls", true, reported(protocol.Updating)},
		{"old container stopped", false, happened(events.ActionDie, "1.0.0")},
		{"old container parked", true, happened(events.ActionRename, "1.0.0")},
		{"new container made", false, happened(events.ActionCreate, "2.0.0")},
		{"new container started", false, happened(events.ActionStart, "2.0.0")},
	} {
		if !row.always && !thorough() {
			continue
		}
		t.Log(row.name)
		app := s.app(strings.ReplaceAll(row.name, " ", "-"))
		s.Release(app, rig.Release{Version: "1.0.0"})
		s.run(app, "1.0.0")
		s.Release(app, rig.Release{Version: "2.0.0", Image: testenv.App{Ballast: ballast(app)}})
		s.reach(app, row.at, func() { s.Deploy(app, s.device.Serial, "2.0.0", nil) })
		e.Kill()
		e.Start()
		s.ended(app, order{state: protocol.Running, version: "2.0.0"}, row.name)
		s.tidy(app, install)
	}
}
