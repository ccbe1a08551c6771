package filesystem

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// TestMain lets this binary be the other process: it takes the lock, says so,
// and keeps it until its input ends.
func TestMain(m *testing.M) {
	if path := os.Getenv("LOCK_TEST_HOLD"); path != "" {
		l, err := Lock(path)
		fmt.Println(err)
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		if os.Getenv("LOCK_TEST_BLANK") != "" && l != nil {
			_ = l.file.Truncate(0)
			fmt.Println("blank")
			_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// hold starts the other process and waits until it has the lock.
func hold(t *testing.T, path string, env ...string) (cmd *exec.Cmd, next func() string) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), "LOCK_TEST_HOLD="+path), env...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewReader(out)
	read := func() string { s, _ := lines.ReadString('\n'); return strings.TrimSpace(s) }
	if got := read(); got != "<nil>" {
		t.Fatalf("the other process did not get the lock: %q", got)
	}
	return cmd, func() string { fmt.Fprintln(in); return read() }
}

func TestLockNamesTheProcessThatHasIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd, _ := hold(t, path)
	for what, err := range map[string]error{"Lock": lockError(path), "Probe": Probe(path)} {
		var held *HeldError
		if !errors.As(err, &held) || held.PID != cmd.Process.Pid || held.Path != path {
			t.Errorf("%s = %v, want a HeldError with pid %d", what, err, cmd.Process.Pid)
		}
	}
}

func lockError(path string) error {
	l, err := Lock(path)
	if err == nil {
		l.Close()
	}
	return err
}

// The reference agent writes nothing into its lock file.
func TestHolderOfABlankLockFileIsAskedOfTheSystem(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells who has a lock")
	}
	path := filepath.Join(t.TempDir(), "lock")
	cmd, next := hold(t, path, "LOCK_TEST_BLANK=1")
	if got := next(); got != "blank" {
		t.Fatalf("the other process said %q", got)
	}
	var held *HeldError
	if err := Probe(path); !errors.As(err, &held) {
		t.Fatalf("Probe = %v, want a HeldError", err)
	}
	// Where files lie on a file system whose device number the table of locks
	// spells differently (overlay, btrfs), not knowing is right and lying is not.
	if held.PID != cmd.Process.Pid && held.PID != 0 {
		t.Errorf("pid = %d, want %d", held.PID, cmd.Process.Pid)
	}
}

func TestLockEndsWithItsProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd, _ := hold(t, path)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if err := Probe(path); err != nil {
		t.Errorf("Probe after the holder died = %v", err)
	}
	if err := lockError(path); err != nil {
		t.Errorf("Lock after the holder died = %v", err)
	}
}

func TestLockKeepsOutASecondOneOfTheSameProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != fmt.Sprintln(os.Getpid()) {
		t.Errorf("the lock file holds %q, %v", text, err)
	}
	var held *HeldError
	if err := lockError(path); !errors.As(err, &held) || held.PID != os.Getpid() {
		t.Errorf("second Lock = %v, want a HeldError with our pid", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil && runtime.GOOS != "windows" {
		t.Error("the file stayed after Close")
	}
	if err := lockError(path); err != nil {
		t.Errorf("Lock after Close = %v", err)
	}
}

// The file of a lock goes with it, and a name that changes hands all the time
// must never have two owners.
func TestALockHasOneOwnerWhileItsFileComesAndGoes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var owners atomic.Int32
	var taken atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				l, err := Lock(path)
				if err != nil {
					continue
				}
				if n := owners.Add(1); n != 1 {
					t.Errorf("%d owners at once", n)
				}
				taken.Add(1)
				owners.Add(-1)
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() == 0 {
		t.Error("nobody got the lock")
	}
}

func TestProbeMakesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "lock")
	if err := Probe(path); err != nil {
		t.Errorf("Probe of nothing = %v", err)
	}
	wantOnly(t, dir)
	put(t, path, "", 0o600)
	if err := Probe(path); err != nil {
		t.Errorf("Probe of an unlocked file = %v", err)
	}
}

func TestLockDoesNotFollowALink(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "victim"), "precious", 0o600)
	link(t, "victim", filepath.Join(dir, "lock"))
	if runtime.GOOS == "windows" {
		t.Skip("Windows opens links like files")
	}
	if err := lockError(filepath.Join(dir, "lock")); err == nil {
		t.Error("Lock followed a link")
	}
	wantFile(t, filepath.Join(dir, "victim"), "precious", 0o600)
}
