package store

import (
	"time"

	"reagent/protocol"
)

// An Update is the last update of an app on a device, put together from what the
// device reported.
type Update struct {
	From    uint64                 `json:"from"` // release
	To      uint64                 `json:"to"`
	Outcome protocol.UpdateOutcome `json:"outcome"`
	Reason  string                 `json:"reason,omitempty"`
	Arrived bool                   `json:"arrived,omitempty"` // the new version was reported
	// Stale is the status that reports carried when the update began: that of an
	// earlier one, which says nothing about this.
	Stale protocol.UpdateStatus `json:"stale,omitempty"`
	At    time.Time             `json:"at"`
}

// after is the update after another report. The orders of reports are those of
// design S16; any but those with a status may be missing, for a device that was
// offline leaves them out. release is the one reported, 0 if it is unknown here;
// wanted is the one wished for.
//
//	good          UPDATING(old), PRESENT(new, pending), STARTING, RUNNING(new)
//	              with probation in all but the first, then RUNNING(new) without
//	rolled back   …, FAILED(error), RUNNING(old, canceled)
//	canceled      UPDATING(old), RUNNING or PRESENT(old, canceled)
//	failed        UPDATING(old), FAILED(error), RUNNING(old)
func (u *Update) after(r protocol.StateReport, release uint64, before Reported, wanted uint64) *Update {
	next := func(outcome protocol.UpdateOutcome, reason string) *Update {
		return &Update{From: u.From, To: u.To, Outcome: outcome, Reason: longClip(reason), Arrived: u.Arrived, Stale: u.Stale, At: now()}
	}
	runs := u != nil && u.Outcome == protocol.UpdateRuns
	switch {
	case r.State.Gone():
		return nil
	case r.State == protocol.Updating:
		if wanted == 0 || wanted == before.Release || runs && u.To == wanted {
			return u
		}
		return &Update{From: before.Release, To: wanted, Outcome: protocol.UpdateRuns, Stale: before.UpdateStatus, At: now()}
	case r.UpdateStatus == protocol.UpdatePending && release != 0:
		switch {
		case runs:
			u = next(u.Outcome, "")
			u.To = release
		case before.Release != 0 && before.Release != release:
			u = &Update{From: before.Release, To: release, Outcome: protocol.UpdateRuns, At: now()}
		default:
			return u
		}
		if !r.Probation {
			u.Outcome = protocol.UpdateDone
		}
		u.Arrived = true
		return u
	case u == nil:
	case r.State == protocol.Failed:
		if runs {
			return next(protocol.UpdateFailed, r.Error)
		}
	case runs && u.Arrived && release == u.To && !r.Probation:
		return next(protocol.UpdateDone, "")
	case release == 0 || release != u.From || r.State != protocol.Running && r.State != protocol.Present:
	case runs:
		return next(protocol.UpdateStopped, "")
	case u.Outcome == protocol.UpdateDone:
		return next(protocol.UpdateRolledBack, before.Error)
	case u.Outcome == protocol.UpdateFailed && (u.Arrived || r.UpdateStatus == protocol.UpdateCanceled && u.Stale != protocol.UpdateCanceled):
		// Where the new version was not reported, it is an agent that waits until
		// it has stayed up.
		return next(protocol.UpdateRolledBack, u.Reason)
	}
	return u
}
