package container_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
)

// A bench is one back end of compose with an engine and a project on it.
type bench struct {
	*container.Compose
	docker  *testenv.Engine
	engine  *container.Engine
	image   string
	project container.Project
	backend container.ComposeConfig // to make another one
}

// withEachBackend runs a test with the plugin and with the helper.
func withEachBackend(t *testing.T, test func(*testing.T, *bench)) {
	t.Helper()
	programs := testenv.Compose(t)
	for name, cfg := range map[string]container.ComposeConfig{
		"plugin": {Plugins: []string{programs.Plugins}, Helper: "/nonexistent/reagent-compose"},
		"helper": {Plugins: []string{}, Helper: programs.Helper},
	} {
		t.Run(name, func(t *testing.T) {
			docker, engine, image := realEngine(t, testenv.App{})
			cfg.DockerHost, cfg.Temp, cfg.Log = docker.Host, t.TempDir(), zerolog.Nop()
			dir := t.TempDir()
			test(t, &bench{
				Compose: container.NewCompose(cfg), backend: cfg,
				docker: docker, engine: engine, image: image,
				// Names of apps have both, and compose has its own ideas of both.
				project: container.Project{Name: docker.Prefix + "-a_b-", Dir: dir, File: filepath.Join(dir, "docker-compose.json")},
			})
		})
	}
}

// A service is one of a definition.
type service map[string]any

// define writes the project's definition.
func (b *bench) define(t *testing.T, services map[string]service, more ...map[string]any) {
	t.Helper()
	definition := map[string]any{"name": b.project.Name, "services": services}
	for _, m := range more {
		for k, v := range m {
			definition[k] = v
		}
	}
	text, err := json.Marshal(definition)
	if err != nil {
		t.Fatal(err)
	}
	b.write(t, filepath.Base(b.project.File), string(text))
}

func (b *bench) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(b.project.Dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// up brings the project up, or fails the test.
func (b *bench) up(t *testing.T) {
	t.Helper()
	if err := b.Up(t.Context(), b.project, nil); err != nil {
		t.Fatal(err)
	}
}

// containers gives what there is of the project, by service.
func (b *bench) containers(t *testing.T) map[string]container.Container {
	t.Helper()
	list, err := b.engine.List(t.Context(), map[string]string{container.LabelProject: b.project.Name})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]container.Container{}
	for _, s := range list {
		found[s.Labels[container.LabelService]] = inspect(t, b.engine, s.ID)
	}
	return found
}

// kept counts the project's networks and volumes.
func (b *bench) kept(t *testing.T) (networks, volumes int) {
	t.Helper()
	mine := filters.NewArgs(filters.Arg("label", container.LabelProject+"="+b.project.Name))
	n, err := b.docker.API.NetworkList(t.Context(), network.ListOptions{Filters: mine})
	if err != nil {
		t.Fatal(err)
	}
	v, err := b.docker.API.VolumeList(t.Context(), volume.ListOptions{Filters: mine})
	if err != nil {
		t.Fatal(err)
	}
	return len(n), len(v.Volumes)
}

// lines collects output.
type lines struct {
	mu   sync.Mutex
	text []string
}

func (l *lines) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, line)
}

func (l *lines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.text, "\n")
}

// processes are the pids of those whose command line or environment contains
// text, the test's own apart.
func processes(t *testing.T, file, text string) (pids []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err == nil && strings.Contains(string(content), text) {
			pids = append(pids, filepath.Base(filepath.Dir(path)))
		}
	}
	return pids
}

// script writes a program that stands in for a back end.
func script(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	temp := path + ".new"
	// A child of another test that is just being started would inherit the file,
	// open for writing, and no program can be started from such a one.
	syscall.ForkLock.RLock()
	err := os.WriteFile(temp, []byte("#!/bin/sh\n"+text+"\n"), 0o755)
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	// Installed as packages do, so that it is another file also within the
	// clock's resolution.
	later := time.Now().Add(time.Duration(len(text)) * time.Second)
	if err := os.Chtimes(temp, later, later); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(temp, path); err != nil {
		t.Fatal(err)
	}
}
