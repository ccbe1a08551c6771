package agent

import (
	"context"

	"reagent/protocol"
)

// stopTerminalSession ends a session; its last event tells when.
func stopTerminalSession(t terminals) handler {
	return func(_ context.Context, c Call) (Result, error) {
		var in protocol.StopTerminalArgs
		if err := in.ReadArgs(c.Args); err != nil {
			return Result{}, err
		}
		return Result{}, t.Stop(holder(c), in.SessionID)
	}
}
