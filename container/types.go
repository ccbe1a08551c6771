// Package container is the Docker Engine as the agent sees it: images are
// pulled, built and pushed, containers created, started, stopped, renamed,
// removed, listed and watched, programs run in them; each call with a deadline,
// every error one of ours.
//
// An Engine may be used from any goroutine, and starts none that outlives the
// call it serves. It dials lazily: an engine that is absent at start, hangs,
// restarts or comes back as another version costs the callers an error
// (ErrUnavailable, ErrTimeout), never the process. Each call ends by a deadline of
// its own; a stream (Events, Logs, Wait, Exec) has one for its beginning, a pull,
// build or push one for each pause. The end of the caller's context is always reported
// as that.
//
// What survives a restart is what the engine itself keeps. In memory there is
// only what was found out about the engine that answers now: its version, how
// much of "privileged" it allows, whether it has BuildKit, whether it limits logs.
// The package never prunes on its own and touches nothing but what it was told by
// id or exact name, and the images without a tag by which it keeps the layers of
// a pull that was interrupted.
package container

import "time"

// A Spec says how a container is to be created.
type Spec struct {
	Name        string
	Image       string
	Env         []string // NAME=value; of duplicates the last counts
	Labels      map[string]string
	TTY         bool
	OpenStdin   bool
	Privileged  bool // privileged and all capabilities, or what the engine allows of it (design D8)
	NetworkMode string
	ExtraHosts  []string
	Runtime     string // "" = the engine's default; "nvidia"
	Mounts      []Mount
	Devices     []string // host paths, mapped to themselves; a folder stands for the devices in it
	Ports       []Port
	Log         LogLimit
}

// A LogLimit is what a container's log may grow to where the engine would let it
// grow without end. An engine that was told to limit logs, or that keeps them in
// another form than files of JSON, does as it was told. The zero value leaves
// all to the engine.
type LogLimit struct {
	FileSize int64 // bytes
	Files    int
}

// A Mount is a bind mount.
type Mount struct {
	Source, Target string
	ReadOnly       bool
}

// A Port publishes a container's port on all of the host's addresses.
type Port struct {
	Container uint16
	Host      uint16
	Protocol  string // "tcp" or "udp"
}

// Status is the engine's own word for what a container does.
type Status string

// The words of the engine.
const (
	StatusCreated    Status = "created"
	StatusRunning    Status = "running"
	StatusPaused     Status = "paused"
	StatusRestarting Status = "restarting"
	StatusRemoving   Status = "removing"
	StatusExited     Status = "exited"
	StatusDead       Status = "dead"
)

// Health is the result of a container's health check.
type Health string

// The results of a health check; HealthNone where the image has none.
const (
	HealthNone      Health = ""
	HealthStarting  Health = "starting"
	HealthHealthy   Health = "healthy"
	HealthUnhealthy Health = "unhealthy"
)

// A Container is what inspecting one tells.
type Container struct {
	ID           string
	Name         string // without the leading slash
	Image        string // the reference that it was created from
	ImageID      string
	Labels       map[string]string
	Env          []string
	TTY          bool
	Privileged   bool
	NetworkMode  string
	Ports        []Port // as configured, also while it does not run
	Mounts       []Mount
	Status       Status
	Health       Health
	ExitCode     int
	Error        string // the engine's reason for a failed start
	OOMKilled    bool
	RestartCount int
	PID          int // of its first process, as the engine's machine counts; 0 unless it runs
	Created      time.Time
	Started      time.Time
	Finished     time.Time
}

// A Summary is one row of a list of containers.
type Summary struct {
	ID      string
	Name    string
	Image   string
	ImageID string
	Labels  map[string]string
	Status  Status
	Created time.Time
}

// An Event is something that happened to a container.
type Event struct {
	Action   string // "create", "start", "die", "destroy", "rename", "health_status: healthy", …
	ID       string
	Name     string
	Labels   map[string]string
	OldName  string // of a rename
	ExitCode int    // of a die
	Time     time.Time
}

// A Credential is a login to a registry, kept in memory only.
type Credential struct {
	Username string
	Password string
}

// PullProgress is one record of a running pull: the engine's own JSON line, and
// the sum over all layers that are known so far.
type PullProgress struct {
	Record  []byte // Docker's JSON progress record, without a newline
	Current int64  // bytes
	Total   int64  // bytes; 0 while unknown
	Whole   int    // layers that are unpacked, from the lowest
}

// An Image is a local image. A list of images does not tell the architecture.
type Image struct {
	ID           string
	Tags         []string
	Labels       map[string]string
	Architecture string // as Go names it, such as "amd64"
	Variant      string // such as "v7"
	Size         int64
	Created      time.Time
}

// Freed is what a clean-up did.
type Freed struct {
	Untagged []string // references
	Deleted  []string // ids of images and layers
	Bytes    uint64
}

// LogOptions say which part of a container's log is wanted.
type LogOptions struct {
	Follow     bool
	Since      time.Time // inclusive; zero: from the beginning
	Until      time.Time // zero: to the end
	Tail       int       // only so many of the last lines; 0 = all, negative = none (only what follows)
	Running    bool      // leave out a last line that is only half printed
	Timestamps bool      // each line begins with its time, RFC 3339 with nine digits, and a space
}
