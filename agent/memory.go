package agent

import (
	"context"
	"runtime/debug"
	"time"

	"reagent/internal/backoff"
	"reagent/system"
)

// A trimmer gives back memory that the agent needed for a moment: at the start,
// during a download, for a long list. An idle agent shares a small machine with
// the apps that it is there for.
//
// What it gives back is the heap that the collector holds ready, and the mapping
// of code and constants that ran once and are not likely to run again soon; a
// page that is needed after all comes back from the page cache, or from the disk
// under pressure, without anybody noticing.
type trimmer struct {
	first time.Duration // after the start, when what starting took is over
	every time.Duration // from then on, give or take a half
}

func (t trimmer) run(ctx context.Context) error {
	pause := t.first
	for {
		if err := backoff.Sleep(ctx, pause); err != nil {
			return err
		}
		debug.FreeOSMemory()
		system.UnmapCode()
		pause = t.every/2 + backoff.Jitter(t.every)
	}
}
