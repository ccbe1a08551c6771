package agent

import (
	"context"
	"sync"
	"time"

	"reagent/container"
	"reagent/protocol"
)

// An engineView tells the status file how the engine is, and asks it for its
// version once each time it was reached.
type engineView struct {
	ready func() <-chan struct{} // apps.Ready
	ping  func(context.Context) (container.Info, error)

	mu      sync.Mutex
	asked   <-chan struct{} // the ready channel for which version was asked
	version string
}

func (v *engineView) status(ctx context.Context) protocol.EngineStatus {
	ready := v.ready()
	select {
	case <-ready:
	default:
		return protocol.EngineStatus{Reason: "it does not answer"}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.asked != ready {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		info, err := v.ping(ctx)
		if err != nil {
			return protocol.EngineStatus{Reachable: true}
		}
		v.asked, v.version = ready, info.Version
	}
	return protocol.EngineStatus{Reachable: true, Version: v.version}
}
