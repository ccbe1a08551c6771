//go:build unix

package commands

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"reagent/internal/proctree"
)

// passedOn are the agent's variables that commands get.
var passedOn = []string{"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"}

// A group is a program and all that it starts.
type group struct {
	cmd  *exec.Cmd
	root *proctree.Root // shared by the copies of a group
}

func newGroup(cmd *exec.Cmd) (group, error) {
	cmd.SysProcAttr = leashed()
	return group{cmd, new(proctree.Root)}, nil
}

// take is called when the program has started. It is not reaped yet, so its number
// is its own.
func (g group) take() {
	*g.root = proctree.Root{PID: g.cmd.Process.Pid}
	if root, err := proctree.Of(g.cmd.Process.Pid); err == nil {
		*g.root = root
	}
}

func (g group) end(ctx context.Context, mark string, grace time.Duration) error {
	return g.root.EndAll(ctx, mark, grace, nil)
}

func (g group) close() {}

// signalOf is the name of the signal that ended a program.
func signalOf(state *os.ProcessState) string {
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return ""
	}
	return unix.SignalName(status.Signal())
}
