package filesystem

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// A FileLock is an exclusive lock on a file. It ends with Close or, whatever
// happens, with the process. Programs that this one starts do not inherit it.
type FileLock struct {
	path string
	file *os.File
}

// HeldError says that another process holds a lock. PID is 0 where it cannot be
// known, for example because the holder lives in another container.
type HeldError struct {
	Path string
	PID  int
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is locked by another process", e.Path)
	}
	return fmt.Sprintf("%s is locked by process %d", e.Path, e.PID)
}

// errHeld is what the platform's tryLock answers when somebody has the lock.
var errHeld = errors.New("locked by another process")

// A [Probe] takes the lock for an instant; a Lock that meets it tries again.
const (
	lockTries = 5
	lockPause = 10 * time.Millisecond
)

// Lock takes the lock on path, makes the file (0600) if need be and writes our
// process id into it. It does not wait for the holder: a lock that another process has, or
// another FileLock of this one, is a *HeldError.
func Lock(path string) (*FileLock, error) {
	var err error
	for try := range lockTries {
		if try > 0 {
			time.Sleep(lockPause)
		}
		var l *FileLock
		if l, err = lockOnce(path); err == nil {
			return l, nil
		}
		if !errors.Is(err, errHeld) {
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
	return nil, &HeldError{Path: path, PID: holder(path)}
}

func lockOnce(path string) (*FileLock, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|noFollow, PrivateFile)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f, true); err != nil {
		f.Close()
		return nil, err
	}
	// Somebody may have removed or replaced the file between open and lock; a
	// lock on a file that has no name keeps nobody out.
	now, err := os.Lstat(path)
	ours, err2 := f.Stat()
	if err != nil || err2 != nil || !os.SameFile(now, ours) {
		f.Close()
		return nil, errHeld
	}
	if err := f.Truncate(0); err == nil {
		_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
		if err != nil {
			// A full disk must not keep an agent from starting: the lock holds,
			// only a second instance cannot name us.
			_ = f.Truncate(0)
		}
	}
	return &FileLock{path: path, file: f}, nil
}

// Close ends the lock and removes its file. That is safe while the lock is held:
// whoever has opened the file already finds, once it has the lock, that the name
// is gone, and tries again with a new file.
func (l *FileLock) Close() error {
	now, err := os.Lstat(l.path)
	ours, err2 := l.file.Stat()
	if err == nil && err2 == nil && os.SameFile(now, ours) {
		_ = os.Remove(l.path) // Windows keeps an open file
	}
	_ = l.file.Truncate(0)
	return l.file.Close()
}

// Probe reports whether another process holds a lock on path, as a *HeldError,
// without making the file. A file that is not there is not locked.
func Probe(path string) error {
	f, err := os.OpenFile(path, os.O_RDONLY|noFollow, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("probe lock %s: %w", path, err)
	}
	defer f.Close()
	err = tryLock(f, false)
	if errors.Is(err, errHeld) {
		return &HeldError{Path: path, PID: holder(path)}
	}
	if err != nil {
		return fmt.Errorf("probe lock %s: %w", path, err)
	}
	return nil
}

// holder finds out who has the lock: from the file, else from the system.
func holder(path string) int {
	f, err := os.OpenFile(path, os.O_RDONLY|noFollow, 0)
	if err != nil {
		return 0
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, 32))
	if pid, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && pid > 0 {
		return pid
	}
	return systemHolder(f)
}
