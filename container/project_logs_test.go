package container_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
)

func TestLogOfAProjectIsThatOfItsContainers(t *testing.T) {
	t.Parallel()
	docker, e, image := realEngine(t, testenv.App{})
	project := docker.Prefix + "_a-b_compose"
	service := func(name string, env ...string) string {
		return run(t, e, container.Spec{
			Name: project + "-" + name + "-1", Image: image, Env: env,
			Labels: map[string]string{container.LabelProject: project, container.LabelService: name},
		})
	}
	logs := container.AppLogs{Engine: e}
	all := container.ProjectLog(project)
	if err := logs.Logs(t.Context(), all, container.LogOptions{}, nil); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("log of no project: %v, want ErrNotFound", err)
	}
	job := service("job", "TESTAPP_LINES=1", "TESTAPP_EXIT=0")
	web := service("web", "TESTAPP_LINES=1")
	if _, err := e.Wait(t.Context(), job); err != nil {
		t.Fatal(err)
	}

	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var got []string
	restarted := false
	err := logs.Logs(ctx, all, container.LogOptions{Follow: true, Timestamps: true}, func(_ string, line []byte) {
		stamp, text, _ := strings.Cut(string(line), " ")
		if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
			t.Errorf("line %q does not begin with its time", line)
		}
		got = append(got, text)
		switch {
		case text == "web-1  | ready" && !restarted: // job is done: it is started again while web runs
			restarted = true
			if err := e.Start(ctx, job); err != nil {
				t.Error(err)
			}
		case countOf(got, "job-1  | ready") == 2:
			if err := e.Stop(ctx, web, time.Second); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil {
		t.Errorf("following: %v, want nil when nothing runs any more", err)
	}
	for line, want := range map[string]int{"job-1  | line 1": 2, "job-1  | ready": 2, "web-1  | line 1": 1, "web-1  | ready": 1, "web-1  | terminated": 1} {
		if n := countOf(got, line); n != want {
			t.Errorf("%q came %d times, want %d; all: %q", line, n, want, got)
		}
	}

	var past []string
	if err := logs.Logs(t.Context(), all, container.LogOptions{}, func(_ string, line []byte) { past = append(past, string(line)) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(past, "web-1  | terminated") || countOf(past, "job-1  | line 1") != 2 {
		t.Errorf("the past is %q, want all lines of both", past)
	}
}

func countOf(lines []string, line string) (n int) {
	for _, l := range lines {
		if l == line {
			n++
		}
	}
	return n
}
