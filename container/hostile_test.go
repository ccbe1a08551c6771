package container_test

import (
	"bytes"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
)

// TestNonsenseFromTheEngineIsAnError answers each call with what no engine says.
// What must come is an error, or nothing found; never a panic, a wait without
// end, or a container that is not there.
func TestNonsenseFromTheEngineIsAnError(t *testing.T) {
	docker := testenv.Docker(t)
	wire := tap(t, docker.Host)
	e := newEngine(t, wire.host, func(c *container.Config) {
		c.Timeout, c.Long, c.PullIdle, c.BuildIdle, c.LogIdle = 2*time.Second, 2*time.Second, 2*time.Second, 2*time.Second, 2*time.Second
	})
	id := strings.Repeat("ab", 32)
	for _, answer := range []struct {
		status int
		body   string
	}{
		{200, "null"}, {200, "{}"}, {200, "[]"}, {200, "[null]"}, {200, `[{"Names":[]}]`}, {200, "<html>"},
		{200, ""}, {200, `{"Id":"x"`}, {200, `"text"`}, {200, `{"Id":1,"State":[],"Config":"x"}`},
		{500, ""}, {500, "null"}, {500, "<html>"}, {404, "{}"}, {301, ""}, {204, ""},
		{200, "\x01\x00\x00\x00\xff\xff\xff\xffx"},
	} {
		wire.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(answer.status)
			w.Write([]byte(answer.body))
			return true
		})
		for what, call := range map[string]func(context.Context) (found bool, err error){
			"ping": func(ctx context.Context) (bool, error) { _, err := e.Ping(ctx); return false, err },
			"run": func(ctx context.Context) (bool, error) {
				_, _, err := e.Run(ctx, container.Spec{Name: "x", Privileged: true})
				return err == nil, err
			},
			"inspect": func(ctx context.Context) (bool, error) { _, err := e.Inspect(ctx, id); return err == nil, err },
			"list":    func(ctx context.Context) (bool, error) { _, err := e.List(ctx, nil); return false, err },
			"rows": func(ctx context.Context) (bool, error) {
				rows, err := e.Summaries(ctx)
				return err == nil && rows == nil, err
			},
			"images": func(ctx context.Context) (bool, error) { _, err := e.Images(ctx); return false, err },
			"forms":  func(ctx context.Context) (bool, error) { _, err := e.ImageSummaries(ctx); return false, err },
			"image":  func(ctx context.Context) (bool, error) { _, err := e.Image(ctx, "a:1"); return err == nil, err },
			"untag":  func(ctx context.Context) (bool, error) { err := e.RemoveImage(ctx, "a:1"); return err == nil, err },
			"tag":    func(ctx context.Context) (bool, error) { err := e.Tag(ctx, "a:1", "a:2"); return err == nil, err },
			"pull":   func(ctx context.Context) (bool, error) { return false, e.Pull(ctx, "a:1", nil, nil) },
			"push":   func(ctx context.Context) (bool, error) { err := e.Push(ctx, "a:1", nil, nil); return false, err },
			"build": func(ctx context.Context) (bool, error) {
				err := e.Build(ctx, container.BuildSpec{Context: bytes.NewReader(make([]byte, 1024))}, nil)
				return err == nil, err
			},
			"prune": func(ctx context.Context) (bool, error) { _, err := e.PruneDangling(ctx); return false, err },
			"cache": func(ctx context.Context) (bool, error) { _, err := e.PruneBuildCache(ctx); return false, err },
			"volumes": func(ctx context.Context) (bool, error) {
				found, err := e.Volumes(ctx, nil)
				return len(found) > 0, err
			},
			"volume": func(ctx context.Context) (bool, error) { return false, e.RemoveVolume(ctx, "x") },
			"wait":   func(ctx context.Context) (bool, error) { _, err := e.Wait(ctx, id); return false, err },
			"exec": func(ctx context.Context) (bool, error) {
				x, err := e.Exec(ctx, id, container.ExecSpec{Argv: []string{"true"}})
				return x != nil, err
			},
			"end":    func(ctx context.Context) (bool, error) { return false, e.EndExec(ctx, id) },
			"remove": func(ctx context.Context) (bool, error) { return false, e.Remove(ctx, id) },
			"logs": func(ctx context.Context) (bool, error) {
				err := e.Logs(ctx, id, container.LogOptions{}, func(string, []byte) {})
				return err == nil, err
			},
			"events": func(ctx context.Context) (bool, error) {
				err := e.Events(ctx, func() {}, func(container.Event) {})
				return err == nil, err
			},
		} {
			err := within(t, 10*time.Second, what, func(ctx context.Context) error {
				found, err := call(ctx)
				if found {
					t.Errorf("%s found something in %d %q", what, answer.status, answer.body)
				}
				return err
			})
			if answer.status >= 400 && err == nil && what != "remove" && what != "end" {
				t.Errorf("%s of %d %q = nil, want an error", what, answer.status, answer.body)
			}
		}
	}
}
