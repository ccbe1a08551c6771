package backend

import (
	"encoding/json"
	"maps"

	"reagent/protocol"
	"reagent/studio/store"
)

// Definitions of compose apps are kept as their authors wrote them, but for what
// devices cannot use, and written out for each device: the images in the studio's
// registry are named after the architecture (life §3.1).
//
//	             service with "build"       service with "image"
//	release      – (was pushed)             the author's, or pushed: then it has no "image"
//	DEV copy     dev_<arch>_…_<service>     the author's
//	publication  prod_<arch>_…:<version>    prod_<arch>_…:<version>, x-source-image: the author's

// mostDefinition bounds a definition, as JSON.
const mostDefinition = 256 << 10

// checkDefinition refuses a definition that could not be an app's. Nil is none.
func checkDefinition(a store.App, definition map[string]any) (services map[string]map[string]any, err error) {
	if definition == nil {
		return nil, nil
	}
	if raw, err := json.Marshal(definition); err != nil || len(raw) > mostDefinition {
		return nil, invalid("the compose definition is larger than %d bytes", mostDefinition)
	}
	if services, err = protocol.ComposeServices(a.Name, definition); err != nil {
		return nil, invalid("%v", err)
	}
	return services, nil
}

// authored checks a definition that a device is to build.
func authored(a store.App, definition map[string]any) error {
	services, err := checkDefinition(a, definition)
	for name, s := range services {
		if s["build"] == nil && s["image"] == nil && s["x-source-image"] == nil {
			return invalid("the service %q has neither \"build\" nor \"image\"", name)
		}
	}
	return err
}

// released is a definition as a release keeps it. What has a build, or no image,
// was pushed for each architecture.
func released(a store.App, definition map[string]any) (map[string]any, error) {
	services, err := checkDefinition(a, definition)
	if err != nil || services == nil {
		return nil, err
	}
	return rewritten(definition, services, func(_ string, s map[string]any) {
		if s["build"] != nil {
			delete(s, "image")
		}
		delete(s, "build")
		delete(s, "x-source-image")
	}), nil
}

// republished is a definition as the release keeps it that a device published: all
// its images were pushed.
func republished(a store.App, definition map[string]any) (map[string]any, error) {
	services, err := checkDefinition(a, definition)
	if err != nil || services == nil {
		return nil, err
	}
	return rewritten(definition, services, func(_ string, s map[string]any) {
		delete(s, "image")
		delete(s, "build")
		delete(s, "x-source-image")
	}), nil
}

// rewritten is a copy of a definition with its services changed.
func rewritten(definition map[string]any, services map[string]map[string]any, change func(name string, s map[string]any)) map[string]any {
	all := make(map[string]any, len(services))
	for name, s := range services {
		s = maps.Clone(s)
		change(name, s)
		all[name] = s
	}
	out := maps.Clone(definition)
	out["services"] = all
	return out
}

// renderable reports whether a wish can be told: the images of a compose app are
// those of an architecture, which a device that never came has not said.
func renderable(d store.Device, o store.OnDevice) bool {
	compose := o.Wanted.Compose != nil || o.Present.Compose != nil || o.Wish.Compose != nil || o.Wish.Publication != nil
	return d.AgentVersion != "" || !compose
}

// render writes the services of a definition out for a device. Nil, which is a
// single app, stays so; it is an explicit null on the wire.
func (b *Backend) render(a store.App, definition map[string]any, change func(name string, s map[string]any)) any {
	services, err := checkDefinition(a, definition)
	if err != nil || services == nil { // what was written down was checked
		return nil
	}
	return rewritten(definition, services, change)
}

// ofRelease is a release's definition for a device.
func (b *Backend) ofRelease(d store.Device, a store.App, r store.Release) any {
	return b.render(a, r.Compose, func(name string, s map[string]any) {
		if s["image"] == nil {
			s["image"] = b.image(protocol.Prod, d, a, name) + ":" + r.Version
		}
	})
}

// ofCopy is the definition of a DEV copy.
func (b *Backend) ofCopy(d store.Device, a store.App, definition map[string]any) any {
	return b.render(a, definition, func(name string, s map[string]any) {
		switch {
		case s["build"] != nil:
			s["image"] = b.image(protocol.Dev, d, a, name)
		case s["image"] == nil:
			s["image"] = s["x-source-image"]
		}
		delete(s, "x-source-image")
	})
}

// ofPublication is the definition that a device builds and pushes.
func (b *Backend) ofPublication(d store.Device, a store.App, p store.Publication) any {
	return b.render(a, p.Compose, func(name string, s map[string]any) {
		switch {
		case s["build"] != nil:
			delete(s, "x-source-image")
		case s["x-source-image"] == nil:
			s["x-source-image"] = s["image"]
		}
		s["image"] = b.image(protocol.Prod, d, a, name) + ":" + p.Version
	})
}

// image is the name of a service's image in the studio's registry.
func (b *Backend) image(stage protocol.Stage, d store.Device, a store.App, service string) string {
	_, registry, _ := b.outside()
	return protocol.RegistryServiceImage(registry, protocol.MainRepository, stage, d.Architecture, a.Key, a.Name, service)
}
