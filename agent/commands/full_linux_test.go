package commands

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"reagent/protocol"
)

// On a full disk the command that empties it still runs, and says what it did.
func TestCommandsRunOnAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a disk of its own takes root")
	}
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=2m,mode=0700"); err != nil {
		t.Skipf("a disk of its own cannot be had: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	dir, ballast := filepath.Join(disk, "commands"), filepath.Join(disk, "ballast")
	quiet := func(c *Config) { c.Log = zerolog.Nop() }
	l := live(t, dir, quiet)
	l.do(t, shell("true"))
	f, err := os.Create(ballast)
	for size := 64 << 10; err == nil && size > 0; size /= 2 {
		for err == nil {
			_, err = f.Write(make([]byte, size))
		}
		if errors.Is(err, syscall.ENOSPC) {
			err = nil
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}

	look := shell("head -c 100000 /dev/zero | tr '\\0' x; echo >&2 full")
	if end := l.do(t, look); !exited(end, 0) || len(value(end.Stdout)) != 100000 || value(end.Stderr) != "full\n" || end.DroppedBytes != 0 {
		t.Errorf("a look at the disk: %d bytes, %+v", len(value(end.Stdout)), end)
	}
	if end := l.do(t, shell("head -c 1000000 /dev/zero")); !exited(end, 0) || !end.Truncated || end.DroppedBytes == 0 || end.StdoutBytes != 1000000 {
		t.Errorf("more than memory is for: %+v", end)
	}
	clean := shell("rm " + ballast)
	if end := l.do(t, clean); !exited(end, 0) {
		t.Errorf("the cleaning: %+v", end)
	}
	l.do(t, shell("true"))
	l.end()
	if info, err := os.Stat(filepath.Join(dir, reserveFile)); err != nil || info.Size() != reserveSize {
		t.Errorf("the reserve is not there again: %v", err)
	}
	l = live(t, dir, quiet)
	if end := l.do(t, look); !end.Replayed || !exited(end, 0) {
		t.Errorf("what was done on the full disk: %+v", end)
	}
}

// Where not even the reserve helps, nothing runs: nobody could tell afterwards.
func TestNothingRunsWithoutARecord(t *testing.T) {
	dir := t.TempDir()
	l := live(t, dir, func(c *Config) { c.Log = zerolog.Nop() })
	mark := filepath.Join(t.TempDir(), "ran")
	l.do(t, shell("true"))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	q := shell("touch " + mark)
	if end, err := l.Do(t.Context(), q); err == nil || strings.Contains(err.Error(), "touch") {
		t.Errorf("Do = %+v, %v, want an error without the arguments", end, err)
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("it ran")
	}
	if _, err := l.Do(t.Context(), Question{Caller: "3", RunCommandArgs: protocol.RunCommandArgs{ID: q.ID}}); !errors.Is(err, errNotFound) {
		t.Errorf("its result: %v, want none", err)
	}
}
