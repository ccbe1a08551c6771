package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// A form is how an app is made of containers: one of its own (single), or those
// of a compose project (composed). Everything else about an app (its states, the
// plan, the phases of an update, reports) is the same for both. A form has no
// state; its methods run on the worker's goroutine.
type form interface {
	// look finds what the engine has of the app. What is not ours is not seen.
	look(ctx context.Context, j *job) (sight, error)
	// images are the references that have to be on the device before a start.
	images(m making) ([]string, error)
	// ports are the host ports that the agent manages for the app.
	ports(j *job, m making) ([]portNeed, error)
	// hash is the fingerprint of what m says the containers are made from (design
	// S11), given those that are there.
	hash(m making, seen sight) string
	// complete tells whether the containers are all there that should be.
	complete(j *job) bool
	// start brings the containers about and starts them; made tells whether they
	// are new. A host port that somebody else has is a *container.PortError.
	start(ctx context.Context, j *job, m making, vars []variable) (made bool, err error)
	// end stops and removes the containers; what they keep stays.
	end(ctx context.Context, j *job) error
	// erase removes the containers and what they keep, but for the data folder.
	erase(ctx context.Context, j *job) error

	// keep makes sure that the images of the version that runs outlive the
	// download of the next one.
	keep(ctx context.Context, j *job) error
	// park moves the version that runs out of the way of another one, in such a
	// way that back finds it; the job's swap is the update's marker. Each may be
	// called again after it was interrupted.
	park(ctx context.Context, j *job) error
	// back starts the version again that was parked. there tells whether there was
	// anything to start, which then is seen; err is why it does not run.
	back(ctx context.Context, j *job) (there bool, err error)
	// unpark removes what was parked.
	unpark(ctx context.Context, swap device.Swap) error
}

// form is the one of what the device has of the app.
func (w *worker) form(j *job) form { return w.formOf(j.have.Project) }

func (w *worker) formOf(project bool) form {
	if project {
		return composed{w}
	}
	return single{w}
}

// A making is what is to be made of an app: its request, with the settings and
// the definition of the version that is meant.
type making struct {
	r       protocol.AppRequest
	version string
	release uint64
}

// project tells whether a compose project is to be made.
func (m making) project() bool { return m.r.DockerCompose != nil }

// made is what the record keeps of it, and of the containers that were made.
func (m making) made(seen sight) *device.Made {
	made := &device.Made{Environment: m.r.Environment, Template: m.r.EnvironmentTemplate, Ports: m.r.Ports, Compose: m.r.DockerCompose}
	if !m.project() {
		return made
	}
	made.Images = map[string]string{}
	for _, c := range seen.parts {
		made.Services = append(made.Services, c.Labels[labelService])
		made.Images[c.Image] = c.ImageID
	}
	slices.Sort(made.Services)
	made.Services = slices.Compact(made.Services)
	return made
}

// take makes it what a version was made from.
func (m *making) take(made *device.Made) {
	m.r.Environment, m.r.EnvironmentTemplate, m.r.Ports, m.r.DockerCompose = made.Environment, made.Template, made.Ports, made.Compose
	m.r.NewDockerCompose = nil
}

// making is what to make of the version that is to run. A wish about another
// version than the installed one, which has yet to come or failed its probation,
// says nothing about what is there: that is made again from what it was.
func (j *job) making() making {
	m := making{r: j.req(), version: j.version(), release: j.release()}
	switch made, updated := j.have.Made, m.r.RequestUpdate && m.version == m.r.NewestVersion; {
	case made != nil && j.forAnother():
		m.take(made)
	case updated && m.r.NewDockerCompose != nil:
		m.r.DockerCompose = m.r.NewDockerCompose
	case m.r.Stage != protocol.Prod || updated || !j.installed() || m.r.PresentVersion == "" || m.r.PresentVersion == m.version:
	case made != nil && made.Compose != nil:
		// Its sender has not understood yet which version is here, and so the
		// definition is another version's.
		m.r.DockerCompose = made.Compose
	case made == nil && m.r.DockerCompose != nil && !j.forAnother():
		// Nor does anybody know any more what was here: then it is that version.
		m.version, m.release = m.r.PresentVersion, m.r.ReleaseKey
	}
	m.r.NewDockerCompose = nil
	return m
}

// successor is what to make of the version that an update brings.
func (j *job) successor() making {
	m := making{r: j.req(), version: j.req().NewestVersion, release: j.req().NewReleaseKey}
	if m.r.NewDockerCompose != nil {
		m.r.DockerCompose, m.r.NewDockerCompose = m.r.NewDockerCompose, nil
	}
	return m
}

// A sight is what the engine shows of an app: its containers, in an order that
// stays.
type sight struct {
	parts []container.Container
	// jobs tells that a container may end with 0 and be done: it is a service of
	// a project. The one container of a single app may not.
	jobs bool
	// cut are the ids of those that ended with 0 all the same before their work was
	// done: the engine or the system ended.
	cut map[string]bool
	// strange is the name of a container that carries the app's name and is not
	// ours.
	strange string
}

func (s sight) there() bool { return len(s.parts) > 0 }

// seenAs is what a container's status means for an app (life §4.2). An unknown
// word, such as paused, says nothing.
var seenAs = map[container.Status]protocol.State{
	container.StatusRunning:    protocol.Running,
	container.StatusCreated:    protocol.Present,
	container.StatusRemoving:   protocol.Stopping,
	container.StatusRestarting: protocol.Failed,
	container.StatusExited:     protocol.Failed,
	container.StatusDead:       protocol.Failed,
}

// done tells whether a container did its work and ended well.
func (s sight) done(c container.Container) bool {
	return s.jobs && c.Status == container.StatusExited && c.ExitCode == 0 && !s.cut[c.ID]
}

// state is what a sight means for an app. The worst container decides, so that
// no crashed one is hidden behind those that run; culprit is the one that failed.
// known is false where the sight says nothing: then the app is what its record
// says, such as a project whose services have all done their work.
func (s sight) state() (state protocol.State, culprit *container.Container, known bool) {
	worth := []protocol.State{protocol.Running, protocol.Present, protocol.Stopping, protocol.Failed}
	worst := -1
	for i, c := range s.parts {
		of, ok := seenAs[c.Status]
		if !ok || s.done(c) {
			continue
		}
		if rank := slices.Index(worth, of); rank > worst {
			worst, culprit = rank, &s.parts[i]
		}
	}
	if worst < 0 {
		return "", nil, false
	}
	return worth[worst], culprit, true
}

// runs tells whether all of it is as a running app's should be.
func (s sight) runs() bool {
	state, _, known := s.state()
	return known && state == protocol.Running
}

// has tells whether a container is in one of these states.
func (s sight) has(any ...container.Status) bool {
	return slices.ContainsFunc(s.parts, func(c container.Container) bool { return slices.Contains(any, c.Status) })
}

func (s sight) ids() []string {
	var ids []string
	for _, c := range s.parts {
		ids = append(ids, c.ID)
	}
	return ids
}

// Compose's own labels on the container of a service. The last one is on those
// of "docker compose run", which are no part of what runs.
const (
	labelProject = container.LabelProject
	labelService = container.LabelService
	labelOneOff  = "com.docker.compose.oneoff"
)

// ending says in words how a container failed.
func ending(c container.Container) string {
	what := fmt.Sprintf("exited with status code %d", c.ExitCode)
	if c.Status == container.StatusRestarting {
		what = "the container restarts by itself"
	}
	return ofService(c) + what
}

// ofService begins a sentence about the container of a project's service.
func ofService(c container.Container) string {
	if service := c.Labels[labelService]; service != "" {
		return "service " + service + ": "
	}
	return ""
}

// up tells whether what was started runs; err is why it never will.
func (s sight) up() (up bool, err error) {
	up = s.there()
	for _, c := range s.parts {
		switch {
		case s.jobs && c.Status == container.StatusRunning && c.Health == container.HealthUnhealthy:
			return false, errors.New(ofService(c) + "it is not healthy")
		case s.done(c), c.Status == container.StatusRunning:
		case c.Status != container.StatusExited && c.Status != container.StatusDead:
			up = false // not yet
		case c.Error != "":
			return false, errors.New(ofService(c) + c.Error)
		default:
			return false, fmt.Errorf("%sexited with status code %d right after its start", ofService(c), c.ExitCode)
		}
	}
	return up, nil
}
