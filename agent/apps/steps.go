package apps

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// pull gets the images of the version that is to run (life §3.2).
func (w *worker) pull(ctx context.Context, j *job) error {
	log, m := w.a.cfg.AppLog, j.making()
	w.beginDownload(j, m)
	log.ClearHistory(j.cn())
	if err := w.fetch(ctx, j, m, protocol.Downloading); err != nil {
		return err
	}
	if m.project() && (j.have.Made == nil || j.have.Version != m.version) {
		// A wish that is about another version does not say what this one is.
		j.have.Project, j.have.Made = true, m.made(sight{})
	}
	j.have.Version, j.have.ReleaseKey = m.version, m.release
	if err := w.set(j, protocol.Present, reporting{}); err != nil {
		return err
	}
	log.Agent(j.cn(), fmt.Sprintf("Succesfully installed the app: %s (Version: %s)", j.have.AppName, m.version))
	return nil
}

// beginDownload tells viewers to clear what they show, as the contract has it: of
// an app of one image only (wire §8).
func (w *worker) beginDownload(j *job, m making) {
	if !m.project() {
		w.a.cfg.AppLog.Clear(j.cn())
	}
}

// credential asks for a registry token; nobody else does (design S4).
func (w *worker) credential(ctx context.Context, r protocol.AppRequest) (*container.Credential, error) {
	account := r.RequestorAccountKey
	if r.Stage == protocol.Prod && r.DeviceOwnerAccountKey != 0 {
		account = r.DeviceOwnerAccountKey
	}
	ctx, cancel := context.WithTimeout(ctx, w.a.cfg.Waits.TokenLimit)
	defer cancel()
	token, err := w.a.cfg.Studio.RegistryToken(ctx, account)
	if err != nil {
		return nil, fmt.Errorf("ask the studio for a registry token: %w", err)
	}
	return &container.Credential{Username: token, Password: w.a.cfg.Facts().Secret}, nil
}

// runApp gets the image if it is missing, and starts the container (life §3.3).
func (w *worker) runApp(ctx context.Context, j *job) error {
	w.a.cfg.AppLog.ClearHistory(j.cn())
	if err := w.set(j, protocol.Starting, reporting{}); err != nil {
		return err
	}
	w.a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("Starting %s...", j.have.AppName))
	m := j.making()
	if m.version == "" && !j.asAdopted() {
		return errNoVersion
	}
	there := true
	var err error
	if !j.asAdopted() || !j.have.Project { // whose images nobody has named yet
		there, err = w.hasImages(ctx, m)
	}
	if err == nil && !there && w.id.Stage == protocol.Dev {
		return errors.New("it was not built on this device yet: upload its files and ask for BUILT")
	}
	if err == nil && !there {
		// A stop that arrives now lets the download end; only then it counts.
		if err := w.turn(ctx, pull); err != nil {
			return err
		}
		if err := w.pull(ctx, j); err != nil {
			return err
		}
		err = w.turn(ctx, run)
	}
	if err != nil {
		return err
	}
	return w.launch(ctx, j)
}

// portAttempts bounds how often a start is tried again with other host ports.
const portAttempts = 3

// launch makes the containers as they are wanted and starts them; the app is
// RUNNING when it returns nil.
func (w *worker) launch(ctx context.Context, j *job) error {
	m, f := j.making(), w.form(j)
	needs, err := f.ports(j, m)
	if err != nil {
		return err
	}
	had := j.have.HostPorts
	ports, err := w.a.ports.assign(w.id, needs, had)
	if err != nil {
		return err
	}
	for _, folder := range []string{w.a.sharedFolder(), w.a.dataFolder(m.r)} {
		if err := os.MkdirAll(folder, 0o777); err != nil {
			return fmt.Errorf("make the app's folder: %w", err)
		}
	}
	var made bool
	for attempt := 1; ; attempt++ {
		var vars []variable
		if err := w.reserve(j, ports); err != nil {
			return err
		}
		if vars, err = w.variables(j, m, ports); err != nil {
			return err
		}
		made, err = f.start(ctx, j, m, vars)
		var taken *container.PortError
		if !errors.As(err, &taken) || attempt == portAttempts {
			break
		}
		if ports, err = w.a.ports.replace(w.id, ports, taken.Ports); err != nil {
			return err
		}
	}
	if err != nil {
		return err
	}
	if j.seen, err = w.running(ctx, j, f); err != nil {
		if m.project() {
			err = composed{w}.tearDown(ctx, j, err)
		}
		return err
	}
	j.have.Version, j.have.ReleaseKey, j.have.ReleaseBuild = m.version, m.release, false
	j.tried()
	if made {
		j.have.Boot, j.have.Ended, w.cut = w.a.cfg.Facts().Boot, j.seen.ended(), nil
		j.have.ConfigHash, j.have.Adopted, j.have.AdoptedWish = f.hash(m, j.seen), false, 0
		j.have.Made = m.made(j.seen)
	}
	if swap := j.have.Swap; swap != nil {
		w.watched, swap.Phase = watch(j.seen), device.SwapProbation
	}
	if err := w.set(j, protocol.Running, reporting{}); err != nil {
		return err
	}
	w.a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("Now running app %s (%s)", j.have.AppName, m.version))
	w.attach(j)
	w.reportPorts(j)
	w.sayPorts(j, had)
	return nil
}

// sayPorts says in the app's log which of its ports are reached elsewhere than
// before, or than a developer expects.
func (w *worker) sayPorts(j *job, had map[string]uint16) {
	for _, slot := range slices.Sorted(maps.Keys(j.have.HostPorts)) {
		_, _, declared, _ := parseSlot(slot)
		before, now := had[slot], j.have.HostPorts[slot]
		if before == 0 && w.id.Stage == protocol.Dev {
			before = declared
		}
		if before != 0 && before != now {
			w.a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("Port %d is in use on this device; the app's port %s is reached at %d", before, slot, now))
		}
	}
}

// reserve writes the app's host ports down before they are used: an agent that is
// killed right after its container began must not give them to another app, and
// an attempt that fails leaves them to the next one.
func (w *worker) reserve(j *job, ports map[string]uint16) error {
	if maps.Equal(j.have.HostPorts, ports) {
		return nil
	}
	j.have.HostPorts = ports
	return w.save(j)
}

// running waits until what was started runs.
func (w *worker) running(ctx context.Context, j *job, f form) (sight, error) {
	w.halted = false // what comes of this start is the app's own doing
	ctx, cancel := context.WithTimeoutCause(ctx, w.a.cfg.Waits.Running, fmt.Errorf("the container does not run %s after its start", w.a.cfg.Waits.Running))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		seen, err := f.look(ctx, j)
		if err != nil && context.Cause(ctx) == nil {
			return seen, err
		}
		if up, why := seen.up(); err == nil && (up || why != nil) {
			if why != nil {
				j.seen = seen
				w.attach(j)
			}
			return seen, why
		}
		select {
		case <-ctx.Done():
			return seen, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// attach follows what the app prints.
func (w *worker) attach(j *job) {
	switch {
	case !j.seen.there():
	case j.seen.jobs:
		w.a.cfg.AppLog.Attach(j.cn(), container.ProjectLog(projectName(w.id, j.have.AppName)))
	default:
		w.a.cfg.AppLog.Attach(j.cn(), j.seen.parts[0].ID)
	}
}

// end stops a container in order and removes it when its log is kept.
func (w *worker) end(ctx context.Context, j *job, c container.Container) error {
	e := w.a.cfg.Engine
	if c.Status == container.StatusRunning || c.Status == container.StatusPaused {
		if err := e.Stop(ctx, c.ID, w.a.cfg.Waits.StopGrace); err != nil && !errors.Is(err, container.ErrNotFound) {
			return fmt.Errorf("stop %s: %w", c.Name, err)
		}
	}
	w.a.cfg.AppLog.Drain(ctx, j.cn(), c)
	if err := e.Remove(ctx, c.ID); err != nil && !errors.Is(err, container.ErrNotFound) {
		return fmt.Errorf("remove %s: %w", c.Name, err)
	}
	return nil
}

// stop ends and removes the container; image and data stay (life §3.11).
func (w *worker) stop(ctx context.Context, j *job) error {
	log := w.a.cfg.AppLog
	log.Agent(j.cn(), "Received stop signal for "+j.have.AppName)
	if err := w.set(j, protocol.Stopping, reporting{}); err != nil {
		return err
	}
	log.Detach(j.cn())
	if err := w.form(j).end(ctx, j); err != nil {
		return err
	}
	if err := w.set(j, protocol.Present, reporting{}); err != nil {
		return err
	}
	log.Agent(j.cn(), "Successfully stopped "+j.have.AppName)
	return nil
}

// settle clears what an interrupted or failed step left, so that the app is
// there and does not run.
func (w *worker) settle(ctx context.Context, j *job) error {
	w.a.cfg.AppLog.Detach(j.cn())
	if err := w.form(j).end(ctx, j); err != nil {
		return err
	}
	if m := j.making(); m.version != "" {
		there, err := w.hasImages(ctx, m)
		if err != nil {
			return err
		}
		if there {
			j.takeVersion()
			return w.set(j, protocol.Present, reporting{})
		}
	}
	if w.id.Stage == protocol.Dev {
		return w.settleWithout(ctx, j)
	}
	return w.pull(ctx, j)
}

// settleWithout settles a developer's app that has no image: one that failed is
// built (life §2.3), where there is something to build and somebody asked.
func (w *worker) settleWithout(ctx context.Context, j *job) error {
	file, _, err := w.a.openArchive(j.req())
	if err == nil {
		file.Close()
	}
	if err != nil || j.have.State != protocol.Failed || j.wish.Direct <= j.have.Tried {
		return w.set(j, protocol.Removed, reporting{})
	}
	if err := w.turn(ctx, build); err != nil {
		return err
	}
	return w.build(ctx, j)
}

// remove is remove and uninstall (life §3.11): containers and images go; an
// uninstall takes data and host ports too. When it is done nothing of the app
// is remembered, unless a newer wish came.
func (w *worker) remove(ctx context.Context, j *job) error {
	if err := w.set(j, protocol.Deleting, reporting{}); err != nil {
		return err
	}
	return w.takeAway(ctx, j)
}

// takeAway is remove but for its first report: what was called off is REMOVED at
// once (life §2.3).
func (w *worker) takeAway(ctx context.Context, j *job) error {
	cn := j.cn()
	w.a.cfg.AppLog.Detach(cn)
	w.a.cfg.AppLog.ClearHistory(cn)
	if err := w.dropSwap(ctx, j); err != nil {
		return err
	}
	if err := w.form(j).erase(ctx, j); err != nil {
		return err
	}
	if err := w.removeImages(ctx, j); err != nil {
		return err
	}
	final := protocol.Removed
	if j.req().Target.Settled() == protocol.Uninstalled {
		if err := w.set(j, protocol.Removed, reporting{}); err != nil {
			return err
		}
		if err := w.removeFiles(j); err != nil {
			return err
		}
		final = protocol.Uninstalled
	}
	j.have = device.Actual{
		AppKey: w.id.Key, Stage: w.id.Stage, AppName: j.have.AppName, State: final,
		RequestorAccountKey: j.have.RequestorAccountKey, HostPorts: j.have.HostPorts, Changed: time.Now().UTC(),
	}
	if final == protocol.Uninstalled {
		j.have.HostPorts = nil
	}
	gone := w.outgoing(j, reporting{})
	dropped, err := w.a.cfg.Store.Drop(w.id, j.wish.Seq, gone)
	if err == nil && !dropped {
		err = w.a.cfg.Store.Save(j.have, gone)
	}
	if err != nil {
		return fmt.Errorf("store state %s: %w", final, err)
	}
	if dropped || final == protocol.Uninstalled { // nobody remembers them
		w.a.ports.release(w.id)
	}
	w.a.repay(w.id, j.wish.Seq)
	w.a.cfg.AppLog.Gone(cn)
	w.a.cfg.Log.Info().Stringer("app", w.id).Str("name", j.have.AppName).Str("state", string(final)).Msg("app state")
	w.a.reporter.poke()
	w.a.changed()
	return nil
}

// dropSwap ends an update that is of no use any more, whatever it has come to.
func (w *worker) dropSwap(ctx context.Context, j *job) error {
	if j.have.Swap == nil {
		return nil
	}
	if err := w.formOf(j.have.Swap.Project).unpark(ctx, *j.have.Swap); err != nil {
		return err
	}
	if j.have.Swap.Made != nil {
		j.have.Previous = j.have.Swap.Made // its images go with the others
	}
	j.have.Swap = nil
	return w.save(j)
}

// removeImage takes a reference away. That it stays, because something needs it,
// is no failure; that nobody knows whether it does is one.
func (w *worker) removeImage(ctx context.Context, ref string) error {
	err := w.a.cfg.Engine.RemoveImage(ctx, ref)
	switch {
	case err == nil || errors.Is(err, container.ErrNotFound):
		return nil
	case engineGone(err) || ctx.Err() != nil:
		return fmt.Errorf("remove image %s: %w", ref, err)
	}
	w.a.cfg.Log.Warn().Err(err).Str("image", ref).Msg("image stays")
	return nil
}

// removeFiles deletes the app's data folder and what the agent keeps to make the
// app, unless an app of the same name uses them too: they carry the name alone.
func (w *worker) removeFiles(j *job) error {
	all, err := w.a.cfg.Store.AllActual()
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.ID() != w.id && other.Stage == w.id.Stage && strings.EqualFold(other.AppName, j.have.AppName) && !other.State.Gone() {
			w.a.cfg.Log.Warn().Stringer("app", w.id).Stringer("other", other.ID()).Msg("data folder stays: another app has the same name")
			return nil
		}
	}
	if err := os.RemoveAll(w.a.dataFolder(j.req())); err != nil {
		return fmt.Errorf("delete the app's data: %w", err)
	}
	return errors.Join(composed{w}.files(j), w.a.removeArchive(j))
}

// forgotten ends an app that the studio no longer knows: container and records
// go, data and images stay (life §4.4).
func (w *worker) forgotten(ctx context.Context, j *job) (bool, time.Duration, error) {
	w.a.cfg.AppLog.Detach(j.cn())
	if j.have.Publication != nil {
		if err := w.withdraw(ctx, j); err != nil {
			return w.engineTrouble(err)
		}
	}
	if err := errors.Join(w.dropSwap(ctx, j), w.form(j).end(ctx, j)); err != nil {
		return w.engineTrouble(err)
	}
	dropped, err := w.a.cfg.Store.Drop(w.id, j.wish.Seq)
	if dropped {
		w.a.ports.release(w.id)
	}
	w.a.changed()
	return false, 0, err
}

// variables makes the app's environment and writes it where a running app reads it.
func (w *worker) variables(j *job, m making, ports map[string]uint16) ([]variable, error) {
	vars, refused := environment(w.a.cfg.Facts(), w.a.cfg.LANIP(), m.r, ports)
	for _, name := range refused {
		w.a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("The variable %q cannot be set: that is no name for one", name))
	}
	if err := writeEnvironment(w.a.dataFolder(j.req()), vars); err != nil {
		return nil, fmt.Errorf("write the app's environment: %w", err)
	}
	return vars, nil
}

// refresh rewrites the environment of a running app.
func (w *worker) refresh(j *job) {
	if _, err := w.variables(j, j.making(), j.have.HostPorts); err != nil {
		w.a.cfg.Log.Warn().Err(err).Stringer("app", w.id).Msg("environment not refreshed")
	}
}

// reportPorts tells the studio the host ports, where it does not know them yet.
func (w *worker) reportPorts(j *job) {
	f := w.a.cfg.Facts()
	rules := append([]protocol.PortRule(nil), j.req().Ports...)
	news := false
	for i, r := range rules {
		port, ok := ruled(j.have.HostPorts, r)
		if r.LocalIP == "" && ok && port != r.HostPort {
			rules[i].HostPort, news = port, true
		}
	}
	if !news {
		return
	}
	err := w.a.cfg.Store.SavePorts(protocol.PortsReport{AppKey: w.id.Key, DeviceKey: f.DeviceKey, SwarmKey: f.SwarmKey, Stage: w.id.Stage, Ports: rules})
	if err != nil {
		w.a.cfg.Log.Error().Err(err).Stringer("app", w.id).Msg("ports not reported")
	}
	w.a.reporter.poke()
}
