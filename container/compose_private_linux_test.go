package container_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
)

// TestComposeOutlivesEngineFaults does to an engine of its own what engines do
// to projects.
func TestComposeOutlivesEngineFaults(t *testing.T) {
	t.Parallel()
	programs := testenv.Compose(t)
	private := testenv.NewPrivateEngine(t)
	engine := newEngine(t, private.Host)
	image := private.Prefix + "/app:1"
	testenv.BuildImage(t, private.Engine, image, testenv.App{})
	for name, cfg := range map[string]container.ComposeConfig{
		"plugin": {Plugins: []string{programs.Plugins}, Helper: "/nonexistent/reagent-compose"},
		"helper": {Plugins: []string{}, Helper: programs.Helper},
	} {
		t.Run(name, func(t *testing.T) {
			cfg.DockerHost, cfg.Temp = private.Host, t.TempDir()
			dir := t.TempDir()
			b := &bench{
				Compose: container.NewCompose(cfg), docker: private.Engine, engine: engine, image: image,
				project: container.Project{Name: private.Prefix + name, Dir: dir, File: filepath.Join(dir, "docker-compose.json")},
			}
			b.define(t, map[string]service{
				"slow": {"image": image, "healthcheck": map[string]any{
					"test": []string{"CMD", "/testapp", "health"}, "interval": "1h", "start_period": "1h",
				}},
				"web": {"image": image, "depends_on": map[string]any{"slow": map[string]any{"condition": "service_healthy"}}},
			})
			waiting, done := make(chan struct{}, 100), make(chan error, 1)
			go func() {
				done <- b.Up(t.Context(), b.project, func(line string) {
					if strings.Contains(line, "Waiting") {
						waiting <- struct{}{}
					}
				})
			}()
			select {
			case <-waiting:
			case err := <-done:
				t.Fatalf("up = %v before the engine ended", err)
			}
			private.Kill()
			select {
			case err := <-done:
				if !errors.Is(err, container.ErrUnavailable) {
					t.Errorf("up while the engine ends = %v, want ErrUnavailable", err)
				}
			case <-time.After(time.Minute):
				t.Fatal("up does not notice that the engine has ended")
			}
			private.Start()

			// What was begun is gone on with.
			b.define(t, map[string]service{"web": {"image": image}})
			b.up(t)
			if all := b.containers(t); len(all) != 1 || all["web"].Status != container.StatusRunning {
				t.Errorf("after the engine is back: %+v, want web alone, running", all)
			}

			private.Hang()
			limited := cfg
			limited.Limit = time.Second
			if err := container.NewCompose(limited).Down(t.Context(), b.project, true, nil); !errors.Is(err, container.ErrTimeout) {
				t.Errorf("down while the engine hangs = %v, want ErrTimeout", err)
			}
			private.Continue()
			if err := b.Down(t.Context(), b.project, true, nil); err != nil {
				t.Error(err)
			}
			if left := b.containers(t); len(left) != 0 {
				t.Errorf("after down: %+v", left)
			}
		})
	}
}
