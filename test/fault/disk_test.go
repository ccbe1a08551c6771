//go:build linux

package fault

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/test/rig"
)

// TestAFullDiskIsSurvivedAndHealed fills the disk of the apps' data, where the
// agent's database lies, too.
func TestAFullDiskIsSurvivedAndHealed(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	fill, empty := smallDisk(t, s.device.AppsDir())
	web, other := s.app("web"), s.app("other")
	s.Release(web, rig.Release{Version: "1.0.0"})
	s.Release(other, rig.Release{Version: "1.0.0"})
	agent := s.start(quick(t))
	begun := s.run(web, "1.0.0")

	fill()
	wished := s.Deploy(other, s.device.Serial, "1.0.0", nil)
	t.Logf("a wish on a full disk: delivered %t, %s", wished.Delivered, wished.Reason)
	// A database of a few pages may have had room for the wish, but not for all
	// that follows from it.
	testenv.Eventually(t, wait, func() string { return fmt.Sprintf("it is said why: %+v", s.State(other, s.device.Serial)) }, func() bool {
		return strings.Contains(wished.Reason+s.State(other, s.device.Serial).Error+s.device.Log(), "no space left")
	})
	s.reachable()
	s.same(web, begun)

	agent.Kill()
	agent = s.start(quick(t)) // it comes up on a full disk, too
	s.reachable()
	s.same(web, begun)

	empty()
	s.wait(other, protocol.Running, "1.0.0")
	s.wait(web, protocol.Running, "1.0.0")
	s.same(web, begun)
	agent.Terminate(syscall.SIGTERM, wellBehaved)
}

// smallDisk puts a disk of its own, of a few megabytes, at a folder; fill takes
// the rest of it, and empty gives it back.
func smallDisk(t *testing.T, at string) (fill, empty func()) {
	t.Helper()
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", at, "tmpfs", 0, "size=8m,mode=0755"); err != nil {
		t.Fatalf("a small disk needs root and the right to mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(at, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(at, "ballast")
	fill = func() {
		t.Helper()
		f, err := os.Create(ballast)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for block := make([]byte, 64<<10); err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("fill the disk: %v", err)
		}
	}
	empty = func() {
		t.Helper()
		if err := os.Remove(ballast); err != nil {
			t.Fatal(err)
		}
	}
	return fill, empty
}
