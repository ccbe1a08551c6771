package apps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// watch keeps the engine's event stream open and looks at everything now and
// then, until ctx ends.
func (a *Apps) watch(ctx context.Context) {
	told := false
	for {
		err := a.follow(ctx)
		a.engineLost()
		if ctx.Err() != nil {
			return
		}
		if !told {
			a.cfg.Log.Warn().Err(err).Msg("engine does not answer; the apps wait for it")
		}
		told = errors.Is(err, container.ErrUnavailable)
		select {
		case <-ctx.Done():
			return
		case <-time.After(jitter(a.cfg.Waits.EngineRetry)):
		}
	}
}

// follow listens to the engine until the stream breaks or the engine fails to
// answer a look.
func (a *Apps) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	up := make(chan struct{})
	looking := make(chan struct{})
	go func() {
		defer close(looking)
		select {
		case <-up:
		case <-ctx.Done():
			return
		}
		if err := a.looks(ctx); err != nil {
			cancel(err)
		}
	}()
	var once sync.Once
	err := a.cfg.Engine.Events(ctx, func() { once.Do(func() { close(up) }) }, a.happened)
	cause := context.Cause(ctx)
	cancel(err)
	<-looking
	if cause != nil {
		return cause
	}
	return err
}

// looks takes the first look at an engine that was just reached, and further
// ones at intervals. It ends with ctx, or when the engine does not answer.
func (a *Apps) looks(ctx context.Context) error {
	if err := a.lookAtAll(ctx); err != nil {
		return err
	}
	a.engineReached()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(jitter(a.cfg.Waits.Look)):
		}
		if err := a.lookAtAll(ctx); err != nil {
			return err
		}
	}
}

func (a *Apps) engineReached() {
	a.mu.Lock()
	a.epoch++
	close(a.ready)
	a.mu.Unlock()
	a.each((*worker).poke)
	a.changed()
}

func (a *Apps) engineLost() {
	a.mu.Lock()
	select {
	case <-a.ready:
		a.ready = make(chan struct{})
	default:
	}
	a.mu.Unlock()
	a.changed()
}

// engineEpoch tells how often the engine was reached, and whether it is now.
func (a *Apps) engineEpoch() (epoch uint64, reachable bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	select {
	case <-a.ready:
		return a.epoch, true
	default:
		return a.epoch, false
	}
}

// changed tells whoever shows the apps that something did.
func (a *Apps) changed() {
	if a.cfg.Changed != nil {
		a.cfg.Changed()
	}
}

// happened wakes the worker whose container an event is about.
func (a *Apps) happened(e container.Event) {
	if strings.HasPrefix(e.Action, "exec_") {
		return
	}
	id, ok := owner(e.Labels, a.cfg.Facts().Serial)
	if !ok {
		// Of a project that was adopted only the label tells; a wrong guess wakes
		// somebody for nothing.
		stage, key, _, parsed := protocol.ParseContainerName(cmp.Or(e.Labels[labelProject], e.Name))
		if !parsed {
			return
		}
		id = protocol.AppID{Key: key, Stage: stage}
	}
	a.mu.Lock()
	w := a.workers[id]
	a.mu.Unlock()
	if w != nil {
		w.poke()
	}
}

// lookAtAll compares every container with the records: it adopts what is ours
// and has no record (design S7, D10), puts leftovers of updates away, and wakes
// the workers whose app is not as recorded.
func (a *Apps) lookAtAll(ctx context.Context) error {
	all, err := a.cfg.Engine.List(ctx, nil)
	if err != nil {
		return fmt.Errorf("list containers: %w", err)
	}
	serial := a.cfg.Facts().Serial
	found := map[protocol.AppID]container.Status{}
	var parked []container.Container
	projects := map[string][]container.Summary{}
	for _, s := range all {
		if project := s.Labels[labelProject]; project != "" {
			projects[project] = append(projects[project], s)
			continue
		}
		if s.Labels[labelReal] != "True" {
			continue
		}
		id, labelled := owner(s.Labels, serial)
		isParked := strings.HasPrefix(s.Name, parkedPrefix)
		if !labelled || isParked {
			c, err := a.cfg.Engine.Inspect(ctx, s.ID)
			if errors.Is(err, container.ErrNotFound) {
				continue
			}
			if err != nil {
				return fmt.Errorf("look at %s: %w", s.Name, err)
			}
			if isParked {
				parked = append(parked, c)
				continue
			}
			var name string
			if id, name, labelled = adoptable(c, serial); labelled {
				if err := a.adopt(ctx, id, name, sight{parts: []container.Container{c}}, true); err != nil {
					return err
				}
			}
		} else if err := a.adoptSummary(ctx, id, s); err != nil {
			return err
		}
		if labelled {
			found[id] = s.Status
		}
	}
	for project, rows := range projects {
		if err := a.lookAtProject(ctx, project, rows, found); err != nil {
			return err
		}
	}
	for _, c := range parked {
		if err := a.unpark(ctx, c, found); err != nil {
			return err
		}
	}
	return a.wakeDifferent(found)
}

// wakeDifferent pokes the workers of apps whose container is not as the record
// says.
func (a *Apps) wakeDifferent(found map[protocol.AppID]container.Status) error {
	records, err := a.cfg.Store.AllActual()
	if err != nil {
		return err
	}
	for _, r := range records {
		status, there := found[r.ID()]
		asRecorded := there && seenAs[status] == r.State || !there && r.State != protocol.Running
		if asRecorded && !r.State.Transient() {
			continue
		}
		a.worker(r.ID()).poke()
	}
	return nil
}

func (a *Apps) known(id protocol.AppID) (bool, error) {
	_, wanted, err := a.cfg.Store.Wanted(id)
	if err != nil {
		return false, err
	}
	_, actual, err := a.cfg.Store.Actual(id)
	return wanted || actual, err
}

// taken tells whether a container that was found is no matter of adoption. One
// without our labels is also adopted where nothing but a wish is known: the
// studio's list comes before the first look where the engine is slow to start,
// and no worker has been at the engine by then.
func (a *Apps) taken(id protocol.AppID, foreign bool) (bool, error) {
	if epoch, _ := a.engineEpoch(); foreign && epoch == 0 {
		_, actual, err := a.cfg.Store.Actual(id)
		return actual, err
	}
	return a.known(id)
}

// adoptSummary rebuilds the record of a container that carries our labels and
// has none: the database was lost.
func (a *Apps) adoptSummary(ctx context.Context, id protocol.AppID, s container.Summary) error {
	known, err := a.known(id)
	if err != nil || known {
		return err
	}
	c, err := a.cfg.Engine.Inspect(ctx, s.ID)
	if errors.Is(err, container.ErrNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at %s: %w", s.Name, err)
	}
	name := c.Labels[labelName]
	if protocol.CheckAppName(name) != nil || c.Name != protocol.ContainerName(id.Stage, id.Key, name) {
		return nil
	}
	return a.adopt(ctx, id, name, sight{parts: []container.Container{c}}, false)
}

// lookAtProject is lookAtAll for the containers of one compose project.
func (a *Apps) lookAtProject(ctx context.Context, project string, rows []container.Summary, found map[protocol.AppID]container.Status) error {
	serial := a.cfg.Facts().Serial
	id, labelled := owner(rows[0].Labels, serial)
	if !labelled {
		stage, key, _, parsed := protocol.ParseContainerName(project)
		if !parsed {
			return nil
		}
		id = protocol.AppID{Key: key, Stage: stage}
	}
	for _, r := range rows { // as the worker sees it: it looks at each that differs
		if status, there := found[id]; !there || status == container.StatusRunning {
			found[id] = r.Status
		}
	}
	if taken, err := a.taken(id, !labelled); err != nil || taken {
		return err
	}
	name := rows[0].Labels[labelName]
	seen := sight{jobs: true}
	for _, r := range rows {
		c, err := a.cfg.Engine.Inspect(ctx, r.ID)
		if errors.Is(err, container.ErrNotFound) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look at %s: %w", r.Name, err)
		}
		of, ok := owner(c.Labels, serial)
		if !labelled {
			of, name, ok = adoptableService(c, serial)
		}
		if !ok || of != id || protocol.CheckAppName(name) != nil || project != projectName(id, name) {
			delete(found, id)
			return nil // a stranger is among them: the whole is not ours
		}
		seen.parts = append(seen.parts, c)
	}
	if !seen.there() {
		return nil
	}
	return a.adopt(ctx, id, name, seen, !labelled)
}

// adopt writes the record of a container that is ours, wanted RUNNING whether it
// runs or not, unless something is wanted already: an exited one is a victim of a
// power cut. It is not recreated.
func (a *Apps) adopt(ctx context.Context, id protocol.AppID, name string, seen sight, foreign bool) error {
	c := seen.parts[0]
	a.wishes.Lock()
	defer a.wishes.Unlock()
	taken, err := a.taken(id, foreign)
	if err != nil || taken {
		return err
	}
	switch now, err := a.cfg.Engine.Inspect(ctx, c.ID); {
	case errors.Is(err, container.ErrNotFound) || err == nil && now.Name != c.Name:
		return nil // the app was removed between the look and here
	case err != nil:
		return fmt.Errorf("look at %s: %w", c.Name, err)
	}
	have := device.Actual{AppKey: id.Key, Stage: id.Stage, AppName: name, Project: seen.jobs, Adopted: foreign, Changed: time.Now().UTC()}
	a.recall(&have, seen)
	_, wanted, err := a.cfg.Store.Wanted(id)
	if err == nil && !wanted {
		var wish device.Wanted
		wish, _, err = a.cfg.Store.Want(protocol.AppRequest{
			AppKey: id.Key, AppName: name, Stage: id.Stage, Target: protocol.Running, PresentVersion: have.Version,
		}, false)
		have.AdoptedWish = wish.Seq
	}
	if err != nil {
		return fmt.Errorf("adopt %s: %w", c.Name, err)
	}
	state, _, known := seen.state()
	if !known {
		state = protocol.Present
	}
	have.State = state
	err = a.cfg.Store.Save(have)
	if err != nil {
		return fmt.Errorf("adopt %s: %w", c.Name, err)
	}
	a.cfg.Log.Info().Str("container", c.Name).Stringer("app", id).Msg("container adopted")
	a.worker(id).poke()
	return nil
}

// recall writes into a record what containers tell of their app.
func (a *Apps) recall(have *device.Actual, seen sight) {
	c := seen.parts[0]
	have.Version, have.ConfigHash = versionOf(c.Image), c.Labels[labelHash]
	if seen.jobs {
		have.Version = c.Labels[labelVersion]
	}
	if have.Stage == protocol.Dev {
		have.Version = devVersion // the reference leaves that tag away
	}
	_, _ = fmt.Sscan(c.Labels[labelRelease], &have.ReleaseKey)
	have.HostPorts = map[string]uint16{}
	for _, c := range seen.parts {
		for _, p := range c.Ports {
			if p.Host != 0 {
				have.HostPorts[slotOf(c.Labels[labelService], p.Protocol, p.Container)] = p.Host
			}
		}
	}
	a.ports.restore(have.ID(), have.HostPorts)
}

// unpark deals with an old container of an update that no marker mentions: the
// database was lost in the middle. It comes back if nothing took its place.
func (a *Apps) unpark(ctx context.Context, c container.Container, found map[protocol.AppID]container.Status) error {
	serial := a.cfg.Facts().Serial
	id, ok := owner(c.Labels, serial)
	name := c.Labels[labelName]
	if !ok { // an adopted one: its own variables tell its name
		was := c
		was.Name = nameByVariables(c)
		id, name, ok = adoptable(was, serial)
	}
	if !ok || c.Name != parkedName(c.ID) {
		return nil
	}
	record, known, err := a.cfg.Store.Actual(id)
	if err != nil || known && record.Swap != nil {
		return err
	}
	// Its update may have ended between the look and here, with its return.
	switch now, err := a.cfg.Engine.Inspect(ctx, c.ID); {
	case errors.Is(err, container.ErrNotFound) || err == nil && now.Name != c.Name:
		return nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", c.Name, err)
	}
	if _, replaced := found[id]; replaced || known {
		a.cfg.Log.Info().Str("container", c.Name).Stringer("app", id).Msg("leftover of an update removed")
		return a.cfg.Engine.Remove(ctx, c.ID)
	}
	if err := a.cfg.Engine.Rename(ctx, c.ID, protocol.ContainerName(id.Stage, id.Key, name)); err != nil {
		return fmt.Errorf("bring %s back: %w", c.Name, err)
	}
	c.Name = protocol.ContainerName(id.Stage, id.Key, name)
	_, foreign := owner(c.Labels, serial)
	return a.adopt(ctx, id, name, sight{parts: []container.Container{c}}, !foreign)
}

func nameByVariables(c container.Container) string {
	env := map[string]string{}
	for _, line := range c.Env {
		k, v, _ := strings.Cut(line, "=")
		env[k] = v
	}
	return strings.ToLower(env["ENV"] + "_" + env["APP_KEY"] + "_" + env["APP_NAME"])
}
