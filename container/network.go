package container

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/network"
)

// RemoveNetworks removes the networks that have all these labels. One that a
// container is still connected to stays, and is an error.
func (e *Engine) RemoveNetworks(ctx context.Context, labels map[string]string) error {
	if len(labels) == 0 {
		return fmt.Errorf("remove networks: no label says which")
	}
	err := e.call(ctx, e.cfg.Long, func(ctx context.Context, p *peer) error {
		found, err := p.NetworkList(ctx, network.ListOptions{Filters: labelFilter(labels)})
		if err != nil {
			return err
		}
		for _, n := range found {
			if err := p.NetworkRemove(ctx, n.ID); err != nil && !errdefs.IsNotFound(err) {
				return fmt.Errorf("%s: %w", n.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("remove networks: %w", err)
	}
	return nil
}
