package store

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"reagent/persistence"
	"reagent/protocol"
)

// A Wish is what is wanted of an app on a device.
type Wish struct {
	Target      protocol.State `json:"target"`
	Release     uint64         `json:"release"`               // the version wanted, of stage PROD
	Compose     map[string]any `json:"compose,omitempty"`     // definition of a DEV copy; nil = one container
	Publication *Publication   `json:"publication,omitempty"` // what a DEV copy is to be published as
	Environment map[string]any `json:"environment,omitempty"` // NAME -> {"value": …}
	Requestor   uint64         `json:"requestor"`             // account
	CredEpoch   uint64         `json:"cred_epoch"`            // generation of the app's credential, from 1
	Wished      time.Time      `json:"wished"`
}

// A Publication is a version that a device is to build and push. It stays until
// the device said PUBLISHED, or a newer wish takes it back.
type Publication struct {
	Version string         `json:"version"`
	Compose map[string]any `json:"compose,omitempty"`
}

// Reported is what a device said about an app.
type Reported struct {
	State        protocol.State        `json:"state"`
	Release      uint64                `json:"release,omitempty"` // installed; 0 = none
	UpdateStatus protocol.UpdateStatus `json:"update_status,omitempty"`
	Error        string                `json:"error,omitempty"`
	Ports        []protocol.PortRule   `json:"ports,omitempty"`
	Update       *Update               `json:"update,omitempty"` // the last one
	At           time.Time             `json:"at"`
}

// Installed reports whether a version of the app is on the device.
func (r Reported) Installed() bool { return r.Release != 0 && !r.State.Gone() && r.State != "" }

// PastState is one report.
type PastState struct {
	State        protocol.State        `json:"state"`
	Release      uint64                `json:"release,omitempty"`
	UpdateStatus protocol.UpdateStatus `json:"update_status,omitempty"`
	Error        string                `json:"error,omitempty"`
	At           time.Time             `json:"at"`
}

const keepHistory = 100 // of one app on one device

// OnDevice is an app on a device with all that is known of it.
type OnDevice struct {
	Device uint64
	ID     protocol.AppID
	App    App // empty if the app is unknown
	Wish   Wish
	Wished bool // Wish is there
	State  Reported
	// Wanted and Present are the releases of Wish and State, empty if unknown.
	Wanted, Present Release
	// From and To are those of the last update.
	From, To Release
}

// stages are those that an app can be on a device in.
var stages = []protocol.Stage{protocol.Dev, protocol.Prod}

func at(device uint64, stage protocol.Stage) []string {
	return []string{persistence.Name(device), string(stage)}
}

// Wish changes what is wanted of an app on a device. change gets the wish as it
// is, empty if there is none.
func (s *Store) Wish(device uint64, id protocol.AppID, change func(w *Wish, now OnDevice) error) (OnDevice, error) {
	return update(s, func(tx *persistence.Tx) (OnDevice, error) {
		o := onDevice(tx, device, id)
		if _, ok := devices.Get(tx, persistence.Key(device)); !ok {
			return o, notFound("device", fmt.Sprint(device))
		}
		w := o.Wish
		w.Environment = maps.Clone(w.Environment)
		if err := change(&w, o); err != nil {
			return o, err
		}
		w.Wished, w.CredEpoch = now(), max(w.CredEpoch, 1)
		if err := wishes.In(at(device, id.Stage)...).Put(tx, persistence.Key(id.Key), w); err != nil {
			return o, err
		}
		return onDevice(tx, device, id), nil
	})
}

// Report notes a state that a device reported. A wish that is fulfilled by the
// app being gone is forgotten; one to build or to publish, which is done once, is
// fulfilled by it being done.
func (s *Store) Report(device uint64, r protocol.StateReport) (OnDevice, error) {
	return update(s, func(tx *persistence.Tx) (OnDevice, error) {
		id := protocol.AppID{Key: r.AppKey, Stage: r.Stage}
		o := onDevice(tx, device, id)
		if o.App.Key == 0 {
			return o, nil // not an app of ours: nothing to keep
		}
		said := o.State
		said.State, said.UpdateStatus, said.Error, said.At = r.State, r.UpdateStatus, reason(r.Error), now()
		release := r.ReleaseKey
		if _, known := releases.In(persistence.Name(id.Key)).Get(tx, persistence.Key(release)); !known {
			release = 0
		}
		said.Update = o.State.Update.after(r, release, o.State, o.Wish.Release)
		switch {
		case r.State.Gone():
			said.Release = 0
		case release != 0:
			said.Release = release
		}
		if err := states.In(at(device, id.Stage)...).Put(tx, persistence.Key(id.Key), said); err != nil {
			return o, err
		}
		if err := remember(tx, device, id, said); err != nil {
			return o, err
		}
		if err := fulfil(tx, o, said); err != nil {
			return o, err
		}
		gone := o.Wished && o.Wish.Target == said.State && said.State.Gone()
		o = onDevice(tx, device, id)
		if !gone {
			return o, nil
		}
		if err := wishes.In(at(device, id.Stage)...).Delete(tx, persistence.Key(id.Key)); err != nil {
			return o, err
		}
		return o, states.In(at(device, id.Stage)...).Delete(tx, persistence.Key(id.Key))
	})
}

// fulfil takes back what was to be done once and is done: a device that lost its
// memory is not to do it again. What is left is the wish that it stays there.
func fulfil(tx *persistence.Tx, o OnDevice, said Reported) error {
	w := o.Wish
	switch {
	case !o.Wished || said.Error != "" || said.State != protocol.Built && said.State != protocol.Published:
		return nil
	case said.State == protocol.Published:
		w.Publication = nil
	}
	if w.Target == said.State {
		w.Target = protocol.Present
	}
	return wishes.In(at(o.Device, o.ID.Stage)...).Put(tx, persistence.Key(o.ID.Key), w)
}

// reason bounds what a device says about a failure: the end of a build's log fits.
func reason(text string) string {
	const most = 4 << 10
	if len(text) <= most {
		return text
	}
	return "…" + strings.ToValidUTF8(text[len(text)-most:], "")
}

// remember adds a state to the history, unless it is there as the last.
func remember(tx *persistence.Tx, device uint64, id protocol.AppID, said Reported) error {
	bucket := history.In(append(at(device, id.Stage), persistence.Name(id.Key))...)
	past := PastState{said.State, said.Release, said.UpdateStatus, said.Error, said.At}
	for _, last := range bucket.Backward(tx) {
		last.At = past.At
		if last == past {
			return nil
		}
		break
	}
	n, err := bucket.Add(tx, past)
	if err != nil {
		return err
	}
	return bucket.Raw().Trim(tx, n, keepHistory)
}

// ReportPorts notes the rules with the ports that a device assigned.
func (s *Store) ReportPorts(device uint64, id protocol.AppID, ports []protocol.PortRule) (OnDevice, error) {
	return update(s, func(tx *persistence.Tx) (OnDevice, error) {
		o := onDevice(tx, device, id)
		if o.App.Key == 0 {
			return o, nil
		}
		said := o.State
		said.Ports = ports
		if said.At.IsZero() {
			said.At = now()
		}
		if err := states.In(at(device, id.Stage)...).Put(tx, persistence.Key(id.Key), said); err != nil {
			return o, err
		}
		return onDevice(tx, device, id), nil
	})
}

// AppOn tells all that is known of an app on a device.
func (s *Store) AppOn(device uint64, id protocol.AppID) (OnDevice, error) {
	return view(s, func(tx *persistence.Tx) (OnDevice, error) { return onDevice(tx, device, id), nil })
}

func onDevice(tx *persistence.Tx, device uint64, id protocol.AppID) OnDevice {
	key := persistence.Key(id.Key)
	o := OnDevice{Device: device, ID: id}
	o.App, _ = apps.Get(tx, key)
	o.Wish, o.Wished = wishes.In(at(device, id.Stage)...).Get(tx, key)
	o.State, _ = states.In(at(device, id.Stage)...).Get(tx, key)
	of := releases.In(persistence.Name(id.Key))
	o.Wanted, _ = of.Get(tx, persistence.Key(o.Wish.Release))
	o.Present, _ = of.Get(tx, persistence.Key(o.State.Release))
	if u := o.State.Update; u != nil {
		o.From, _ = of.Get(tx, persistence.Key(u.From))
		o.To, _ = of.Get(tx, persistence.Key(u.To))
	}
	return o
}

// AppsOn lists the apps on a device: those wished for and those reported.
func (s *Store) AppsOn(device uint64) ([]OnDevice, error) {
	return view(s, func(tx *persistence.Tx) ([]OnDevice, error) {
		var all []OnDevice
		for _, stage := range stages {
			seen := map[uint64]bool{}
			for key := range wishes.In(at(device, stage)...).Raw().All(tx) {
				n, _ := persistence.Number(key)
				seen[n] = true
				all = append(all, onDevice(tx, device, protocol.AppID{Key: n, Stage: stage}))
			}
			for key := range states.In(at(device, stage)...).Raw().All(tx) {
				if n, _ := persistence.Number(key); !seen[n] {
					all = append(all, onDevice(tx, device, protocol.AppID{Key: n, Stage: stage}))
				}
			}
		}
		return all, nil
	})
}

// History lists the last states that a device reported of an app, oldest first.
func (s *Store) History(device uint64, id protocol.AppID, most int) ([]PastState, error) {
	return view(s, func(tx *persistence.Tx) (all []PastState, _ error) {
		for _, past := range history.In(append(at(device, id.Stage), persistence.Name(id.Key))...).Backward(tx) {
			if len(all) == most {
				break
			}
			all = append([]PastState{past}, all...)
		}
		return all, nil
	})
}

// hasApp reports whether an app is wished for on a device, and in which generation
// its credential is.
func hasApp(tx *persistence.Tx, device uint64, id protocol.AppID) (epoch uint64, ok bool) {
	w, ok := wishes.In(at(device, id.Stage)...).Get(tx, persistence.Key(id.Key))
	return max(w.CredEpoch, 1), ok
}

// MayPull reports whether a device or an account may read the images of an app.
func (s *Store) MayPull(authid string, app uint64) bool {
	if d, ok := s.DeviceByAuthID(authid); ok {
		ok, err := view(s, func(tx *persistence.Tx) (bool, error) {
			for _, stage := range stages {
				if _, ok := hasApp(tx, d.Key, protocol.AppID{Key: app, Stage: stage}); ok {
					return true, nil
				}
			}
			return false, nil
		})
		return ok && err == nil
	}
	return s.MayPush(authid, app)
}

// MayPush reports whether an account may change an app: the administrator and its
// owner may.
func (s *Store) MayPush(authid string, app uint64) bool {
	ok, err := view(s, func(tx *persistence.Tx) (bool, error) {
		a, ok := accountOf(tx, authid)
		if !ok {
			return false, nil
		}
		owned, ok := apps.Get(tx, persistence.Key(app))
		return ok && (a.Administrator() || owned.Owner == a.Key), nil
	})
	return ok && err == nil
}

// MayPublish tells of which architecture, and as which version, a device may push
// images of an app now: what somebody who may push them wished of it.
func (s *Store) MayPublish(authid string, app uint64) (arch, version string, ok bool) {
	d, known := s.DeviceByAuthID(authid)
	if !known {
		return "", "", false
	}
	o, err := s.AppOn(d.Key, protocol.AppID{Key: app, Stage: protocol.Dev})
	if err != nil || o.Wish.Publication == nil || !s.MayPush(strconv.FormatUint(o.Wish.Requestor, 10), app) {
		return "", "", false
	}
	return d.Architecture, o.Wish.Publication.Version, true
}

// accountOf finds the account that logs in under an authid.
func accountOf(tx *persistence.Tx, authid string) (Account, bool) {
	if authid == "" || strings.Trim(authid, "0123456789") != "" {
		return Account{}, false
	}
	key, _ := protocol.Uint(authid)
	a, ok := accounts.Get(tx, persistence.Key(key))
	return a, ok && a.AuthID() == authid
}
