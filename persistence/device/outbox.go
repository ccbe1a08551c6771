package device

import (
	"bytes"
	"cmp"
	"fmt"
	"iter"
	"slices"
	"time"

	"reagent/persistence"
	"reagent/protocol"
)

// An Outgoing report is to be delivered to the studio.
type Outgoing struct {
	Report protocol.StateReport
	// Coalesce drops the older reports of the same app that are still there,
	// those to keep apart.
	Coalesce bool
	// Keep lets no newer report take the place of this one, because it carries
	// a new update status.
	Keep bool
}

// A PortsEntry is a report of an app's ports that the studio has not confirmed.
type PortsEntry struct {
	Seq    uint64               `json:"-"` // position in the outbox, assigned by the store
	Report protocol.PortsReport `json:"report"`
	Time   time.Time            `json:"time"`
}

// keepReports bounds the reports that wait for one app. A studio that is away
// for a month learns where an app is, not each step of a crash loop.
const keepReports = 64

const (
	formState = "state"
	formPorts = "ports"
)

// A posted report is a Report as it is stored.
type posted struct {
	Report
	Keep bool `json:"keep,omitempty"`
}

var (
	outbox      = persistence.RawBucket("outbox")
	stateOutbox = persistence.NewBucket[posted](1, "outbox")
	portsOutbox = persistence.NewBucket[PortsEntry](1, "outbox")
)

// box is the outbox of an app for one form of reports.
func box[T any](b persistence.Bucket[T], id protocol.AppID, form string) persistence.Bucket[T] {
	return b.In(string(id.Stage), persistence.Name(id.Key), form)
}

// post appends reports to the outboxes of their apps.
func post(tx *persistence.Tx, out []Outgoing) error {
	for _, o := range out {
		id := protocol.AppID{Key: o.Report.AppKey, Stage: o.Report.Stage}
		if err := valid(id); err != nil {
			return fmt.Errorf("report: %w", err)
		}
		b := box(stateOutbox, id, formState)
		n, err := outbox.Next(tx)
		if err != nil {
			return err
		}
		for _, key := range superseded(tx, b, o.Coalesce) {
			if err := b.Delete(tx, key); err != nil {
				return err
			}
		}
		err = b.Put(tx, persistence.Key(n), posted{Report{State: o.Report, Time: time.Now().UTC()}, o.Keep})
		if err != nil {
			return err
		}
	}
	return nil
}

// superseded lists the reports of an app that a new one takes the place of. An
// outbox that is full coalesces unasked, and gives up what was to be kept last.
func superseded(tx *persistence.Tx, b persistence.Bucket[posted], coalesce bool) (drop [][]byte) {
	var loose, kept [][]byte
	for key, p := range b.All(tx) {
		if p.Keep {
			kept = append(kept, bytes.Clone(key))
		} else {
			loose = append(loose, bytes.Clone(key))
		}
	}
	if coalesce || len(loose)+len(kept) >= keepReports {
		drop = loose
	}
	return append(drop, kept[:max(0, len(kept)-(keepReports-1))]...)
}

// SavePorts stores the ports of an app for the studio in the place of an older
// report of them.
func (s *Store) SavePorts(r protocol.PortsReport) error {
	id := protocol.AppID{Key: r.AppKey, Stage: r.Stage}
	if err := valid(id); err != nil {
		return fmt.Errorf("ports: %w", err)
	}
	err := s.db.Update(func(tx *persistence.Tx) error {
		b := box(portsOutbox, id, formPorts)
		for _, old := range b.All(tx) {
			if slices.Equal(old.Report.Ports, r.Ports) && old.Report.DeviceKey == r.DeviceKey && old.Report.SwarmKey == r.SwarmKey {
				return nil
			}
		}
		if err := b.Raw().Remove(tx); err != nil {
			return err
		}
		n, err := outbox.Next(tx)
		if err != nil {
			return err
		}
		return b.Put(tx, persistence.Key(n), PortsEntry{Report: r, Time: time.Now().UTC()})
	})
	if err != nil {
		return fmt.Errorf("store the ports of %s: %w", id, err)
	}
	return nil
}

// Outbox lists what the studio has not confirmed, each list in the order in
// which its reports were accepted, over all apps.
func (s *Store) Outbox() (states []Report, ports []PortsEntry, err error) {
	err = s.db.View(func(tx *persistence.Tx) error {
		for id := range apps(tx) {
			for key, p := range box(stateOutbox, id, formState).All(tx) {
				p.ID, _ = persistence.Number(key)
				states = append(states, p.Report)
			}
			for key, p := range box(portsOutbox, id, formPorts).All(tx) {
				p.Seq, _ = persistence.Number(key)
				ports = append(ports, p)
			}
		}
		return nil
	})
	slices.SortFunc(states, func(a, b Report) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(ports, func(a, b PortsEntry) int { return cmp.Compare(a.Seq, b.Seq) })
	return states, ports, err
}

// Confirm removes a report of a state that was delivered. One that is no longer
// there was superseded meanwhile; that is no error.
func (s *Store) Confirm(id uint64) error {
	return s.db.Update(func(tx *persistence.Tx) error {
		for app := range apps(tx) {
			if raw := box(stateOutbox, app, formState).Raw(); raw.Get(tx, persistence.Key(id)) != nil {
				return clear(tx, app, raw, id)
			}
		}
		return nil
	})
}

// ConfirmPorts removes the report of an app's ports that was delivered, not a
// newer one.
func (s *Store) ConfirmPorts(id protocol.AppID, seq uint64) error {
	if err := valid(id); err != nil {
		return err
	}
	return s.db.Update(func(tx *persistence.Tx) error {
		return clear(tx, id, box(portsOutbox, id, formPorts).Raw(), seq)
	})
}

// clear takes one report out, and the app's outbox with the last one: apps come
// and go.
func clear(tx *persistence.Tx, id protocol.AppID, b persistence.Raw, seq uint64) error {
	if err := b.Delete(tx, persistence.Key(seq)); err != nil {
		return err
	}
	if !b.Empty(tx) {
		return nil
	}
	if err := b.Remove(tx); err != nil {
		return err
	}
	if of := outbox.In(string(id.Stage), persistence.Name(id.Key)); of.Empty(tx) {
		return of.Remove(tx)
	}
	return nil
}

// apps goes through the apps that have something in the outbox.
func apps(tx *persistence.Tx) iter.Seq[protocol.AppID] {
	return func(yield func(protocol.AppID) bool) {
		for _, stage := range outbox.Names(tx) {
			for _, name := range outbox.In(stage).Names(tx) {
				key, ok := persistence.Number([]byte(name))
				if ok && !yield(protocol.AppID{Key: key, Stage: protocol.Stage(stage)}) {
					return
				}
			}
		}
	}
}
