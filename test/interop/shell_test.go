//go:build unix

package interop

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/term"

	"reagent/internal/testenv"
)

// A seat is a terminal at which somebody runs a command of the studio.
type seat struct {
	t      *testing.T
	keys   *os.File // the person's end
	far    *os.File // the command's
	before *term.State
	cmd    *exec.Cmd
	ended  chan struct{}
	slow   time.Duration // after each piece of output that was read

	mu   sync.Mutex // guards what follows
	out  bytes.Buffer
	said strings.Builder // beside it
	read int             // so much of it was looked at
}

// sitDown runs a command of the world's studio on a terminal of its own, through
// a relay to the studio's port.
func sitDown(t *testing.T, w *world, by *testenv.Relay, slow time.Duration, args ...string) *seat {
	t.Helper()
	keys, far, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	s := &seat{t: t, keys: keys, far: far, slow: slow, ended: make(chan struct{})}
	if err := pty.Setsize(keys, &pty.Winsize{Rows: 30, Cols: 100}); err != nil {
		t.Fatal(err)
	}
	if s.before, err = term.GetState(int(far.Fd())); err != nil {
		t.Fatal(err)
	}
	s.cmd = command(t, w, by, args...)
	s.cmd.Stdin, s.cmd.Stdout, s.cmd.Stderr = far, far, &lockedWriter{&s.mu, &s.said}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.ended)
		_ = s.cmd.Wait()
	}()
	looked := make(chan struct{})
	go func() {
		defer close(looked)
		s.look()
	}()
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		<-s.ended
		_ = far.Close() // with its last user the other end reads no more
		<-looked
		_ = keys.Close()
	})
	return s
}

// command is a command of the studio that goes through a relay.
func command(t *testing.T, w *world, by *testenv.Relay, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(testenv.Program(t, "./cmd/reagent-studio", false), args...)
	cmd.Env = append(os.Environ(), "REAGENT_STUDIO_PROFILE="+filepath.Join(w.studio.Data, "cli.json"), "REAGENT_STUDIO_URL=http://"+by.Addr())
	return cmd
}

func (s *seat) look() {
	piece := make([]byte, 16<<10)
	for {
		n, err := s.keys.Read(piece)
		s.mu.Lock()
		s.out.Write(piece[:n])
		s.mu.Unlock()
		if err != nil {
			return
		}
		if s.slow > 0 {
			<-time.After(s.slow)
		}
	}
}

func (s *seat) types(text string) {
	s.t.Helper()
	if _, err := s.keys.WriteString(text); err != nil {
		s.t.Fatalf("type %q: %v", text, err)
	}
}

// sees waits for a text on the screen, and returns all up to it.
func (s *seat) sees(text string) (output string) {
	s.t.Helper()
	from := 0 // in what was not looked at
	testenv.Eventually(s.t, limit, func() string {
		s.mu.Lock()
		defer s.mu.Unlock()
		rest := s.out.Bytes()[s.read:]
		return fmt.Sprintf("%q is on the screen, after %d bytes: …%q", text, s.out.Len(), rest[max(0, len(rest)-1000):])
	}, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		rest := s.out.Bytes()[s.read:]
		at := bytes.Index(rest[from:], []byte(text))
		if at < 0 {
			from = max(0, len(rest)-len(text))
			return false
		}
		output = string(rest[:from+at+len(text)])
		s.read += len(output)
		return true
	})
	return output
}

// leaves waits for the command's end, and that the terminal is as it was.
func (s *seat) leaves(code int) {
	s.t.Helper()
	select {
	case <-s.ended:
	case <-time.After(limit):
		s.t.Fatalf("%v does not end", s.cmd.Args)
	}
	if got := s.cmd.ProcessState.ExitCode(); got != code {
		s.t.Errorf("%v ended with %d, want %d", s.cmd.Args[1:], got, code)
	}
	after, err := term.GetState(int(s.far.Fd()))
	if err != nil || !reflect.DeepEqual(after, s.before) {
		s.t.Errorf("the terminal is %+v (%v), was %+v", after, err, s.before)
	}
}

func TestTheStudiosShell(t *testing.T) {
	t.Parallel()
	w := studioWorld(t)
	way := w.behind(t)
	w.start(t)
	app, _ := w.withShell(t)
	name := w.operator.Device(w.device.Serial).Name
	for _, c := range []struct {
		claim string
		args  []string
		away  time.Duration // the device
	}{
		{"on the device", []string{"shell", name}, 30 * time.Second},
		{"in a container", []string{"shell", name, app}, 2 * time.Second},
	} {
		t.Run(c.claim, func(t *testing.T) {
			by := testenv.NewRelay(t, w.studio.Addr)
			me := sitDown(t, w, by, 200*time.Microsecond, c.args...)
			me.types(" unset HISTFILE; echo re''ady; until [ \"$(stty size)\" = '30 100' ]; do sleep 0.1; done; stty size\r")
			me.sees("ready")
			me.sees("30 100")
			if raw, err := term.GetState(int(me.far.Fd())); err != nil || reflect.DeepEqual(raw, me.before) {
				t.Errorf("the terminal passes not every key on: %v", err)
			}
			me.types("echo va''lue1\r")
			me.sees("value1")
			me.types("\x1b[A\r")
			me.sees("value1")
			me.types("echo wai''ting; cat\r")
			me.sees("waiting")
			me.types("ü€😀\r\x04")
			me.sees("ü€😀\r\nü€😀\r\n")
			me.types("echo sl''eeping; sleep 1000\r")
			me.sees("sleeping")
			me.types("\x03")
			me.sees("^C") // what was typed before it is forgotten
			me.types("echo in''terrupted\r")
			me.sees("interrupted")

			me.types("echo go''es; while [ \"$(stty size)\" != '41 133' ]; do sleep 0.1; done; echo si''zed\r")
			me.sees("goes")
			if err := pty.Setsize(me.keys, &pty.Winsize{Rows: 41, Cols: 133}); err != nil {
				t.Fatal(err)
			}
			me.sees("sized")

			const lines = 1_400_000
			me.types(fmt.Sprintf("seq 1 %d; echo do''ne\r", lines))
			me.sees("\r\n10000\r\n")
			back := away(way, w.studio.Addr, c.away) // the device's link
			<-back
			me.sees("\r\n400000\r\n")
			back = away(by, w.studio.Addr, time.Second) // the person's
			<-back
			output := me.sees("\r\ndone")
			next := 400_001
			for line := range strings.SplitSeq(strings.TrimSuffix(output, "\r\ndone"), "\r\n") {
				if line != fmt.Sprint(next) {
					t.Fatalf("line %d is %.60q", next, line)
				}
				next++
			}
			if next-1 != lines {
				t.Errorf("the last line is %d, want %d", next-1, lines)
			}
			me.types("exit\r")
			me.leaves(0)
			for _, want := range []string{"is off-line", "is back", "the connection to the studio is lost", "the studio is back"} {
				if said := me.said.String(); !strings.Contains(said, want) {
					t.Errorf("of the cuts it says %q, want %q", said, want)
				}
			}
		})
	}

	t.Run("is left and found again", func(t *testing.T) {
		by := testenv.NewRelay(t, w.studio.Addr)
		first := sitDown(t, w, by, 0, "shell", name)
		first.types(" unset HISTFILE; kept=va''lue; echo be''fore\r")
		first.sees("before")
		first.types("\x1d")
		first.leaves(0)
		if said := first.said.String(); !strings.Contains(said, "goes on") {
			t.Errorf("who left is told %q", said)
		}
		second := sitDown(t, w, by, 0, "shell", name, "--detach-key", "ctrl-q")
		second.sees("before") // what was on the screen
		second.types("echo $kept; cat -v\r")
		second.sees("value")
		second.types("\x1d\r")
		second.sees("^]\r\n^]\r\n")
		second.types("\x04")
		second.types("echo ba''ck\r")
		second.sees("back")
		if err := second.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		second.leaves(0)
		third := sitDown(t, w, by, 0, "shell", name)
		third.types("exit\r")
		third.leaves(0)
	})

	t.Run("of a pipe", func(t *testing.T) {
		by := testenv.NewRelay(t, w.studio.Addr)
		for input, args := range map[string][]string{
			" unset HISTFILE; echo $((40+2))\n":       {"shell", name},
			" unset HISTFILE; echo $((40+2)); exit\n": {"shell", name},
			"echo $((40+2))":                          {"shell", name, app},
		} {
			cmd := command(t, w, by, args...)
			cmd.Stdin = strings.NewReader(input)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "42\r\n") {
				t.Errorf("%q to %v: %v, %q", input, args, err, out)
			}
		}
	})
}
