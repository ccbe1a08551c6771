//go:build !linux

package testenv

import "syscall"

func dieWithUs() *syscall.SysProcAttr { return nil }
