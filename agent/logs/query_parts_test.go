//go:build linux

package logs

import (
	"slices"
	"strings"
	"testing"
	"time"

	dockercontainer "github.com/docker/docker/api/types/container"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/protocol"
)

func TestRealLogsAreReadBack(t *testing.T) {
	docker := testenv.Docker(t)
	e, err := container.New(container.Config{Host: docker.Host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	ref := docker.Prefix + "/printer:1"
	testenv.BuildImage(t, docker, ref, testenv.App{Env: []string{"TESTAPP_EXIT=0"}})
	printed := func(name string, tty bool, project string, env ...string) (id string) {
		t.Helper()
		labels := map[string]string{}
		if project != "" {
			labels[container.LabelProject] = project
		}
		made, err := docker.API.ContainerCreate(t.Context(), &dockercontainer.Config{Image: ref, Tty: tty, Env: env, Labels: labels}, nil, nil, nil, name)
		if err != nil {
			t.Fatal(err)
		}
		if err := docker.API.ContainerStart(t.Context(), made.ID, dockercontainer.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := e.Wait(t.Context(), made.ID); err != nil {
			t.Fatal(err)
		}
		return made.ID
	}
	l := running(t, nil, &fakeSession{}, func(c *Config) { c.Engine = container.AppLogs{Engine: e} })
	of := func(cn string, change ...func(*protocol.QueryAppLogsArgs)) protocol.AppLogsAnswer {
		t.Helper()
		return query(t, l, append(change, func(q *protocol.QueryAppLogsArgs) { q.ContainerName = cn })...)
	}

	for _, tty := range []bool{false, true} {
		cn := map[bool]string{false: "prod_6_", true: "prod_7_"}[tty] + docker.Prefix
		begun := time.Now()
		long := "long: " + strings.Repeat("é", 30_000) // an engine keeps parts of 16 KiB, and spoils a character that is in two
		id := printed(cn, tty, "", "TESTAPP_LINES=300", "TESTAPP_STDERR="+long)
		a := of(cn, func(q *protocol.QueryAppLogsArgs) { q.Tail = 5000 })
		slices.SortStableFunc(a.Lines, func(a, b string) int { return strings.Compare(a[:4], b[:4]) })
		if len(a.Lines) != 302 || a.Truncated || a.Source != "docker" || a.Lines[0] != "line 1" || a.Lines[299] != "line 300" || a.Lines[300] != long {
			t.Fatalf("tty %v: %d lines of %s, truncated %v, the first %.40q", tty, len(a.Lines), a.Source, a.Truncated, a.Lines[0])
		}
		if oldest, err := time.Parse(time.RFC3339, a.OldestAvailable); err != nil || oldest.Before(begun.Add(-time.Second)) || oldest.After(time.Now()) {
			t.Errorf("oldest_available = %q", a.OldestAvailable)
		}
		for tail := range 4 { // the engine's tail begins in the midst of the long line
			a := of(cn, func(q *protocol.QueryAppLogsArgs) { q.Tail = tail })
			if len(a.Lines) != tail || !a.Truncated || slices.ContainsFunc(a.Lines, func(s string) bool { return strings.Contains(s, "é") && s != long }) {
				t.Errorf("tty %v, tail %d: %d lines, truncated %v", tty, tail, len(a.Lines), a.Truncated)
			}
		}
		stamped := of(cn, func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Timestamps = 5000, true })
		n := slices.IndexFunc(stamped.Lines, func(s string) bool { return strings.HasSuffix(s, " line 100") })
		at, err := time.Parse(time.RFC3339Nano, strings.TrimSuffix(stamped.Lines[n], " line 100"))
		if err != nil {
			t.Fatal(err)
		}
		until := of(cn, func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Until = 2, at })
		if !slices.Contains(until.Lines, "line 100") || len(until.Lines) != 2 || !until.Truncated {
			t.Errorf("tty %v, until line 100: %q, truncated %v", tty, until.Lines, until.Truncated)
		}
		since := of(cn, func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Since = 5000, at.Add(1) })
		if slices.Contains(since.Lines, "line 100") || !slices.Contains(since.Lines, "line 300") || since.Truncated {
			t.Errorf("tty %v, since line 100: %d lines from %.40q on, truncated %v", tty, len(since.Lines), since.Lines[0], since.Truncated)
		}
		if err := e.Remove(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		if a := of(cn); a.Source != "history" {
			t.Errorf("tty %v: source %s of a container that is gone", tty, a.Source)
		}
	}

	cn := "prod_8_" + docker.Prefix
	for _, service := range []string{"alpha-1", "beta-1"} {
		printed(cn+"_compose-"+service, false, cn+"_compose", "TESTAPP_LINES=3")
	}
	a := of(cn, func(q *protocol.QueryAppLogsArgs) { q.Tail = 5 })
	expect(t, "the newest of a project", a.Lines, []string{"alpha-1  | ready", "beta-1   | line 1", "beta-1   | line 2", "beta-1   | line 3", "beta-1   | ready"})
	if a.Source != "compose" || !a.Truncated || a.OldestAvailable == "" {
		t.Errorf("answer %+v", a)
	}
}
