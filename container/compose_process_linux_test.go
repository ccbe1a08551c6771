package container_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
)

func TestThePluginGoesBeforeTheHelperAndLateOnesAreFound(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plugin, helper := filepath.Join(dir, "plugins", "docker-compose"), filepath.Join(dir, "reagent-compose")
	c := container.NewCompose(container.ComposeConfig{
		Plugins: []string{filepath.Join(dir, "none"), filepath.Dir(plugin)}, Helper: helper, Temp: dir, Recheck: time.Hour,
	})
	ctx := t.Context()
	uses := func(when, path, version string) {
		t.Helper()
		if gotPath, got, err := c.Backend(ctx); err != nil || gotPath != path || got != version {
			t.Errorf("%s: %s %s, %v; want %s %s", when, gotPath, got, err, path, version)
		}
		if err := c.Supported(ctx); err != nil {
			t.Errorf("%s: supported = %v", when, err)
		}
	}
	lacks := func(when string, words ...string) {
		t.Helper()
		err := c.Up(ctx, container.Project{Name: "x", Dir: dir, File: filepath.Join(dir, "f")}, nil)
		if !errors.Is(err, container.ErrNoCompose) || !errors.Is(c.Supported(ctx), container.ErrNoCompose) {
			t.Errorf("%s: up = %v, want ErrNoCompose", when, err)
			return
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: up = %v, want it to name %s", when, err, w)
			}
		}
	}
	lacks("nothing installed", "docker-compose-plugin", helper)
	if got := c.Program(); got != "" {
		t.Errorf("program = %q, want none", got)
	}
	calls := filepath.Join(dir, "calls")
	script(t, helper, "echo x >>"+calls+"; echo 5.2.0")
	for range 5 {
		uses("the helper alone", helper, "5.2.0")
	}
	if text, _ := os.ReadFile(calls); string(text) != "x\n" {
		t.Errorf("its version was asked for %d times, want once", strings.Count(string(text), "x"))
	}
	script(t, plugin, "echo v2.40.3-desktop.1")
	uses("a plugin installed later", plugin, "2.40.3-desktop.1")
	if got := c.Program(); got != plugin {
		t.Errorf("program = %q, want %q", got, plugin)
	}
	script(t, plugin, "exit 7")
	uses("a plugin that breaks", helper, "5.2.0")
	script(t, plugin, "echo docker-compose version 1.29.2, build unknown")
	uses("compose of the first generation", helper, "5.2.0")
	script(t, plugin, "echo dev #")
	uses("a plugin from source", plugin, "unknown")
	script(t, plugin, "exit 7")
	script(t, helper, "echo cannot go on >&2; exit 8")
	lacks("both broken", plugin, "exit status 7", helper, "cannot go on")
	if err := os.Chmod(helper, 0o644); err != nil {
		t.Fatal(err)
	}
	lacks("not executable", helper)
}

func TestABrokenProgramIsTriedAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	helper := filepath.Join(dir, "reagent-compose")
	script(t, helper, "test -e "+dir+"/mended && echo 5.2.0")
	c := container.NewCompose(container.ComposeConfig{Plugins: []string{}, Helper: helper, Temp: dir, Recheck: time.Millisecond})
	if err := c.Supported(t.Context()); !errors.Is(err, container.ErrNoCompose) {
		t.Fatalf("supported = %v, want ErrNoCompose", err)
	}
	// What it needs comes, and the program itself stays the same file.
	if err := os.WriteFile(filepath.Join(dir, "mended"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.WaitFor(t, "the program is tried again", func() bool { return c.Supported(t.Context()) == nil })
}

func TestOddNamesBecomeNoArguments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	helper, called := filepath.Join(dir, "reagent-compose"), filepath.Join(dir, "called")
	script(t, helper, `[ "$1" = version ] || echo "$@" >>`+called+"; echo 5.2.0")
	c := container.NewCompose(container.ComposeConfig{Plugins: []string{}, Helper: helper, Temp: dir})
	good := container.Project{Name: "p", Dir: dir, File: filepath.Join(dir, "f")}
	for _, p := range []container.Project{
		{Name: "", Dir: dir, File: good.File}, {Name: "-f", Dir: dir, File: good.File}, {Name: "A", Dir: dir, File: good.File},
		{Name: "a b", Dir: dir, File: good.File}, {Name: "a/../b", Dir: dir, File: good.File}, {Name: "a\nb", Dir: dir, File: good.File},
		{Name: "p", Dir: "relative", File: good.File}, {Name: "p", Dir: dir, File: "relative"}, {Name: "p", Dir: dir},
	} {
		if err := c.Up(t.Context(), p, nil); err == nil {
			t.Errorf("up of %q = nil, want an error", p)
		}
		if p.Name != "p" {
			if err := c.Down(t.Context(), p, true, nil); err == nil {
				t.Errorf("down of %q = nil, want an error", p)
			}
		}
	}
	if text, err := os.ReadFile(called); err == nil {
		t.Errorf("it was called with %q", text)
	}
	if err := c.Up(t.Context(), good, nil); err != nil {
		t.Error(err)
	}
}

func TestOperationsTakeTurns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	helper := filepath.Join(dir, "reagent-compose")
	script(t, helper, `case $1 in
version) echo 5.2.0 ;;
up)
	mkdir `+dir+`/busy || exit 1
	while [ ! -e `+dir+`/go ]; do sleep 0.01; done
	rmdir `+dir+`/busy ;;
esac`)
	c := container.NewCompose(container.ComposeConfig{Plugins: []string{}, Helper: helper, Temp: dir, Ups: 1})
	p := container.Project{Name: "p", Dir: dir, File: filepath.Join(dir, "f")}
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := c.Up(t.Context(), p, nil); err != nil {
				t.Error(err)
			}
		})
	}
	testenv.WaitFor(t, "an up runs", func() bool { _, err := os.Stat(filepath.Join(dir, "busy")); return err == nil })
	if err := c.Stop(t.Context(), p, time.Second, nil); err != nil {
		t.Errorf("stop while ups wait for each other = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Up(ctx, p, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled up that waits for its turn = %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all.Wait()
}

func TestAnOperationThatTakesLongHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	helper := filepath.Join(dir, "reagent-compose")
	script(t, helper, `[ "$1" = version ] && { echo 5.2.0; exit; }
echo $$
while [ ! -e `+dir+`/go ]; do sleep 0.01; done`)
	c := container.NewCompose(container.ComposeConfig{Plugins: []string{}, Helper: helper, Temp: dir, Ups: 1, Turn: 10 * time.Millisecond})
	var all sync.WaitGroup
	running := make(chan string, 3)
	for range 3 {
		all.Go(func() {
			err := c.Up(t.Context(), container.Project{Name: "p", Dir: dir, File: filepath.Join(dir, "f")}, func(pid string) { running <- pid })
			if err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		select {
		case <-running:
		case <-time.After(30 * time.Second):
			t.Fatal("ups wait for one that takes long")
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	all.Wait()
}

func TestAnUnwillingProgramIsKilledWithAllItStarted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	helper := filepath.Join(dir, "reagent-compose")
	script(t, helper, `[ "$1" = version ] && { echo 5.2.0; exit; }
trap "" TERM INT
sleep 600 & echo child $!
wait; wait; sleep 600`)
	c := container.NewCompose(container.ComposeConfig{Plugins: []string{}, Helper: helper, Temp: dir, KillAfter: 100 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var child string
	err := c.Up(ctx, container.Project{Name: "p", Dir: dir, File: filepath.Join(dir, "f")}, func(line string) {
		child = strings.TrimPrefix(line, "child ")
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("up = %v, want context.Canceled", err)
	}
	waitGone(t, child)
}

func TestOutputIsBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	helper := filepath.Join(dir, "reagent-compose")
	script(t, helper, `[ "$1" = version ] && { echo 5.2.0; exit; }
i=0; while [ $i -lt 30 ]; do i=$((i+1)); echo line $i; done
head -c 3000000 /dev/zero | tr '\0' x; echo
printf '10%%\r20%%\r30%%\r\n'
printf 'no end of a line' >&2
exit 3`)
	c := container.NewCompose(container.ComposeConfig{Plugins: []string{}, Helper: helper, Temp: dir})
	var said lines
	err := c.Up(t.Context(), container.Project{Name: "p", Dir: dir, File: filepath.Join(dir, "f")}, said.add)
	if err == nil || !strings.HasPrefix(err.Error(), "compose up p: exit status 3: line 9\n") || !strings.HasSuffix(err.Error(), "\n30%\nno end of a line") {
		t.Errorf("up = %.60q…, want the last 25 lines", fmt.Sprint(err))
	}
	if len(err.Error()) > 30<<10 {
		t.Errorf("the error has %d bytes", len(err.Error()))
	}
	got := said.text
	if len(got) != 33 || got[29] != "line 30" || len(got[30]) != 1<<20 || got[31] != "30%" || got[32] != "no end of a line" {
		t.Errorf("%d lines were reported, the longest of %d bytes; want 33, 1 MiB", len(got), len(got[min(30, len(got)-1)]))
	}
}

// What an agent that was killed had started goes on with nothing.
func TestChildrenEndWithTheAgent(t *testing.T) {
	if dir := os.Getenv("TEST_COMPOSE_AGENT"); dir != "" {
		c := container.NewCompose(container.ComposeConfig{Plugins: []string{}, Helper: filepath.Join(dir, "reagent-compose"), Temp: dir})
		err := c.Up(t.Context(), container.Project{Name: "p", Dir: dir, File: filepath.Join(dir, "f")}, func(line string) {
			fmt.Fprintln(os.Stdout, line)
		})
		t.Fatalf("up = %v; it should have been killed", err)
	}
	t.Parallel()
	dir := t.TempDir()
	script(t, filepath.Join(dir, "reagent-compose"), `[ "$1" = version ] && { echo 5.2.0; exit; }
echo "child $$"
exec sleep 600`)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	agent := exec.Command(self, "-test.run", "^TestChildrenEndWithTheAgent$")
	agent.Env = append(os.Environ(), "TEST_COMPOSE_AGENT="+dir)
	out, err := agent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Start(); err != nil {
		t.Fatal(err)
	}
	var said []byte
	for buffer := make([]byte, 256); !bytes.Contains(said, []byte("\n")); {
		n, err := out.Read(buffer)
		said = append(said, buffer[:n]...)
		if err != nil {
			t.Fatalf("the agent said %q, %v", said, err)
		}
	}
	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait() // it was killed
	child := strings.TrimSpace(strings.TrimPrefix(string(said), "child "))
	waitGone(t, child)
}

// waitGone waits until there is no such process, or only its grave.
func waitGone(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatalf("no process: %q", pid)
	}
	testenv.WaitFor(t, "process "+pid+" has ended", func() bool {
		if errors.Is(syscall.Kill(n, 0), syscall.ESRCH) {
			return true
		}
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		return err == nil && strings.Contains(string(stat), ") Z ")
	})
}

func TestTheHelperRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	helper := testenv.Compose(t).Helper
	for _, row := range []struct {
		args string
		code int
		says string
	}{
		{"", 2, "what shall be done"},
		{"pull -project p", 2, `"pull"`},
		{"up -project p -dir /d", 2, "up needs -file"},
		{"down", 2, "down needs -project"},
		{"stop -project p", 2, "stop needs -grace"},
		{"stop -project p -grace soon", 2, "soon"},
		{"down -project p -volumes more", 2, `"more" is too much`},
		{"check -project p -dir /nonexistent -file /nonexistent/f", 1, "/nonexistent/f"},
		{"version --short", 0, "5.2.0"},
		{"-version", 0, "reagent-compose dev, compose 5.2.0"},
	} {
		cmd := exec.Command(helper, strings.Fields(row.args)...)
		cmd.Env = []string{"DOCKER_CONFIG=" + t.TempDir()}
		text, _ := cmd.CombinedOutput() // its end is the exit code's matter
		if code := cmd.ProcessState.ExitCode(); code != row.code || !strings.Contains(string(text), row.says) {
			t.Errorf("reagent-compose %s: exit code %d and %q; want %d and %q", row.args, code, text, row.code, row.says)
		}
	}
}
