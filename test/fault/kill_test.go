package fault

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/test/rig"
)

// An order is what an operator asks of an app, and what it has to come to.
type order struct {
	name    string
	give    func(s *site, app string)
	state   protocol.State
	version string
}

// orders take an app through everything: installed, updated, stopped, started,
// removed with and without its data.
var orders = []order{
	{"install 1.0.0", func(s *site, app string) { s.Deploy(app, s.device.Serial, "1.0.0", nil) }, protocol.Running, "1.0.0"},
	{"update to 1.1.0", func(s *site, app string) { s.Deploy(app, s.device.Serial, "1.1.0", nil) }, protocol.Running, "1.1.0"},
	{"stop", func(s *site, app string) { s.Operator.Stop(app, s.device.Serial) }, protocol.Present, ""},
	{"start", func(s *site, app string) { s.Deploy(app, s.device.Serial, "", nil) }, protocol.Running, "1.1.0"},
	{"update to 1.2.0", func(s *site, app string) { s.Deploy(app, s.device.Serial, "1.2.0", nil) }, protocol.Running, "1.2.0"},
	{"change a variable", func(s *site, app string) {
		s.Deploy(app, s.device.Serial, "", map[string]any{"COLOUR": "green"})
	}, protocol.Running, "1.2.0"},
	{"uninstall", func(s *site, app string) { s.Remove(app, s.device.Serial, true) }, protocol.Uninstalled, ""},
}

func TestThirtyKillsAtRandomMomentsEndAsWanted(t *testing.T) {
	t.Parallel()
	killAtRandom(t, 30, rand.New(rand.NewPCG(3, 14)))
}

// TestMoreKillsAtRandomMoments is for make soak: REAGENT_SOAK says how many.
func TestMoreKillsAtRandomMoments(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("REAGENT_SOAK"))
	if n == 0 {
		return
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	killAtRandom(t, n, rand.New(rand.NewPCG(seed, 0)))
}

func killAtRandom(t *testing.T, kills int, random *rand.Rand) {
	s := newSite(t, testenv.Docker(t))
	keep, churn := s.app("keep"), s.app("churn")
	s.Release(keep, rig.Release{Version: "1.0.0"})
	for _, version := range []string{"1.0.0", "1.1.0", "1.2.0"} {
		s.Release(churn, rig.Release{Version: version, Image: testenv.App{Ballast: ballast(version)}})
	}
	agent := s.start(quick(t))
	untouched := s.run(keep, "1.0.0")

	for round := range kills {
		o := orders[round%len(orders)]
		o.give(s, churn)
		// Most of the work of an order lies in its first half second.
		pause := time.Duration(random.ExpFloat64() * float64(250*time.Millisecond))
		select {
		case <-time.After(min(pause, 3*time.Second)):
		case <-t.Context().Done():
			return
		}
		agent.Kill()
		agent = s.start(quick(t))
		s.ended(churn, o, fmt.Sprintf("round %d: killed %v after %q", round, pause, o.name))
		s.same(keep, untouched)
		if t.Failed() {
			return
		}
	}
}

// ended waits until an app is what an order wants, for the studio and for the
// engine, with nothing left over.
func (s *site) ended(app string, o order, story string) {
	s.t.Helper()
	var row protocol.AppOnDeviceRow
	var seen []string
	testenv.Eventually(s.t, 60*time.Second,
		func() string { return fmt.Sprintf("%s: reported %+v, containers %q", story, row, seen) },
		func() bool {
			row, seen = s.State(app, s.device.Serial), s.containers(app)
			// Of an app that is gone the studio knows nothing any more.
			reported := row.State == o.state || o.state.Gone() && row.AppKey == 0
			if !reported || o.version != "" && row.Version != o.version {
				return false
			}
			if o.state == protocol.Running {
				return slices.Equal(seen, []string{row.ContainerName + " " + o.version + " running"})
			}
			return len(seen) == 0
		})
}

// containers are those of an app of this device, parked ones too, each with its
// version and state.
func (s *site) containers(app string) []string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	list, err := s.engine.API.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		s.t.Fatal(err)
	}
	var out []string
	for _, c := range list {
		if !slices.Contains(values(c.Labels), s.device.Serial) || !slices.Contains(values(c.Labels), app) {
			continue
		}
		_, version, _ := strings.Cut(c.Image[strings.LastIndex(c.Image, "/")+1:], ":")
		out = append(out, fmt.Sprintf("%s %s %s", strings.TrimPrefix(c.Names[0], "/"), version, c.State))
	}
	slices.Sort(out)
	return out
}

func values(labels map[string]string) (out []string) {
	for _, v := range labels {
		out = append(out, v)
	}
	return out
}

// ballast makes a layer big enough that pulling it takes a moment.
func ballast(seed string) []byte {
	source := rand.NewChaCha8([32]byte([]byte(seed + strings.Repeat("x", 32))[:32]))
	out := make([]byte, 4<<20)
	_, _ = source.Read(out)
	return out
}

// TestKilledAtEachStepOfAnUpdateItEndsAsWanted kills the agent at each thing
// that the engine or the studio hears of during an update: a good one, and one
// that has to be rolled back.
func TestKilledAtEachStepOfAnUpdateItEndsAsWanted(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	keep := s.app("keep")
	s.Release(keep, rig.Release{Version: "1.0.0"})
	agent := s.start(quick(t))
	untouched := s.run(keep, "1.0.0")

	good := testenv.App{}
	bad := testenv.App{Env: []string{"TESTAPP_EXIT=3", "TESTAPP_AFTER=150ms"}}
	for _, row := range []struct {
		name  string
		image testenv.App // of the new version
		at    func(*site, context.Context, string) <-chan struct{}
		ends  string // version
	}{
		{"told that it updates", good, reported(protocol.Updating), "2.0.0"},
		{"old container stopped", good, happened("die", "1.0.0"), "2.0.0"},
		{"old container parked", good, happened("rename", "1.0.0"), "2.0.0"},
		{"told that the image is there", good, reported(protocol.Present), "2.0.0"},
		{"new container made", good, happened("create", "2.0.0"), "2.0.0"},
		{"new container started", good, happened("start", "2.0.0"), "2.0.0"},
		{"told that it runs", good, reported(protocol.Running), "2.0.0"},
		{"parked container removed", good, happened("destroy", "1.0.0"), "2.0.0"},
		{"bad version ended", bad, happened("die", "2.0.0"), "1.0.0"},
		{"told that it failed", bad, reported(protocol.Failed), "1.0.0"},
		{"bad container removed", bad, happened("destroy", "2.0.0"), "1.0.0"},
		{"old container back under its name", bad, renamedBack, "1.0.0"},
		{"old container started again", bad, happened("start", "1.0.0"), "1.0.0"},
	} {
		t.Log(row.name)
		app := s.app(strings.ReplaceAll(row.name, " ", "-"))
		s.Release(app, rig.Release{Version: "1.0.0"})
		s.run(app, "1.0.0")
		s.Release(app, rig.Release{Version: "2.0.0", Image: row.image})
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		moment := row.at(s, ctx, app)
		s.Deploy(app, s.device.Serial, "2.0.0", nil)
		select {
		case <-moment:
		case <-ctx.Done():
			t.Errorf("%s: that moment never came; reported %+v, containers %q", row.name, s.State(app, s.device.Serial), s.containers(app))
		}
		cancel()
		agent.Kill()
		agent = s.start(quick(t))
		s.ended(app, order{state: protocol.Running, version: row.ends}, row.name)
		s.same(keep, untouched)
		s.Remove(app, s.device.Serial, true)
		s.ended(app, order{state: protocol.Uninstalled}, row.name)
	}
}

// happened is the moment at which the engine does something to the container of
// a version.
func happened(action events.Action, version string) func(*site, context.Context, string) <-chan struct{} {
	return func(s *site, ctx context.Context, app string) <-chan struct{} {
		return s.event(ctx, func(e events.Message) bool {
			return e.Type == events.ContainerEventType && e.Action == action && e.Actor.Attributes["reagent.app_name"] == app && strings.HasSuffix(e.Actor.Attributes["image"], ":"+version)
		})
	}
}

// renamedBack is the moment at which the parked container gets its name back.
func renamedBack(s *site, ctx context.Context, app string) <-chan struct{} {
	return s.event(ctx, func(e events.Message) bool {
		return e.Type == events.ContainerEventType && e.Action == events.ActionRename && e.Actor.Attributes["name"] == s.name(app)
	})
}

func (s *site) event(ctx context.Context, is func(events.Message) bool) <-chan struct{} {
	messages, errs := s.engine.API.Events(ctx, events.ListOptions{Filters: filters.NewArgs(filters.Arg("type", "container"), filters.Arg("type", "image"))})
	moment := make(chan struct{})
	go func() {
		for {
			select {
			case e := <-messages:
				if is(e) {
					close(moment)
					return
				}
			case <-errs:
				return
			}
		}
	}()
	return moment
}

// reported is the moment at which the studio is told a state, once it was told of
// the update.
func reported(state protocol.State) func(*site, context.Context, string) <-chan struct{} {
	return func(s *site, ctx context.Context, app string) <-chan struct{} {
		moment := make(chan struct{})
		begun, told := false, false
		withdraw := s.DeclareTopic(protocol.StudioAppState, "", func(_ context.Context, e messenger.Event) {
			var row protocol.AppOnDeviceRow
			if protocol.Decode(protocol.Arg(e.Args, 0), &row) != nil || row.AppName != app {
				return
			}
			begun = begun || row.State == protocol.Updating
			if begun && row.State == state && !told {
				told = true
				close(moment)
			}
		})
		context.AfterFunc(ctx, withdraw)
		return moment
	}
}
