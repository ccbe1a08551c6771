// Package agent is the composition root of the device's half: it wires the
// features to the connection, the engine and the database, and runs them.
//
// New opens what may fail a start (the database); Run supervises everything
// until its context ends, then says goodbye to the router and closes the
// database, within five seconds and without touching an app. Nothing that comes
// over the wire ends Run. What survives a restart is what persistence/device
// keeps; everything else is learnt again on the next connection.
package agent

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/rs/zerolog"

	"reagent/agent/apps"
	"reagent/agent/commands"
	"reagent/agent/disk"
	"reagent/agent/terminal"
	"reagent/config"
	"reagent/container"
	"reagent/persistence/device"
)

// Timing is every wait of the agent that is no flag (design S16). Tests and
// benchmarks shorten them; Product is what devices run with.
type Timing struct {
	Apps       apps.Waits
	GoodAfter  time.Duration // a session that lasted so long makes the back-off fresh; 0 = the messenger's 60 s
	EngineWait time.Duration // CONNECTED waits for an engine at most so long
	CallLimit  time.Duration // of each call to the studio on a connect
	MinRestart time.Duration // pause before a part that failed is started again
	MaxRestart time.Duration
	Status     time.Duration // between two writes of the status file
	Trim       time.Duration // after the start, memory that is not needed any more is given back
	Disk       disk.Limits
	DiskWaits  disk.Waits
	Terminals  terminal.Limits
	FirstLook  time.Duration // apps wait for the first look at the disks at most so long
}

// Product are the times of the product.
func Product() Timing {
	return Timing{
		Apps:       apps.ProductWaits(),
		EngineWait: 5 * time.Second,
		CallLimit:  30 * time.Second,
		MinRestart: time.Second,
		MaxRestart: time.Minute,
		Status:     200 * time.Millisecond,
		Trim:       15 * time.Second,
		Disk:       disk.ProductLimits(),
		DiskWaits:  disk.ProductWaits(),
		FirstLook:  2 * time.Second,
	}
}

// An Agent is everything that runs on a device. Make one with New.
type Agent struct {
	log        zerolog.Logger
	store      *device.Store
	engine     *container.Engine
	supervisor supervisor
	parts      []part
	files      []io.Closer // written to their end when all parts have ended
}

// New wires an agent. Only the database can fail it; the engine, the network
// and the studio may be absent. The caller holds the locks of cfg.
func New(cfg *config.Config, timing Timing, log zerolog.Logger) (*Agent, error) {
	store, err := device.Open(cfg.Database, log)
	if err != nil {
		return nil, err
	}
	a, err := wire(cfg, timing, store, log)
	if err != nil {
		_ = store.Close()
		return nil, err
	}
	return a, nil
}

// Run is the agent. It ends with ctx, in order: the router is told goodbye, the
// database is closed, the apps stay.
func (a *Agent) Run(ctx context.Context) error {
	_ = os.Unsetenv(commands.Variable) // one that a command has restarted is not that command's
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		a.supervisor.run(ctx, a.parts...)
	}()
	<-ctx.Done()
	late := time.NewTimer(endLimit)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
		a.log.Error().Dur("after", endLimit).Msg("a part does not end; leaving it behind")
	}
	a.engine.Close()
	for _, f := range a.files {
		if err := f.Close(); err != nil {
			a.log.Error().Err(err).Msg("the end of a file is not written")
		}
	}
	if err := a.store.Close(); err != nil {
		return fmt.Errorf("close the database: %w", err)
	}
	return ctx.Err()
}

// endLimit leaves the database time to close within the five seconds that an
// end may take.
const endLimit = 4 * time.Second
