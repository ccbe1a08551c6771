//go:build unix

package container

import (
	"os/exec"
	"syscall"
)

// A group is a process and all that it starts.
type group struct{ cmd *exec.Cmd }

func newGroup(cmd *exec.Cmd) (group, error) {
	cmd.SysProcAttr = leashed()
	return group{cmd}, nil
}

// take is called when the process has started.
func (g group) take() {}

// ask asks all of them to end.
func (g group) ask() error { return syscall.Kill(-g.cmd.Process.Pid, syscall.SIGTERM) }

// kill ends those that are left.
func (g group) kill() {
	if g.cmd.Process != nil {
		_ = syscall.Kill(-g.cmd.Process.Pid, syscall.SIGKILL) // most often there is none
	}
}

func (g group) close() {}
