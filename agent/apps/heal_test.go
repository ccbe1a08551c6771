package apps

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// halt is a power cut: agent and container end.
func (r *rig) halt() string {
	r.t.Helper()
	id := r.running("1")
	r.stop()
	if err := r.engine.Stop(r.t.Context(), id, 0); err != nil {
		r.t.Fatal(err)
	}
	return id
}

// Design rule 3: what is installed runs after a reboot without a network, also
// when something newer was asked for and cannot be had.
func TestInstalledVersionStartsWhenItsUpdateCannotBeFetched(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	r.running("1")
	r.settled(protocol.Running)
	r.waits.Crash.Step = time.Minute
	r.studio.setOnline(false)
	r.request(toVersion("2", 12))
	r.eventually("the download failed", func() bool { return r.log.contains("Entered a crashloop") })
	id := r.halt()
	r.start()
	if again := r.running("1"); again != id {
		t.Errorf("container %s came back as %s", id, again)
	}
}

// renamer fails to rename.
type renamer struct {
	engine
	broken atomic.Bool
}

func (e *renamer) Rename(ctx context.Context, id, name string) error {
	if e.broken.Load() {
		return errors.New("rename: device or resource busy")
	}
	return e.engine.Rename(ctx, id, name)
}

func TestUpdateThatCannotGoOnIsMendedByTheNextWish(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	r.running("1")
	r.settled(protocol.Running)
	r.stop()
	e := &renamer{engine: r.engine}
	e.broken.Store(true)
	r.engine = e
	r.waits.Crash.Step = time.Minute
	r.start()
	r.request(toVersion("2", 12))
	r.eventually("it failed", func() bool { return r.log.contains("Entered a crashloop (1st") })
	e.broken.Store(false)
	r.request(toVersion("2", 12)) // a newer wish wins over the pause
	r.running("2")
	r.settled(protocol.Running)
}

func TestUpdateThatCannotGoOnIsNotPlannedDuringItsPause(t *testing.T) {
	for _, phase := range []device.SwapPhase{device.SwapParking, device.SwapStarting, device.SwapProbation, device.SwapRollback} {
		w := &worker{a: &Apps{cfg: Config{Waits: quick()}}}
		now := time.Now()
		w.crash.failed(w.a.cfg.Waits.Crash, now, 0)
		j := &job{have: device.Actual{State: protocol.Failed, Version: "2", Swap: &device.Swap{Phase: phase, ToVersion: "2"}}}
		j.wish.Request = protocol.AppRequest{AppKey: 6, Stage: protocol.Prod, Target: protocol.Running, RequestUpdate: true, NewestVersion: "2"}
		if p := w.plan(j, now); p.wait == 0 {
			t.Errorf("%s: goes on at once with %q", phase, p.step)
		}
	}
}

// panicker panics on its first container.
type panicker struct {
	engine
	once sync.Once
}

func (e *panicker) Run(ctx context.Context, s container.Spec) (string, string, error) {
	e.once.Do(func() { panic("the first one") })
	return e.engine.Run(ctx, s)
}

func TestAppWhoseStepPanickedIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.stop()
	r.engine = &panicker{engine: r.engine}
	r.start()
	r.request(nil)
	r.settled(protocol.Running)
	r.running("1")
	r.settled(protocol.Running)
}

// late shows a container under another name than it has: the name that it had
// until just before.
type late struct {
	engine
	id    string
	looks atomic.Int64
}

func (e *late) List(ctx context.Context, labels map[string]string) ([]container.Summary, error) {
	all, err := e.engine.List(ctx, labels)
	for i := range all {
		if all[i].ID == e.id {
			all[i].Name = parkedName(e.id)
			e.looks.Store(1)
		}
	}
	return all, err
}

func (e *late) Inspect(ctx context.Context, id string) (container.Container, error) {
	c, err := e.engine.Inspect(ctx, id)
	if id == e.id && e.looks.CompareAndSwap(1, 2) {
		c.Name = parkedName(e.id)
	}
	return c, err
}

func TestContainerThatJustCameBackIsNoLeftover(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	id := r.running("1")
	r.settled(protocol.Running)
	e := &late{engine: r.engine, id: id}
	a := &Apps{cfg: r.apps.cfg, workers: map[protocol.AppID]*worker{}, ready: make(chan struct{})}
	a.cfg.Engine = e
	if err := a.lookAtAll(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c := r.container(id); c == nil {
		t.Error("the container that had just come back was removed")
	}
}

// crossing lets a request arrive between the look at a wish and the next write.
type crossing struct {
	store
	once sync.Once
	then func()
}

func (s *crossing) Wanted(id protocol.AppID) (device.Wanted, bool, error) {
	w, ok, err := s.store.Wanted(id)
	s.once.Do(s.then)
	return w, ok, err
}

func TestListDoesNotUndoARequestThatCrossesIt(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	a := &Apps{cfg: r.apps.cfg, workers: map[protocol.AppID]*worker{}, ready: make(chan struct{})}
	done := make(chan error, 1)
	a.cfg.Store = &crossing{store: r.store, then: func() {
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			done <- a.Request(context.Background(), r.web(target(protocol.Present)))
		}()
		select { // one that has to wait is the wish that is stored last
		case <-answered:
		case <-time.After(300 * time.Millisecond):
		}
	}}
	if _, err := a.Sync([]any{protocol.Wire(r.web(nil))}, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if w, _, _ := r.store.Wanted(r.id); w.Request.Target != protocol.Present {
		t.Errorf("wanted %s, want PRESENT: it was acknowledged", w.Request.Target)
	}
}

func TestWishFromTheFutureIsNoYoungerThanTheList(t *testing.T) {
	asked := time.Now().Add(-time.Second)
	for what, c := range map[string]struct {
		wished time.Time
		want   bool
	}{
		"before": {asked.Add(-time.Hour), false}, "meanwhile": {asked.Add(time.Millisecond), true}, "in 2100": {asked.AddDate(70, 0, 0), false},
	} {
		if got := since(asked, c.wished); got != c.want {
			t.Errorf("%s: %t, want %t", what, got, c.want)
		}
	}
}

// The uninstall of one app must not delete the folder of another, whatever name
// the request carries.
func TestInstalledAppKeepsItsName(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	r.running("1")
	r.settled(protocol.Running)
	other := filepath.Join(r.dir, "apps", "prod", "db")
	if err := os.MkdirAll(other, 0o700); err != nil {
		t.Fatal(err)
	}
	renamed := func(q *protocol.AppRequest) { q.AppName = "db" }
	r.request(func(q *protocol.AppRequest) {
		renamed(q)
		q.Environment = map[string]any{"A": map[string]any{"value": "1"}}
	})
	r.eventually("the environment is new", func() bool {
		c := r.container(r.cn())
		return c != nil && strings.Contains(strings.Join(c.Env, " "), " A=1")
	})
	r.request(func(q *protocol.AppRequest) { renamed(q); q.Target = protocol.Uninstalled })
	r.settled(protocol.Uninstalled)
	if _, err := os.Stat(other); err != nil {
		t.Errorf("another app's folder: %v", err)
	}
	if _, err := os.Stat(filepath.Join(r.dir, "apps", "prod", "web")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the app's own folder is still there (%v)", err)
	}
	if r.container(r.cn()) != nil {
		t.Error("the container is still there")
	}
}
