package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"reagent/filesystem"
	"reagent/protocol"
)

// LiveStatus is what the status file of an agent says, and whether that agent
// still runs.
type LiveStatus struct {
	protocol.AgentStatus
	// Running tells whether the agent that wrote this holds the lock of the
	// folder. A process id alone would not tell: after a reboot it may be anybody's.
	Running bool `json:"running"`
}

// WriteStatus replaces the status file, readable for the agent's user only. An
// agent calls it on each change.
func WriteStatus(path string, s protocol.AgentStatus) error {
	if s.Apps == nil {
		s.Apps = []protocol.AppStatus{} // a list in JSON, also when empty
	}
	text, err := json.MarshalIndent(s, "", " ")
	if err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return filesystem.WritePrivate(path, append(text, '\n'))
}

// ReadStatus reads the status of the agent whose folder is agentDir, without
// talking to it.
func ReadStatus(agentDir string) (LiveStatus, error) {
	path := statusFile(agentDir)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return LiveStatus{}, fmt.Errorf("no agent has run in %s: name its folder with -agentDir, or start one with \"reagent -config FILE\"", agentDir)
	}
	if errors.Is(err, fs.ErrPermission) {
		return LiveStatus{}, fmt.Errorf("read status: %w: ask as the user whom the agent runs as", err)
	}
	if err != nil {
		return LiveStatus{}, fmt.Errorf("read status: %w", err)
	}
	var s LiveStatus
	if err := json.Unmarshal(text, &s.AgentStatus); err != nil {
		return LiveStatus{}, fmt.Errorf("read status: %s: %w", path, err)
	}
	var held *filesystem.HeldError
	s.Running = errors.As(filesystem.Probe(agentLock(agentDir)), &held) && (held.PID == s.PID || held.PID == 0)
	return s, nil
}

// AgentDir is where an agent's folder is by default on this machine: its
// variable, else the table's default.
func AgentDir(getenv func(string) string) string {
	for _, s := range settings() {
		if s.flag == "agentDir" {
			if dir := getenv(s.variable()); dir != "" {
				return dir
			}
			return s.defaultOn(Here(getenv))
		}
	}
	return ""
}
