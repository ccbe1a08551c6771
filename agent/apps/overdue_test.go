package apps

import (
	"bytes"
	"context"
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
// of a service, and none for any while it is hurried.
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
	if have, _, err := r.store.Actual(r.id); err != nil || have.Version != "1" || !strings.Contains(have.Error, "did not come up") {
		t.Errorf("installed is version %s, failed because of %q (%v); want 1", have.Version, have.Error, err)
	}
	compose.hurried.Store(false)
	r.request(define(good))
	r.up("web", "db")
}
