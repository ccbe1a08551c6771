//go:build linux

package commands

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/internal/testenv"
	"reagent/protocol"
)

func testStore(t *testing.T) *store {
	t.Helper()
	s, _, err := openStore(New(Config{Dir: t.TempDir(), Log: zerolog.Nop()}).cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// lifeToBeCut is the argument that makes the test's own binary an agent that will
// be killed.
const lifeToBeCut = "-live-until-killed"

// liveUntilKilled runs one command, whose id and mark are in a file in dir.
func liveUntilKilled(dir string) {
	text, err := os.ReadFile(filepath.Join(dir, "question"))
	if err != nil {
		panic(err)
	}
	id, mark, _ := strings.Cut(string(text), " ")
	c := New(Config{Dir: filepath.Join(dir, "commands"), Allowed: true, Log: zerolog.Nop()})
	go c.Run(context.Background())
	_, _ = c.Do(context.Background(), cutQuestion(dir, id, mark))
}

func cutQuestion(dir, id, mark string) Question {
	q := shell("echo x >> " + filepath.Join(dir, "ran") + "; echo some output; setsid sleep " + mark + " & (trap '' TERM; sleep " + mark + ") & touch " + filepath.Join(dir, "up") + "; wait")
	q.ID = id
	return q
}

func TestAKillDuringARunLeavesItInterruptedAndNothingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	id, mark := newID(), newMark(t)
	if err := os.WriteFile(filepath.Join(dir, "question"), []byte(id+" "+mark), 0o600); err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(os.Args[0], lifeToBeCut, dir)
	agent.Stderr = os.Stderr
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	testenv.WaitFor(t, "the command is up", func() bool {
		_, err := os.Stat(filepath.Join(dir, "up"))
		return err == nil && len(sleepers(t, mark)) == 2
	})
	if err := agent.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()

	l := live(t, filepath.Join(dir, "commands"))
	q := cutQuestion(dir, id, mark)
	for range 2 {
		end := l.do(t, q)
		if end.State != protocol.CommandInterrupted || !end.Replayed || value(end.Stdout) != "some output\n" || end.StdoutBytes != 12 || end.ExitCode != nil {
			t.Errorf("%+v, stdout %q, want it interrupted", end, value(end.Stdout))
		}
	}
	testenv.WaitFor(t, "what it left has ended", func() bool { return len(sleepers(t, mark)) == 0 })
	if ran, err := os.ReadFile(filepath.Join(dir, "ran")); err != nil || string(ran) != "x\n" {
		t.Errorf("it ran %q, %v, want once", ran, err)
	}
}

func TestResultsAreForgottenWhenTheyAreOldAndNotBefore(t *testing.T) {
	dir := t.TempDir()
	l := live(t, dir, func(c *Config) { c.Kept, c.KeptOfOne = 3, 3 })
	questions := []Question{shell("echo 0"), shell("echo 1"), shell("echo 2")}
	for _, q := range questions {
		l.do(t, q)
	}
	if _, err := l.Do(t.Context(), shell("true")); err == nil || err.Error() != "too many commands" {
		t.Errorf("one more than results are kept = %v", err)
	}
	for i, q := range questions {
		if end := l.do(t, q); value(end.Stdout) != fmt.Sprintf("%d\n", i) {
			t.Errorf("%d: %+v", i, end)
		}
	}
	l.end()
	l = live(t, dir, func(c *Config) { c.Kept, c.KeptOfOne, c.KeepAtLeast = 3, 3, time.Nanosecond })
	l.do(t, shell("true"))
	fetch := func(l *life, q Question) error {
		_, err := l.Do(t.Context(), Question{Caller: "3", RunCommandArgs: protocol.RunCommandArgs{ID: q.ID}})
		return err
	}
	if err := fetch(l, questions[0]); err == nil || err.Error() != "execution not found" {
		t.Errorf("the oldest: %v, want it gone", err)
	}
	if err := fetch(l, questions[1]); err != nil {
		t.Errorf("the second: %v", err)
	}
	l.end()
	l = live(t, dir, func(c *Config) { c.KeepAtMost = time.Nanosecond })
	if err := fetch(l, questions[1]); err == nil || err.Error() != "execution not found" {
		t.Errorf("an old one: %v, want it gone", err)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "*-*")); err != nil || len(files) > 0 {
		t.Errorf("files of what is forgotten: %q, %v", files, err)
	}
}

func TestResultsOfAWrongClockDoNotStayForEver(t *testing.T) {
	dir := t.TempDir()
	l := live(t, dir)
	q := shell("echo now")
	l.do(t, q)
	l.end()
	future := record{ID: newID(), Caller: "3", Started: time.Now(), End: &result{State: protocol.CommandExited, Ended: time.Now().AddDate(74, 0, 0)}}
	if err := l.store.write(future); err != nil {
		t.Fatal(err)
	}
	l = live(t, dir, func(c *Config) { c.Kept, c.KeptOfOne = 2, 2 })
	if end := l.do(t, shell("echo next")); !exited(end, 0) { // in its place
		t.Errorf("%+v", end)
	}
	if end := l.do(t, q); !end.Replayed {
		t.Errorf("%+v, want the kept result", end)
	}
}

func TestOutputsGoBeforeResultsDo(t *testing.T) {
	l := live(t, t.TempDir(), func(c *Config) { c.KeptBytes = 300_000 })
	print := func(n int) Question { return shell(fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", n)) }
	old, young, tooMuch := print(200_000), print(200_000), print(400_000)
	l.do(t, old)
	l.do(t, young)
	if end := l.do(t, old); !exited(end, 0) || value(end.Stdout) != "" || end.DroppedBytes != 200_000 || !end.Truncated {
		t.Errorf("the older: %d bytes, %+v, want its result without output", len(value(end.Stdout)), end.State)
	}
	if end := l.do(t, young); len(value(end.Stdout)) != 200_000 || end.Truncated {
		t.Errorf("the younger: %d bytes", len(value(end.Stdout)))
	}
	end := l.do(t, tooMuch)
	if kept := len(value(end.Stdout)); !exited(end, 0) || kept == 0 || kept > 300_000 || end.DroppedBytes != uint64(400_000-kept) {
		t.Errorf("more than all: %d bytes, dropped %d", kept, end.DroppedBytes)
	}
}

func TestDamagedFilesCostTheirResultsOnly(t *testing.T) {
	dir := t.TempDir()
	l := live(t, dir)
	good, torn := shell("echo good"), shell("echo torn; sleep 0.3; echo apart >&2")
	l.do(t, good)
	l.do(t, torn)
	l.end()
	out := filepath.Join(dir, torn.ID+outputSuffix)
	if err := os.Truncate(out, frameHead+5+frameHead+2); err != nil {
		t.Fatal(err)
	}
	bad := newID()
	for name, text := range map[string]string{bad + ".json": "{", bad + ".out": "x", newID() + ".json": `{"id":"another"}`, newID() + ".out": "orphan", "notes": "?"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	l = live(t, dir, func(c *Config) { c.Log = zerolog.Nop() })
	if end := l.do(t, good); value(end.Stdout) != "good\n" || !end.Replayed {
		t.Errorf("the good one: %+v", end)
	}
	if end := l.do(t, torn); value(end.Stdout) != "torn\n" || !exited(end, 0) || !end.Truncated || end.DroppedBytes != 6 {
		t.Errorf("the torn one: %q, %+v", value(end.Stdout), end)
	}
	for range 2 { // in this life and in the next
		again := shell("echo anew")
		again.ID = bad
		if end, err := l.Do(t.Context(), again); !errors.Is(err, errUsed) {
			t.Errorf("an id whose record was damaged: %+v, %v, want that it is used", end, err)
		}
		if end, err := l.Stop(t.Context(), bad, ""); err != nil || end.State != protocol.CommandInterrupted {
			t.Errorf("what became of it: %+v, %v", end, err)
		}
		l.end()
		l = live(t, dir)
	}
}

func TestNothingOfTheArgumentsIsInTheRecords(t *testing.T) {
	dir := t.TempDir()
	var log strings.Builder
	l := live(t, dir, func(c *Config) { c.Log = zerolog.New(&log).Level(zerolog.DebugLevel) })
	q := shell("true s3cret-line")
	q.Env = map[string]string{"PASSWORD": "s3cret-value"}
	l.do(t, q)
	l.end()
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil || strings.Contains(string(text)+log.String(), "s3cret") || !strings.Contains(log.String(), "command ended") {
		t.Errorf("record %s, %v; log %s", text, err, log.String())
	}
}

func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x03abc\x01\x00\x00\x00\x01x"))
	f.Add([]byte("\x02\x00\x00\x00\x01x"))
	f.Add([]byte("\x00\xff\xff\xff\xffx"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s := testStoreIn(t, text)
		total := 0
		_ = s.frames("x", func(f frame) {
			if total += len(f.data); f.stream > 1 {
				t.Errorf("a frame of stream %d", f.stream)
			}
		})
		if total > len(text) {
			t.Errorf("%d bytes out of %d", total, len(text))
		}
	})
}

func testStoreIn(t *testing.T, output []byte) *store {
	t.Helper()
	s := &store{cfg: Config{Dir: t.TempDir()}}
	if err := os.WriteFile(s.outputFile("x"), output, 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}
