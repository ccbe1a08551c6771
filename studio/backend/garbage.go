package backend

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"reagent/protocol"
)

// garbage remembers the last collection that run_gc was answered with.
type garbage struct {
	mu   sync.Mutex // held while collecting: one at a time
	last protocol.GarbageCollected
}

// runGC answers run_gc (wire §6). A device that runs out of disk asks for it, if
// the registry lies on the same disk, which only it knows; so any device may. What
// is removed is of no use to anybody, and it is not removed more often than now
// and then.
func (b *Backend) runGC(ctx context.Context, r Request) ([]any, error) {
	if !slices.Contains(b.cfg.DeviceRoles, r.Role) {
		c, err := b.caller(r)
		if err != nil {
			return nil, err
		}
		if !c.administrator() {
			return nil, refused("only a device, or the administrator of this studio, may do that")
		}
	} else if _, err := b.callingDevice(r); err != nil {
		return nil, err
	}
	b.garbage.mu.Lock()
	defer b.garbage.mu.Unlock()
	if ago := time.Since(b.garbage.last.Began); ago < b.cfg.CollectPause {
		answer := b.garbage.last
		answer.Reason = fmt.Sprintf("the last collection was %v ago", ago.Round(time.Second))
		return []any{protocol.Wire(answer)}, nil
	}
	answer, err := b.collect(ctx)
	return []any{protocol.Wire(answer)}, err
}

func (b *Backend) collectGarbage(ctx context.Context, _ caller, _ nothing) (protocol.GarbageCollected, error) {
	b.garbage.mu.Lock()
	defer b.garbage.mu.Unlock()
	return b.collect(ctx)
}

// collect collects. The lock is held.
func (b *Backend) collect(ctx context.Context) (protocol.GarbageCollected, error) {
	done, err := b.cfg.Images.Collect(ctx)
	if err != nil {
		return done, fmt.Errorf("collect what the registry holds for nothing: %w", err)
	}
	b.garbage.last = done
	return done, nil
}
