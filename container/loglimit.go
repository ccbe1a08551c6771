package container

import (
	"context"
	"strconv"

	"github.com/docker/docker/api/types/container"
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
	if err != nil || !limit || bounds(p.logs.Load()) != unknown || !isID(answer.ID) {
		return answer.ID, err
	}
	made, err := p.ContainerInspect(ctx, answer.ID)
	if err != nil || made.ContainerJSONBase == nil || made.HostConfig == nil {
		return answer.ID, nil // as good as it gets; the next one tells
	}
	if as := made.HostConfig.LogConfig; as.Type != jsonFile || as.Config["max-size"] != "" {
		p.logs.Store(int32(bounded))
		return answer.ID, nil
	}
	p.logs.Store(int32(unbounded))
	if p.ContainerRemove(ctx, answer.ID, container.RemoveOptions{Force: true, RemoveVolumes: true}) != nil {
		return answer.ID, nil
	}
	return p.make(ctx, config, host, spec)
}
