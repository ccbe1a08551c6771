package container_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
)

// shell runs a container that has a shell, and gives its name.
func shell(t *testing.T) (docker *testenv.Engine, e *container.Engine, name string) {
	t.Helper()
	docker, e, image := realEngine(t, testenv.App{Shell: true})
	name = docker.Prefix + "-shell"
	run(t, e, container.Spec{Name: name, Image: image})
	return docker, e, name
}

// perform runs a program to its end.
func perform(t *testing.T, e *container.Engine, name string, s container.ExecSpec) (stdout, stderr []byte, exit int) {
	t.Helper()
	x, err := e.Exec(t.Context(), name, s)
	if err != nil {
		t.Fatalf("%q: %v", s.Argv, err)
	}
	defer x.Close()
	err = x.Output(
		func(part []byte) { stdout = append(stdout, part...) },
		func(part []byte) { stderr = append(stderr, part...) })
	if err != nil {
		t.Errorf("%q: output: %v", s.Argv, err)
	}
	exit, err = x.Wait(t.Context())
	if err != nil {
		t.Errorf("%q: wait: %v", s.Argv, err)
	}
	return stdout, stderr, exit
}

func sh(script string) container.ExecSpec {
	return container.ExecSpec{Argv: []string{"/bin/sh", "-c", script}}
}

func TestAProgramInAContainerTellsItsOutputAndItsEnd(t *testing.T) {
	_, e, name := shell(t)
	binary := make([]byte, 100_000)
	for i := range binary {
		binary[i] = byte(i * 7)
	}
	for what, test := range map[string]struct {
		spec           container.ExecSpec
		stdout, stderr string
		exit           int
	}{
		"success":     {spec: sh("echo good"), stdout: "good\n"},
		"failure":     {spec: sh("echo bad >&2; exit 3"), stderr: "bad\n", exit: 3},
		"both":        {spec: sh("echo a; echo b >&2; echo c"), stdout: "a\nc\n", stderr: "b\n"},
		"a signal":    {spec: sh("kill -9 $$"), exit: 137},
		"no shell":    {spec: container.ExecSpec{Argv: []string{"/testapp", "health"}}},
		"environment": {spec: container.ExecSpec{Argv: []string{"/bin/sh", "-c", "echo $GREETING"}, Env: []string{"GREETING=hello world"}}, stdout: "hello world\n"},
		"folder":      {spec: container.ExecSpec{Argv: []string{"pwd"}, Cwd: "/bin"}, stdout: "/bin\n"},
		"user":        {spec: container.ExecSpec{Argv: []string{"id", "-u"}, User: "1234"}, stdout: "1234\n"},
		"no terminal": {spec: sh("[ -t 0 ] || [ -t 1 ] || echo none"), stdout: "none\n"},
		"empty input": {spec: container.ExecSpec{Argv: []string{"cat"}}},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			stdout, stderr, exit := perform(t, e, name, test.spec)
			if string(stdout) != test.stdout || string(stderr) != test.stderr || exit != test.exit {
				t.Errorf("%q, %q, exit %d, want %q, %q, exit %d", stdout, stderr, exit, test.stdout, test.stderr, test.exit)
			}
		})
	}
	t.Run("binary input", func(t *testing.T) {
		t.Parallel()
		x, err := e.Exec(t.Context(), name, container.ExecSpec{Argv: []string{"cat"}, Stdin: true})
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		sent := make(chan error, 1)
		go func() {
			_, err := x.Write(binary)
			sent <- errors.Join(err, x.CloseWrite())
		}()
		var got []byte
		if err := x.Output(func(part []byte) { got = append(got, part...) }, func([]byte) {}); err != nil || !bytes.Equal(got, binary) {
			t.Errorf("%d bytes came back, %v, want the same %d", len(got), err, len(binary))
		}
		if err := <-sent; err != nil {
			t.Errorf("write: %v", err)
		}
	})
}

func TestWhatCannotBeStartedSaysWhy(t *testing.T) {
	docker, e, name := shell(t)
	stopped := docker.Prefix + "-stopped"
	image := inspect(t, e, name).Image
	run(t, e, container.Spec{Name: stopped, Image: image, Env: []string{"TESTAPP_EXIT=0"}})
	if _, err := e.Wait(t.Context(), stopped); err != nil {
		t.Fatal(err)
	}
	id := inspect(t, e, name).ID
	for what, test := range map[string]struct {
		name string
		spec container.ExecSpec
		is   error
		says string
	}{
		"no such program":     {name, container.ExecSpec{Argv: []string{"nothing-here"}}, container.ErrNoProgram, `exec: "nothing-here": executable file not found in $PATH`},
		"… with a terminal":   {name, container.ExecSpec{Argv: []string{"nothing-here"}, TTY: true}, container.ErrNoProgram, `exec: "nothing-here": executable file not found in $PATH`},
		"not a program":       {name, container.ExecSpec{Argv: []string{"/etc"}}, container.ErrNoProgram, "/etc"},
		"no name":             {name, container.ExecSpec{Argv: []string{""}}, container.ErrNoProgram, "no name"},
		"nothing at all":      {name, container.ExecSpec{}, container.ErrNoProgram, "no name"},
		"no such user":        {name, container.ExecSpec{Argv: []string{"id"}, User: "nobody-here"}, container.ErrNoProgram, "nobody-here"},
		"no such folder":      {name, container.ExecSpec{Argv: []string{"id"}, Cwd: "/nowhere/\x00"}, nil, ""},
		"no such container":   {name + "-no", sh("true"), container.ErrNotFound, name + "-no"},
		"a part of a name":    {name[:len(name)-1], sh("true"), container.ErrNotFound, ""},
		"a part of an id":     {id[:12], sh("true"), container.ErrNotFound, ""},
		"no name of any":      {"", sh("true"), container.ErrNotFound, ""},
		"a path":              {"../x", sh("true"), container.ErrNotFound, ""},
		"one that has exited": {stopped, sh("true"), container.ErrNotRunning, "exited"},
	} {
		x, err := e.Exec(t.Context(), test.name, test.spec)
		if err == nil {
			x.Close()
		}
		if err == nil || test.is != nil && !errors.Is(err, test.is) || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %v that says %q", what, err, test.is, test.says)
		}
	}
}

func TestTheSizeOfATerminalIsSeenInTheContainer(t *testing.T) {
	_, e, name := shell(t)
	x, err := e.Exec(t.Context(), name, container.ExecSpec{
		Argv: []string{"/bin/sh", "-c", "while read go; do stty size; done"}, TTY: true, Stdin: true, Height: 24, Width: 80,
	})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	for i, size := range []struct{ height, width uint16 }{{24, 80}, {50, 201}} {
		if i > 0 {
			if err := x.Resize(t.Context(), size.height, size.width); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := io.WriteString(x, "go\n"); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("%d %d", size.height, size.width)
		var seen []byte
		for !bytes.Contains(seen, []byte(want)) {
			part := make([]byte, 100)
			n, err := x.Read(part)
			if seen = append(seen, part[:n]...); err != nil {
				t.Fatalf("%q, %v, want %q", seen, err, want)
			}
		}
	}
}

// tree is a script of which the children are numbered, as this machine's engine
// counts, by those who look for their mark in the arguments of all processes.
func tree(mark string) string {
	return "trap '' TERM; sleep 3" + mark + " & sh -c 'sleep 4" + mark + " & sleep 5" + mark + "' & echo up; wait; wait; wait"
}

func alive(t *testing.T, mark string) (lines []string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		line, _ := os.ReadFile(file) // it may have ended
		if strings.HasPrefix(string(line), "sleep\x00") && strings.Contains(string(line), mark) {
			lines = append(lines, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return lines
}

func TestAnEndTakesTheChildrenAlong(t *testing.T) {
	docker, near, name := shell(t)
	for what, test := range map[string]struct {
		engine *container.Engine
		mark   string
	}{
		"from here":           {near, "7654321"},
		"from inside":         {newEngine(t, overTCP(t, docker.Host), quick), "7654322"},
		"in another life":     {near, "7654323"},
		"when nobody listens": {near, "7654324"},
		"by its mark":         {near, "7654325"},
		"… from inside":       {newEngine(t, overTCP(t, docker.Host), quick), "7654326"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			spec := sh(tree(test.mark))
			spec.Mark = test.mark
			x, err := test.engine.Exec(t.Context(), name, spec)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			up, over := make(chan struct{}), make(chan error, 1)
			go func() {
				first := true
				over <- x.Output(func([]byte) {
					if first {
						close(up)
					}
					first = false
				}, func([]byte) {})
			}()
			<-up
			testenv.WaitFor(t, "three children run", func() bool { return len(alive(t, test.mark)) == 3 })
			end := x.End
			switch what {
			case "in another life":
				end = func(ctx context.Context) error { return test.engine.EndExec(ctx, x.ID()) }
			case "by its mark", "… from inside":
				end = func(ctx context.Context) error { return test.engine.EndMarked(ctx, name, test.mark) }
			case "when nobody listens":
				x.Close()
			}
			if err := end(t.Context()); err != nil {
				t.Errorf("End = %v", err)
			}
			if left := alive(t, test.mark); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if _, err := x.Wait(t.Context()); err != nil {
				t.Errorf("Wait = %v", err)
			}
			<-over
			if err := end(t.Context()); err != nil {
				t.Errorf("a second End = %v", err)
			}
			if got := inspect(t, near, name).Status; got != container.StatusRunning {
				t.Errorf("the container is %s", got)
			}
		})
	}
}

// quick has a program killed soon after it was asked to end.
func quick(c *container.Config) { c.Grace = time.Second }

// overTCP makes an engine look like another machine's.
func overTCP(t *testing.T, engine string) (host string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("unix", strings.TrimPrefix(engine, "unix://"))
			if err != nil {
				near.Close()
				continue
			}
			half := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				_ = to.(interface{ CloseWrite() error }).CloseWrite()
			}
			go half(far, near)
			go half(near, far)
		}
	}()
	return "tcp://" + l.Addr().String()
}

func TestWithoutAShellAnEndFromInsideSaysWhatItNeeds(t *testing.T) {
	docker, near, image := realEngine(t, testenv.App{})
	name := docker.Prefix + "-bare"
	run(t, near, container.Spec{Name: name, Image: image})
	far := newEngine(t, overTCP(t, docker.Host), quick)
	x, err := far.Exec(t.Context(), name, container.ExecSpec{Argv: []string{"/testapp"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := x.End(t.Context()); !errors.Is(err, container.ErrNoProgram) || !strings.Contains(err.Error(), "shell") {
		t.Errorf("End = %v, want that it takes a shell", err)
	}
	if err := near.EndExec(t.Context(), x.ID()); err != nil {
		t.Error(err)
	}
}

func TestAProgramEndsWhileAChildHoldsItsOutput(t *testing.T) {
	_, e, name := shell(t)
	x, err := e.Exec(t.Context(), name, sh("sleep 300 & echo started; exit 4"))
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- x.Output(func([]byte) {}, func([]byte) {}) }()
	if exit, err := x.Wait(t.Context()); exit != 4 || err != nil {
		t.Errorf("exit code %d, %v, want 4", exit, err)
	}
	if err := x.End(t.Context()); err != nil {
		t.Errorf("End of what is left = %v", err)
	}
	<-over
}

func TestTheLastWordsOfAProgramThatIsEndedAreHeard(t *testing.T) {
	_, e, name := shell(t)
	for i := range 8 {
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			t.Parallel()
			x, err := e.Exec(t.Context(), name, sh("trap 'head -c 200000 /dev/zero; echo last; exit' TERM; echo up; while :; do sleep 0.05; done"))
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			var heard []byte
			up, over := make(chan struct{}), make(chan error, 1)
			go func() {
				over <- x.Output(func(part []byte) {
					if len(heard) == 0 {
						close(up)
					}
					heard = append(heard, part...)
				}, func([]byte) {})
			}()
			<-up
			if err := x.End(t.Context()); err != nil {
				t.Errorf("End = %v", err)
			}
			if err := <-over; err != nil || !bytes.HasSuffix(heard, []byte("last\n")) {
				t.Errorf("%d bytes, %v, want the last words", len(heard), err)
			}
		})
	}
}

func TestAProgramWhoseStartWasNotAnsweredIsEnded(t *testing.T) {
	docker, _, name := shell(t)
	wire := tap(t, docker.Host)
	wire.setFault(func(_ http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/exec/") || !strings.HasSuffix(r.URL.Path, "/start") {
			return false
		}
		direct := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", strings.TrimPrefix(docker.Host, "unix://"))
		}}}
		answer, err := direct.Post("http://engine"+r.URL.Path, "application/json", strings.NewReader(`{"Detach":true}`))
		if err != nil {
			t.Error(err)
		} else {
			answer.Body.Close()
		}
		panic(http.ErrAbortHandler)
	})
	const mark = "7654355"
	if _, err := newEngine(t, wire.host, quick).Exec(t.Context(), name, sh("exec sleep 3"+mark)); err == nil {
		t.Error("it is said to run")
	}
	if left := alive(t, mark); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
}

func TestWhatIsNoMarkEndsNothing(t *testing.T) {
	e := newEngine(t, "unix:///nowhere")
	for _, mark := range []string{"", ".*", "a b"} {
		if err := e.EndMarked(t.Context(), "x", mark); err == nil || errors.Is(err, container.ErrUnavailable) {
			t.Errorf("%q: %v, want that it is no mark", mark, err)
		}
	}
}

func TestAnEndTakesThoseWhomAProgramHasLeftBehind(t *testing.T) {
	_, e, name := shell(t)
	const mark = "7654344"
	x, err := e.Exec(t.Context(), name, sh("sleep 3"+mark+" >/dev/null 2>&1 &"))
	if err != nil {
		t.Fatal(err)
	}
	if exit, err := x.Wait(t.Context()); exit != 0 || err != nil || len(alive(t, mark)) != 1 {
		t.Errorf("exit code %d, %v, children %q, want one", exit, err, alive(t, mark))
	}
	if err := x.End(t.Context()); err != nil || len(alive(t, mark)) != 0 {
		t.Errorf("End = %v, children %q", err, alive(t, mark))
	}
}

func TestAnEndTakesDaemonsAlongWhereAMarkTellsWhoseTheyAre(t *testing.T) {
	docker, near, name := shell(t)
	far := newEngine(t, overTCP(t, docker.Host), quick)
	for what, test := range map[string]struct {
		engine   *container.Engine
		mark     string
		daemon   string
		survives int
	}{
		"from here":   {near, "ours", "7654351", 0},
		"from inside": {far, "theirs", "7654352", 0},
		"no mark":     {near, "", "7654353", 1},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			spec := sh("(setsid sleep 3" + test.daemon + " >/dev/null 2>&1 &); sleep 4" + test.daemon)
			spec.Mark = test.mark
			x, err := test.engine.Exec(t.Context(), name, spec)
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			testenv.WaitFor(t, "the daemon runs", func() bool { return len(alive(t, test.daemon)) == 2 })
			if err := x.End(t.Context()); err != nil {
				t.Errorf("End = %v", err)
			}
			if left := alive(t, test.daemon); len(left) != test.survives {
				t.Errorf("left behind: %q, want %d", left, test.survives)
			}
		})
	}
}

func TestTheEndOfTheContainerIsTheProgramsEnd(t *testing.T) {
	_, e, name := shell(t)
	x, err := e.Exec(t.Context(), name, sh("echo up; sleep 300"))
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	up := make(chan struct{})
	over := make(chan error, 1)
	go func() { over <- x.Output(func([]byte) { close(up) }, func([]byte) {}) }()
	<-up
	if err := e.Remove(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if exit, err := x.Wait(t.Context()); exit == 0 && err == nil {
		t.Error("it is said to have ended well")
	}
	<-over
	if err := x.End(t.Context()); err != nil {
		t.Errorf("End = %v", err)
	}
}

func TestTheStreamEndsWithItsContextAndTheProgramDoesNot(t *testing.T) {
	_, e, name := shell(t)
	ctx, cancel := context.WithCancel(t.Context())
	x, err := e.Exec(ctx, name, sh("exec sleep 300"))
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- x.Output(func([]byte) {}, func([]byte) {}) }()
	cancel()
	if err := <-over; err == nil {
		t.Error("the stream ended well")
	}
	late, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if exit, err := x.Wait(late); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Wait = %d, %v, want that it runs", exit, err)
	}
	if err := x.End(t.Context()); err != nil {
		t.Errorf("End = %v", err)
	}
	if exit, err := x.Wait(t.Context()); exit != 143 || err != nil {
		t.Errorf("exit code %d, %v, want 143", exit, err)
	}
}

func TestAHungOrKilledEngineHoldsNobodyUp(t *testing.T) {
	docker := testenv.NewPrivateEngine(t)
	image := docker.Prefix + "/app:1"
	testenv.BuildImage(t, docker.Engine, image, testenv.App{Shell: true})
	e := newEngine(t, docker.Host, func(c *container.Config) {
		c.Timeout, c.Short, c.Grace = 3*time.Second, time.Second, time.Second
	})
	name := docker.Prefix + "-shell"
	run(t, e, container.Spec{Name: name, Image: image})
	x, err := e.Exec(t.Context(), name, sh(tree("7654399")))
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- x.Output(func([]byte) {}, func([]byte) {}) }()

	docker.Hang()
	if _, err := e.Exec(t.Context(), name, sh("true")); !errors.Is(err, container.ErrTimeout) && !errors.Is(err, container.ErrUnavailable) {
		t.Errorf("Exec on a hung engine = %v, want a timeout", err)
	}
	if err := x.Resize(t.Context(), 1, 1); err == nil {
		t.Error("a hung engine has resized a terminal")
	}
	if err := x.End(t.Context()); err != nil {
		t.Errorf("End while the engine hangs = %v", err)
	}
	x.Close() // whatever the engine does
	<-over
	if left := alive(t, "7654399"); len(left) > 0 {
		t.Errorf("left behind: %q", left)
	}
	docker.Continue()

	x, err = e.Exec(t.Context(), name, sh("echo up; exec sleep 300"))
	if err != nil {
		t.Fatal(err)
	}
	go func() { over <- x.Output(func([]byte) {}, func([]byte) {}) }()
	docker.Kill()
	<-over
	if err := x.End(t.Context()); err != nil {
		t.Errorf("End without an engine = %v", err)
	}
	if _, err := x.Wait(t.Context()); !errors.Is(err, container.ErrUnavailable) {
		t.Errorf("Wait = %v, want that no engine answers", err)
	}
	docker.Start()
	if err := e.EndExec(t.Context(), x.ID()); err != nil {
		t.Errorf("EndExec = %v", err)
	}
}

func TestEndExecRefusesWhatIsNoName(t *testing.T) {
	e := newEngine(t, "unix:///nowhere")
	for _, id := range []string{"", "../x", strconv.Itoa(7)} {
		if err := e.EndExec(t.Context(), id); err == nil || errors.Is(err, container.ErrUnavailable) {
			t.Errorf("%q: %v, want that it names nothing", id, err)
		}
	}
}
