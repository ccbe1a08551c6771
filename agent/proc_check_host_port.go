package agent

import (
	"context"

	"reagent/protocol"
)

// A portChecker says whether an app may have a host port.
type portChecker interface {
	CheckHostPort(ctx context.Context, q protocol.CheckHostPortArgs) (protocol.PortReason, error)
}

// checkHostPort answers before somebody writes a host port into a port rule
// (wire Appendix A). Whoever asks without one only wants to know whether this
// agent can tell.
func checkHostPort(ports portChecker) func(context.Context, protocol.CheckHostPortArgs) (protocol.HostPortAnswer, error) {
	return func(ctx context.Context, q protocol.CheckHostPortArgs) (protocol.HostPortAnswer, error) {
		if q.HostPort == 0 {
			return protocol.HostPortAnswer{Available: true}, nil
		}
		reason, err := ports.CheckHostPort(ctx, q)
		return protocol.HostPortAnswer{Available: err == nil && reason == protocol.PortAvailable, Reason: reason}, err
	}
}
