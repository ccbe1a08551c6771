package config

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"reagent/filesystem"
)

// Locks keep a second agent away while this one runs. They end with Close or
// with the process.
type Locks struct {
	held []*filesystem.FileLock
}

// A RunningError says that another agent runs here. The exit code is 3.
type RunningError struct {
	What string // what the other one is
	Held *filesystem.HeldError
}

func (e *RunningError) Error() string { return fmt.Sprintf("%s runs already (%v)", e.What, e.Held) }
func (e *RunningError) Unwrap() error { return e.Held }

// Lock takes the lock of the agent folder and the one of the device, and makes
// their folders. It looks at the lock of the reference agent, too, but does not
// take it: that agent must be able to come back. An agent that runs already is a
// *RunningError that carries its process id.
func (c *Config) Lock() (*Locks, error) {
	if err := os.MkdirAll(c.AgentDir, 0o755); err != nil {
		return nil, fmt.Errorf("agent folder: %w: give another with -agentDir, or run as root", err)
	}
	if err := filesystem.MakePrivateDir(c.machine.RunDir); err != nil {
		return nil, fmt.Errorf("folder of locks: %w", err)
	}
	if c.machine.ForeignLock != "" {
		// A lock that we may not even look at is somebody else's business, as are
		// its devices: only "held" counts.
		if running := alreadyRunning("another device agent", filesystem.Probe(c.machine.ForeignLock)); running != nil {
			return nil, running
		}
	}
	serial := c.DeviceFile.Identity().SerialNumber
	locks := &Locks{}
	for _, want := range []struct{ path, owner string }{
		{c.AgentLock(), "another agent with this -agentDir"},
		{filepath.Join(c.machine.RunDir, lockName(serial)), "another agent of device " + serial},
	} {
		l, err := filesystem.Lock(want.path)
		if running := alreadyRunning(want.owner, err); running != nil {
			locks.Close()
			return nil, running
		}
		if err != nil {
			locks.Close()
			return nil, fmt.Errorf("%w: the agent needs this lock to be alone; make its folder writable", err)
		}
		locks.held = append(locks.held, l)
	}
	return locks, nil
}

// alreadyRunning turns a lock that is held into ours; any other error is nil.
func alreadyRunning(owner string, err error) error {
	var held *filesystem.HeldError
	if errors.As(err, &held) {
		return &RunningError{owner, held}
	}
	return nil
}

// Close ends the locks. It may be called more than once.
func (l *Locks) Close() {
	for _, one := range slices.Backward(l.held) {
		_ = one.Close()
	}
	l.held = nil
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,100}$`)

// lockName makes a file name of a serial number, which may hold slashes.
func lockName(serial string) string {
	if plainName.MatchString(serial) {
		return serial + ".lock"
	}
	return fmt.Sprintf("%x.lock", sha256.Sum256([]byte(serial)))
}
