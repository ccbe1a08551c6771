package rig

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/protocol"
)

// A Studio is reagent-studio as built, as a process on a port of its own. It can
// be killed and started again with the same data at the same address.
type Studio struct {
	Data string // its folder
	Addr string // host:port
	t    testing.TB

	mu  sync.Mutex // guards log
	log bytes.Buffer

	cmd   *exec.Cmd     // nil while it does not run
	ended chan struct{} // closed when cmd has ended
}

// NewStudio starts a studio that ends with the test.
func NewStudio(t testing.TB) *Studio {
	t.Helper()
	s := &Studio{Data: filepath.Join(t.TempDir(), "studio"), Addr: testenv.FreePort(t), t: t}
	t.Cleanup(func() {
		s.Kill()
		if t.Failed() {
			text := s.Log()
			t.Logf("end of the log of the studio:\n%s", text[max(0, len(text)-8000):])
		}
	})
	s.Start()
	return s
}

// Start starts the studio and waits until it answers.
func (s *Studio) Start() {
	s.t.Helper()
	if !s.TryStart() {
		s.t.Fatalf("the studio ended:\n%s", s.Log())
	}
}

// TryStart is Start of a studio that may refuse to; then it answers false.
func (s *Studio) TryStart() bool {
	s.t.Helper()
	s.cmd = exec.Command(testenv.Program(s.t, "./cmd/reagent-studio", false), "serve", "--listen", s.Addr, "--data", s.Data)
	s.cmd.Env = append(os.Environ(), "HOME="+filepath.Dir(s.Data))
	s.cmd.Stdout, s.cmd.Stderr = s, s
	s.cmd.WaitDelay = 5 * time.Second
	if err := s.cmd.Start(); err != nil {
		s.t.Fatalf("start the studio: %v", err)
	}
	cmd, ended := s.cmd, make(chan struct{})
	s.ended = ended
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	testenv.Eventually(s.t, 30*time.Second, func() string { return "the studio answers: " + s.Log() }, func() bool {
		return s.answers() || s.dead()
	})
	if s.dead() {
		s.cmd = nil
		return false
	}
	return true
}

func (s *Studio) dead() bool {
	select {
	case <-s.ended:
		return true
	default:
		return false
	}
}

func (s *Studio) answers() bool {
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(s.URL() + "/healthz")
	if err != nil {
		return false
	}
	answer.Body.Close()
	return answer.StatusCode == http.StatusOK
}

// URL is the studio's address.
func (s *Studio) URL() string { return "http://" + s.Addr }

// Kill ends the studio as a power cut would.
func (s *Studio) Kill() { s.end(syscall.SIGKILL) }

// Stop asks the studio to end, and waits.
func (s *Studio) Stop() { s.end(syscall.SIGTERM) }

func (s *Studio) end(how syscall.Signal) {
	if s.cmd == nil {
		return
	}
	_ = s.cmd.Process.Signal(how)
	<-s.ended
	s.cmd = nil
}

// Write takes what the studio writes to its console.
func (s *Studio) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

// Log is what the studio wrote to its console.
func (s *Studio) Log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.String()
}

// Profile is the login of the account that the first start made.
func (s *Studio) Profile() (p protocol.StudioProfile) {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.Data, "cli.json"))
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		s.t.Fatalf("profile of the studio: %v", err)
	}
	return p
}

// Login is how the administrator joins the studio's router.
func (s *Studio) Login() Login {
	p := s.Profile()
	return Login{URL: webSocket(s.URL()), Realm: p.Realm, AuthID: p.AuthID, Secret: p.Secret}
}

// Operator is the administrator at work.
func (s *Studio) Operator(t testing.TB) *Operator {
	t.Helper()
	return NewOperator(t, Open(t, s.Login()))
}

// DeviceFile is the text of a device file.
func DeviceFile(t testing.TB, content protocol.DeviceFileContent) []byte {
	t.Helper()
	text, err := json.MarshalIndent(content, "", " ")
	if err != nil {
		t.Fatal(fmt.Errorf("device file: %w", err))
	}
	return text
}

// Run runs one of the studio's commands as the administrator, as people do on
// its machine, and returns what it prints.
func (s *Studio) Run(args ...string) (stdout string) {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), testenv.Program(s.t, "./cmd/reagent-studio", false), args...)
	cmd.Env = append(os.Environ(), "REAGENT_STUDIO_PROFILE="+filepath.Join(s.Data, "cli.json"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		s.t.Errorf("reagent-studio %v: %v\n%s%s", args, err, out.String(), errs.String())
	}
	return out.String()
}
