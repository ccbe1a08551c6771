package container_test

import (
	"errors"
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
	if _, err := logs.Sources(t.Context(), container.ProjectLog(project)); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("log of no project: %v, want ErrNotFound", err)
	}
	web := service("web")
	job := service("long-job", "TESTAPP_EXIT=0")
	if _, err := e.Wait(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	sources := func() [2]container.LogSource {
		t.Helper()
		list, err := logs.Sources(t.Context(), container.ProjectLog(project))
		if err != nil || len(list) != 2 {
			t.Fatalf("sources: %v, %v, want two", list, err)
		}
		return [2]container.LogSource(list)
	}
	first := sources()
	begun := first[0].Started
	want := [2]container.LogSource{
		{ID: job, Name: "long-job-1", Service: "long-job", Prefix: "long-job-1  | ", Started: begun},
		{ID: web, Name: "web-1", Service: "web", Prefix: "web-1       | ", Running: true},
	}
	if first != want || begun.IsZero() || time.Since(begun) > time.Hour {
		t.Errorf("got  %+v\nwant %+v", first, want)
	}
	c, err := e.Inspect(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	of := container.SourceOf(c)
	if of.Prefix = first[0].Prefix; of != first[0] {
		t.Errorf("SourceOf = %+v, want %+v", of, first[0])
	}

	// One that ran again is told from one that did not.
	if err := e.Start(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Wait(t.Context(), job); err != nil {
		t.Fatal(err)
	}
	if again := sources()[0]; !again.Started.After(begun) {
		t.Errorf("it ran again at %v, want after %v", again.Started, begun)
	}
	if list, err := logs.Sources(t.Context(), job); err != nil || len(list) != 1 || list[0] != (container.LogSource{ID: job}) {
		t.Errorf("of a container: %+v, %v, want itself", list, err)
	}
}
