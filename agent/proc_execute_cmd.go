package agent

import (
	"context"

	"reagent/protocol"
)

// A programExecutor runs programs of which nothing is kept; commands.Commands is
// one.
type programExecutor interface {
	Execute(ctx context.Context, a protocol.ExecuteCmdArgs, caller string, begins func()) (stdout string, err error)
	ExecuteInBackground(ctx context.Context, a protocol.ExecuteCmdArgs, reader string, begins func()) (pid int, err error)
}

// executeCmd is the contract's way to run a program on the device. It does not
// survive a lost link; run_command does.
func executeCmd(executor programExecutor) handler {
	return func(ctx context.Context, c Call) (Result, error) {
		var in protocol.ExecuteCmdArgs
		if err := in.ReadArgs(c.Args); err != nil {
			return Result{}, err
		}
		if in.Blocking {
			stdout, err := executor.Execute(ctx, in, c.Caller.name(), c.Begins)
			if err != nil {
				return Result{}, err
			}
			return Result{Args: []any{stdout}}, nil
		}
		pid, err := executor.ExecuteInBackground(ctx, in, c.Caller.name(), c.Begins)
		if err != nil {
			return Result{}, err
		}
		return Result{Args: []any{map[string]any{"pid": pid}}}, nil
	}
}
