//go:build unix && !linux

package container

import "syscall"

// leashed gives the process a group of its own.
func leashed() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
