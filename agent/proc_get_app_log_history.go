package agent

import (
	"context"

	"reagent/protocol"
)

type logHistory interface {
	History(ctx context.Context, containerName string) ([]string, error)
}

func getAppLogHistory(past logHistory) func(context.Context, protocol.AppLogArgs) ([]string, error) {
	return func(ctx context.Context, in protocol.AppLogArgs) ([]string, error) {
		return past.History(ctx, in.ContainerName)
	}
}
