//go:build unix && !linux

package proctree

import (
	"context"
	"os"
	"syscall"
	"time"
)

// Of describes the process of this number.
func Of(pid int) (Root, error) { return Root{PID: pid}, syscall.Kill(pid, 0) }

// Runs tells whether the root itself runs; a zombie does.
func (r Root) Runs() bool { return r.PID > 1 && syscall.Kill(r.PID, 0) == nil }

// Alive tells whether anything of the program runs. Where is is given, it has to
// hold for the root.
func (r Root) Alive(is func(pid int) bool) bool { return r.Signal(syscall.Signal(0), is) > 0 }

// Signal sends a signal to the group, and tells whether it was there.
func (r Root) Signal(sig os.Signal, is func(pid int) bool) int {
	s, ok := sig.(syscall.Signal)
	if !ok || r.PID <= 1 || is != nil && !is(r.PID) || syscall.Kill(-r.PID, s) != nil {
		return 0
	}
	return 1
}

// End asks the group to end, and kills what is left after grace. It returns when
// nothing is left; where that cannot be, ErrLeft, and where ctx ends before, its
// error, with everything killed that was still there.
func (r Root) End(ctx context.Context, grace time.Duration, is func(pid int) bool) error {
	for _, step := range []struct {
		sig  syscall.Signal
		most time.Duration
	}{{syscall.SIGTERM, grace}, {syscall.SIGKILL, killed}} {
		if r.Signal(step.sig, is) == 0 {
			return nil
		}
		if step.sig == syscall.SIGTERM {
			r.Signal(syscall.SIGCONT, is)
		}
		late := time.Now().Add(step.most)
		for pause := firstLook; time.Now().Before(late); pause = min(2*pause, lastLook) {
			if !r.Alive(is) {
				return nil
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				r.Signal(syscall.SIGKILL, is)
				return ctx.Err()
			}
		}
	}
	return ErrLeft
}

// EndAll ends what End does: this system does not show environments.
func (r Root) EndAll(ctx context.Context, _ string, grace time.Duration, is func(pid int) bool) error {
	return r.End(ctx, grace, is)
}

// EndMarked finds nobody: this system does not show environments.
func EndMarked(context.Context, string, time.Duration) error { return nil }
