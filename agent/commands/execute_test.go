//go:build linux

package commands

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/protocol"
)

func TestExecuteAnswersAsTheContractSays(t *testing.T) {
	l := live(t, t.TempDir())
	for what, test := range map[string]struct {
		args         protocol.ExecuteCmdArgs
		want, failed string
	}{
		"output":     {protocol.ExecuteCmdArgs{Cmd: "printf", Args: []string{"%s\n", "a b", "$HOME"}}, "a b\n$HOME\n", ""},
		"no shell":   {protocol.ExecuteCmdArgs{Cmd: "echo a | cat"}, "", `exec: "echo a | cat": executable file not found in $PATH`},
		"exit 3":     {protocol.ExecuteCmdArgs{Cmd: "sh", Args: []string{"-c", "echo x; exit 3"}}, "", "exit status 3"},
		"a signal":   {protocol.ExecuteCmdArgs{Cmd: "sh", Args: []string{"-c", "kill -9 $$"}}, "", "signal: killed"},
		"stderr":     {protocol.ExecuteCmdArgs{Cmd: "sh", Args: []string{"-c", "echo x; echo y >&2"}}, "x\n", ""},
		"no command": {protocol.ExecuteCmdArgs{}, "", "exec: no command"},
		"a NUL":      {protocol.ExecuteCmdArgs{Cmd: "echo", Args: []string{"a\x00b"}}, "", "exec: an argument holds a NUL"},
		"too much":   {protocol.ExecuteCmdArgs{Cmd: "head", Args: []string{"-c", "9000000", "/dev/zero"}}, "", "the command printed more than an answer takes, and was ended"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			got, err := l.Execute(t.Context(), test.args, "3", nil)
			if got != test.want || (err == nil) != (test.failed == "") || err != nil && err.Error() != test.failed {
				t.Errorf("%.100q, %v, want %q, %s", got, err, test.want, test.failed)
			}
		})
	}
}

func TestACancelEndsWhatExecuteHasStartedAndALostLinkDoesNot(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("lost %t", lost), func(t *testing.T) {
			l := live(t, t.TempDir(), func(c *Config) { c.Canceled = func(context.Context) bool { return !lost } })
			mark := newMark(t)
			ctx, cancel := context.WithCancel(t.Context())
			failed := make(chan error, 1)
			go func() {
				_, err := l.Execute(ctx, protocol.ExecuteCmdArgs{Cmd: "sh", Args: []string{"-c", "sleep " + mark + " & (setsid sleep " + mark + " &); sleep " + mark + "; true"}}, "3", nil)
				failed <- err
			}()
			testenv.WaitFor(t, "it runs", func() bool { return len(sleepers(t, mark)) == 3 })
			cancel()
			if err := <-failed; !errors.Is(err, context.Canceled) {
				t.Errorf("Execute = %v", err)
			}
			if lost {
				if running := len(sleepers(t, mark)); running != 3 {
					t.Errorf("%d run after the link was lost, want all three", running)
				}
				l.end()
			}
			testenv.WaitFor(t, "it has ended with its children", func() bool { return len(sleepers(t, mark)) == 0 })
		})
	}
}

// published is what came to a router.
type published struct {
	mu     sync.Mutex
	lines  []string
	where  string
	reader any
}

func (p *published) publish(_ context.Context, topic string, options map[string]any, args []any, _ map[string]any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines, p.where, p.reader = append(p.lines, fmt.Sprint(args...)), topic, options["eligible_authid"]
	return nil
}

func (p *published) count() int { p.mu.Lock(); defer p.mu.Unlock(); return len(p.lines) }

func TestLinesOfABackgroundProgramArePublishedAfterTheDelay(t *testing.T) {
	p := &published{}
	l := live(t, t.TempDir(), func(c *Config) { c.Publish = p.publish })
	begun := time.Now()
	script := "printf 'one\\ntwo\\r\\n'; echo lost >&2; head -c 100000 /dev/zero | tr '\\0' x; printf '\\n\\nlast\\377'"
	pid, err := l.ExecuteInBackground(t.Context(), protocol.ExecuteCmdArgs{Cmd: "sh", Args: []string{"-c", script}, Delay: 300 * time.Millisecond}, "3", nil)
	if err != nil || pid <= 0 {
		t.Fatalf("pid %d, %v", pid, err)
	}
	testenv.WaitFor(t, "all lines", func() bool { return p.count() == 5 })
	if took := time.Since(begun); took < 300*time.Millisecond {
		t.Errorf("published after %v, want the delay first", took)
	}
	want := []string{"one", "two", strings.Repeat("x", maxLine), "", "last\uFFFD"}
	if !reflect.DeepEqual(p.lines, want) {
		t.Errorf("lines %.50q, want %.50q", p.lines, want)
	}
	if p.where != fmt.Sprintf("re.mgmt.sn-1.cmd_output_%d", pid) || !reflect.DeepEqual(p.reader, []any{"3", "system"}) {
		t.Errorf("published on %s for %v", p.where, p.reader)
	}
	if _, err := l.ExecuteInBackground(t.Context(), protocol.ExecuteCmdArgs{Cmd: "nothing-here"}, "3", nil); err == nil ||
		err.Error() != `command failed to run: exec: "nothing-here": executable file not found in $PATH` {
		t.Errorf("a missing program: %v", err)
	}
}

func TestASlowRouterCostsNoLines(t *testing.T) {
	p := &published{}
	slow := func(ctx context.Context, topic string, options map[string]any, args []any, kwargs map[string]any) error {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-ctx.Done():
		}
		return p.publish(ctx, topic, options, args, kwargs)
	}
	l := live(t, t.TempDir(), func(c *Config) { c.Publish, c.Drain, c.DrainMost = slow, 30*time.Millisecond, 30*time.Millisecond })
	if _, err := l.ExecuteInBackground(t.Context(), protocol.ExecuteCmdArgs{Cmd: "seq", Args: []string{"-f", "%01000g", "60"}}, "3", nil); err != nil {
		t.Fatal(err)
	}
	testenv.WaitFor(t, "all lines", func() bool { return p.count() == 60 })
}

func TestABackgroundProgramEndsWithTheAgentAndIsReaped(t *testing.T) {
	p := &published{}
	l := live(t, t.TempDir(), func(c *Config) { c.Publish = p.publish })
	mark := newMark(t)
	pid, err := l.ExecuteInBackground(t.Context(), protocol.ExecuteCmdArgs{Cmd: "sh", Args: []string{"-c", "echo up; sleep " + mark}}, "system", nil)
	if err != nil {
		t.Fatal(err)
	}
	testenv.WaitFor(t, "it is up", func() bool { return p.count() == 1 && len(sleepers(t, mark)) == 1 })
	if !reflect.DeepEqual(p.reader, []any{"system"}) {
		t.Errorf("published for %v", p.reader)
	}
	l.end()
	if left := sleepers(t, mark); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if exists(pid) {
		t.Errorf("process %d was not reaped", pid)
	}
}
