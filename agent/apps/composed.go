package apps

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"reagent/container"
	"reagent/filesystem"
	"reagent/persistence/device"
	"reagent/protocol"
)

// A composer runs compose projects; container.Compose is one.
type composer interface {
	// Supported is container.ErrNoCompose where the device has no compose.
	Supported(ctx context.Context) error
	Up(ctx context.Context, p container.Project, line func(string)) error
	Stop(ctx context.Context, p container.Project, grace time.Duration, line func(string)) error
	Down(ctx context.Context, p container.Project, volumes bool, line func(string)) error
	Build(ctx context.Context, p container.Project, credentials map[string]container.Credential, line func(string)) error
}

// composed is an app of several containers, which compose makes of a definition.
//
// Its containers are those that carry the project's name and our labels, or that
// were adopted with a record. What they keep is in named volumes, which only a
// removal of the app deletes. A version is parked by its record alone: its
// containers go, its images and its definition stay, and back makes it again.
type composed struct{ w *worker }

func (f composed) look(ctx context.Context, j *job) (sight, error) {
	project := projectName(j.have.ID(), j.have.AppName)
	rows, err := f.w.a.cfg.Engine.List(ctx, map[string]string{labelProject: project})
	if err != nil {
		return sight{}, fmt.Errorf("look at project %s: %w", project, err)
	}
	seen := sight{jobs: true}
	for _, row := range rows {
		if row.Labels[labelOneOff] == "True" {
			continue // somebody's "docker compose run"
		}
		c, err := f.w.a.cfg.Engine.Inspect(ctx, row.ID)
		switch {
		case errors.Is(err, container.ErrNotFound):
		case err != nil:
			return sight{}, fmt.Errorf("look at %s: %w", row.Name, err)
		case f.owns(c, j.have):
			seen.parts = append(seen.parts, c)
		default:
			seen.strange = c.Name
		}
	}
	slices.SortFunc(seen.parts, func(a, b container.Container) int { return cmp.Compare(a.Name, b.Name) })
	return seen, nil
}

// owns tells whether a container of the project's name belongs to this app.
func (f composed) owns(c container.Container, have device.Actual) bool {
	serial := f.w.a.cfg.Facts().Serial
	if id, ok := owner(c.Labels, serial); ok {
		return id == f.w.id
	}
	id, _, ok := adoptableService(c, serial)
	return ok && id == f.w.id && have.Adopted
}

func (f composed) images(m making) ([]string, error) { return f.w.a.projectImages(m.r) }

func (f composed) ports(j *job, m making) ([]portNeed, error) {
	if m.r.DockerCompose == nil {
		return nil, nil
	}
	return projectPorts(m.r.DockerCompose, m.r.Ports, m.r.Stage, func(service, wire string, port uint16) uint16 {
		for _, c := range j.seen.parts {
			for _, p := range c.Ports {
				if c.Labels[labelService] == service && p.Container == port && p.Protocol == wire {
					return p.Host
				}
			}
		}
		return 0
	})
}

// hash covers the definition as its author wrote it, with everything else that
// somebody chose.
func (f composed) hash(m making, _ sight) string {
	return definition{
		Image: m.version, Environment: m.r.Environment, Template: m.r.EnvironmentTemplate, Ports: m.r.Ports,
		Privileged: f.w.a.cfg.Privileged, Compose: m.r.DockerCompose,
	}.hash()
}

// complete tells whether each service has its container that had one when the
// project was started.
func (f composed) complete(j *job) bool {
	if j.have.Made == nil {
		return true
	}
	for _, service := range j.have.Made.Services {
		if !slices.ContainsFunc(j.seen.parts, func(c container.Container) bool { return c.Labels[labelService] == service }) {
			return false
		}
	}
	return true
}

// start makes what runs equal to the definition. What is as it should be is not
// touched. A project that was adopted is started as it is: nobody has said its
// definition yet.
func (f composed) start(ctx context.Context, j *job, m making, vars []variable) (made bool, err error) {
	if m.r.DockerCompose == nil {
		return false, f.startAsFound(ctx, j)
	}
	if seen, err := f.look(ctx, j); err != nil {
		return false, err
	} else if seen.strange != "" {
		return false, fmt.Errorf("the project's name is taken: container %s of it was not made by this agent; remove or rename it", seen.strange)
	}
	free, err := f.w.a.projects.take(ctx, f.w.a.projectFolder(m.r))
	if err != nil {
		return false, err
	}
	defer free()
	p, err := f.write(ctx, j, m, vars)
	if err != nil {
		return false, err
	}
	if err := f.w.a.cfg.Compose.Up(ctx, p, f.say(j)); err != nil {
		return false, f.tearDown(ctx, j, f.w.overdue(ctx, errNotUp, err))
	}
	return true, nil
}

// errNotUp is a start that takes for ever: compose waits for the health checks and
// the ends of services that others depend on, which may never come.
var errNotUp = errors.New("its services did not come up in time")

// tearDown puts away what a start that failed has left: services that run
// without those that they were to run with are no app.
func (f composed) tearDown(ctx context.Context, j *job, cause error) error {
	seen, err := f.look(ctx, j)
	if err != nil || ctx.Err() != nil {
		return cause // the next look finds it
	}
	j.seen = seen
	f.w.attach(j)
	f.w.a.cfg.AppLog.Detach(j.cn())
	if err := f.end(ctx, j); err != nil {
		f.w.a.cfg.Log.Warn().Err(err).Stringer("app", f.w.id).Msg("what a failed start left stays until the next one")
	}
	return cause
}

func (f composed) startAsFound(ctx context.Context, j *job) error {
	for _, c := range j.seen.parts {
		if c.Status == container.StatusRunning || j.seen.done(c) && !j.victim {
			continue
		}
		if err := f.w.a.cfg.Engine.Start(ctx, c.ID); err != nil {
			return fmt.Errorf("start %s: %w", c.Name, err)
		}
	}
	if !j.seen.there() {
		return errors.New("the studio has not said the app's compose definition yet")
	}
	return nil
}

// write makes the files that compose runs the project from.
func (f composed) write(ctx context.Context, j *job, m making, vars []variable) (container.Project, error) {
	a := f.w.a
	p := a.project(m.r)
	images, err := a.projectImages(m.r)
	if err != nil {
		return p, err
	}
	driver, limit, err := a.cfg.Engine.LogConfig(ctx, logLimit, images)
	if err != nil {
		a.cfg.Log.Warn().Err(err).Stringer("app", f.w.id).Msg("what its services print is kept without a limit")
	}
	text, err := rewriting{
		project: p.Name, envFolder: filepath.Join(a.dataFolder(m.r), "env"), labels: a.labels(m, f.hash(m, sight{})),
		keepBuild: m.r.Stage == protocol.Dev, ports: j.have.HostPorts, rules: m.r.Ports, logDriver: driver, logLimit: limit,
	}.text(m.r.DockerCompose)
	if err != nil {
		return p, err
	}
	env, refused := composeEnvironment(vars)
	for _, name := range refused {
		a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("The variable %q cannot be set for a compose app: use letters, digits, '_', '.' and '-'", name))
	}
	if err := filesystem.MakePrivateDir(p.Dir); err != nil {
		return p, fmt.Errorf("make the project's folder: %w", err)
	}
	for name, data := range map[string][]byte{definitionFile: text, environmentFile: env} {
		if _, err := filesystem.WriteBelow(p.Dir, name, data, filesystem.PrivateFile); err != nil {
			return p, fmt.Errorf("write the project's files: %w", err)
		}
	}
	return p, nil
}

// projectImages are the images of a compose app whose definition may be run here.
func (a *Apps) projectImages(r protocol.AppRequest) ([]string, error) {
	if err := a.policy(r).check(r.DockerCompose); err != nil {
		return nil, err
	}
	return projectImages(r.DockerCompose, r.Stage == protocol.Dev)
}

func (a *Apps) policy(r protocol.AppRequest) projectPolicy {
	return projectPolicy{privileged: a.cfg.Privileged, folder: a.projectFolder(r), shown: []string{a.sharedFolder(), a.dataFolder(r)}}
}

// text is a definition rewritten, as a file.
func (r rewriting) text(definition map[string]any) ([]byte, error) {
	out, err := r.rewrite(definition)
	if err != nil {
		return nil, err
	}
	return json.MarshalIndent(out, "", "  ")
}

// say shows compose's own words in the app's log.
func (f composed) say(j *job) func(string) {
	return func(line string) { f.w.a.cfg.AppLog.Output(j.cn(), line) }
}

// end stops the containers, in the order of their dependencies where there is
// compose to tell it, and removes them when what they printed is kept.
func (f composed) end(ctx context.Context, j *job) error {
	if !j.seen.there() {
		return nil
	}
	err := f.byCompose(ctx, j, func() error {
		return f.w.a.cfg.Compose.Stop(ctx, f.ofRecord(j), f.grace(j), f.say(j))
	})
	if err != nil {
		return err
	}
	left, err := f.look(ctx, j)
	if err != nil {
		return err
	}
	for _, c := range left.parts {
		if err := f.w.end(ctx, j, c); err != nil {
			return err
		}
	}
	j.seen = sight{jobs: true}
	return nil
}

// grace is how long the services may take to end: a database wants more than the
// one container of a single app gets.
func (f composed) grace(j *job) time.Duration {
	longest := f.w.a.cfg.Waits.ProjectGrace
	if j.have.Made == nil || j.have.Made.Compose == nil {
		return longest
	}
	listed, _ := services(j.have.Made.Compose) // a bad one says nothing
	for _, s := range listed {
		text, _ := s["stop_grace_period"].(string)
		if d, err := time.ParseDuration(text); err == nil {
			longest = max(longest, min(d, maxGrace))
		}
	}
	return longest
}

// maxGrace bounds what an author may make everybody wait.
const maxGrace = 2 * time.Minute

// byCompose lets compose do something where it can; what is left is for the
// engine alone. Compose goes by the project's name: where a container of that
// name is not ours, it must not.
func (f composed) byCompose(ctx context.Context, j *job, do func() error) error {
	if f.w.a.cfg.Compose == nil || j.seen.strange != "" {
		return nil
	}
	err := f.w.overdue(ctx, errNotAway, do())
	if err == nil || ctx.Err() != nil || engineGone(err) {
		return err
	}
	if !errors.Is(err, container.ErrNoCompose) {
		f.w.a.cfg.Log.Warn().Err(err).Stringer("app", f.w.id).Msg("compose does not put the app away; the engine does")
	}
	return nil
}

var errNotAway = errors.New("compose did not put it away in time")

func (f composed) ofRecord(j *job) container.Project {
	return f.w.a.project(protocol.AppRequest{AppKey: f.w.id.Key, Stage: f.w.id.Stage, AppName: j.have.AppName})
}

// erase removes containers, networks and volumes.
func (f composed) erase(ctx context.Context, j *job) error {
	if err := f.hush(ctx, j); err != nil {
		return err
	}
	err := f.byCompose(ctx, j, func() error {
		return f.w.a.cfg.Compose.Down(ctx, f.ofRecord(j), true, f.say(j))
	})
	if err != nil {
		return err
	}
	left, err := f.look(ctx, j)
	if err != nil {
		return err
	}
	for _, c := range left.parts {
		if err := f.w.end(ctx, j, c); err != nil {
			return err
		}
	}
	if left.strange == "" {
		if err := f.clear(ctx, j); err != nil {
			return err
		}
	}
	j.seen = sight{jobs: true}
	return nil
}

// hush lets compose end the containers, and waits until their logs are kept:
// what takes them away takes those, too.
func (f composed) hush(ctx context.Context, j *job) error {
	if f.w.a.cfg.Compose == nil {
		return nil // the engine takes them away one by one, and waits for each
	}
	if j.seen.has(container.StatusRunning) {
		err := f.byCompose(ctx, j, func() error {
			return f.w.a.cfg.Compose.Stop(ctx, f.ofRecord(j), f.grace(j), f.say(j))
		})
		if err != nil {
			return err
		}
	}
	seen, err := f.look(ctx, j)
	if err != nil {
		return err
	}
	for _, c := range seen.parts {
		if c.Status == container.StatusExited {
			f.w.a.cfg.AppLog.Drain(ctx, j.cn(), c)
		}
	}
	return nil
}

// clear removes the volumes and networks of a project that has no containers.
func (f composed) clear(ctx context.Context, j *job) error {
	e, ours := f.w.a.cfg.Engine, map[string]string{labelProject: f.ofRecord(j).Name}
	volumes, err := e.Volumes(ctx, ours)
	if err != nil {
		return err
	}
	for _, v := range volumes {
		if err := e.RemoveVolume(ctx, v.Name); err != nil && !errors.Is(err, container.ErrNotFound) {
			return err
		}
	}
	return e.RemoveNetworks(ctx, ours)
}

// files deletes the folder of the project's files, which an app has that was one.
func (f composed) files(j *job) error {
	r := protocol.AppRequest{AppKey: f.w.id.Key, Stage: f.w.id.Stage, AppName: j.have.AppName}
	if err := os.RemoveAll(f.w.a.projectFolder(r)); err != nil {
		return fmt.Errorf("delete the project's files: %w", err)
	}
	return nil
}

// keep gives the images of the version that runs a name that the download of the
// next one cannot take away.
func (f composed) keep(ctx context.Context, j *job) error {
	if j.have.Made == nil {
		return nil
	}
	for _, id := range j.have.Made.Images {
		if err := f.w.a.cfg.Engine.Tag(ctx, id, keptImage(id)); err != nil && !errors.Is(err, container.ErrNotFound) {
			return fmt.Errorf("keep an image of the version that runs: %w", err)
		}
	}
	return nil
}

func (f composed) park(ctx context.Context, j *job) error {
	seen, err := f.look(ctx, j)
	if err != nil {
		return err
	}
	j.seen = seen
	if err := f.end(ctx, j); err != nil {
		return fmt.Errorf("stop the old version: %w", err)
	}
	return nil
}

// back makes the old version again from its own definition, settings and
// images.
func (f composed) back(ctx context.Context, j *job) (there bool, err error) {
	swap, e := j.have.Swap, f.w.a.cfg.Engine
	if swap.Made == nil || swap.Made.Compose == nil {
		return false, nil // it was adopted, and nobody knows what it was made from
	}
	for ref, id := range swap.Made.Images {
		image, err := e.Image(ctx, ref)
		if err == nil && image.ID != id || errors.Is(err, container.ErrNotFound) {
			err = e.Tag(ctx, id, ref)
		}
		if err != nil && !errors.Is(err, container.ErrNotFound) {
			return false, fmt.Errorf("bring image %s of the old version back: %w", ref, err)
		}
	}
	m := making{r: j.req(), version: swap.Version, release: swap.ReleaseKey}
	m.take(swap.Made)
	vars, err := f.w.variables(j, m, j.have.HostPorts)
	if err != nil {
		return false, err
	}
	_, err = f.start(ctx, j, m, vars)
	return true, err
}

// unpark has nothing to do: a parked version is no more than its record.
func (f composed) unpark(context.Context, device.Swap) error { return nil }
