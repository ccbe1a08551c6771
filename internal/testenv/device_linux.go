package testenv

import "syscall"

// dieWithUs ends a started program with the test process, however that ends.
func dieWithUs() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
