package container_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	dockercontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	"reagent/container"
	"reagent/internal/testenv"
)

// folder packs files as a build's context.
func folder(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(text)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, text)
	}
	w.Close()
	z.Close()
	return b.Bytes()
}

// once hides that its reader could be rewound.
func once(b []byte) io.Reader { return io.MultiReader(bytes.NewReader(b)) }

// A buildLog is what a build told.
type buildLog struct {
	records []map[string]any
	text    bytes.Buffer // of its streams
}

func (l *buildLog) record(t *testing.T) func([]byte) {
	return func(line []byte) {
		var r map[string]any
		if err := json.Unmarshal(line, &r); err != nil {
			t.Errorf("record %q: %v", line, err)
			return
		}
		l.records = append(l.records, r)
		if text, ok := r["stream"].(string); ok {
			l.text.WriteString(text)
		}
	}
}

// bothBuilders runs a test with the engine's BuildKit, and with an engine that
// has none, which is what a wiretap makes of it.
func bothBuilders(t *testing.T, app testenv.App, test func(t *testing.T, docker *testenv.Engine, e *container.Engine, base string, kit bool)) {
	for _, kit := range []bool{true, false} {
		t.Run(map[bool]string{true: "BuildKit", false: "classic"}[kit], func(t *testing.T) {
			docker, e, base := realEngine(t, app)
			if !kit {
				wire := tap(t, docker.Host)
				wire.setFault(noBuildKit)
				e = newEngine(t, wire.host)
			}
			test(t, docker, e, base, kit)
		})
	}
}

// noBuildKit answers as an engine without it.
func noBuildKit(w http.ResponseWriter, r *http.Request) bool {
	if strings.HasSuffix(r.URL.Path, "/session") {
		return refuse(w, http.StatusNotFound, "page not found")
	}
	return r.URL.Query().Get("version") == "2" && refuse(w, http.StatusBadRequest, "buildkit not supported by daemon")
}

// runs reports whether a process on this machine has mark among its arguments.
func runs(t *testing.T, mark string) bool {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(lines, func(file string) bool {
		text, _ := os.ReadFile(file) // it may have ended
		return bytes.Contains(text, []byte("testapp\x00"+mark))
	})
}

func TestBuildMakesTheImage(t *testing.T) {
	bothBuilders(t, testenv.App{}, func(t *testing.T, docker *testenv.Engine, e *container.Engine, base string, kit bool) {
		ref := docker.Prefix + "/built:1"
		build := func() (told buildLog) {
			t.Helper()
			err := e.Build(t.Context(), container.BuildSpec{
				Context: once(folder(t, map[string]string{
					"sub/Dockerfile.x": "FROM " + base + "\nCOPY hello /hello\nENV TESTAPP_LINES=2 TESTAPP_STDERR=aside TESTAPP_EXIT=0\nRUN [\"/testapp\"]\n",
					"hello":            docker.Prefix, // nothing of an earlier test
				})),
				Dockerfile: "sub/Dockerfile.x",
				Tags:       []string{ref, docker.Prefix + "/built:2"},
				Labels:     map[string]string{"testenv": docker.Prefix, "real": "True"},
			}, told.record(t))
			if err != nil {
				t.Fatalf("%v\n%s", err, &told.text)
			}
			return told
		}
		told := build()
		image, err := e.Image(t.Context(), ref)
		if err != nil || image.Labels["real"] != "True" || len(image.Tags) != 2 {
			t.Errorf("image = %+v, %v", image, err)
		}
		for _, want := range []string{"line 1\n", "line 2\n", "aside\n", "ready\n", "COPY hello /hello"} {
			if !strings.Contains(told.text.String(), want) {
				t.Errorf("%q is not in the log:\n%s", want, &told.text)
			}
		}
		if kit && !strings.Contains(told.text.String(), " DONE ") {
			t.Errorf("no step is done in:\n%s", &told.text)
		}
		if text := told.text.String(); strings.Index(text, "line 1\n") > strings.Index(text, "line 2\n") {
			t.Errorf("the lines are in disorder:\n%s", text)
		}
		if again := build(); kit && !strings.Contains(again.text.String(), " CACHED\n") || strings.Contains(again.text.String(), "line 1\n") {
			t.Errorf("the same again was built anew:\n%s", &again.text)
		}
		left, err := docker.API.ContainerList(t.Context(), dockercontainer.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("ancestor", base))})
		if err != nil || len(left) != 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
	})
}

func TestBuildKitMountsACache(t *testing.T) {
	docker, e, base := realEngine(t, testenv.App{})
	var told buildLog
	err := e.Build(t.Context(), container.BuildSpec{
		Context: bytes.NewReader(folder(t, map[string]string{
			"Dockerfile": "FROM " + base + "\nENV TESTAPP_EXIT=0\nRUN --mount=type=cache,target=/cache --mount=type=tmpfs,target=/tmp --mount=type=bind,target=/src [\"/testapp\"]\n",
		})),
		Tags:   []string{docker.Prefix + "/built:1"},
		Labels: map[string]string{"testenv": docker.Prefix},
	}, told.record(t))
	if err != nil {
		t.Fatalf("%v\n%s", err, &told.text)
	}
}

func TestBuildErrorsAreTheAuthorsToRead(t *testing.T) {
	bothBuilders(t, testenv.App{}, func(t *testing.T, docker *testenv.Engine, e *container.Engine, base string, kit bool) {
		for what, test := range map[string]struct {
			context []byte
			kind    error
			text    string
		}{
			"no Dockerfile":      {folder(t, map[string]string{"x": "y"}), container.ErrNoDockerfile, ""},
			"empty Dockerfile":   {folder(t, map[string]string{"Dockerfile": ""}), container.ErrEmptyDockerfile, ""},
			"only comments":      {folder(t, map[string]string{"Dockerfile": "# x\n"}), container.ErrEmptyDockerfile, ""},
			"nothing":            {nil, container.ErrContext, "empty"},
			"no archive":         {[]byte("FROM scratch\n"), container.ErrContext, "tar"},
			"cut archive":        {folder(t, map[string]string{"Dockerfile": string(noise(64 << 10))})[:32<<10], container.ErrContext, ""},
			"a line":             {folder(t, map[string]string{"Dockerfile": "FROM " + base + "\nNONSENSE\n"}), nil, "unknown instruction: NONSENSE"},
			"a step":             {folder(t, map[string]string{"Dockerfile": "FROM " + base + "\nENV TESTAPP_EXIT=3\nRUN [\"/testapp\"]\n"}), nil, "3"},
			"base not there":     {folder(t, map[string]string{"Dockerfile": "FROM " + testenv.NewRegistry(t).Host + "/none:1\n"}), container.ErrNotFound, "none"},
			"registry is silent": {folder(t, map[string]string{"Dockerfile": "FROM 127.0.0.1:1/none:1\n"}), container.ErrNetwork, "refused"},
		} {
			var told buildLog
			err := e.Build(t.Context(), container.BuildSpec{Context: bytes.NewReader(test.context), Labels: map[string]string{"testenv": docker.Prefix}}, told.record(t))
			if err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("%s: %v, want %q in it", what, err, test.text)
			}
			if test.kind != nil && !errors.Is(err, test.kind) {
				t.Errorf("%s: %v, want %v", what, err, test.kind)
			}
			if failed := (*container.BuildError)(nil); test.kind == nil && !errors.As(err, &failed) {
				t.Errorf("%s: %v, want a BuildError", what, err)
			}
		}
	})
}

func TestFilesThatCannotBeReadAreNoErrorOfTheEngine(t *testing.T) {
	bothBuilders(t, testenv.App{}, func(t *testing.T, docker *testenv.Engine, e *container.Engine, base string, kit bool) {
		broken := errors.New("the disk is broken")
		files := folder(t, map[string]string{"Dockerfile": "FROM " + base + "\n", "x": string(noise(1 << 20))})
		err := e.Build(t.Context(), container.BuildSpec{
			Context: io.MultiReader(bytes.NewReader(files[:len(files)/2]), iotest.ErrReader(broken)),
		}, nil)
		if !errors.Is(err, container.ErrContext) || !errors.Is(err, broken) {
			t.Errorf("build = %v, want ErrContext and %v", err, broken)
		}
		if _, err := e.Images(t.Context()); err != nil {
			t.Errorf("after that: %v", err)
		}
	})
}

func TestBuildLogsInToTheRegistriesOfItsBases(t *testing.T) {
	bothBuilders(t, testenv.App{}, func(t *testing.T, docker *testenv.Engine, e *container.Engine, _ string, kit bool) {
		reg := testenv.NewRegistry(t)
		base := pushed(t, docker, reg, testenv.App{Ballast: append([]byte(docker.Prefix), noise(2<<20)...)})
		reg.Require("token", "secret")
		spec := func(password string) container.BuildSpec {
			return container.BuildSpec{
				Context:     bytes.NewReader(folder(t, map[string]string{"Dockerfile": "FROM " + base + "\nLABEL a=b\n"})),
				Tags:        []string{docker.Prefix + "/built:1"},
				Labels:      map[string]string{"testenv": docker.Prefix},
				Credentials: map[string]container.Credential{reg.Host + "/": {Username: "token", Password: password}},
			}
		}
		for _, wrong := range []string{"wrong", ""} {
			if err := e.Build(t.Context(), spec(wrong), nil); !errors.Is(err, container.ErrUnauthorized) {
				t.Errorf("build with password %q = %v, want ErrUnauthorized", wrong, err)
			}
		}
		var told buildLog
		if err := e.Build(t.Context(), spec("secret"), told.record(t)); err != nil {
			t.Fatalf("%v\n%s", err, &told.text)
		}
		if !slices.ContainsFunc(told.records, func(r map[string]any) bool {
			detail, _ := r["progressDetail"].(map[string]any)
			return detail["current"] != nil && r["id"] != nil && r["status"] != nil
		}) {
			t.Errorf("the base came without a word on its bytes: %v", told.records)
		}
	})
}

func TestCancelledBuildStopsTheEngine(t *testing.T) {
	t.Parallel() // mostly waits
	bothBuilders(t, testenv.App{}, func(t *testing.T, docker *testenv.Engine, e *container.Engine, base string, kit bool) {
		mark := docker.Prefix + "cancel"
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var told buildLog
		record := told.record(t)
		err := e.Build(ctx, container.BuildSpec{
			Context: bytes.NewReader(folder(t, map[string]string{
				"Dockerfile": "FROM " + base + "\nENV TESTAPP_EVERY=50ms\nRUN [\"/testapp\", \"" + mark + "\"]\n",
			})),
			Labels: map[string]string{"testenv": docker.Prefix},
		}, func(line []byte) {
			record(line)
			if strings.Contains(told.text.String(), "tick 3\n") {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("build = %v, want context.Canceled\n%s", err, &told.text)
		}
		testenv.WaitFor(t, "the step ends", func() bool { return !runs(t, mark) })
	})
}

func TestSilentBuildTimesOut(t *testing.T) {
	t.Parallel() // mostly waits
	docker, _, base := realEngine(t, testenv.App{})
	e := newEngine(t, docker.Host, func(c *container.Config) { c.BuildIdle = 2 * time.Second })
	mark := docker.Prefix + "silent"
	err := e.Build(t.Context(), container.BuildSpec{
		Context: bytes.NewReader(folder(t, map[string]string{"Dockerfile": "FROM " + base + "\nRUN [\"/testapp\", \"" + mark + "\"]\n"})),
		Labels:  map[string]string{"testenv": docker.Prefix},
	}, nil)
	if !errors.Is(err, container.ErrTimeout) {
		t.Errorf("build = %v, want ErrTimeout", err)
	}
	testenv.WaitFor(t, "the step ends", func() bool { return !runs(t, mark) })
}

func TestEngineWithoutBuildKitIsAskedOnceForIt(t *testing.T) {
	docker, _, base := realEngine(t, testenv.App{})
	wire := tap(t, docker.Host)
	var sessions atomic.Int32
	wire.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/session") {
			sessions.Add(1)
			return false
		}
		return noBuildKit(w, r)
	})
	e := newEngine(t, wire.host)
	files := folder(t, map[string]string{"Dockerfile": "FROM " + base + "\nLABEL x=y\n"})
	spec := container.BuildSpec{Tags: []string{docker.Prefix + "/built:1"}, Labels: map[string]string{"testenv": docker.Prefix}}
	for range 2 { // a file is sent a second time
		spec.Context = bytes.NewReader(files)
		if err := e.Build(t.Context(), spec, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := sessions.Load(); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	again := newEngine(t, wire.host)
	spec.Context = once(files) // a stream cannot be sent again, but the next can be sent
	err := again.Build(t.Context(), spec, nil)
	spec.Context = once(files)
	if next := again.Build(t.Context(), spec, nil); next != nil {
		t.Errorf("build = %v, then %v, want nil at last", err, next)
	}
}

func TestPushSendsTheImage(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{Ballast: noise(1 << 20)})
	reg := testenv.NewRegistry(t)
	reg.Require("token", "secret")
	ref := reg.Host + "/" + docker.Prefix + "/app:1"
	if err := e.Tag(t.Context(), image, ref); err != nil {
		t.Fatal(err)
	}
	login := &container.Credential{Username: "token", Password: "secret"}
	var told buildLog
	if err := e.Push(t.Context(), ref, login, told.record(t)); err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(told.records, func(r map[string]any) bool { return r["status"] == "Pushed" }) {
		t.Errorf("records = %v, want a layer that was pushed", told.records)
	}
	if err := e.RemoveImage(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	if err := e.Pull(t.Context(), ref, login, nil); err != nil {
		t.Errorf("pull of what was pushed = %v", err)
	}
	if err := e.Push(t.Context(), reg.Host+"/"+docker.Prefix+"/none:1", login, nil); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("push of nothing = %v, want ErrNotFound", err)
	}
	for _, bad := range []string{"../x y", "a@sha256:" + strings.Repeat("0", 64)} {
		if err := e.Push(t.Context(), bad, login, nil); err == nil {
			t.Errorf("push %q = nil", bad)
		}
	}
}
