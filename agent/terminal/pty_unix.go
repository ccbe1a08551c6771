//go:build unix

package terminal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	"reagent/internal/proctree"
)

// grace is how long programs have to end before they are killed.
const grace = 2 * time.Second

// A ptyShell is a shell of this machine on a pseudo-terminal.
type ptyShell struct {
	master *os.File
	cmd    *exec.Cmd
	root   proctree.Root
	exited chan struct{}
}

// device starts the login shell of the configured user.
func (s system) device(context.Context) (shell, error) {
	l, err := findLogin(s.user)
	if err != nil {
		return nil, err
	}
	return startLogin(l)
}

func startLogin(l login) (shell, error) {
	master, tty, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	defer tty.Close()
	cmd := &exec.Cmd{
		Path: l.shell, Args: []string{"-" + filepath.Base(l.shell)}, // how a shell knows that it is a login's
		Dir: l.home, Env: l.environment(os.Getenv),
		Stdin: tty, Stdout: tty, Stderr: tty,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Setctty: true, Credential: l.credential()},
	}
	sh, err := startOn(cmd, master, tty, l)
	if err != nil {
		_ = master.Close()
		return nil, l.mayNotStart(err)
	}
	return sh, nil
}

func startOn(cmd *exec.Cmd, master, tty *os.File, l login) (*ptyShell, error) {
	if err := pty.Setsize(master, &pty.Winsize{Rows: firstHeight, Cols: firstWidth}); err != nil {
		return nil, err
	}
	if l.foreign {
		// It is the user's terminal, as after a login.
		if err := errors.Join(tty.Chown(int(l.uid), -1), tty.Chmod(0o620)); err != nil {
			return nil, err
		}
	}
	pollable, err := nonblocking(master)
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		_ = pollable.Close()
		return nil, err
	}
	proctree.Ordinary(cmd.Process.Pid)
	_ = master.Close()
	sh := &ptyShell{master: pollable, cmd: cmd, exited: make(chan struct{})}
	if sh.root, err = proctree.Of(cmd.Process.Pid); err != nil {
		sh.root = proctree.Root{PID: cmd.Process.Pid}
	}
	go func() { // it ends with the shell, which End ends
		defer close(sh.exited)
		_ = cmd.Wait()
	}()
	return sh, nil
}

// nonblocking gives the same terminal as a file whose Close ends a Read that
// waits, which the library's does not.
func nonblocking(f *os.File) (*os.File, error) {
	// At once: a program that starts meanwhile must not inherit it.
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

func (s *ptyShell) Read(p []byte) (int, error)  { return s.master.Read(p) }
func (s *ptyShell) Write(p []byte) (int, error) { return s.master.Write(p) }
func (s *ptyShell) Close() error                { return s.master.Close() }

// Resize may be called while another goroutine closes the terminal: the library's
// way of setting a size might then hit a file that has got its number.
func (s *ptyShell) Resize(_ context.Context, height, width uint16) error {
	conn, err := s.master.SyscallConn()
	if err == nil {
		var refused error
		err = conn.Control(func(fd uintptr) {
			refused = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: height, Col: width})
		})
		err = errors.Join(err, refused)
	}
	if err != nil {
		return fmt.Errorf("resize the terminal: %w", err)
	}
	return nil
}

func (s *ptyShell) Wait(ctx context.Context) error {
	select {
	case <-s.exited:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// End ends all that belongs to the shell. HUP first: it is what a terminal that
// goes away says, and shells and editors save by it what they have.
func (s *ptyShell) End(ctx context.Context) error {
	s.root.Signal(syscall.SIGHUP, nil)
	if err := s.root.End(ctx, grace, nil); err != nil {
		return err // the kernel, or another user, holds on to it: Close frees the terminal
	}
	if !within(s.exited, grace) { // it cannot even be seen
		return proctree.ErrLeft
	}
	return nil
}
