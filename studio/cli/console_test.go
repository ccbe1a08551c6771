//go:build unix

package cli

import (
	"errors"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"
)

// screens is a terminal for a command in this process: the end of the person and
// that of the command.
func screens(t *testing.T) (person, command *os.File) {
	t.Helper()
	person, command, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close(); _ = command.Close() })
	return person, command
}

func stateOf(t *testing.T, f *os.File) *term.State {
	t.Helper()
	s, err := term.GetState(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAKeyLeavesAShell(t *testing.T) {
	for _, c := range []struct {
		line, keys, typed, says string
		stopped                 bool
	}{
		{"shell press-07", "ls\r\x1dnever", "ls\r", "goes on", false},
		{"shell press-07 --detach-key ctrl-a", "ls\x1d\x01", "ls\x1d", `goes on, for ten minutes or until "reagent-studio shell press-07" comes back`, false},
		{"shell press-07 hello", "\x1d", "", "the shell in hello on press-07 was ended", true},
	} {
		t.Run(c.line, func(t *testing.T) {
			person, command := screens(t)
			before := stateOf(t, command)
			d, container := newDesk(t), ""
			if c.stopped {
				container = "prod_6_hello"
			}
			m := newTerminal(t, d, container)
			m.prints("$ ")
			d.Stdin, d.Linger = command, 10*time.Millisecond // a terminal that was opened like this one is not left while it is read
			done := make(chan error, 1)
			go func() { done <- d.run(t, strings.Fields(c.line)...) }()
			d.stdout.waitFor(t, "$ ")
			if _, err := person.WriteString(c.keys[:len(c.typed)]); err != nil {
				t.Fatal(err)
			}
			waitUntil(t, "it is typed", func() (all bool) {
				m.see(func() { all = m.typed == c.typed })
				return all
			})
			if _, err := person.WriteString(c.keys[len(c.typed):]); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Fatal(err)
			}
			if after := stateOf(t, command); !reflect.DeepEqual(after, before) {
				t.Errorf("the terminal is %+v, was %+v", after, before)
			}
			m.see(func() {
				if last := m.flows[len(m.flows)-1]; m.typed != c.typed || !last.Release || m.stopped != c.stopped {
					t.Errorf("typed %q, last word %+v, stopped %v; want %q, a release, %v", m.typed, last, m.stopped, c.typed, c.stopped)
				}
			})
			if said := d.stderr.String(); !strings.Contains(said, c.says) {
				t.Errorf("it says %q, want %q", said, c.says)
			}
		})
	}
}

func TestTheSizeOfTheTerminalIsTold(t *testing.T) {
	person, command := screens(t)
	if err := pty.Setsize(person, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	d := newDesk(t)
	m := newTerminal(t, d, "")
	d.Stdin, d.Linger = command, 10*time.Millisecond
	done := make(chan error, 1)
	go func() { done <- d.run(t, "shell", "press-07") }()
	told := func(want string) {
		t.Helper()
		waitUntil(t, want+" is told", func() (there bool) {
			m.see(func() { there = len(m.sizes) > 0 && m.sizes[len(m.sizes)-1] == want })
			return there
		})
	}
	told("100x30")
	if err := pty.Setsize(person, &pty.Winsize{Rows: 41, Cols: 133}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGWINCH); err != nil { // it is not this process's terminal
		t.Fatal(err)
	}
	told("133x41")
	m.exits()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// waitUntil polls until something holds.
func waitUntil(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("never: %s", what)
		}
	}
}

// panicking is an output that ends the program.
type panicking struct{}

func (panicking) Write([]byte) (int, error) { panic("as the test wants it") }

func TestAPanicLeavesTheTerminalAsItWas(t *testing.T) {
	const child = "REAGENT_TEST_PANIC"
	if os.Getenv(child) != "" {
		d := newDesk(t)
		newTerminal(t, d, "").prints("$ ")
		d.Stdin, d.Stdout = os.Stdin, panicking{}
		_ = d.run(t, "shell", "press-07")
		return
	}
	_, command := screens(t)
	before := stateOf(t, command)
	cmd := exec.Command(os.Args[0], "-test.run=^TestAPanicLeavesTheTerminalAsItWas$")
	cmd.Env = append(os.Environ(), child+"=1")
	cmd.Stdin = command
	said, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(string(said), "as the test wants it") {
		t.Fatalf("it ended with %v: %s", err, said)
	}
	if after := stateOf(t, command); !reflect.DeepEqual(after, before) {
		t.Errorf("the terminal is %+v, was %+v", after, before)
	}
}
