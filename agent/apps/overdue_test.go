package apps

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/protocol"
)

// An impatient compose has little time for the definitions that wait for the end
// of a service, and none for anything while it is hurried.
type impatient struct {
	composer
	short, none composer
	hurried     atomic.Bool
}

func (c *impatient) Up(ctx context.Context, p container.Project, line func(string)) error {
	text, err := os.ReadFile(p.File)
	switch {
	case err != nil:
		return err
	case c.hurried.Load():
		return c.none.Up(ctx, p, line)
	case bytes.Contains(text, []byte("service_completed_successfully")):
		return c.short.Up(ctx, p, line)
	}
	return c.composer.Up(ctx, p, line)
}

func (c *impatient) Stop(ctx context.Context, p container.Project, grace time.Duration, line func(string)) error {
	if c.hurried.Load() {
		return fmt.Errorf("compose stop: %w", container.ErrTimeout)
	}
	return c.composer.Stop(ctx, p, grace, line)
}

// What compose waits for may never come. That is no silence of the engine, for
// which the app would be begun again without end.
func TestAProjectThatIsNeverUpFails(t *testing.T) {
	t.Parallel()
	r := newComposeRig(t)
	r.stop()
	programs := testenv.Compose(t)
	within := func(limit time.Duration) composer {
		return container.NewCompose(container.ComposeConfig{
			Plugins: []string{programs.Plugins}, Helper: programs.Helper, Temp: t.TempDir(), UpLimit: limit, Log: zerolog.Nop(),
		})
	}
	compose := &impatient{composer: r.compose, short: within(2 * time.Second), none: within(time.Nanosecond)}
	r.compose = compose
	r.waits.Crash.Step = time.Hour
	r.start()
	image := r.push("server:1", server)
	good, endless := two(image), two(image)
	web := endless["services"].(map[string]any)["web"].(map[string]any)
	web["depends_on"] = map[string]any{"db": map[string]any{"condition": "service_completed_successfully"}}
	r.request(define(good))
	r.up("web", "db")

	update := func(version string, release uint64) (since func() []string) {
		before := len(r.states())
		r.request(func(q *protocol.AppRequest) {
			define(good)(q)
			toVersion(version, release)(q)
			q.NewDockerCompose = endless
		})
		return func() []string { return r.states()[before:] }
	}
	since := update("2", 12)
	r.eventually("the update is rolled back", func() bool { return slices.Contains(since(), "RUNNING(canceled)") })
	want := []string{"UPDATING", "PRESENT(pending_remote_confirmation)", "STARTING", "FAILED", "RUNNING(canceled)"}
	if got := since(); !slices.Equal(got, want) {
		t.Errorf("reported %q, want %q", got, want)
	}
	r.settled(protocol.Running)
	for name, c := range r.up("web", "db") {
		if c.Labels[labelVersion] != "1" {
			t.Errorf("service %s is of version %q, want 1", name, c.Labels[labelVersion])
		}
	}

	// Nor is it when the old version does not come up any more.
	since = update("3", 13)
	r.eventually("version 3 begins", func() bool { return slices.Contains(since(), "STARTING") })
	compose.hurried.Store(true)
	r.eventually("the roll-back ends, and the next start", func() bool { return r.log.contains("Entered a crashloop (1st") })
	r.settled(protocol.Failed)
	if have, _, err := r.store.Actual(r.id); err != nil || have.Version != "1" || !strings.Contains(have.Error, errNotUp.Error()) {
		t.Errorf("installed is version %s, failed because of %q (%v); want 1", have.Version, have.Error, err)
	}
	compose.hurried.Store(false)
	r.request(define(good))
	r.up("web", "db")
}

// What a registry or a build keeps the engine waiting for is done once, as
// everything that a developer asks for, and then told.
func TestNoSilenceOfOthersIsTakenForTheEngines(t *testing.T) {
	t.Parallel()
	const idle = 2 * time.Second
	impatient := func(t *testing.T, r *rig, reg *testenv.Registry) {
		e, err := container.New(container.Config{Host: testenv.Docker(t).Host, PullIdle: idle, BuildIdle: idle, Log: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(e.Close)
		r.stop()
		r.engine, r.facts.Registry = e, reg.Host+"/"
		r.start()
	}
	for _, c := range []struct {
		name string
		run  func(t *testing.T) (r *rig, brought func(...string))
		want []string
		told error
	}{
		{"a push", func(t *testing.T) (*rig, func(...string)) {
			r := newDevRig(t)
			deaf := testenv.NewRegistry(t)
			deaf.Fault(func(_ http.ResponseWriter, q *http.Request, _ http.Handler) { <-q.Context().Done() })
			impatient(t, r, deaf)
			r.upload(source(t))
			return r, r.wish(protocol.Published, publishAs("1"))
		}, []string{"REMOVED", "BUILDING", "BUILT", "PUBLISHING", "FAILED"}, container.ErrNetwork},
		{"an image of elsewhere", func(t *testing.T) (*rig, func(...string)) {
			r := newComposeDevRig(t)
			other := r.push("other:1", testenv.App{})
			r.stop()
			r.engine = &puller{r.engine, func(context.Context, string, func(container.PullProgress)) error {
				return fmt.Errorf("pull: %w", container.ErrTimeout)
			}}
			r.start()
			r.upload(files{"x": "x"})
			return r, r.wish(protocol.Published, publishAs("1"), define(map[string]any{"services": map[string]any{
				"web": map[string]any{"image": r.serviceImage(protocol.Prod, "web") + ":1", "x-source-image": other},
			}}))
		}, []string{"REMOVED", "BUILDING", "BUILT", "PUBLISHING", "FAILED"}, container.ErrNetwork},
		{"a build", func(t *testing.T) (*rig, func(...string)) {
			r := newDevRig(t)
			impatient(t, r, testenv.NewRegistry(t))
			r.upload(slowSource(t, "60"))
			return r, r.wish(protocol.Built)
		}, []string{"REMOVED", "BUILDING", "FAILED"}, errStandstill},
		{"a build by compose", func(t *testing.T) (*rig, func(...string)) {
			r := newComposeDevRig(t)
			programs := testenv.Compose(t)
			r.stop()
			r.compose = container.NewCompose(container.ComposeConfig{
				Plugins: []string{programs.Plugins}, Helper: programs.Helper, Temp: t.TempDir(), BuildLimit: idle, Log: zerolog.Nop(),
			})
			r.start()
			r.upload(slowSource(t, "60"))
			return r, r.wish(protocol.Built, define(map[string]any{"services": map[string]any{
				"web": map[string]any{"build": ".", "image": r.serviceImage(protocol.Dev, "web")},
			}}))
		}, []string{"REMOVED", "BUILDING", "FAILED"}, errStandstill},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, brought := c.run(t)
			brought(c.want...)
			if got := r.lastError(); !strings.Contains(got, c.told.Error()) {
				t.Errorf("reported %q, want %q in it", got, c.told)
			}
		})
	}
}
