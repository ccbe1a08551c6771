package agent

import (
	"context"
	"fmt"

	"reagent/container"
	"reagent/protocol"
)

// An imagePruner frees the disk of images, with all also of those that are only
// superseded; disk.Pruner is one.
type imagePruner interface {
	Prune(ctx context.Context, all bool) (container.Freed, error)
}

// pruneImages answers what it did where all was asked for, else nothing: the
// contract's form.
func pruneImages(images imagePruner) handler {
	return func(ctx context.Context, c Call) (Result, error) {
		var in protocol.PruneImagesArgs
		if err := argument(c.Args, &in); err != nil {
			return Result{}, err
		}
		freed, err := images.Prune(ctx, in.All)
		if err != nil {
			return Result{}, fmt.Errorf("prune images: %w", err)
		}
		if !in.All {
			return Result{}, nil
		}
		return Result{Args: []any{freed.Summary()}}, nil
	}
}
