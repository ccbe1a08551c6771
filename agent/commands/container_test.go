//go:build linux

package commands

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/protocol"
)

// inside begins a life in which app is a container of ours and foreign one that
// is not.
func insideApps(t *testing.T, change ...func(*Config)) (l *life, engine *container.Engine, app, foreign string) {
	t.Helper()
	docker := testenv.Docker(t)
	image := docker.Prefix + "/app:1"
	testenv.BuildImage(t, docker, image, testenv.App{Shell: true})
	engine, err := container.New(container.Config{Host: docker.Host, Grace: 500 * time.Millisecond, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	app, foreign = docker.Prefix+"-app", docker.Prefix+"-foreign"
	for _, name := range []string{app, foreign} {
		if _, _, err := engine.Run(t.Context(), container.Spec{Name: name, Image: image, Labels: map[string]string{"ours": name[len(docker.Prefix):]}}); err != nil {
			t.Fatal(err)
		}
	}
	withEngine := func(c *Config) {
		c.Allowed, c.Engine = false, engine
		c.Owns = func(c container.Container) bool { return c.Labels["ours"] == "-app" }
	}
	return live(t, t.TempDir(), append([]func(*Config){withEngine}, change...)...), engine, app, foreign
}

func TestCommandsRunInTheContainersOfAppsWhateverThePolicySays(t *testing.T) {
	t.Parallel()
	l, _, app, foreign := insideApps(t)
	within := func(name, line string) Question {
		q := shell(line)
		q.Container = name
		return q
	}
	for what, test := range map[string]struct {
		ask                          func(*Question)
		state, stdout, stderr, error string
		code                         int
	}{
		"success":    {func(q *Question) { q.Shell = "echo $A $(pwd)"; q.Env = map[string]string{"A": "x"}; q.Cwd = "/bin" }, "exited", "x /bin\n", "", "", 0},
		"exit 3":     {func(q *Question) { q.Shell = "echo e >&2; exit 3" }, "exited", "", "e\n", "", 3},
		"no program": {func(q *Question) { q.Argv = []string{"nothing-here"} }, "failed", "", "", `exec: "nothing-here"`, -1},
		"a limit":    {func(q *Question) { q.Shell = "echo up; sleep 300 & wait"; q.Timeout = time.Second }, "timeout", "up\n", "", "", -1},
		"10 MB":      {func(q *Question) { q.Shell = "head -c 10485760 /dev/zero"; q.MaxOutput = 10 }, "exited", strings.Repeat("\x00", 10), "", "", 0},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			q := within(app, "")
			test.ask(&q)
			end := l.do(t, q)
			if end.State != test.state || value(end.Stdout) != test.stdout || value(end.Stderr) != test.stderr || !strings.Contains(end.Error, test.error) ||
				test.code >= 0 && !exited(end, test.code) {
				t.Errorf("%+v, %q, %q, want %+v", end, value(end.Stdout), value(end.Stderr), test)
			}
			fetch := Question{Caller: q.Caller, RunCommandArgs: protocol.RunCommandArgs{ID: q.ID, Container: app}}
			if again := l.do(t, fetch); again.State != end.State || value(again.Stdout) != value(end.Stdout) || !again.Replayed {
				t.Errorf("fetched: %+v, want %+v", again, end)
			}
		})
	}
	for what, name := range map[string]string{"a foreign one": foreign, "none": app + "x", "a part of a name": app[:len(app)-1], "a path": "../" + app} {
		_, err := l.Do(t.Context(), within(name, "true"))
		if err == nil || err.Error() != "container not found" {
			t.Errorf("%s: %v, want that it is not found", what, err)
		}
	}
}

func TestAStopInAContainerEndsTheChildren(t *testing.T) {
	t.Parallel()
	l, engine, app, _ := insideApps(t)
	mark := newMark(t)
	q := shell("sleep " + mark + " & (trap '' TERM; sleep " + mark + ") & (setsid sleep " + mark + " &); echo up; wait")
	q.Container = app
	p := newTaking()
	q.Progress = p.take
	answers := l.begin(t.Context(), q)
	<-p.first
	testenv.WaitFor(t, "its children run", func() bool { return len(sleepers(t, mark)) == 3 })
	if _, err := l.Stop(t.Context(), q.ID, "another"); err == nil || err.Error() != "execution not found" {
		t.Errorf("Stop in another container = %v", err)
	}
	if end, err := l.Stop(t.Context(), q.ID, app); err != nil || end.State != protocol.CommandCanceled {
		t.Errorf("Stop = %+v, %v", end, err)
	}
	if got := <-answers; got.err != nil || got.end.State != protocol.CommandCanceled {
		t.Errorf("%+v, %v", got.end, got.err)
	}
	if left := sleepers(t, mark); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if c, err := engine.Inspect(t.Context(), app); err != nil || c.Status != container.StatusRunning {
		t.Errorf("the app's container: %+v, %v", c.Status, err)
	}
}

func TestTheEndOfTheContainerEndsItsCommands(t *testing.T) {
	t.Parallel()
	l, engine, app, _ := insideApps(t)
	q := shell("echo up; sleep 300")
	q.Container = app
	p := newTaking()
	q.Progress = p.take
	answers := l.begin(t.Context(), q)
	<-p.first
	if err := engine.Remove(t.Context(), app); err != nil {
		t.Fatal(err)
	}
	got := <-answers
	gone := got.end.State == protocol.CommandInterrupted && strings.Contains(got.end.Error, "program in container")
	if got.err != nil || !gone && !exited(got.end, 137) { // whichever the engine says first
		t.Errorf("%+v, %v", got.end, got.err)
	}
	if end, err := l.Stop(t.Context(), q.ID, app); err != nil || end.State != got.end.State {
		t.Errorf("afterwards: %+v, %v", end, err)
	}
}

func TestWhatAKillLeavesInAContainerIsEndedLater(t *testing.T) {
	t.Parallel()
	l, engine, app, _ := insideApps(t)
	mark := newMark(t)
	// As a kill would leave them: begun, and no end; the first one noted, the other
	// killed before that.
	var cut []record
	for _, line := range []string{"sleep " + mark + " & wait", "setsid sleep " + mark + " & exec sleep " + mark} {
		r := record{ID: newID(), Caller: "3", Digest: "x", Container: app, Started: time.Now().UTC()}
		x, err := engine.Exec(t.Context(), app, container.ExecSpec{Argv: []string{"/bin/sh", "-c", line}, Mark: r.ID})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		if len(cut) == 0 {
			r.Exec = x.ID()
		}
		cut = append(cut, r)
	}
	testenv.WaitFor(t, "they run", func() bool { return len(sleepers(t, mark)) == 3 })
	l.end()
	for _, r := range cut {
		if err := l.store.write(r); err != nil {
			t.Fatal(err)
		}
	}
	next := live(t, l.cfg.Dir, func(c *Config) { c.Engine, c.Owns = engine, l.cfg.Owns })
	for _, r := range cut {
		if end := next.do(t, Question{Caller: "3", RunCommandArgs: protocol.RunCommandArgs{ID: r.ID}}); end.State != protocol.CommandInterrupted {
			t.Errorf("%+v", end)
		}
	}
	testenv.WaitFor(t, "they have ended", func() bool { return len(sleepers(t, mark)) == 0 })
}

// A changing is an engine of which the answers to Inspect change.
type changing struct {
	*container.Engine
	inspect atomic.Pointer[func() error] // the answer, where it is an error
}

func (c *changing) Inspect(ctx context.Context, idOrName string) (container.Container, error) {
	if inspect := c.inspect.Load(); inspect != nil {
		if err := (*inspect)(); err != nil {
			return container.Container{}, err
		}
	}
	return c.Engine.Inspect(ctx, idOrName)
}

func (c *changing) from(inspect func() error) { c.inspect.Store(&inspect) }

func TestACommandIsAnsweredWithoutItsContainer(t *testing.T) {
	t.Parallel()
	engine := &changing{}
	l, _, app, _ := insideApps(t, func(c *Config) {
		engine.Engine = c.Engine.(*container.Engine)
		c.Engine = engine
	})
	within := func(line string) Question {
		q := shell(line)
		q.Container = app
		return q
	}
	ended := within("echo out; exit 2")
	first := l.do(t, ended)
	running := within("echo up; sleep 300")
	p := newTaking()
	running.Progress = p.take
	answers := []<-chan answered{l.begin(t.Context(), running)}
	<-p.first

	for _, away := range []error{container.ErrNotFound, container.ErrUnavailable} {
		engine.from(func() error { return away })
		if end := l.do(t, ended); !exited(end, 2) || !end.Replayed || value(end.Stdout) != "out\n" || end.Started != first.Started {
			t.Errorf("%v: %+v, want the first result %+v", away, end, first)
		}
		again := newTaking()
		running.Progress = again.take
		answers = append(answers, l.begin(t.Context(), running))
		select {
		case <-again.first:
		case got := <-answers[len(answers)-1]:
			t.Fatalf("%v: %+v, %v, want that it attaches to the command", away, got.end, got.err)
		}
		fresh := away
		if errors.Is(away, container.ErrNotFound) {
			fresh = errOutside
		}
		for what, ask := range map[string]struct {
			change func(*Question)
			want   error
		}{
			"another caller":  {func(q *Question) { q.Caller = "4" }, errUsed},
			"other arguments": {func(q *Question) { q.Shell = "echo other" }, errUsed},
			"another id":      {func(q *Question) { q.ID = newID() }, fresh},
		} {
			for _, q := range []Question{ended, running} {
				ask.change(&q)
				if end, err := l.Do(t.Context(), q); !errors.Is(err, ask.want) {
					t.Errorf("%v, %s: %+v, %v, want %v", away, what, end, err, ask.want)
				}
			}
		}
	}
	if end, err := l.Stop(t.Context(), running.ID, app); err != nil || end.State != protocol.CommandCanceled {
		t.Errorf("Stop = %+v, %v", end, err)
	}
	for i, call := range answers {
		if got := <-call; got.err != nil || got.end.State != protocol.CommandCanceled || got.end.Replayed {
			t.Errorf("call %d: %+v, %v", i, got.end, got.err)
		}
	}
}

func TestEqualCallsAtOnceStartOneProgram(t *testing.T) {
	t.Parallel()
	engine := &changing{}
	l, _, app, _ := insideApps(t, func(c *Config) {
		engine.Engine = c.Engine.(*container.Engine)
		c.Engine = engine
	})
	const calls = 3
	var looking sync.WaitGroup // until all of them have found nothing of it
	looking.Add(calls)
	engine.from(func() error { looking.Done(); looking.Wait(); return nil })
	var begun atomic.Int32
	q := shell("echo $$")
	q.Container = app
	q.Begins = func() { begun.Add(1) }
	var answers []<-chan answered
	for range calls {
		answers = append(answers, l.begin(t.Context(), q))
	}
	pids := map[string]bool{}
	for i, call := range answers {
		got := <-call
		if got.err != nil || !exited(got.end, 0) {
			t.Errorf("call %d: %+v, %v", i, got.end, got.err)
		}
		pids[value(got.end.Stdout)] = true
	}
	if begun.Load() != 1 || len(pids) != 1 {
		t.Errorf("it was begun %d times, as %v, want once", begun.Load(), pids)
	}
}

// away is an engine that does not answer.
type away struct{}

func (away) Inspect(context.Context, string) (container.Container, error) {
	return container.Container{}, container.ErrUnavailable
}
func (away) Exec(context.Context, string, container.ExecSpec) (*container.Exec, error) {
	return nil, container.ErrUnavailable
}
func (away) EndMarked(context.Context, string, string) error { return nil }
func (away) EndExec(context.Context, string) error           { return container.ErrUnavailable }

// late is an engine that answers the third question.
type late struct {
	away
	asked chan string
}

func (l late) EndExec(_ context.Context, id string) error {
	l.asked <- id
	if len(l.asked) < cap(l.asked) {
		return container.ErrUnavailable
	}
	return nil
}

func TestAnEngineThatIsAwayIsAskedAgainToEndWhatIsLeft(t *testing.T) {
	dir := t.TempDir()
	first := live(t, dir)
	first.do(t, shell("true"))
	first.end()
	if err := first.store.write(record{ID: newID(), Container: "prod_6_web", Started: time.Now().UTC(), Exec: "e1"}); err != nil {
		t.Fatal(err)
	}
	engine := late{asked: make(chan string, 3)}
	live(t, dir, func(c *Config) { c.Engine, c.AskAgain = engine, time.Millisecond })
	testenv.WaitFor(t, "the engine was asked until it answered", func() bool { return len(engine.asked) == 3 })
	if id := <-engine.asked; id != "e1" {
		t.Errorf("asked for %q", id)
	}
}

func TestWithoutAnEngineCommandsInContainersSaySo(t *testing.T) {
	l := live(t, t.TempDir(), func(c *Config) { c.Engine = away{} })
	q := shell("true")
	q.Container = "prod_6_web"
	if _, err := l.Do(t.Context(), q); !errors.Is(err, container.ErrUnavailable) {
		t.Errorf("Do = %v, want that no engine answers", err)
	}
	if end := l.do(t, shell("echo here")); value(end.Stdout) != "here\n" {
		t.Errorf("on the device: %+v", end)
	}
}
