package cli

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

const (
	runOnPress  = "re.mgmt.s1.run_command"
	stopOnPress = "re.mgmt.s1.stop_command"
)

// A worker is a device that runs one command: its output comes when the test says
// so, and is kept.
type worker struct {
	mu      sync.Mutex
	changed chan struct{}
	parts   []protocol.CommandChunk
	kept    map[string][]byte
	end     *protocol.CommandEnd
	calls   []map[string]any
	fail    error // of calls, in the middle of them
	lose    int   // parts that do not arrive
	swallow int   // one that never does
	stops   int
}

func (d *desk) worker() *worker {
	b := &worker{changed: make(chan struct{}), kept: map[string][]byte{}}
	d.studio.streams[runOnPress] = b.run
	d.studio.answers[stopOnPress] = func(map[string]any) (any, error) {
		b.change(func() { b.stops++ })
		return map[string]any{}, nil
	}
	return b
}

func (b *worker) change(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *worker) print(stream, data string) {
	b.change(func() {
		b.parts = append(b.parts, protocol.CommandChunk{Type: "output", Seq: uint64(len(b.parts)), Stream: stream, Data: base64.StdEncoding.EncodeToString([]byte(data))})
		b.kept[stream] = append(b.kept[stream], data...)
	})
}

func (b *worker) exit(end protocol.CommandEnd) {
	b.change(func() {
		end.Type, end.StdoutBytes, end.StderrBytes = protocol.LogEnd, uint64(len(b.kept["stdout"])), uint64(len(b.kept["stderr"]))
		b.end = &end
	})
}

// wait returns when the worker is as the test wants it.
func (b *worker) wait(t *testing.T, what string, reached func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		b.mu.Lock()
		done, changed := reached(), b.changed
		b.mu.Unlock()
		if done {
			return
		}
		select {
		case <-changed:
		case <-time.After(5 * time.Millisecond):
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

func (b *worker) run(ctx context.Context, in map[string]any, send func(any)) (any, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.calls = append(b.calls, in)
	fetches := in["argv"] == nil && in["shell"] == nil
	for sent := 0; ; {
		for ; sent < len(b.parts) && !fetches; sent++ {
			if b.swallow > 0 && sent == b.swallow {
				continue
			}
			if b.lose > 0 {
				b.lose--
				continue
			}
			part := b.parts[sent]
			b.mu.Unlock()
			send(part)
			b.mu.Lock()
		}
		switch {
		case b.fail != nil:
			return nil, b.fail
		case b.end != nil && fetches:
			end := *b.end
			end.Replayed = true
			for stream, to := range map[string]**string{"stdout": &end.Stdout, "stderr": &end.Stderr} {
				text := base64.StdEncoding.EncodeToString(b.kept[stream])
				*to = &text
			}
			return end, nil
		case b.end != nil:
			return *b.end, nil
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		}
		b.mu.Lock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// running runs a command until the returned functions interrupt it, or wait for
// its end.
func (d *desk) running(t *testing.T, args ...string) (interrupt func(), end func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, append([]string{"run", "press-07"}, args...)) }()
	return cancel, func() error {
		select {
		case err := <-done:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("it never ended")
		}
	}
}

func exited(code int) protocol.CommandEnd {
	return protocol.CommandEnd{State: protocol.CommandExited, ExitCode: &code}
}

func codeOfExit(err error) int {
	var exit *ExitError
	if errors.As(err, &exit) {
		return exit.Code
	}
	if err != nil {
		return -1
	}
	return 0
}

func TestRunPrintsWhatComesByteForByte(t *testing.T) {
	d := logDesk(t)
	d.env["TOKEN"] = "s3cret"
	b := d.worker()
	_, end := d.running(t, "--timeout", "5m", "--cwd", "/tmp", "--env", "A=b=c", "--env", "TOKEN", "--", "ls", "--all", "-l")
	b.print("stdout", "one\xff\x00")
	d.stdout.waitFor(t, "one\xff\x00")
	b.print("stderr", "oops\n")
	d.stderr.waitFor(t, "oops\n")
	b.exit(exited(3))
	if err := end(); codeOfExit(err) != 3 || errors.Unwrap(err) != nil {
		t.Errorf("run = %v, want the exit code 3 and no message", err)
	}
	if got := d.stdout.String() + "|" + d.stderr.String(); got != "one\xff\x00|oops\n" {
		t.Errorf("printed %q", got)
	}
	in := d.studio.question(t, runOnPress)
	id, _ := in["id"].(string)
	delete(in, "id")
	got, _ := json.Marshal(in)
	want := `{"argv":["ls","--all","-l"],"cwd":"/tmp","detach":true,"encoding":"base64","env":{"A":"b=c","TOKEN":"s3cret"},"max_output":16777216,"timeout_ms":300000}`
	if string(got) != want || len(id) != 36 {
		t.Errorf("asked %s with the id %q, want %s and a UUID", got, id, want)
	}
}

func TestExitCodesOfRun(t *testing.T) {
	for _, c := range []struct {
		claim string
		end   protocol.CommandEnd
		code  int
		told  string
	}{
		{"it went well", exited(0), 0, ""},
		{"it did not", exited(3), 3, ""},
		{"a code of Windows", exited(0x1ff), 0xff, ""},
		{"a signal", protocol.CommandEnd{State: protocol.CommandSignaled, Signal: "SIGKILL"}, 137, "ended by SIGKILL"},
		{"a signal without its prefix", protocol.CommandEnd{State: protocol.CommandSignaled, Signal: "TERM"}, 143, ""},
		{"its time was up", protocol.CommandEnd{State: protocol.CommandTimedOut}, 124, "ended after 1m0s"},
		{"somebody stopped it", protocol.CommandEnd{State: protocol.CommandCanceled}, 130, "stopped on press-07"},
		{"no such program", protocol.CommandEnd{State: protocol.CommandFailed, Error: `exec: "x": executable file not found in $PATH`}, 127, ""},
		{"it may not be run", protocol.CommandEnd{State: protocol.CommandFailed, Error: "permission denied"}, 126, ""},
		{"the agent ended", protocol.CommandEnd{State: protocol.CommandInterrupted}, 125, ""},
		{"of a newer agent", protocol.CommandEnd{State: "paused\x1b"}, 125, ""},
		{"too much output", protocol.CommandEnd{State: protocol.CommandExited, Truncated: true, DroppedBytes: 7}, 0, "bytes left out: 7"},
	} {
		d := logDesk(t)
		d.worker().exit(c.end)
		if err := d.run(t, "run", "press-07", "x"); codeOfExit(err) != c.code {
			t.Errorf("%s: %v with the code %d, want %d", c.claim, err, codeOfExit(err), c.code)
		}
		if got := d.stderr.String(); !strings.Contains(got, c.told) || c.told == "" && got != "" && c.code < 128 {
			t.Errorf("%s: told %q, want %q", c.claim, got, c.told)
		}
	}
	d := logDesk(t)
	d.worker().exit(protocol.CommandEnd{State: protocol.CommandFailed, Error: "not found"})
	if err := d.run(t, "run", "press-07", "df -h | tail"); err == nil || !strings.Contains(err.Error(), "--shell") {
		t.Errorf("a line as a program = %v, want a word on --shell", err)
	}
}

func TestACommandGoesOnOverLostCalls(t *testing.T) {
	d := logDesk(t)
	b := d.worker()
	_, end := d.running(t, "sleep")
	b.print("stdout", "1")
	d.stdout.waitFor(t, "1")

	t.Log("the device leaves, and what is printed meanwhile waits")
	d.press(false)
	b.change(func() { b.fail = &messenger.CallError{URI: protocol.ErrorContract, Args: []any{"callee gone"}} })
	d.stderr.waitFor(t, "press-07 is away: the command goes on there")
	b.change(func() { b.fail = &messenger.CallError{URI: protocol.ErrorNoSuchProcedure} })
	b.print("stdout", "2")
	b.change(func() { b.fail = nil })
	d.stdout.waitFor(t, "12")
	d.stderr.waitFor(t, "press-07 is back")

	t.Log("the connection of this command is lost")
	b.change(func() { b.fail = messenger.ErrOffline })
	b.print("stdout", "3")
	b.change(func() { b.fail = nil })
	d.stdout.waitFor(t, "123")

	t.Log("the router drops a part")
	b.change(func() { b.lose = 1 })
	b.print("stdout", "4")
	b.wait(t, "a part is lost", func() bool { return b.lose == 0 })
	b.print("stdout", "5")
	d.stdout.waitFor(t, "12345")
	b.exit(exited(0))
	if err := end(); err != nil {
		t.Errorf("run = %v", err)
	}
	if got := d.stdout.String(); got != "12345" {
		t.Errorf("printed %q, want each part once", got)
	}
	ids := map[any]bool{}
	for _, call := range b.calls {
		ids[call["id"]] = true
	}
	if len(ids) != 1 {
		t.Errorf("called with the ids %v, want one", ids)
	}
}

func TestAPartThatNeverComesIsInTheKeptResult(t *testing.T) {
	d := logDesk(t)
	b := d.worker()
	b.swallow = 1
	for _, part := range []string{"1", "2", "3"} {
		b.print("stdout", part)
	}
	_, end := d.running(t, "x")
	d.stdout.waitFor(t, "1")
	b.wait(t, "it is asked again", func() bool { return len(b.calls) == triesOfAPart+1 })
	b.exit(exited(0))
	if err := end(); err != nil || d.stdout.String() != "123" {
		t.Errorf("run = %v, printed %q", err, d.stdout.String())
	}
}

func TestTheLastPartMayBeLost(t *testing.T) {
	d := logDesk(t)
	b := d.worker()
	b.lose = 1
	b.print("stderr", "gone")
	b.exit(exited(0))
	if err := d.run(t, "run", "press-07", "x"); err != nil || d.stderr.String() != "gone" {
		t.Errorf("run = %v, printed %q", err, d.stderr.String())
	}
}

func TestAnInterruptStopsTheCommand(t *testing.T) {
	d := logDesk(t)
	b := d.worker()
	interrupt, end := d.running(t, "sleep", "60")
	b.print("stdout", "begun\n")
	d.stdout.waitFor(t, "begun\n")
	interrupt()
	b.wait(t, "it is stopped", func() bool { return b.stops == 1 })
	b.print("stdout", "last words\n")
	b.exit(protocol.CommandEnd{State: protocol.CommandCanceled})
	if err := end(); codeOfExit(err) != 130 {
		t.Errorf("run = %v, want the code 130", err)
	}
	if got := d.stdout.String(); got != "begun\nlast words\n" {
		t.Errorf("printed %q", got)
	}
	id := fmt.Sprint(b.calls[0]["id"])
	if got := d.stderr.String(); !strings.Contains(got, "stopping it on press-07") || !strings.Contains(got, "reagent-studio run press-07 --id "+id) {
		t.Errorf("told %q, want what to do with %s", got, id)
	}
	if in := d.studio.question(t, stopOnPress); in["id"] != id {
		t.Errorf("stopped %v, want %s", in, id)
	}
}

func TestAnInterruptOfWhatDoesNotAnswerLeavesIt(t *testing.T) {
	d := logDesk(t)
	b := d.worker()
	d.studio.answers[stopOnPress] = refuse(protocol.CodeUnavailable, "not now")
	interrupt, end := d.running(t, "sleep")
	b.print("stdout", "begun\n")
	d.stdout.waitFor(t, "begun\n")
	interrupt()
	if err := end(); codeOfExit(err) != 130 {
		t.Errorf("run = %v, want the code 130", err)
	}
	if got := d.stderr.String(); !strings.Contains(got, "press-07 does not say that it ended") {
		t.Errorf("told %q", got)
	}
}

func TestWhatBecameOfACommandIsAskedLater(t *testing.T) {
	d := logDesk(t)
	b := d.worker()
	b.print("stdout", "out")
	b.print("stderr", "err")
	b.exit(exited(4))
	const id = "6f1b9a0e-0000-4000-8000-000000000000"
	if err := d.run(t, "run", "press-07", "--id", id); codeOfExit(err) != 4 || d.stdout.String() != "out" || d.stderr.String() != "err" {
		t.Errorf("run --id = %v, printed %q and %q", err, d.stdout.String(), d.stderr.String())
	}
	if in := d.studio.question(t, runOnPress); len(in) != 3 || in["id"] != id || in["detach"] != true {
		t.Errorf("asked %v", in)
	}
}

func TestRunForPrograms(t *testing.T) {
	d := logDesk(t)
	b := d.worker()
	b.print("stdout", "one\xff")
	b.exit(exited(4))
	if err := d.run(t, "run", "press-07", "x", "--output", "json"); codeOfExit(err) != 4 {
		t.Errorf("run = %v, want the code 4", err)
	}
	var got protocol.CommandEnd
	if err := json.Unmarshal([]byte(d.stdout.String()), &got); err != nil || got.Stdout == nil || *got.Stdout != "one\ufffd" || *got.Stderr != "" || *got.ExitCode != 4 {
		t.Errorf("printed %s, %v", d.stdout.String(), err)
	}
}

func TestRunInsideAnApp(t *testing.T) {
	d := logDesk(t)
	b := d.worker()
	b.exit(exited(0))
	if err := d.run(t, "run", "press-07", "--app", "hello", "--shell", "ls | wc"); err != nil {
		t.Fatal(err)
	}
	if in := d.studio.question(t, runOnPress); in["container_name"] != "prod_1_hello" || in["shell"] != "ls | wc" || in["argv"] != nil {
		t.Errorf("asked %v", in)
	}
	d = logDesk(t)
	b = d.worker()
	b.lose = 1
	b.print("stdout", "kept")
	interrupt, end := d.running(t, "--app", "hello", "x")
	b.wait(t, "it runs", func() bool { return b.lose == 0 })
	interrupt()
	b.wait(t, "it is stopped", func() bool { return b.stops == 1 })
	b.exit(protocol.CommandEnd{State: protocol.CommandCanceled})
	_ = end()
	if in := d.studio.question(t, stopOnPress); in["container_name"] != "prod_1_hello" {
		t.Errorf("asked to stop %v, want it where it runs", in)
	}
	if last := b.calls[len(b.calls)-1]; last["container_name"] != "prod_1_hello" || last["argv"] != nil || d.stdout.String() != "kept" {
		t.Errorf("asked for the result of %v and printed %q", last, d.stdout.String())
	}
	if told := d.stderr.String(); !strings.Contains(told, "reagent-studio run press-07 --app hello --id ") {
		t.Errorf("told %q", told)
	}
}

func TestACommandThatIsRefusedSaysWhatToDo(t *testing.T) {
	for _, c := range []struct {
		claim  string
		change func(d *desk)
		want   string
	}{
		{"by the policy", func(d *desk) {
			d.studio.answers[runOnPress] = refuse(protocol.CodeDisabled, "command execution is disabled on this device")
		},
			`command execution is disabled on this device: whoever has the device file of press-07 allows it there with "policy": {"commands": true} and restarts the agent`},
		{"for the privilege", func(d *desk) { d.studio.answers[runOnPress] = refuse(protocol.CodeRefused, "insufficient privileges") }, `reagent-studio grant USER press-07 MAINTAIN`},
		{"off-line", func(d *desk) { d.press(false) }, "press-07 is not on-line"},
		{"an agent without it", func(*desk) {}, "the agent of press-07 has no run_command"},
	} {
		d := logDesk(t)
		c.change(d)
		err := d.run(t, "run", "press-07", "x")
		if codeOfExit(err) != 125 || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v with the code %d, want %q with 125", c.claim, err, codeOfExit(err), c.want)
		}
	}
	for _, args := range []string{"", "--shell x y", "--id a b", "--timeout 2h x", "--timeout 0s x", "--service a x", "--env =x x"} {
		var usage *UsageError
		if err := logDesk(t).run(t, slices.Concat([]string{"run", "press-07"}, strings.Fields(args))...); !errors.As(err, &usage) {
			t.Errorf("run press-07 %s = %v, want a UsageError", args, err)
		}
	}
}

// A stuckWriter takes nothing until it is told to.
type stuckWriter struct {
	free chan struct{}
	lockedBuffer
}

func (s *stuckWriter) Write(p []byte) (int, error) {
	<-s.free
	return s.lockedBuffer.Write(p)
}

func TestASlowTerminalHoldsUpNobody(t *testing.T) {
	slow := &stuckWriter{free: make(chan struct{})}
	s := newSpool(slow, &lockedBuffer{}, func(err error) { t.Error(err) })
	for range 10_000 {
		s.add(protocol.StreamStdout, []byte("x"))
	}
	close(slow.free)
	if err := s.close(); err != nil || len(slow.String()) != 10_000 || s.count(protocol.StreamStdout) != 10_000 {
		t.Errorf("close = %v after %d bytes, want nil after 10000", err, len(slow.String()))
	}
}

type brokenWriter struct{ err error }

func (b brokenWriter) Write([]byte) (int, error) { return 0, b.err }

func TestOutputThatCannotBeWrittenEndsTheCommand(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		want string
	}{
		{errors.New("no space left"), 125, "the output cannot be written: no space left"},
		{&os.PathError{Op: "write", Path: "|1", Err: syscall.EPIPE}, 141, ""}, // run … | head
	} {
		d := logDesk(t)
		b := d.worker()
		d.Program.Stdout = brokenWriter{c.err}
		_, end := d.running(t, "yes")
		b.print("stdout", "y")
		b.wait(t, "it is stopped", func() bool { return b.stops == 1 })
		b.exit(protocol.CommandEnd{State: protocol.CommandCanceled})
		err := end()
		if why := errors.Unwrap(err); codeOfExit(err) != c.code || (why == nil) != (c.want == "") || why != nil && why.Error() != c.want {
			t.Errorf("%v: run = %v with the code %d, want %q with %d", c.err, err, codeOfExit(err), c.want, c.code)
		}
		if got := d.stderr.String(); got != "" {
			t.Errorf("%v: told %q, want nothing that nobody did", c.err, got)
		}
	}
}
