package store

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"reagent/persistence"
	"reagent/protocol"
)

// An App is an app; its images are named after its key and its name.
type App struct {
	Key     uint64    `json:"key"`
	Name    string    `json:"name"`
	Owner   uint64    `json:"owner"`
	Created time.Time `json:"created"`
}

// A Release is one version of an app.
type Release struct {
	Key           uint64              `json:"key"`
	App           uint64              `json:"app"`
	Version       string              `json:"version"`
	Architectures []string            `json:"architectures"`
	Ports         []protocol.PortRule `json:"ports"`
	Template      map[string]any      `json:"template"` // NAME -> {"defaultValue": …}
	Created       time.Time           `json:"created"`
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

// AddRelease enters a version. The same version again adds its architectures, and
// replaces ports and template unless they are nil.
func (s *Store) AddRelease(app uint64, version string, architectures []string, ports []protocol.PortRule, template map[string]any) (Release, error) {
	if version == "" {
		return Release{}, invalid("the version is empty")
	}
	if err := protocol.CheckVersion(version); err != nil {
		return Release{}, invalid("%s", err)
	}
	if len(architectures) == 0 {
		return Release{}, invalid("a release needs the architecture of an image")
	}
	for _, arch := range architectures {
		if arch == "" || len(arch) > 16 || strings.Trim(arch, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return Release{}, invalid("architecture %q: use one such as amd64, arm64 or armv7", clip(arch))
		}
	}
	return update(s, func(tx *persistence.Tx) (Release, error) {
		if _, ok := apps.Get(tx, persistence.Key(app)); !ok {
			return Release{}, notFound("app", strconv.FormatUint(app, 10))
		}
		bucket := releases.In(persistence.Name(app))
		r := Release{App: app, Version: version, Created: now(), Ports: []protocol.PortRule{}, Template: map[string]any{}}
		for _, old := range bucket.All(tx) {
			if old.Version == version {
				r = old
			}
		}
		if r.Key == 0 {
			key, err := releases.Raw().Next(tx)
			if err != nil {
				return r, err
			}
			r.Key = key
		}
		r.Architectures = append(r.Architectures, architectures...)
		slices.Sort(r.Architectures)
		r.Architectures = slices.Compact(r.Architectures)
		if ports != nil {
			r.Ports = ports
		}
		if template != nil {
			r.Template = template
		}
		return r, bucket.Put(tx, persistence.Key(r.Key), r)
	})
}

// Releases lists the versions of an app, oldest first.
func (s *Store) Releases(app uint64) ([]Release, error) {
	return view(s, func(tx *persistence.Tx) ([]Release, error) { return releasesOf(tx, app), nil })
}

func releasesOf(tx *persistence.Tx, app uint64) (all []Release) {
	for _, r := range releases.In(persistence.Name(app)).All(tx) {
		all = append(all, r)
	}
	return all
}

// Release finds a version of an app; "" is the newest.
func (s *Store) Release(app uint64, version string) (Release, error) {
	all, err := s.Releases(app)
	if err != nil {
		return Release{}, err
	}
	if version == "" && len(all) > 0 {
		return all[len(all)-1], nil
	}
	for _, r := range all {
		if r.Version == version {
			return r, nil
		}
	}
	if len(all) == 0 {
		return Release{}, &protocol.Error{Code: protocol.CodeNotFound, Text: "the app has no version yet: push one"}
	}
	known := make([]string, 0, len(all))
	for _, r := range all[max(0, len(all)-10):] {
		known = append(known, r.Version)
	}
	return Release{}, &protocol.Error{Code: protocol.CodeNotFound, Text: fmt.Sprintf("the app has no version %q; it has %s", clip(version), strings.Join(known, ", "))}
}
