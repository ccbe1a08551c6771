package container

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/volume"
)

// PruneBuildCache removes what builds keep to be faster the next time and no
// build uses now. What a RUN --mount=type=cache holds goes with it.
func (e *Engine) PruneBuildCache(ctx context.Context) (Freed, error) {
	var freed Freed
	err := e.call(ctx, e.cfg.Long, func(ctx context.Context, p *peer) error {
		report, err := p.BuildCachePrune(ctx, build.CachePruneOptions{})
		if err != nil {
			return err
		}
		freed = Freed{Deleted: report.CachesDeleted, Bytes: report.SpaceReclaimed}
		return nil
	})
	if err != nil {
		return Freed{}, fmt.Errorf("prune build cache: %w", err)
	}
	return freed, nil
}

// A Volume is one that the engine keeps.
type Volume struct {
	Name   string
	Labels map[string]string
	InUse  bool // a container has it, be it one that does not run
}

// Volumes gives the volumes that have all these labels; an empty value stands
// for any. Their sizes are not asked for: to tell them the engine reads through
// all of them.
func (e *Engine) Volumes(ctx context.Context, labels map[string]string) ([]Volume, error) {
	var found []Volume
	err := e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) error {
		all, err := p.VolumeList(ctx, volume.ListOptions{Filters: labelFilter(labels)})
		if err != nil {
			return err
		}
		unused := labelFilter(labels)
		unused.Add("dangling", "true")
		idle, err := p.VolumeList(ctx, volume.ListOptions{Filters: unused})
		if err != nil {
			return err
		}
		dangling := make(map[string]bool, len(idle.Volumes))
		for _, v := range idle.Volumes {
			if v != nil {
				dangling[v.Name] = true
			}
		}
		found = make([]Volume, 0, len(all.Volumes))
		for _, v := range all.Volumes {
			if v != nil && v.Name != "" {
				found = append(found, Volume{Name: v.Name, Labels: v.Labels, InUse: !dangling[v.Name]})
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	return found, nil
}

// RemoveVolume removes the volume of exactly this name, and what is in it. Never
// forced: ErrInUse while a container has it.
func (e *Engine) RemoveVolume(ctx context.Context, name string) error {
	if !plainName.MatchString(name) {
		return wrap("remove volume", name, &engineError{ErrNotFound, errors.New("no volume can be called that")})
	}
	return wrap("remove volume", name, e.call(ctx, e.cfg.Long, func(ctx context.Context, p *peer) error {
		err := p.VolumeRemove(ctx, name, false)
		if errdefs.IsConflict(err) || err != nil && strings.Contains(err.Error(), "volume is in use") {
			return &engineError{ErrInUse, err}
		}
		return err
	}))
}
