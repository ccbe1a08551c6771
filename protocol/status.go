package protocol

import "time"

// AgentStatus is what the agent knows about itself at this instant: the content
// of status.json and of `reagent status --output json` (design S17). It holds no
// secrets. Times that do not apply are left out.
type AgentStatus struct {
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started,omitzero"`
	Updated time.Time `json:"updated"` // when this was written

	Name   string `json:"name"`
	Serial string `json:"serial_number"`

	// The connection: its state (connecting, online, offline, unauthorized,
	// duplicate, disabled), since when, why, and when the next try is due.
	State   string    `json:"state"`
	Since   time.Time `json:"since,omitzero"`
	NextTry time.Time `json:"next_try,omitzero"`
	Router  string    `json:"router"` // without user and password
	Reason  string    `json:"reason,omitempty"`

	Engine EngineStatus `json:"engine"`
	// Compose is the program that would run compose apps, "" where there is none.
	Compose string       `json:"compose,omitempty"`
	Disks   []DiskStatus `json:"disks,omitempty"`
	Apps    []AppStatus  `json:"apps"`
}

// EngineStatus is how the container engine answers.
type EngineStatus struct {
	Reachable bool   `json:"reachable"`
	Version   string `json:"version,omitempty"`
	Reason    string `json:"reason,omitempty"` // why not
}

// A DiskLevel says how full a disk is.
type DiskLevel string

// The levels of a disk.
const (
	DiskEnough   DiskLevel = "enough"
	DiskLow      DiskLevel = "low"      // what is superfluous goes
	DiskCritical DiskLevel = "critical" // nothing may grow; on the engine's disk no app runs
)

// DiskStatus is one disk that the agent watches.
type DiskStatus struct {
	Name  string    `json:"name"` // what is on it
	Path  string    `json:"path"`
	Level DiskLevel `json:"level"`
	Free  uint64    `json:"free"` // bytes, at the last look
	Total uint64    `json:"total"`
}

// AppStatus is one app in AgentStatus.
type AppStatus struct {
	AppKey  uint64 `json:"app_key"`
	Stage   Stage  `json:"stage"`
	Name    string `json:"name"`
	State   State  `json:"state"`
	Version string `json:"version,omitempty"`
	Error   string `json:"error,omitempty"`
}
