package agent

import (
	"context"

	"reagent/protocol"
)

type ownLogQuerier interface {
	Query(ctx context.Context, q protocol.QueryDeviceLogsArgs) (protocol.DeviceLogsAnswer, error)
}

func queryDeviceLogs(own ownLogQuerier) func(context.Context, protocol.QueryDeviceLogsArgs) (protocol.DeviceLogsAnswer, error) {
	return func(ctx context.Context, in protocol.QueryDeviceLogsArgs) (protocol.DeviceLogsAnswer, error) {
		return own.Query(ctx, in)
	}
}
