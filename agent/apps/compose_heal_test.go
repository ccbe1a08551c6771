package apps

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/protocol"
)

var server = testenv.App{Version: "server", Env: []string{"TESTAPP_SERVE=8080"}}

// two is a definition of two services of one image.
func two(image string) map[string]any {
	return map[string]any{"services": map[string]any{
		"web": map[string]any{"image": image, "volumes": []any{"kept:/kept"}}, "db": map[string]any{"image": image},
	}, "volumes": map[string]any{"kept": nil}}
}

func define(d map[string]any) func(*protocol.AppRequest) {
	return func(q *protocol.AppRequest) { q.DockerCompose = d }
}

// up waits until these services run, and returns them.
func (r *rig) up(services ...string) map[string]container.Container {
	r.t.Helper()
	var now map[string]container.Container
	r.eventually("services "+strings.Join(services, ", ")+" run", func() bool {
		now = r.services()
		return !slices.ContainsFunc(services, func(s string) bool { return now[s].Status != container.StatusRunning })
	})
	r.settled(protocol.Running)
	return now
}

func TestNoServiceCrashesUnseen(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	image := r.push("server:1", server)
	r.request(define(two(image)))
	was := r.up("web", "db")

	if err := testenv.Docker(t).API.ContainerKill(t.Context(), was["db"].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	r.eventually("the crash is reported", func() bool { return slices.Contains(r.states(), "FAILED") })
	if !r.log.contains("service db: exited with status code: 137") {
		t.Errorf("the log does not name the service that crashed: %q", r.log.lines)
	}
	now := r.up("web", "db")
	if now["web"].ID != was["web"].ID || now["web"].Started != was["web"].Started {
		t.Error("the service that ran was touched")
	}

	if err := r.engine.Remove(t.Context(), now["db"].ID); err != nil {
		t.Fatal(err)
	}
	r.eventually("the missing service is made again", func() bool {
		db, ok := r.services()["db"]
		return ok && db.ID != now["db"].ID && db.Status == container.StatusRunning
	})
	if again := r.up("web", "db"); again["web"].ID != was["web"].ID {
		t.Error("the service that ran was touched")
	}
}

func TestComposeAppStartsOffline(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	image := r.push("server:1", server)
	r.request(define(two(image)))
	r.up("web", "db")
	r.request(func(q *protocol.AppRequest) { define(two(image))(q); q.Target = protocol.Present })
	r.settled(protocol.Present)
	if left := r.services(); len(left) > 0 {
		t.Errorf("a stopped app has containers: %v", slices.Collect(maps.Keys(left)))
	}
	if r.volumeFile() == "[]" {
		t.Error("the volume of a stopped app is gone")
	}
	r.studio.setOnline(false)
	r.request(define(two(image)))
	r.up("web", "db")
}

// A batch of jobs is done when all have ended well: it is not run again by a
// restart of the agent, but by one of the system.
func TestJobsRunOncePerStartOfTheSystem(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	r.stop()
	r.facts.Boot = "first"
	r.start()
	job := r.push("job:1", testenv.App{Version: "job", Env: []string{"TESTAPP_EXIT=0"}})
	batch := map[string]any{"services": map[string]any{"a": map[string]any{"image": job}, "b": map[string]any{"image": job}}}
	r.request(define(batch))
	r.settled(protocol.Running)
	r.eventually("their ends are written down", func() bool { a, _, _ := r.store.Actual(r.id); return len(a.Ended) == 2 })
	was := r.services()

	r.stop()
	before := len(r.states())
	r.start()
	r.eventually("the state is reported after a start", func() bool { return len(r.states()) > before })
	before = len(r.states())
	r.request(define(batch))
	r.eventually("the wish is answered", func() bool { return len(r.states()) > before })
	if got := r.states()[before:]; !slices.Equal(got, []string{"RUNNING"}) {
		t.Errorf("after a restart of the agent: %q, want RUNNING alone", got)
	}
	for name, c := range r.services() {
		if c.Started != was[name].Started {
			t.Errorf("job %s was run again by a restart of the agent", name)
		}
	}

	r.stop()
	r.facts.Boot = "second"
	r.start()
	r.eventually("the jobs run again after a start of the system", func() bool {
		now := r.services()
		return now["a"].Started.After(was["a"].Started) && now["b"].Started.After(was["b"].Started)
	})
	r.settled(protocol.Running)
}

// without is a device on which compose is not installed, for as long as it is so.
type without struct {
	composer
	there atomic.Bool
}

func (w *without) missing() error {
	if w.there.Load() {
		return nil
	}
	return container.ErrNoCompose
}

func (w *without) Supported(ctx context.Context) error {
	return errors.Join(w.missing(), w.composer.Supported(ctx))
}

func (w *without) Stop(ctx context.Context, p container.Project, grace time.Duration, line func(string)) error {
	if err := w.missing(); err != nil {
		return err
	}
	return w.composer.Stop(ctx, p, grace, line)
}

func (w *without) Down(ctx context.Context, p container.Project, volumes bool, line func(string)) error {
	if err := w.missing(); err != nil {
		return err
	}
	return w.composer.Down(ctx, p, volumes, line)
}

func TestDeviceWithoutComposeSaysSoAndStillRemoves(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	r.stop()
	compose := &without{composer: r.compose}
	r.compose, r.waits.NoCompose = compose, 100*time.Millisecond
	r.start()
	image := r.push("server:1", server)
	r.request(define(two(image)))
	r.settled(protocol.Failed)
	a, _, err := r.store.Actual(r.id)
	if err != nil || a.Error != container.ErrNoCompose.Error() {
		t.Errorf("FAILED for %q (%v), want %q", a.Error, err, container.ErrNoCompose)
	}
	r.eventually("the state is reported", func() bool { return len(r.states()) > 0 })
	told := len(r.states())

	compose.there.Store(true)
	r.up("web", "db")
	if got := r.states(); !slices.Equal(got[:told], []string{"FAILED"}) {
		t.Errorf("before compose was there: reported %q, want FAILED once", got[:told])
	}
	if r.log.contains("crashloop") {
		t.Error("the lack of compose counted as a crash")
	}

	compose.there.Store(false)
	r.request(func(q *protocol.AppRequest) { define(two(image))(q); q.Target = protocol.Removed })
	r.settled(protocol.Removed)
	if left := r.services(); len(left) > 0 || r.volumeFile() != "[]" {
		t.Errorf("left: %d containers, volumes %s", len(left), r.volumeFile())
	}
	if _, err := r.engine.Image(t.Context(), image); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("image: %v, want it gone", err)
	}
}

func TestAnAppMayChangeItsForm(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	image := r.push("server:1", server)
	r.request(nil)
	r.settled(protocol.Running)
	r.running("1")
	r.settled(protocol.Running)

	r.request(define(two(image)))
	r.up("web", "db")
	if c := r.container(r.cn()); c != nil {
		t.Errorf("the single container is left: %s", c.Status)
	}

	r.request(nil)
	r.settled(protocol.Running)
	r.running("1")
	r.settled(protocol.Running)
	if left := r.services(); len(left) > 0 || r.volumeFile() != "[]" {
		t.Errorf("left of the project: %d containers, volumes %s", len(left), r.volumeFile())
	}
	if _, err := os.Stat(filepath.Join(r.dir, "apps", "compose", "web")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the project's folder: %v, want it gone", err)
	}
}

// An update may change the form, too, and is taken back as every other.
func TestUpdateToAnotherFormIsRolledBack(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	crash := r.push("crash:1", testenv.App{Version: "crash", Env: []string{"TESTAPP_EXIT=3"}})
	r.request(nil)
	r.settled(protocol.Running)
	id := r.running("1")
	r.settled(protocol.Running)
	r.request(func(q *protocol.AppRequest) { toVersion("2", 12)(q); q.NewDockerCompose = two(crash) })
	r.eventually("the update is rolled back", func() bool { s := r.states(); return s[len(s)-1] == "RUNNING(canceled)" })
	if back := r.running("1"); back != id {
		t.Errorf("container %.12s came back as %.12s", id, back)
	}
	if left := r.services(); len(left) > 0 {
		t.Errorf("left of the project: %v", left)
	}
}

func TestADefinitionThatCannotRunIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	image := r.push("server:1", server)
	r.request(define(two(image)))
	was := r.up("web", "db")
	bad := two(image)
	bad["include"] = []any{"/etc/passwd"}
	for _, d := range []map[string]any{{"services": map[string]any{}}, bad} {
		err := r.apps.Request(t.Context(), r.web(define(d)))
		var answer *protocol.Error
		if !errors.As(err, &answer) || answer.Code != protocol.CodeInvalid {
			t.Errorf("Request = %v, want %s", err, protocol.CodeInvalid)
		}
	}
	if now := r.up("web", "db"); now["web"].ID != was["web"].ID {
		t.Error("a refused wish touched a container")
	}
}

func TestProjectsOfTheReferenceAgentAreAdopted(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	image := r.push("server:1", server)
	if err := r.engine.Pull(t.Context(), image, nil, nil); err != nil {
		t.Fatal(err)
	}
	foreign := two(image)
	foreign["name"] = r.project()
	for _, s := range foreign["services"].(map[string]any) {
		s.(map[string]any)["environment"] = map[string]any{
			"DEVICE_SERIAL_NUMBER": r.facts.Serial, "APP_KEY": r.id.Key, "APP_NAME": "web", "ENV": "PROD",
		}
	}
	p := r.apps.project(r.web(nil))
	p.Dir, p.File = t.TempDir(), ""
	p.File = filepath.Join(p.Dir, definitionFile)
	writeJSON(t, p.File, foreign)
	if err := r.compose.Up(t.Context(), p, nil); err != nil {
		t.Fatal(err)
	}
	was := r.services()
	r.settled(protocol.Running)

	// The studio says the definition: what runs stays as it is.
	before := len(r.states())
	r.request(define(two(image)))
	r.eventually("the wish is answered", func() bool { return len(r.states()) > before })
	r.stop()
	r.start()
	now := r.up("web", "db")
	for name, c := range was {
		if now[name].ID != c.ID || now[name].Started != c.Started {
			t.Errorf("service %s was touched", name)
		}
	}
	r.request(func(q *protocol.AppRequest) { define(two(image))(q); q.Target = protocol.Removed })
	r.settled(protocol.Removed)
	if left := r.services(); len(left) > 0 {
		t.Errorf("containers left: %v", left)
	}
}

func TestLostDatabaseIsRebuiltFromAProject(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	image := r.push("server:1", server)
	r.request(define(two(image)))
	was := r.up("web", "db")
	r.stop()
	if err := os.Remove(filepath.Join(r.dir, "state.bolt")); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.settled(protocol.Running)
	r.request(define(two(image)))
	r.apps.Online()
	now := r.up("web", "db")
	for name, c := range was {
		if now[name].ID != c.ID || now[name].Started != c.Started {
			t.Errorf("service %s was touched", name)
		}
	}
	a, _, err := r.store.Actual(r.id)
	if err != nil || a.Version != "1" || !a.Project || a.ReleaseKey != 11 {
		t.Errorf("the record is %+v (%v)", a, err)
	}
}

func TestAnImageMayAskForLessRights(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	testenv.PushImage(t, r.image("modest"), "", "", testenv.App{Version: "modest", Env: []string{"TESTAPP_SERVE=8080"}, Labels: map[string]string{labelPrivileged: "false"}})
	modest := func(q *protocol.AppRequest) { q.PresentVersion, q.NewestVersion = "modest", "modest" }
	r.request(modest)
	id := r.running("modest")
	r.settled(protocol.Running)
	raw, err := testenv.Docker(t).API.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if h := raw.HostConfig; h.Privileged || len(h.Devices) > 0 || len(h.CapAdd) > 0 {
		t.Errorf("privileged %v, devices %v, capabilities %v, want none", h.Privileged, h.Devices, h.CapAdd)
	}
	r.stop()
	r.start()
	before := len(r.states())
	r.request(modest)
	r.eventually("the wish is answered", func() bool { return len(r.states()) > before })
	if again := r.running("modest"); again != id {
		t.Error("a container that is as its image asks was replaced")
	}
}
