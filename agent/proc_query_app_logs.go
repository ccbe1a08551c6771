package agent

import (
	"context"

	"reagent/protocol"
)

type logQuerier interface {
	Query(ctx context.Context, q protocol.QueryAppLogsArgs) (protocol.AppLogsAnswer, error)
}

func queryAppLogs(apps logQuerier) func(context.Context, protocol.QueryAppLogsArgs) (protocol.AppLogsAnswer, error) {
	return func(ctx context.Context, in protocol.QueryAppLogsArgs) (protocol.AppLogsAnswer, error) {
		return apps.Query(ctx, in)
	}
}
