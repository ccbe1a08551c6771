package agent

import (
	"context"

	"reagent/protocol"
)

// An uploader takes archives that apps are built from, chunk by chunk.
type uploader interface {
	Upload(ctx context.Context, c protocol.WriteDataArgs) error
}

// writeData takes one chunk, from five positional arguments (wire §5.5).
func writeData(to uploader) handler {
	return func(ctx context.Context, c Call) (Result, error) {
		var chunk protocol.WriteDataArgs
		if err := chunk.ReadArgs(c.Args); err != nil {
			return Result{}, err
		}
		return Result{}, to.Upload(ctx, chunk)
	}
}
