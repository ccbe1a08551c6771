package testenv

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reagent/protocol"
)

// A Device is a machine of its own as far as an agent can tell: folders, a
// device file, a home. It survives the processes that run on it.
type Device struct {
	Dir    string
	File   string // device file
	Serial string
	Flags  []string // besides those that name the folders
	Env    []string // NAME=value, besides the few that every process gets

	shown bool // the log of a test that failed was shown
}

// NewDevice makes a device with a device file of this content, in a folder that
// ends with the test.
func NewDevice(t testing.TB, content []byte) *Device {
	t.Helper()
	var id struct {
		Serial string `json:"serial_number"`
	}
	if err := json.Unmarshal(content, &id); err != nil {
		t.Fatalf("device file: %v", err)
	}
	d := &Device{Dir: t.TempDir(), Serial: id.Serial}
	d.File = filepath.Join(d.Dir, "device.reswarm")
	if err := os.WriteFile(d.File, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// AgentDir is the home of the agent on this device.
func (d *Device) AgentDir() string { return filepath.Join(d.Dir, "agent") }

// AppsDir is the home of its apps' data.
func (d *Device) AppsDir() string { return filepath.Join(d.Dir, "apps") }

// Database is the agent's database, where Flags name no other.
func (d *Device) Database() string { return filepath.Join(d.AppsDir(), ".reagent", "state.bolt") }

// LogFile is the agent's log, of all its processes.
func (d *Device) LogFile() string { return filepath.Join(d.Dir, "reagent.log") }

// Args are the arguments with which an agent runs on this device.
func (d *Device) Args(more ...string) []string {
	args := []string{"-config", d.File, "-agentDir", d.AgentDir(), "-appsDir", d.AppsDir(), "-logFile", d.LogFile()}
	return append(append(args, d.Flags...), more...)
}

// Run runs a program on the device to its end.
func (d *Device) Run(ctx context.Context, program string, args ...string) (stdout, stderr string, code int) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = d.environment()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exited *exec.ExitError
	if err != nil && !errors.As(err, &exited) {
		return out.String(), errs.String() + err.Error(), -1
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

func (d *Device) environment() []string {
	return append([]string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + d.Dir, "DOCKER_HOST=" + os.Getenv("DOCKER_HOST"),
		"XDG_STATE_HOME=" + filepath.Join(d.Dir, "state"), "XDG_RUNTIME_DIR=" + filepath.Join(d.Dir, "run"),
		"GORACE=halt_on_error=0 exitcode=66 atexit_sleep_ms=0",
	}, d.Env...)
}

// Status is the live status that the agent last wrote; zero while there is none.
func (d *Device) Status() (s protocol.AgentStatus) {
	text, err := os.ReadFile(filepath.Join(d.AgentDir(), "status.json"))
	if err == nil {
		_ = json.Unmarshal(text, &s) // written atomically: it is whole
	}
	return s
}

// Log is what the agent logged so far, over all its lives.
func (d *Device) Log() string {
	text, _ := os.ReadFile(d.LogFile())
	return string(text)
}

// A Process is an agent that runs on a device.
type Process struct {
	t      testing.TB
	device *Device
	cmd    *exec.Cmd
	stderr lines
	ended  chan struct{} // closed when the process is gone; code is set then
	code   int
}

// Start starts a program on the device as its agent. It is killed with the
// test, if it still runs then, and what it wrote must not tell of a panic or a
// data race.
func (d *Device) Start(t testing.TB, program string, more ...string) *Process {
	t.Helper()
	p := &Process{t: t, device: d, ended: make(chan struct{})}
	p.cmd = exec.Command(program, d.Args(more...)...)
	p.cmd.Env = d.environment()
	p.cmd.Stdout, p.cmd.Stderr = &p.stderr, &p.stderr
	p.cmd.SysProcAttr = dieWithUs()
	p.cmd.WaitDelay = 5 * time.Second
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", program, err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		p.Kill()
		p.sound()
	})
	return p
}

// PID is the number of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Kill ends the process as a power cut would, and waits for it.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Signal sends the process a signal.
func (p *Process) Signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatalf("signal the agent: %v\n%s", err, p.Said())
	}
}

// Terminate asks the process to end and returns how long that took. It fails
// the test when it takes longer than limit or ends with another code than 0.
func (p *Process) Terminate(s os.Signal, limit time.Duration) time.Duration {
	p.t.Helper()
	begun := time.Now()
	p.Signal(s)
	if code := p.Wait(limit); code != 0 {
		p.t.Errorf("after %v the agent ended with code %d, want 0\n%s", s, code, p.Said())
	}
	return time.Since(begun)
}

// Wait waits for the process to end by itself and returns its exit code.
func (p *Process) Wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.code
	case <-time.After(limit):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // it tells what it was at
		select {
		case <-p.ended:
		case <-time.After(5 * time.Second):
		}
		p.t.Fatalf("the agent still ran after %v\n%s", limit, p.Said())
		return -1
	}
}

// Running tells whether the process still runs.
func (p *Process) Running() bool {
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Said is what the process wrote to its console.
func (p *Process) Said() string { return p.stderr.String() }

// sound fails the test where what the agent wrote shows that it is broken; and
// shows the log of a test that failed.
func (p *Process) sound() {
	all := p.Said() + p.device.Log()
	for _, bad := range []string{"DATA RACE", "panic:", "\"panic\":", "fatal error:", "handler panicked"} {
		if at := strings.Index(all, bad); at >= 0 {
			p.t.Errorf("the agent wrote %q:\n%s", bad, clip(all[max(0, at-200):], 6000))
			return
		}
	}
	if p.t.Failed() && !p.device.shown {
		p.device.shown = true
		p.t.Logf("log of the agent of %s:\n%s", p.device.Serial, tail(all, 12000))
	}
}

// Eventually asks until the answer is yes, and fails the test with what is
// missing when it is not within limit.
func Eventually(t testing.TB, limit time.Duration, missing func() string, yes func() bool) {
	t.Helper()
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !yes() {
		select {
		case <-deadline.C:
			if yes() {
				return
			}
			t.Fatalf("not within %v: %s", limit, missing())
		case <-again.C:
		}
	}
}

// lines is a writer that may be read while it is written to.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func clip(text string, most int) string {
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}

// tail is the end of a text, from the beginning of a line.
func tail(text string, most int) string {
	if len(text) <= most {
		return text
	}
	text = text[len(text)-most:]
	_, rest, _ := strings.Cut(text, "\n")
	return "…\n" + rest
}

// LogLines are the records of the agent's log as objects.
func (d *Device) LogLines() []map[string]any {
	var out []map[string]any
	scan := bufio.NewScanner(strings.NewReader(d.Log()))
	scan.Buffer(nil, 1<<20)
	for scan.Scan() {
		var record map[string]any
		if json.Unmarshal(scan.Bytes(), &record) == nil {
			out = append(out, record)
		}
	}
	return out
}

// Logged counts the records whose message contains a text.
func (d *Device) Logged(text string) int {
	n := 0
	for _, r := range d.LogLines() {
		if strings.Contains(fmt.Sprint(r["message"]), text) {
			n++
		}
	}
	return n
}
