package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reagent/filesystem"
	"reagent/protocol"
)

// configured makes a configuration whose folders lie below dir.
func configured(t *testing.T, dir, agentDir, serial string) *Config {
	t.Helper()
	path := writeFile(t, strings.Replace(sample, "0b0f3f0e-7a7e-4a0c-9a55-2f6f0c1d9e77", serial, 1))
	cfg, err := load([]string{"-config", path, "-agentDir", filepath.Join(dir, agentDir)}, env(), machine(dir))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestOneAgentAFolderAndADevice(t *testing.T) {
	dir := t.TempDir()
	first, err := configured(t, dir, "a", "sn-1").Lock()
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ about, agentDir, serial, want string }{
		{"the same folder", "a", "sn-2", "-agentDir runs already"},
		{"the same device", "b", "sn-1", "another agent of device sn-1 runs already"},
	} {
		var running *RunningError
		_, err := configured(t, dir, row.agentDir, row.serial).Lock()
		if !errors.As(err, &running) || running.Held.PID != os.Getpid() || !strings.Contains(err.Error(), row.want) || !strings.Contains(err.Error(), fmt.Sprint("process ", os.Getpid())) {
			t.Errorf("%s: %v", row.about, err)
		}
	}
	// What was refused keeps nothing: neither the folder b nor the device sn-2.
	other, err := configured(t, dir, "b", "sn-2").Lock()
	if err != nil {
		t.Fatal(err)
	}
	other.Close()
	first.Close()
	first.Close()
	again, err := configured(t, dir, "a", "sn-1").Lock()
	if err != nil {
		t.Fatalf("after the first one ended: %v", err)
	}
	again.Close()
}

func TestTheReferenceAgentIsSeenAndNotLockedOut(t *testing.T) {
	dir := t.TempDir()
	foreign := filepath.Join(dir, "foreign.lock")
	theirs, err := filesystem.Lock(foreign)
	if err != nil {
		t.Fatal(err)
	}
	var running *RunningError
	if _, err := configured(t, dir, "a", "sn").Lock(); !errors.As(err, &running) || !strings.Contains(err.Error(), "another device agent runs already") {
		t.Errorf("beside the reference agent: %v", err)
	}
	theirs.Close()
	ours, err := configured(t, dir, "a", "sn").Lock()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	if theirs, err = filesystem.Lock(foreign); err != nil {
		t.Fatalf("the reference agent cannot come back: %v", err)
	}
	theirs.Close()
}

func TestAnySerialNumberGivesALockName(t *testing.T) {
	seen := map[string]bool{}
	for _, serial := range []string{"0b0f3f0e-7a7e-4a0c-9a55-2f6f0c1d9e77", "../../etc/passwd", "a/b", "ü", strings.Repeat("x", 300), strings.Repeat("x", 301)} {
		name := lockName(serial)
		if seen[name] || filepath.Base(name) != name || len(name) > 120 {
			t.Errorf("lockName(%.20q) = %q", serial, name)
		}
		seen[name] = true
	}
}

func TestLockSaysHowToMendAFolderThatCannotBeMade(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	var running *RunningError
	if _, err := configured(t, dir, "file/a", "sn").Lock(); err == nil || errors.As(err, &running) || !strings.Contains(err.Error(), "-agentDir") {
		t.Errorf("Lock = %v", err)
	}
}

func TestStatusTellsWhetherItsAgentStillRuns(t *testing.T) {
	dir := t.TempDir()
	cfg := configured(t, dir, "a", "sn")
	if _, err := ReadStatus(cfg.AgentDir); err == nil || !strings.Contains(err.Error(), "no agent has run") {
		t.Errorf("before the first one: %v", err)
	}
	locks, err := cfg.Lock()
	if err != nil {
		t.Fatal(err)
	}
	wrote := protocol.AgentStatus{PID: os.Getpid(), State: "online", Since: time.Unix(1e9, 0).UTC(), Apps: []protocol.AppStatus{{AppKey: 7, Stage: protocol.Prod, State: protocol.Running}}}
	if err := WriteStatus(cfg.StatusFile(), wrote); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(cfg.StatusFile())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	got, err := ReadStatus(cfg.AgentDir)
	if err != nil || !got.Running || fmt.Sprint(got.AgentStatus) != fmt.Sprint(wrote) {
		t.Errorf("ReadStatus = %+v, %v, want %+v running", got, err, wrote)
	}
	wrote.PID++ // an earlier agent's; the one that runs now has not written yet
	if err := WriteStatus(cfg.StatusFile(), wrote); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadStatus(cfg.AgentDir); err != nil || got.Running {
		t.Errorf("with another process id: %+v, %v", got, err)
	}
	locks.Close()
	wrote.PID--
	if err := WriteStatus(cfg.StatusFile(), wrote); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadStatus(cfg.AgentDir); err != nil || got.Running {
		t.Errorf("after the end: %+v, %v", got, err)
	}
	if err := os.WriteFile(cfg.StatusFile(), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadStatus(cfg.AgentDir); err == nil {
		t.Error("a damaged status was read")
	}
}
