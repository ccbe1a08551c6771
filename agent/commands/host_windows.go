package commands

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// passedOn are the agent's variables that commands get.
var passedOn = []string{
	"PATH", "PATHEXT", "SystemRoot", "SystemDrive", "ComSpec", "windir", "TEMP", "TMP", "USERPROFILE", "USERNAME",
	"ProgramFiles", "ProgramFiles(x86)", "ProgramData", "APPDATA", "LOCALAPPDATA", "PROCESSOR_ARCHITECTURE", "NUMBER_OF_PROCESSORS",
}

// A group is a program and all that it starts: a job, which ends with the last
// handle of it, and so with the agent.
type group struct {
	cmd *exec.Cmd
	job windows.Handle
}

func newGroup(cmd *exec.Cmd) (group, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: syscall.CREATE_NEW_PROCESS_GROUP, HideWindow: true}
	job, err := windows.CreateJobObject(nil, nil)
	if err != nil {
		return group{}, fmt.Errorf("create a job: %w", err)
	}
	g := group{cmd, job}
	limits := windows.JOBOBJECT_EXTENDED_LIMIT_INFORMATION{}
	limits.BasicLimitInformation.LimitFlags = windows.JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
	if _, err := windows.SetInformationJobObject(job, windows.JobObjectExtendedLimitInformation,
		uintptr(unsafe.Pointer(&limits)), uint32(unsafe.Sizeof(limits))); err != nil {
		g.close()
		return group{}, fmt.Errorf("limit a job: %w", err)
	}
	return g, nil
}

// take puts the program that has started into the job. One that cannot be put
// there is ended by its own handle alone.
func (g group) take() {
	process, err := windows.OpenProcess(windows.PROCESS_SET_QUOTA|windows.PROCESS_TERMINATE, false, uint32(g.cmd.Process.Pid))
	if err != nil {
		return
	}
	defer windows.CloseHandle(process)
	_ = windows.AssignProcessToJobObject(g.job, process)
}

// end ends all of them at once: Windows has no signal that every program heeds. Who
// belongs to a job needs no mark.
func (g group) end(context.Context, string, time.Duration) error {
	_ = g.cmd.Process.Kill() // most often it ends with the job
	return windows.TerminateJobObject(g.job, 1)
}

func (g group) close() { _ = windows.CloseHandle(g.job) }

func signalOf(*os.ProcessState) string { return "" }
