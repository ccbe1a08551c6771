package apps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/backoff"
	"reagent/persistence/device"
	"reagent/protocol"
)

// errSuperseded ends a step that the newest wish made pointless.
var errSuperseded = errors.New("superseded by a newer wish")

// A worker brings one app about. Its goroutine is the only one that touches the
// app's container and its record; the others leave a note and poke it.
type worker struct {
	a       *Apps
	id      protocol.AppID
	wake    chan struct{} // capacity 1
	started bool          // a.mu guards it

	linked atomic.Bool   // the link came back: what waited for it may try again
	room   atomic.Bool   // there may be room on the disk for what was refused
	stale  atomic.Bool   // rewrite what the app reads of our knowledge
	untold atomic.Bool   // the studio does not know the app's state
	forget atomic.Uint64 // the Seq of a wish that the studio no longer knows

	mu    sync.Mutex
	doing *operation // nil between steps

	// Only the worker's goroutine uses what follows.
	crash    crashLoop
	updates  crashLoop       // of downloads of another version; what is installed runs on
	wishSeq  uint64          // of the newest wish that was looked at
	answered uint64          // Seq of the newest wish that a report answered
	epoch    uint64          // of the engine, at the last look
	cut      map[string]bool // ids of containers that ended well only because the system did
	watched  probation       // of the version that is under probation
	halted   bool            // stopped for want of room, and not started again yet
	trouble  backoff.Backoff // of looks that fail for neither app nor engine, such as on a full disk
}

// An operation is a step under way.
type operation struct {
	step   step
	wish   protocol.AppRequest
	seq    uint64 // of the wish
	cancel context.CancelCauseFunc
}

func newWorker(a *Apps, id protocol.AppID) *worker {
	w := &worker{a: a, id: id, wake: make(chan struct{}, 1)}
	w.trouble = backoff.Backoff{Min: a.cfg.Waits.EngineRetry, Max: 15 * a.cfg.Waits.EngineRetry}
	w.poke()
	return w
}

func (w *worker) poke() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// wished tells the worker of a newer wish, which is stored already. It ends the
// step under way if that has become pointless.
func (w *worker) wished(newest protocol.AppRequest) {
	w.mu.Lock()
	if op := w.doing; op != nil {
		if pointless := yields[op.step]; pointless != nil && pointless(op.wish, newest) {
			op.cancel(errSuperseded)
		}
	}
	w.mu.Unlock()
	w.poke()
}

// begin marks a step as under way; the context that it returns ends when a newer
// wish makes the step pointless.
func (w *worker) begin(ctx context.Context, s step, wish device.Wanted) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	w.mu.Lock()
	w.doing = &operation{step: s, wish: wish.Request, seq: wish.Seq, cancel: cancel}
	w.mu.Unlock()
	return ctx, func() {
		w.mu.Lock()
		w.doing = nil
		w.mu.Unlock()
		cancel(nil)
	}
}

// turn makes the step under way another one, which may yield to other wishes; it
// fails if the newest wish is one of them.
func (w *worker) turn(ctx context.Context, s step) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	op := w.doing
	op.step = s
	newest, ok, err := w.a.cfg.Store.Wanted(w.id)
	if err == nil && ok && newest.Seq != op.seq && yields[s](op.wish, newest.Request) {
		op.cancel(errSuperseded)
	}
	return context.Cause(ctx)
}

// run looks at the app whenever something may have changed, until ctx ends.
func (w *worker) run(ctx context.Context) {
	for {
		after, done := w.look(ctx)
		if done {
			return
		}
		var timer <-chan time.Time
		if after > 0 {
			timer = time.After(after)
		}
		select {
		case <-ctx.Done():
			return
		case <-timer:
		case <-w.wake:
		}
	}
}

// look takes steps until the app is as wanted or has to wait: for after, or,
// when that is 0, for a poke. done means that there is no such app any more.
func (w *worker) look(ctx context.Context) (after time.Duration, done bool) {
	for ctx.Err() == nil {
		again, after, err := w.guarded(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			wait := w.trouble.Next()
			w.a.cfg.Log.Error().Err(err).Stringer("app", w.id).Dur("retry_in", wait).Msg("app not looked after")
			return wait + 1, false
		case again:
			continue
		}
		w.trouble.Reset()
		return after, after == 0 && w.a.retire(w)
	}
	return 0, false
}

// guarded is pass, with the edge of design S2: a panic in one step of an app is
// that app's failure.
func (w *worker) guarded(ctx context.Context) (again bool, after time.Duration, err error) {
	defer func() {
		if p := recover(); p != nil {
			w.a.cfg.Log.Error().Interface("panic", p).Bytes("stack", debug.Stack()).Stringer("app", w.id).Msg("panic in an app's step")
			again, after, err = false, jitter(w.a.cfg.Waits.EngineRetry), w.panicked(fmt.Sprint(p))
			if wait := w.crash.wait(time.Now()); wait > 0 {
				after = wait
			}
		}
	}()
	return w.pass(ctx)
}

func (w *worker) panicked(what string) error {
	j, err := w.load()
	if err != nil || j == nil {
		return err
	}
	return w.fail(j, &w.crash, fmt.Errorf("internal error: %s", what))
}

// A job is what a worker has before it: the wish, the record, the containers.
type job struct {
	wish device.Wanted
	have device.Actual
	seen sight
	// victim tells that the container ended while nobody watched: it is started
	// again before anything else, which may need a network, is tried.
	victim bool
}

func (j *job) req() protocol.AppRequest { return j.wish.Request }

// cn is the name of the app's container, or of its log where it has several.
func (j *job) cn() string {
	return protocol.ContainerName(j.have.Stage, j.have.AppKey, j.have.AppName)
}

// asAdopted tells that nobody said yet what is wanted of an adopted app.
func (j *job) asAdopted() bool { return j.wish.Seq == j.have.AdoptedWish }

// installed tells whether a version of the app is on the device.
func (j *job) installed() bool { return !j.have.State.Gone() && j.have.Version != "" }

// version is the one that the app is to run.
func (j *job) version() string {
	if j.installed() {
		return j.have.Version
	}
	return versionToRun(j.req())
}

// release is the key that belongs to version.
func (j *job) release() uint64 {
	r := j.req()
	switch {
	case j.installed() && j.have.ReleaseKey != 0:
		return j.have.ReleaseKey
	case r.RequestUpdate && r.NewReleaseKey != 0 && j.version() == r.NewestVersion:
		return r.NewReleaseKey
	}
	return r.ReleaseKey
}

// takeVersion writes down the version that the app is to run as the installed
// one.
func (j *job) takeVersion() {
	version, release := j.version(), j.release()
	j.have.Version, j.have.ReleaseKey = version, release
}

// tried notes that the newest wish for a developer's app was followed to an end,
// good or bad.
func (j *job) tried() {
	if j.have.Stage == protocol.Dev {
		j.have.Tried, j.have.Attempt = max(j.have.Tried, j.wish.Seq), nil
	}
}

// load reads wish and record; nil when nobody wants anything of the app.
func (w *worker) load() (*job, error) {
	wish, wanted, err := w.a.cfg.Store.Wanted(w.id)
	if err != nil {
		return nil, fmt.Errorf("read the wish: %w", err)
	}
	have, known, err := w.a.cfg.Store.Actual(w.id)
	if err != nil {
		return nil, fmt.Errorf("read the state: %w", err)
	}
	if !wanted {
		return nil, nil
	}
	if d := wish.Deed; d != nil && w.id.Stage == protocol.Dev && have.Tried < d.Seq && w.forget.Load() != wish.Seq {
		wish.Request, wish.Seq, wish.Direct, wish.Credentials = d.Request, d.Seq, d.Seq, d.Credentials
	}
	if !known {
		have = device.Actual{AppKey: w.id.Key, Stage: w.id.Stage, State: protocol.Removed}
		if wish.Request.Current.Gone() {
			have.State = wish.Request.Current
		}
	}
	if have.State.Gone() || have.AppName == "" {
		have.AppName = wish.Request.AppName
	}
	// What is installed keeps its name until it is gone: a wish with another one
	// must not lead to another app's folder or leave a container behind.
	wish.Request.AppName = have.AppName
	have.RequestorAccountKey = wish.Request.RequestorAccountKey
	j := &job{wish: wish, have: have}
	if have.State.Gone() && !j.asAdopted() && !goes(wish.Request) {
		j.have.Project = j.making().project() // nothing is there in another form
	}
	return j, nil
}

// pass looks once and takes at most one step. again asks for another pass.
func (w *worker) pass(ctx context.Context) (again bool, after time.Duration, err error) {
	j, err := w.load()
	if err != nil || j == nil {
		return false, 0, err
	}
	if j.wish.Seq != w.wishSeq {
		w.wishSeq = j.wish.Seq
		w.crash.reset()
		w.updates.reset() // the newest wish wins, also over a pause
	}
	if w.linked.Swap(false) {
		w.crash.next, w.updates.next = time.Time{}, time.Time{}
	}
	if w.room.Swap(false) {
		w.crash.release()
		w.updates.release()
	}
	epoch, reachable := w.a.engineEpoch()
	if !reachable {
		return false, 0, nil // whoever reaches the engine pokes
	}
	first := epoch != w.epoch
	if j.seen, err = w.form(j).look(ctx, j); err != nil {
		return w.engineTrouble(err)
	}
	if j.seen.there() && j.have.Version == "" && j.have.Swap == nil {
		w.a.recall(&j.have, j.seen) // the record was lost, and a wish came before the first look
	}
	if w.forget.Load() == j.wish.Seq {
		return w.forgotten(ctx, j)
	}
	was := j.have.State
	unsettled, err := w.tellDone(j, first)
	if err != nil {
		return false, 0, err
	}
	if err := w.correct(ctx, j, first); err != nil {
		return w.engineTrouble(err)
	}
	w.epoch = epoch
	j.victim = first && j.seen.has(container.StatusExited) && (w.id.Stage == protocol.Prod || was != protocol.Failed) ||
		w.halted && j.seen.has(container.StatusExited)
	if w.stale.Swap(false) && j.have.State == protocol.Running {
		w.refresh(j)
	}
	if w.untold.Swap(false) {
		w.answered = 0
	}
	if j.seen.has(container.StatusRunning) {
		w.attach(j) // somebody else may have started it again
		if first {
			w.reportPorts(j) // nobody did, if we were killed right after the start
		}
	}
	if err := w.learnHash(j); err != nil {
		return false, 0, err
	}

	now := time.Now()
	p := w.inRoom(j, w.feasible(ctx, j, w.plan(j, now)))
	switch {
	case p.wait > 0:
		return false, p.wait, nil
	case p.do == nil:
		again, after, err := w.answer(j)
		return again, cmp.Or(after, unsettled), err
	}
	stepCtx, end := w.begin(ctx, p.step, j.wish)
	err = p.do(stepCtx, j)
	cause := context.Cause(stepCtx)
	end()
	switch {
	case err == nil:
		w.answered = j.wish.Seq
		return true, 0, nil
	case ctx.Err() != nil:
		return false, 0, ctx.Err()
	case errors.Is(cause, errSuperseded):
		return true, 0, nil
	case noRoom(cause):
		return true, 0, w.fail(j, &w.crash, cause)
	case engineGone(err):
		return w.engineTrouble(fmt.Errorf("%s: %w", p.step, err))
	}
	if err := w.fail(j, &w.crash, err); err != nil {
		return false, 0, err
	}
	w.answered = j.wish.Seq
	return true, 0, nil
}

// answer ends a wish for which there is nothing to do: the studio is told where
// the app stands, as the contract does for a wish that is met already.
func (w *worker) answer(j *job) (again bool, after time.Duration, err error) {
	told := w.answered == j.wish.Seq
	if j.req().Target.Settled().Gone() && j.have.State.Gone() {
		w.answered = j.wish.Seq
		_, err = w.a.cfg.Store.Drop(w.id, j.wish.Seq, w.outgoing(j, reporting{}))
		w.a.reporter.poke()
		return err == nil, 0, err
	}
	if told {
		return false, 0, nil
	}
	j.tried()
	if err := w.set(j, j.have.State, reporting{err: j.have.Error}); err != nil {
		return false, 0, err
	}
	w.answered = j.wish.Seq
	if j.have.State == protocol.Running {
		w.reportPorts(j) // the wish may show that the studio does not know them
	}
	return false, 0, nil
}

// fail makes the app FAILED and begins the pause before the next attempt. A
// developer's app makes none by itself, but for its removal. What failed for lack
// of room waits for that, and it counts as no failure of the app.
func (w *worker) fail(j *job, loop *crashLoop, cause error) error {
	if noRoom(cause) && j.req().Target.Settled() == protocol.Running {
		j.have.Tried = min(j.have.Tried, j.wish.Seq-1) // a developer's app, too, runs by itself when there is room
	} else {
		j.tried()
		w.a.repay(w.id, j.wish.Seq)
	}
	if err := w.set(j, protocol.Failed, reporting{err: cause.Error()}); err != nil {
		return errors.Join(cause, err)
	}
	w.a.cfg.Log.Warn().Err(cause).Stringer("app", w.id).Str("name", j.have.AppName).Msg("app failed")
	what := "The app failed, reason: "
	if j.req().Target.Settled() == protocol.Running {
		what = "The app failed to start, reason: "
	}
	if told := new(toldError); !errors.As(cause, &told) {
		w.a.cfg.AppLog.Agent(j.cn(), what+cause.Error())
	}
	if noRoom(cause) {
		w.waitForRoom(j, loop)
		return nil
	}
	w.pause(j, loop, 0)
	return nil
}

// pause begins a crash loop's wait and says so in the app's log. There is none
// where a newer wish has come already: that one is followed at once.
func (w *worker) pause(j *job, loop *crashLoop, ranFor time.Duration) {
	if w.id.Stage == protocol.Dev && !goes(j.req()) {
		return
	}
	if newest, ok, err := w.a.cfg.Store.Wanted(w.id); err == nil && ok && newest.Seq != j.wish.Seq {
		return
	}
	nth, wait := loop.failed(w.a.cfg.Waits.Crash, time.Now(), ranFor)
	w.a.cfg.AppLog.Agent(j.cn(), fmt.Sprintf("Entered a crashloop (%s attempt), retrying in %s", ordinal(nth), wait.Round(100*time.Millisecond)))
}

// reporting says how a state is told to the studio.
type reporting struct {
	err    string
	status *protocol.UpdateStatus // of this report; nil = the record's
	keep   bool                   // never dropped
}

// set is the one place where an app's state is written: disk first, then the
// studio, in the order of the changes.
func (w *worker) set(j *job, s protocol.State, r reporting) error {
	changed := j.have.State != s || j.have.Error != r.err
	j.have.State, j.have.Error = s, r.err
	if changed {
		j.have.Changed = time.Now().UTC()
		e := w.a.cfg.Log.Info()
		if r.err != "" {
			e = w.a.cfg.Log.Warn().Str(zerolog.ErrorFieldName, protocol.Loggable(r.err))
		}
		e.Stringer("app", w.id).Str("name", j.have.AppName).Str("state", string(s)).Msg("app state")
	}
	if err := w.a.cfg.Store.Save(j.have, w.outgoing(j, r)); err != nil {
		return fmt.Errorf("store state %s: %w", s, err)
	}
	w.a.reporter.poke()
	w.a.changed()
	return nil
}

func (w *worker) outgoing(j *job, r reporting) device.Outgoing {
	f := w.a.cfg.Facts()
	req := j.req()
	status := j.have.UpdateStatus
	if r.status != nil {
		status = *r.status
	}
	return device.Outgoing{
		Report: protocol.StateReport{
			AppKey: w.id.Key, DeviceKey: f.DeviceKey, SwarmKey: f.SwarmKey, SerialNumber: f.Serial,
			Stage: w.id.Stage, State: j.have.State,
			RequestorAccountKey: req.RequestorAccountKey,
			ReleaseKey:          j.release(),
			RequestUpdate:       w.updateDue(j),
			ReleaseBuild:        j.have.ReleaseBuild,
			UpdateStatus:        status,
			Error:               r.err,
			Probation:           j.have.Swap != nil && j.have.Swap.Phase != device.SwapRollback,
		},
		Coalesce: !w.a.cfg.Studio.Online(),
		Keep:     r.keep,
	}
}

// save writes the record without telling anybody.
func (w *worker) save(j *job) error {
	if err := w.a.cfg.Store.Save(j.have); err != nil {
		return fmt.Errorf("store the record: %w", err)
	}
	return nil
}

// jitter spreads a regular pause over [d/2, 3d/2], so that nothing happens at a
// fixed second (design rule 10).
func jitter(d time.Duration) time.Duration { return d/2 + backoff.Jitter(d) + 1 }
