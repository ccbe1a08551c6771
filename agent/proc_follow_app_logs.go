package agent

import (
	"context"

	"reagent/protocol"
)

type logFollower interface {
	Follow(ctx context.Context, in protocol.FollowArgs, emit func(context.Context, protocol.LogRecord) error) (protocol.LogRecord, error)
}

// followAppLogs sends an app's log ahead where the caller takes progressive
// results, and all of it in the answer else.
func followAppLogs(apps logFollower) handler {
	return func(ctx context.Context, c Call) (Result, error) {
		var in protocol.FollowArgs
		if err := argument(c.Args, &in); err != nil {
			return Result{}, err
		}
		var emit func(context.Context, protocol.LogRecord) error
		if c.Progress != nil {
			emit = func(ctx context.Context, r protocol.LogRecord) error { return c.Progress(ctx, r.Wire()) }
		}
		end, err := apps.Follow(ctx, in, emit)
		if err != nil {
			return Result{}, err
		}
		return Result{Args: []any{end.Wire()}}, nil
	}
}
