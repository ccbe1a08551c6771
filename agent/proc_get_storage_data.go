package agent

import (
	"context"

	"reagent/protocol"
)

type machineStats interface {
	Stats(ctx context.Context) protocol.Stats
}

func getStorageData(machine machineStats) func(context.Context, nothing) (protocol.Stats, error) {
	return func(ctx context.Context, _ nothing) (protocol.Stats, error) { return machine.Stats(ctx), nil }
}
