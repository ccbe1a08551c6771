// Package backoff spaces out repeated attempts: the pause grows with each
// attempt and is drawn at random, so that a fleet that lost its studio in one
// instant does not come back in one instant.
//
// A Backoff is a value for one goroutine. It sleeps only when asked to, keeps
// nothing over a restart and never gives up: when to stop is its owner's
// decision.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// A Backoff yields pauses, each uniform in [0, d], where d is Min at first and
// doubles with each pause up to Max ("full jitter", also at the cap). The zero
// value yields no pauses.
type Backoff struct {
	Min, Max time.Duration

	d time.Duration // 0 = fresh
}

// Next draws the next pause.
func (b *Backoff) Next() time.Duration {
	d := b.Ceiling()
	b.d = min(2*d, b.Max)
	return Jitter(d)
}

// Ceiling is the longest pause that Next may draw now.
func (b *Backoff) Ceiling() time.Duration { return max(b.d, min(b.Min, b.Max)) }

// Reset makes the next pause a first one again.
func (b *Backoff) Reset() { b.d = 0 }

// Jitter draws a duration uniformly from [0, d].
func Jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d + 1)
}

// Sleep waits for d or for the end of ctx, and returns ctx's error then.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
