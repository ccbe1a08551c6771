package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/agent/telemetry"
	"reagent/config"
	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/system"
)

// studioDouble answers the contract's procedures over a real router, with
// whatever a test wants the studio to say.
type studioDouble struct {
	session *messenger.Session

	mu      sync.Mutex
	answers map[string]any
	calls   []string // uri, for a status with its state behind it
	news    chan struct{}
}

func startStudio(t *testing.T, url string, answers map[string]any) *studioDouble {
	t.Helper()
	s, err := messenger.New(messenger.Config{URL: url, Realm: protocol.RealmDevices, Log: zerolog.Nop(),
		Identity: func() (string, string) { return protocol.AuthIDSystem, "system" }})
	if err != nil {
		t.Fatal(err)
	}
	d := &studioDouble{session: s, answers: answers, news: make(chan struct{}, 64)}
	for _, uri := range []string{
		protocol.ReadDeviceMetadata, protocol.GetAppCredKey, protocol.UpdateDeviceStatus,
		protocol.UpdateDeviceArchitecture, protocol.GetRequestedAppStates,
	} {
		s.Declare(uri, nil, func(_ context.Context, inv messenger.Invocation) messenger.Outcome {
			return messenger.Outcome{Args: d.answer(uri, inv)}
		})
	}
	ctx, cancel := context.WithCancel(context.Background())
	up, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx, func(ctx context.Context, l *messenger.Link) error {
			err := l.Apply(ctx)
			up <- struct{}{}
			return err
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	<-up
	return d
}

func (d *studioDouble) answer(uri string, inv messenger.Invocation) []any {
	d.mu.Lock()
	defer d.mu.Unlock()
	said := uri
	if arg, ok := protocol.AsDict(protocol.Arg(inv.Args, 0)); ok && arg["status"] != nil {
		state, _ := protocol.Text(arg["status"])
		said = state + " of " + inv.Caller
	}
	d.calls = append(d.calls, said)
	d.news <- struct{}{}
	if a, ok := d.answers[uri]; ok {
		return []any{a}
	}
	return nil
}

func (d *studioDouble) await(t *testing.T, call string) []string {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		d.mu.Lock()
		calls := slices.Clone(d.calls)
		d.mu.Unlock()
		if slices.Contains(calls, call) {
			return calls
		}
		select {
		case <-d.news:
		case <-limit:
			t.Fatalf("no %q; called: %q", call, calls)
		}
	}
}

// appsDouble notes what a connection asks of the apps.
type appsDouble struct {
	mu    sync.Mutex
	lists []any
	ready chan struct{}
}

func (a *appsDouble) Sync(list any, _ time.Time) (bool, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists = append(a.lists, list)
	return false, nil
}
func (*appsDouble) ConfirmEmpty(context.Context, func(context.Context) (any, error)) error {
	return nil
}
func (*appsDouble) Refresh()                 {}
func (*appsDouble) Online()                  {}
func (a *appsDouble) Ready() <-chan struct{} { return a.ready }

// hello answers as the probe for duplicates does.
func hello(context.Context, messenger.Invocation) messenger.Outcome {
	return messenger.Outcome{Args: []any{"Hello :-)"}}
}

type noLogs struct{}

func (noLogs) Online(context.Context) {}

type noShells struct{}

func (noShells) Online() {}

// startDevice runs a session with the product's greeting for the device 7-42.
func startDevice(t *testing.T, url string) (*greeting, *appsDouble, *messenger.Session) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "device.reswarm")
	content := `{"name":"n","secret":"secret","swarm_key":7,"device_key":42,"serial_number":"7-42","device_endpoint_url":"` + url + `","mine":"kept"}`
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load([]string{"-config", file}, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	s, err := messenger.New(linkConfig(cfg, Timing{}, nil, zerolog.Nop()))
	if err != nil {
		t.Fatal(err)
	}
	for _, suffix := range []string{"one", "two", "three"} {
		s.Declare(protocol.Procedure("7-42", suffix), map[string]any{"force_reregister": true}, hello)
	}
	apps := &appsDouble{ready: make(chan struct{})}
	close(apps.ready)
	host := system.New()
	g := &greeting{
		log: zerolog.Nop(), studio: backend{s}, file: cfg.DeviceFile, learnt: &learnt{}, apps: apps, logs: noLogs{}, shells: noShells{}, probe: hello,
		status: telemetry.New(telemetry.Config{
			Device:  func() (uint64, uint64) { id := cfg.DeviceFile.Identity(); return id.SwarmKey, id.DeviceKey },
			Machine: host, BaseURL: func(string) {}, Log: zerolog.Nop(),
		}),
		machine:    func() protocol.DeviceArchitecture { return architecture(host) },
		engineWait: time.Second, callLimit: 5 * time.Second, stays: make(chan stay, 1),
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() { _ = s.Run(ctx, g.run) })
	group.Go(func() { _ = g.keep(ctx) })
	t.Cleanup(func() { cancel(); group.Wait() })
	return g, apps, s
}

var keys = map[string]string{"system": "system", "7-42": "secret", "8-42/7-42": "secret", "1": "user"}

func TestEverythingIsRegisteredBetweenConfiguringAndConnected(t *testing.T) {
	url, _ := testenv.Router(t, keys)
	studio := startStudio(t, url, map[string]any{
		protocol.ReadDeviceMetadata:    map[string]any{"device_name": "press", "swarm_name": "hall", "ownername": "acme", "swarm_key": 7},
		protocol.GetAppCredKey:         "key",
		protocol.GetRequestedAppStates: []any{map[string]any{"app_key": 1}},
	})
	g, apps, _ := startDevice(t, url)
	calls := studio.await(t, "CONNECTED of 7-42")
	first := slices.IndexFunc(calls, func(c string) bool { return strings.HasSuffix(c, " of 7-42") })
	if calls[first] != "CONFIGURING of 7-42" {
		t.Errorf("the first status is %q", calls[first])
	}
	for _, uri := range []string{protocol.ReadDeviceMetadata, protocol.GetAppCredKey, protocol.UpdateDeviceArchitecture, protocol.GetRequestedAppStates} {
		if i := slices.Index(calls, uri); i < 0 || i > slices.Index(calls, "CONNECTED of 7-42") {
			t.Errorf("%s was not called before CONNECTED: %q", uri, calls)
		}
	}
	for _, suffix := range []string{"one", "two", "three", protocol.ConnectionEstablished} {
		r, err := studio.session.Call(t.Context(), protocol.Procedure("7-42", suffix), nil, nil)
		if err != nil || len(r.Args) != 1 || r.Args[0] != "Hello :-)" {
			t.Errorf("%s = %v, %v", suffix, r.Args, err)
		}
	}
	if len(apps.lists) != 1 {
		t.Errorf("the wish list was taken %d times", len(apps.lists))
	}
	if key, _ := g.learnt.get(); key != "key" {
		t.Errorf("credential key = %q", key)
	}
	if id := g.file.Identity(); id.Name != "press" || id.SwarmName != "hall" || id.SwarmOwnerName != "acme" {
		t.Errorf("identity = %+v", id.Learned)
	}
}

func TestDeviceThatWasMovedComesBackUnderItsNewName(t *testing.T) {
	url, _ := testenv.Router(t, keys)
	studio := startStudio(t, url, map[string]any{
		protocol.ReadDeviceMetadata:    map[string]any{"swarm_key": "8"},
		protocol.GetRequestedAppStates: []any{},
	})
	g, apps, _ := startDevice(t, url)
	calls := studio.await(t, "CONNECTED of 8-42")
	if slices.Contains(calls, "CONNECTED of 7-42") {
		t.Errorf("it was CONNECTED under its old name: %q", calls)
	}
	if len(apps.lists) != 1 {
		t.Errorf("the old project's list was taken: %v", apps.lists)
	}
	raw, err := os.ReadFile(g.file.Path())
	if err != nil || !strings.Contains(string(raw), `"swarm_key": 8`) || !strings.Contains(string(raw), `"mine": "kept"`) {
		t.Errorf("device file = %s (%v)", raw, err)
	}
}

func TestAnswersOfAnyShapeDoNotKeepADeviceOffline(t *testing.T) {
	for name, answer := range map[string]any{
		"null": nil, "text": "x", "number": 1e300, "empty list": []any{}, "list of lists": []any{[]any{[]any{}}},
		"object of nulls": map[string]any{"device_name": nil, "swarm_key": nil, "reswarmBaseURL": nil},
		"object of lists": map[string]any{"device_name": []any{}, "swarm_key": map[string]any{}, "reswarmBaseURL": []any{}},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := testenv.Router(t, keys)
			studio := startStudio(t, url, map[string]any{
				protocol.ReadDeviceMetadata: answer, protocol.GetAppCredKey: answer, protocol.UpdateDeviceStatus: answer,
				protocol.UpdateDeviceArchitecture: answer, protocol.GetRequestedAppStates: answer,
			})
			g, _, _ := startDevice(t, url)
			studio.await(t, "CONNECTED of 7-42")
			if id := g.file.Identity(); id.Name != "n" || id.SwarmKey != 7 {
				t.Errorf("identity became %+v", id.Learned)
			}
		})
	}
}

func TestRouterWithoutABackendIsNoReasonToLeave(t *testing.T) {
	url, _ := testenv.Router(t, keys)
	_, apps, s := startDevice(t, url)
	testenv.WaitFor(t, "the session is online", s.Online)
	testenv.WaitFor(t, "its procedures answer", func() bool {
		user, err := messenger.New(messenger.Config{URL: url, Realm: protocol.RealmDevices, Log: zerolog.Nop(),
			Identity: func() (string, string) { return protocol.AuthIDSystem, "system" }})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		answered := false
		_ = user.Run(ctx, func(ctx context.Context, l *messenger.Link) error {
			_, err := l.Call(ctx, protocol.Procedure("7-42", "one"), nil, nil)
			answered = err == nil
			cancel()
			return nil
		})
		return answered
	})
	if len(apps.lists) != 0 {
		t.Errorf("a list was taken that nobody sent: %v", apps.lists)
	}
}
