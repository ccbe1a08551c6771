//go:build linux

package commands

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"reagent/internal/testenv"
	"reagent/protocol"
)

func TestACommandTellsItsOutputAndItsEnd(t *testing.T) {
	l := live(t, t.TempDir())
	code := func(n int) *int { return &n }
	for what, test := range map[string]struct {
		ask            func(*Question)
		state          string
		code           *int
		signal, error  string
		stdout, stderr string
	}{
		"success":       {ask: func(q *Question) { q.Shell = "echo good" }, state: "exited", code: code(0), stdout: "good\n"},
		"exit 3":        {ask: func(q *Question) { q.Shell = "echo bad >&2; exit 3" }, state: "exited", code: code(3), stderr: "bad\n"},
		"a signal":      {ask: func(q *Question) { q.Shell = "echo a; kill -9 $$" }, state: "signaled", signal: "SIGKILL", stdout: "a\n"},
		"no shell":      {ask: func(q *Question) { q.Argv = []string{"printf", "%s|", "a b", "$HOME"} }, state: "exited", code: code(0), stdout: "a b|$HOME|"},
		"folder":        {ask: func(q *Question) { q.Shell, q.Cwd = "pwd", "/usr" }, state: "exited", code: code(0), stdout: "/usr\n"},
		"variables":     {ask: func(q *Question) { q.Shell, q.Env = "echo $A", map[string]string{"A": "x y"} }, state: "exited", code: code(0), stdout: "x y\n"},
		"empty input":   {ask: func(q *Question) { q.Argv = []string{"cat"} }, state: "exited", code: code(0)},
		"no program":    {ask: func(q *Question) { q.Argv = []string{"nothing-here"} }, state: "failed", error: `exec: "nothing-here": executable file not found in $PATH`},
		"no folder":     {ask: func(q *Question) { q.Shell, q.Cwd = "pwd", "/nowhere" }, state: "failed", error: "/nowhere"},
		"invalid UTF-8": {ask: func(q *Question) { q.Shell = `printf 'a\377b'` }, state: "exited", code: code(0), stdout: "a\uFFFDb"},
		"binary": {
			ask:   func(q *Question) { q.Shell, q.Base64 = `printf 'a\377\000b'`, true },
			state: "exited", code: code(0), stdout: base64.StdEncoding.EncodeToString([]byte("a\xff\x00b")),
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			q := shell("")
			test.ask(&q)
			end := l.do(t, q)
			if end.Type != "end" || end.ID != q.ID || end.State != test.state || end.Signal != test.signal || !strings.Contains(end.Error, test.error) ||
				(end.ExitCode == nil) != (test.code == nil) || test.code != nil && *end.ExitCode != *test.code {
				t.Errorf("end = %+v, want %+v", end, test)
			}
			if value(end.Stdout) != test.stdout || value(end.Stderr) != test.stderr || end.Truncated || end.DroppedBytes != 0 || end.Replayed {
				t.Errorf("output %q, %q (%+v), want %q, %q", value(end.Stdout), value(end.Stderr), end, test.stdout, test.stderr)
			}
			if _, err := time.Parse(time.RFC3339Nano, end.Started); err != nil {
				t.Errorf("started: %v", err)
			}
		})
	}
}

func TestACommandSeesNothingOfTheAgentsOwnEnvironment(t *testing.T) {
	t.Setenv("REAGENT_SECRET", "s3cret")
	t.Setenv("LANG", "C.UTF-8")
	l := live(t, t.TempDir())
	env := value(l.do(t, shell("env")).Stdout)
	if strings.Contains(env, "s3cret") {
		t.Errorf("the agent's variables are the command's:\n%s", env)
	}
	for _, name := range []string{"PATH=", "HOME=", "USER=", "LOGNAME=", "LANG=C.UTF-8"} {
		if !strings.Contains("\n"+env, "\n"+name) {
			t.Errorf("no %s in\n%s", name, env)
		}
	}
}

func TestTheSameQuestionIsAnsweredTwiceAndRunOnce(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(t.TempDir(), "ran")
	l := live(t, dir)
	q := shell("echo x >> " + mark + "; echo out; echo err >&2; exit 2")
	begun := 0
	q.Begins = func() { begun++ }
	first := l.do(t, q)
	fetch := Question{Caller: "3", RunCommandArgs: protocol.RunCommandArgs{ID: q.ID}}
	check := func(l *life, when string) {
		t.Helper()
		for what, ask := range map[string]Question{"again": q, "fetched": fetch} {
			end := l.do(t, ask)
			if !exited(end, 2) || !end.Replayed || value(end.Stdout) != "out\n" || value(end.Stderr) != "err\n" || end.Started != first.Started || end.DurationMS != first.DurationMS {
				t.Errorf("%s %s: %+v, want the first result %+v", what, when, end, first)
			}
		}
		for what, ask := range map[string]struct {
			change func(*Question)
			want   string
		}{
			"another caller":     {func(q *Question) { q.Caller = "4" }, "execution id already used"},
			"other arguments":    {func(q *Question) { q.Shell = "echo other" }, "execution id already used"},
			"other variables":    {func(q *Question) { q.Env = map[string]string{"A": "b"} }, "execution id already used"},
			"another's result":   {func(q *Question) { *q = fetch; q.Caller = "4" }, "execution id already used"},
			"nobody's result":    {func(q *Question) { *q = fetch; q.ID = newID() }, "execution not found"},
			"a result elsewhere": {func(q *Question) { *q = fetch; q.Container = "prod_6_web" }, "execution not found"},
		} {
			other := q
			ask.change(&other)
			if _, err := l.Do(t.Context(), other); err == nil || err.Error() != ask.want {
				t.Errorf("%s %s: %v, want %s", what, when, err, ask.want)
			}
		}
	}
	check(l, "in the same life")
	l.end()
	check(live(t, dir), "in the next life")
	if ran, err := os.ReadFile(mark); err != nil || string(ran) != "x\n" || begun != 1 {
		t.Errorf("it ran %q times, %v, and was said to begin %d times, want once", ran, err, begun)
	}
}

func TestManyCallsOfOneCommandShareIt(t *testing.T) {
	l := live(t, t.TempDir())
	gate := filepath.Join(t.TempDir(), "gate")
	q := shell("echo begun; until [ -e " + gate + " ]; do sleep 0.02; done; echo ended")
	p := newTaking()
	watched := q
	watched.Progress = p.take
	calls := []<-chan answered{l.begin(t.Context(), watched)}
	<-p.first
	late := newTaking()
	watched.Progress = late.take
	calls = append(calls, l.begin(t.Context(), watched), l.begin(t.Context(), q))
	<-late.first
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, call := range calls {
		got := <-call
		if got.err != nil || !exited(got.end, 0) {
			t.Errorf("call %d: %+v, %v", i, got.end, got.err)
		}
		if out := value(got.end.Stdout); i == 2 && out != "begun\nended\n" || i < 2 && got.end.Stdout != nil {
			t.Errorf("call %d: output in the answer %q", i, out)
		}
	}
	for i, p := range []*taking{p, late} {
		if got := p.text(t, "stdout"); got != "begun\nended\n" {
			t.Errorf("parts of call %d: %q", i, got)
		}
	}
}

func TestTimeLimitCancelAndStopEndEverything(t *testing.T) {
	t.Parallel()
	dir, all := t.TempDir(), t
	l := live(all, dir)
	for _, what := range []string{protocol.CommandTimedOut, protocol.CommandCanceled, "stopped", protocol.CommandInterrupted} {
		t.Run(what, func(t *testing.T) {
			mark := newMark(t)
			q := shell("sleep " + mark + " & (trap '' TERM; sleep " + mark + ") & setsid sleep " + mark + " & (setsid sleep " + mark + " &); echo up; wait; echo no")
			if what == protocol.CommandTimedOut {
				q.Timeout = 400 * time.Millisecond
			}
			p := newTaking()
			q.Progress = p.take
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			answers := l.begin(ctx, q)
			<-p.first
			testenv.WaitFor(t, "its children run", func() bool { return len(sleepers(t, mark)) == 4 || what == protocol.CommandTimedOut })
			want := what
			switch what {
			case protocol.CommandCanceled:
				cancel()
				if got := <-answers; !errors.Is(got.err, context.Canceled) {
					t.Errorf("the canceled call: %+v, %v", got.end, got.err)
				}
				q.Progress = nil
				answers = l.begin(t.Context(), q)
			case "stopped":
				want = protocol.CommandCanceled
				end, err := l.Stop(t.Context(), q.ID, "")
				if err != nil || end.State != want || end.Stdout != nil {
					t.Errorf("Stop = %+v, %v", end, err)
				}
			case protocol.CommandInterrupted:
				l.end()
			}
			got := <-answers
			if got.err != nil || got.end.State != want || got.end.ExitCode != nil {
				t.Errorf("answer = %+v, %v, want %s", got.end, got.err, want)
			}
			if left := sleepers(t, mark); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
			if what == protocol.CommandInterrupted {
				l = live(all, dir)
			}
			if end, err := l.Stop(t.Context(), q.ID, ""); err != nil || end.State != want {
				t.Errorf("a later Stop = %+v, %v, want %s", end, err, want)
			}
		})
	}
	if _, err := l.Stop(t.Context(), newID(), ""); err == nil || err.Error() != "execution not found" {
		t.Errorf("Stop of nothing = %v", err)
	}
}

func TestALostLinkOrADetachedCallEndsNothing(t *testing.T) {
	var lost atomic.Bool
	l := live(t, t.TempDir(), func(c *Config) { c.Canceled = func(context.Context) bool { return !lost.Load() } })
	for _, detached := range []bool{false, true} {
		lost.Store(!detached)
		gate := filepath.Join(t.TempDir(), "gate")
		q := shell("echo begun; until [ -e " + gate + " ]; do sleep 0.02; done; echo ended")
		q.Detach = detached
		p := newTaking()
		q.Progress = p.take
		ctx, cancel := context.WithCancel(t.Context())
		answers := l.begin(ctx, q)
		<-p.first
		cancel()
		if got := <-answers; got.err == nil {
			t.Errorf("the call that ended: %+v", got.end)
		}
		if err := os.WriteFile(gate, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		q.Progress = nil
		if end := l.do(t, q); !exited(end, 0) || value(end.Stdout) != "begun\nended\n" {
			t.Errorf("detached %t: %+v", detached, end)
		}
	}
}

func TestTooMuchOutputIsCountedAndNotKept(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := live(t, dir)
	const printed = 10 << 20
	q := shell(fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x; echo end >&2", printed))
	end := l.do(t, q)
	if !exited(end, 0) || end.StdoutBytes != printed || end.StderrBytes != 4 || !end.Truncated ||
		end.DroppedBytes != printed+4-protocol.CommandOutput || len(*end.Stdout) != protocol.CommandOutput || *end.Stderr != "" {
		out := len(*end.Stdout)
		end.Stdout = nil
		t.Errorf("%d bytes, %+v", out, end)
	}
	q = shell(q.Shell)
	q.MaxOutput = protocol.MaxCommandOutput
	p := newTaking()
	q.Progress = p.take
	end = l.do(t, q)
	if got := p.text(t, "stdout"); !exited(end, 0) || len(got) != printed || end.Truncated || end.DroppedBytes != 0 || end.Stdout != nil {
		t.Errorf("in parts: %d bytes, %+v", len(got), end)
	}
	q.Progress = nil // what is replayed has to fit into one message
	end = l.do(t, q)
	if size := len(*end.Stdout); !end.Replayed || !end.Truncated || end.DroppedBytes != 0 || size < 7<<20 || size > 8<<20 {
		t.Errorf("replayed: %d bytes, truncated %t, dropped %d", size, end.Truncated, end.DroppedBytes)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(files) == 0 {
		t.Error(files, err)
	} else {
		for _, file := range files {
			if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v, want it private", file, info.Mode(), err)
			}
		}
	}
}

func TestASlowTakerHoldsNobodyUpAndLosesNothing(t *testing.T) {
	l := live(t, t.TempDir())
	q := shell("head -c 4000000 /dev/zero | tr '\\0' y")
	q.MaxOutput = protocol.MaxCommandOutput
	p := newTaking()
	wait := make(chan struct{})
	slow := q
	slow.Progress = func(ctx context.Context, c protocol.CommandChunk) error {
		<-wait
		return p.take(ctx, c)
	}
	answers := l.begin(t.Context(), slow)
	testenv.WaitFor(t, "the command has ended", func() bool {
		end, err := l.Do(t.Context(), q)
		return err == nil && exited(end, 0)
	})
	close(wait)
	if got := <-answers; got.err != nil || got.end.DroppedBytes != 0 || got.end.Replayed {
		t.Errorf("%+v, %v", got.end, got.err)
	}
	if got := p.text(t, "stdout"); len(got) != 4000000 {
		t.Errorf("%d bytes came", len(got))
	}
}

func TestCharactersAreNeverCutApart(t *testing.T) {
	l := live(t, t.TempDir())
	// Written byte by byte, so that each read may end in the midst of one.
	q := shell(`for i in 1 2 3 4 5 6 7 8; do printf '\342'; printf '\202'; printf '\254'; done; i=0; while [ $i -lt 3000 ]; do printf '€ä€€😀x'; i=$((i+1)); done`)
	p := newTaking()
	q.Progress = p.take
	l.do(t, q)
	want := strings.Repeat("€", 8) + strings.Repeat("€ä€€😀x", 3000)
	if got := p.text(t, "stdout"); got != want {
		t.Errorf("%d bytes, want %d; replaced: %d", len(got), len(want), strings.Count(got, "\uFFFD"))
	}
	for _, c := range p.chunks {
		if !utf8.ValidString(c.Data) {
			t.Errorf("part %d: %q", c.Seq, c.Data)
		}
	}
}

func TestOutputOfAnyBytesComesBackWhole(t *testing.T) {
	o := newOutput(1<<20, testStore(t), newID())
	var want [2]bytes.Buffer
	part := make([]byte, 0, 70000)
	for i := range 70000 {
		part = append(part, byte(i*i>>3), byte(0xf0|i))
	}
	for i := 0; i < len(part); i += 1 + i%977 {
		stream, piece := i&1, part[i:min(len(part), i+1+i%977)]
		want[stream].Write(piece)
		o.add(stream, piece)
	}
	o.finish()
	stdout, stderr, cut := o.fit(true)
	for i, text := range []string{stdout, stderr} {
		if got, err := base64.StdEncoding.DecodeString(text); err != nil || cut || !bytes.Equal(got, want[i].Bytes()) {
			t.Errorf("stream %d: %d bytes, %v, cut %t, want the same %d", i, len(got), err, cut, want[i].Len())
		}
	}
}

func TestManyAtOnceAreRunAndMoreAreRefused(t *testing.T) {
	l := live(t, t.TempDir())
	gate := filepath.Join(t.TempDir(), "gate")
	const many = 20
	var calls []<-chan answered
	for i := range many {
		p := newTaking()
		q := shell(fmt.Sprintf("echo %d; until [ -e %s ]; do sleep 0.05; done; exit %d", i, gate, i))
		q.Progress, q.Caller = p.take, strconv.Itoa(i%2)
		calls = append(calls, l.begin(t.Context(), q))
		<-p.first
	}
	for _, refused := range []func() error{
		func() error { _, err := l.Do(t.Context(), shell("true")); return err },
		func() error {
			_, err := l.Execute(t.Context(), protocol.ExecuteCmdArgs{Cmd: "true"}, "3", nil)
			return err
		},
	} {
		if err := refused(); err == nil || err.Error() != "too many commands" {
			t.Errorf("one more = %v", err)
		}
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for i, call := range calls {
		if got := <-call; got.err != nil || !exited(got.end, i) {
			t.Errorf("%d: %+v, %v", i, got.end, got.err)
		}
	}
	if end := l.do(t, shell("true")); !exited(end, 0) {
		t.Errorf("afterwards: %+v", end)
	}
}

func TestNothingRunsAgainstThePolicy(t *testing.T) {
	dir := t.TempDir()
	allowed := live(t, dir)
	q := shell("echo secret")
	allowed.do(t, q)
	allowed.end()
	l := live(t, dir, func(c *Config) { c.Allowed = false })
	fetch := Question{Caller: "3", RunCommandArgs: protocol.RunCommandArgs{ID: q.ID}}
	unknown := fetch
	unknown.ID = newID()
	for what, ask := range map[string]func() error{
		"run":                 func() error { _, err := l.Do(t.Context(), shell("true")); return err },
		"again":               func() error { _, err := l.Do(t.Context(), q); return err },
		"a result of before":  func() error { _, err := l.Do(t.Context(), fetch); return err },
		"a result of nothing": func() error { _, err := l.Do(t.Context(), unknown); return err },
		"execute": func() error {
			_, err := l.Execute(t.Context(), protocol.ExecuteCmdArgs{Cmd: "true"}, "3", nil)
			return err
		},
		"execute in background": func() error {
			_, err := l.ExecuteInBackground(t.Context(), protocol.ExecuteCmdArgs{Cmd: "true"}, "3", nil)
			return err
		},
	} {
		err := ask()
		var refused *protocol.Error
		if !errors.As(err, &refused) || refused.Code != protocol.CodeDisabled ||
			!strings.Contains(err.Error(), "command execution is disabled on this device") || !strings.Contains(err.Error(), "policy.commands") {
			t.Errorf("%s: %v, want the policy's refusal", what, err)
		}
	}
}

func TestWhatIsLeftInTheBackgroundLivesAndHoldsNobodyUp(t *testing.T) {
	l := live(t, t.TempDir())
	mark := newMark(t)
	end := l.do(t, shell("sleep "+mark+" & (setsid sleep "+mark+" &); echo started"))
	if !exited(end, 0) || value(end.Stdout) != "started\n" {
		t.Errorf("%+v", end)
	}
	another := shell("sleep 300")
	another.Timeout = 100 * time.Millisecond
	if end := l.do(t, another); end.State != protocol.CommandTimedOut {
		t.Errorf("another one: %+v", end)
	}
	l.end()
	if left := sleepers(t, mark); len(left) != 2 {
		t.Errorf("left in the background: %d, want both", len(left))
	}
}
