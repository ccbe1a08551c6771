package apps

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reagent/container"
	"reagent/protocol"
)

// Where the engine refuses privileged containers, their devices are mapped one
// by one. A terminal that somebody has open, by SSH or through the agent, is a
// device too, and none that a container could get.
func TestOldVersionComesBackWhileSomebodyHasATerminal(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	old := r.running("1")
	r.settled(protocol.Running)
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	before := len(r.states())
	r.request(toVersion("crash", 13))
	r.eventually("the roll-back is reported", func() bool { return slices.Contains(r.states(), "RUNNING(canceled)") })
	r.settled(protocol.Running)
	if back := r.running("1"); back != old {
		t.Errorf("the old container was replaced by %s, not brought back; reported %q", back, r.states()[before:])
	}
}

// failing does not start one container, for a while.
type failing struct {
	engine
	id   string
	err  error
	left atomic.Int64 // so many times
}

func (f *failing) fails(id string) bool { return id == f.id && f.left.Add(-1) >= 0 }

func (f *failing) Start(ctx context.Context, id string) error {
	if f.fails(id) {
		return fmt.Errorf("start container %s: %w", id, f.err)
	}
	return f.engine.Start(ctx, id)
}

// What a container wrote into itself is not given up for trouble that passes.
func TestContainerThatCannotStartNowIsKept(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.waits.Room = 200 * time.Millisecond
	r.request(nil)
	r.settled(protocol.Running)
	for name, err := range map[string]error{
		"no room":  fmt.Errorf("write /run/config.json: %w", container.ErrNoSpace),
		"whatever": errors.New("failed to create task for container: device or resource busy"),
	} {
		id := r.halt()
		e := &failing{engine: r.engine, id: id, err: err}
		e.left.Store(2)
		r.engine = e
		r.start()
		if again := r.running("1"); again != id {
			t.Errorf("%s: container %s came back as %s", name, id, again)
		}
		if left := e.left.Load(); left >= 0 {
			t.Errorf("%s: it was started before its trouble was over, %d failures were left", name, left+1)
		}
		r.settled(protocol.Running)
	}
}

// One that a power cut has damaged starts no more.
func TestContainerThatNeverStartsIsMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	id := r.halt()
	e := &failing{engine: r.engine, id: id, err: errors.New("error creating overlay mount: structure needs cleaning")}
	e.left.Store(1 << 30)
	r.engine = e
	r.start()
	if again := r.running("1"); again == id {
		t.Errorf("container %s started, which does not start", id)
	}
	r.settled(protocol.Running)
	if tried := 1<<30 - e.left.Load(); tried != mostStarts+1 {
		t.Errorf("the damaged container was started %d times, want %d", tried, mostStarts+1)
	}
}

// A parked container whose device was unplugged meanwhile is made anew in the
// same roll-back: the old version does not fail for it.
func TestOldVersionIsMadeAnewWhereADeviceOfItIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	old := r.running("1")
	r.settled(protocol.Running)
	r.stop()
	e := &failing{engine: r.engine, id: old, err: fmt.Errorf("no such device: %w", container.ErrDemand)}
	e.left.Store(1 << 30)
	r.engine = e
	r.start()
	before := len(r.states())
	r.request(toVersion("crash", 13))
	r.eventually("the roll-back is done", func() bool { return slices.Contains(r.states(), "RUNNING(canceled)") })
	r.settled(protocol.Running)
	if back := r.running("1"); back == old {
		t.Errorf("container %s runs, which does not start", back)
	}
	failures := 0
	for _, s := range r.states()[before:] {
		if strings.HasPrefix(s, "FAILED") {
			failures++
		}
	}
	if failures != 1 {
		t.Errorf("reported %q, want one failure, of the new version", r.states()[before:])
	}
}
