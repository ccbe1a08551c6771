//go:build linux

package logs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dockercontainer "github.com/docker/docker/api/types/container"
	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
)

// join makes a session that stays until the test ends; online is told each link.
func join(t *testing.T, url, authid string, declare func(*messenger.Session), online func(context.Context, *messenger.Link) error) *messenger.Session {
	t.Helper()
	s, err := messenger.New(messenger.Config{
		URL: url, Realm: protocol.RealmDevices, MinRetry: 10 * time.Millisecond,
		Identity: func() (string, string) { return authid, "secret" },
		Log:      zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel),
	})
	if err != nil {
		t.Fatal(err)
	}
	if declare != nil {
		declare(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, up := make(chan error, 1), make(chan struct{}, 8)
	go func() {
		done <- s.Run(ctx, func(ctx context.Context, link *messenger.Link) error {
			if err := link.Apply(ctx); err != nil {
				return err
			}
			if online != nil {
				if err := online(ctx, link); err != nil {
					return err
				}
			}
			up <- struct{}{}
			return nil
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-up:
	case <-time.After(10 * time.Second):
		t.Fatalf("%s does not join", authid)
	}
	return s
}

// A viewer gathers the lines that it gets.
type viewer struct {
	mu    sync.Mutex
	lines []string
}

func (v *viewer) event(_ context.Context, e messenger.Event) {
	text, _ := protocol.Text(protocol.Arg(e.Args, 0))
	if d, ok := protocol.AsDict(protocol.Arg(e.Args, 0)); ok {
		text = fmt.Sprint(">", d["chunk"])
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lines = append(v.lines, strings.Split(text, "\n")...)
}

func (v *viewer) got() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return slices.Clone(v.lines)
}

func (v *viewer) waitFor(t *testing.T, claim string, yes func(lines []string) bool) []string {
	t.Helper()
	testenv.WaitFor(t, claim, func() bool { return yes(v.got()) })
	return v.got()
}

// following reports which containers are being followed.
func (l *Logs) following() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.topics {
		if t.collection != nil {
			n++
		}
	}
	return n
}

func TestLogsOfRealContainersReachWhoeverListens(t *testing.T) {
	docker := testenv.Docker(t)
	engine, err := container.New(container.Config{Host: docker.Host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	ref := docker.Prefix + "/ticker:1"
	testenv.BuildImage(t, docker, ref, testenv.App{Env: []string{"TESTAPP_LINES=3", "TESTAPP_EVERY=20ms"}})
	cn := "prod_6_" + docker.Prefix
	start := func() string {
		t.Helper()
		made, err := docker.API.ContainerCreate(t.Context(), &dockercontainer.Config{Image: ref, Tty: true}, nil, nil, nil, cn)
		if err != nil {
			t.Fatal(err)
		}
		if err := docker.API.ContainerStart(t.Context(), made.ID, dockercontainer.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		return made.ID
	}

	url, cut := testenv.Router(t, map[string]string{"system": "secret", "3": "secret", "7-42/sn-1": "secret"})
	bridge := &viewer{}
	join(t, url, "system", func(s *messenger.Session) {
		s.DeclareTopic(protocol.LogTopicPrefix, "prefix", bridge.event)
	}, nil)
	var l *Logs
	join(t, url, "7-42", func(s *messenger.Session) {
		l = running(t, nil, nil, func(c *Config) { c.Session, c.Engine = s, container.AppLogs{Engine: engine} })
		s.DeclareTopic(protocol.SubscriptionOnCreate, "", func(_ context.Context, e messenger.Event) { l.Created(e.Args) })
		s.DeclareTopic(protocol.SubscriptionOnDelete, "", func(_ context.Context, e messenger.Event) { l.Deleted(e.Args) })
	}, func(ctx context.Context, _ *messenger.Link) error { l.Online(ctx); return nil })

	// The bridge was there before the app, and gets its first lines.
	l.ClearHistory(cn)
	l.Agent(cn, "Starting ticker...")
	id := start()
	l.Attach(cn, id)
	first := bridge.waitFor(t, "the bridge gets ticks", func(lines []string) bool { return slices.Contains(lines, "tick 5") })
	want := []string{">Starting ticker...", "line 1", "line 2", "line 3", "ready", "tick 1", "tick 2", "tick 3", "tick 4", "tick 5"}
	if !slices.Equal(first[:len(want)], want) {
		t.Errorf("the bridge got %s, want %s", quote(first[:len(want)]), quote(want))
	}

	// A viewer comes, gets what is printed from then on, and leaves.
	v := &viewer{}
	topic := protocol.LogTopic("sn-1", cn)
	user := join(t, url, "3", nil, nil)
	leave := user.DeclareTopic(topic, "", v.event)
	seen := v.waitFor(t, "the viewer gets ticks", func(lines []string) bool { return len(lines) > 3 })
	if slices.Contains(seen, "line 1") || slices.Contains(seen, "tick 1") {
		t.Errorf("the viewer got a replay: %s", quote(seen))
	}
	leave()
	n := len(bridge.got())
	bridge.waitFor(t, "the bridge goes on after the viewer left", func(lines []string) bool { return len(lines) > n+20 })

	// The link breaks; the bridge gets the ticks of the meantime, each once.
	cut()
	n = len(bridge.got())
	lines := bridge.waitFor(t, "the bridge goes on after a cut", func(lines []string) bool { return len(lines) > n+20 })
	ticks := slices.DeleteFunc(slices.Clone(lines), func(s string) bool { return !strings.HasPrefix(s, "tick ") })
	unique := slices.Compact(slices.Sorted(slices.Values(ticks)))
	if len(unique) != len(ticks) {
		t.Errorf("%d of %d ticks came twice", len(ticks)-len(unique), len(ticks))
	}

	// The past is the engine's, in order, and ends with the container's last line.
	past, err := l.History(t.Context(), cn)
	if err != nil || len(past) < 50 || past[0] != "Starting ticker..." && len(past) < 100 {
		t.Errorf("history of %d lines, %v", len(past), err)
	}
	l.Agent(cn, "Received stop signal for ticker")
	l.Detach(cn)
	if err := engine.Stop(t.Context(), id, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := engine.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	l.Agent(cn, "Successfully stopped ticker")
	bridge.waitFor(t, "the bridge hears of the end", func(lines []string) bool { return slices.Contains(lines, ">Successfully stopped ticker") })
	testenv.WaitFor(t, "nothing is followed any more", func() bool { return l.following() == 0 })
	past, err = l.History(t.Context(), cn)
	if err != nil || len(past) < 50 || past[len(past)-1] != "Successfully stopped ticker" || !slices.Contains(past, "Received stop signal for ticker") {
		t.Errorf("history after the end: %d lines, %v, the last %q", len(past), err, past[max(0, len(past)-1):])
	}
	expected := 0
	for _, line := range past {
		var n int
		if _, err := fmt.Sscanf(line, "tick %d", &n); err != nil {
			continue
		}
		if expected != 0 && n != expected {
			t.Errorf("history has a hole: tick %d instead of %d", n, expected)
		}
		expected = n + 1
	}
}

func TestRestartedEngineIsFollowedAgain(t *testing.T) {
	private := testenv.NewPrivateEngine(t)
	engine, err := container.New(container.Config{Host: private.Host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	testenv.BuildImage(t, private.Engine, "ticker:1", testenv.App{Env: []string{"TESTAPP_EVERY=20ms"}})
	made, err := private.API.ContainerCreate(t.Context(), &dockercontainer.Config{Image: "ticker:1"}, nil, nil, nil, web)
	if err != nil {
		t.Fatal(err)
	}
	begin := func() {
		t.Helper()
		if err := private.API.ContainerStart(t.Context(), made.ID, dockercontainer.StartOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	begin()
	s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
	l := running(t, nil, nil, func(c *Config) {
		c.Session, c.Engine, c.MinRetry = s, container.AppLogs{Engine: engine}, 10*time.Millisecond
	})
	l.Online(t.Context())
	l.Attach(web, made.ID)
	lines := func() int { return len(strings.Split(strings.Join(s.texts(web), "\n"), "\n")) }
	testenv.WaitFor(t, "lines come", func() bool { return lines() > 10 })
	private.Stop()
	private.Start()
	begin()
	l.Attach(web, made.ID)
	n := lines()
	testenv.WaitFor(t, "lines come from the engine that came back", func() bool { return lines() > n+10 })
	last := ""
	for _, line := range strings.Split(strings.Join(s.texts(web), "\n"), "\n") {
		if line == last {
			t.Errorf("%q came twice", line)
		}
		last = line
	}
}
