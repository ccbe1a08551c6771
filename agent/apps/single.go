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

// single is an app of one container, which carries the app's name.
type single struct{ w *worker }

func (f single) look(ctx context.Context, j *job) (sight, error) {
	c, err := f.w.a.cfg.Engine.Inspect(ctx, j.cn())
	switch {
	case errors.Is(err, container.ErrNotFound):
		return sight{}, nil
	case err != nil:
		return sight{}, fmt.Errorf("look at %s: %w", j.cn(), err)
	case !f.w.ours(c, j.have):
		// Whoever wants its name learns that when it is needed.
		return sight{}, nil
	}
	return sight{parts: []container.Container{c}}, nil
}

func (f single) images(m making) ([]string, error) {
	return []string{f.w.a.image(m.r, m.version)}, nil
}

func (f single) ports(j *job, m making) ([]portNeed, error) {
	var bound []container.Port
	if j.seen.there() {
		bound = j.seen.parts[0].Ports
	}
	return needs(m.r.Stage, m.r.Ports, bound), nil
}

// hash goes by what the container that is there has of its image's labels: those
// of a version do not change.
func (f single) hash(m making, seen sight) string {
	return f.w.a.define(m, seen.there() && asksForLess(seen.parts[0].Labels)).hash()
}

func (f single) complete(*job) bool { return true }

// start starts the container that is there if it is as wanted, else makes a new
// one in its place.
func (f single) start(ctx context.Context, j *job, m making, vars []variable) (made bool, err error) {
	w, e := f.w, f.w.a.cfg.Engine
	image, err := e.Image(ctx, w.a.image(m.r, m.version))
	if err != nil && !errors.Is(err, container.ErrNotFound) { // one that is missing is missed below
		return false, fmt.Errorf("look at the image: %w", err)
	}
	spec := w.a.spec(m, asksForLess(image.Labels), j.have.HostPorts, vars)
	if j.seen.there() {
		if f.reusable(j, spec) {
			if err := e.Start(ctx, j.seen.parts[0].ID); err == nil || !w.replaceable(ctx, j, err) {
				return false, err
			}
		}
		if err := f.end(ctx, j); err != nil {
			return false, err
		}
	}
	_, note, err := e.Run(ctx, spec)
	if errors.Is(err, container.ErrConflict) {
		return false, fmt.Errorf("the name %s is taken by a container that this agent did not make: rename or remove it (docker rename %s …): %w", spec.Name, spec.Name, err)
	}
	if note != "" {
		w.a.cfg.AppLog.Agent(spec.Name, note)
	}
	if err != nil {
		// What was created must not be taken for the app when nobody looks.
		if seen, lookErr := f.look(ctx, j); lookErr == nil {
			j.seen = seen
		}
		return false, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	return true, nil
}

// replaceable tells whether a container that does not start is made anew: one
// that asks for what the engine does not give would never start, such as one that
// was left half-made by a power cut before Run could lower its rights, or one of
// which a device was unplugged; nor would one that somebody paused. What an app
// wrote into its container is given up for anything else only when it has failed
// again and again, as one does whose files a power cut has damaged, and never for a
// full disk; a container that never ran has nothing in it. An adopted one is not
// ours to make again.
func (w *worker) replaceable(ctx context.Context, j *job, err error) bool {
	if j.asAdopted() || ctx.Err() != nil || engineGone(err) {
		return false
	}
	var taken *container.PortError // launch finds others
	c := j.seen.parts[0]
	return errors.Is(err, container.ErrDemand) || c.Status == container.StatusPaused ||
		(c.Started.IsZero() || w.crash.failures >= mostStarts) && !noRoom(err) && !errors.As(err, &taken)
}

// mostStarts is how often an app may have failed before a container of it that
// does not start is given up.
const mostStarts = 3

// reusable tells whether the container that is there is the one to start.
func (f single) reusable(j *job, spec container.Spec) bool {
	c := j.seen.parts[0]
	if f.w.id.Stage == protocol.Dev && !j.asAdopted() {
		return false // its image may be another one under the same name
	}
	if c.Name != spec.Name || c.Status == container.StatusDead || c.Status == container.StatusRemoving || f.w.outdated(j) {
		return false
	}
	return j.asAdopted() || j.forAnother() && !moved(c.Ports, spec.Ports) || versionOf(c.Image) == versionOf(spec.Image) && samePorts(c.Ports, spec.Ports)
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

func (f single) end(ctx context.Context, j *job) error {
	for _, c := range j.seen.parts {
		if err := f.w.end(ctx, j, c); err != nil {
			return err
		}
	}
	j.seen = sight{}
	return nil
}

// erase also removes what an earlier version left that was a project: an update
// keeps its volumes, in case it comes back.
func (f single) erase(ctx context.Context, j *job) error {
	if err := f.end(ctx, j); err != nil {
		return err
	}
	was := composed(f)
	left, err := was.look(ctx, j)
	if err != nil || left.there() || left.strange != "" {
		return err
	}
	return was.clear(ctx, j)
}

// keep has nothing to do: each version has a tag of its own.
func (f single) keep(context.Context, *job) error { return nil }

// park stops the old container and gives it a name that nobody takes for an
// app's; its ports are free then.
func (f single) park(ctx context.Context, j *job) error {
	swap, e := j.have.Swap, f.w.a.cfg.Engine
	if swap.Parked == "" {
		return nil
	}
	old, err := e.Inspect(ctx, swap.Parked)
	switch {
	case errors.Is(err, container.ErrNotFound):
		swap.Parked = ""
		return nil
	case err != nil:
		return err
	}
	if old.Status == container.StatusRunning || old.Status == container.StatusPaused {
		if err := e.Stop(ctx, old.ID, f.w.a.cfg.Waits.StopGrace); err != nil {
			return fmt.Errorf("stop the old version: %w", err)
		}
	}
	f.w.a.cfg.AppLog.Drain(ctx, j.cn(), old) // nobody follows it under its new name
	if old.Name != parkedName(old.ID) {
		if err := e.Rename(ctx, old.ID, parkedName(old.ID)); err != nil {
			return fmt.Errorf("park the old version: %w", err)
		}
	}
	return nil
}

// back gives the parked container its name back and starts it.
func (f single) back(ctx context.Context, j *job) (there bool, err error) {
	swap, e := j.have.Swap, f.w.a.cfg.Engine
	if swap.Parked == "" {
		return false, nil
	}
	old, err := e.Inspect(ctx, swap.Parked)
	switch {
	case errors.Is(err, container.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	if old.Name != j.cn() {
		if err := e.Rename(ctx, old.ID, j.cn()); err != nil {
			return false, fmt.Errorf("bring the old version back: %w", err)
		}
		old.Name = j.cn()
	}
	j.seen = sight{parts: []container.Container{old}}
	err = e.Start(ctx, old.ID)
	if errors.Is(err, container.ErrDemand) && !swap.Adopted {
		return false, f.end(ctx, j) // it would never start; the next pass makes it anew
	}
	return true, err
}

func (f single) unpark(ctx context.Context, swap device.Swap) error {
	if swap.Parked == "" {
		return nil
	}
	if err := f.w.a.cfg.Engine.Remove(ctx, swap.Parked); err != nil && !errors.Is(err, container.ErrNotFound) {
		return fmt.Errorf("remove the parked container: %w", err)
	}
	return nil
}
