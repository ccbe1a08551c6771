package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// A Disk tells whether there is room for more; disk.Guard is one. Its methods do
// not block. Its refusals have the code disk_full, and whoever makes one calls
// RoomChanged when asking again is worth it.
type Disk interface {
	// AdmitImage refuses so many bytes more in the engine, and AdmitFile among
	// the apps' files; 0 = nobody knows how many.
	AdmitImage(need uint64) error
	AdmitFile(need uint64) error
	// Critical says why no app may run now; nil while they may.
	Critical() error
	// Look is told that somebody met a full disk.
	Look()
}

// boundless is the disk of apps that nobody guards.
type boundless struct{}

func (boundless) AdmitImage(uint64) error { return nil }
func (boundless) AdmitFile(uint64) error  { return nil }
func (boundless) Critical() error         { return nil }
func (boundless) Look()                   {}

// noRoom tells whether something did not succeed for lack of room: it was
// refused, or it met the end of a disk. That is nobody's crash: the app waits
// until there is room.
func noRoom(err error) bool {
	var refused *protocol.Error
	return errors.As(err, &refused) && refused.Code == protocol.CodeDiskFull ||
		errors.Is(err, container.ErrNoSpace) || errors.Is(err, syscall.ENOSPC)
}

// takesRoom are the steps that are not begun where there is no room, and ended
// when it runs out. A start takes none that anybody could measure; it is refused
// while no app may run at all.
var takesRoom = map[step]bool{pull: true, update: true, build: true, publish: true}

// RoomChanged tells the apps that a disk became critical, or that there is room
// for some of what was refused: steps that take up room end, running apps stop,
// or what waited is tried again. It does not block.
func (a *Apps) RoomChanged() {
	full := a.cfg.Disk.Critical()
	a.each(func(w *worker) {
		if full != nil {
			w.mu.Lock()
			if op := w.doing; op != nil && takesRoom[op.step] {
				op.cancel(full)
			}
			w.mu.Unlock()
		}
		w.room.Store(true)
		w.poke()
	})
}

// inRoom is what remains of a decision where there is no room for it: an app
// that runs stops, and what would grow fails. Whatever frees room is left as it
// is.
func (w *worker) inRoom(j *job, p decision) decision {
	full := w.a.cfg.Disk.Critical()
	target := j.req().Target.Settled()
	switch {
	case full != nil && target == protocol.Running && slices.ContainsFunc(j.seen.parts, runs):
		return decision{step: settle, do: func(ctx context.Context, j *job) error { return w.halt(ctx, j, full) }}
	case p.do == nil:
		return p
	case full == nil && takesRoom[p.step]:
		full = w.a.cfg.Disk.AdmitImage(0)
	}
	if full == nil || p.step != run && !takesRoom[p.step] {
		return p
	}
	loop := &w.crash
	if p.step == update {
		loop = &w.updates
	}
	return decision{step: settle, do: func(_ context.Context, j *job) error { return w.fail(j, loop, full) }}
}

func runs(c container.Container) bool {
	return c.Status == container.StatusRunning || c.Status == container.StatusRestarting
}

// halt stops an app because the disk is full. Its containers stay, and are
// started again when there is room.
func (w *worker) halt(ctx context.Context, j *job, full error) error {
	w.a.cfg.AppLog.Detach(j.cn())
	for _, c := range j.seen.parts {
		if !runs(c) {
			continue
		}
		if err := w.a.cfg.Engine.Stop(ctx, c.ID, w.a.cfg.Waits.StopGrace); err != nil && !errors.Is(err, container.ErrNotFound) {
			return fmt.Errorf("stop %s: %w", c.Name, err)
		}
	}
	if swap := j.have.Swap; swap != nil && swap.Phase == device.SwapProbation {
		swap.Phase = device.SwapStarting // its probation begins anew; this was not its fault
	}
	w.halted = true
	return w.fail(j, &w.crash, full)
}

// waitForRoom begins the pause of what found no room.
func (w *worker) waitForRoom(j *job, loop *crashLoop) {
	loop.hold(jitter(w.a.cfg.Waits.Room))
	w.a.cfg.Disk.Look()
	if w.id.Stage == protocol.Prod || j.req().Target.Settled() == protocol.Running {
		w.a.cfg.AppLog.Agent(j.cn(), "Waiting until there is room on the disk")
	}
}

const (
	// unpacked is how many bytes of disk one of a download comes to: layers are
	// compressed on the way, about by half, and lie there in both forms for a
	// moment.
	unpacked = 2
	// recheck is how many bytes of a download may pass between two looks.
	recheck = 32 << 20
)

// pullFitting is a pull that is not begun if it is known not to fit, and given up
// as soon as that shows. One of which nothing is heard is the registry's silence.
func (w *worker) pullFitting(ctx context.Context, ref string, cred *container.Credential, progress func(container.PullProgress)) error {
	if err := w.a.cfg.Disk.AdmitImage(0); err != nil {
		return err
	}
	switch need, err := w.a.cfg.Engine.DownloadSize(ctx, ref, cred); {
	case err == nil:
		if err := w.a.cfg.Disk.AdmitImage(uint64(need) * unpacked); err != nil {
			return err
		}
	case ctx.Err() == nil: // the pull tells more, and its progress is watched
		w.a.cfg.Log.Debug().Err(err).Stringer("app", w.id).Msg("size of a download is not known")
	}
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var total, next int64
	err := w.a.cfg.Engine.Pull(ctx, ref, cred, func(p container.PullProgress) {
		if p.Total > total || p.Current >= next {
			total, next = p.Total, p.Current+recheck
			if full := w.a.cfg.Disk.AdmitImage(uint64(max(0, p.Total-p.Current)) * unpacked); full != nil {
				giveUp(full)
			}
		}
		progress(p)
	})
	if cause := context.Cause(ctx); err != nil && noRoom(cause) {
		return cause
	}
	return w.overdue(ctx, container.ErrNetwork, err)
}
