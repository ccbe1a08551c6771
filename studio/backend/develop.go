package backend

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"reagent/protocol"
	"reagent/studio/store"
)

// developTargets are the states that a DEV copy can be wished into. Published is
// for publish_app, which says as what.
var developTargets = []protocol.State{protocol.Built, protocol.Running, protocol.Present, protocol.Removed, protocol.Uninstalled}

// develop wishes a state of a DEV copy.
func (b *Backend) develop(ctx context.Context, c caller, in protocol.DevelopApp) (protocol.Wished, error) {
	a, err := b.ownApp(c, in.App)
	if err != nil {
		return protocol.Wished{}, err
	}
	if in.Cancel && in.Target == "" {
		in.Target = protocol.Removed
	}
	if !slices.Contains(developTargets, in.Target) {
		return protocol.Wished{}, invalid("target %.40q is none of %v", in.Target, developTargets)
	}
	if err := authored(a, in.Compose); err != nil {
		return protocol.Wished{}, err
	}
	if err := checkCredentials(in.Credentials); err != nil {
		return protocol.Wished{}, err
	}
	return b.wish(ctx, c, wanted{
		app: a, device: in.Device, stage: protocol.Dev, with: direct(in.Credentials, in.Cancel),
		change: func(_ store.Device, w *store.Wish, now store.OnDevice) (err error) {
			if in.Target != protocol.Built && !now.Wished && now.State.State == "" {
				return fault(protocol.CodeNotFound, "the device has no DEV copy of the app %q: build one first", a.Name)
			}
			if in.Target == protocol.Built || in.Compose != nil {
				w.Compose = in.Compose
			}
			if in.Target == protocol.Built || in.Target.Gone() {
				w.Publication = nil // what it is made of is another thing now
			}
			w.Target = in.Target
			w.Environment, err = changeEnvironment(w.Environment, in.Environment)
			return err
		},
	})
}

// publishVersion wishes that a device builds a version and pushes it.
func (b *Backend) publishVersion(ctx context.Context, c caller, in protocol.PublishApp) (protocol.Wished, error) {
	a, err := b.ownApp(c, in.App)
	if err != nil {
		return protocol.Wished{}, err
	}
	if err := authored(a, in.Compose); err != nil {
		return protocol.Wished{}, err
	}
	if err := checkCredentials(in.Credentials); err != nil {
		return protocol.Wished{}, err
	}
	return b.wish(ctx, c, wanted{
		app: a, device: in.Device, stage: protocol.Dev, with: direct(in.Credentials, false),
		change: func(d store.Device, w *store.Wish, _ store.OnDevice) error {
			if d.AgentVersion == "" {
				return conflicts("the device %q never said of which architecture it is: it has to come online first", d.Name)
			}
			if err := store.CheckRelease(store.Release{Version: in.Version, Architectures: []string{d.Architecture}}); err != nil {
				return err
			}
			if err := b.publishable(a, d, in); err != nil {
				return err
			}
			w.Target, w.Compose = protocol.Published, in.Compose
			w.Publication = &store.Publication{Version: in.Version, Compose: in.Compose}
			return nil
		},
	})
}

// publishable refuses to put something else in the place of a version: devices
// that have it would not notice.
func (b *Backend) publishable(a store.App, d store.Device, in protocol.PublishApp) error {
	there, err := b.store.Release(a.Key, in.Version)
	var none *protocol.Error
	switch {
	case errors.As(err, &none) && none.Code == protocol.CodeNotFound:
		return nil
	case err != nil:
		return err
	case (there.Compose != nil) != (in.Compose != nil):
		return conflicts("version %q of the app is a %s app: take another version", in.Version, there.Kind())
	case slices.Contains(there.Architectures, d.Architecture) && !in.Replace:
		return conflicts("version %q of the app has an image for %s already, and devices that have it would not notice a new one: take another version, or say replace", in.Version, d.Architecture)
	}
	return nil
}

// published enters the version that a device has pushed. What is wrong with it is
// the answer, for people; an error is for the device to say it again.
func (b *Backend) published(ctx context.Context, d store.Device, o store.OnDevice) (problem string, err error) {
	p := o.Wish.Publication
	if o.ID.Stage != protocol.Dev || p == nil {
		return "", nil
	}
	definition, err := republished(o.App, p.Compose)
	if err == nil {
		err = b.enter(ctx, o.App, store.Release{
			App: o.App.Key, Version: p.Version, Architectures: []string{d.Architecture}, Compose: definition,
		})
	}
	var known *protocol.Error
	if errors.As(err, &known) {
		b.log.Warn().Err(err).Str("device", d.Name).Str("app", o.App.Name).Str("version", p.Version).Msg("published version not entered")
		return fmt.Sprintf("version %s was not entered: %s", p.Version, known.Text), nil
	}
	return "", err
}

const mostCredentials = 100

// checkCredentials refuses logins that the device would refuse.
func checkCredentials(all map[string]protocol.RegistryCredential) error {
	if len(all) > mostCredentials {
		return invalid("credentials: more than %d registries", mostCredentials)
	}
	for host := range all {
		if host == "" || len(host) > 255 {
			return invalid("credentials: %.40q is no registry", host)
		}
	}
	return nil
}

// direct is what a device is told with a wish, and what is kept nowhere.
func direct(credentials map[string]protocol.RegistryCredential, cancel bool) map[string]any {
	with := map[string]any{}
	if len(credentials) > 0 {
		with["docker_credentials"] = protocol.Wire(credentials)
	}
	if cancel {
		with["cancel_transition"] = true
	}
	return with
}
