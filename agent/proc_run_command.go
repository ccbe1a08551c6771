package agent

import (
	"context"
	"errors"
	"strconv"

	"reagent/agent/commands"
	"reagent/messenger"
	"reagent/protocol"
)

// A commandRunner runs commands of which the results are kept; commands.Commands
// is one.
type commandRunner interface {
	Do(ctx context.Context, q commands.Question) (protocol.CommandEnd, error)
	Stop(ctx context.Context, id, container string) (protocol.CommandEnd, error)
}

func runCommand(runner commandRunner) handler {
	return func(ctx context.Context, c Call) (Result, error) {
		q := commands.Question{Caller: c.Caller.name(), Begins: c.Begins}
		if err := argument(c.Args, &q.RunCommandArgs); err != nil {
			return Result{}, err
		}
		if c.Progress != nil {
			q.Progress = func(ctx context.Context, chunk protocol.CommandChunk) error { return c.Progress(ctx, chunk.Wire()) }
		}
		sent := func() {}
		q.Large = func(gone func()) { sent = gone }
		answered := false
		defer func() {
			if !answered {
				sent()
			}
		}()
		end, err := runner.Do(ctx, q)
		switch {
		case err != nil && ctx.Err() != nil && !byItsCaller(ctx): // nobody but the log and the audit hears it
			return Result{}, &protocol.Error{Code: protocol.CodeUnavailable, Text: "the link was lost; the command goes on"}
		case err != nil:
			return Result{}, err
		}
		result := Result{Args: []any{protocol.Wire(end)}, Sent: sent}
		answered = true
		return result, nil
	}
}

func stopCommand(runner commandRunner) func(context.Context, protocol.StopCommandArgs) (protocol.CommandEnd, error) {
	return func(ctx context.Context, in protocol.StopCommandArgs) (protocol.CommandEnd, error) {
		return runner.Stop(ctx, in.ID, in.Container)
	}
}

// name is the authid of the one for whom a call is made.
func (c Caller) name() string {
	if c.Account != 0 {
		return strconv.FormatUint(c.Account, 10)
	}
	return c.AuthID
}

// byItsCaller tells whether the context of a call has ended because its caller
// does not want it any more, and not with the link.
func byItsCaller(ctx context.Context) bool {
	return !errors.Is(context.Cause(ctx), messenger.ErrOffline)
}
