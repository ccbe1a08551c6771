package container_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
)

// noise does not compress, so that a pull takes as long as its size says.
func noise(size int) []byte {
	b := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)}).Read(b)
	return b
}

// pushed gives an image that lies in a registry and not in the engine.
func pushed(t *testing.T, docker *testenv.Engine, reg *testenv.Registry, app testenv.App) (ref string) {
	t.Helper()
	ref = reg.Host + "/" + docker.Prefix + "/app:1"
	testenv.PushImage(t, ref, "", "", app)
	return ref
}

func TestPullReportsProgressAndEndsWithTheImage(t *testing.T) {
	docker := testenv.Docker(t)
	e := newEngine(t, docker.Host)
	ref := pushed(t, docker, testenv.NewRegistry(t), testenv.App{Ballast: noise(3 << 20), Labels: map[string]string{"a": "b"}})
	if _, err := e.Image(t.Context(), ref); !errors.Is(err, container.ErrNotFound) {
		t.Fatalf("image = %v, want ErrNotFound", err)
	}
	var last container.PullProgress
	records := 0
	err := e.Pull(t.Context(), ref, nil, func(p container.PullProgress) {
		if !bytes.HasPrefix(p.Record, []byte("{")) || !bytes.HasSuffix(p.Record, []byte("}")) {
			t.Errorf("record = %q, want a line of JSON", p.Record)
		}
		if p.Current > p.Total {
			t.Errorf("%d of %d bytes", p.Current, p.Total)
		}
		last = p
		records++
	})
	if err != nil {
		t.Fatal(err)
	}
	if last.Current != last.Total || last.Total < 3<<20 || records < 5 {
		t.Errorf("last of %d records: %d of %d bytes, want all of at least 3 MiB", records, last.Current, last.Total)
	}
	image, err := e.Image(t.Context(), ref)
	if err != nil || image.Labels["a"] != "b" || image.Architecture == "" || len(image.Tags) != 1 || image.Tags[0] != ref {
		t.Errorf("image = %+v, %v", image, err)
	}
	if err := e.Pull(t.Context(), ref, nil, nil); err != nil {
		t.Errorf("second pull = %v, want nil", err)
	}
}

func TestLayersThatAreThereAreNotFetchedAgain(t *testing.T) {
	docker := testenv.Docker(t)
	e := newEngine(t, docker.Host)
	reg := testenv.NewRegistry(t)
	ballast := append([]byte(docker.Prefix), noise(1<<20)...) // nobody else's
	ref := func(version string) string { return reg.Host + "/" + docker.Prefix + "/app:" + version }
	// The layer that both have lies below those in which they differ.
	for version, app := range map[string]testenv.App{"1": {Env: []string{"V=1"}, Ballast: ballast}, "2": {Env: []string{"V=2"}, Ballast: ballast}} {
		testenv.PushImage(t, ref(version), "", "", app)
	}
	var mu sync.Mutex
	fetched := map[string]int{}
	reg.Fault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			mu.Lock()
			fetched[r.URL.Path]++
			mu.Unlock()
		}
		next.ServeHTTP(w, r)
	})
	for _, version := range []string{"1", "2"} {
		var last container.PullProgress
		if err := e.Pull(t.Context(), ref(version), nil, func(p container.PullProgress) { last = p }); err != nil {
			t.Fatal(err)
		}
		if version == "2" && last.Total != 0 {
			t.Errorf("%d bytes were to fetch for the second, want none", last.Total)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for path, n := range fetched {
		if n != 1 {
			t.Errorf("%s was fetched %d times, want once", path, n)
		}
	}
	if len(fetched) < 3 { // two configurations and the ballast
		t.Errorf("only %d blobs were fetched: %v", len(fetched), fetched)
	}
}

func TestPullLogsIn(t *testing.T) {
	docker := testenv.Docker(t)
	e := newEngine(t, docker.Host)
	reg := testenv.NewRegistry(t)
	ref := pushed(t, docker, reg, testenv.App{})
	reg.Require("token", "secret")
	for what, cred := range map[string]*container.Credential{
		"none":  nil,
		"wrong": {Username: "token", Password: "wrong"},
	} {
		err := e.Pull(t.Context(), ref, cred, nil)
		if !errors.Is(err, container.ErrUnauthorized) {
			t.Errorf("login %s: %v, want ErrUnauthorized", what, err)
		}
	}
	if err := e.Pull(t.Context(), ref, &container.Credential{Username: "token", Password: "secret"}, nil); err != nil {
		t.Errorf("right login: %v", err)
	}
}

func TestPullOfWhatIsNotThere(t *testing.T) {
	docker := testenv.Docker(t)
	e := newEngine(t, docker.Host)
	ref := pushed(t, docker, testenv.NewRegistry(t), testenv.App{})
	for _, missing := range []string{strings.TrimSuffix(ref, "1") + "2", strings.Replace(ref, "/app", "/other", 1)} {
		if err := e.Pull(t.Context(), missing, nil, nil); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("pull %s = %v, want ErrNotFound", missing, err)
		}
	}
	if err := e.Pull(t.Context(), "127.0.0.1:1/"+docker.Prefix+"/app:1", nil, nil); !errors.Is(err, container.ErrNetwork) {
		t.Errorf("pull from a dead registry = %v, want ErrNetwork", err)
	}
	if err := e.Pull(t.Context(), "../../x y", nil, nil); err == nil {
		t.Error("pull of nonsense = nil")
	}
}

func TestBrokenDownloadIsMended(t *testing.T) {
	t.Parallel() // mostly waits
	docker := testenv.Docker(t)
	e := newEngine(t, docker.Host)
	reg := testenv.NewRegistry(t)
	ref := pushed(t, docker, reg, testenv.App{Ballast: noise(4 << 20)})
	var broken atomic.Int32
	reg.Fault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		next.ServeHTTP(&cutWriter{w, 1 << 20, &broken}, r)
	})
	if err := e.Pull(t.Context(), ref, nil, nil); err != nil {
		t.Fatal(err)
	}
	if broken.Load() == 0 {
		t.Error("no download was broken")
	}
}

// cutWriter breaks a connection once, after some bytes.
type cutWriter struct {
	http.ResponseWriter
	left   int
	broken *atomic.Int32
}

func (c *cutWriter) Write(b []byte) (int, error) {
	if c.left -= len(b); c.left < 0 && c.broken.CompareAndSwap(0, 1) {
		http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler)
	}
	return c.ResponseWriter.Write(b)
}

// hold makes a registry wait before it hands out a layer, until the test ends
// or release is called.
func hold(t *testing.T, reg *testenv.Registry) (reached <-chan struct{}) {
	at := make(chan struct{}, 100)
	reg.Fault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			at <- struct{}{}
			select {
			case <-r.Context().Done():
			case <-t.Context().Done():
			}
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
	return at
}

func TestSilentPullTimesOut(t *testing.T) {
	t.Parallel() // mostly waits
	docker := testenv.Docker(t)
	e := newEngine(t, docker.Host, func(c *container.Config) { c.PullIdle = 500 * time.Millisecond })
	reg := testenv.NewRegistry(t)
	ref := pushed(t, docker, reg, testenv.App{Ballast: noise(1 << 20)})
	hold(t, reg)
	if err := e.Pull(t.Context(), ref, nil, nil); !errors.Is(err, container.ErrTimeout) {
		t.Errorf("pull = %v, want ErrTimeout", err)
	}
}

func TestSlowPullIsNoSilentPull(t *testing.T) {
	t.Parallel() // mostly waits
	docker := testenv.Docker(t)
	const idle = 4 * time.Second // a busy disk is silent for a while, too
	e := newEngine(t, docker.Host, func(c *container.Config) { c.PullIdle = idle })
	reg := testenv.NewRegistry(t)
	ref := pushed(t, docker, reg, testenv.App{Ballast: noise(6 << 20)})
	relay := testenv.NewRelay(t, reg.Host)
	relay.SetRate(1 << 20) // the program and the ballast: some seconds
	slow := strings.Replace(ref, reg.Host, relay.Addr(), 1)
	began := time.Now()
	if err := e.Pull(t.Context(), slow, nil, nil); err != nil {
		t.Errorf("pull = %v after %s, want nil", err, time.Since(began))
	}
	if took := time.Since(began); took < idle {
		t.Errorf("the pull took %s: it was not slow", took)
	}
}

func TestCancelledPullStopsTheEngine(t *testing.T) {
	t.Parallel() // mostly waits
	docker := testenv.Docker(t)
	e := newEngine(t, docker.Host)
	reg := testenv.NewRegistry(t)
	relay := testenv.NewRelay(t, reg.Host)
	ref := strings.Replace(pushed(t, docker, reg, testenv.App{Ballast: noise(4 << 20)}), reg.Host, relay.Addr(), 1)
	relay.SetRate(256 << 10)

	ctx, cancel := context.WithCancel(t.Context())
	err := e.Pull(ctx, ref, nil, func(p container.PullProgress) {
		if p.Current > 0 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("pull = %v, want context.Canceled", err)
	}
	testenv.WaitFor(t, "the engine lets go of the download", func() bool {
		open, _ := relay.Links()
		return open == 0
	})
	relay.SetRate(0)
	if err := e.Pull(t.Context(), ref, nil, nil); err != nil {
		t.Errorf("the next pull = %v, want nil", err)
	}
}

func TestImagesAreTaggedListedAndRemoved(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{Labels: map[string]string{"a": "b"}})
	second := docker.Prefix + "/app:2"
	if err := e.Tag(t.Context(), image, second); err != nil {
		t.Fatal(err)
	}
	id := run(t, e, container.Spec{Name: docker.Prefix + "-app", Image: image})

	images, err := e.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, i := range images {
		if strings.Contains(strings.Join(i.Tags, " "), docker.Prefix) {
			found = true
			if len(i.Tags) != 2 || i.Labels["a"] != "b" || i.Size == 0 || i.Created.IsZero() {
				t.Errorf("image = %+v", i)
			}
		}
	}
	if !found {
		t.Errorf("%s is not in the list", image)
	}
	summaries, err := e.ImageSummaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range summaries {
		if tags, _ := s["repoTags"].([]string); strings.Contains(strings.Join(tags, " "), docker.Prefix) {
			if created, ok := s["created"].(int64); !ok || created == 0 || s["id"] == nil || s["size"] == nil || s["labels"] == nil {
				t.Errorf("summary = %v", s)
			}
		}
		for key, value := range s {
			if value == "" || value == int64(0) {
				t.Errorf("%s = %v, want it left out", key, value)
			}
		}
	}

	byID, err := e.Image(t.Context(), images[0].ID)
	if err != nil || byID.ID != images[0].ID {
		t.Errorf("by id: %+v, %v", byID, err)
	}
	if err := e.RemoveImage(t.Context(), second); err != nil {
		t.Errorf("remove the second tag = %v, want nil", err)
	}
	if err := e.RemoveImage(t.Context(), image); !errors.Is(err, container.ErrInUse) {
		t.Errorf("remove while in use = %v, want ErrInUse", err)
	}
	if err := e.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	mine, err := e.Image(t.Context(), image)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{mine.ID[:19], strings.TrimPrefix(mine.ID, "sha256:")[:12], docker.Prefix + "/app", "../" + image, ""} {
		if _, err := e.Image(t.Context(), part); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("image %q = %v, want ErrNotFound", part, err)
		}
		if err := e.RemoveImage(t.Context(), part); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("remove image %q = %v, want ErrNotFound", part, err)
		}
	}
	if err := e.RemoveImage(t.Context(), image); err != nil {
		t.Errorf("remove = %v, want nil", err)
	}
	if err := e.RemoveImage(t.Context(), image); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("second remove = %v, want ErrNotFound", err)
	}
}
