package commands

import "syscall"

// leashed gives the program a session of its own, and lets it die with the thread
// that starts it: what an end of the agent leaves behind is its children only,
// which the next life finds by their mark.
func leashed() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
}
