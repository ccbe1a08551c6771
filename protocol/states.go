package protocol

import "slices"

// A State is a state of an app, as it is written on the wire (wire §5.4).
type State string

// The states of an app. Their spelling is the contract's, one R in Transfered.
const (
	Present     State = "PRESENT"
	Running     State = "RUNNING"
	Removed     State = "REMOVED"
	Uninstalled State = "UNINSTALLED"
	Failed      State = "FAILED"
	Stopped     State = "STOPPED"
	Built       State = "BUILT"
	Published   State = "PUBLISHED"
	Building    State = "BUILDING"
	Publishing  State = "PUBLISHING"
	Downloading State = "DOWNLOADING"
	Updating    State = "UPDATING"
	Transfering State = "TRANSFERING"
	Transfered  State = "TRANSFERED"
	Stopping    State = "STOPPING"
	Starting    State = "STARTING"
	Deleting    State = "DELETING"
)

// settled maps every state to the one that a wish for it is stored as (life §2.1).
var settled = map[State]State{
	Present: Present, Running: Running, Removed: Removed, Uninstalled: Uninstalled,
	Failed: Failed, Stopped: Stopped, Built: Built, Published: Published,
	Building: Present, Publishing: Present, Downloading: Present, Updating: Present,
	Transfering: Present, Transfered: Present, Stopping: Present,
	Starting: Running, Deleting: Removed,
}

// States lists every state, in alphabetical order.
func States() []State {
	all := make([]State, 0, len(settled))
	for s := range settled {
		all = append(all, s)
	}
	slices.Sort(all)
	return all
}

// Valid reports whether s is one of the contract's states.
func (s State) Valid() bool { _, ok := settled[s]; return ok }

// Settled returns the state that a wish for s is stored as: a transient state
// stands for the one it leads to. An unknown state is returned unchanged.
func (s State) Settled() State {
	if to, ok := settled[s]; ok {
		return to
	}
	return s
}

// Transient reports whether an app only passes through s.
func (s State) Transient() bool {
	switch s {
	case Built, Published, Building, Publishing, Downloading, Updating, Transfering, Transfered, Stopping, Starting, Deleting:
		return true
	}
	return false
}

// Gone reports whether an app in state s has nothing left that runs or could run.
func (s State) Gone() bool { return s == Removed || s == Uninstalled }

// A Stage tells a developer's copy of an app from the installed one. The same
// app can be on a device in both stages; they are separate apps there.
type Stage string

// The two stages of an app.
const (
	Dev  Stage = "DEV"
	Prod Stage = "PROD"
)

// Valid reports whether s is DEV or PROD, exactly.
func (s Stage) Valid() bool { return s == Dev || s == Prod }

// UpdateStatus is the value of updateStatus in a state report (wire §6.3).
type UpdateStatus string

// The values of updateStatus; NoUpdate until an app was updated once.
const (
	NoUpdate        UpdateStatus = ""
	UpdateCompleted UpdateStatus = "completed"
	UpdateCanceled  UpdateStatus = "canceled"
	UpdatePending   UpdateStatus = "pending_remote_confirmation"
)

// A DeviceState is the status of a device (wire §6.1).
type DeviceState string

// The states of a device. The agent sends all but Disconnected, which comes
// from its testament.
const (
	Configuring  DeviceState = "CONFIGURING"
	Connected    DeviceState = "CONNECTED"
	Emergency    DeviceState = "EMERGENCY"
	Disconnected DeviceState = "DISCONNECTED"
)

// A Privilege is a right of a user on a device (wire §5.1).
type Privilege string

// The privileges that procedures of a device ask for.
const (
	Read     Privilege = "READ"
	Develop  Privilege = "DEVELOP"
	Maintain Privilege = "MAINTAIN"
	Network  Privilege = "NETWORK"
)

// Privileges lists the privileges that can be granted.
func Privileges() []Privilege { return []Privilege{Read, Develop, Maintain, Network} }
