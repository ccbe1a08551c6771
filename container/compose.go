package container

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/docker/docker/client"
	"github.com/rs/zerolog"
)

// A ComposeConfig says where compose is found and how long it may take.
type ComposeConfig struct {
	DockerHost string   // of the engine, as Config.Host
	Helper     string   // path of the program reagent-compose; "" = beside the running program
	Plugins    []string // folders with Docker's plugins; nil = those of Docker's own convention
	Temp       string   // a folder of its own, for files that end with an operation; "" = the system's

	Limit      time.Duration // of stopping, removing and checking; 0 = 5 min
	UpLimit    time.Duration // of Up, which waits for health checks and jobs that others depend on; 0 = 30 min
	BuildLimit time.Duration // 0 = 2 h
	KillAfter  time.Duration // how long a cancelled operation may take to end by itself; 0 = 5 s
	Recheck    time.Duration // how long a program that did not work counts as broken; 0 = 1 min

	// So many Ups and Builds go on at the same time, each in a process of its own
	// of some 30 MiB; 0 = 3 and 1. One that takes longer than its Turn (0 = 1 min)
	// no longer counts: an app whose health check takes its time holds up no other.
	Ups, Builds int
	Turn        time.Duration

	Log zerolog.Logger
}

// Compose runs multi-container projects: by the "docker compose" plugin where
// that is installed, else by the program reagent-compose. Each operation is a
// process of its own that ends with the operation, with its context, and with
// this process. Nothing of this process's environment reaches it but PATH and
// what leads to the engine, and it never sees the Docker configuration of the
// user that runs this one.
//
// A Compose may be used from any goroutine. Lines of output are reported one
// after another and before the operation returns; the report must not block for
// long, and may be nil.
type Compose struct {
	cfg    ComposeConfig
	env    []string
	finder finder
	ups    chan struct{}
	builds chan struct{}
	quick  chan struct{}
	sweep  sync.Once
}

// A Project is a compose project. Its containers carry its name in the label
// LabelProject and their service's in LabelService.
type Project struct {
	Name string // lower-case letters, digits, "-" and "_", beginning with a letter or digit
	Dir  string // what paths in the definition are relative to
	File string // the definition; absolute
}

// The labels by which compose knows what belongs to a project.
const (
	LabelProject = "com.docker.compose.project"
	LabelService = "com.docker.compose.service"
)

// NewCompose makes a Compose. It neither looks for programs nor starts one.
func NewCompose(cfg ComposeConfig) *Compose {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&cfg.Limit, 5 * time.Minute},
		{&cfg.UpLimit, 30 * time.Minute},
		{&cfg.BuildLimit, 2 * time.Hour},
		{&cfg.KillAfter, 5 * time.Second},
		{&cfg.Recheck, time.Minute},
		{&cfg.Turn, time.Minute},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if cfg.Helper == "" {
		// The program's own place, also after an update has moved it away.
		if own, err := os.Executable(); err == nil {
			cfg.Helper = filepath.Join(filepath.Dir(own), helperName)
		}
	}
	if cfg.Plugins == nil {
		cfg.Plugins = pluginFolders(os.Getenv)
	}
	cfg.DockerHost = cmp.Or(cfg.DockerHost, os.Getenv(client.EnvOverrideHost))
	c := &Compose{
		cfg:    cfg,
		env:    environment(cfg.DockerHost, os.Getenv),
		ups:    make(chan struct{}, cmp.Or(max(cfg.Ups, 0), 3)),
		builds: make(chan struct{}, cmp.Or(max(cfg.Builds, 0), 1)),
		quick:  make(chan struct{}, 2),
	}
	c.finder = finder{
		candidates: candidates(cfg.Plugins, cfg.Helper),
		helper:     cfg.Helper,
		probe:      c.version,
		recheck:    cfg.Recheck,
		known:      map[seen]verdict{},
		busy:       make(chan struct{}, 1),
	}
	return c
}

// Supported tells whether this device can run projects; ErrNoCompose says what
// to install. It looks anew each time, which costs some system calls, and
// starts a program only when that has changed.
func (c *Compose) Supported(ctx context.Context) error {
	_, err := c.finder.find(ctx, false)
	return err
}

// Program tells which program is installed for it, "" if none is. It looks
// without starting one, so that it may not work.
func (c *Compose) Program() string { return c.finder.installed() }

// Backend tells which program would run a project now, and its version.
func (c *Compose) Backend(ctx context.Context) (path, version string, err error) {
	b, err := c.finder.find(ctx, false)
	return b.path, b.version, err
}

// Up makes what runs equal to the definition: what is missing is created, what
// differs is created anew, what is no part of it any more is removed, and what
// is as it should be stays untouched. It neither pulls nor builds: a missing
// image is ErrNotFound. A host port that is taken is a *PortError; what could
// be started by then runs.
func (c *Compose) Up(ctx context.Context, p Project, line func(string)) error {
	return c.perform(ctx, operation{verb: verbUp, project: p}, c.ups, c.cfg.UpLimit, line)
}

// Stop asks the project's containers to end, those that others depend on last,
// and kills them after grace (whole seconds, rounded up). They stay: what they
// printed goes with them, and is wanted. It needs the project's name only.
func (c *Compose) Stop(ctx context.Context, p Project, grace time.Duration, line func(string)) error {
	return c.perform(ctx, operation{verb: verbStop, project: p, grace: wholeSeconds(grace)}, c.quick, c.cfg.Limit+grace, line)
}

// Down stops and removes the project's containers and networks, with volumes
// also those. It needs the project's name only, and no such project is no error.
func (c *Compose) Down(ctx context.Context, p Project, volumes bool, line func(string)) error {
	return c.perform(ctx, operation{verb: verbDown, project: p, volumes: volumes}, c.quick, c.cfg.Limit, line)
}

// Build builds the images of those services that say how, with BuildKit: by the
// plugin buildx where that is installed, else by reagent-compose, which then
// builds also for the other plugin. Without both, the engine's classic builder
// builds. The credentials, by the
// registry's host, are for base images; on Linux they never touch a disk.
func (c *Compose) Build(ctx context.Context, p Project, credentials map[string]Credential, line func(string)) error {
	return c.perform(ctx, operation{verb: verbBuild, project: p, credentials: credentials}, c.builds, c.cfg.BuildLimit, line)
}

// Check tells whether the definition can be loaded. Its error is for who wrote
// the definition.
func (c *Compose) Check(ctx context.Context, p Project) error {
	return c.perform(ctx, operation{verb: verbCheck, project: p}, c.quick, c.cfg.Limit, nil)
}

// wholeSeconds rounds up: zero would kill at once.
func wholeSeconds(d time.Duration) int { return int((max(d, 0) + time.Second - 1) / time.Second) }

// What is asked of a back end.
const (
	verbUp    = "up"
	verbStop  = "stop"
	verbDown  = "down"
	verbBuild = "build"
	verbCheck = "check"
)

type operation struct {
	verb        string
	project     Project
	grace       int // seconds
	volumes     bool
	credentials map[string]Credential
}

// projectName is compose's own rule. Only such names become arguments.
var projectName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

func (r operation) validate() error {
	p := r.project
	if !projectName.MatchString(p.Name) {
		return fmt.Errorf("no compose project can be called %q", p.Name)
	}
	if r.verb == verbStop || r.verb == verbDown {
		return nil
	}
	if !filepath.IsAbs(p.File) || !filepath.IsAbs(p.Dir) {
		return fmt.Errorf("the definition %q in %q is not named by absolute paths", p.File, p.Dir)
	}
	return nil
}

// perform runs what the back end needs for a request, one process after another.
func (c *Compose) perform(ctx context.Context, r operation, slots chan struct{}, limit time.Duration, line func(string)) error {
	what := "compose " + r.verb
	if err := r.validate(); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	b, err := c.finder.find(ctx, r.verb == verbBuild)
	if err != nil {
		return wrap(what, r.project.Name, err)
	}
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return wrap(what, r.project.Name, ctx.Err())
	}
	leave := sync.OnceFunc(func() { <-slots })
	defer leave()
	defer time.AfterFunc(c.cfg.Turn, leave).Stop()
	limited, cancel := context.WithTimeoutCause(ctx, limit, ErrTimeout)
	defer cancel()
	c.sweep.Do(func() { removeRooms(c.cfg.Temp) })
	room, err := makeRoom(c.cfg.Temp, b.extras, r.credentials)
	if err != nil {
		return wrap(what, r.project.Name, err)
	}
	defer room.remove(c.cfg.Log)
	for _, args := range b.commands(r) {
		if err = c.run(limited, b.path, args, room, line); err != nil {
			break
		}
	}
	var failed *exitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		err = ctx.Err()
	case limited.Err() != nil:
		err = context.Cause(limited)
	case errors.As(err, &failed):
		err = failed.meaning(r.verb)
	}
	return wrap(what, r.project.Name, err)
}

// commands are the plugin's command lines for a request.
func pluginCommands(r operation) [][]string {
	byName := []string{"--project-name", r.project.Name}
	byFile := append(byName[:2:2], "--project-directory", r.project.Dir, "--file", r.project.File)
	switch r.verb {
	case verbUp:
		return [][]string{append(byFile, "up", "--detach", "--remove-orphans", "--no-build", "--pull", "never")}
	case verbStop:
		return [][]string{append(byName, "stop", "--timeout", strconv.Itoa(r.grace))}
	case verbDown:
		args := append(byName, "down", "--remove-orphans")
		if r.volumes {
			args = append(args, "--volumes")
		}
		return [][]string{args}
	case verbBuild:
		return [][]string{append(byFile, "build")}
	default:
		return [][]string{append(byFile, "config", "--quiet")}
	}
}

// helperCommands are those of reagent-compose, which takes what it needs by
// name and does the whole of it at once.
func helperCommands(r operation) [][]string {
	args := []string{r.verb, "-project", r.project.Name}
	switch r.verb {
	case verbStop:
		args = append(args, "-grace", strconv.Itoa(r.grace))
	case verbDown:
		args = append(args, "-volumes="+strconv.FormatBool(r.volumes))
	default:
		args = append(args, "-dir", r.project.Dir, "-file", r.project.File)
	}
	return [][]string{args}
}
