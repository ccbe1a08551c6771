package fault

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/test/rig"
)

// A followed command of reagent-studio goes on while its output is looked at.
type followed struct {
	t          testing.TB
	cmd        *exec.Cmd
	path, said string // files: its output, and what people are told beside it
}

// follow begins a command of reagent-studio, through a relay.
func (s *site) follow(relay *testenv.Relay, args ...string) *followed {
	s.t.Helper()
	dir := s.t.TempDir()
	f := &followed{t: s.t, path: filepath.Join(dir, "log"), said: filepath.Join(dir, "said")}
	profile := s.studio.Profile()
	profile.URL = "http://" + relay.Addr()
	text, err := json.Marshal(profile)
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "profile"), text, 0o600)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	f.cmd = exec.Command(testenv.Program(s.t, "./cmd/reagent-studio", false), args...)
	f.cmd.Env = append(os.Environ(), "REAGENT_STUDIO_PROFILE="+filepath.Join(dir, "profile"))
	out, errOut := create(s.t, f.path), create(s.t, f.said)
	defer out.Close()
	defer errOut.Close()
	f.cmd.Stdout, f.cmd.Stderr = out, errOut
	if err := f.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if f.cmd.ProcessState == nil {
			_ = f.cmd.Process.Kill()
			_ = f.cmd.Wait()
		}
	})
	return f
}

func create(t testing.TB, path string) *os.File {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// reaches waits until the output holds a line, or one of a higher number.
func (f *followed) reaches(kind string, n int) {
	f.t.Helper()
	last := 0
	testenv.Eventually(f.t, wait, func() string {
		return kind + " " + strconv.Itoa(n) + " is followed, the last is " + strconv.Itoa(last) + "; told: " + contents(f.t, f.said)
	}, func() bool {
		last = f.last(kind)
		return last >= n
	})
}

// last is the highest number of a kind of line so far.
func (f *followed) last(kind string) int {
	text := contents(f.t, f.path)
	at := strings.LastIndex(text[:strings.LastIndexByte(text, '\n')+1], "\n"+kind+" ")
	if at < 0 {
		return 0
	}
	number, _, _ := strings.Cut(text[at+len(kind)+2:], "\n")
	n, err := strconv.Atoi(number)
	if err != nil {
		f.t.Fatalf("a line is %q", kind+" "+number)
	}
	return n
}

// end interrupts it.
func (f *followed) end() {
	f.t.Helper()
	if err := f.cmd.Process.Signal(syscall.SIGINT); err != nil {
		f.t.Fatal(err)
	}
	f.ends(0)
}

// ends waits until it has ended.
func (f *followed) ends(code int) {
	f.t.Helper()
	_ = f.cmd.Wait()
	if got := f.cmd.ProcessState.ExitCode(); got != code {
		f.t.Errorf("%q ended with code %d, want %d; told: %s", f.cmd.Args, got, code, contents(f.t, f.said))
	}
}

// counted fails the test unless the lines of a kind are 1, 2, 3 and so on, and
// returns how many they are.
func (f *followed) counted(kind string) (n int) {
	f.t.Helper()
	for line := range strings.Lines(contents(f.t, f.path)) {
		number, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), kind+" ")
		if !ok {
			continue
		}
		if n++; number != strconv.Itoa(n) {
			f.t.Fatalf("%s %s is where %d was to be", kind, number, n)
		}
	}
	return n
}

// The command line follows an app that prints all the time, while everything
// between the two is lost in turn.
func TestTheCommandLineShowsEveryLineOnce(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	link, desk := s.behind(), testenv.NewRelay(t, s.studio.Addr)
	web := s.app("web")
	s.Release(web, rig.Release{Version: "1.0.0", Image: testenv.App{Env: []string{"TESTAPP_LINES=20000", "TESTAPP_EVERY=2ms"}}})
	agent := s.start(quick(t))
	s.run(web, "1.0.0")
	log := s.follow(desk, "logs", "-f", web, s.device.Serial, "--tail", "all")
	log.reaches("line", 1)
	more := func() { t.Helper(); log.reaches("tick", log.last("tick")+200) }
	for range 3 {
		desk.Cut()
		link.Cut()
		more()
	}
	s.studio.Kill()
	s.studio.Start()
	more()
	agent.Kill()
	agent = s.start(quick(t))
	more()
	link.Freeze()
	before := log.last("tick")
	time.AfterFunc(2*time.Second, link.Thaw)
	log.reaches("tick", before+1000)
	log.end()
	if lines, ticks := log.counted("line"), log.counted("tick"); lines != 20_000 || ticks < before+1000 {
		t.Errorf("%d lines and %d ticks, want 20000 and %d or more", lines, ticks, before+1000)
	}
	if said := contents(t, log.said); strings.Contains(said, "missing") {
		t.Errorf("told: %s", said)
	}
	agent.Terminate(syscall.SIGTERM, wellBehaved)
}

func TestACommandGoesOnWhileConnectionsAreLost(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	link, desk := s.behind(), testenv.NewRelay(t, s.studio.Addr)
	s.device.Flags = append(s.device.Flags, "-policyCommands")
	agent := s.start(quick(t))
	const script = `i=0; while [ $i -lt 1500 ]; do i=$((i+1)); echo "tick $i"; sleep 0.002; done; echo oops >&2; exit 7`
	run := s.follow(desk, "run", s.device.Serial, "--shell", script)
	for i, cut := range []func(){desk.Cut, link.Cut, func() { desk.Cut(); link.Cut() }} {
		run.reaches("tick", 1+i*200)
		cut()
	}
	run.ends(7)
	if n := run.counted("tick"); n != 1500 {
		t.Errorf("%d ticks, want 1500", n)
	}
	if said := contents(t, run.said); strings.Count(said, "oops\n") != 1 || strings.Contains(said, "lost on its way") {
		t.Errorf("told: %s", said)
	}
	agent.Terminate(syscall.SIGTERM, wellBehaved)
}
