package agent

import (
	"context"

	"reagent/protocol"
)

// about is what this program is, and what it runs on.
type about struct {
	version, arch, variant, serial string
	os                             func() string // long form
	canUpdate, tunnelCapable       bool          // false until true (design S18)
}

func getAgentMetadata(a about) func(context.Context, nothing) (protocol.AgentMetadata, error) {
	return func(context.Context, nothing) (protocol.AgentMetadata, error) {
		os := a.os()
		return protocol.AgentMetadata{
			OS: os, OSVersion: os, Arch: a.arch, Variant: a.variant,
			Version: a.version, SerialNumber: a.serial,
			CanUpdate: a.canUpdate, TunnelCapable: a.tunnelCapable,
		}, nil
	}
}
