package apps

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/protocol"
)

// newComposeRig is a rig with compose. The images of the services lie in its
// registry beside those of the single app.
func newComposeRig(t *testing.T) *rig {
	t.Helper()
	programs := testenv.Compose(t)
	r := newRig(t)
	r.stop()
	r.compose = container.NewCompose(container.ComposeConfig{
		Plugins: []string{programs.Plugins}, Helper: programs.Helper, Temp: t.TempDir(), Log: zerolog.Nop(),
	})
	r.start()
	t.Cleanup(func() { r.discard() })
	return r
}

// discard takes away what a failed test left of its project.
func (r *rig) discard() {
	r.stop()
	ctx := context.Background()
	_ = r.compose.Down(ctx, container.Project{Name: r.project()}, true, nil)
	images, err := r.engine.Images(ctx)
	if err != nil {
		return
	}
	for _, image := range images {
		for _, tag := range image.Tags {
			if len(tag) > len(r.facts.Registry) && tag[:len(r.facts.Registry)] == r.facts.Registry {
				_ = r.engine.RemoveImage(ctx, tag)
			}
		}
	}
}

func (r *rig) project() string { return projectName(r.id, "web") }

// push puts an image of a service into the registry and returns its reference.
func (r *rig) push(name string, app testenv.App) string {
	r.t.Helper()
	ref := r.facts.Registry + r.facts.Repository + name
	testenv.PushImage(r.t, ref, "", "", app)
	return ref
}

// services are the containers of the project by service.
func (r *rig) services() map[string]container.Container {
	r.t.Helper()
	rows, err := r.engine.List(r.t.Context(), map[string]string{labelProject: r.project()})
	if err != nil {
		r.t.Fatal(err)
	}
	out := map[string]container.Container{}
	for _, row := range rows {
		if c, err := r.engine.Inspect(r.t.Context(), row.ID); err == nil {
			out[c.Labels[labelService]] = c
		}
	}
	return out
}

// three is the definition of three services: a web server with a health check
// and a volume, a migration that has to end well before, and a worker.
func three(web, job string) map[string]any {
	return map[string]any{
		"services": map[string]any{
			"migrate": map[string]any{"image": job, "volumes": []any{"state:/state"}, "command": nil},
			"web": map[string]any{
				"image": web, "ports": []any{"8080:8080"}, "volumes": []any{"state:/state"},
				"depends_on": map[string]any{"migrate": map[string]any{"condition": "service_completed_successfully"}},
			},
			"worker_1": map[string]any{"image": web},
		},
		"volumes": map[string]any{"state": nil},
	}
}

func as(definition map[string]any) func(*protocol.AppRequest) {
	return func(q *protocol.AppRequest) {
		q.DockerCompose = definition
		q.Ports = []protocol.PortRule{{Port: 8080, Active: true}}
	}
}

func (r *rig) volumeFile() string {
	r.t.Helper()
	rows, err := r.engine.Volumes(r.t.Context(), map[string]string{labelProject: r.project()})
	if err != nil {
		r.t.Fatal(err)
	}
	var names []string
	for _, v := range rows {
		names = append(names, v.Name)
	}
	return fmt.Sprint(names)
}

func TestLifeOfAComposeApp(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	good := r.push("good:1", testenv.App{Version: "good", Env: []string{"TESTAPP_SERVE=8080"}, Health: 200 * time.Millisecond})
	sick := r.push("sick:1", testenv.App{Version: "sick", Env: []string{"TESTAPP_SERVE=8080", "TESTAPP_UNHEALTHY=1ms"}, Health: time.Second})
	better := r.push("better:1", testenv.App{Version: "better", Env: []string{"TESTAPP_SERVE=8080"}, Health: 200 * time.Millisecond})
	job := r.push("job:1", testenv.App{Version: "job", Env: []string{"TESTAPP_EXIT=0"}})

	first := three(good, job)
	r.request(as(first))
	r.settled(protocol.Running)
	r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING")
	defer func() {
		if r.log.contains(protocol.LoggerClear) {
			t.Error("viewers of a compose app were told to clear: the contract has that of plain images only")
		}
	}()
	was := r.services()
	if len(was) != 3 || was["web"].Status != container.StatusRunning || was["worker_1"].Status != container.StatusRunning || was["migrate"].Status != container.StatusExited {
		t.Fatalf("services after the install: %+v", was)
	}
	for name, c := range was {
		if id, ok := owner(c.Labels, r.facts.Serial); !ok || id != r.id || c.Labels[labelReal] != "True" || c.Labels[labelHash] == "" {
			t.Errorf("service %s has the labels %v, want those of the app", name, c.Labels)
		}
	}
	record, _, err := r.store.Actual(r.id)
	if err != nil {
		t.Fatal(err)
	}
	port := record.HostPorts["web/tcp/8080"]
	r.eventually("the managed port answers", func() bool { return answers(fmt.Sprintf("http://127.0.0.1:%d/", port)) })
	r.eventually("the studio knows the managed port", func() bool {
		for _, report := range r.studio.all() {
			if list, ok := protocol.AsList(report["ports"]); ok {
				rule, _ := protocol.AsDict(list[0])
				told, _ := protocol.Uint(rule["host_port"])
				return told == uint64(port)
			}
		}
		return false
	})
	for name, mode := range map[string]os.FileMode{definitionFile: 0o600, environmentFile: 0o600, ".": 0o700} {
		if info, err := os.Stat(filepath.Join(r.dir, "apps", "compose", "web", name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v (%v), want mode %o", name, info.Mode(), err, mode)
		}
	}
	volume := r.volumeFile()

	same := func(when string) {
		t.Helper()
		now := r.services()
		for name, c := range was {
			if now[name].ID != c.ID || now[name].Started != c.Started {
				t.Errorf("%s, service %s was touched: %.12s since %s, then %.12s since %s", when, name, c.ID, c.Started, now[name].ID, now[name].Started)
			}
		}
	}
	before := len(r.states())
	r.request(as(first))
	r.eventually("the same wish is answered", func() bool { return len(r.states()) > before })
	same("after the same wish")
	r.stop()
	r.start()
	r.apps.Online()
	r.request(as(first))
	r.eventually("the restarted agent answers", func() bool { return len(r.states()) > before+1 })
	same("after a restart of the agent")

	before = len(r.states())

	// A version that falls ill is rolled back, its data stays.
	bad := three(sick, job)
	r.request(func(q *protocol.AppRequest) {
		as(first)(q)
		toVersion("2", 12)(q)
		q.NewDockerCompose = bad
	})
	r.eventually("the update is rolled back", func() bool { s := r.states(); return s[len(s)-1] == "RUNNING(canceled)" })
	want := []string{"UPDATING", "PRESENT(pending_remote_confirmation)", "STARTING", "RUNNING", "FAILED", "RUNNING(canceled)"}
	if got := r.states()[before:]; !slices.Equal(got, want) {
		t.Errorf("roll-back reported %q, want %q", got, want)
	}
	r.settled(protocol.Running)
	if back := r.services(); back["web"].Image != good || back["web"].Status != container.StatusRunning || back["web"].Labels[labelVersion] != "1" {
		t.Errorf("after the roll-back: web is %s of %s, version %q", back["web"].Status, back["web"].Image, back["web"].Labels[labelVersion])
	}
	if now := r.volumeFile(); now != volume {
		t.Errorf("volumes after the roll-back: %s, want %s", now, volume)
	}

	// A good one stays.
	r.request(func(q *protocol.AppRequest) {
		as(first)(q)
		toVersion("3", 13)(q)
		q.NewDockerCompose = three(better, job)
	})
	r.eventually("version 3 runs and is trusted", func() bool {
		a, _, err := r.store.Actual(r.id)
		return err == nil && a.Version == "3" && a.Swap == nil && a.State == protocol.Running
	})
	if now := r.services(); now["web"].Image != better || len(now) != 3 {
		t.Errorf("after the update: %d services, web of %s, want 3 and %s", len(now), now["web"].Image, better)
	}
	if now := r.volumeFile(); now != volume {
		t.Errorf("volumes after the update: %s, want %s", now, volume)
	}

	r.request(func(q *protocol.AppRequest) {
		as(three(better, job))(q)
		q.PresentVersion = "3"
		q.Target = protocol.Uninstalled
	})
	r.settled(protocol.Uninstalled)
	if left := r.services(); len(left) > 0 {
		t.Errorf("containers left: %v", left)
	}
	if left := r.volumeFile(); left != "[]" {
		t.Errorf("volumes left: %s", left)
	}
	for _, ref := range []string{good, sick, better, job} {
		if _, err := r.engine.Image(t.Context(), ref); err == nil {
			t.Errorf("image %s is left", ref)
		}
	}
	for _, folder := range []string{"compose/web", "prod/web"} {
		if _, err := os.Stat(filepath.Join(r.dir, "apps", folder)); err == nil {
			t.Errorf("folder %s is left", folder)
		}
	}
}

func writeJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
