package agent

import (
	"context"

	"reagent/protocol"
)

// requestTerminalSession opens a shell in a container, which waits to be started.
func requestTerminalSession(t terminals) handler {
	return func(ctx context.Context, c Call) (Result, error) {
		var in protocol.RequestTerminalArgs
		if err := in.ReadArgs(c.Args); err != nil {
			return Result{}, err
		}
		return topics(t.Container(ctx, holder(c), in.ContainerName))
	}
}
