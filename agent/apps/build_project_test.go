package apps

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/persistence/device"
	"reagent/protocol"
)

// newComposeDevRig is a device with compose on which somebody develops an app.
func newComposeDevRig(t *testing.T) *rig {
	t.Helper()
	programs := testenv.Compose(t)
	r := newDevRig(t)
	r.stop()
	r.compose = container.NewCompose(container.ComposeConfig{
		Plugins: []string{programs.Plugins}, Helper: programs.Helper, Temp: t.TempDir(), Log: zerolog.Nop(),
	})
	r.start()
	t.Cleanup(func() { r.discard() })
	return r
}

// serviceImage is what the studio calls the image of a service.
func (r *rig) serviceImage(stage protocol.Stage, service string) string {
	return protocol.RegistryServiceImage(r.facts.Registry, r.facts.Repository, stage, "amd64", r.id.Key, "web", service)
}

func TestWholeLifeOfADevelopersComposeApp(t *testing.T) {
	t.Parallel()
	r := newComposeDevRig(t)
	other := r.push("other:1", testenv.App{Version: "other"})
	port := freePort(t)
	definition := map[string]any{"services": map[string]any{
		"web":   map[string]any{"build": ".", "image": r.serviceImage(protocol.Dev, "web"), "ports": []any{fmt.Sprintf("%d:8080", port)}},
		"other": map[string]any{"image": other},
	}}
	compose := func(q *protocol.AppRequest) { q.DockerCompose = definition }
	r.upload(source(t, "ENV TESTAPP_SERVE=8080 BUILD=1"))
	r.wish(protocol.Built, compose)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	if !r.log.contains("Compose Image built successfully") {
		t.Errorf("the log lacks the contract's words: %q", r.log.lines)
	}
	for _, ref := range []string{r.serviceImage(protocol.Dev, "web"), other} {
		if r.imageID(ref) == "" {
			t.Errorf("%s is not there after the build", ref)
		}
	}
	r.wish(protocol.Running, compose)("STARTING", "RUNNING")
	was := r.services()
	if len(was) != 2 || was["web"].Status != container.StatusRunning || !slices.Contains(was["web"].Env, "BUILD=1") {
		t.Fatalf("services: %+v", was)
	}
	r.eventually("it answers on the port that it declares", func() bool { return answers(fmt.Sprintf("http://127.0.0.1:%d/", port)) })

	r.upload(source(t, "ENV TESTAPP_SERVE=8080 BUILD=2"))
	r.wish(protocol.Built, compose)("STOPPING", "PRESENT", "REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.wish(protocol.Running, compose)("STARTING", "RUNNING")
	if now := r.services(); !slices.Contains(now["web"].Env, "BUILD=2") {
		t.Errorf("the new build does not run: %v", now["web"].Env)
	}

	version := maps.Clone(definition)
	version["services"] = map[string]any{
		"web":   map[string]any{"build": ".", "image": r.serviceImage(protocol.Prod, "web") + ":1.0"},
		"other": map[string]any{"image": r.serviceImage(protocol.Prod, "other") + ":1.0", "x-source-image": other},
	}
	r.wish(protocol.Published, publishAs("1.0"), func(q *protocol.AppRequest) { q.DockerCompose = version })(
		"DELETING", "REMOVED", "BUILDING", "BUILT", "PUBLISHING", "PUBLISHED")
	if want := fmt.Sprintf("Re-hosting image %s of service other as %s:1.0...", other, r.serviceImage(protocol.Prod, "other")); !r.log.contains(want) {
		t.Errorf("the publish log lacks %q: %q", want, r.log.lines)
	}
	for _, service := range []string{"web", "other"} {
		ref := r.serviceImage(protocol.Prod, service) + ":1.0"
		if err := r.engine.RemoveImage(t.Context(), ref); err != nil {
			t.Error(err)
		}
		if err := r.engine.Pull(t.Context(), ref, nil, nil); err != nil {
			t.Errorf("the registry does not have %s: %v", ref, err)
		}
	}
	r.wish(protocol.Uninstalled, compose)("DELETING", "REMOVED", "UNINSTALLED")
	if left, _ := os.ReadDir(filepath.Join(r.dir, "apps", "build")); len(left) != 0 {
		t.Errorf("the build folder still holds %q", left[0].Name())
	}
	if now := r.services(); len(now) != 0 {
		t.Errorf("containers after the uninstall: %+v", now)
	}
}

func TestComposeBuildsOfHostileArchivesTouchNothing(t *testing.T) {
	t.Parallel()
	r := newComposeDevRig(t)
	compose := func(q *protocol.AppRequest) {
		q.DockerCompose = map[string]any{"services": map[string]any{"web": map[string]any{"build": ".", "image": r.serviceImage(protocol.Dev, "web")}}}
	}
	for name, c := range map[string]struct {
		files files
		want  string
	}{
		"climbs":        {files{"Dockerfile": "FROM scratch\n", "../../prod/x": "x"}, "leads out of its folder"},
		"no Dockerfile": {files{"x": "x"}, "ockerfile"},
		"bad build":     {files{"Dockerfile": "FROM scratch\nCOPY missing /\n"}, "missing"},
	} {
		r.upload(c.files)
		r.wish(protocol.Built, compose)("REMOVED", "BUILDING", "FAILED")
		if got := r.lastError(); !strings.Contains(got, c.want) {
			t.Errorf("%s: reported %q, want %q in it", name, got, c.want)
		}
		if _, err := os.Stat(filepath.Join(r.dir, "apps", "prod", "x")); err == nil {
			t.Errorf("%s: a file outside the build folder was written", name)
		}
	}
}

func TestAPortRuleThatSeveralServicesMeanIsAmbiguous(t *testing.T) {
	store, err := device.Open(filepath.Join(t.TempDir(), "state.bolt"), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	apps, err := New(Config{AppsDir: t.TempDir(), Store: store, Facts: testFacts, AppLog: &logDouble{}, Waits: ProductWaits()})
	if err != nil {
		t.Fatal(err)
	}
	service := map[string]any{"image": "x", "ports": []any{"8080:80", "53:53/udp"}}
	request := protocol.AppRequest{AppKey: 6, AppName: "web", Stage: protocol.Prod, Target: protocol.Present,
		DockerCompose: map[string]any{"services": map[string]any{"a": service, "b": map[string]any{"image": "x", "ports": []any{"8080"}}, "c": service}}}
	if _, _, err := store.Want(request, true); err != nil {
		t.Fatal(err)
	}
	apps.ports.restore(protocol.AppID{Key: 9, Stage: protocol.Dev}, map[string]uint16{"tcp/80": 41000})
	apps.ports.free = func(_ string, port uint16) bool { return port != 41001 }
	for _, c := range []struct {
		key  uint64
		port uint16
		host uint16
		wire string
		want protocol.PortReason
	}{
		{6, 8080, 41005, "http", protocol.PortAmbiguous},
		{6, 53, 41005, "udp", protocol.PortAmbiguous},
		{6, 53, 41005, "tcp", protocol.PortAvailable},
		{7, 8080, 41005, "", protocol.PortAvailable},
		{7, 8080, 41000, "", protocol.PortTakenByApp},
		{7, 8080, 41000, "udp", protocol.PortAvailable},
		{7, 8080, 41001, "", protocol.PortTakenByProcess},
		{7, 8080, 22, "", protocol.PortDenylisted},
	} {
		q := protocol.CheckHostPortArgs{App: protocol.AppID{Key: c.key, Stage: protocol.Prod}, Port: c.port, HostPort: c.host, Protocol: c.wire}
		if got, err := apps.CheckHostPort(context.Background(), q); err != nil || got != c.want {
			t.Errorf("app %d, %s port %d as %d: %q (%v), want %q", c.key, c.wire, c.port, c.host, got, err, c.want)
		}
	}
}
