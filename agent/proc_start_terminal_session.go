package agent

import (
	"context"

	"reagent/protocol"
)

// startTerminalSession lets out what a container's shell prints.
func startTerminalSession(t terminals) handler {
	return func(ctx context.Context, c Call) (Result, error) {
		var in protocol.StartTerminalArgs
		if err := in.ReadArgs(c.Args); err != nil {
			return Result{}, err
		}
		return Result{}, t.Start(ctx, holder(c), in.SessionID)
	}
}
