package agent

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/internal/backoff"
)

// A part is a long-running piece of the agent. run returns only when its
// context ends; if it returns before, it is started again (design S2).
type part struct {
	name string
	run  func(context.Context) error
}

// A supervisor runs parts until its context ends, and waits for all of them.
type supervisor struct {
	log      zerolog.Logger
	min, max time.Duration // of the pause before a part is started again
}

func (s supervisor) run(ctx context.Context, parts ...part) {
	var group sync.WaitGroup
	for _, p := range parts {
		group.Go(func() { s.keep(ctx, p) })
	}
	group.Wait()
}

func (s supervisor) keep(ctx context.Context, p part) {
	pause := backoff.Backoff{Min: s.min, Max: s.max}
	for {
		begun := time.Now()
		err := p.run(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > s.max {
			pause.Reset()
		}
		wait := pause.Next()
		s.log.Error().Err(err).Str("part", p.name).Dur("retry_in", wait).Msg("part ended; starting it again")
		if backoff.Sleep(ctx, wait) != nil {
			return
		}
	}
}
