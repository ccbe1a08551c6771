package container

import (
	"context"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
)

// Without a limit an engine keeps all that a container ever printed, and fills
// the disk with it. Only the engine knows whether it has one, and tells only by
// what it makes of a container that asks for nothing: so the first container of
// an engine is looked at.

// bounds is what is known about the logs of an engine.
type bounds int

const (
	unknown   bounds = iota
	bounded          // somebody saw to it, or they are none of our business
	unbounded        // files of JSON that grow without end
)

// logConfig is what a limit is to the engine.
func (l LogLimit) logConfig() container.LogConfig {
	return container.LogConfig{Type: jsonFile, Config: map[string]string{
		"max-size": strconv.FormatInt(l.FileSize, 10),
		"max-file": strconv.Itoa(max(1, l.Files)),
	}}
}

const jsonFile = "json-file"

// make makes a container, with a log that has a limit. Where it turns out that
// the engine has none, the container is made once more.
func (p *peer) make(ctx context.Context, config *container.Config, host *container.HostConfig, spec Spec) (id string, err error) {
	limit := spec.Log.FileSize > 0
	if limit && bounds(p.logs.Load()) == unbounded {
		host.LogConfig = spec.Log.logConfig()
	}
	answer, err := p.ContainerCreate(ctx, config, host, nil, nil, spec.Name)
	if err != nil || !limit || bounds(p.logs.Load()) != unknown || !isID(answer.ID) || p.learnBounds(ctx, answer.ID) != unbounded {
		return answer.ID, err
	}
	if p.ContainerRemove(ctx, answer.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}) != nil {
		return answer.ID, nil // as good as it gets
	}
	return p.make(ctx, config, host, spec)
}

// learnBounds finds out whether logs have bounds by a container that asked for
// nothing.
func (p *peer) learnBounds(ctx context.Context, id string) bounds {
	made, err := p.ContainerInspect(ctx, id)
	if err != nil || made.ContainerJSONBase == nil || made.HostConfig == nil {
		return unknown // the next one tells
	}
	found := unbounded
	if as := made.HostConfig.LogConfig; as.Type != jsonFile || as.Config["max-size"] != "" {
		found = bounded
	}
	p.logs.Store(int32(found))
	return found
}

// LogConfig is how a definition that compose reads has to state a limit: driver
// and options of its "logging", or "" where the engine sees to it by itself or it
// cannot be found out. That is found out by a container of one of images, made
// and removed at once without having run, unless it is known already.
func (e *Engine) LogConfig(ctx context.Context, l LogLimit, images []string) (driver string, options map[string]string, err error) {
	err = e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) error {
		select { // one asks, and the others wait for what it learns
		case p.probing <- struct{}{}:
			defer func() { <-p.probing }()
		case <-ctx.Done():
			return ctx.Err()
		}
		known := bounds(p.logs.Load())
		for _, image := range images {
			if known != unknown {
				break
			}
			if known, err = p.probeBounds(ctx, image); err != nil && !errdefs.IsNotFound(err) {
				return err
			}
		}
		if known == unbounded {
			c := l.logConfig()
			driver, options = c.Type, c.Config
		}
		return nil
	})
	return driver, options, wrap("ask about logs", "the engine", err)
}

// logProbe is the label of a container that shows how logs are kept.
const logProbe = "reagent.log_probe"

// oldProbe is how old a probe is that an agent left behind who was killed.
const oldProbe = 10 * time.Minute

func (p *peer) probeBounds(ctx context.Context, image string) (bounds, error) {
	config := &container.Config{Image: image, Cmd: []string{"none"}, Labels: map[string]string{logProbe: ""}}
	answer, err := p.ContainerCreate(ctx, config, &container.HostConfig{NetworkMode: "none"}, nil, nil, "")
	if err != nil {
		return unknown, err
	}
	found := p.learnBounds(ctx, answer.ID)
	if err := p.removeProbe(ctx, answer.ID); err != nil {
		return found, err
	}
	left, err := p.ContainerList(ctx, container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", logProbe), filters.Arg("status", "created"))})
	if err != nil {
		return found, err
	}
	for _, c := range left {
		if time.Since(time.Unix(c.Created, 0)) > oldProbe {
			if err := p.removeProbe(ctx, c.ID); err != nil {
				return found, err
			}
		}
	}
	return found, nil
}

func (p *peer) removeProbe(ctx context.Context, id string) error {
	err := p.ContainerRemove(ctx, id, container.RemoveOptions{Force: true, RemoveVolumes: true})
	if errdefs.IsNotFound(err) {
		return nil
	}
	return err
}
