package container_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
)

func TestUpMakesWhatRunsEqualToTheDefinition(t *testing.T) {
	t.Parallel()
	withEachBackend(t, func(t *testing.T, b *bench) {
		web, worker := service{"image": b.image}, service{"image": b.image}
		b.define(t, map[string]service{"web": web, "worker_1": worker})
		b.up(t)
		first := b.containers(t)
		if len(first) != 2 || first["web"].Status != container.StatusRunning || first["worker_1"].Status != container.StatusRunning {
			t.Fatalf("after up: %+v, want web and worker_1 running", first)
		}

		b.up(t)
		if again := b.containers(t); again["web"].ID != first["web"].ID || again["worker_1"].ID != first["worker_1"].ID {
			t.Errorf("up of the same definition made other containers: %v, then %v", first, again)
		}

		web["environment"] = map[string]string{"CHANGED": "yes"}
		b.define(t, map[string]service{"web": web, "worker_1": worker})
		b.up(t)
		changed := b.containers(t)
		if changed["web"].ID == first["web"].ID || !slices.Contains(changed["web"].Env, "CHANGED=yes") {
			t.Errorf("the changed service has the environment %q in container %.8s, want CHANGED=yes in another than %.8s", changed["web"].Env, changed["web"].ID, first["web"].ID)
		}
		if changed["worker_1"].ID != first["worker_1"].ID {
			t.Error("the service that did not change was made anew")
		}

		b.define(t, map[string]service{"web": web})
		b.up(t)
		if left := b.containers(t); len(left) != 1 || left["web"].ID != changed["web"].ID {
			t.Errorf("after a service was taken out: %v, want the same web alone", left)
		}
	})
}

func TestStopAndDownNeedNoDefinition(t *testing.T) {
	t.Parallel()
	withEachBackend(t, func(t *testing.T, b *bench) {
		b.define(t, map[string]service{"web": {
			"image":   b.image,
			"volumes": []string{"data:/data", "/cache"},
		}}, map[string]any{"volumes": map[string]any{"data": nil}})
		check := func(after string, containers, networks, volumes int) {
			t.Helper()
			n, v := b.kept(t)
			if c := len(b.containers(t)); c != containers || n != networks || v != volumes {
				t.Errorf("after %s: %d containers, %d networks, %d volumes; want %d, %d, %d", after, c, n, v, containers, networks, volumes)
			}
		}
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		b.up(t)
		check("up", 1, 1, 1)

		must(os.WriteFile(b.project.File, []byte("{"), 0o600))
		for range 2 {
			must(b.Stop(t.Context(), b.project, time.Second, nil))
			check("stop", 1, 1, 1)
			if web := b.containers(t)["web"]; web.Status != container.StatusExited {
				t.Errorf("after stop it is %s", web.Status)
			}
		}

		b.define(t, map[string]service{"web": {
			"image":   b.image,
			"volumes": []string{"data:/data"},
		}}, map[string]any{"volumes": map[string]any{"data": nil}})
		b.up(t)
		check("another up", 1, 1, 1)
		must(os.Remove(b.project.File))
		must(b.Down(t.Context(), b.project, false, nil))
		check("down", 0, 0, 1)

		b.define(t, map[string]service{"web": {
			"image":   b.image,
			"volumes": []string{"data:/data"},
		}}, map[string]any{"volumes": map[string]any{"data": nil}})
		b.up(t)
		must(os.Remove(b.project.File))
		must(b.Down(t.Context(), b.project, true, nil))
		check("down with volumes", 0, 0, 0)
		must(b.Down(t.Context(), b.project, true, nil))
	})
}

func TestStopKillsAfterItsGrace(t *testing.T) {
	t.Parallel()
	withEachBackend(t, func(t *testing.T, b *bench) {
		b.define(t, map[string]service{"deaf": {"image": b.image, "environment": map[string]string{"TESTAPP_IGNORE_TERM": "1"}}})
		b.up(t)
		began := time.Now()
		if err := b.Stop(t.Context(), b.project, 100*time.Millisecond, nil); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < time.Second || took > 9*time.Second {
			t.Errorf("stop with a grace of one second took %s; the engine's own grace is ten", took)
		}
		for name, c := range b.containers(t) {
			if c.Status != container.StatusExited {
				t.Errorf("after stop %s is %s", name, c.Status)
			}
		}
	})
}

func TestOneShotsMayEnd(t *testing.T) {
	t.Parallel()
	withEachBackend(t, func(t *testing.T, b *bench) {
		job := func(code string) service {
			return service{"image": b.image, "environment": map[string]string{"TESTAPP_EXIT": code}}
		}
		web := service{"image": b.image, "depends_on": map[string]any{"migrate": map[string]any{"condition": "service_completed_successfully"}}}
		b.define(t, map[string]service{"migrate": job("0"), "web": web})
		b.up(t)
		all := b.containers(t)
		if all["migrate"].Status != container.StatusExited || all["migrate"].ExitCode != 0 || all["web"].Status != container.StatusRunning {
			t.Errorf("a job that ends well: %s with %d, and what waits for it %s", all["migrate"].Status, all["migrate"].ExitCode, all["web"].Status)
		}

		b.define(t, map[string]service{"migrate": job("3"), "web": web})
		err := b.Up(t.Context(), b.project, nil)
		if err == nil || !strings.Contains(err.Error(), "migrate") || !strings.Contains(err.Error(), "exit 3") {
			t.Errorf("up with a job that fails = %v, want it to name the job and its exit code", err)
		}
	})
}

func TestWhatPreventsUpIsTold(t *testing.T) {
	t.Parallel()
	withEachBackend(t, func(t *testing.T, b *bench) {
		l, err := net.Listen("tcp", "0.0.0.0:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		port := l.Addr().(*net.TCPAddr).Port
		b.define(t, map[string]service{"web": {"image": b.image, "ports": []string{fmt.Sprintf("0.0.0.0:%d:80", port)}}})
		err = b.Up(t.Context(), b.project, nil)
		var taken *container.PortError
		if !errors.As(err, &taken) || !errors.Is(err, container.ErrPortTaken) || !slices.Equal(taken.Ports, []uint16{uint16(port)}) {
			t.Errorf("up on a taken port = %v (%+v), want a PortError with %d", err, taken, port)
		}

		b.define(t, map[string]service{"web": {"image": b.docker.Prefix + "/missing:1"}})
		var said lines
		if err := b.Up(t.Context(), b.project, said.add); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("up without the image = %v, want ErrNotFound", err)
		}
		if !strings.Contains(said.all(), "missing:1") {
			t.Errorf("the output was %q, want it to name the image", said.all())
		}

		b.write(t, filepath.Base(b.project.File), `{"services": {"web": {"image": "x", "imagge": 7}}}`)
		for what, err := range map[string]error{"check": b.Check(t.Context(), b.project), "up": b.Up(t.Context(), b.project, nil)} {
			if err == nil || !strings.Contains(err.Error(), "imagge") {
				t.Errorf("%s of a wrong definition = %v, want it to name the wrong key", what, err)
			}
		}
		b.define(t, map[string]service{"web": {"image": "anything"}})
		if err := b.Check(t.Context(), b.project); err != nil {
			t.Errorf("check of a good definition = %v", err)
		}

		gone := b.backend
		gone.DockerHost = "unix://" + filepath.Join(t.TempDir(), "none")
		if err := container.NewCompose(gone).Up(t.Context(), b.project, nil); !errors.Is(err, container.ErrUnavailable) {
			t.Errorf("up without an engine = %v, want ErrUnavailable", err)
		}
		if err := b.Stop(t.Context(), b.project, time.Second, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestACancelledOperationEnds(t *testing.T) {
	t.Parallel()
	withEachBackend(t, func(t *testing.T, b *bench) {
		b.define(t, map[string]service{
			"never": {"image": b.image, "healthcheck": map[string]any{
				"test": []string{"CMD", "/none"}, "interval": "1s", "start_period": "1h", "retries": 100,
			}},
			"web": {"image": b.image, "depends_on": map[string]any{"never": map[string]any{"condition": "service_healthy"}}},
		})
		ctx, cancel := context.WithCancel(t.Context())
		waiting := make(chan struct{}, 1)
		done := make(chan error, 1)
		go func() {
			done <- b.Up(ctx, b.project, func(line string) {
				if strings.Contains(line, "Waiting") {
					select {
					case waiting <- struct{}{}:
					default:
					}
				}
			})
		}()
		select {
		case <-waiting:
		case err := <-done:
			t.Fatalf("up of what waits for a service that gets not healthy = %v", err)
		}
		cancel()
		began := time.Now()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled up = %v, want context.Canceled", err)
		}
		if took := time.Since(began); took > 8*time.Second {
			t.Errorf("a cancelled up took %s to end", took)
		}
		if left := processes(t, "cmdline", b.project.Name); len(left) > 0 {
			t.Errorf("processes %v are left", left)
		}

		short := b.backend
		short.UpLimit = 300 * time.Millisecond
		if err := container.NewCompose(short).Up(t.Context(), b.project, nil); !errors.Is(err, container.ErrTimeout) {
			t.Errorf("up that takes too long = %v, want ErrTimeout", err)
		}
	})
}

func TestBuildsWithLoginsThatNobodyElseSees(t *testing.T) {
	t.Parallel()
	const secret = "tr0ub4dor-and-3"
	withEachBackend(t, func(t *testing.T, b *bench) {
		registry := testenv.NewRegistry(t)
		base := registry.Host + "/" + b.docker.Prefix + "/base:1"
		testenv.PushImage(t, base, "", "", testenv.App{})
		registry.Require("joe", secret)

		wire := tap(t, b.docker.Host)
		cfg := b.backend
		cfg.DockerHost = wire.host
		compose := container.NewCompose(cfg)
		builds := make(chan struct{}, 8)
		encoded := base64.StdEncoding.EncodeToString([]byte("joe:" + secret))
		wire.setFault(func(_ http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/build") {
				return false
			}
			builds <- struct{}{}
			for _, password := range []string{secret, encoded} {
				for _, file := range []string{"cmdline", "environ"} {
					if pids := processes(t, file, password); len(pids) > 0 {
						t.Errorf("the password is in the %s of %v", file, pids)
					}
				}
				err := filepath.WalkDir(cfg.Temp, func(path string, d fs.DirEntry, err error) error {
					if text, _ := os.ReadFile(path); strings.Contains(string(text), password) {
						t.Errorf("the password is in the file %s", path)
					}
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
			return false
		})
		left := filepath.Join(cfg.Temp, "reagent-compose-of-a-killed-one")
		if err := os.Mkdir(left, 0o700); err != nil {
			t.Fatal(err)
		}

		name := b.docker.Prefix + "/built:1"
		b.write(t, "Dockerfile", "FROM "+base+"\nCOPY greeting /greeting\n")
		b.write(t, "greeting", "hello")
		b.define(t, map[string]service{
			"made":  {"image": name, "build": map[string]any{"context": ".", "labels": map[string]string{"mark": "yes"}}},
			"taken": {"image": b.image},
		})
		if err := compose.Build(t.Context(), b.project, nil, nil); !errors.Is(err, container.ErrUnauthorized) {
			t.Errorf("build without the login = %v, want ErrUnauthorized", err)
		}
		var said lines
		err := compose.Build(t.Context(), b.project, map[string]container.Credential{
			registry.Host + "/": {Username: "joe", Password: secret}, "docker.io": {Username: "hub", Password: "other"},
		}, said.add)
		if err != nil {
			t.Fatal(err)
		}
		if len(builds) != 2 {
			t.Errorf("the engine was asked for %d builds, want 2", len(builds))
		}
		if got, err := b.docker.API.ImageInspect(t.Context(), name); err != nil || got.Config.Labels["mark"] != "yes" {
			t.Errorf("the built image is %+v, %v; want the label mark=yes", got.Config, err)
		}
		if !strings.Contains(said.all(), "COPY greeting") {
			t.Errorf("the output was %q, want the steps of the Dockerfile", said.all())
		}
		if strings.Contains(said.all(), secret) || strings.Contains(said.all(), encoded) {
			t.Error("the password is in the output")
		}
		if left, err := os.ReadDir(cfg.Temp); err != nil || len(left) > 0 {
			t.Errorf("left in the folder for temporary files: %v, %v", left, err)
		}

		b.write(t, "Dockerfile", "FROM "+b.image+"\nCOPY nothing /\n")
		if err := b.Build(t.Context(), b.project, nil, nil); err == nil || !strings.Contains(err.Error(), "nothing") {
			t.Errorf("build of a wrong Dockerfile = %v, want the engine's reason", err)
		}
	})
}

// People write RUN --mount, which the classic builder refuses, and the plugin
// buildx is on few devices.
func TestBuildKitBuildsWithoutItsPlugin(t *testing.T) {
	t.Parallel()
	programs := testenv.Compose(t)
	docker, engine, image := realEngine(t, testenv.App{})
	dir := t.TempDir()
	b := &bench{
		Compose: container.NewCompose(container.ComposeConfig{
			DockerHost: docker.Host, Plugins: []string{programs.Plugins}, Helper: programs.Helper, Temp: t.TempDir(),
		}),
		docker: docker, engine: engine, image: image,
		project: container.Project{Name: docker.Prefix, Dir: dir, File: filepath.Join(dir, "docker-compose.json")},
	}
	if path, _, err := b.Backend(t.Context()); err != nil || filepath.Dir(path) != programs.Plugins {
		t.Errorf("the back end is %s, %v; want the plugin in %s", path, err, programs.Plugins)
	}
	b.write(t, "Dockerfile", "FROM "+image+"\nRUN --mount=type=bind,target=/src [\"/testapp\", \"health\"]\n")
	services := map[string]service{}
	for _, name := range []string{"one", "two"} {
		services[name] = service{"image": docker.Prefix + "/" + name + ":1", "build": "."}
	}
	b.define(t, services)
	var said lines
	if err := b.Build(t.Context(), b.project, nil, said.add); err != nil {
		t.Fatal(err)
	}
	for _, s := range services {
		if _, err := docker.API.ImageInspect(t.Context(), s["image"].(string)); err != nil {
			t.Error(err)
		}
	}
	if strings.Contains(said.all(), "buildx") {
		t.Errorf("the output was %q, want no word of a plugin that is not needed", said.all())
	}
	b.write(t, "Dockerfile", "FROM "+image+"\nRUN [\"/testapp\", \"health\"]\nRUN [\"/none\"]\n")
	if err := b.Build(t.Context(), b.project, nil, nil); err == nil || !strings.Contains(err.Error(), "/none") {
		t.Errorf("build with a step that fails = %v, want it to name the step", err)
	}
}

func TestADefinitionSeesNothingOfTheAgentsEnvironment(t *testing.T) {
	t.Setenv("REAGENT_HIDDEN", "s3cret")
	withEachBackend(t, func(t *testing.T, b *bench) {
		b.define(t, map[string]service{"web": {"image": b.image, "environment": map[string]string{
			"A": "${REAGENT_HIDDEN:-nothing}", "B": "${FROM_DOTENV:-nothing}",
		}}})
		b.write(t, ".env", "FROM_DOTENV=its own\nCOMPOSE_PROJECT_NAME=other\nCOMPOSE_FILE=/nonexistent\nCOMPOSE_COMPATIBILITY=true\n")
		b.up(t)
		web := b.containers(t)["web"]
		if !slices.Contains(web.Env, "A=nothing") || !slices.Contains(web.Env, "B=its own") {
			t.Errorf("environment %q; want A=nothing and B=its own", web.Env)
		}
		if want := b.project.Name + "-web-1"; web.Name != want {
			t.Errorf("the container is called %s, want %s whatever the project's own .env says", web.Name, want)
		}
	})
}

func TestNoFolderForTemporaryFilesIsNoReasonNotToStop(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	withEachBackend(t, func(t *testing.T, b *bench) {
		b.define(t, map[string]service{"web": {"image": b.image}})
		b.up(t)
		cfg := b.backend
		cfg.Temp = filepath.Join(file, "temp")
		t.Setenv("TMPDIR", file)
		c := container.NewCompose(cfg)
		if err := c.Stop(t.Context(), b.project, time.Second, nil); err != nil {
			t.Error(err)
		}
		for name, c := range b.containers(t) {
			if c.Status != container.StatusExited {
				t.Errorf("after stop %s is %s", name, c.Status)
			}
		}
	})
}
