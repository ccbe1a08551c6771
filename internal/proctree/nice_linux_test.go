package proctree

import (
	"syscall"
	"testing"
)

func TestAPriorityIsLoweredForAllThatAProgramStartedAndNeverRaised(t *testing.T) {
	root, pids := program(t, `sleep 300 & echo $!; sleep 300 & echo $!; wait`, 2)
	for _, step := range []struct{ most, want int }{{5, 5}, {0, 5}, {7, 7}, {5, 7}} {
		noBetterThan(root.PID, step.most)
		for _, pid := range append(pids, root.PID) {
			if prio, err := syscall.Getpriority(syscall.PRIO_PROCESS, pid); err != nil || 20-prio != step.want {
				t.Errorf("no better than %d: process %d has %d (%v), want %d", step.most, pid, 20-prio, err, step.want)
			}
		}
	}
	Ordinary(root.PID)
	if prio, err := syscall.Getpriority(syscall.PRIO_PROCESS, root.PID); err != nil || 20-prio != 7 {
		t.Errorf("Ordinary raised it to %d (%v)", 20-prio, err)
	}
}
