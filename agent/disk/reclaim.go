package disk

import (
	"context"
	"time"

	"reagent/protocol"
)

// A Step frees room on the engine's disk.
type Step struct {
	Name  string
	Limit time.Duration                                     // it ends within
	Every time.Duration                                     // at least so long between two attempts
	When  func() bool                                       // nil = always
	Free  func(context.Context) (claimed uint64, err error) // bytes, as the one says who freed them
}

// An attempt to reclaim, and its reason.
type attempt struct {
	at      time.Time
	level   protocol.DiskLevel
	awaited uint64
}

// shortage tells whether something is to be reclaimed on the engine's disk, and
// why.
func (g *Guard) shortage() (why attempt, short bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.engine
	goal := max(g.cfg.Limits.on(p.space.Total).goal(p.level), p.awaited)
	return attempt{time.Now(), p.level, p.awaited}, p.space.Total > 0 && p.space.Free < goal
}

// due tells whether another attempt is worth it: the shortage is another one
// than at the last, or some time went by.
func (g *Guard) due(now attempt) (due, news bool) {
	pause := g.cfg.Waits.Reclaim
	if now.level == protocol.DiskCritical {
		pause /= 5
	}
	news = g.last.at.IsZero() || now.level != g.last.level && now.level != protocol.DiskEnough || now.awaited > g.last.awaited
	return news || now.at.Sub(g.last.at) >= pause, news
}

// reclaim performs the steps in their order until there is enough.
func (g *Guard) reclaim(ctx context.Context) {
	why, short := g.shortage()
	if !short {
		return
	}
	due, news := g.due(why)
	if !due {
		return
	}
	g.last = why
	for _, s := range g.cfg.Steps {
		if s.When != nil && !s.When() {
			continue
		}
		if at, done := g.performed[s.Name]; done && time.Since(at) < s.Every {
			continue
		}
		g.performed[s.Name] = time.Now()
		before := g.free()
		claimed, err := g.perform(ctx, s)
		g.look(ctx)
		won := int64(g.free()) - int64(before) // apps write meanwhile: it may be less than nothing
		line := g.cfg.Log.Debug()
		switch {
		case err != nil:
			line = g.cfg.Log.Warn().Err(err)
		case won > 0 || claimed > 0:
			line = g.cfg.Log.Info()
		}
		line.Str("step", s.Name).Uint64("claimed", claimed).Int64("won", won).Uint64("free", g.free()).Msg("disk space reclaimed")
		if _, short := g.shortage(); !short || ctx.Err() != nil {
			return
		}
	}
	if why, short := g.shortage(); short && news {
		g.cfg.Log.Warn().Str("level", string(why.level)).Uint64("free", g.free()).Msg("nothing more can be reclaimed: remove apps or their data")
	}
}

func (g *Guard) free() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.engine.space.Free
}

// perform runs a step within its limit, and goes on looking meanwhile: a prune
// may take minutes, and a disk may be full in less.
func (g *Guard) perform(ctx context.Context, s Step) (uint64, error) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			timer := time.NewTimer(g.pause())
			select {
			case <-timer.C:
				g.look(ctx)
			case <-stop:
				timer.Stop()
				return
			}
		}
	}()
	defer func() {
		close(stop)
		<-stopped
	}()
	limited, cancel := context.WithTimeout(ctx, s.Limit)
	defer cancel()
	return s.Free(limited)
}
