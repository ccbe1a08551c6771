package container

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/go-connections/nat"
)

// Create makes a container and does not start it. The note says what of the
// spec the engine did not allow, as far as that shows before a start; Run tells
// it all.
func (e *Engine) Create(ctx context.Context, spec Spec) (id, note string, err error) {
	return e.fallBack(ctx, spec, e.create)
}

// Run makes a container and starts it, in two round trips. Where the engine
// refuses a part of the spec that has a substitute (privileges, the runtime),
// Run makes it anew with that, and the note says so; what an engine refused is
// remembered for as long as it runs. When Run fails, no container is left,
// unless the engine stopped answering in between.
func (e *Engine) Run(ctx context.Context, spec Spec) (id, note string, err error) {
	return e.fallBack(ctx, spec, func(ctx context.Context, spec Spec, allowed rights) (string, error) {
		id, err := e.create(ctx, spec, allowed)
		if err != nil {
			return "", err
		}
		err = e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) error {
			return p.ContainerStart(ctx, id, container.StartOptions{})
		})
		if err != nil {
			// Also when ctx has ended: a half-made container keeps its name and ports taken.
			cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.cfg.Timeout)
			defer cancel()
			if lost := e.Remove(cleanup, id); lost != nil {
				e.cfg.Log.Warn().Err(lost).Str("container", spec.Name).Msg("container that did not start is left behind")
			}
			return "", wrap("start container", spec.Name, err)
		}
		return id, nil
	})
}

// fallBack performs do with ever smaller demands, until the engine allows it or
// fails for another reason.
func (e *Engine) fallBack(ctx context.Context, spec Spec, do func(context.Context, Spec, rights) (string, error)) (id, note string, err error) {
	allowed, err := e.rights(ctx)
	if err != nil {
		return "", "", fmt.Errorf("create container %s: %w", spec.Name, err)
	}
	var notes []string
	passing := false // the last refusal was none that lasts
	for lost := 0; ; {
		id, err = do(ctx, spec, allowed)
		switch {
		case err == nil:
			if spec.Privileged {
				if !passing {
					e.learn(allowed)
				}
				notes = append(notes, allowed.note()...)
			}
			return id, strings.Join(notes, "; "), nil
		case ctx.Err() != nil:
			return "", "", err
		case spec.Runtime != "" && strings.Contains(err.Error(), spec.Runtime):
			notes = append(notes, fmt.Sprintf("the engine cannot use the runtime %q: the container runs without it", spec.Runtime))
			spec.Runtime = ""
		case spec.Privileged && allowed.dropUnknown(err):
		case spec.Privileged && refused(err) && allowed.lower(ctx, e):
			passing = refusedNow(err)
		case spec.Privileged && unplugged(err) && lost < maxUnplugged:
			lost++ // since they were listed
		default:
			return "", "", err
		}
	}
}

// maxUnplugged bounds how often devices are listed again for one container.
const maxUnplugged = 3

func (e *Engine) create(ctx context.Context, spec Spec, allowed rights) (id string, err error) {
	if !spec.Privileged || !allowed.privileged() {
		// Listed for each container anew: they come and go.
		spec.Devices = e.eachDevice(ctx, spec.Devices)
	}
	config, host := request(spec, allowed)
	err = e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) (err error) {
		id, err = p.make(ctx, config, host, spec)
		switch {
		case errdefs.IsConflict(err):
			return &engineError{ErrConflict, err}
		case err == nil && !isID(id):
			return fmt.Errorf("the engine gave it no id: %q", id)
		}
		return err
	})
	return id, wrap("create container", spec.Name, err)
}

// request is what is sent to the engine for a spec.
func request(spec Spec, allowed rights) (*container.Config, *container.HostConfig) {
	config := &container.Config{
		Image:        spec.Image,
		Env:          lastOfEach(spec.Env),
		Labels:       spec.Labels,
		Tty:          spec.TTY,
		OpenStdin:    spec.OpenStdin,
		AttachStdin:  spec.OpenStdin,
		AttachStdout: spec.OpenStdin,
		AttachStderr: spec.OpenStdin,
		ExposedPorts: nat.PortSet{},
	}
	host := &container.HostConfig{
		NetworkMode:   container.NetworkMode(spec.NetworkMode),
		ExtraHosts:    spec.ExtraHosts,
		Runtime:       spec.Runtime,
		RestartPolicy: container.RestartPolicy{Name: container.RestartPolicyDisabled},
		PortBindings:  nat.PortMap{},
	}
	for _, p := range spec.Ports {
		port := nat.Port(fmt.Sprintf("%d/%s", p.Container, p.Protocol))
		config.ExposedPorts[port] = struct{}{}
		host.PortBindings[port] = append(host.PortBindings[port],
			nat.PortBinding{HostIP: "0.0.0.0", HostPort: strconv.Itoa(int(p.Host))})
	}
	for _, m := range spec.Mounts {
		bind := m.Source + ":" + m.Target
		if m.ReadOnly {
			bind += ":ro"
		}
		host.Binds = append(host.Binds, bind)
	}
	devices := spec.Devices
	if spec.Privileged {
		host.Privileged = allowed.privileged()
		host.CapAdd = allowed.capabilities()
		if !allowed.devices() {
			devices = nil
		}
	}
	for _, path := range devices {
		host.Devices = append(host.Devices,
			container.DeviceMapping{PathOnHost: path, PathInContainer: path, CgroupPermissions: "rwm"})
	}
	return config, host
}

// lastOfEach drops all but the last entry of each name. The engine would hand
// on all of them, and a program that reads its environment from the front would
// see the first.
func lastOfEach(env []string) []string {
	seen := make(map[string]bool, len(env))
	kept := make([]string, 0, len(env))
	for _, entry := range slices.Backward(env) {
		name, _, _ := strings.Cut(entry, "=")
		if !seen[name] {
			seen[name] = true
			kept = append(kept, entry)
		}
	}
	slices.Reverse(kept)
	return kept
}

// Start starts a container; one that runs stays as it is. ErrDemand when it asks
// for more than the engine gives.
func (e *Engine) Start(ctx context.Context, id string) error {
	return e.onContainer(ctx, "start container", id, e.cfg.Timeout, func(ctx context.Context, p *peer, id string) error {
		return p.demands(ctx, id, p.ContainerStart(ctx, id, container.StartOptions{}))
	})
}

// Stop asks a container to end and kills it after grace (whole seconds, rounded
// up). One that does not run stays as it is.
func (e *Engine) Stop(ctx context.Context, id string, grace time.Duration) error {
	seconds := wholeSeconds(grace)
	limit := e.cfg.Timeout + time.Duration(seconds)*time.Second
	return e.onContainer(ctx, "stop container", id, limit, func(ctx context.Context, p *peer, id string) error {
		return p.ContainerStop(ctx, id, container.StopOptions{Timeout: &seconds})
	})
}

// Rename gives a container another name; ErrConflict when that is taken.
func (e *Engine) Rename(ctx context.Context, id, name string) error {
	return e.onContainer(ctx, "rename container", id, e.cfg.Timeout, func(ctx context.Context, p *peer, id string) error {
		err := p.ContainerRename(ctx, id, name)
		if errdefs.IsConflict(err) {
			return &engineError{ErrConflict, err}
		}
		return err
	})
}

// Remove kills and removes a container with its anonymous volumes, which no
// other container could ever use. It returns when the container is gone, also
// when somebody else is at it or was faster; after a timeout the engine goes on
// removing, and a second call waits for that.
func (e *Engine) Remove(ctx context.Context, id string) error {
	err := e.onContainer(ctx, "remove container", id, e.cfg.Timeout, func(ctx context.Context, p *peer, id string) error {
		err := p.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
		if errdefs.IsConflict(err) && strings.Contains(err.Error(), "already in progress") {
			return p.untilGone(ctx, id)
		}
		return err
	})
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// untilGone waits for a removal that somebody else began.
func (p *peer) untilGone(ctx context.Context, id string) error {
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		if _, err := p.ContainerInspect(ctx, id); err != nil {
			return err // not found is what we wait for
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// onContainer performs do on exactly the container that is named. The engine
// itself would also take the beginning of an id for one.
func (e *Engine) onContainer(ctx context.Context, op, idOrName string, d time.Duration, do func(context.Context, *peer, string) error) error {
	err := checkContainer(idOrName)
	if err == nil {
		err = e.call(ctx, d, func(ctx context.Context, p *peer) error {
			id, err := p.resolve(ctx, idOrName)
			if err != nil {
				return err
			}
			return do(ctx, p, id)
		})
	}
	return wrap(op, idOrName, err)
}
