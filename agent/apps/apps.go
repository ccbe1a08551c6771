package apps

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// An engine runs containers; container.Engine is one.
type engine interface {
	Run(ctx context.Context, s container.Spec) (id, note string, err error)
	Start(ctx context.Context, id string) error
	Stop(ctx context.Context, id string, grace time.Duration) error
	Remove(ctx context.Context, id string) error
	Rename(ctx context.Context, id, name string) error
	Inspect(ctx context.Context, idOrName string) (container.Container, error)
	List(ctx context.Context, labels map[string]string) ([]container.Summary, error)
	Events(ctx context.Context, up func(), event func(container.Event)) error
	Volumes(ctx context.Context, labels map[string]string) ([]container.Volume, error)
	RemoveVolume(ctx context.Context, name string) error
	RemoveNetworks(ctx context.Context, labels map[string]string) error
	LogConfig(ctx context.Context, l container.LogLimit, images []string) (driver string, options map[string]string, err error)
	imageStore
}

type imageStore interface {
	Image(ctx context.Context, ref string) (container.Image, error)
	Images(ctx context.Context) ([]container.Image, error)
	// DownloadSize is how many bytes a Pull would fetch.
	DownloadSize(ctx context.Context, ref string, c *container.Credential) (int64, error)
	Pull(ctx context.Context, ref string, c *container.Credential, progress func(container.PullProgress)) error
	Build(ctx context.Context, s container.BuildSpec, record func([]byte)) error
	Tag(ctx context.Context, ref, newRef string) error
	Push(ctx context.Context, ref string, c *container.Credential, record func([]byte)) error
	RemoveImage(ctx context.Context, ref string) error
}

// A store keeps wishes, states and reports; device.Store is one.
type store interface {
	Want(r protocol.AppRequest, direct bool) (w device.Wanted, changed bool, err error)
	Wanted(protocol.AppID) (device.Wanted, bool, error)
	AllWanted() ([]device.Wanted, error)
	Actual(protocol.AppID) (device.Actual, bool, error)
	AllActual() ([]device.Actual, error)
	Save(a device.Actual, out ...device.Outgoing) error
	// Drop deletes both records if the wish still has this Seq, and tells.
	Drop(id protocol.AppID, seq uint64, out ...device.Outgoing) (bool, error)
	outbox
}

type outbox interface {
	SavePorts(protocol.PortsReport) error
	Outbox() ([]device.Report, []device.PortsEntry, error)
	Confirm(id uint64) error
	ConfirmPorts(id protocol.AppID, seq uint64) error
}

// A Studio is the backend as far as apps need it. Its calls fail at once while
// there is no connection.
type Studio interface {
	Online() bool
	// Report delivers one argument of update_app_on_device.
	Report(ctx context.Context, report map[string]any) error
	// RegistryToken asks for a token to pull with, on behalf of an account.
	RegistryToken(ctx context.Context, account uint64) (string, error)
}

// An AppLog takes what happens to an app in words for its log topic, and follows
// its containers. Its methods do not block, but for Drain. cn is the container's
// name.
type AppLog interface {
	Agent(cn, text string)
	Output(cn, text string) // what a program said on the agent's behalf
	Record(cn string, progress []byte)
	Transfer(cn, file string, percent float64) // how far an upload came
	Clear(cn string)                           // tell viewers to clear
	ClearHistory(cn string)                    // forget what was kept
	Attach(cn, containerID string)             // it runs
	Detach(cn string)                          // it is about to end
	Gone(cn string)                            // it is not on this device any more
	// Drain waits, but not for long, until all is kept that a container has
	// printed which has ended and is about to be removed.
	Drain(ctx context.Context, cn string, ended container.Container)
}

// Config says what the apps of one device are made with. All fields but
// Compose, Disk, MaxPulls, ArchiveExtension, MaxUpload and Changed are needed.
type Config struct {
	AppsDir    string
	Arch       string          // with variant, such as armv7
	Privileged bool            // what the device's policy allows (design S25)
	HostPaths  func() []string // of the host, given to every app as they are
	Facts      func() Facts
	LANIP      func() string // of the host, "" = unknown; asked when a container is made
	GPU        func() bool   // an NVIDIA one is there
	Store      store
	Engine     engine
	Compose    composer // nil = this device never has compose
	Studio     Studio
	AppLog     AppLog
	Disk       Disk // nil = there is always room
	Log        zerolog.Logger
	Waits      Waits
	// ArchiveExtension is that of uploaded archives, without its dot; "" = tgz.
	ArchiveExtension string
	MaxPulls         int    // downloads at once; 0 = 2
	MaxUpload        int64  // bytes of an archive that is uploaded; 0 = 2 GiB
	Changed          func() // told after each change that Statuses shows; may be nil
}

// Waits are the times that the life cycle is made of (design S16).
type Waits struct {
	StopGrace   time.Duration // from SIGTERM to SIGKILL
	Running     time.Duration // a container has so long to run after its start
	Probation   time.Duration // a new version is watched so long
	HealthLimit time.Duration // and so long while its health check has not decided
	EmptyList   time.Duration // a second empty wish list has to agree after so long
	Look        time.Duration // a full look at all containers each so often, jittered
	EngineRetry time.Duration // between attempts to reach an absent engine, jittered
	ReportRetry time.Duration // first pause after a report that failed; doubles to 30 s
	ReportLimit time.Duration // of one report
	TokenLimit  time.Duration // of asking for a registry token
	// A download that a lost link interrupted goes on after PullRetry, jittered,
	// which doubles to its fifteenfold while nothing comes; it is given up when
	// nothing came for PullPatience.
	PullRetry    time.Duration
	PullPatience time.Duration
	Upload       time.Duration // an upload of which nothing is heard for so long is given up
	Room         time.Duration // what found no room on the disk is tried again after so long, jittered, or when RoomChanged is called
	ProjectGrace time.Duration // from SIGTERM to SIGKILL for the services of a project, or what their author set if that is longer
	Outlived     time.Duration // a service that ended well has done its work when the engine still answers so much later
	NoCompose    time.Duration // a device without compose is looked at again after so long, jittered
	Crash        CrashPolicy
}

// ProductWaits are the times of the product. Tests and benchmarks shorten them.
func ProductWaits() Waits {
	return Waits{
		StopGrace:    time.Second,
		Running:      30 * time.Second,
		Probation:    30 * time.Second,
		HealthLimit:  5 * time.Minute,
		EmptyList:    30 * time.Second,
		Look:         time.Minute,
		EngineRetry:  2 * time.Second,
		ReportRetry:  time.Second,
		ReportLimit:  10 * time.Second,
		TokenLimit:   10 * time.Second,
		PullRetry:    2 * time.Second,
		PullPatience: time.Hour,
		Upload:       5 * time.Minute,
		Room:         5 * time.Minute,
		ProjectGrace: 10 * time.Second,
		Outlived:     15 * time.Second,
		NoCompose:    time.Minute,
		Crash:        CrashPolicy{Step: 5 * time.Second, Max: time.Hour, Spread: 0.2, StableAfter: 10 * time.Minute},
	}
}

// maxApps bounds what a remote can make the device remember.
const maxApps = 1000

// Apps is every app of the device. Its methods may be called from any goroutine.
type Apps struct {
	cfg      Config
	ports    *hostPorts
	reporter *reporter
	uploads  *uploads
	pulls    chan struct{} // turns of downloads
	projects folders       // of compose apps: two may have the same name, and so the same files

	// wishes is held from the look at what is stored of an app to the wish that is
	// stored because of it: a list or an adoption must not undo a newer request.
	wishes sync.Mutex
	// departures are the direct wishes that apps should go, by their time. Of such
	// an app nothing is stored in the end, and a list that was asked for before
	// must not bring it back. wishes guards it.
	departures map[protocol.AppID]time.Time

	mu      sync.Mutex
	workers map[protocol.AppID]*worker
	ctx     context.Context // of Run; nil before it: workers start when it does
	closed  bool            // Run is about to return
	group   sync.WaitGroup
	epoch   uint64                                                    // grows each time the engine became reachable
	ready   chan struct{}                                             // closed while the engine is reachable
	loans   map[protocol.AppID]map[string]protocol.RegistryCredential // logins that came with wishes, by registry
	link    chan struct{}                                             // closed, and another one made, when there is a connection
}

// New makes the apps of a device from its records; nothing runs before Run.
func New(cfg Config) (*Apps, error) {
	if cfg.Disk == nil {
		cfg.Disk = boundless{}
	}
	a := &Apps{
		cfg:     cfg,
		ports:   newHostPorts(bindable),
		workers: map[protocol.AppID]*worker{},
		ready:   make(chan struct{}),
		loans:   map[protocol.AppID]map[string]protocol.RegistryCredential{},
		link:    make(chan struct{}),
		pulls:   turns(cmp.Or(cfg.MaxPulls, 2)),
	}
	if a.cfg.ArchiveExtension == "" {
		a.cfg.ArchiveExtension = "tgz"
	}
	a.reporter = &reporter{store: cfg.Store, studio: cfg.Studio, log: cfg.Log, waits: cfg.Waits, wake: make(chan struct{}, 1)}
	a.uploads = newUploads(cfg, filepath.Join(cfg.AppsDir, "build"), a.uploadFailed)
	actual, err := cfg.Store.AllActual()
	if err != nil {
		return nil, fmt.Errorf("read the apps' states: %w", err)
	}
	wanted, err := cfg.Store.AllWanted()
	if err != nil {
		return nil, fmt.Errorf("read the apps' wishes: %w", err)
	}
	for _, app := range actual {
		a.ports.restore(app.ID(), app.HostPorts)
		a.workers[app.ID()] = newWorker(a, app.ID())
	}
	for _, w := range wanted {
		if a.workers[w.Request.ID()] == nil {
			a.workers[w.Request.ID()] = newWorker(a, w.Request.ID())
		}
	}
	return a, nil
}

// Run drives the apps until ctx ends. Containers are left as they are.
func (a *Apps) Run(ctx context.Context) error {
	a.mu.Lock()
	a.ctx = ctx
	for _, w := range a.workers {
		a.start(w)
	}
	a.mu.Unlock()
	var parts sync.WaitGroup
	parts.Go(func() { a.reporter.run(ctx) })
	parts.Go(func() { a.watch(ctx) })
	parts.Go(func() { a.uploads.run(ctx) })
	parts.Wait()
	a.mu.Lock()
	a.closed = true // no worker starts from here on
	a.mu.Unlock()
	a.group.Wait()
	return ctx.Err()
}

// start begins a worker's goroutine. a.mu is held.
func (a *Apps) start(w *worker) {
	ctx := a.ctx
	if ctx == nil || a.closed || w.started {
		return
	}
	w.started = true
	a.group.Go(func() { w.run(ctx) })
}

// worker returns the worker of an app, a new one where there is none. A wish has
// to be stored before: a worker ends when it finds none.
func (a *Apps) worker(id protocol.AppID) *worker {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := a.workers[id]
	if w == nil {
		w = newWorker(a, id)
		a.workers[id] = w
	}
	a.start(w)
	return w
}

// room refuses a further app where there are too many.
func (a *Apps) room(id protocol.AppID) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.workers[id] == nil && len(a.workers) >= maxApps {
		return &protocol.Error{Code: protocol.CodeTooLarge, Text: fmt.Sprintf("this device has %d apps already; uninstall some", maxApps)}
	}
	return nil
}

// retire forgets the worker of an app that is gone, unless something new came
// for it. The worker ends when it answers true.
func (a *Apps) retire(w *worker) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(w.wake) > 0 {
		return false
	}
	_, wanted, errW := a.cfg.Store.Wanted(w.id)
	_, actual, errA := a.cfg.Store.Actual(w.id)
	if wanted || actual || errW != nil || errA != nil {
		return false
	}
	delete(a.workers, w.id)
	return true
}

func (a *Apps) each(f func(*worker)) {
	a.mu.Lock()
	all := make([]*worker, 0, len(a.workers))
	for _, w := range a.workers {
		all = append(all, w)
	}
	a.mu.Unlock()
	for _, w := range all {
		f(w)
	}
}

// Request takes a wish that somebody asked for directly. When it returns nil the
// wish is on the disk and survives a power cut; what becomes of it is seen in
// the app's reports.
func (a *Apps) Request(_ context.Context, r protocol.AppRequest) error {
	if why := neverFor(r); why != "" {
		return &protocol.Error{Code: protocol.CodeInvalid, Text: why}
	}
	if err := a.checkProject(r); err != nil {
		return &protocol.Error{Code: protocol.CodeInvalid, Text: err.Error()}
	}
	if r.CancelTransition {
		r.RequestUpdate = false // or what was cancelled would begin anew
		if t := r.Target; t == protocol.Built || t == protocol.Published {
			r.Target = protocol.Present
		}
	}
	if r.Stage == protocol.Dev && endsUpload[r.Target] {
		a.uploads.cancel(protocol.ContainerName(r.Stage, r.AppKey, r.AppName)) // life §2.2, §2.4
	}
	a.wishes.Lock()
	defer a.wishes.Unlock()
	if err := a.room(r.ID()); err != nil {
		return err
	}
	if len(r.DockerCredentials) > 0 || goes(r) || r.Target == protocol.Built || r.Target == protocol.Published {
		a.lend(r.ID(), r.DockerCredentials) // first: the worker may look at once
	}
	wish, _, err := a.cfg.Store.Want(r, true)
	if err != nil {
		return fmt.Errorf("store the wish for %s: %w", r.ID(), err)
	}
	a.depart(wish)
	a.worker(r.ID()).wished(wish.Request)
	return nil
}

// depart notes that an app was asked to go, or to come back. a.wishes is held.
func (a *Apps) depart(wish device.Wanted) {
	id := wish.Request.ID()
	delete(a.departures, id)
	if !goes(wish.Request) {
		return
	}
	if len(a.departures) >= maxApps {
		oldest := id
		for other, at := range a.departures {
			if oldest == id || at.Before(a.departures[oldest]) {
				oldest = other
			}
		}
		delete(a.departures, oldest)
	}
	if a.departures == nil {
		a.departures = map[protocol.AppID]time.Time{}
	}
	a.departures[id] = wish.Time
}

// endsUpload are the wishes for a DEV app by which an upload that is under way
// is called off.
var endsUpload = map[protocol.State]bool{protocol.Present: true, protocol.Built: true, protocol.Removed: true, protocol.Uninstalled: true}

// checkProject refuses a wish for a compose app whose definition cannot be run
// on this device. One that takes the app away is never refused.
func (a *Apps) checkProject(r protocol.AppRequest) error {
	for _, definition := range []map[string]any{r.DockerCompose, r.NewDockerCompose} {
		if definition == nil || goes(r) {
			continue
		}
		of := r
		of.DockerCompose = definition
		if _, err := a.projectImages(of); err != nil {
			return err
		}
	}
	return nil
}

// neverFor says why no state of such an app leads to what is wanted, "" if some
// may.
func neverFor(r protocol.AppRequest) string {
	if transitions[r.Stage][edge{protocol.Removed, r.Target.Settled()}] != refused {
		return ""
	}
	switch r.Target.Settled() {
	case protocol.Built, protocol.Published:
		return fmt.Sprintf("an installed (PROD) app is not built on the device; %s is for stage DEV", r.Target)
	}
	return fmt.Sprintf("failed to parse requestedState: %s is nothing that can be asked for", r.Target)
}

// Online tells the apps that there is a connection: reports go out, and work
// that waited for one is tried again.
func (a *Apps) Online() {
	a.reporter.poke()
	a.mu.Lock()
	close(a.link)
	a.link = make(chan struct{})
	a.mu.Unlock()
	a.each(func(w *worker) { w.linked.Store(true); w.poke() })
}

// Refresh rewrites what running apps read of the agent's knowledge, after the
// credential key, an address or the studio's URL changed.
func (a *Apps) Refresh() {
	a.each(func(w *worker) { w.stale.Store(true); w.poke() })
}

// Ready is closed while the engine answers. The channel of an engine that went
// away stays closed; ask again for the next one.
func (a *Apps) Ready() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ready
}

// Statuses is every app as it is, for the status file.
func (a *Apps) Statuses() ([]device.Actual, error) { return a.cfg.Store.AllActual() }

// ImagesInUse names the repositories (without a tag) of all installed apps and
// the references that are kept for them: the installed version and the one for
// a roll-back.
func (a *Apps) ImagesInUse(context.Context) (repositories, references []string, err error) {
	all, err := a.cfg.Store.AllActual()
	if err != nil {
		return nil, nil, err
	}
	wanted, err := a.cfg.Store.AllWanted()
	if err != nil {
		return nil, nil, err
	}
	seen := map[string]bool{}
	note := func(id protocol.AppID, name string, versions ...string) {
		repo := a.repository(id, name)
		if !seen[repo] {
			seen[repo] = true
			repositories = append(repositories, repo)
		}
		for _, v := range versions {
			if v != "" {
				references = append(references, repo+":"+v)
			}
		}
	}
	for _, app := range all {
		if app.State.Gone() {
			continue
		}
		note(app.ID(), app.AppName, app.Version)
		if app.PreviousImage != "" {
			references = append(references, app.PreviousImage)
		}
		if app.Swap != nil {
			note(app.ID(), app.AppName, app.Swap.Version, app.Swap.ToVersion)
		}
		for _, made := range recorded(app) {
			references = append(references, madeImages(made)...)
		}
	}
	for _, w := range wanted {
		if w.Request.Target.Settled() == protocol.Published { // on its way to the registry
			note(protocol.AppID{Key: w.Request.AppKey, Stage: protocol.Prod}, w.Request.AppName, w.Request.Version)
		}
		if !goes(w.Request) {
			note(w.Request.ID(), w.Request.AppName, w.Request.PresentVersion, w.Request.NewestVersion)
			references = append(references, madeImages(&device.Made{Compose: w.Request.DockerCompose})...)
			references = append(references, madeImages(&device.Made{Compose: w.Request.NewDockerCompose})...)
		}
	}
	return repositories, references, nil
}
