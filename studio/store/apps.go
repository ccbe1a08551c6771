package store

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"reagent/persistence"
	"reagent/protocol"
)

// An App is an app; its images are named after its key and its name. Ports and
// Template are those of its DEV copies, and what a new release inherits.
type App struct {
	Key      uint64              `json:"key"`
	Name     string              `json:"name"`
	Owner    uint64              `json:"owner"`
	Ports    []protocol.PortRule `json:"ports,omitempty"`
	Template map[string]any      `json:"template,omitempty"` // NAME -> {"defaultValue": …}
	Created  time.Time           `json:"created"`
}

// CreateApp makes an app.
func (s *Store) CreateApp(name string, owner uint64) (App, error) {
	if err := protocol.CheckAppName(name); err != nil {
		return App{}, invalid("%s", err)
	}
	if err := checkName("app", name); err != nil {
		return App{}, err
	}
	return update(s, func(tx *persistence.Tx) (App, error) {
		key, err := apps.Raw().Next(tx)
		if err != nil {
			return App{}, err
		}
		if err := claim(tx, appNames, "app", name, key); err != nil {
			return App{}, err
		}
		a := App{Key: key, Name: name, Owner: owner, Created: now()}
		return a, apps.Put(tx, persistence.Key(key), a)
	})
}

// App finds an app by name or key.
func (s *Store) App(ref string) (App, error) {
	return view(s, func(tx *persistence.Tx) (App, error) { return findApp(tx, ref) })
}

func findApp(tx *persistence.Tx, ref string) (App, error) {
	if key, ok := lookup(tx, appNames, ref); ok {
		if a, ok := apps.Get(tx, persistence.Key(key)); ok {
			return a, nil
		}
	}
	return App{}, notFound("app", ref)
}

// Apps lists all apps.
func (s *Store) Apps() ([]App, error) {
	return view(s, func(tx *persistence.Tx) (all []App, _ error) {
		for _, a := range apps.All(tx) {
			all = append(all, a)
		}
		return all, nil
	})
}

// ChangeApp changes the ports and the template of an app.
func (s *Store) ChangeApp(key uint64, change func(*App) error) (App, error) {
	return update(s, func(tx *persistence.Tx) (App, error) {
		a, ok := apps.Get(tx, persistence.Key(key))
		if !ok {
			return a, notFound("app", strconv.FormatUint(key, 10))
		}
		changed := a
		changed.Ports, changed.Template = slices.Clone(a.Ports), maps.Clone(a.Template)
		if err := change(&changed); err != nil {
			return a, err
		}
		a.Ports, a.Template = changed.Ports, changed.Template
		return a, apps.Put(tx, persistence.Key(key), a)
	})
}

// DeleteApp removes an app with its releases. One that is on a device, or is
// wanted there, is refused.
func (s *Store) DeleteApp(key uint64) (App, error) {
	return update(s, func(tx *persistence.Tx) (App, error) {
		a, ok := apps.Get(tx, persistence.Key(key))
		if !ok {
			return a, notFound("app", strconv.FormatUint(key, 10))
		}
		for _, d := range devices.All(tx) {
			for _, stage := range stages {
				if o := onDevice(tx, d.Key, protocol.AppID{Key: key, Stage: stage}); o.Wished || o.State.State != "" && !o.State.State.Gone() {
					return a, conflict("the app %q is on the device %q: remove it there first", a.Name, d.Name)
				}
			}
		}
		for _, d := range devices.All(tx) {
			for _, stage := range stages {
				if err := forgetOn(tx, d.Key, protocol.AppID{Key: key, Stage: stage}); err != nil {
					return a, err
				}
			}
		}
		for _, gone := range []error{
			releases.In(persistence.Name(key)).Raw().Remove(tx),
			appNames.Delete(tx, lowerKey(a.Name)),
			apps.Delete(tx, persistence.Key(key)),
		} {
			if gone != nil {
				return a, gone
			}
		}
		return a, nil
	})
}

// forgetOn removes what is known of an app on a device.
func forgetOn(tx *persistence.Tx, device uint64, id protocol.AppID) error {
	if err := states.In(at(device, id.Stage)...).Delete(tx, persistence.Key(id.Key)); err != nil {
		return err
	}
	return history.In(append(at(device, id.Stage), persistence.Name(id.Key))...).Raw().Remove(tx)
}
