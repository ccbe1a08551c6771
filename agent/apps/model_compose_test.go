package apps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"reagent/container"
)

// A smallCompose runs projects on a small engine: a container for each service,
// one after another, made anew when anything that it is made from has changed.
// It is a program that the agent starts and that ends with it, so that each of
// its steps is a call of the agent's life.
type smallCompose struct {
	l *life
	e *smallEngine
}

// A smallService is what a small compose knows of a service.
type smallService struct {
	Image  string            `json:"image"`
	Labels map[string]string `json:"labels"`
	Ports  []string          `json:"ports"`
}

type smallProject struct {
	Services map[string]smallService `json:"services"`
	Volumes  map[string]any          `json:"volumes"`
}

const labelMade = "com.docker.compose.config-hash"

func (smallCompose) Supported(context.Context) error { return nil }

func (smallCompose) load(p container.Project) (d smallProject, env []string, err error) {
	text, err := os.ReadFile(p.File)
	if err != nil {
		return d, nil, err
	}
	lines, err := os.ReadFile(filepath.Join(p.Dir, environmentFile))
	if err != nil {
		return d, nil, err
	}
	return d, strings.Fields(string(lines)), json.Unmarshal(text, &d)
}

func (c smallCompose) step(ctx context.Context, do func() error) error {
	return c.l.call(func() error { return c.e.change(ctx, do) })
}

func inProject(name string) func(*smallContainer) bool {
	return func(c *smallContainer) bool { return c.Labels[labelProject] == name }
}

func (c smallCompose) Up(ctx context.Context, p container.Project, line func(string)) error {
	d, env, err := c.load(p)
	if err != nil {
		return err
	}
	for _, orphan := range c.e.all(inProject(p.Name)) {
		if _, wanted := d.Services[orphan.Labels[labelService]]; !wanted {
			if err := c.discard(ctx, orphan.ID); err != nil {
				return err
			}
		}
	}
	err = c.step(ctx, func() error {
		for name := range d.Volumes {
			c.e.volumes[p.Name+"_"+name] = map[string]string{labelProject: p.Name}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(d.Services)) {
		if err := c.service(ctx, p.Name, name, d.Services[name], env); err != nil {
			return fmt.Errorf("service %s: %w", name, err)
		}
		line("Container " + p.Name + "-" + name + "-1  Started")
	}
	return nil
}

// service makes one container equal to its service, and starts it.
func (c smallCompose) service(ctx context.Context, project, name string, s smallService, env []string) error {
	spec := container.Spec{Name: project + "-" + name + "-1", Image: s.Image, Env: env, Labels: maps.Clone(s.Labels)}
	for _, text := range s.Ports {
		port, err := smallPort(text)
		if err != nil {
			return err
		}
		spec.Ports = append(spec.Ports, port)
	}
	var id string
	err := c.step(ctx, func() error {
		image, ok := c.e.images[s.Image]
		if !ok {
			return fmt.Errorf("no such image: %s", s.Image)
		}
		config, err := json.Marshal([]any{s, env, image})
		if err != nil {
			return err
		}
		if spec.Labels == nil {
			spec.Labels = map[string]string{}
		}
		spec.Labels[labelProject], spec.Labels[labelService], spec.Labels[labelMade] = project, name, idOf(string(config))
		old := c.e.find(spec.Name)
		if old != nil && old.Labels[labelMade] == spec.Labels[labelMade] {
			id = old.ID
			return nil
		}
		if old != nil {
			c.e.guard("replace", old)
			c.e.note("compose removes %s (%.6s)", old.Name, old.ID)
			c.e.destroy(old)
		}
		made, err := c.e.create(spec, false)
		if err != nil {
			return err
		}
		id = made.ID
		c.e.note("compose creates %s (%.6s) from %s", spec.Name, id, versionOf(s.Image))
		return nil
	})
	if err != nil {
		return err
	}
	return c.step(ctx, func() error {
		made, err := c.e.need(id)
		if err != nil {
			return err
		}
		c.e.guard("start", made)
		c.e.note("compose starts %s (%.6s)", made.Name, made.ID)
		return c.e.start(made)
	})
}

// smallPort reads the form in which the agent writes what it manages.
func smallPort(text string) (container.Port, error) {
	text, wire, _ := strings.Cut(text, "/")
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return container.Port{}, fmt.Errorf("port %q", text)
	}
	host, err := strconv.ParseUint(parts[1], 10, 16)
	inner, other := strconv.ParseUint(parts[2], 10, 16)
	if wire == "" {
		wire = "tcp"
	}
	return container.Port{Container: uint16(inner), Host: uint16(host), Protocol: wire}, errors.Join(err, other)
}

func (c smallCompose) discard(ctx context.Context, id string) error {
	return c.l.call(func() error { return c.e.Remove(ctx, id) })
}

func (c smallCompose) Stop(ctx context.Context, p container.Project, grace time.Duration, _ func(string)) error {
	if _, _, err := c.load(p); err != nil {
		return err
	}
	for _, one := range c.e.all(inProject(p.Name)) {
		if err := c.l.call(func() error { return c.e.Stop(ctx, one.ID, grace) }); err != nil {
			return err
		}
	}
	return nil
}

func (c smallCompose) Down(ctx context.Context, p container.Project, volumes bool, line func(string)) error {
	if err := c.Stop(ctx, p, time.Second, line); err != nil {
		return err
	}
	for _, one := range c.e.all(inProject(p.Name)) {
		if err := c.discard(ctx, one.ID); err != nil {
			return err
		}
	}
	if !volumes {
		return nil
	}
	return c.step(ctx, func() error {
		for name, labels := range c.e.volumes {
			if labels[labelProject] == p.Name {
				c.e.note("compose removes volume %s", name)
				delete(c.e.volumes, name)
			}
		}
		return nil
	})
}

func (smallCompose) Build(context.Context, container.Project, map[string]container.Credential, func(string)) error {
	return errors.New("the model builds no projects")
}

// Volumes, RemoveVolume and RemoveNetworks are what of a project is the engine's.
func (e *smallEngine) Volumes(ctx context.Context, labels map[string]string) ([]container.Volume, error) {
	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	var found []container.Volume
	for _, name := range slices.Sorted(maps.Keys(e.volumes)) {
		if e.volumes[name][labelProject] == labels[labelProject] {
			found = append(found, container.Volume{Name: name, Labels: maps.Clone(e.volumes[name])})
		}
	}
	return found, nil
}

func (e *smallEngine) RemoveVolume(ctx context.Context, name string) error {
	return e.change(ctx, func() error {
		if _, ok := e.volumes[name]; !ok {
			return fmt.Errorf("no such volume: %s: %w", name, container.ErrNotFound)
		}
		e.note("remove volume %s", name)
		delete(e.volumes, name)
		return nil
	})
}

func (e *smallEngine) RemoveNetworks(ctx context.Context, _ map[string]string) error {
	return e.change(ctx, func() error { return nil })
}
