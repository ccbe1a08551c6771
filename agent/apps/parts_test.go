package apps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reagent/container"
	"reagent/protocol"
)

func TestProductWaitsAreTheDesigns(t *testing.T) {
	w := ProductWaits()
	for name, c := range map[string]struct{ got, want time.Duration }{
		"stop grace": {w.StopGrace, time.Second}, "probation": {w.Probation, 30 * time.Second}, "empty list": {w.EmptyList, 30 * time.Second},
		"running": {w.Running, 30 * time.Second}, "crash step": {w.Crash.Step, 5 * time.Second}, "crash cap": {w.Crash.Max, time.Hour},
		"pull retry": {w.PullRetry, 2 * time.Second}, "pull patience": {w.PullPatience, time.Hour},
	} {
		if c.got != c.want {
			t.Errorf("%s = %s, want %s", name, c.got, c.want)
		}
	}
}

func TestCrashLoopPausesGrowAndAreCapped(t *testing.T) {
	p := ProductWaits().Crash
	var c crashLoop
	now := time.Unix(1e9, 0)
	for n, want := range []time.Duration{5 * time.Second, 20 * time.Second, 45 * time.Second, 80 * time.Second} {
		nth, pause := c.failed(p, now, 0)
		if nth != n+1 || pause < want*8/10 || pause > want*12/10 {
			t.Errorf("failure %d pauses %s (as number %d), want about %s", n+1, pause, nth, want)
		}
		if c.wait(now) != pause {
			t.Errorf("wait = %s, pause was %s", c.wait(now), pause)
		}
	}
	for range 200 {
		if _, pause := c.failed(p, now, 0); pause > p.Max*12/10 {
			t.Fatalf("pause %s is over the cap", pause)
		}
	}
	if nth, pause := c.failed(p, now, p.StableAfter); nth != 1 || pause > 6*time.Second {
		t.Errorf("after a stable run the count is %d and the pause %s, want a fresh start", nth, pause)
	}
	c.reset()
	if c.wait(now) != 0 {
		t.Error("a reset loop still waits")
	}
}

func TestOrdinals(t *testing.T) {
	for n, want := range map[int]string{1: "1st", 2: "2nd", 3: "3rd", 4: "4th", 11: "11th", 12: "12th", 13: "13th", 21: "21st", 111: "111th"} {
		if got := ordinal(n); got != want {
			t.Errorf("ordinal(%d) = %s, want %s", n, got, want)
		}
	}
}

var webID = protocol.AppID{Key: 6, Stage: protocol.Prod}

func TestHostPortsAreKeptAndNeverShared(t *testing.T) {
	h := newHostPorts(func(_ string, port uint16) bool { return port != 40001 })
	rules := []protocol.PortRule{{Port: 80}, {Port: 53, Protocol: "udp"}, {Port: 9000, LocalIP: "10.0.0.7"}}
	first, err := h.assign(webID, needs(protocol.Prod, rules, nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if first["tcp/80"] != 40000 || first["udp/53"] != 40000 || len(first) != 2 {
		t.Errorf("assigned %v; udp and tcp are two pools, a port of another host is not published", first)
	}
	other := protocol.AppID{Key: 7, Stage: protocol.Prod}
	second, err := h.assign(other, needs(protocol.Prod, []protocol.PortRule{{Port: 80, HostPort: 40000}}, []container.Port{{Container: 80, Host: 40000, Protocol: "tcp"}}), nil)
	if err != nil || second["tcp/80"] != 40002 {
		t.Errorf("assigned %v (%v), want 40002: 40000 is another app's and 40001 in use", second, err)
	}
	again, err := h.assign(webID, needs(protocol.Prod, rules, nil), first)
	if err != nil || again["tcp/80"] != 40000 {
		t.Errorf("assigned %v (%v) the second time", again, err)
	}
	moved, err := h.replace(webID, first, []uint16{40000})
	if err != nil || moved["tcp/80"] == 40000 {
		t.Errorf("replaced %v (%v)", moved, err)
	}
	h.release(other)
	third, err := h.assign(protocol.AppID{Key: 8, Stage: protocol.Prod}, needs(protocol.Prod, []protocol.PortRule{{Port: 80, HostPort: 40002}}, nil), nil)
	if err != nil || third["tcp/80"] != 40002 {
		t.Errorf("assigned %v (%v), want the released 40002", third, err)
	}
}

func TestRestoredPortsAreTaken(t *testing.T) {
	h := newHostPorts(func(string, uint16) bool { return true })
	h.restore(webID, map[string]uint16{"tcp/80": 40000, "rubbish": 5})
	got, err := h.assign(protocol.AppID{Key: 7, Stage: protocol.Prod}, needs(protocol.Prod, []protocol.PortRule{{Port: 80}}, nil), nil)
	if err != nil || got["tcp/80"] != 40001 {
		t.Errorf("assigned %v (%v), want 40001", got, err)
	}
	mine, err := h.assign(webID, needs(protocol.Prod, []protocol.PortRule{{Port: 80}}, nil), map[string]uint16{"tcp/80": 40000})
	if err != nil || mine["tcp/80"] != 40000 {
		t.Errorf("assigned %v (%v), want its own 40000", mine, err)
	}
}

func testFacts() Facts {
	return Facts{Serial: "sn-1", DeviceKey: 7, SwarmKey: 41, DeviceName: "press", SwarmName: "hall", SwarmOwner: "acme",
		EndpointURL: "ws://127.0.0.1:8020/ws", Registry: "127.0.0.1:8020/", Repository: "apps/", BaseURL: "https://s.test",
		CredentialKey: "key"}
}

func environmentOf(f Facts, r protocol.AppRequest, ports map[string]uint16) (map[string]string, []string) {
	vars, refused := environment(f, "10.0.0.5", r, ports)
	out := map[string]string{}
	for _, v := range vars {
		if _, twice := out[v.name]; twice {
			panic("variable " + v.name + " twice")
		}
		out[v.name] = v.value
	}
	return out, refused
}

func TestEnvironmentIsTheContracts(t *testing.T) {
	r := protocol.AppRequest{AppKey: 6, AppName: "web", Stage: protocol.Prod,
		Environment: map[string]any{
			"TEXT": map[string]any{"value": "a\nb\tc"}, "NUMBER": map[string]any{"value": 5.0}, "NULL": map[string]any{"value": nil},
			"APP_AUTH_SECRET": map[string]any{"value": "mine"}, "BAD NAME": map[string]any{"value": "x"}, "../up": map[string]any{"value": "x"},
			"DEVICE_NAME": map[string]any{"value": "other"},
		},
		EnvironmentTemplate: map[string]any{"TEXT": map[string]any{"defaultValue": "default"}, "TEX": map[string]any{"defaultValue": true}, "NONE": map[string]any{"defaultValue": nil}},
		Ports:               []protocol.PortRule{{Port: 80, CloudRemotePort: 7000, RemotePortEnvironment: "WEB"}},
	}
	got, refused := environmentOf(testFacts(), r, map[string]uint16{"tcp/80": 40000, "udp/80": 40005, "udp/53": 40001})
	for name, want := range map[string]string{
		"DEVICE_SERIAL_NUMBER": "sn-1", "ENV": "PROD", "DEVICE_KEY": "7", "SWARM_KEY": "41", "APP_KEY": "6", "APP_NAME": "web",
		"DEVICE_ENDPOINT_URL": "ws://host.docker.internal:8020/ws", "TUNNEL_DOMAIN": "app.ironflock.com", "APP_AUTH_ID": "app-6-prod-e1@sn-1",
		"DEVICE_LAN_IP": "10.0.0.5", "RESWARM_URL": "https://s.test", "DEVICE_URL": "https://s.test/acme/swarms/hall/settings/devices/press",
		"TEXT": `a\nb\tc`, "NUMBER": "5", "NULL": "", "TEX": "true", "DEVICE_NAME": "other",
		"REMOTE_PORT_FOR_80_CLOUD": "7000", "WEB_CLOUD": "7000", "DEVICE_PORT_FOR_80": "40000", "DEVICE_PORT_FOR_53": "40001",
	} {
		if v, ok := got[name]; v != want || !ok {
			t.Errorf("%s = %q (set: %t), want %q", name, v, ok, want)
		}
	}
	if got["APP_AUTH_SECRET"] == "mine" {
		t.Error("a user variable replaced the app's credential")
	}
	for _, never := range []string{"NONE", "INSTANCE_KEY", "BAD NAME", "../up"} {
		if v, ok := got[never]; ok {
			t.Errorf("%s is set to %q", never, v)
		}
	}
	if strings.Join(refused, ",") != "../up,BAD NAME" {
		t.Errorf("refused %q", refused)
	}
}

func TestNoCredentialWithoutAKey(t *testing.T) {
	f := testFacts()
	f.CredentialKey, f.BaseURL = "", ""
	got, _ := environmentOf(f, protocol.AppRequest{AppKey: 6, AppName: "web", Stage: protocol.Prod}, nil)
	for _, never := range []string{"APP_AUTH_ID", "APP_AUTH_SECRET", "RESWARM_URL", "DEVICE_URL"} {
		if _, ok := got[never]; ok {
			t.Errorf("%s is set", never)
		}
	}
}

func TestVariablesAreMirroredIntoFiles(t *testing.T) {
	data := t.TempDir()
	folder := filepath.Join(data, "env")
	if err := writeEnvironment(data, []variable{{"A", "1"}, {"OLD", "x"}, {"P_CLOUD", "5"}}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(folder, "DEVICE_SECRET.txt"), []byte("s"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeEnvironment(data, []variable{{"A", "2"}}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"A.txt": "2", "OLD.txt": "x", "DEVICE_SECRET.txt": "gone", "P_CLOUD.txt": "gone"} {
		raw, err := os.ReadFile(filepath.Join(folder, file))
		if got := string(raw); err == nil && got != want || err != nil && want != "gone" {
			t.Errorf("%s = %q (%v), want %s", file, got, err, want)
		}
	}
	info, err := os.Stat(filepath.Join(folder, "A.txt"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode = %v (%v), want 0600", info.Mode(), err)
	}
	if dir, err := os.Stat(folder); err != nil || dir.Mode().Perm() != 0o700 {
		t.Errorf("folder's mode = %v (%v), want 0700", dir.Mode(), err)
	}
}

func TestHashIgnoresWhatTheAgentDerives(t *testing.T) {
	d := definition{Image: "r/a:1", Ports: []protocol.PortRule{{Port: 80}}, Environment: map[string]any{"A": map[string]any{"value": 1.0}}}
	same := d
	same.Ports = []protocol.PortRule{{Port: 80, HostPort: 40000, RemotePort: 1, CloudRemotePort: 2}}
	if d.hash() != same.hash() {
		t.Error("a host port changed the hash")
	}
	if same.Ports[0].HostPort != 40000 {
		t.Error("hashing changed its argument")
	}
	for name, change := range map[string]func(*definition){
		"image": func(d *definition) { d.Image = "r/a:2" }, "environment": func(d *definition) { d.Environment = nil },
		"port": func(d *definition) { d.Ports = []protocol.PortRule{{Port: 81}} }, "privilege": func(d *definition) { d.Privileged = true },
		"template": func(d *definition) { d.Template = map[string]any{"B": map[string]any{}} },
	} {
		other := d
		change(&other)
		if other.hash() == d.hash() {
			t.Errorf("another %s has the same hash", name)
		}
	}
	if (definition{Environment: map[string]any{}}).hash() != (definition{}).hash() {
		t.Error("no environment and an empty one differ")
	}
}

func TestOnlyContainersOfThisDeviceAreAdopted(t *testing.T) {
	good := func() container.Container {
		return container.Container{Name: "prod_6_web", Labels: map[string]string{"real": "True"},
			Env: []string{"DEVICE_SERIAL_NUMBER=sn-1", "ENV=PROD", "APP_KEY=6", "APP_NAME=Web"}}
	}
	if id, name, ok := adoptable(good(), "sn-1"); !ok || id != webID || name != "Web" {
		t.Errorf("adoptable = %v %q %t", id, name, ok)
	}
	for why, change := range map[string]func(*container.Container){
		"other serial":     func(c *container.Container) { c.Env[0] = "DEVICE_SERIAL_NUMBER=sn-2" },
		"no serial":        func(c *container.Container) { c.Env = c.Env[1:] },
		"similar name":     func(c *container.Container) { c.Name = "prod_6_web2" },
		"no label":         func(c *container.Container) { c.Labels = nil },
		"other label":      func(c *container.Container) { c.Labels["real"] = "true" },
		"key zero":         func(c *container.Container) { c.Env[2] = "APP_KEY=0" },
		"name with a path": func(c *container.Container) { c.Env[3] = "APP_NAME=../x"; c.Name = "prod_6_../x" },
	} {
		c := good()
		change(&c)
		if _, _, ok := adoptable(c, "sn-1"); ok {
			t.Errorf("%s: adopted", why)
		}
	}
}

func TestProbationIsJudgedByWhatTheContainerDoes(t *testing.T) {
	waits := ProductWaits()
	start := time.Unix(1e9, 0)
	p := probation{since: start, runs: map[string]time.Time{"new": start.Add(-time.Second)}}
	runs := func(change func(*container.Container)) sight {
		c := container.Container{ID: "new", Status: container.StatusRunning, Started: start.Add(-time.Second)}
		if change != nil {
			change(&c)
		}
		return sight{parts: []container.Container{c}}
	}
	ended := func(c *container.Container) { c.Status = container.StatusExited }
	for name, c := range map[string]struct {
		seen  sight
		after time.Duration
		want  verdict
	}{
		"still young":                            {runs(nil), 29 * time.Second, undecided},
		"old enough":                             {runs(nil), 30 * time.Second, passed},
		"gone":                                   {sight{}, time.Second, failed},
		"another container":                      {runs(func(c *container.Container) { c.ID = "x" }), time.Second, failed},
		"exited well":                            {runs(ended), time.Second, failed},
		"a job that is done":                     {sight{parts: runs(ended).parts, jobs: true}, 30 * time.Second, passed},
		"restarted":                              {runs(func(c *container.Container) { c.Started = start.Add(time.Second) }), 2 * time.Second, failed},
		"restarted after the clock was set back": {runs(func(c *container.Container) { c.Started = start.Add(-time.Hour) }), 2 * time.Second, failed},
		"healthy":                                {runs(func(c *container.Container) { c.Health = container.HealthHealthy }), 31 * time.Second, passed},
		"unhealthy":                              {runs(func(c *container.Container) { c.Health = container.HealthUnhealthy }), time.Second, failed},
		"undecided check":                        {runs(func(c *container.Container) { c.Health = container.HealthStarting }), time.Minute, undecided},
		"check without end":                      {runs(func(c *container.Container) { c.Health = container.HealthStarting }), 5 * time.Minute, failed},
	} {
		if got, reason, wait := judge(p, c.seen, start.Add(c.after), waits); got != c.want || got == undecided && wait <= 0 || got == failed && reason == "" {
			t.Errorf("%s: verdict %d (%q, %s), want %d", name, got, reason, wait, c.want)
		}
	}
}

func TestNoClockThatIsSetDecidesAboutAProbation(t *testing.T) {
	// The engine's was set back between the start and the probation's beginning.
	seen := sight{parts: []container.Container{{ID: "new", Status: container.StatusRunning, Started: time.Now().Add(24 * time.Hour)}}}
	p := watch(seen)
	if p.since == p.since.Round(0) {
		t.Errorf("it began at %s by the wall clock alone", p.since)
	}
	waits := ProductWaits()
	if got, reason, _ := judge(p, seen, p.since.Add(waits.Probation), waits); got != passed {
		t.Errorf("verdict %d (%s), want it to pass", got, reason)
	}
}

func TestVersionIsTheTagOfAnImage(t *testing.T) {
	for image, want := range map[string]string{"r:5000/apps/x:1.2.0": "1.2.0", "r:5000/apps/x": "", "x:1": "1", "": ""} {
		if got := versionOf(image); got != want {
			t.Errorf("versionOf(%q) = %q, want %q", image, got, want)
		}
	}
}
func TestARuleIsAboutOneServiceAtMost(t *testing.T) {
	for what, c := range map[string]struct {
		have map[string]uint16
		want uint16
	}{
		"the one container": {map[string]uint16{"tcp/8080": 40000, "udp/8080": 40001}, 40000},
		"a service":         {map[string]uint16{"web/tcp/8080": 40002, "db/tcp/5432": 40003}, 40002},
		"two services":      {map[string]uint16{"web/tcp/8080": 40002, "db/tcp/8080": 40003}, 0},
		"none":              {map[string]uint16{"web/udp/8080": 40002}, 0},
	} {
		got, ok := ruled(c.have, protocol.PortRule{Port: 8080, Protocol: "http"})
		if got != c.want && ok || ok != (c.want != 0) {
			t.Errorf("%s: host port %d (%t), want %d", what, got, ok, c.want)
		}
	}
}
