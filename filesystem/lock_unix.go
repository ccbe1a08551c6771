//go:build unix

package filesystem

import (
	"errors"
	"os"
	"syscall"
)

// Not through links, and not waiting for the other end of a pipe: lock files lie
// in folders such as /tmp, where anybody may put anything.
const noFollow = syscall.O_NOFOLLOW | syscall.O_NONBLOCK

func tryLock(f *os.File, exclusive bool) error {
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
			continue
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errHeld
		}
		return err
	}
}
