package disk

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reagent/container"
)

// A diary is which steps were performed.
type diary struct {
	mu    sync.Mutex
	steps []string
}

func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	steps := d.steps
	d.steps = nil
	return steps
}

// step frees so many bytes of a machine's disk.
func (d *diary) step(m *machine, name string, frees uint64) Step {
	return Step{Name: name, Limit: time.Minute, Free: func(context.Context) (uint64, error) {
		d.mu.Lock()
		d.steps = append(d.steps, name)
		d.mu.Unlock()
		m.mu.Lock()
		free := m.disks["/engine"].Free
		m.mu.Unlock()
		m.set("/engine", free+frees)
		return frees, nil
	}}
}

func TestReclaimingStopsAsSoonAsThereIsEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d := newMachine(100*GiB, 2*GiB), &diary{}
		m.run(t, d.step(m, "a", GiB/2), d.step(m, "b", GiB/2), d.step(m, "c", GiB))
		if got, want := d.take(), []string{"a", "b"}; !slices.Equal(got, want) {
			t.Errorf("performed %q, want %q", got, want)
		}
		time.Sleep(time.Hour)
		if got := d.take(); got != nil {
			t.Errorf("performed %q on a disk with room", got)
		}
	})
}

func TestWhatIsInVainIsTriedAgainLaterOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d := newMachine(100*GiB, 2*GiB), &diary{}
		rare := d.step(m, "rare", 0)
		rare.Every = 15 * time.Minute
		never := d.step(m, "never", GiB)
		never.When = func() bool { return false }
		fails := d.step(m, "fails", 0)
		free := fails.Free
		fails.Free = func(ctx context.Context) (uint64, error) { _, _ = free(ctx); return 0, errors.New("no") }
		m.run(t, rare, never, fails, d.step(m, "last", 0))
		if got, want := d.take(), []string{"rare", "fails", "last"}; !slices.Equal(got, want) {
			t.Errorf("performed %q, want %q", got, want)
		}
		time.Sleep(4 * time.Minute)
		if got := d.take(); got != nil {
			t.Errorf("performed %q again within five minutes", got)
		}
		time.Sleep(6 * time.Minute)
		if got, want := d.take(), []string{"fails", "last"}; !slices.Equal(got, want) {
			t.Errorf("performed %q, want %q", got, want)
		}
		m.set("/engine", GiB/2) // worse: no need to wait
		time.Sleep(2 * time.Minute)
		if got := d.take(); !slices.Contains(got, "last") {
			t.Errorf("performed %q though it became critical", got)
		}
	})
}

func TestARefusalIsAReasonToReclaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, d := newMachine(100*GiB, 5*GiB), &diary{}
		g := m.run(t, d.step(m, "a", 4*GiB), d.step(m, "b", 4*GiB))
		if err := g.AdmitImage(6 * GiB); err == nil {
			t.Fatal("admitted")
		}
		synctest.Wait()
		if got, want := d.take(), []string{"a"}; !slices.Equal(got, want) {
			t.Errorf("performed %q, want %q", got, want)
		}
		if err := g.AdmitImage(6 * GiB); err != nil || len(m.levels()) != 1 {
			t.Errorf("after that: %v, told %d times; want admission, and once", err, len(m.levels()))
		}
	})
}

// A prune of five minutes must not make the guard blind.
func TestALongStepDoesNotKeepTheGuardFromLooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, 2*GiB)
		var ended error
		m.run(t, Step{Name: "long", Limit: 5 * time.Minute, Free: func(ctx context.Context) (uint64, error) {
			<-ctx.Done()
			ended = ctx.Err()
			return 0, ended
		}})
		m.set("/engine", GiB/2)
		time.Sleep(2 * time.Minute)
		if m.guard.Critical() == nil {
			t.Error("it is critical, and nobody saw it during the step")
		}
		time.Sleep(4 * time.Minute)
		synctest.Wait()
		if !errors.Is(ended, context.DeadlineExceeded) {
			t.Errorf("the step ended with %v, want its deadline", ended)
		}
	})
}

func TestTheProductsStepsAskWhatTheyNeed(t *testing.T) {
	appliance, collected, cleaned := false, 0, 0
	sources := Sources{
		Containers: noImages{}, Root: func(context.Context) (string, error) { return "", nil },
		Labels:         func() map[string]string { return nil },
		Appliance:      func() bool { return appliance },
		CollectGarbage: func(context.Context) error { collected++; return nil },
		Clean:          func(context.Context) error { cleaned++; return nil },
		Images: Pruner{
			Images: noImages{}, Ours: func() string { return ours },
			InUse: func(context.Context) ([]string, []string, error) { return nil, nil, nil },
		},
	}
	perform := func(steps []Step) {
		t.Helper()
		for _, s := range steps {
			if s.Limit <= 0 || s.Name == "" {
				t.Errorf("step %q has the limit %s", s.Name, s.Limit)
			}
			if s.When == nil || s.When() {
				if _, err := s.Free(t.Context()); err != nil {
					t.Errorf("%s: %v", s.Name, err)
				}
			}
		}
	}
	perform(Steps(sources))
	if collected != 0 || cleaned != 0 {
		t.Errorf("on a plain device the registry's collection was asked for %d times, the machine cleaned %d times", collected, cleaned)
	}
	appliance, sources.Managed = true, true
	perform(Steps(sources))
	if collected != 1 || cleaned != 1 {
		t.Errorf("on a managed appliance: %d and %d times, want once each", collected, cleaned)
	}
}

type noImages struct{}

func (noImages) Images(context.Context) ([]container.Image, error) { return nil, nil }
func (noImages) List(context.Context, map[string]string) ([]container.Summary, error) {
	return nil, nil
}
func (noImages) RemoveImage(context.Context, string) error { return nil }
func (noImages) PruneDangling(context.Context) (container.Freed, error) {
	return container.Freed{}, nil
}

func (noImages) PruneBuildCache(context.Context) (container.Freed, error) {
	return container.Freed{}, nil
}
