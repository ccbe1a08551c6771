package container_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
)

// TestEngineFaults does to an engine of its own what engines do to agents. The
// parts follow each other on one engine, because starting one takes its time.
func TestEngineFaults(t *testing.T) {
	t.Parallel() // mostly waits
	private := testenv.NewPrivateEngine(t)
	brisk := func(c *container.Config) { c.Timeout, c.Short, c.Long = 3*time.Second, time.Second, 5*time.Second }
	e := newEngine(t, private.Host, brisk)
	image := private.Prefix + "/app:1"
	testenv.BuildImage(t, private.Engine, image, testenv.App{})
	keeper := run(t, e, container.Spec{Name: "keeper", Image: image})

	t.Run("everything ends in time while it hangs", func(t *testing.T) {
		private.Hang()
		defer private.Continue()
		calls := map[string]func(context.Context) error{
			"ping": func(ctx context.Context) error { _, err := e.Ping(ctx); return err },
			"run": func(ctx context.Context) error {
				_, _, err := e.Run(ctx, container.Spec{Name: "other", Image: image})
				return err
			},
			"list":    func(ctx context.Context) error { _, err := e.List(ctx, nil); return err },
			"rows":    func(ctx context.Context) error { _, err := e.Summaries(ctx); return err },
			"images":  func(ctx context.Context) error { _, err := e.Images(ctx); return err },
			"inspect": func(ctx context.Context) error { _, err := e.Inspect(ctx, keeper); return err },
			"wait":    func(ctx context.Context) error { _, err := e.Wait(ctx, keeper); return err },
			"logs": func(ctx context.Context) error {
				return e.Logs(ctx, keeper, container.LogOptions{Follow: true}, func(string, []byte) {})
			},
			"events": func(ctx context.Context) error { return e.Events(ctx, func() {}, func(container.Event) {}) },
			"remove": func(ctx context.Context) error { return e.Remove(ctx, strings.Repeat("0", 64)) },
			"fresh":  func(ctx context.Context) error { _, err := newEngine(t, private.Host, brisk).Ping(ctx); return err },
		}
		type result struct {
			what string
			err  error
		}
		results := make(chan result)
		for what, call := range calls {
			go func() { results <- result{what, call(t.Context())} }()
		}
		end := time.After(10 * time.Second)
		for range calls {
			select {
			case r := <-results:
				if !errors.Is(r.err, container.ErrTimeout) {
					t.Errorf("%s = %v, want ErrTimeout", r.what, r.err)
				}
			case <-end:
				t.Fatal("not everything ended")
			}
		}
	})

	t.Run("a caller gets out of a hang at once", func(t *testing.T) {
		private.Hang()
		defer private.Continue()
		slow := newEngine(t, private.Host) // nobody knows its version yet: callers wait for each other
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 4)
		for range cap(done) {
			go func() { _, err := slow.List(ctx, nil); done <- err }()
		}
		cancel()
		for range cap(done) {
			err := within(t, time.Second, "cancelled list", func(context.Context) error { return <-done })
			if !errors.Is(err, context.Canceled) {
				t.Errorf("list = %v, want context.Canceled", err)
			}
		}
	})

	t.Run("it goes on after a hang", func(t *testing.T) {
		if c := inspect(t, e, keeper); c.Status != container.StatusRunning {
			t.Errorf("keeper is %s, want running", c.Status)
		}
	})

	t.Run("an engine that ends is unavailable and found again", func(t *testing.T) {
		streams := make(chan error, 2)
		up := make(chan struct{})
		go func() { streams <- e.Events(t.Context(), func() { close(up) }, func(container.Event) {}) }()
		<-up
		go func() { _, err := e.Wait(t.Context(), keeper); streams <- err }()
		private.Kill()
		for range 2 {
			if err := <-streams; !errors.Is(err, container.ErrUnavailable) {
				t.Errorf("stream over the engine's end = %v, want ErrUnavailable", err)
			}
		}
		if _, err := e.Ping(t.Context()); !errors.Is(err, container.ErrUnavailable) {
			t.Errorf("ping = %v, want ErrUnavailable", err)
		}
		private.Start()
		if _, err := e.Ping(t.Context()); err != nil {
			t.Errorf("ping = %v after the restart", err)
		}
		if c := inspect(t, e, keeper); c.Status != container.StatusExited {
			t.Errorf("keeper is %s, want exited: it was killed with its engine", c.Status)
		}
	})

	t.Run("a pull does not survive its engine, the next one does", func(t *testing.T) {
		reg := testenv.NewRegistry(t)
		ref := reg.Host + "/" + private.Prefix + "/pulled:1"
		testenv.PushImage(t, ref, "", "", testenv.App{Ballast: noise(1 << 20)})
		for how, end := range map[string]func(){"killed": private.Kill, "stopped": private.Stop} {
			reached := hold(t, reg)
			done := make(chan error, 1)
			go func() { done <- e.Pull(t.Context(), ref, nil, nil) }()
			<-reached
			end()
			if err := <-done; !errors.Is(err, container.ErrUnavailable) {
				t.Errorf("pull from an engine that was %s = %v, want ErrUnavailable", how, err)
			}
			private.Start()
		}
		reg.Fault(nil)
		if err := e.Pull(t.Context(), ref, nil, nil); err != nil {
			t.Errorf("the next pull = %v, want nil", err)
		}
	})

	t.Run("an engine that is absent at first is used when it comes", func(t *testing.T) {
		private.Stop()
		late := newEngine(t, private.Host)
		if _, err := late.List(t.Context(), nil); !errors.Is(err, container.ErrUnavailable) {
			t.Errorf("list = %v, want ErrUnavailable", err)
		}
		private.Start()
		if _, err := late.List(t.Context(), nil); err != nil {
			t.Errorf("list = %v, want nil", err)
		}
	})

	t.Run("layers that came whole are kept over a lost link", func(t *testing.T) {
		private.Stop()
		if err := os.WriteFile(filepath.Join(private.Dir, "daemon.json"), []byte(`{"max-download-attempts": 1}`), 0o600); err != nil {
			t.Fatal(err)
		}
		private.Start()
		keeping := newEngine(t, private.Host, func(c *container.Config) { c.KeepAfter = time.Millisecond })
		reg := testenv.NewRegistry(t)
		relay := testenv.NewRelay(t, reg.Host)
		relay.SetRate(1 << 20)
		ref := relay.Addr() + "/" + private.Prefix + "/app:1"
		// Three layers: the program, which the engine has, a small one, and the one
		// that takes its time.
		small := testenv.App{Version: "of this test", Ballast: noise(6 << 20)}
		testenv.PushImage(t, strings.Replace(ref, relay.Addr(), reg.Host, 1), "", "", small)
		var fetched atomic.Int32
		reg.Fault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
				fetched.Add(1)
			}
			next.ServeHTTP(w, r)
		})
		kept := func() (n int) {
			t.Helper()
			images, err := e.Images(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range images {
				if i.Labels["reagent.unfinished"] == ref {
					n++
				}
			}
			return n
		}
		cut := false
		err := keeping.Pull(t.Context(), ref, nil, func(p container.PullProgress) {
			if !cut && p.Whole == 2 {
				testenv.WaitFor(t, "the layers are kept", func() bool { return kept() == 1 })
				cut = true
				relay.SetTarget("127.0.0.1:1")
				relay.Cut()
			}
		})
		if !errors.Is(err, container.ErrNetwork) || !cut {
			t.Fatalf("pull = %v (cut: %t), want ErrNetwork", err, cut)
		}
		relay.SetRate(0)
		relay.SetTarget(reg.Host)
		fetched.Store(0)
		there := 0
		if err := e.Pull(t.Context(), ref, nil, func(p container.PullProgress) {
			if bytes.Contains(p.Record, []byte("Already exists")) {
				there++
			}
		}); err != nil {
			t.Fatal(err)
		}
		if n := fetched.Load(); there != 2 || n != 2 {
			t.Errorf("%d layers were there and %d blobs were fetched, want 2 that were, and the configuration and the last layer", there, n)
		}
		if n := kept(); n != 0 {
			t.Errorf("%d images keep layers after the pull, want none", n)
		}
		if _, err := e.Image(t.Context(), ref); err != nil {
			t.Error(err)
		}
	})

	t.Run("pruning takes dangling images only", func(t *testing.T) {
		// The same tag twice leaves the first image without one.
		testenv.BuildImage(t, private.Engine, private.Prefix+"/twice:1", testenv.App{Version: "1"})
		testenv.BuildImage(t, private.Engine, private.Prefix+"/twice:1", testenv.App{Version: "2"})
		// A dangling image that a container needs.
		used := private.Prefix + "/used:1"
		testenv.BuildImage(t, private.Engine, used, testenv.App{Version: "3"})
		if _, _, err := e.Create(t.Context(), container.Spec{Name: "user", Image: used}); err != nil {
			t.Fatal(err)
		}
		testenv.BuildImage(t, private.Engine, used, testenv.App{Version: "4"})
		before, err := e.Images(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		freed, err := e.PruneDangling(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		after, err := e.Images(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(after) != len(before)-1 || len(freed.Deleted) == 0 || freed.Bytes == 0 {
			t.Errorf("%d images, then %d; freed %+v", len(before), len(after), freed)
		}
		if _, err := e.Inspect(t.Context(), "user"); err != nil {
			t.Error(err)
		}
		if text := freed.Summary(); !strings.Contains(text, "deleted: sha256:") || !strings.Contains(text, "Total reclaimed space: ") {
			t.Errorf("summary = %q", text)
		}
	})

	t.Run("pruning the build cache takes what no build uses", func(t *testing.T) {
		files := folder(t, map[string]string{"Dockerfile": "FROM " + image + "\nCOPY Dockerfile /x\n"})
		// Built, and its image gone: what is left is the cache.
		spec := container.BuildSpec{Context: bytes.NewReader(files), Tags: []string{private.Prefix + "/built:1"}}
		if err := e.Build(t.Context(), spec, nil); err != nil {
			t.Fatal(err)
		}
		if err := e.RemoveImage(t.Context(), spec.Tags[0]); err != nil {
			t.Fatal(err)
		}
		freed, err := e.PruneBuildCache(t.Context())
		if err != nil || len(freed.Deleted) == 0 || freed.Bytes == 0 {
			t.Errorf("freed %+v, %v, want something", freed, err)
		}
		if _, err := e.Image(t.Context(), image); err != nil {
			t.Errorf("the base after the clean-up: %v", err)
		}
	})

	t.Run("compose is told of a limit where the engine sets none", func(t *testing.T) {
		limit := container.LogLimit{FileSize: 1 << 20, Files: 3}
		fresh := newEngine(t, private.Host)
		var askers sync.WaitGroup
		for range 4 { // all at once, as when a device starts
			askers.Go(func() {
				driver, options, err := fresh.LogConfig(t.Context(), limit, []string{private.Prefix + "/none:1", image})
				if want := map[string]string{"max-size": "1048576", "max-file": "3"}; driver != "json-file" || !maps.Equal(options, want) || err != nil {
					t.Errorf("compose is told %s %v, %v, want json-file %v", driver, options, err, want)
				}
			})
		}
		askers.Wait()
		if left, err := e.List(t.Context(), map[string]string{"reagent.log_probe": ""}); err != nil || len(left) > 0 {
			t.Errorf("probes afterwards: %v, %v, want none", left, err)
		}
	})

	t.Run("logs have a limit where the engine sets none", func(t *testing.T) {
		limits := func(name string) map[string]string {
			t.Helper()
			id := run(t, e, container.Spec{Name: name, Image: image, Log: container.LogLimit{FileSize: 1 << 20, Files: 3}})
			raw, err := private.API.ContainerInspect(t.Context(), id)
			if err != nil {
				t.Fatal(err)
			}
			return raw.HostConfig.LogConfig.Config
		}
		want := map[string]string{"max-size": "1048576", "max-file": "3"}
		for _, name := range []string{"first", "second"} {
			if got := limits(name); !maps.Equal(got, want) {
				t.Errorf("limits of the %s = %v, want %v", name, got, want)
			}
		}
		if got := inspect(t, e, run(t, e, container.Spec{Name: "asks-for-none", Image: image})); got.Status != container.StatusRunning {
			t.Errorf("container = %+v", got)
		}
		own := `{"log-driver": "json-file", "log-opts": {"max-size": "50m"}}`
		if err := os.WriteFile(filepath.Join(private.Dir, "daemon.json"), []byte(own), 0o600); err != nil {
			t.Fatal(err)
		}
		private.Stop()
		if _, err := e.Ping(t.Context()); !errors.Is(err, container.ErrUnavailable) { // as who watches its events notices
			t.Errorf("ping = %v, want ErrUnavailable", err)
		}
		private.Start()
		if driver, options, err := e.LogConfig(t.Context(), container.LogLimit{FileSize: 1 << 20, Files: 3}, []string{image}); driver != "" || err != nil {
			t.Errorf("what compose is told where the engine has limits = %s %v, %v, want nothing", driver, options, err)
		}
		if got, want := limits("third"), map[string]string{"max-size": "50m"}; !maps.Equal(got, want) {
			t.Errorf("limits where the engine has its own = %v, want %v", got, want)
		}
	})

	t.Run("a full disk is told apart", func(t *testing.T) {
		wire := tap(t, private.Host)
		wire.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, "/containers/create") &&
				refuse(w, 500, "mkdir /var/lib/docker/overlay2/x: no space left on device")
		})
		if _, _, err := newEngine(t, wire.host).Run(t.Context(), container.Spec{Name: "other", Image: image}); !errors.Is(err, container.ErrNoSpace) {
			t.Errorf("run = %v, want ErrNoSpace", err)
		}
	})
}

func TestAbsentEngineIsUnavailable(t *testing.T) {
	for _, host := range []string{"unix://" + filepath.Join(t.TempDir(), "none"), fmt.Sprintf("tcp://127.0.0.1:%d", freePort(t))} {
		e := newEngine(t, host)
		if _, err := e.Ping(t.Context()); !errors.Is(err, container.ErrUnavailable) {
			t.Errorf("ping %s = %v, want ErrUnavailable", host, err)
		}
		if _, _, err := e.Run(t.Context(), container.Spec{Name: "x"}); !errors.Is(err, container.ErrUnavailable) {
			t.Errorf("run %s = %v, want ErrUnavailable", host, err)
		}
		if err := e.Events(t.Context(), func() { t.Error("up") }, nil); !errors.Is(err, container.ErrUnavailable) {
			t.Errorf("events %s = %v, want ErrUnavailable", host, err)
		}
	}
	if _, err := container.New(container.Config{Host: "nonsense"}); err == nil {
		t.Error("a host that is no URL is accepted")
	}
}

// An engine is replaced by another version while the agent runs: the old one's
// version of the API is refused, in both directions.
func TestReplacedEngineIsAskedForItsVersionAgain(t *testing.T) {
	docker := testenv.Docker(t)
	for _, said := range []string{
		"client version 1.41 is too old. Minimum supported API version is 1.44, please upgrade your client to a newer version",
		"client version 1.41 is too new. Maximum supported API version is 1.40",
	} {
		wire := tap(t, docker.Host)
		e := newEngine(t, wire.host)
		if _, err := e.Ping(t.Context()); err != nil {
			t.Fatal(err)
		}
		wire.take()
		refused := 0
		wire.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			if refused++; refused > 1 {
				return false
			}
			return refuse(w, http.StatusBadRequest, said)
		})
		if _, err := e.List(t.Context(), nil); err != nil {
			t.Errorf("list = %v, want nil after asking again", err)
		}
		notes := wire.take()
		if len(notes) != 3 || !strings.HasSuffix(notes[1].line, "/_ping") {
			t.Errorf("requests = %v, want list, ping, list", notes)
		}
	}
}
