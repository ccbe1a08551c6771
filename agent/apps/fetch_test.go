package apps

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/protocol"
)

// A puller is an engine whose pulls are the test's.
type puller struct {
	engine
	pull func(ctx context.Context, ref string, progress func(container.PullProgress)) error
}

func (p *puller) Pull(ctx context.Context, ref string, _ *container.Credential, progress func(container.PullProgress)) error {
	return p.pull(ctx, ref, progress)
}

// pulling gives a rig whose downloads are the test's.
func pulling(t *testing.T, pull func(ctx context.Context, ref string, progress func(container.PullProgress)) error) *rig {
	t.Helper()
	r := newRig(t)
	r.stop()
	r.engine = &puller{r.engine, pull}
	r.waits.Crash.Step = time.Minute
	r.start()
	return r
}

// bytesOf tells of a download that came so far.
func bytesOf(n int64) container.PullProgress {
	return container.PullProgress{Record: []byte(`{"status":"Downloading"}`), Current: n, Total: 100}
}

// A pull that a lost link interrupts goes on by itself, and the state stays. The
// engine is one of the test's own, which does not try five times by itself before
// it says so.
func TestInterruptedDownloadGoesOnByItself(t *testing.T) {
	t.Parallel()
	private := testenv.NewPrivateEngine(t)
	if err := os.WriteFile(filepath.Join(private.Dir, "daemon.json"), []byte(`{"max-download-attempts": 1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	private.Stop()
	private.Start()
	for i, test := range []struct {
		name    string
		offline bool // the device lost its studio, too
	}{{"the registry was out of reach", false}, {"the device was offline", true}} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r, reg := newRigOn(t, private.Engine)
			relay := testenv.NewRelay(t, reg.Host)
			relay.SetRate(1 << 20)
			r.stop()
			r.waits.PullRetry = 100 * time.Millisecond
			r.facts.Registry = relay.Addr() + "/"
			testenv.PushImage(t, r.image("1"), "", "", testenv.App{Ballast: random(uint64(i), 2<<20)})
			comes := make(chan struct{})
			once := sync.OnceFunc(func() { close(comes) })
			r.engine = &watchedPull{r.engine, func(p container.PullProgress) {
				if p.Current > 0 {
					once()
				}
			}}
			r.start()
			r.request(nil)
			<-comes
			r.studio.setOnline(!test.offline)
			relay.SetTarget("127.0.0.1:1")
			relay.Cut()
			r.eventually("the app's log tells of it", func() bool { return r.log.contains("The download was interrupted") })
			if a, _, err := r.store.Actual(r.id); err != nil || a.State != protocol.Downloading {
				t.Errorf("state = %s, %v, want DOWNLOADING", a.State, err)
			}
			relay.SetRate(0)
			relay.SetTarget(reg.Host)
			if test.offline {
				r.studio.setOnline(true)
				r.apps.Online()
			}
			r.running("1")
			r.reported("STARTING", "DOWNLOADING", "PRESENT", "RUNNING")
		})
	}
}

// random does not compress, and is the same each time.
func random(seed uint64, size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed), 'f'}).Read(b)
	return b
}

// watchedPull shows the progress of pulls.
type watchedPull struct {
	engine
	see func(container.PullProgress)
}

func (e *watchedPull) Pull(ctx context.Context, ref string, c *container.Credential, progress func(container.PullProgress)) error {
	return e.engine.Pull(ctx, ref, c, func(p container.PullProgress) {
		progress(p)
		e.see(p)
	})
}

func TestDownloadThatNeverBeganFailsAndSaysWhy(t *testing.T) {
	t.Parallel()
	r := pulling(t, func(context.Context, string, func(container.PullProgress)) error {
		return fmt.Errorf("dial tcp: %w", container.ErrNetwork)
	})
	r.request(nil)
	r.reported("STARTING", "FAILED")
}

func TestRefusalEndsAnInterruptedDownload(t *testing.T) {
	t.Parallel()
	var pulls atomic.Int32
	r := pulling(t, func(_ context.Context, _ string, progress func(container.PullProgress)) error {
		progress(bytesOf(10))
		if pulls.Add(1) == 1 {
			return fmt.Errorf("cut: %w", container.ErrNetwork)
		}
		return fmt.Errorf("gone: %w", container.ErrNotFound)
	})
	r.waits.PullRetry = 10 * time.Millisecond
	r.stop()
	r.start()
	r.request(nil)
	r.reported("STARTING", "DOWNLOADING", "FAILED")
	if n := pulls.Load(); n != 2 {
		t.Errorf("%d pulls, want 2", n)
	}
}

func TestDownloadOfWhichNothingComesIsGivenUp(t *testing.T) {
	t.Parallel()
	var pulls atomic.Int32
	r := pulling(t, func(_ context.Context, _ string, progress func(container.PullProgress)) error {
		if pulls.Add(1) == 1 {
			progress(bytesOf(10))
		}
		return fmt.Errorf("cut: %w", container.ErrNetwork)
	})
	r.waits.PullRetry, r.waits.PullPatience = time.Millisecond, time.Second
	r.stop()
	r.start()
	r.request(nil)
	r.reported("STARTING", "DOWNLOADING", "FAILED")
	if n := pulls.Load(); n < 2 {
		t.Errorf("%d pulls, want one and more", n)
	}
}

func TestNewerWishEndsTheWaitForALink(t *testing.T) {
	t.Parallel()
	r := pulling(t, func(_ context.Context, _ string, progress func(container.PullProgress)) error {
		progress(bytesOf(10))
		return fmt.Errorf("cut: %w", container.ErrNetwork)
	})
	r.waits.PullRetry, r.waits.PullPatience = 1000*time.Hour, 1000*time.Hour
	r.stop()
	r.start()
	r.request(nil)
	r.eventually("it was interrupted", func() bool { return r.log.contains("The download was interrupted") })
	r.request(target(protocol.Removed))
	r.settled(protocol.Removed)
}

// While the successor of a version waits for a link, the version itself is
// looked after as ever.
func TestOldVersionIsHealedWhileItsSuccessorWaitsForALink(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	r.running("1")
	r.settled(protocol.Running)
	r.stop()
	r.engine = &puller{r.engine, func(_ context.Context, _ string, progress func(container.PullProgress)) error {
		progress(bytesOf(10))
		return fmt.Errorf("cut: %w", container.ErrNetwork)
	}}
	r.waits.PullRetry, r.waits.PullPatience = 1000*time.Hour, 1000*time.Hour
	r.start()
	r.request(toVersion("2", 12))
	r.eventually("it was interrupted", func() bool { return r.log.contains("The download was interrupted") })
	before := r.container(r.cn())
	if before == nil || before.Status != container.StatusRunning {
		t.Fatalf("container = %+v, want the old version running", before)
	}
	if err := r.engine.Stop(t.Context(), before.ID, 0); err != nil {
		t.Fatal(err)
	}
	r.eventually("the old version runs again", func() bool {
		c := r.container(r.cn())
		return c != nil && c.Status == container.StatusRunning && versionOf(c.Image) == "1" && c.Started.After(before.Started)
	})
}

func TestDownloadsAreLimitedAndTheirWaitsCanBeCancelled(t *testing.T) {
	t.Parallel()
	var now, most atomic.Int32
	release := make(chan struct{})
	r := pulling(t, func(ctx context.Context, _ string, progress func(container.PullProgress)) error {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		progress(bytesOf(10))
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	const apps = 5
	wish := func(i int, to protocol.State) {
		t.Helper()
		req := r.web(target(to))
		req.AppKey += uint64(i)
		req.AppName = fmt.Sprintf("web%d", i)
		if err := r.apps.Request(t.Context(), req); err != nil {
			t.Fatal(err)
		}
	}
	state := func(i int) protocol.State {
		a, _, err := r.store.Actual(protocol.AppID{Key: r.id.Key + uint64(i), Stage: protocol.Prod})
		if err != nil {
			t.Fatal(err)
		}
		return a.State
	}
	for i := range apps {
		wish(i, protocol.Present)
	}
	waiting := -1
	r.eventually("two download and the others wait", func() bool {
		waits := 0
		for i := range apps {
			if r.log.contains(fmt.Sprintf("web%d: Waiting for other downloads", i)) {
				waits++
				waiting = i
			}
		}
		return waits == apps-2 && now.Load() == 2
	})
	wish(waiting, protocol.Removed)
	r.eventually("one that waited is gone", func() bool {
		_, known, err := r.store.Actual(protocol.AppID{Key: r.id.Key + uint64(waiting), Stage: protocol.Prod})
		return err == nil && !known
	})
	if n := now.Load(); n != 2 {
		t.Errorf("%d downloads, want the same 2", n)
	}
	close(release)
	r.eventually("all others are present", func() bool {
		for i := range apps {
			if i != waiting && state(i) != protocol.Present {
				return false
			}
		}
		return true
	})
	if n := most.Load(); n != 2 {
		t.Errorf("%d downloads at once, want 2", n)
	}
}
