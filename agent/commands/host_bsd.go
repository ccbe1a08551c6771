//go:build unix && !linux

package commands

import "syscall"

// leashed gives the program a session of its own.
func leashed() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setsid: true} }
