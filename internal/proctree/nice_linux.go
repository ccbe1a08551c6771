package proctree

import "syscall"

// Ordinary gives a program that has just been started, and leads a group of its
// own, the priority that programs have by default, if this process passed a
// better one on to it. A service that must answer whatever happens has one; what
// it runs for others has no claim to that.
func Ordinary(pid int) { noBetterThan(pid, 0) }

// noBetterThan lowers a group's priority to this niceness, and never raises it.
// It is the group's, not the process's, so that whom it has started meanwhile and
// all its threads are included.
func noBetterThan(pid, nice int) {
	const zero = 20 // the system call tells 20 - nice, which is never negative
	if now, err := syscall.Getpriority(syscall.PRIO_PGRP, pid); err == nil && zero-now < nice {
		// It ends with the program at worst, and then there is nothing to lower.
		_ = syscall.Setpriority(syscall.PRIO_PGRP, pid, nice)
	}
}
