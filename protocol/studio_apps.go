package protocol

import "time"

// Procedures of the studio for those who make apps. As in studio.go each takes
// one object and answers one.
//
//	who may call it              administrator  another user
//	set_app_environment/_ports   every app      his apps
//	develop_app, publish_app     every app      his apps on devices he may DEVELOP
//	delete_release, delete_app   every app      his apps
//	collect_garbage              yes            no
const (
	StudioSetAppEnvironment = "re.studio.set_app_environment" // SetAppEnvironment → AppRow
	StudioSetAppPorts       = "re.studio.set_app_ports"       // SetAppPorts → AppRow
	StudioDevelopApp        = "re.studio.develop_app"         // DevelopApp → Wished
	StudioPublishApp        = "re.studio.publish_app"         // PublishApp → Wished
	StudioDeleteRelease     = "re.studio.delete_release"      // DeleteRelease → AppRow
	StudioDeleteApp         = "re.studio.delete_app"          // AppArgs → AppRow
	StudioCollectGarbage    = "re.studio.collect_garbage"     // – → GarbageCollected
)

// A Kind is what an app is made of.
type Kind string

// The kinds of a release, and of an app in stage DEV.
const (
	KindSingle  Kind = "single"  // one container
	KindCompose Kind = "compose" // the services of a compose definition
)

// SetAppEnvironment changes the values that the variables of an app have where a
// device sets no other: those of its DEV copies, and of each version that is
// entered from now on without values of its own.
type SetAppEnvironment struct {
	App   string         `json:"app"`             // name or key
	Set   map[string]any `json:"set,omitempty"`   // NAME -> text, number or boolean
	Unset []string       `json:"unset,omitempty"` // NAME; one that is not there is no error
}

// SetAppPorts replaces the ports of an app: those of its DEV copies, and of each
// version that is entered from now on without ports of its own.
type SetAppPorts struct {
	App   string     `json:"app"` // name or key
	Ports []PortRule `json:"ports"`
}

// DevelopApp wishes a state of the DEV copy of an app on a device. BUILT builds
// what was uploaded to the device (wire §5.5), RUNNING runs what was built.
// Cancel ends what the device is doing with it at the moment; Target is then what
// is wished after, REMOVED when empty.
//
// Compose is the definition when the upload is a compose app: that of BUILT
// counts until the next BUILT, other targets need not repeat it. A service with
// "build" gets an image name from the studio; the image of another is pulled from
// where it says.
//
// Credentials are handed to the device for this build and kept nowhere; a device
// that is offline never gets them.
type DevelopApp struct {
	App         string                        `json:"app"`    // name or key
	Device      string                        `json:"device"` // name, serial number or key
	Target      State                         `json:"target,omitempty"`
	Cancel      bool                          `json:"cancel,omitempty"`
	Compose     map[string]any                `json:"compose,omitempty"`     // null: one container
	Environment map[string]any                `json:"environment,omitempty"` // NAME -> value for this device, null takes one away
	Credentials map[string]RegistryCredential `json:"credentials,omitempty"` // by registry host
}

// PublishApp wishes that a device builds what was uploaded to it and pushes the
// images as a version of the app. When the device says PUBLISHED the studio has
// entered the version, for the architecture of the device; the images of services
// without "build" are then in the studio's registry too. A version that exists
// for this architecture is refused unless Replace is said.
type PublishApp struct {
	App         string                        `json:"app"`
	Device      string                        `json:"device"`
	Version     string                        `json:"version"`
	Replace     bool                          `json:"replace,omitempty"`
	Compose     map[string]any                `json:"compose,omitempty"` // null: one container
	Credentials map[string]RegistryCredential `json:"credentials,omitempty"`
}

// DeleteRelease takes a version out of the studio; its images go with the next
// collection of garbage. One that a device has, or is to have, is refused.
type DeleteRelease struct {
	App     string `json:"app"`
	Version string `json:"version"`
}

// GarbageCollected is what a collection removed from the image registry, and the
// answer of run_gc (wire §6).
type GarbageCollected struct {
	Tags      uint64    `json:"tags"`
	Manifests uint64    `json:"manifests"`
	Layers    uint64    `json:"layers"` // with configurations, and what manifests say
	Bytes     uint64    `json:"bytes"`
	Began     time.Time `json:"began,omitzero"`
	TookMS    uint64    `json:"took_ms"`
	// Reason says why this call collected nothing itself: what was found then is
	// of an earlier one.
	Reason string `json:"reason,omitempty"`
}

// An UpdateOutcome is how an update of an app on a device stands.
type UpdateOutcome string

// The outcomes of an update.
const (
	UpdateRuns       UpdateOutcome = "running"     // the device is about it
	UpdateDone       UpdateOutcome = "completed"   // the new version is there
	UpdateRolledBack UpdateOutcome = "rolled_back" // it did not stay up, the old one is back
	UpdateStopped    UpdateOutcome = "canceled"    // a newer wish ended it, the old one is there
	UpdateFailed     UpdateOutcome = "failed"      // it could not be done; see Reason
)

// UpdateRow is the last update of an app on a device, as its reports tell it.
type UpdateRow struct {
	From    string        `json:"from"` // version, "" = unknown
	To      string        `json:"to"`
	Outcome UpdateOutcome `json:"outcome"`
	Reason  string        `json:"reason,omitempty"` // what went wrong, in the device's words
	Time    time.Time     `json:"time"`             // of the outcome
}
