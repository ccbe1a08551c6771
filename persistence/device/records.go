package device

import (
	"time"

	"reagent/protocol"
)

// A Wanted is the newest wish for an app, acknowledged or from the studio's list.
type Wanted struct {
	Request protocol.AppRequest `json:"request"`
	// Seq grows with every wish for the app that differs from the one before or
	// was asked for directly, so that what a worker did for an older wish is
	// never taken for an answer to a newer one.
	Seq uint64 `json:"seq"`
	// Direct is the Seq of the last wish that was asked for directly, not
	// learnt from the studio's list.
	Direct uint64 `json:"direct,omitempty"`
	// Credentials names the registries for which the wish brought a login. The
	// logins themselves are not kept.
	Credentials []string `json:"credentials,omitempty"`
	// Deed is the last wish for something to be done (BUILT, PUBLISHED) where the
	// newest one is for a state: it was acknowledged, and comes first.
	Deed *Deed     `json:"deed,omitempty"`
	Time time.Time `json:"time"`
}

// A Deed is a wish that a later one did not take the place of.
type Deed struct {
	Request     protocol.AppRequest `json:"request"`
	Seq         uint64              `json:"seq"`
	Credentials []string            `json:"credentials,omitempty"`
}

// An Actual is what the device knows of an app that it has.
type Actual struct {
	AppKey              uint64                `json:"app_key"`
	Stage               protocol.Stage        `json:"stage"`
	AppName             string                `json:"app_name"`
	State               protocol.State        `json:"state"`
	Version             string                `json:"version,omitempty"` // installed
	ReleaseKey          uint64                `json:"release_key,omitempty"`
	RequestorAccountKey uint64                `json:"requestor_account_key,omitempty"`
	UpdateStatus        protocol.UpdateStatus `json:"update_status,omitempty"`
	Error               string                `json:"error,omitempty"` // why State is FAILED
	Changed             time.Time             `json:"changed"`

	// ConfigHash is of what the container was made from (design S11). It is
	// kept here for adopted containers, which carry no label of ours.
	ConfigHash string `json:"config_hash,omitempty"`
	Adopted    bool   `json:"adopted,omitempty"`
	// AdoptedWish is the Seq of the wish that adopting wrote: while it is the
	// newest, nobody knows what is really wanted of the container.
	AdoptedWish uint64 `json:"adopted_wish,omitempty"`
	// Project tells that the app is a compose project, not one container.
	Project bool `json:"project,omitempty"`
	// Made is what the installed version was made from; nil where nobody knows.
	Made *Made `json:"made,omitempty"`
	// Previous is what the project's version before was made from, or one that was
	// rolled back; its images are kept until the next update.
	Previous *Made `json:"previous,omitempty"`
	// Ended are the ids of a project's containers that did their work and ended
	// well, and Boot is the system's start in which the project was brought up: a
	// container that ended with the system has not done its work.
	Ended []string `json:"ended,omitempty"`
	Boot  string   `json:"boot,omitempty"`
	// HostPorts are the managed host ports by "tcp/8080", those of a compose
	// project's service by "service/tcp/8080" (life §3.6).
	HostPorts map[string]uint16 `json:"host_ports,omitempty"`
	// Swap is there while an update replaces the container (design S16).
	Swap *Swap `json:"swap,omitempty"`
	// Rejected is the version that failed its probation last.
	Rejected *Rejected `json:"rejected,omitempty"`
	// PreviousImage is kept for a roll-back until the next update.
	PreviousImage string `json:"previous_image,omitempty"`

	// Tried is the Seq of the newest wish that was done, or failed, in stage DEV:
	// what was asked for once is done once.
	Tried uint64 `json:"tried,omitempty"`
	// Attempt counts the builds for a wish that were begun.
	Attempt *Attempt `json:"attempt,omitempty"`
	// ReleaseBuild tells that the last build was made to be published.
	ReleaseBuild bool `json:"release_build,omitempty"`
	// Publication is there while a build is being published.
	Publication *Publication `json:"publication,omitempty"`
}

// An Attempt says how often a build was begun for a wish, so that one that ends
// the agent or the engine is not tried for ever.
type Attempt struct {
	WishSeq uint64 `json:"wish_seq"`
	Begun   int    `json:"begun"`
}

// A Publication is the written marker of a build that is being published: its
// images have the names of the installed app's, which are given back unless the
// registry has them in the end.
type Publication struct {
	// Names are the references, and the id of the image that had each before; ""
	// where none had it.
	Names map[string]string `json:"names"`
}

// ID is the app's identity.
func (a Actual) ID() protocol.AppID { return protocol.AppID{Key: a.AppKey, Stage: a.Stage} }

// Made is what somebody chose of an installed version. It is kept apart from the
// wish, which may already be about another version.
type Made struct {
	Environment map[string]any      `json:"environment,omitempty"`
	Template    map[string]any      `json:"template,omitempty"`
	Ports       []protocol.PortRule `json:"ports,omitempty"`
	Compose     map[string]any      `json:"compose,omitempty"` // the definition of a project, as the studio gave it

	// Services are those of the project that had a container when it was started,
	// and Images the references that they were made from, with the ids that these
	// had: a tag may have moved when the version has to come back.
	Services []string          `json:"services,omitempty"`
	Images   map[string]string `json:"images,omitempty"`
}

// A SwapPhase says how far an update came.
type SwapPhase string

// The phases of an update, in their order.
const (
	SwapParking   SwapPhase = "parking"   // the image is there; the old container makes room
	SwapStarting  SwapPhase = "starting"  // the new version is being started
	SwapProbation SwapPhase = "probation" // it runs and is watched
	SwapRollback  SwapPhase = "rollback"  // it failed; the old one comes back
)

// A Swap is the written marker of a running update: what was there before, and
// how far it came. Every crash point is found again by it.
type Swap struct {
	Phase      SwapPhase `json:"phase"`
	Parked     string    `json:"parked"` // id of the old container, "" if there was none
	Version    string    `json:"version"`
	ReleaseKey uint64    `json:"release_key"`
	ConfigHash string    `json:"config_hash,omitempty"`
	Adopted    bool      `json:"adopted,omitempty"`
	Project    bool      `json:"project,omitempty"`
	Made       *Made     `json:"made,omitempty"`
	ToVersion  string    `json:"to_version"`
	ToRelease  uint64    `json:"to_release"`
	ToMade     *Made     `json:"to_made,omitempty"`
	WishSeq    uint64    `json:"wish_seq"`
	// Reason is why the new version is rolled back.
	Reason string `json:"reason,omitempty"`
}

// A Rejected version is not tried again by itself (design S16).
type Rejected struct {
	Version    string `json:"version"`
	ReleaseKey uint64 `json:"release_key"`
	WishSeq    uint64 `json:"wish_seq"`
	Reason     string `json:"reason"`
}

// A Report is a state that the studio has not confirmed yet.
type Report struct {
	ID    uint64               `json:"-"` // position in the outbox, assigned by the store
	State protocol.StateReport `json:"state"`
	Time  time.Time            `json:"time"`
}

// A HistoryEntry is a state that an app had before it changed.
type HistoryEntry struct {
	AppKey     uint64         `json:"app_key"`
	Stage      protocol.Stage `json:"stage"`
	AppName    string         `json:"app_name"`
	State      protocol.State `json:"state"`
	Version    string         `json:"version,omitempty"`
	ReleaseKey uint64         `json:"release_key,omitempty"`
	Time       time.Time      `json:"time"` // of the change
}
