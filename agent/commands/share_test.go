//go:build linux

package commands

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"reagent/protocol"
)

func TestFewAnswersWithOutputAreThereAtOnce(t *testing.T) {
	l := live(t, t.TempDir(), func(c *Config) { c.Answers = 1 })
	q := shell("echo out")
	var sent func()
	held := q
	held.Large = func(gone func()) { sent = gone }
	l.do(t, held)
	for what, ask := range map[string]Question{"a kept result": q, "a new one": shell("true")} {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if end, err := l.Do(ctx, ask); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %+v, %v, want that it waits for the other", what, end, err)
		}
		cancel()
	}
	told := shell("true")
	told.Progress = newTaking().take
	l.do(t, told) // carries none
	sent()
	sent() // once more does no harm
	for range 2 {
		if end := l.do(t, q); value(end.Stdout) != "out\n" {
			t.Errorf("after it was sent: %+v", end)
		}
	}
}

func TestNobodyShutsTheOthersOut(t *testing.T) {
	l := live(t, t.TempDir(), func(c *Config) { c.Running, c.Kept, c.CallsOfOne, c.Followers = 6, 8, 6, 3 })
	refused := func(q Question, want string) {
		t.Helper()
		if end, err := l.Do(t.Context(), q); err == nil || err.Error() != want {
			t.Errorf("%+v, %v, want %s", end, err, want)
		}
	}
	others := func(when string) {
		t.Helper()
		q := shell("echo fine")
		q.Caller = "4"
		if end := l.do(t, q); value(end.Stdout) != "fine\n" {
			t.Errorf("another one %s: %+v", when, end)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var calls []<-chan answered
	follow := func(q Question) {
		p := newTaking()
		q.Progress = p.take
		calls = append(calls, l.begin(ctx, q))
		<-p.first
	}
	attach := func(q Question) Question {
		return Question{Caller: q.Caller, RunCommandArgs: protocol.RunCommandArgs{ID: q.ID, Detach: true}}
	}
	var running []Question
	for i := range 3 {
		running = append(running, shell("echo up; exec sleep 300"))
		running[i].Detach = true
		follow(running[i])
	}
	refused(shell("true"), "too many commands")
	others("with commands that run")
	follow(attach(running[0]))
	follow(attach(running[0]))
	refused(attach(running[0]), "too many followers")
	others("with followers")
	follow(attach(running[1]))
	refused(attach(running[2]), "too many followers") // of this caller
	others("with calls")
	cancel()
	for _, call := range calls {
		<-call
	}
	for _, q := range running {
		if _, err := l.Stop(t.Context(), q.ID, ""); err != nil {
			t.Fatal(err)
		}
	}
	l.do(t, shell("true")) // the fourth result
	refused(shell("true"), "too many commands")
	others("with results")
}

// ghost is a program whose end nobody sees, and whose output nobody ends.
type ghost struct{ given, closed chan struct{} }

func (g ghost) output(stdout, _ func([]byte)) {
	for chatting := true; chatting; {
		stdout([]byte("x"))
		select {
		case <-g.closed:
			chatting = false
		case <-time.After(time.Millisecond):
		}
	}
}
func (g ghost) close()                    { close(g.closed) }
func (g ghost) wait() ending              { <-g.given; return ending{err: errors.New("unknown")} }
func (g ghost) end(context.Context) error { return nil }
func (g ghost) giveUp()                   { close(g.given) }

func TestAnEndThatNobodySeesHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun, stop := time.Now(), make(chan struct{})
		close(stop)
		bounds := New(Config{}).limits(time.Hour)
		_, state, err := supervise(t.Context(), ghost{make(chan struct{}), make(chan struct{})}, bounds, stop, func([]byte) {}, nil)
		if took := time.Since(begun); state != protocol.CommandCanceled || !errors.Is(err, errUnseen) || took > 21*time.Second {
			t.Errorf("%s, %v after %v, want it given up after 20 s", state, err, took)
		}
	})
}

func TestOneWhoLeavesEndsNothingForWhichOthersWait(t *testing.T) {
	l := live(t, t.TempDir())
	gate := filepath.Join(t.TempDir(), "gate")
	q := shell("echo begun; until [ -e " + gate + " ]; do sleep 0.02; done; echo ended")
	stale, vanish := context.WithCancel(t.Context())
	defer vanish()
	var calls []<-chan answered
	for _, ctx := range []context.Context{stale, t.Context()} {
		p := newTaking()
		q.Progress = p.take
		calls = append(calls, l.begin(ctx, q))
		<-p.first
	}
	vanish()
	if got := <-calls[0]; !errors.Is(got.err, context.Canceled) {
		t.Errorf("the one who left: %+v, %v", got.end, got.err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := <-calls[1]; got.err != nil || !exited(got.end, 0) {
		t.Errorf("the other: %+v, %v, want that it ended by itself", got.end, got.err)
	}
}
