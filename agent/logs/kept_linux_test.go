package logs

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	dockercontainer "github.com/docker/docker/api/types/container"
	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/persistence/journal"
	"reagent/protocol"
)

// What real containers print is kept over restarts of theirs and of the agent,
// and when they are gone; also what has no end, and what is not text.
func TestRealContainersLeaveTheirLogBehind(t *testing.T) {
	docker := testenv.Docker(t)
	engine, err := container.New(container.Config{Host: docker.Host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	ref := docker.Prefix + "/kept:1"
	testenv.BuildImage(t, docker, ref, testenv.App{Shell: true})
	const script = `echo out; echo err >&2; head -c 20000 /dev/zero | tr '\0' x; echo; printf 'a\rb\377\n'; printf 'no end\377\r'`
	for _, tty := range []bool{true, false} {
		t.Run(fmt.Sprintf("terminal %v", tty), func(t *testing.T) {
			dir := t.TempDir()
			// life runs an agent until all that was printed is kept, by its end.
			life := func(lines int, do func(*Logs)) {
				t.Helper()
				j := journal.Open(journal.Config{Dir: dir, Log: zerolog.Nop()})
				l := New(Config{Serial: "sn-1", Session: &fakeSession{}, Engine: container.AppLogs{Engine: engine}, Journal: j, Log: zerolog.New(zerolog.NewTestWriter(t))})
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- l.Run(ctx) }()
				do(l)
				testenv.Eventually(t, 30*time.Second, func() string { return fmt.Sprintf("%q, want %d lines", texts(t, l), lines) },
					func() bool { return len(texts(t, l)) >= lines })
				cancel()
				<-done
				if err := j.Close(); err != nil {
					t.Fatal(err)
				}
			}
			made, err := docker.API.ContainerCreate(t.Context(), &dockercontainer.Config{Image: ref, Tty: tty, Entrypoint: []string{"/bin/sh", "-c", script}},
				nil, nil, nil, docker.Prefix+fmt.Sprint("-", tty))
			if err != nil {
				t.Fatal(err)
			}
			run := func() {
				t.Helper()
				if err := engine.Start(t.Context(), made.ID); err != nil {
					t.Fatal(err)
				}
				if _, err := engine.Wait(t.Context(), made.ID); err != nil {
					t.Fatal(err)
				}
			}
			life(5, func(l *Logs) { run(); l.Attach(web, made.ID) })
			life(10, func(l *Logs) { l.Attach(web, made.ID); run(); l.Attach(web, made.ID) })
			run()
			life(15, func(l *Logs) {
				c, err := engine.Inspect(t.Context(), made.ID)
				if err != nil {
					t.Fatal(err)
				}
				l.Drain(t.Context(), web, c)
				if err := engine.Remove(t.Context(), made.ID); err != nil {
					t.Fatal(err)
				}
				answer, err := l.Query(t.Context(), protocol.QueryAppLogsArgs{ContainerName: web, Tail: 100})
				if err != nil || answer.Source != protocol.LogFromHistory || answer.Returned != 15 {
					t.Errorf("the log of a container that is gone: %d lines of %s, %v", answer.Returned, answer.Source, err)
				}
			})
			life(15, func(l *Logs) {
				got := texts(t, l)
				for i := range 3 {
					one := got[5*i : 5*i+5]
					for _, want := range []string{"out", "err", "a\rb\ufffd", "no end\ufffd"} {
						if !slices.Contains(one, want) {
							t.Errorf("run %d printed %.40q, want %q among it", i, one, want)
						}
					}
				}
				if len(got) != 15 {
					t.Errorf("%d lines, want 15", len(got))
				}
			})
		})
	}
}

// texts are the lines that are kept.
func texts(t *testing.T, l *Logs) (all []string) {
	t.Helper()
	records, _, err := call(t.Context(), l, protocol.FollowArgs{Oldest: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		for _, n := range r.Lines {
			all = append(all, n.Text)
		}
	}
	return all
}
