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
	Apps   []AppStatus  `json:"apps"`
}

// EngineStatus is how the container engine answers.
type EngineStatus struct {
	Reachable bool   `json:"reachable"`
	Version   string `json:"version,omitempty"`
	Reason    string `json:"reason,omitempty"` // why not
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
