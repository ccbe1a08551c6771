package apps

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

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

// correct brings the record in line with what was seen (life §4.3). first is set
// on the first look after the agent or the engine began: what ended while nobody
// watched was a victim of that, and counts as no crash.
func (w *worker) correct(ctx context.Context, j *job, first bool) error {
	if j.have.Publication != nil { // no step goes on, so it came to no good end
		if err := w.withdraw(ctx, j); err != nil {
			return err
		}
	}
	if j.have.Swap != nil {
		if first && j.have.Swap.Phase == device.SwapProbation {
			return w.renewProbation(j)
		}
		return nil // the update's phases know what to make of the containers
	}
	state, c, err := w.trueState(ctx, j, first)
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
	if err := w.set(j, state, reporting{err: ending(*c)}); err != nil || c.Status == container.StatusRestarting {
		return err
	}
	w.a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("%s (%s) %sexited with status code: %d", j.have.AppName, j.have.Stage, ofService(*c), c.ExitCode))
	if !first && j.req().Target.Settled() == protocol.Running {
		w.pause(j, &w.crash, c.Finished.Sub(c.Started))
	}
	return nil
}

// trueState is the app's state by what is there; culprit is the container that
// failed, if it is FAILED because of one.
func (w *worker) trueState(ctx context.Context, j *job, first bool) (state protocol.State, culprit *container.Container, err error) {
	if j.seen.there() {
		state, culprit, known := j.seen.state()
		if !known {
			return j.have.State, nil, nil
		}
		return state, culprit, nil
	}
	settledWithout := j.have.State == protocol.Present || j.have.State == protocol.Failed
	if j.have.State.Gone() || settledWithout && !first || goes(j.req()) {
		return j.have.State, nil, nil // what is to go is removed, whatever is left of it
	}
	if j.version() == "" {
		return protocol.Removed, nil, nil
	}
	if w.id.Stage == protocol.Dev && !first && j.have.State.Transient() {
		return j.have.State, nil, nil // a build that was called off; the plan knows what then
	}
	m := j.making()
	if _, bad := w.formOf(m.project()).images(m); bad != nil {
		return protocol.Removed, nil, nil // of such a definition nothing was fetched
	}
	there, err := w.hasImages(ctx, m)
	switch {
	case err != nil:
		return "", nil, err
	case there && j.have.State == protocol.Published:
		return protocol.Published, nil, nil
	case there:
		return protocol.Present, nil, nil
	}
	return protocol.Removed, nil, nil
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
	if j.otherForm() {
		if wait := w.crash.wait(now); wait > 0 {
			return decision{wait: wait}
		}
		return decision{step: settle, do: w.reshape}
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
	if w.id.Stage == protocol.Dev {
		s = j.once(s)
	}
	switch {
	case s != none:
	case target == protocol.Running && w.outdated(j):
		s = run
	case target == protocol.Present && j.seen.there():
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

// once leaves out what a developer's app does not do again by itself: a build or
// a publication is a deed, done each time that somebody asks for it, and an app
// that failed waits for a newer wish. Only what a power cut ended runs again.
func (j *job) once(s step) step {
	deed := s == build || s == publish || s == stop && j.req().Target.Settled() == protocol.Built
	switch {
	case deed && j.wish.Direct > j.have.Tried:
	case deed && (j.have.State == protocol.Built || j.have.State == protocol.Building || j.have.State == protocol.Publishing):
		return settle
	case deed:
		return none
	case j.have.State == protocol.Failed && (s == run || s == settle) && j.have.Tried >= j.wish.Seq && !j.victim:
		return none
	}
	return s
}

func (w *worker) steps() map[step]func(context.Context, *job) error {
	return map[step]func(context.Context, *job) error{
		pull: w.pull, run: w.runApp, stop: w.stop, settle: w.settle, remove: w.remove, uninstall: w.remove,
		build: w.build, publish: w.publish, cancel: w.takeAway,
	}
}

// updateDue tells whether another version is wanted than the installed one
// (life §2.2, update override), and not one that failed its probation.
func (w *worker) updateDue(j *job) bool {
	r := j.req()
	if j.have.Stage == protocol.Dev || !r.RequestUpdate || r.NewestVersion == "" || j.installed() && !j.forAnother() {
		return false
	}
	bad := j.have.Rejected
	return bad == nil || bad.Version != r.NewestVersion || bad.ReleaseKey != r.NewReleaseKey || j.wish.Direct > bad.WishSeq
}

// forAnother tells whether the wish is about another version than the installed.
func (j *job) forAnother() bool {
	r := j.req()
	return j.have.Stage == protocol.Prod && r.RequestUpdate && r.NewestVersion != "" && j.installed() && r.NewestVersion != j.have.Version
}

// outdated tells whether the container was made from something else than what is
// wanted. Nothing is known of what is wanted of an adopted one before the studio
// said it: it is not recreated (design S7). Nor is one for whose app the wish is
// about another version, which failed its probation: ports and defaults of that
// one are not for the version that came back.
func (w *worker) outdated(j *job) bool {
	if !j.seen.there() || j.asAdopted() {
		return false
	}
	if j.forAnother() && j.have.Made == nil {
		return false
	}
	return !w.form(j).complete(j) || w.madeFrom(j) != w.form(j).hash(j.making(), j.seen)
}

// learnHash takes the first wish of the studio for what an adopted app was made
// from, where its containers themselves do not tell.
func (w *worker) learnHash(j *job) error {
	if !j.seen.there() || j.asAdopted() || w.madeFrom(j) != "" {
		return nil
	}
	if j.have.Version == "" { // nothing of a project of the contract's agents tells it
		j.have.Version, j.have.ReleaseKey = cmp.Or(j.req().PresentVersion, j.version()), j.req().ReleaseKey
	}
	if j.forAnother() {
		if j.have.Project && j.have.Made == nil && j.req().DockerCompose != nil {
			j.have.Made = making{r: j.req()}.made(j.seen)
			return w.save(j)
		}
		return nil
	}
	m := j.making()
	j.have.ConfigHash = w.form(j).hash(m, j.seen)
	if j.have.Project {
		j.have.Made = m.made(j.seen)
	}
	return w.save(j)
}

func (w *worker) madeFrom(j *job) string {
	if j.have.ConfigHash != "" {
		return j.have.ConfigHash
	}
	return j.seen.parts[0].Labels[labelHash]
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
	case w.outdated(j) && j.seen.runs():
		return decision{step: run, do: w.restartSwap}
	}
	verdict, reason, wait := judge(w.watched, j.seen, now, w.a.cfg.Waits)
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

// A probation is the watch over a new version. It is stored nowhere and begins
// anew with the process, so that its age needs no clock that somebody may set: a
// device without one of its own sets it, often by years, once it is on-line.
type probation struct {
	since time.Time
	runs  map[string]time.Time // when its containers were started, by their ids, as the engine tells it
}

func watch(seen sight) probation {
	p := probation{since: time.Now(), runs: make(map[string]time.Time, len(seen.parts))}
	for _, c := range seen.parts {
		p.runs[c.ID] = c.Started
	}
	return p
}

// judge says whether a new version has passed its probation (design S16): each of
// its containers runs, was not restarted, and is healthy if it has a health
// check. A service that did its work is fine.
func judge(p probation, seen sight, now time.Time, waits Waits) (v verdict, reason string, wait time.Duration) {
	age := now.Sub(p.since)
	starting := ""
	ids := seen.ids()
	if len(ids) == 0 || len(p.runs) == 0 {
		return failed, "the container of the new version is gone", 0
	}
	for id := range p.runs {
		if !slices.Contains(ids, id) {
			return failed, "a container of the new version is gone", 0
		}
	}
	for _, c := range seen.parts {
		of := ofService(c)
		switch {
		case seen.done(c):
		case c.Status != container.StatusRunning:
			return failed, fmt.Sprintf("%sthe new version exited with status code %d", of, c.ExitCode), 0
		case c.RestartCount > 0 || !c.Started.Equal(p.runs[c.ID]):
			return failed, of + "the new version restarted", 0
		case c.Health == container.HealthUnhealthy:
			return failed, of + "the new version is not healthy", 0
		case c.Health == container.HealthStarting:
			starting = of
		}
	}
	healthStarting := slices.ContainsFunc(seen.parts, func(c container.Container) bool { return !seen.done(c) && c.Health == container.HealthStarting })
	switch {
	case age < waits.Probation:
		return undecided, "", waits.Probation - age
	case healthStarting && age < waits.HealthLimit:
		return undecided, "", min(waits.Probation, waits.HealthLimit-age)
	case healthStarting:
		return failed, fmt.Sprintf("%sthe new version did not become healthy within %s", starting, waits.HealthLimit), 0
	}
	return passed, "", 0
}
