package config

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
)

// A Machine is what defaults depend on: the operating system and whether the
// agent may use its folders. [Here] is this one; tests make others.
type Machine struct {
	OS   string
	Root bool   // the agent may use the system's folders
	Home string // "" = none
	// StateHome is where an ordinary user's programs keep their state.
	StateHome string
	// RunDir holds the locks per device; it need not survive a restart.
	RunDir string
	// ForeignLock is the lock file of the reference agent.
	ForeignLock string
}

// Here describes the machine that the program runs on.
func Here(getenv func(string) string) Machine {
	m := Machine{OS: runtime.GOOS, Root: os.Geteuid() == 0, Home: getenv("HOME"), ForeignLock: "/tmp/ironflock-reagent.lock"}
	if m.OS == "windows" {
		m.Root = true // the contract knows one place there, whoever runs the agent
		m.Home = getenv("USERPROFILE")
		m.ForeignLock = ""
	}
	if m.Home == "" {
		if u, err := user.Current(); err == nil {
			m.Home = u.HomeDir
		}
	}
	if m.StateHome = getenv("XDG_STATE_HOME"); !filepath.IsAbs(m.StateHome) && m.Home != "" {
		m.StateHome = filepath.Join(m.Home, ".local", "state")
	}
	m.RunDir = m.runDir(getenv)
	return m
}

func (m Machine) runDir(getenv func(string) string) string {
	switch {
	case m.OS == "windows":
		if data := getenv("ProgramData"); data != "" {
			return filepath.Join(data, "reagent", "run")
		}
	case m.Root && m.OS == "linux":
		return "/run/reagent"
	case m.Root:
		return "/var/run/reagent"
	default:
		if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
			return filepath.Join(dir, "reagent")
		}
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("reagent-%d", os.Getuid()))
}

// place is a folder or file of the agent by default: below system for root on
// Linux, below $HOME/reagent for root elsewhere, below the state folder for
// everybody else (design S8). A machine without a home has no defaults.
func (m Machine) place(system, name string) string {
	base := ""
	switch {
	case m.Root && m.OS == "linux":
		return filepath.Join(system, name)
	case m.Root:
		base = m.Home
	default:
		base = m.StateHome
	}
	if base == "" {
		return ""
	}
	return filepath.Join(base, "reagent", name)
}
