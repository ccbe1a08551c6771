package container_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/container"
	"reagent/internal/testenv"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Servers of the tests end a connection a moment after they were closed.
		goleak.IgnoreAnyFunction("net/http.(*conn).serve"))
}

// newEngine gives the adapter for an engine, with short deadlines where the
// test wants them.
func newEngine(t *testing.T, host string, change ...func(*container.Config)) *container.Engine {
	t.Helper()
	cfg := container.Config{Host: host, Log: zerolog.Nop()}
	for _, c := range change {
		c(&cfg)
	}
	e, err := container.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// realEngine gives this machine's engine, its adapter, and an image in it.
func realEngine(t *testing.T, app testenv.App) (_ *testenv.Engine, e *container.Engine, image string) {
	t.Helper()
	docker := testenv.Docker(t)
	image = docker.Prefix + "/app:1"
	testenv.BuildImage(t, docker, image, app)
	return docker, newEngine(t, docker.Host), image
}

// run runs a container and fails the test if that fails.
func run(t *testing.T, e *container.Engine, spec container.Spec) (id string) {
	t.Helper()
	id, _, err := e.Run(t.Context(), spec)
	if err != nil {
		t.Fatalf("run %s: %v", spec.Name, err)
	}
	return id
}

func inspect(t *testing.T, e *container.Engine, id string) container.Container {
	t.Helper()
	c, err := e.Inspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// freePort gives a host port that nobody listens on now.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// A wiretap is a socket in front of an engine that notes all requests and can
// answer in the engine's place.
type wiretap struct {
	host string

	mu    sync.Mutex
	notes []note
	fault func(w http.ResponseWriter, r *http.Request) (answered bool)
}

// A note is one request: "POST /v1.41/containers/create?name=x" and its body.
type note struct{ line, body string }

// tap puts a wiretap in front of an engine.
func tap(t *testing.T, engine string) *wiretap {
	t.Helper()
	dir, err := os.MkdirTemp("", "tap") // short: it is a socket's path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	w := &wiretap{host: "unix://" + l.Addr().String()}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(engine, "unix://"))
	}}
	forward := &httputil.ReverseProxy{
		Rewrite:       func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = "http", "engine" },
		Transport:     transport,
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
	}
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		w.mu.Lock()
		w.notes = append(w.notes, note{r.Method + " " + r.URL.String(), string(body)})
		fault := w.fault
		w.mu.Unlock()
		if fault == nil || !fault(rw, r) {
			forward.ServeHTTP(rw, r)
		}
	})}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-done
		transport.CloseIdleConnections()
	})
	return w
}

// take gives what was noted since the last time.
func (w *wiretap) take() (notes []note) {
	w.mu.Lock()
	defer w.mu.Unlock()
	notes, w.notes = w.notes, nil
	return notes
}

func (w *wiretap) setFault(f func(http.ResponseWriter, *http.Request) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = f
}

// refuse answers as the engine does.
func refuse(w http.ResponseWriter, status int, message string) bool {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]string{"message": message})
	return true
}

// within runs f and fails the test if it takes longer than d.
func within(t *testing.T, d time.Duration, what string, f func(context.Context) error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f(t.Context()) }()
	select {
	case err := <-done:
		return err
	case <-time.After(d):
		t.Fatalf("%s took longer than %s", what, d)
		return nil
	}
}
