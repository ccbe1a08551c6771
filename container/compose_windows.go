package container

import (
	"os"
	"os/exec"
	"syscall"
)

// isolate gives the process a group of its own, without a console window.
func isolate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
}

// askToEnd ends the process: Windows has no signal that every program heeds.
func askToEnd(p *os.Process) error { return p.Kill() }

func killRest(*os.Process) {}
