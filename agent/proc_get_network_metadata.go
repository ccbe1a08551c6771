package agent

import (
	"context"

	"reagent/protocol"
)

type addressLister interface {
	Addresses() ([]protocol.NetworkAddress, error)
	IPv4Addresses() ([]protocol.InterfaceAddress, error)
}

// getNetworkMetadata answers one argument per address of the machine.
func getNetworkMetadata(machine addressLister) handler {
	return func(context.Context, Call) (Result, error) {
		list, err := machine.Addresses()
		if err != nil {
			return Result{}, err
		}
		return positional(list)
	}
}
