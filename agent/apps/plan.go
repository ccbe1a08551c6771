package apps

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// observe finds the app's container. One that is not ours is not seen; whoever
// wants its name learns that when it is needed.
func (w *worker) observe(ctx context.Context, j *job) error {
	c, err := w.a.cfg.Engine.Inspect(ctx, j.cn())
	switch {
	case errors.Is(err, container.ErrNotFound):
		return nil
	case err != nil:
		return fmt.Errorf("look at %s: %w", j.cn(), err)
	}
	if !w.ours(c, j.have) {
		return nil
	}
	j.seen = &c
	if j.have.Version == "" && j.have.Swap == nil {
		w.a.recall(&j.have, c) // the record was lost, and a wish came before the first look
	}
	return nil
}

// ours tells whether a container belongs to this app: by its labels, or because
// it was adopted with a record.
func (w *worker) ours(c container.Container, have device.Actual) bool {
	serial := w.a.cfg.Facts().Serial
	if id, ok := owner(c.Labels, serial); ok {
		return id == w.id
	}
	id, _, ok := adoptable(c, serial)
	return ok && id == w.id && have.Adopted
}

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

// correct brings the record in line with what was seen (life §4.3). first is set
// on the first look after the agent or the engine began: what ended while nobody
// watched was a victim of that, and counts as no crash.
func (w *worker) correct(ctx context.Context, j *job, first bool) error {
	if j.have.Swap != nil {
		if first && j.have.Swap.Phase == device.SwapProbation {
			return w.renewProbation(j)
		}
		return nil // the update's phases know what to make of the containers
	}
	state, err := w.trueState(ctx, j, first)
	if err != nil || state == j.have.State {
		return err
	}
	if state == protocol.Present {
		j.takeVersion() // a pull whose end was not written down
	}
	if state == protocol.Running {
		w.reportPorts(j) // the answer to its start was lost
	}
	if state != protocol.Failed {
		return w.set(j, state, reporting{})
	}
	j.have.Error = ""
	c := j.seen
	if c.Status == container.StatusRestarting {
		return w.set(j, state, reporting{err: "the container restarts by itself"})
	}
	if err := w.set(j, state, reporting{err: fmt.Sprintf("exited with status code %d", c.ExitCode)}); err != nil {
		return err
	}
	w.a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("%s (%s) exited with status code: %d", j.have.AppName, j.have.Stage, c.ExitCode))
	if !first && j.req().Target.Settled() == protocol.Running {
		w.pause(j, &w.crash, c.Finished.Sub(c.Started))
	}
	return nil
}

func (w *worker) trueState(ctx context.Context, j *job, first bool) (protocol.State, error) {
	if j.seen != nil {
		state, known := seenAs[j.seen.Status]
		if !known {
			return j.have.State, nil
		}
		return state, nil
	}
	settledWithout := j.have.State == protocol.Present || j.have.State == protocol.Failed
	if j.have.State.Gone() || settledWithout && !first || goes(j.req()) {
		return j.have.State, nil // what is to go is removed, whatever is left of it
	}
	version := j.version()
	if version == "" {
		return protocol.Removed, nil
	}
	_, err := w.a.cfg.Engine.Image(ctx, w.a.image(j.req(), version))
	switch {
	case err == nil:
		return protocol.Present, nil
	case errors.Is(err, container.ErrNotFound):
		return protocol.Removed, nil
	}
	return "", fmt.Errorf("look for the image: %w", err)
}

// A decision is what a worker does next: a step, or a wait, or nothing.
type decision struct {
	step step
	do   func(context.Context, *job) error
	wait time.Duration
}

// plan decides. It changes nothing.
func (w *worker) plan(j *job, now time.Time) decision {
	target := j.req().Target.Settled()
	if j.have.Swap != nil && !target.Gone() {
		return w.planSwap(j, now)
	}
	wait := w.crash.wait(now)
	var later time.Duration // the update is tried again; what is installed is driven meanwhile
	if w.updateDue(j) && !target.Gone() {
		later = w.updates.wait(now)
		switch {
		case j.victim && j.installed() && target == protocol.Running:
		case later == 0 && wait > 0:
			return decision{wait: wait}
		case later == 0:
			return decision{step: update, do: w.update}
		case !j.installed():
			return decision{wait: later}
		}
	}
	s := transitions[w.id.Stage][edge{j.have.State, target}]
	switch {
	case s != none:
	case target == protocol.Running && w.outdated(j):
		s = run
	case target == protocol.Present && j.seen != nil:
		s = settle // a start was cut off before it took effect
	}
	if s == none || s == refused {
		return decision{wait: later}
	}
	if (j.have.State == protocol.Failed || s == run) && wait > 0 {
		return decision{wait: wait}
	}
	return decision{step: s, do: w.steps()[s]}
}

func (w *worker) steps() map[step]func(context.Context, *job) error {
	return map[step]func(context.Context, *job) error{
		pull: w.pull, run: w.runApp, stop: w.stop, settle: w.settle, remove: w.remove, uninstall: w.remove,
	}
}

// updateDue tells whether another version is wanted than the installed one
// (life §2.2, update override), and not one that failed its probation.
func (w *worker) updateDue(j *job) bool {
	r := j.req()
	if !r.RequestUpdate || r.NewestVersion == "" || j.installed() && !j.forAnother() {
		return false
	}
	bad := j.have.Rejected
	return bad == nil || bad.Version != r.NewestVersion || bad.ReleaseKey != r.NewReleaseKey || j.wish.Direct > bad.WishSeq
}

// forAnother tells whether the wish is about another version than the installed.
func (j *job) forAnother() bool {
	r := j.req()
	return r.RequestUpdate && r.NewestVersion != "" && j.installed() && r.NewestVersion != j.have.Version
}

// outdated tells whether the container was made from something else than what is
// wanted. Nothing is known of what is wanted of an adopted one before the studio
// said it: it is not recreated (design S7). Nor is one for whose app the wish is
// about another version, which failed its probation: ports and defaults of that
// one are not for the version that came back.
func (w *worker) outdated(j *job) bool {
	if j.seen == nil || j.wish.Seq == j.have.AdoptedWish || j.forAnother() {
		return false
	}
	return w.madeFrom(j) != w.a.define(j.req(), j.version()).hash()
}

// learnHash takes the first wish of the studio for what an adopted container was
// made from, where the container itself does not tell.
func (w *worker) learnHash(j *job) error {
	if j.seen == nil || j.wish.Seq == j.have.AdoptedWish || w.madeFrom(j) != "" {
		return nil
	}
	j.have.ConfigHash = w.a.define(j.req(), j.version()).hash()
	return w.save(j)
}

func (w *worker) madeFrom(j *job) string {
	if j.have.ConfigHash != "" {
		return j.have.ConfigHash
	}
	return j.seen.Labels[labelHash]
}

// planSwap goes on with an update that has begun to replace the container. What
// is called run here yields as a start does; what is called settle does not.
func (w *worker) planSwap(j *job, now time.Time) decision {
	swap := j.have.Swap
	if wait := w.crash.wait(now); wait > 0 && j.have.State == protocol.Failed {
		return decision{wait: wait} // a step of it failed: not again at once
	}
	switch {
	case swap.Phase == device.SwapRollback:
		return decision{step: settle, do: w.resume}
	case swap.Phase != device.SwapProbation && calledOff(*swap, j.req()):
		return decision{step: settle, do: func(ctx context.Context, j *job) error { return w.reject(ctx, j, "it was canceled") }}
	case swap.Phase != device.SwapProbation:
		return decision{step: run, do: w.resume}
	case j.req().Target.Settled() != protocol.Running:
		return decision{step: settle, do: w.commit} // stopped on purpose: nothing is left to watch
	case w.updateDue(j) && w.updates.wait(now) == 0:
		return decision{step: update, do: w.update}
	case w.outdated(j) && j.seen.Status == container.StatusRunning:
		return decision{step: run, do: w.restartSwap}
	}
	verdict, reason, wait := judge(*swap, j.seen, now, w.a.cfg.Waits)
	switch verdict {
	case passed:
		return decision{step: settle, do: w.commit}
	case undecided:
		return decision{wait: wait}
	}
	return decision{step: settle, do: func(ctx context.Context, j *job) error { return w.reject(ctx, j, reason) }}
}

// calledOff tells whether the newest wish takes back an update that replaces the
// container right now. A studio that has already noted the new version as the
// present one does not.
func calledOff(swap device.Swap, r protocol.AppRequest) bool {
	asked := r.RequestUpdate && r.NewestVersion == swap.ToVersion
	return !asked && r.PresentVersion != swap.ToVersion
}

type verdict int

const (
	undecided verdict = iota
	passed
	failed
)

// judge says whether a new version has passed its probation (design S16): it
// runs, was not restarted, and is healthy if it has a health check.
func judge(swap device.Swap, seen *container.Container, now time.Time, waits Waits) (v verdict, reason string, wait time.Duration) {
	age := now.Sub(swap.Started)
	switch {
	case seen == nil || seen.ID != swap.ToContainer:
		return failed, "the container of the new version is gone", 0
	case seen.Status != container.StatusRunning:
		return failed, fmt.Sprintf("the new version exited with status code %d", seen.ExitCode), 0
	case seen.RestartCount > 0 || seen.Started.After(swap.Started):
		return failed, "the new version restarted", 0
	case seen.Health == container.HealthUnhealthy:
		return failed, "the new version is not healthy", 0
	case age < waits.Probation:
		return undecided, "", waits.Probation - age
	case seen.Health == container.HealthStarting && age < waits.HealthLimit:
		return undecided, "", min(waits.Probation, waits.HealthLimit-age)
	case seen.Health == container.HealthStarting:
		return failed, fmt.Sprintf("the new version did not become healthy within %s", waits.HealthLimit), 0
	}
	return passed, "", 0
}
