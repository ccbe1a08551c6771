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

// pull gets the image of the version that is to run (life §3.2).
func (w *worker) pull(ctx context.Context, j *job) error {
	log := w.a.cfg.AppLog
	log.Clear(j.cn())
	log.ClearHistory(j.cn())
	version := j.version()
	if err := w.fetch(ctx, j, version, protocol.Downloading); err != nil {
		return err
	}
	j.takeVersion()
	if err := w.set(j, protocol.Present, reporting{}); err != nil {
		return err
	}
	log.Agent(j.cn(), fmt.Sprintf("Succesfully installed the app: %s (Version: %s)", j.have.AppName, version))
	return nil
}

// fetch pulls one version. The app enters state when the engine has accepted the
// pull, unless it is in it already.
func (w *worker) fetch(ctx context.Context, j *job, version string, state protocol.State) error {
	if version == "" {
		return errors.New("the request names no version: set present_version or newest_version")
	}
	log := w.a.cfg.AppLog
	log.Agent(j.cn(), fmt.Sprintf("Initialising download for the app: %s...", j.have.AppName))
	cred, err := w.credential(ctx, j.req())
	if err != nil {
		return err
	}
	ref := w.a.image(j.req(), version)
	var inState error
	err = w.a.cfg.Engine.Pull(ctx, ref, cred, func(p container.PullProgress) {
		if j.have.State != state && inState == nil {
			inState = w.set(j, state, reporting{})
		}
		log.Record(j.cn(), p.Record)
	})
	switch {
	case err == nil:
		return inState
	case context.Cause(ctx) != nil:
		log.Agent(j.cn(), "The app download was canceled")
		return context.Cause(ctx)
	}
	log.Agent(j.cn(), "Error occured while trying to pull the image: "+err.Error())
	return fmt.Errorf("pull %s: %w", ref, err)
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
	version := j.version()
	if version == "" {
		return errors.New("the request names no version: set present_version or newest_version")
	}
	_, err := w.a.cfg.Engine.Image(ctx, w.a.image(j.req(), version))
	if errors.Is(err, container.ErrNotFound) {
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

// launch makes the container as it is wanted and starts it; the app is RUNNING
// when it returns nil.
func (w *worker) launch(ctx context.Context, j *job) error {
	r := j.req()
	version, release := j.version(), j.release()
	var bound []container.Port
	if j.seen != nil {
		bound = j.seen.Ports
	}
	ports, err := w.a.ports.assign(w.id, needs(w.id.Stage, r.Ports, bound), j.have.HostPorts)
	if err != nil {
		return err
	}
	for _, folder := range []string{w.a.sharedFolder(), w.a.dataFolder(r)} {
		if err := os.MkdirAll(folder, 0o777); err != nil {
			return fmt.Errorf("make the app's folder: %w", err)
		}
	}
	var id string
	var made bool
	for attempt := 1; ; attempt++ {
		var vars []variable
		if err := w.reserve(j, ports); err != nil {
			return err
		}
		if vars, err = w.variables(j, ports); err != nil {
			return err
		}
		spec := w.a.spec(r, version, release, ports, vars)
		id, made, err = w.startAs(ctx, j, spec)
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
	c, err := w.running(ctx, id)
	if err != nil {
		return err
	}
	j.seen = &c
	j.have.Version, j.have.ReleaseKey = version, release
	if made {
		j.have.ConfigHash, j.have.Adopted, j.have.AdoptedWish = w.a.define(r, version).hash(), false, 0
	}
	if swap := j.have.Swap; swap != nil {
		swap.ToContainer, swap.Started, swap.Phase = c.ID, time.Now().UTC(), device.SwapProbation
	}
	if err := w.set(j, protocol.Running, reporting{}); err != nil {
		return err
	}
	w.a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("Now running app %s (%s)", j.have.AppName, version))
	w.a.cfg.AppLog.Attach(j.cn(), c.ID)
	w.reportPorts(j)
	return nil
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

// startAs starts the container that is there if it is as wanted, else makes a
// new one in its place; made tells which.
func (w *worker) startAs(ctx context.Context, j *job, spec container.Spec) (id string, made bool, err error) {
	e := w.a.cfg.Engine
	if c := j.seen; c != nil {
		if w.reusable(j, spec) {
			if err := e.Start(ctx, c.ID); err == nil || !w.replaceable(ctx, j, err) {
				return c.ID, false, err
			}
		}
		if err := w.end(ctx, *c); err != nil {
			return "", false, err
		}
		j.seen = nil
	}
	id, note, err := e.Run(ctx, spec)
	if errors.Is(err, container.ErrConflict) {
		return "", false, fmt.Errorf("the name %s is taken by a container that this agent did not make: rename or remove it (docker rename %s …): %w", spec.Name, spec.Name, err)
	}
	if note != "" {
		w.a.cfg.AppLog.Agent(spec.Name, note)
	}
	if err != nil {
		// What was created must not be taken for the app when nobody looks.
		if c, lookErr := e.Inspect(ctx, spec.Name); lookErr == nil && w.ours(c, j.have) {
			j.seen = &c
		}
		return "", false, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	return id, true, nil
}

// replaceable tells whether a container that does not start is made anew: one
// that was left half-made by a power cut asks for rights that Run would have
// lowered, and would never start. An adopted one is not ours to make again.
func (w *worker) replaceable(ctx context.Context, j *job, err error) bool {
	var taken *container.PortError // launch finds others
	return !engineGone(err) && ctx.Err() == nil && !errors.As(err, &taken) && j.wish.Seq != j.have.AdoptedWish
}

// reusable tells whether the container that is there is the one to start.
func (w *worker) reusable(j *job, spec container.Spec) bool {
	c := j.seen
	if c.Name != spec.Name || c.Status == container.StatusDead || c.Status == container.StatusRemoving || w.outdated(j) {
		return false
	}
	return j.wish.Seq == j.have.AdoptedWish || j.forAnother() && !moved(c.Ports, spec.Ports) || versionOf(c.Image) == versionOf(spec.Image) && samePorts(c.Ports, spec.Ports)
}

// moved tells whether a port of the container has another host port now, because
// somebody else took the old one.
func moved(have, want []container.Port) bool {
	return slices.ContainsFunc(have, func(h container.Port) bool {
		return slices.ContainsFunc(want, func(w container.Port) bool {
			return w.Container == h.Container && w.Protocol == h.Protocol && w.Host != h.Host
		})
	})
}

func samePorts(a, b []container.Port) bool {
	if len(a) != len(b) {
		return false
	}
	have := map[container.Port]bool{}
	for _, p := range a {
		have[p] = true
	}
	for _, p := range b {
		if !have[p] {
			return false
		}
	}
	return true
}

// running waits until a container that was started runs.
func (w *worker) running(ctx context.Context, id string) (container.Container, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, w.a.cfg.Waits.Running, fmt.Errorf("the container does not run %s after its start", w.a.cfg.Waits.Running))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := w.a.cfg.Engine.Inspect(ctx, id)
		switch {
		case err != nil && context.Cause(ctx) == nil:
			return c, err
		case err == nil && c.Status == container.StatusRunning:
			return c, nil
		case err == nil && (c.Status == container.StatusExited || c.Status == container.StatusDead):
			w.a.cfg.AppLog.Attach(c.Name, c.ID)
			if c.Error != "" {
				return c, errors.New(c.Error)
			}
			return c, fmt.Errorf("exited with status code %d right after its start", c.ExitCode)
		}
		select {
		case <-ctx.Done():
			return c, context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// end stops a container in order and removes it.
func (w *worker) end(ctx context.Context, c container.Container) error {
	e := w.a.cfg.Engine
	if c.Status == container.StatusRunning || c.Status == container.StatusPaused {
		if err := e.Stop(ctx, c.ID, w.a.cfg.Waits.StopGrace); err != nil && !errors.Is(err, container.ErrNotFound) {
			return fmt.Errorf("stop %s: %w", c.Name, err)
		}
	}
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
	if j.seen != nil {
		if err := w.end(ctx, *j.seen); err != nil {
			return err
		}
		j.seen = nil
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
	if j.seen != nil {
		if err := w.end(ctx, *j.seen); err != nil {
			return err
		}
		j.seen = nil
	}
	if version := j.version(); version != "" {
		_, err := w.a.cfg.Engine.Image(ctx, w.a.image(j.req(), version))
		if err == nil {
			j.takeVersion()
			return w.set(j, protocol.Present, reporting{})
		}
		if !errors.Is(err, container.ErrNotFound) {
			return err
		}
	}
	return w.pull(ctx, j)
}

// remove is remove and uninstall (life §3.11): containers and images go; an
// uninstall takes data and host ports too. When it is done nothing of the app
// is remembered, unless a newer wish came.
func (w *worker) remove(ctx context.Context, j *job) error {
	if err := w.set(j, protocol.Deleting, reporting{}); err != nil {
		return err
	}
	w.a.cfg.AppLog.Detach(j.cn())
	w.a.cfg.AppLog.ClearHistory(j.cn())
	if err := w.removeContainers(ctx, j); err != nil {
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
		if err := w.removeData(j); err != nil {
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
	w.a.cfg.Log.Info().Stringer("app", w.id).Str("name", j.have.AppName).Str("state", string(final)).Msg("app state")
	w.a.reporter.poke()
	w.a.changed()
	return nil
}

func (w *worker) removeContainers(ctx context.Context, j *job) error {
	if j.seen != nil {
		if err := w.end(ctx, *j.seen); err != nil {
			return err
		}
		j.seen = nil
	}
	if j.have.Swap != nil && j.have.Swap.Parked != "" {
		if err := w.a.cfg.Engine.Remove(ctx, j.have.Swap.Parked); err != nil && !errors.Is(err, container.ErrNotFound) {
			return fmt.Errorf("remove the parked container: %w", err)
		}
	}
	if j.have.Swap != nil {
		j.have.Swap = nil
		return w.save(j)
	}
	return nil
}

// removeImages removes every tag of the app. One that a container still uses,
// which then is not ours, stays.
func (w *worker) removeImages(ctx context.Context, j *job) error {
	images, err := w.a.cfg.Engine.Images(ctx)
	if err != nil {
		return fmt.Errorf("list images: %w", err)
	}
	prefix := w.a.repository(w.id, j.have.AppName) + ":"
	for _, image := range images {
		for _, tag := range image.Tags {
			if !strings.HasPrefix(tag, prefix) {
				continue
			}
			if err := w.removeImage(ctx, tag); err != nil {
				return err
			}
		}
	}
	return nil
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

// removeData deletes the app's data folder, unless an app of the same name uses
// it too: the folder carries the name alone.
func (w *worker) removeData(j *job) error {
	folder := w.a.dataFolder(j.req())
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
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("delete the app's data: %w", err)
	}
	return nil
}

// forgotten ends an app that the studio no longer knows: container and records
// go, data and images stay (life §4.4).
func (w *worker) forgotten(ctx context.Context, j *job) (bool, time.Duration, error) {
	w.a.cfg.AppLog.Detach(j.cn())
	if err := w.removeContainers(ctx, j); err != nil {
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
func (w *worker) variables(j *job, ports map[string]uint16) ([]variable, error) {
	vars, refused := environment(w.a.cfg.Facts(), w.a.cfg.LANIP(), j.req(), ports)
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
	if _, err := w.variables(j, j.have.HostPorts); err != nil {
		w.a.cfg.Log.Warn().Err(err).Stringer("app", w.id).Msg("environment not refreshed")
	}
}

// reportPorts tells the studio the host ports, where it does not know them yet.
func (w *worker) reportPorts(j *job) {
	f := w.a.cfg.Facts()
	rules := append([]protocol.PortRule(nil), j.req().Ports...)
	news := false
	for i, r := range rules {
		port, ok := j.have.HostPorts[portKey(r.Wire(), r.Port)]
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
