//go:build linux

package terminal

import (
	"context"
	"strings"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
)

var logins = map[string]string{"system": "secret", "3": "secret", "4": "secret", "7-42/" + serial: "secret"}

// bareHome is this machine with a home of its own, in which no profile of a
// developer does who knows what.
type bareHome struct {
	system
	home string
}

func atHome(t *testing.T, cfg Config) shells {
	return bareHome{newSystem(cfg), t.TempDir()}
}

func (s bareHome) device(context.Context) (shell, error) {
	l, err := findLogin(s.user)
	if err != nil {
		return nil, err
	}
	l.home, l.shell = s.home, "/bin/bash"
	return startLogin(l)
}

// onDevice opens a user's shell of the device and looks at it.
func onDevice(t *testing.T, m *Manager, by *messenger.Session, authid string) *screen {
	t.Helper()
	names, err := m.Device(t.Context(), Caller{AuthID: authid})
	if err != nil {
		t.Fatalf("open a shell: %v", err)
	}
	return look(t, by, names)
}

func TestAShellOfTheDevice(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "cbor", "msgpack"} {
		t.Run(format, func(t *testing.T) {
			url, _ := testenv.Router(t, logins)
			m, _ := startDevice(t, url, format, nil)
			user := join(t, url, "3", format, nil, nil)
			s := onDevice(t, m, user, "3")
			s.write("echo gr'ü'ße $((6*7)) \"$HOME|$USER|$LOGNAME|$TERM|$LANG|$PWD\" $0\n")
			s.wait("grüße 42 /")
			s.wait("|root|root|xterm-256color|")
			if got := resize(t, user, s.names, size(33.0, uint8(101))); got != "" {
				t.Errorf("resize: %s", got)
			}
			if got := resize(t, user, s.names, size(0, 0)); got != "" {
				t.Errorf("resize to nothing: %s", got)
			}
			s.write("stty size\n")
			s.wait("33 101")
			if got := resize(t, user, s.names, size(100000, 1)); got != "failed to parse height: out of range: 100000" {
				t.Errorf("resize: %s", got)
			}
			s.write("exit\n")
			s.waitEOF()
			if _, err := user.Call(t.Context(), s.names.ResizeTopic, []any{size(1, 1)}, nil); err == nil {
				t.Error("its size can be told after its end")
			}
		})
	}
}

func TestOneShellOfTheDeviceForEachOwner(t *testing.T) {
	t.Parallel()
	url, _ := testenv.Router(t, logins)
	m, _ := startDevice(t, url, "json", nil)
	results := make(chan protocol.TerminalSession, 8)
	for range cap(results) {
		go func() {
			names, err := m.Device(t.Context(), Caller{AuthID: "3"})
			if err != nil {
				t.Error(err)
			}
			results <- names
		}()
	}
	first := <-results
	for range cap(results) - 1 {
		if other := <-results; other != first {
			t.Errorf("%+v and %+v for one owner", first, other)
		}
	}
	others, err := m.Device(t.Context(), Caller{AuthID: "4"})
	if err != nil || others == first {
		t.Errorf("another owner gets %+v, %v", others, err)
	}
	acting, err := m.Device(t.Context(), Caller{AuthID: "system", Account: 3})
	if err != nil || acting != first {
		t.Errorf("the system for the owner gets %+v, %v", acting, err)
	}
}

func TestBackgroundJobsEndWithTheirTerminal(t *testing.T) {
	t.Parallel()
	url, _ := testenv.Router(t, logins)
	m, _ := startDevice(t, url, "json", nil)
	user := join(t, url, "3", "json", nil, nil)
	for name, end := range map[string]func(s *screen){
		"exit": func(s *screen) { s.write("exit\n") },
		"stop": func(s *screen) {
			if err := m.Stop(Caller{AuthID: "3"}, s.names.SessionID); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			mark := "29" + strings.Map(func(r rune) rune {
				if r >= '0' && r <= '9' {
					return r
				}
				return -1
			}, newID())[:6]
			s := onDevice(t, m, user, "3")
			s.write("sleep " + mark + " &\nnohup sleep " + mark + " >/dev/null 2>&1 &\n(trap '' HUP TERM; sleep " + mark + ") &\necho star''ted\n")
			s.wait("started")
			testenv.WaitFor(t, "the jobs run", func() bool { return processes(t, "sleep\x00"+mark) == 3 })
			begun := time.Now()
			end(s)
			s.waitEOF()
			if n := processes(t, "sleep\x00"+mark); n != 0 {
				t.Errorf("%d jobs are left", n)
			}
			t.Logf("ended within %v", time.Since(begun))
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.eofs != 1 {
				t.Errorf("%d ends were published", s.eofs)
			}
		})
	}
}

func TestTheEndOfTheAgentEndsTheShells(t *testing.T) {
	t.Parallel()
	url, _ := testenv.Router(t, logins)
	m, stop := startDevice(t, url, "json", nil)
	user := join(t, url, "3", "json", nil, nil)
	s := onDevice(t, m, user, "3")
	s.write("echo pid=$$.\n")
	s.wait("pid=")
	s.until("the number", func() bool {
		return strings.Count(s.got.String(), ".") > 1 || strings.Contains(s.got.String(), ".\r\n")
	})
	s.write("sleep 29777 & echo ok''ay\n")
	s.wait("okay")
	stop()
	if n := processes(t, "sleep\x0029777"); n != 0 {
		t.Errorf("%d processes are left", n)
	}
	if _, err := m.Device(t.Context(), Caller{AuthID: "3"}); err != errStopping {
		t.Errorf("a shell after the end: %v", err)
	}
}

// A size that comes while the shell ends must not reach a file that got the
// terminal's number.
func TestASizeMayComeWhileTheTerminalIsClosed(t *testing.T) {
	sh, err := atHome(t, Config{}).device(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := sh.Resize(t.Context(), 31, 101); err != nil {
		t.Errorf("resize = %v", err)
	}
	told := make(chan error, 1)
	go func() {
		for {
			if err := sh.Resize(t.Context(), 30, 100); err != nil {
				told <- err
				return
			}
		}
	}()
	if err := sh.End(t.Context()); err != nil {
		t.Error(err)
	}
	if err := sh.Close(); err != nil {
		t.Error(err)
	}
	if err := <-told; !strings.Contains(err.Error(), "closed file") {
		t.Errorf("resize of a closed terminal = %v, want that it is closed", err)
	}
}
