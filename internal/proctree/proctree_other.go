//go:build !unix

package proctree

import (
	"context"
	"errors"
	"os"
	"time"
)

// Of describes the process of this number.
func Of(pid int) (Root, error) { return Root{PID: pid}, nil }

// Runs tells nothing on this system.
func (r Root) Runs() bool { return false }

// Alive tells nothing on this system.
func (r Root) Alive(func(pid int) bool) bool { return false }

// Signal reaches nobody on this system.
func (r Root) Signal(os.Signal, func(pid int) bool) int { return 0 }

// End is not possible on this system, whose jobs are what ends programs.
func (r Root) End(context.Context, time.Duration, func(pid int) bool) error {
	return errors.ErrUnsupported
}

// EndAll is not possible on this system either.
func (r Root) EndAll(context.Context, string, time.Duration, func(pid int) bool) error {
	return errors.ErrUnsupported
}

// EndMarked finds nobody: this system does not show environments.
func EndMarked(context.Context, string, time.Duration) error { return nil }
