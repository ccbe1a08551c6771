package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

func TestWholeLifeOfAnApp(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(func(a *protocol.AppRequest) {
		a.Ports = []protocol.PortRule{{Port: 8080, Active: true, Name: "web"}}
		a.Environment = map[string]any{"NONCE": map[string]any{"value": "n-1"}}
	})
	r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING")
	first := r.running("1")
	r.eventually("the host port is reported", func() bool {
		for _, rep := range r.studio.all() {
			if list, ok := protocol.AsList(rep["ports"]); ok {
				rule, _ := protocol.AsDict(list[0])
				port, _ := protocol.Uint(rule["host_port"])
				return answers(fmt.Sprintf("http://127.0.0.1:%d/", port))
			}
		}
		return false
	})
	nonce, err := os.ReadFile(filepath.Join(r.dir, "apps", "prod", "web", "env", "NONCE.txt"))
	if err != nil || string(nonce) != "n-1" {
		t.Errorf("NONCE.txt = %q (%v), want n-1", nonce, err)
	}

	same := func(a *protocol.AppRequest) {
		a.Ports = []protocol.PortRule{{Port: 8080, Active: true, Name: "web"}}
		a.Environment = map[string]any{"NONCE": map[string]any{"value": "n-1"}}
	}
	r.request(same)
	r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING", "RUNNING")
	if again := r.running("1"); again != first {
		t.Error("a wish that was met already replaced the container")
	}

	r.request(func(a *protocol.AppRequest) { same(a); a.Target = protocol.Present })
	r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING", "RUNNING", "STOPPING", "PRESENT")
	if c := r.container(r.cn()); c != nil {
		t.Errorf("a stopped app has a container: %s", c.Status)
	}
	before := len(r.states())
	r.request(same)
	r.eventually("it runs again", func() bool { return len(r.states()) >= before+2 })
	if got := r.states()[before:]; !slices.Equal(got, []string{"STARTING", "RUNNING"}) {
		t.Errorf("start after a stop reported %q", got)
	}
	r.request(func(a *protocol.AppRequest) { same(a); a.Target = protocol.Uninstalled })
	r.settled(protocol.Uninstalled)
	r.eventually("the uninstall is reported", func() bool { return slices.Contains(r.states(), "UNINSTALLED") })
	if got := r.states(); !slices.Equal(got[len(got)-3:], []string{"DELETING", "REMOVED", "UNINSTALLED"}) {
		t.Errorf("uninstall reported %q", got)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "apps", "prod", "web")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("data folder: %v, want it gone", err)
	}
	if _, err := r.engine.Image(t.Context(), r.image("1")); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("image: %v, want it gone", err)
	}
}

func TestUpdateKeepsTheOldVersionUntilTheNewOneHasProvedItself(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.stop()
	r.waits.Probation = 5 * time.Second // enough for a look at it, on a busy machine too
	r.start()
	r.request(nil)
	r.settled(protocol.Running)
	old := r.running("1")
	r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING")
	r.request(toVersion("2", 12))
	r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING", "UPDATING", "PRESENT(pending_remote_confirmation)", "STARTING", "RUNNING")
	if !r.log.contains(r.cn() + ": " + protocol.LoggerClear) {
		t.Error("viewers were not told to clear when the download began")
	}
	new := r.running("2")
	if new == old {
		t.Error("the container is the same")
	}
	if r.container(parkedName(old)) == nil {
		t.Error("the old container was gone before the new one had proved itself")
	}
	r.settled(protocol.Running)
	r.eventually("the parked container goes", func() bool { return r.container(parkedName(old)) == nil })
	if _, err := r.engine.Image(t.Context(), r.image("1")); err != nil {
		t.Errorf("the old image: %v, want it kept for a roll-back", err)
	}
	r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING", "UPDATING", "PRESENT(pending_remote_confirmation)", "STARTING", "RUNNING", "RUNNING")
	all := r.studio.all()
	for i, rep := range all {
		if watched := rep["probation"] == true; watched != (i >= 5 && i <= 7) {
			t.Errorf("report %d of %d, %v %v, says probation %v", i+1, len(all), rep["state"], rep["release_key"], watched)
		}
	}
	last := all[len(all)-1]
	if key, _ := protocol.Uint(last["release_key"]); key != 12 || last["updateStatus"] != "completed" {
		t.Errorf("last report = %v, want release 12, completed", last)
	}
	r.request(toVersion("2", 12))
	r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING", "UPDATING", "PRESENT(pending_remote_confirmation)", "STARTING", "RUNNING", "RUNNING", "RUNNING")
	if again := r.running("2"); again != new {
		t.Error("the same update asked again replaced the container")
	}
}

func TestVersionThatDoesNotStayUpIsRolledBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	old := r.running("1")
	r.request(toVersion("crash", 13))
	r.eventually("the roll-back is reported", func() bool { return slices.Contains(r.states(), "RUNNING(canceled)") })
	r.settled(protocol.Running)
	got := r.states()
	want := []string{"UPDATING", "PRESENT(pending_remote_confirmation)", "STARTING", "RUNNING", "FAILED", "RUNNING(canceled)"}
	if tail := got[4:]; !slices.Equal(tail, want) && !slices.Equal(tail, slices.Delete(slices.Clone(want), 3, 4)) {
		t.Errorf("reported %q, want %q (RUNNING only if it ran)", tail, want)
	}
	if back := r.running("1"); back != old {
		t.Error("the old container was replaced, not brought back")
	}
	reports := r.studio.all()
	last := reports[len(reports)-1]
	if key, _ := protocol.Uint(last["release_key"]); key != 11 {
		t.Errorf("release_key = %v after the roll-back, want the old one, 11", last["release_key"])
	}
	for _, rep := range reports {
		if rep["state"] == "FAILED" && rep["error"] == nil {
			t.Error("FAILED is reported without the reason")
		}
	}
	// Neither a restart nor the studio's list tries it again; a direct wish does.
	before := len(r.states())
	r.stop()
	r.start()
	if _, err := r.apps.Sync([]any{protocol.Wire(r.web(toVersion("crash", 13)))}, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.running("1")
	r.eventually("it is looked at again", func() bool { return len(r.states()) > before })
	updates := func(s string) bool { return strings.HasPrefix(s, "UPDATING") }
	if slices.ContainsFunc(r.states()[before:], updates) {
		t.Errorf("tried again by itself: %q", r.states()[before:])
	}
	r.request(toVersion("crash", 13))
	r.eventually("a direct wish tries it again", func() bool { return slices.ContainsFunc(r.states()[before:], updates) })
	r.settled(protocol.Running)
}

func TestUpdateToAMissingImageChangesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	old := r.running("1")
	r.request(toVersion("nowhere", 14))
	r.eventually("the failure is reported", func() bool { return slices.Contains(r.states(), "FAILED") })
	r.eventually("and that the old one runs", func() bool { s := r.states(); return s[len(s)-1] == "RUNNING" })
	if r.running("1") != old {
		t.Error("the old container was touched")
	}
	r.request(nil) // the wish is taken back
	r.settled(protocol.Running)
}

func TestCrashingAppIsStartedAgainWithGrowingPauses(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(func(a *protocol.AppRequest) { a.PresentVersion, a.NewestVersion = "crash", "crash" })
	r.eventually("three attempts", func() bool {
		return r.log.contains("1st attempt") && r.log.contains("2nd attempt") && r.log.contains("3rd attempt")
	})
	r.request(func(a *protocol.AppRequest) {
		a.PresentVersion, a.NewestVersion, a.Target = "crash", "crash", protocol.Removed
	})
	r.settled(protocol.Removed) // the newest wish wins over the pause
	if c := r.container(r.cn()); c != nil {
		t.Errorf("container %s is left", c.Status)
	}
}

func TestKilledContainerIsStartedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	id := r.running("1")
	if err := r.engine.Stop(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	r.eventually("the end is reported", func() bool { return slices.Contains(r.states(), "FAILED") })
	r.eventually("it runs again", func() bool { s := r.states(); return s[len(s)-1] == "RUNNING" })
	if !r.log.contains("exited with status code") {
		t.Errorf("the app's log does not say so: %q", r.log.lines)
	}
}

func TestRestartOfTheAgentTouchesNoContainer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	id := r.running("1")
	r.settled(protocol.Running)
	for range 3 {
		r.stop()
		r.start()
		if _, err := r.apps.Sync([]any{protocol.Wire(r.web(nil))}, time.Now()); err != nil {
			t.Fatal(err)
		}
		r.apps.Online()
		<-r.apps.Ready()
		if got := r.running("1"); got != id {
			t.Fatalf("container %s became %s", id, got)
		}
	}
	c := r.container(r.cn())
	if c.RestartCount != 0 || c.ID != id {
		t.Errorf("container was restarted: %+v", c)
	}
}

func TestChangedEnvironmentReplacesTheContainer(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	id := r.running("1")
	r.request(func(a *protocol.AppRequest) { a.Environment = map[string]any{"A": map[string]any{"value": "1"}} })
	r.eventually("another container runs", func() bool {
		c := r.container(r.cn())
		return c != nil && c.ID != id && c.Status == container.StatusRunning && slices.Contains(c.Env, "A=1")
	})
}

func TestMalformedWishListsChangeNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	id := r.running("1")
	r.settled(protocol.Running)
	for _, answer := range []any{nil, "x", 5, map[string]any{}, []any{nil}, []any{[]any{[]any{}}}, []any{map[string]any{"app_key": "x"}}, []any{map[string]any{"app_key": r.id.Key, "stage": "PROD", "target_state": 7}}} {
		if empty, _ := r.apps.Sync(answer, time.Now()); empty {
			t.Errorf("%v counts as an empty list", answer)
		}
	}
	if r.running("1") != id {
		t.Error("the container was touched")
	}
	if _, ok, _ := r.store.Wanted(r.id); !ok {
		t.Error("the wish is gone")
	}
}

func TestEmptyWishListCountsOnlyWhenItIsConfirmed(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	r.running("1")
	r.settled(protocol.Running)
	empty, err := r.apps.Sync([]any{}, time.Now())
	if !empty || err != nil {
		t.Fatalf("Sync = %t, %v", empty, err)
	}
	r.running("1")
	row := protocol.Wire(r.web(nil))
	if err := r.apps.ConfirmEmpty(t.Context(), func(context.Context) (any, error) { return []any{row}, nil }); err != nil {
		t.Fatal(err)
	}
	r.running("1")
	if err := r.apps.ConfirmEmpty(t.Context(), func(context.Context) (any, error) { return []any{}, nil }); err != nil {
		t.Fatal(err)
	}
	r.settled(protocol.Removed)
	r.eventually("the container goes", func() bool { return r.container(r.cn()) == nil })
	if _, err := os.Stat(filepath.Join(r.dir, "apps", "prod", "web")); err != nil {
		t.Errorf("the data folder: %v, want it kept", err)
	}
}

func TestAppThatLeftTheListGoesAndItsDataStays(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	r.running("1")
	r.settled(protocol.Running)
	other := r.web(func(a *protocol.AppRequest) { a.AppKey, a.AppName, a.Target = r.id.Key+1, "other", protocol.Removed })
	if _, err := r.apps.Sync([]any{protocol.Wire(other)}, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.settled(protocol.Removed)
	r.eventually("the container goes", func() bool { return r.container(r.cn()) == nil })
}

func TestContainerThatMerelyLooksSimilarIsLeftAlone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	foreign, _, err := r.engine.Run(t.Context(), container.Spec{
		Name: r.cn(), Image: r.local("1"), Labels: map[string]string{"real": "True"},
		Env: []string{"DEVICE_SERIAL_NUMBER=another-device", "ENV=PROD", fmt.Sprintf("APP_KEY=%d", r.id.Key), "APP_NAME=web"},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.request(nil)
	r.eventually("the reason is reported", func() bool {
		for _, rep := range r.studio.all() {
			if text, _ := protocol.Text(rep["error"]); strings.Contains(text, "taken by a container that this agent did not make") {
				return true
			}
		}
		return false
	})
	r.request(target(protocol.Uninstalled))
	r.settled(protocol.Uninstalled)
	if c := r.container(r.cn()); c == nil || c.ID != foreign || c.Status != container.StatusRunning {
		t.Errorf("the foreign container was touched: %+v", c)
	}
}

func TestContainersOfTheReferenceAgentAreAdopted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.stop()
	port := freePort(t)
	adopted, _, err := r.engine.Run(t.Context(), container.Spec{
		Name: r.cn(), Image: r.local("1"), TTY: true, Labels: map[string]string{"real": "True"},
		Env:   []string{"DEVICE_SERIAL_NUMBER=" + r.facts.Serial, "ENV=PROD", fmt.Sprintf("APP_KEY=%d", r.id.Key), "APP_NAME=Web"},
		Ports: []container.Port{{Container: 8080, Host: port, Protocol: "tcp"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.start()
	r.eventually("the record is there", func() bool { a, ok, _ := r.store.Actual(r.id); return ok && a.State == protocol.Running })
	a, _, _ := r.store.Actual(r.id)
	if a.AppName != "Web" || a.Version != "1" || a.HostPorts["tcp/8080"] != port || !a.Adopted {
		t.Errorf("record = %+v", a)
	}
	// The studio's wish, with an environment and ports, recreates nothing.
	wish := r.web(func(q *protocol.AppRequest) {
		q.AppName = "Web"
		q.Environment = map[string]any{"A": map[string]any{"value": "1"}}
		q.Ports = []protocol.PortRule{{Port: 8080}}
	})
	if _, err := r.apps.Sync([]any{protocol.Wire(wish)}, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.eventually("the wish is taken", func() bool { a, _, _ := r.store.Actual(r.id); return a.ConfigHash != "" })
	if r.running("1") != adopted {
		t.Error("the adopted container was recreated")
	}
	// A stop of the container is healed by starting the same one.
	if err := r.engine.Stop(t.Context(), adopted, 0); err != nil {
		t.Fatal(err)
	}
	r.eventually("it was seen to end", func() bool { return slices.Contains(r.states(), "FAILED") })
	if r.running("1") != adopted {
		t.Error("the adopted container was recreated after its end")
	}
}

// The studio's list comes before an engine that is slow to start has answered: it
// takes the app for what it is all the same.
func TestAWishThatComesBeforeTheEngineHindersNoAdoption(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.stop()
	adopted, _, err := r.engine.Run(t.Context(), container.Spec{
		Name: r.cn(), Image: r.local("1"), TTY: true, Labels: map[string]string{"real": "True"},
		Env: []string{"DEVICE_SERIAL_NUMBER=" + r.facts.Serial, "ENV=PROD", fmt.Sprintf("APP_KEY=%d", r.id.Key), "APP_NAME=web"},
	})
	if err != nil {
		t.Fatal(err)
	}
	early := r.openStore()
	wish := r.web(func(q *protocol.AppRequest) {
		q.Environment = map[string]any{"A": map[string]any{"value": "1"}}
	})
	_, _, err = early.Want(wish, false)
	if err := errors.Join(err, early.Close()); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.settled(protocol.Running)
	r.eventually("the wish is taken", func() bool { a, _, _ := r.store.Actual(r.id); return a.ConfigHash != "" })
	if a, _, err := r.store.Actual(r.id); err != nil || a.Version != "1" || a.State != protocol.Running {
		t.Errorf("record = %+v, %v; want that of the container", a, err)
	}
	if w, _, err := r.store.Wanted(r.id); err != nil || len(w.Request.Environment) != 1 {
		t.Errorf("wanted = %+v, %v; want what the studio said", w.Request, err)
	}
	if r.running("1") != adopted {
		t.Error("the adopted container was recreated")
	}
	if slices.Contains(r.states(), "FAILED") {
		t.Errorf("states %v; want no failure", r.states())
	}
}

func TestLostDatabaseIsRebuiltFromTheLabels(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(func(a *protocol.AppRequest) { a.Ports = []protocol.PortRule{{Port: 8080}} })
	id := r.running("1")
	r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING") // what is still in the outbox is lost with it
	r.settled(protocol.Running)
	r.stop()
	if err := os.Remove(filepath.Join(r.dir, "state.bolt")); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.eventually("the record is there", func() bool { a, ok, _ := r.store.Actual(r.id); return ok && a.State == protocol.Running })
	if _, err := r.apps.Sync([]any{protocol.Wire(r.web(func(a *protocol.AppRequest) { a.Ports = []protocol.PortRule{{Port: 8080}} }))}, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.apps.Online()
	r.eventually("the studio hears of it", func() bool { s := r.states(); return len(s) > 4 && s[len(s)-1] == "RUNNING" })
	if r.running("1") != id {
		t.Error("the container was recreated")
	}
}

func TestReportsMadeOfflineArriveWhenTheLinkIsBack(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING")
	r.studio.setOnline(false)
	r.request(target(protocol.Present))
	r.settled(protocol.Present)
	r.request(nil)
	r.settled(protocol.Running)
	r.studio.setOnline(true)
	r.apps.Online()
	r.eventually("the newest state arrives", func() bool { return len(r.states()) > 4 })
	if got := r.states()[4:]; !slices.Equal(got, []string{"RUNNING"}) {
		t.Errorf("delivered %q, want the newest state alone", got)
	}
}

func TestWishesThatNothingCanFulfilAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, s := range []protocol.State{protocol.Built, protocol.Published, protocol.Failed} {
		if err := r.apps.Request(t.Context(), r.web(target(s))); err == nil {
			t.Errorf("%s was accepted for an installed app", s)
		}
	}
	if err := r.apps.Request(t.Context(), r.web(func(a *protocol.AppRequest) { a.Stage, a.Target = protocol.Dev, protocol.Failed })); err == nil {
		t.Error("a failure was accepted as a wish for a developer's app")
	}
}

// A mortal engine dies, with the agent, at one chosen call: from there on
// nothing gets through, as if the process had been killed.
type mortal struct {
	engine
	left atomic.Int64
	dead chan struct{}
}

var errKilled = fmt.Errorf("killed: %w", container.ErrUnavailable)

func (m *mortal) dying() bool {
	n := m.left.Add(-1)
	if n == 0 {
		close(m.dead)
	}
	return n <= 0
}

func (m *mortal) Run(ctx context.Context, s container.Spec) (string, string, error) {
	if m.dying() {
		return "", "", errKilled
	}
	return m.engine.Run(ctx, s)
}
func (m *mortal) Start(ctx context.Context, id string) error {
	if m.dying() {
		return errKilled
	}
	return m.engine.Start(ctx, id)
}
func (m *mortal) Stop(ctx context.Context, id string, g time.Duration) error {
	if m.dying() {
		return errKilled
	}
	return m.engine.Stop(ctx, id, g)
}
func (m *mortal) Remove(ctx context.Context, id string) error {
	if m.dying() {
		return errKilled
	}
	return m.engine.Remove(ctx, id)
}
func (m *mortal) Rename(ctx context.Context, id, name string) error {
	if m.dying() {
		return errKilled
	}
	return m.engine.Rename(ctx, id, name)
}
func (m *mortal) Inspect(ctx context.Context, id string) (container.Container, error) {
	if m.dying() {
		return container.Container{}, errKilled
	}
	return m.engine.Inspect(ctx, id)
}
func (m *mortal) Pull(ctx context.Context, ref string, c *container.Credential, f func(container.PullProgress)) error {
	if m.dying() {
		return errKilled
	}
	return m.engine.Pull(ctx, ref, c, f)
}

// TestUpdateSurvivesAnEndAtEveryStep ends the agent's part at each call to the
// engine while an update runs, starts it again, and wants the end state: one
// container, of the right version, and nothing parked.
func TestUpdateSurvivesAnEndAtEveryStep(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, to, want string }{{"good version", "2", "2"}, {"bad version", "crash", "1"}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			for n := int64(1); ; n++ {
				if died := endAt(t, n, c.to, c.want); !died {
					if n < 8 {
						t.Errorf("the update took only %d calls: is it the real one?", n)
					}
					return
				}
			}
		})
	}
}

func endAt(t *testing.T, n int64, to, want string) (died bool) {
	r := newRig(t)
	defer r.remove()
	r.request(nil)
	r.settled(protocol.Running)
	r.running("1")
	r.settled(protocol.Running)
	r.stop()

	real := r.engine
	m := &mortal{engine: real, dead: make(chan struct{})}
	m.left.Store(1 << 40)
	r.engine = m
	r.start()
	<-r.apps.Ready()
	m.left.Store(n)
	r.request(toVersion(to, 12))
	over := func() bool {
		a, _, err := r.store.Actual(r.id)
		return err == nil && a.Swap == nil && a.State == protocol.Running && (a.Version == "2" || a.Rejected != nil)
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
wait:
	for {
		select {
		case <-m.dead:
			died = true
			break wait
		case <-tick.C:
			if over() {
				break wait
			}
		}
	}
	r.stop()
	r.engine = real
	r.start()
	r.running(want)
	r.settled(protocol.Running)
	r.eventually("nothing is parked", func() bool {
		list, err := real.List(context.Background(), nil)
		return err == nil && !slices.ContainsFunc(list, func(s container.Summary) bool {
			return strings.HasPrefix(s.Name, parkedPrefix) && s.Labels[labelSerial] == r.facts.Serial
		})
	})
	return died
}

var _ store = (*device.Store)(nil)
