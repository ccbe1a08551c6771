package agent

import (
	"context"

	"reagent/protocol"
)

func getIPv4Addresses(machine addressLister) func(context.Context, nothing) ([]protocol.InterfaceAddress, error) {
	return func(context.Context, nothing) ([]protocol.InterfaceAddress, error) { return machine.IPv4Addresses() }
}
