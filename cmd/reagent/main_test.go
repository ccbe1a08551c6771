package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/config"
	"reagent/release"
)

// TestMain lets this binary be the program, with an agent that says that it is
// up and ends when it is asked to.
func TestMain(m *testing.M) {
	if os.Getenv("REAGENT_TEST_PROGRAM") != "" {
		os.Exit(execute(os.Args[1:], func(ctx context.Context, _ *config.Config, _ zerolog.Logger) error {
			fmt.Println("up")
			<-ctx.Done()
			return ctx.Err()
		}))
	}
	os.Exit(m.Run())
}

// A device is a machine with nothing but a device file on it.
type device struct {
	t    *testing.T
	dir  string
	env  map[string]string
	file string
}

func newDevice(t *testing.T) *device {
	t.Helper()
	d := &device{t: t, dir: t.TempDir()}
	d.file = filepath.Join(d.dir, "device.reswarm")
	d.env = map[string]string{
		"HOME": d.dir, "XDG_STATE_HOME": filepath.Join(d.dir, "state"), "XDG_RUNTIME_DIR": filepath.Join(d.dir, "run"),
		"REAGENT_AGENT_DIR": filepath.Join(d.dir, "agent"), "REAGENT_APPS_DIR": filepath.Join(d.dir, "apps"), "REAGENT_LOG_FILE": filepath.Join(d.dir, "log", "reagent.log"),
	}
	text := fmt.Sprintf(`{"serial_number": %q, "secret": "s3cret", "swarm_key": 41, "device_key": 7, "device_endpoint_url": "ws://127.0.0.1:1"}`, filepath.Base(filepath.Dir(d.dir))+"-"+filepath.Base(d.dir)+fmt.Sprint(os.Getpid()))
	if err := os.WriteFile(d.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return d
}

// do runs the program in this process with an agent of the test.
func (d *device) do(start starter, args ...string) (stdout, stderr string, err error) {
	var out, errs bytes.Buffer
	p := program{getenv: func(n string) string { return d.env[n] }, stdout: &out, stderr: &errs, now: time.Now, start: start}
	err = p.run(context.Background(), args)
	return out.String(), errs.String(), err
}

// process starts the program as a process of its own.
func (d *device) process(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = []string{"REAGENT_TEST_PROGRAM=1", "GORACE=atexit_sleep_ms=0"}
	for k, v := range d.env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	return cmd
}

func TestExitCodesAndWhereTheWordsGo(t *testing.T) {
	d := newDevice(t)
	damaged := filepath.Join(d.dir, "damaged.reswarm")
	if err := os.WriteFile(damaged, []byte("{\n \"secret\": \"s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args, stdout, stderr string
		code                 int
	}{
		{"--version", release.Version + "\n", "", 0},
		{"-config /nonexistent -debug -version", release.Version + "\n", "", 0},
		{"version", release.Version + "\n", "", 0},
		{"-arch", release.Arch() + "\n", "", 0},
		{"-help", "Usage:", "", 0},
		{"help", "Usage:", "", 0},
		{"help status", "reagent status [-agentDir DIR]", "", 0},
		{"status -help", "reagent status [-agentDir DIR]", "", 0},
		{"", "", "reagent: -config is needed", 2},
		{"-config /nonexistent", "", "/nonexistent", 2},
		{"-config " + damaged, "", "damaged.reswarm:2:", 2},
		{"-frobnicate", "", "-frobnicate", 2},
		{"frobnicate", "", `no command "frobnicate"`, 2},
		{"status --output yaml", "", "neither table nor json", 2},
		{"status extra", "", `unexpected "extra"`, 2},
		{"status", "", "no agent has run in", 1},
		{"service install", "", "Windows only", 1},
	} {
		t.Run(row.args, func(t *testing.T) {
			cmd := d.process(strings.Fields(row.args)...)
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			_ = cmd.Run()
			if got := cmd.ProcessState.ExitCode(); got != row.code {
				t.Errorf("exit code = %d, want %d", got, row.code)
			}
			if !strings.Contains(out.String(), row.stdout) || row.stdout == "" && out.Len() > 0 {
				t.Errorf("stdout = %q, want %q", out.String(), row.stdout)
			}
			if !strings.Contains(errs.String(), row.stderr) || row.stderr == "" && errs.Len() > 0 {
				t.Errorf("stderr = %q, want %q", errs.String(), row.stderr)
			}
			if strings.Contains(out.String()+errs.String(), "s3cret") {
				t.Error("the secret was printed")
			}
		})
	}
	if entries, err := os.ReadDir(d.dir); err != nil || len(entries) != 2 {
		t.Errorf("questions and errors made files: %v, %v", entries, err)
	}
}

// up waits until a process says that its agent runs.
func up(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // asked, not killed, so that its lock in /run goes, too
		if cmd.Process.Signal(syscall.SIGTERM) != nil {
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait()
	})
	line := make([]byte, 3)
	if _, err := out.Read(line); err != nil || string(line) != "up\n" {
		t.Fatalf("the agent said %q, %v", line, err)
	}
}

func TestASignalEndsTheAgentWithExitCodeZero(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		d := newDevice(t)
		cmd := d.process("-config", d.file)
		up(t, cmd)
		if err := cmd.Process.Signal(sig); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("after %v: %v", sig, err)
		}
	}
}

func TestASecondAgentIsRefusedWithTheFirstOnesProcess(t *testing.T) {
	d := newDevice(t)
	first := d.process("-config", d.file)
	up(t, first)
	for _, extra := range [][]string{nil, {"-agentDir", filepath.Join(d.dir, "other")}} {
		second := d.process(append([]string{"-config", d.file}, extra...)...)
		var errs bytes.Buffer
		second.Stderr = &errs
		_ = second.Run()
		if got := second.ProcessState.ExitCode(); got != exitRunning {
			t.Errorf("%v: exit code = %d, want %d", extra, got, exitRunning)
		}
		if want := fmt.Sprintf("process %d", first.Process.Pid); !strings.Contains(errs.String(), want) {
			t.Errorf("%v: stderr = %q, want %q in it", extra, errs.String(), want)
		}
	}
}

func TestTheFirstLogLineSaysWhereStateLives(t *testing.T) {
	d := newDevice(t)
	var got *config.Config
	_, stderr, err := d.do(func(_ context.Context, cfg *config.Config, log zerolog.Logger) error {
		got = cfg
		log.Debug().Msg("in between")
		return nil
	}, "-config", d.file)
	if err != nil || stderr != "" {
		t.Fatalf("run = %v, stderr %q", err, stderr)
	}
	text, err := os.ReadFile(d.env["REAGENT_LOG_FILE"])
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 3 {
		t.Fatalf("log:\n%s", text)
	}
	var first map[string]any
	if err := json.Unmarshal([]byte(lines[0]), &first); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"agent_dir": got.AgentDir, "apps_dir": got.AppsDir, "database": got.Database, "log_file": got.Log.File, "device_file": d.file, "authid": "41-7", "version": release.Version} {
		if first[key] != want {
			t.Errorf("%s = %v, want %s", key, first[key], want)
		}
	}
	if strings.Contains(string(text), "s3cret") {
		t.Error("the log holds the secret")
	}
	if info, err := os.Stat(d.env["REAGENT_LOG_FILE"]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the log: %v, %v", info.Mode(), err)
	}
}

func TestALogThatCannotBeWrittenGoesToTheConsole(t *testing.T) {
	d := newDevice(t)
	d.env["REAGENT_LOG_FILE"] = d.dir // a folder
	started := false
	_, stderr, err := d.do(func(_ context.Context, _ *config.Config, log zerolog.Logger) error {
		started = true
		log.Info().Msg("still here")
		return nil
	}, "-config", d.file)
	if err != nil || !started {
		t.Fatalf("run = %v, started = %v", err, started)
	}
	for _, want := range []string{"console only", "-logFile", "still here"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("stderr = %q, want %q in it", stderr, want)
		}
	}
}

func TestPrettyLoggingCopiesAndDebugFilters(t *testing.T) {
	d := newDevice(t)
	_, stderr, err := d.do(func(_ context.Context, _ *config.Config, log zerolog.Logger) error {
		log.Debug().Msg("a detail")
		log.Info().Msg("an event")
		return nil
	}, "-config", d.file, "-prettyLogging", "-debug=false")
	text, _ := os.ReadFile(d.env["REAGENT_LOG_FILE"])
	for where, got := range map[string]string{"console": stderr, "file": string(text)} {
		if err != nil || !strings.Contains(got, "an event") || strings.Contains(got, "a detail") {
			t.Errorf("%s holds %q, %v", where, got, err)
		}
	}
}

func TestAnOpenLogFileIsClosedToOthersAndDevicesAreNotRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reagent.log")
	if err := os.WriteFile(path, []byte("old\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	w, err := openLog(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("new\n")); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := os.ReadFile(path); string(text) != "old\nnew\n" || info.Mode().Perm() != 0o600 {
		t.Errorf("log = %q with mode %v", text, info.Mode())
	}
	null, err := openLog(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if _, plain := null.(*os.File); !plain {
		t.Errorf("%s is opened as %T, which renames it one day", os.DevNull, null)
	}
}

func TestAFailingAgentIsAFailure(t *testing.T) {
	d := newDevice(t)
	_, _, err := d.do(func(context.Context, *config.Config, zerolog.Logger) error { return errors.New("engine on fire") }, "-config", d.file)
	if err == nil || exitCode(err) != exitFailure {
		t.Errorf("run = %v with exit code %d", err, exitCode(err))
	}
	text, _ := os.ReadFile(d.env["REAGENT_LOG_FILE"])
	if !strings.Contains(string(text), `"err":"engine on fire"`) {
		t.Errorf("log:\n%s", text)
	}
}

func TestServiceOnWindowsKnowsItsVerbs(t *testing.T) {
	for _, row := range []struct {
		args string
		code int
	}{{"install", exitFailure}, {"status", exitFailure}, {"frobnicate", exitUsage}, {"", exitUsage}} {
		if err := serviceOn("windows", strings.Fields(row.args)); err == nil || exitCode(err) != row.code {
			t.Errorf("service %s: %v with exit code %d, want %d", row.args, err, exitCode(err), row.code)
		}
	}
}

func TestHelpTeaches(t *testing.T) {
	out, _, err := newDevice(t).do(nil, "-help")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Examples:", "reagent -config press-07.reswarm", "reagent status [-agentDir DIR] [--output json]", "Exit codes:", "-agentDir DIR", "$REAGENT_AGENT_DIR", "No effect yet."} {
		if !strings.Contains(out, want) {
			t.Errorf("-help does not say %q", want)
		}
	}
	if _, _, err := newDevice(t).do(nil, "help", "status"); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("help status: %v", err)
	}
}

func TestVersionAsJSON(t *testing.T) {
	out, _, err := newDevice(t).do(nil, "version", "--output", "json")
	var v map[string]string
	if err != nil || json.Unmarshal([]byte(out), &v) != nil || v["version"] != release.Version || v["arch"] != release.Arch() {
		t.Errorf("version = %q, %v", out, err)
	}
}
