package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"reagent/persistence/device"
	"reagent/protocol"
)

// An update is a transaction (design S16). Its phases, and what each finds when
// the agent was killed in it:
//
//	UPDATING    pull                     the old version runs; nothing to mend
//	parking     stop + rename the old    marker written: goes on
//	starting    start the new            container there or not: goes on
//	probation   watch it for 30 s        watched from the start again
//	rollback    new away, old back       goes on
//
// The marker (device.Swap) is written before the first container is touched and
// cleared after the last.
func (w *worker) update(ctx context.Context, j *job) error {
	r := j.req()
	if err := w.set(j, protocol.Updating, reporting{}); err != nil {
		return err
	}
	w.beginDownload(j, j.successor())
	if err := w.form(j).keep(ctx, j); err != nil {
		return err
	}
	if err := w.fetch(ctx, j, j.successor(), protocol.Updating); err != nil {
		return w.keepOld(ctx, j, err)
	}
	if r.Target.Settled() != protocol.Running {
		return w.updateStopped(ctx, j)
	}
	// From here on a newer wish that takes the update back finds the marker.
	if err := w.turn(ctx, run); err != nil {
		return w.keepOld(ctx, j, err)
	}
	swap := j.have.Swap
	switch {
	case swap != nil:
		// The version under probation is replaced: what is parked stays the one
		// to come back to.
		if err := w.form(j).end(ctx, j); err != nil {
			return err
		}
	default:
		swap = &device.Swap{
			Version: j.have.Version, ReleaseKey: j.have.ReleaseKey, ConfigHash: j.have.ConfigHash,
			Adopted: j.have.Adopted, Project: j.have.Project, Made: j.have.Made,
		}
		if j.seen.there() {
			swap.Parked = j.seen.parts[0].ID
			swap.ConfigHash = w.madeFrom(j)
		}
	}
	swap.Phase, swap.ToVersion, swap.ToRelease, swap.WishSeq = device.SwapParking, r.NewestVersion, r.NewReleaseKey, j.wish.Seq
	swap.ToMade = j.successor().made(sight{})
	j.have.Swap = swap
	if err := w.save(j); err != nil {
		return err
	}
	return w.resume(ctx, j)
}

// keepOld ends an update whose download failed or was cancelled: the old version
// is where it was, and the report says so.
func (w *worker) keepOld(_ context.Context, j *job, cause error) error {
	back := protocol.Removed
	switch {
	case j.seen.runs():
		back = protocol.Running
	case j.installed():
		back = protocol.Present
	}
	if errors.Is(cause, errSuperseded) {
		j.have.UpdateStatus = protocol.UpdateCanceled
		return errors.Join(w.set(j, back, reporting{keep: true}), cause)
	}
	if engineGone(cause) || errors.Is(cause, context.Canceled) {
		return cause
	}
	err := w.fail(j, &w.updates, fmt.Errorf("update to %s: %w", j.req().NewestVersion, cause))
	if err != nil || back == protocol.Removed || back == protocol.Present && j.seen.there() {
		return err // an old version that had ended is started by the next pass
	}
	return w.set(j, back, reporting{})
}

// updateStopped replaces the version of an app that is not to run: there is
// nothing to watch.
func (w *worker) updateStopped(ctx context.Context, j *job) error {
	if err := w.form(j).end(ctx, j); err != nil {
		return err
	}
	w.adoptVersion(j, j.successor())
	return w.pending(j)
}

// adoptVersion writes down that another version is the installed one.
func (w *worker) adoptVersion(j *job, m making) {
	if old := j.have.Version; old != "" && old != m.version && !j.have.Project {
		j.have.PreviousImage = w.a.image(j.req(), old)
	}
	j.have.Version, j.have.ReleaseKey, j.have.ConfigHash, j.have.Adopted, j.have.Rejected = m.version, m.release, "", false, nil
	j.have.Project, j.have.Made = m.project(), m.made(sight{})
}

// pending reports the new version as present. Only this report carries the
// status; all after it say that the update is completed (wire §6.3), and that
// is what a restart must find.
func (w *worker) pending(j *job) error {
	status := protocol.UpdatePending
	j.have.UpdateStatus = protocol.UpdateCompleted
	return w.set(j, protocol.Present, reporting{status: &status, keep: true})
}

// resume takes an update from the phase that its marker tells to the next.
func (w *worker) resume(ctx context.Context, j *job) error {
	switch j.have.Swap.Phase {
	case device.SwapParking:
		return w.park(ctx, j)
	case device.SwapStarting:
		return w.startNew(ctx, j)
	case device.SwapRollback:
		return w.rollBack(ctx, j)
	}
	return fmt.Errorf("the update is in an unknown phase %q", j.have.Swap.Phase)
}

// park moves the old version out of the way.
func (w *worker) park(ctx context.Context, j *job) error {
	swap := j.have.Swap
	w.a.cfg.AppLog.Detach(j.cn())
	if err := w.formOf(swap.Project).park(ctx, j); err != nil {
		return err
	}
	j.seen = sight{}
	m := j.successor()
	m.version, m.release = swap.ToVersion, swap.ToRelease
	if swap.ToMade != nil {
		m.take(swap.ToMade)
	}
	w.adoptVersion(j, m)
	swap.Phase = device.SwapStarting
	if err := w.pending(j); err != nil {
		return err
	}
	return w.startNew(ctx, j)
}

// startNew starts the new version; its probation begins when it runs.
func (w *worker) startNew(ctx context.Context, j *job) error {
	if j.req().Target.Settled() != protocol.Running {
		return w.commit(ctx, j)
	}
	if err := w.set(j, protocol.Starting, reporting{}); err != nil {
		return err
	}
	err := w.launch(ctx, j)
	switch {
	case err == nil, engineGone(err), context.Cause(ctx) != nil:
		return err
	}
	return w.reject(ctx, j, err.Error())
}

// renewProbation begins a probation again after the agent or the engine was
// away: what happened meanwhile is not the new version's fault.
func (w *worker) renewProbation(j *job) error {
	if j.seen.runs() {
		w.watched = watch(j.seen)
		return nil
	}
	j.have.Swap.Phase = device.SwapStarting
	return w.save(j)
}

// restartSwap replaces the container under probation because the wish for it
// changed; the probation begins again.
func (w *worker) restartSwap(ctx context.Context, j *job) error {
	j.have.Swap.Phase = device.SwapStarting
	if err := w.save(j); err != nil {
		return err
	}
	return w.startNew(ctx, j)
}

// commit ends an update well: what was parked goes, its images stay until the
// next update.
func (w *worker) commit(ctx context.Context, j *job) error {
	swap := *j.have.Swap
	if err := w.formOf(swap.Project).unpark(ctx, swap); err != nil {
		return err
	}
	older := j.have.Previous
	j.have.Swap, j.have.Previous = nil, swap.Made
	// Said once more: from now on it is not taken back.
	if err := w.set(j, j.have.State, reporting{keep: true}); err != nil {
		return err
	}
	w.crash.reset()
	w.updates.reset()
	_ = w.dropImages(ctx, j, older) // or the next update does
	return nil
}

// reject begins the roll-back of a version that failed its probation.
func (w *worker) reject(ctx context.Context, j *job, reason string) error {
	swap := j.have.Swap
	if swap.Version == "" && swap.Parked == "" {
		// There was nothing before it to come back to: it is an app that fails.
		j.have.Swap = nil
		return errors.New(reason)
	}
	swap.Phase, swap.Reason = device.SwapRollback, reason
	w.a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("Version %s failed: %s. Going back to version %s", swap.ToVersion, reason, swap.Version))
	if err := w.set(j, protocol.Failed, reporting{err: fmt.Sprintf("update to %s: %s", swap.ToVersion, reason), keep: true}); err != nil {
		return err
	}
	return w.rollBack(ctx, j)
}

// rollBack brings the old version back.
func (w *worker) rollBack(ctx context.Context, j *job) error {
	swap := *j.have.Swap
	w.a.cfg.AppLog.Detach(j.cn())
	if err := w.clearNew(ctx, j); err != nil {
		return err
	}
	old := w.formOf(swap.Project)
	there, startErr := old.back(ctx, j)
	if startErr == nil && there {
		j.seen, startErr = w.running(ctx, j, old)
	}
	if startErr != nil && (!there || engineGone(startErr) || ctx.Err() != nil) {
		return startErr
	}
	if swap.ToVersion == j.have.Version {
		j.have.Previous = j.have.Made // its images go with the next update
	}
	j.have.Version, j.have.ReleaseKey, j.have.ConfigHash, j.have.Adopted = swap.Version, swap.ReleaseKey, swap.ConfigHash, swap.Adopted
	j.have.Project, j.have.Made = swap.Project, swap.Made
	j.have.PreviousImage = ""
	j.have.Rejected = &device.Rejected{Version: swap.ToVersion, ReleaseKey: swap.ToRelease, WishSeq: j.wish.Seq, Reason: swap.Reason}
	j.have.Swap = nil
	j.have.UpdateStatus = protocol.UpdateCanceled
	switch {
	case startErr != nil:
		return w.set(j, protocol.Failed, reporting{err: fmt.Sprintf("the old version does not start again: %v", startErr), keep: true})
	case !there: // only its image is left; the next pass runs it again
		return w.set(j, protocol.Present, reporting{keep: true})
	}
	if err := w.set(j, protocol.Running, reporting{keep: true}); err != nil {
		return err
	}
	w.attach(j)
	return nil
}

// clearNew removes the containers of a version that is rolled back. The old one
// may have its name back already; it is not touched.
func (w *worker) clearNew(ctx context.Context, j *job) (err error) {
	if j.seen, err = w.form(j).look(ctx, j); err != nil {
		return err
	}
	if parked := j.have.Swap.Parked; parked != "" && slices.Contains(j.seen.ids(), parked) {
		j.seen = sight{}
		return nil
	}
	return w.form(j).end(ctx, j)
}
