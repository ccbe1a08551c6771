package config

import (
	"crypto/tls"
	"path/filepath"
	"time"
)

// Config is the validated configuration of an agent. It does not change; only
// the identity in DeviceFile follows the backend.
type Config struct {
	DeviceFile *DeviceFile

	AgentDir string // absolute, like all paths here
	AppsDir  string
	Database string // the file to open; never one of the reference agent

	Link       Link
	DockerHost string // "" = the engine's own default

	ComposeHelper string // "" = beside the agent
	MaxPulls      int    // images that are downloaded at once
	AppLogSize    int64  // bytes of all that apps have printed and that is kept
	Policy        Policy
	Log           Log
	Update        Update
	Profiling     Profiling

	Offline        bool
	NetworkManager bool
	BuildExtension string // of uploaded archives, without its dot
	Env            string // accepted for old command lines, has no effect

	// Warnings are to be logged once, at the start. They hold no secrets.
	Warnings []string

	machine Machine
	origins map[string]string
}

// Link is how the connection to the router is made.
type Link struct {
	ConnectTimeout  time.Duration // of the first dial; 0 = none
	PingInterval    time.Duration // 0 = no pings
	ResponseTimeout time.Duration // never 0
	CAFile          string
	// TLS verifies the router, always. It carries a client certificate for
	// legacy routers only.
	TLS *tls.Config
}

// Policy is what this device allows (design S25). Only somebody with the device
// file or the command line in hand changes it. A refusal names the key.
type Policy struct {
	Commands        bool     // policy.commands
	Terminals       bool     // policy.terminals
	TerminalUser    string   // policy.terminal_user; "" = the agent's own user
	PrivilegedApps  bool     // policy.privileged_apps
	ManageHost      bool     // policy.manage_host
	UnsignedUpdates bool     // policy.unsigned_updates
	TunnelPorts     []uint16 // policy.tunnel_ports
}

// Log is where the log goes and how much of it.
type Log struct {
	File     string // "" = none
	Debug    bool
	Messages bool // the WAMP library's own log
	Console  bool // a readable copy on the console
}

// Update is how the agent keeps itself new.
type Update struct {
	AtStart bool
	URL     string
}

// Profiling is the agent's own profiler.
type Profiling struct {
	On   bool
	Port uint16
}

// StatusFile is where the agent writes its live status (design S17).
func (c *Config) StatusFile() string { return statusFile(c.AgentDir) }

// AgentLock is the lock of the agent folder.
func (c *Config) AgentLock() string { return agentLock(c.AgentDir) }

func statusFile(agentDir string) string { return filepath.Join(agentDir, "status.json") }
func agentLock(agentDir string) string  { return filepath.Join(agentDir, "lock") }

// An Explained is one setting with its value and where that came from.
type Explained struct {
	Name   string // the flag, else the key
	Value  string // "(secret)" instead of one
	Origin string // such as "flag -agentDir", "device file, line 7", "default"
}

// Explain lists every setting in the order of -help.
func (c *Config) Explain() []Explained {
	d := draft{Config: *c, id: c.DeviceFile.Identity(), file: c.DeviceFile.Path()}
	var out []Explained
	for _, s := range settings() {
		if s.is(flagOnly) {
			continue
		}
		e := Explained{s.name(), s.bind(&d).String(), c.Origin(s.name())}
		if s.is(secret) && e.Value != "" {
			e.Value = "(secret)"
		}
		out = append(out, e)
	}
	return out
}

// Origin tells where a setting came from, by its flag or else its key.
func (c *Config) Origin(name string) string {
	if o, ok := c.origins[name]; ok {
		return o
	}
	return "default"
}
