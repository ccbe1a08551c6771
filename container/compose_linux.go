package container

import (
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// leashed gives the process a group of its own, and lets it die with the thread
// that starts it: an agent that is killed leaves nothing behind that goes on.
func leashed() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// inMemory makes path lead to content that only the child and its children can
// read, and that is never on a disk: a link to their own third file.
func inMemory(path string, content []byte) (*os.File, error) {
	fd, err := unix.MemfdCreate("config.json", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), path)
	if _, err = f.Write(content); err == nil {
		err = os.Symlink("/proc/self/fd/3", path)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("configuration in memory: %w", err)
	}
	return f, nil
}
