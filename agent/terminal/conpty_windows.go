package terminal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"unsafe"

	"github.com/UserExistsError/conpty"
	"golang.org/x/sys/windows"

	"reagent/protocol"
)

// A conShell is a shell of this machine on a pseudo-console. All that it starts
// is in a job, which ends as a whole.
type conShell struct {
	pty    *conpty.ConPty
	job    windows.Handle
	handle users // those who use the console's handles, but for Read and Write
	freed  chan struct{}
	waits  context.Context // of Wait
	giveUp context.CancelFunc
}

// device starts the best shell that there is.
func (s system) device(context.Context) (shell, error) {
	if s.user != "" {
		return nil, &protocol.Error{Code: protocol.CodeUnsupported, Text: "policy.terminal_user has no meaning on Windows: terminals run as the agent's own user"}
	}
	line, ok := windowsCommand(exec.LookPath)
	if !ok {
		return nil, &protocol.Error{Code: protocol.CodeNotFound, Text: "there is no shell on this device"}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = ""
	}
	job, err := newJob()
	if err != nil {
		return nil, err
	}
	pty, err := conpty.Start(line, conpty.ConPtyDimensions(firstWidth, firstHeight), conpty.ConPtyWorkDir(home))
	if err != nil {
		_ = windows.CloseHandle(job)
		if errors.Is(err, conpty.ErrConPtyUnsupported) {
			return nil, &protocol.Error{Code: protocol.CodeUnsupported, Text: "terminals need Windows 10 version 1809 or newer"}
		}
		return nil, fmt.Errorf("start %s: %w", line, err)
	}
	sh := &conShell{pty: pty, job: job, freed: make(chan struct{})}
	sh.waits, sh.giveUp = context.WithCancel(context.Background())
	sh.handle.free = func() { _ = pty.Close(); close(sh.freed) }
	sh.take(pty.Pid())
	return sh, nil
}

// newJob makes a job whose last handle ends all in it: the agent's own end does.
func newJob() (windows.Handle, error) {
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return 0, fmt.Errorf("create a job: %w", err)
	}
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		_ = windows.CloseHandle(job)
		return 0, fmt.Errorf("limit a job: %w", err)
	}
	return job, nil
}

// take puts the shell into the job. One that cannot be put there ends with its
// console alone.
func (s *conShell) take(pid int) {
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(pid))
	if err != nil {
		return
	}
	defer windows.CloseHandle(process)
	_ = windows.AssignProcessToJobObject(s.job, process)
}

func (s *conShell) Read(p []byte) (int, error)  { return s.pty.Read(p) }
func (s *conShell) Write(p []byte) (int, error) { return s.pty.Write(p) }

func (s *conShell) Resize(_ context.Context, height, width uint16) error {
	if !s.handle.enter() {
		return errEnded
	}
	defer s.handle.leave()
	return s.pty.Resize(int(width), int(height))
}

func (s *conShell) Wait(ctx context.Context) error {
	if !s.handle.enter() {
		return nil
	}
	defer s.handle.leave()
	stop := context.AfterFunc(ctx, s.giveUp)
	defer stop()
	_, err := s.pty.Wait(s.waits)
	return err
}

// End ends the job. Windows has no signal that every program heeds, so there is
// no grace.
func (s *conShell) End(context.Context) error {
	_ = windows.TerminateJobObject(s.job, 1)
	return nil
}

// Close closes the console, by which those end who read or write.
func (s *conShell) Close() error {
	s.giveUp()
	s.handle.close()
	<-s.freed
	return windows.CloseHandle(s.job)
}
