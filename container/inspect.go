package container

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
)

// Inspect tells all about the container with this id or exactly this name.
func (e *Engine) Inspect(ctx context.Context, idOrName string) (Container, error) {
	err := checkContainer(idOrName)
	var c Container
	if err == nil {
		err = e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) (err error) {
			c, err = p.inspect(ctx, idOrName)
			return err
		})
	}
	return c, wrap("inspect container", idOrName, err)
}

func (p *peer) inspect(ctx context.Context, idOrName string) (Container, error) {
	in, err := p.ContainerInspect(ctx, idOrName)
	if err != nil {
		return Container{}, err
	}
	if in.ContainerJSONBase == nil || in.State == nil || in.Config == nil || in.HostConfig == nil {
		return Container{}, fmt.Errorf("the engine's answer about it is not complete")
	}
	c := Container{
		ID:           in.ID,
		Name:         strings.TrimPrefix(in.Name, "/"),
		Image:        in.Config.Image,
		ImageID:      in.Image,
		Labels:       in.Config.Labels,
		Env:          in.Config.Env,
		TTY:          in.Config.Tty,
		Privileged:   in.HostConfig.Privileged,
		NetworkMode:  string(in.HostConfig.NetworkMode),
		Ports:        bound(in.HostConfig),
		Status:       Status(in.State.Status),
		ExitCode:     in.State.ExitCode,
		Error:        in.State.Error,
		OOMKilled:    in.State.OOMKilled,
		RestartCount: in.RestartCount,
		PID:          in.State.Pid,
		Created:      moment(in.Created),
		Started:      moment(in.State.StartedAt),
		Finished:     moment(in.State.FinishedAt),
	}
	// The engine also finds the beginning of an id.
	if idOrName != c.ID && idOrName != c.Name {
		return Container{}, &engineError{ErrNotFound, fmt.Errorf("no such container: %s", idOrName)}
	}
	if in.State.Health != nil && in.State.Health.Status != container.NoHealthcheck {
		c.Health = Health(in.State.Health.Status)
	}
	for _, m := range in.Mounts {
		if m.Type == mount.TypeBind {
			c.Mounts = append(c.Mounts, Mount{Source: m.Source, Target: m.Destination, ReadOnly: !m.RW})
		}
	}
	return c, nil
}

// resolve gives the id of exactly the container that is named.
func (p *peer) resolve(ctx context.Context, idOrName string) (id string, err error) {
	if isID(idOrName) {
		return idOrName, nil
	}
	c, err := p.inspect(ctx, idOrName)
	return c.ID, err
}

// bound are the published ports of a configuration, in order.
func bound(host *container.HostConfig) []Port {
	var ports []Port
	for port, bindings := range host.PortBindings {
		for _, b := range bindings {
			published, _ := strconv.ParseUint(b.HostPort, 10, 16) // empty: the engine chooses
			ports = append(ports, Port{Container: uint16(port.Int()), Host: uint16(published), Protocol: port.Proto()})
		}
	}
	slices.SortFunc(ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Protocol, b.Protocol), cmp.Compare(a.Host, b.Host))
	})
	return ports
}

// moment is zero where the engine has none: it writes the year 1.
func moment(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil || t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

func labelFilter(labels map[string]string) filters.Args {
	all := filters.NewArgs()
	for name, value := range labels {
		if value != "" {
			name += "=" + value
		}
		all.Add("label", name)
	}
	return all
}

// List gives all containers, running or not, that carry the labels; an empty
// value asks for the label with any value.
func (e *Engine) List(ctx context.Context, labels map[string]string) ([]Summary, error) {
	wanted := labelFilter(labels)
	var found []Summary
	err := e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) error {
		rows, err := p.ContainerList(ctx, container.ListOptions{All: true, Filters: wanted})
		if err != nil {
			return err
		}
		found = make([]Summary, 0, len(rows))
		for _, r := range rows {
			found = append(found, Summary{
				ID:      r.ID,
				Name:    ownName(r.Names),
				Image:   r.Image,
				ImageID: r.ImageID,
				Labels:  r.Labels,
				Status:  Status(r.State),
				Created: time.Unix(r.Created, 0),
			})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	return found, nil
}

// ownName is the container's own among its names; the others are those that
// links of other containers gave it ("/other/alias").
func ownName(names []string) string {
	for _, n := range names {
		if n = strings.TrimPrefix(n, "/"); !strings.Contains(n, "/") {
			return n
		}
	}
	return ""
}

// Summaries lists all containers as the engine puts it, key for key (wire
// §5.6); whole numbers are int64. Never nil.
func (e *Engine) Summaries(ctx context.Context) ([]map[string]any, error) {
	var rows []map[string]any
	err := e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) error {
		answer, err := p.get(ctx, "/containers/json", url.Values{"all": {"1"}})
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		decoder := json.NewDecoder(answer.Body)
		decoder.UseNumber()
		rows = nil
		return decoder.Decode(&rows)
	})
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	if rows == nil {
		rows = []map[string]any{}
	}
	for _, row := range rows {
		plainNumbers(row)
	}
	return rows, nil
}

// plainNumbers replaces each json.Number in v, which serializers other than
// JSON would send as text.
func plainNumbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, _ := v.Float64() // the grammar is checked; out of range is ±Inf, which no engine sends
		return f
	case map[string]any:
		for key, value := range v {
			v[key] = plainNumbers(value)
		}
	case []any:
		for i, value := range v {
			v[i] = plainNumbers(value)
		}
	}
	return v
}

// Wait returns the exit code of a container when it does not run (any more).
func (e *Engine) Wait(ctx context.Context, id string) (exit int, err error) {
	err = e.stream(ctx, "wait for container", id, func(ctx context.Context, p *peer, w *watchdog) error {
		id, err := p.resolve(ctx, id)
		if err != nil {
			return err
		}
		results, errs := p.ContainerWait(ctx, id, container.WaitConditionNotRunning)
		w.rest()
		select {
		case r := <-results:
			exit = int(r.StatusCode)
			if r.Error != nil {
				return fmt.Errorf("%s", r.Error.Message)
			}
			return nil
		case err := <-errs: // also when ctx ends
			return err
		}
	})
	return exit, err
}
