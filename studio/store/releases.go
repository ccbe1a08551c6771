package store

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"reagent/persistence"
	"reagent/protocol"
)

// A Release is one version of an app. Compose is the definition of a compose app:
// a service without "image" has one in the studio's registry for each
// architecture.
type Release struct {
	Key           uint64              `json:"key"`
	App           uint64              `json:"app"`
	Version       string              `json:"version"`
	Architectures []string            `json:"architectures"`
	Compose       map[string]any      `json:"compose,omitempty"`
	Ports         []protocol.PortRule `json:"ports"`
	Template      map[string]any      `json:"template"` // NAME -> {"defaultValue": …}
	Created       time.Time           `json:"created"`
}

// Kind is what the release is made of.
func (r Release) Kind() protocol.Kind { return kindOf(r.Compose) }

func kindOf(definition map[string]any) protocol.Kind {
	if definition != nil {
		return protocol.KindCompose
	}
	return protocol.KindSingle
}

// Images names the images of a release that are in the studio's registry, without
// the version, for one architecture.
func (r Release) Images(a App, arch string) []string {
	if r.Compose == nil {
		return []string{protocol.MainRepository + protocol.ImageName(protocol.Prod, arch, a.Key, a.Name)}
	}
	services, _ := protocol.ComposeServices(a.Name, r.Compose) // it was checked when it was entered
	var all []string
	for _, name := range slices.Sorted(maps.Keys(services)) {
		if services[name]["image"] == nil {
			all = append(all, protocol.MainRepository+protocol.ServiceImageName(protocol.Prod, arch, a.Key, a.Name, name))
		}
	}
	return all
}

// Images lists what of the registry belongs to a release: versions by repository.
func (s *Store) Images() (map[string][]string, error) {
	return view(s, func(tx *persistence.Tx) (map[string][]string, error) {
		all := map[string][]string{}
		for _, a := range apps.All(tx) {
			for _, r := range releasesOf(tx, a.Key) {
				for _, arch := range r.Architectures {
					for _, repository := range r.Images(a, arch) {
						all[repository] = append(all[repository], r.Version)
					}
				}
			}
		}
		return all, nil
	})
}

// AddRelease enters a version: r without its Key. The same version again adds its
// architectures, and replaces ports, template and definition unless they are nil;
// a new one takes from the app what is nil.
func (s *Store) AddRelease(r Release) (Release, error) {
	if err := CheckRelease(r); err != nil {
		return Release{}, err
	}
	return update(s, func(tx *persistence.Tx) (Release, error) {
		a, ok := apps.Get(tx, persistence.Key(r.App))
		if !ok {
			return Release{}, notFound("app", strconv.FormatUint(r.App, 10))
		}
		bucket := releases.In(persistence.Name(r.App))
		entry := Release{App: r.App, Version: r.Version, Created: now(), Compose: r.Compose, Ports: a.Ports, Template: a.Template}
		for _, old := range bucket.All(tx) {
			if old.Version == r.Version {
				entry = old
			}
		}
		switch {
		case entry.Key != 0 && entry.Kind() != r.Kind():
			return Release{}, conflict("version %q of the app is a %s app, and this one is a %s app: take another version", r.Version, entry.Kind(), r.Kind())
		case entry.Key == 0:
			key, err := releases.Raw().Next(tx)
			if err != nil {
				return Release{}, err
			}
			entry.Key = key
		}
		entry.Architectures = append(slices.Clone(entry.Architectures), r.Architectures...)
		slices.Sort(entry.Architectures)
		entry.Architectures = slices.Compact(entry.Architectures)
		entry.Compose = r.Compose
		if r.Ports != nil {
			entry.Ports = r.Ports
		}
		if r.Template != nil {
			entry.Template = r.Template
		}
		return entry, bucket.Put(tx, persistence.Key(entry.Key), entry)
	})
}

// CheckRelease refuses a release that could not be entered.
func CheckRelease(r Release) error {
	if r.Version == "" {
		return invalid("the version is empty")
	}
	if err := protocol.CheckVersion(r.Version); err != nil {
		return invalid("%s", err)
	}
	if len(r.Architectures) == 0 {
		return invalid("a release needs the architecture of an image")
	}
	for _, arch := range r.Architectures {
		if arch == "" || len(arch) > 16 || strings.Trim(arch, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return invalid("architecture %q: use one such as amd64, arm64 or armv7", clip(arch))
		}
	}
	return nil
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
	return view(s, func(tx *persistence.Tx) (Release, error) { return findRelease(tx, app, version) })
}

func findRelease(tx *persistence.Tx, app uint64, version string) (Release, error) {
	all := releasesOf(tx, app)
	if len(all) == 0 {
		return Release{}, &protocol.Error{Code: protocol.CodeNotFound, Text: "the app has no version yet: push one"}
	}
	if version == "" {
		return all[len(all)-1], nil
	}
	for _, r := range all {
		if r.Version == version {
			return r, nil
		}
	}
	names := make([]string, 0, 10)
	for _, r := range all[max(0, len(all)-cap(names)):] {
		names = append(names, r.Version)
	}
	return Release{}, &protocol.Error{Code: protocol.CodeNotFound, Text: fmt.Sprintf("the app has no version %q; it has %s", clip(version), strings.Join(names, ", "))}
}

// DeleteRelease removes a version. One that is on a device, or is wanted there,
// is refused.
func (s *Store) DeleteRelease(app uint64, version string) (Release, error) {
	return update(s, func(tx *persistence.Tx) (Release, error) {
		if version == "" {
			return Release{}, invalid("the version is empty")
		}
		r, err := findRelease(tx, app, version)
		if err != nil {
			return r, err
		}
		for _, d := range devices.All(tx) {
			if o := onDevice(tx, d.Key, protocol.AppID{Key: app, Stage: protocol.Prod}); o.Wanted.Key == r.Key || o.Present.Key == r.Key && o.State.Installed() {
				return r, conflict("version %q of %q is on the device %q, or is to come there", version, o.App.Name, d.Name)
			}
		}
		return r, releases.In(persistence.Name(app)).Delete(tx, persistence.Key(r.Key))
	})
}
