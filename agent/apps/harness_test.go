package apps

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// A studioDouble takes reports and hands out tokens; the real one is tested with
// whole programs.
type studioDouble struct {
	mu      sync.Mutex
	online  bool
	reports []map[string]any
	news    chan struct{}
}

func newStudio() *studioDouble { return &studioDouble{online: true, news: make(chan struct{}, 1)} }

func (s *studioDouble) Online() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.online
}

func (s *studioDouble) setOnline(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.online = on
}

func (s *studioDouble) Report(_ context.Context, r map[string]any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.online {
		return errors.New("offline")
	}
	s.reports = append(s.reports, r)
	select {
	case s.news <- struct{}{}:
	default:
	}
	return nil
}

func (s *studioDouble) RegistryToken(context.Context, uint64) (string, error) {
	if !s.Online() {
		return "", errors.New("offline")
	}
	return "token", nil
}

func (s *studioDouble) all() []map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.reports)
}

// states is what the studio was told of an app, with the status where one is set.
func (s *studioDouble) states(key uint64) []string {
	var out []string
	for _, r := range s.all() {
		state, ok := protocol.Text(r["state"])
		if k, _ := protocol.Uint(r["app_key"]); !ok || k != key {
			continue
		}
		if status, _ := protocol.Text(r["updateStatus"]); status != "" && status != "completed" {
			state += "(" + status + ")"
		}
		out = append(out, state)
	}
	return out
}

// logDouble keeps what the apps say.
type logDouble struct {
	mu        sync.Mutex
	lines     []string
	transfers []string
	records   []string
}

func (l *logDouble) Agent(cn, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, cn+": "+text)
}

func (l *logDouble) Output(cn, text string) { l.Agent(cn, text) }

func (l *logDouble) Record(cn string, record []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, cn+": "+string(record))
}

func (l *logDouble) Transfer(cn, file string, percent float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.transfers = append(l.transfers, fmt.Sprintf("%s %s %.3f%%", cn, file, percent))
}
func (l *logDouble) Clear(cn string)     { l.Agent(cn, protocol.LoggerClear) }
func (*logDouble) ClearHistory(string)   {}
func (*logDouble) Attach(string, string) {}
func (*logDouble) Detach(string)         {}
func (*logDouble) Gone(string)           {}
func (*logDouble) Drain(context.Context, string, container.Container) {
}
func (l *logDouble) contains(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.lines, func(line string) bool { return strings.Contains(line, s) })
}

// quick are the waits of these tests.
func quick() Waits {
	w := ProductWaits()
	w.Probation = 400 * time.Millisecond
	w.HealthLimit = 3 * time.Second
	w.EmptyList = 50 * time.Millisecond
	w.Look = 500 * time.Millisecond
	w.EngineRetry = 50 * time.Millisecond
	w.ReportRetry = 20 * time.Millisecond
	w.Crash.Step = 100 * time.Millisecond
	w.StopGrace = time.Second
	return w
}

// A rig is one device on a real engine.
type rig struct {
	t       *testing.T
	engine  engine
	compose composer
	studio  *studioDouble
	log     *logDouble
	disk    Disk // nil = there is always room
	dir     string
	facts   Facts
	id      protocol.AppID
	waits   Waits
	store   *device.Store
	apps    *Apps
	cancel  context.CancelFunc
	done    chan struct{}
}

func (r *rig) start() {
	r.t.Helper()
	store, err := device.Open(filepath.Join(r.dir, "state.bolt"), zerolog.Nop())
	if err != nil {
		r.t.Fatal(err)
	}
	apps, err := New(Config{
		AppsDir: filepath.Join(r.dir, "apps"), Arch: "amd64", Privileged: true, Facts: func() Facts { return r.facts },
		LANIP: func() string { return "" }, GPU: func() bool { return false }, HostPaths: func() []string { return nil },
		Store: store, Engine: r.engine, Compose: r.compose, Studio: r.studio, AppLog: r.log, Disk: r.disk, Log: zerolog.New(zerolog.NewTestWriter(r.t)), Waits: r.waits,
	})
	if err != nil {
		r.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.store, r.apps, r.cancel, r.done = store, apps, cancel, make(chan struct{})
	go func() { defer close(r.done); _ = apps.Run(ctx) }()
}

// stop ends the agent's part; containers stay.
func (r *rig) stop() {
	if r.cancel == nil {
		return
	}
	r.cancel()
	<-r.done
	if err := r.store.Close(); err != nil {
		r.t.Error(err)
	}
	r.cancel = nil
}

func (r *rig) request(change func(*protocol.AppRequest)) {
	r.t.Helper()
	req := r.web(change)
	if err := r.apps.Request(context.Background(), req); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) web(change func(*protocol.AppRequest)) protocol.AppRequest {
	req := protocol.AppRequest{AppKey: r.id.Key, AppName: "web", Stage: protocol.Prod, Target: protocol.Running, PresentVersion: "1", NewestVersion: "1", ReleaseKey: 11, RequestorAccountKey: 1}
	if change != nil {
		change(&req)
	}
	return req
}

func toVersion(version string, release uint64) func(*protocol.AppRequest) {
	return func(r *protocol.AppRequest) {
		r.RequestUpdate, r.NewestVersion, r.NewReleaseKey = true, version, release
	}
}

func target(s protocol.State) func(*protocol.AppRequest) {
	return func(r *protocol.AppRequest) { r.Target = s }
}

// eventually polls a condition that another process brings about.
func (r *rig) eventually(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			r.t.Fatalf("never: %s\nreported: %q\nlog: %q", what, r.states(), r.log.lines)
		case <-tick.C:
		}
	}
}

func (r *rig) states() []string { return r.studio.states(r.id.Key) }

// reported waits until exactly these states were reported, in order.
func (r *rig) reported(want ...string) {
	r.t.Helper()
	r.eventually(fmt.Sprintf("reports %q", want), func() bool { return len(r.states()) >= len(want) })
	if got := r.states(); !slices.Equal(got, want) {
		r.t.Fatalf("reported %q\nwant     %q\nlog: %q", got, want, r.log.lines)
	}
}

func (r *rig) container(name string) *container.Container {
	r.t.Helper()
	c, err := r.engine.Inspect(context.Background(), name)
	if errors.Is(err, container.ErrNotFound) {
		return nil
	}
	if err != nil {
		r.t.Fatal(err)
	}
	return &c
}

// running waits until the container runs version v, and returns its id.
func (r *rig) running(version string) string {
	r.t.Helper()
	var id string
	r.eventually("version "+version+" runs", func() bool {
		c := r.container(r.cn())
		if c != nil {
			id = c.ID
		}
		return c != nil && c.Status == container.StatusRunning && versionOf(c.Image) == version
	})
	return id
}

func (r *rig) settled(want protocol.State) {
	r.t.Helper()
	r.eventually("state "+string(want)+" without an update under way", func() bool {
		a, known, err := r.store.Actual(r.id)
		if want.Gone() {
			return err == nil && !known
		}
		return err == nil && known && a.State == want && a.Swap == nil
	})
}
