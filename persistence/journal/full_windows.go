package journal

import (
	"errors"
	"syscall"
)

// isFull tells whether a write found no room: ERROR_DISK_FULL or
// ERROR_HANDLE_DISK_FULL.
func isFull(err error) bool {
	return errors.Is(err, syscall.Errno(112)) || errors.Is(err, syscall.Errno(39))
}
