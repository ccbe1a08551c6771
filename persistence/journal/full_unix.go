//go:build unix

package journal

import (
	"errors"
	"syscall"
)

// isFull tells whether a write found no room.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }
