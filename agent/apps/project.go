package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// tellDone tells the services of a project that did their work from those that
// ended with 0 because the engine or the system did. A service has done its work
// when the engine outlived its end; what nobody saw to the end, on the first look
// after an end of the agent or of the engine, has if another container outlived
// it. After a start of the system nothing has: all is brought up again, jobs too.
// A project whose services have all done their work stays as wanted until then.
//
// wait is when to look again to be sure.
func (w *worker) tellDone(j *job, first bool) (wait time.Duration, err error) {
	if !j.seen.jobs || !j.seen.there() {
		w.cut = nil
		return 0, nil
	}
	j.seen.cut = nil
	boot := w.a.cfg.Facts().Boot
	rebooted := boot != "" && j.have.Boot != "" && boot != j.have.Boot
	var ended []string
	cut := map[string]bool{}
	for _, c := range j.seen.parts {
		known := slices.Contains(j.have.Ended, c.ID)
		age := time.Since(c.Finished)
		switch {
		case !j.seen.done(c):
			continue
		case w.cut[c.ID], first && rebooted, first && !known && !j.seen.outlived(c, j.asAdopted()):
			cut[c.ID] = true
			continue
		case first || known || age >= w.a.cfg.Waits.Outlived || age < 0:
			ended = append(ended, c.ID)
			continue
		}
		wait = max(wait, w.a.cfg.Waits.Outlived-age)
	}
	w.cut, j.seen.cut = cut, cut
	if first && rebooted && len(cut) == 0 {
		j.have.Boot = boot
	} else if slices.Equal(ended, j.have.Ended) {
		return wait, nil
	}
	j.have.Ended = ended
	return wait, w.save(j)
}

// outlived tells whether a container of the sight runs since before another one
// ended, or, where nothing else is known of it, whether any does.
func (s sight) outlived(c container.Container, any bool) bool {
	return slices.ContainsFunc(s.parts, func(other container.Container) bool {
		return other.Status == container.StatusRunning && (any || other.Started.Before(c.Finished))
	})
}

// ended are the ids of the containers that did their work.
func (s sight) ended() []string {
	var ids []string
	for _, c := range s.parts {
		if s.done(c) {
			ids = append(ids, c.ID)
		}
	}
	return ids
}

// needsCompose are the steps of a compose app that cannot be done without it.
var needsCompose = map[step]bool{run: true, update: true, build: true, publish: true}

// feasible is what remains of a decision on a device without compose: a clear
// state, and a look from time to time whether it is there. What runs goes on.
func (w *worker) feasible(ctx context.Context, j *job, p decision) decision {
	m := j.making()
	if p.step == update {
		m = j.successor()
	}
	if p.do == nil || !needsCompose[p.step] || !m.project() {
		return p
	}
	err := container.ErrNoCompose
	if w.a.cfg.Compose != nil {
		err = w.a.cfg.Compose.Supported(ctx)
	}
	if !errors.Is(err, container.ErrNoCompose) {
		return p
	}
	pause := decision{wait: jitter(w.a.cfg.Waits.NoCompose)}
	if j.seen.runs() || j.have.State == protocol.Failed && j.have.Error == err.Error() {
		return pause
	}
	return decision{step: settle, do: func(_ context.Context, j *job) error {
		w.a.cfg.AppLog.Agent(j.cn(), "The app cannot run on this device, reason: "+err.Error())
		return w.set(j, protocol.Failed, reporting{err: err.Error()})
	}}
}

// otherForm tells whether the wish is for the installed version in another form
// than it has: one container where there is a project, or the other way round.
func (j *job) otherForm() bool {
	return j.have.Swap == nil && !j.asAdopted() && !goes(j.req()) && !j.forAnother() && j.making().project() != j.have.Project
}

// reshape removes an app in the form that it had, so that it can be made in
// another. Its data folder stays.
func (w *worker) reshape(ctx context.Context, j *job) error {
	w.a.cfg.AppLog.Detach(j.cn())
	if err := w.form(j).erase(ctx, j); err != nil {
		return err
	}
	if err := w.removeImages(ctx, j); err != nil {
		return err
	}
	if err := (composed{w}).files(j); err != nil {
		return err
	}
	j.have = device.Actual{
		AppKey: w.id.Key, Stage: w.id.Stage, AppName: j.have.AppName, RequestorAccountKey: j.have.RequestorAccountKey,
		State: j.have.State, Project: !j.have.Project, HostPorts: j.have.HostPorts, UpdateStatus: j.have.UpdateStatus,
	}
	return w.set(j, protocol.Removed, reporting{})
}

// folders lets one at a time use a folder.
type folders struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // closed when it is free again
}

// take waits for a folder; free gives it back.
func (f *folders) take(ctx context.Context, dir string) (free func(), err error) {
	for {
		f.mu.Lock()
		busy := f.taken[dir]
		if busy == nil {
			done := make(chan struct{})
			if f.taken == nil {
				f.taken = map[string]chan struct{}{}
			}
			f.taken[dir] = done
			f.mu.Unlock()
			return func() {
				f.mu.Lock()
				delete(f.taken, dir)
				f.mu.Unlock()
				close(done)
			}, nil
		}
		f.mu.Unlock()
		select {
		case <-busy:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for %s: %w", dir, context.Cause(ctx))
		}
	}
}
