package agent

import (
	"context"

	"reagent/protocol"
)

// initDeviceTerminal gives the caller's shell of the device: the one that there
// is, or a new one. The contract has no argument for it.
func initDeviceTerminal(t terminals) handler {
	return func(ctx context.Context, c Call) (Result, error) {
		return topics(t.Device(ctx, holder(c)))
	}
}

// topics is the answer with which a terminal's session begins.
func topics(s protocol.TerminalSession, err error) (Result, error) {
	if err != nil {
		return Result{}, err
	}
	return Result{Args: []any{protocol.Wire(s)}}, nil
}
