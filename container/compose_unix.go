//go:build unix

package container

import (
	"os"
	"syscall"
)

// askToEnd asks the process and all that it started.
func askToEnd(p *os.Process) error { return syscall.Kill(-p.Pid, syscall.SIGTERM) }

// killRest ends what is left of a process's group.
func killRest(p *os.Process) {
	if p != nil {
		_ = syscall.Kill(-p.Pid, syscall.SIGKILL) // most often there is none
	}
}
