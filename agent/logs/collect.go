package logs

import (
	"context"
	"errors"
	"sync"
	"time"

	"reagent/container"
	"reagent/internal/backoff"
	"reagent/protocol"
)

// A collection is the log of an app's container, or of its project's containers,
// on its way into the app's tape.
type collection struct {
	of     string // as Attach called it
	cancel context.CancelFunc
	look   chan struct{} // capacity 1: something was started
	ending *time.Timer   // cuts it off when its container does not end; nil = it goes on
}

// end lets a collection go on for as long as its container takes to end, and no
// longer than that.
func (c *collection) end(linger time.Duration) {
	if c.ending == nil {
		c.ending = time.AfterFunc(linger, c.cancel)
	}
}

// keep takes end back.
func (c *collection) keep() {
	if c.ending != nil {
		c.ending.Stop()
		c.ending = nil
	}
}

// collect begins to take in what an app prints. l.mu is held.
func (l *Logs) collect(t *topic) {
	if l.ctx == nil || l.ctx.Err() != nil || t.container == "" {
		return
	}
	ctx, cancel := context.WithCancel(l.ctx)
	c := &collection{of: t.container, cancel: cancel, look: make(chan struct{}, 1)}
	t.collection, t.again = c, false
	l.group.Go(func() {
		defer cancel()
		l.gather(ctx, t, c)
		l.mu.Lock()
		defer l.mu.Unlock()
		c.keep()
		if t.collection != c {
			return
		}
		t.collection = nil
		if t.again {
			l.collect(t)
		}
		l.stir(t)
	})
}

// gather takes in all of a collection, to the end of its containers.
func (l *Logs) gather(ctx context.Context, t *topic, c *collection) {
	sources := l.sources(ctx, t, c.of)
	if len(sources) == 1 && sources[0].ID == c.of {
		l.follow(ctx, t, sources[0])
		return
	}
	var readers sync.WaitGroup
	defer readers.Wait()
	ended, runs := make(chan string), map[string]*run{}
	tick := time.NewTicker(l.cfg.Rescan)
	defer tick.Stop()
	for {
		for _, s := range sources {
			if !begin(runs, s) {
				continue
			}
			readers.Go(func() {
				l.follow(ctx, t, s)
				select {
				case ended <- s.ID:
				case <-ctx.Done():
				}
			})
		}
		select {
		case <-ctx.Done():
			return
		case id := <-ended:
			runs[id].read = false
			if !anyRead(runs) {
				return
			}
			sources = nil // they are from before that
			continue
		case <-c.look:
		case <-tick.C:
		}
		sources = l.sources(ctx, t, c.of)
	}
}

// A run is one container of a project, from a start to its end.
type run struct {
	read    bool      // its log is being read, which lasts until it ends
	started time.Time // zero = not known yet
}

// begin tells whether a container's log is to be read: it is not being read, and
// the container runs, or has run since.
func begin(runs map[string]*run, s container.LogSource) bool {
	r := runs[s.ID]
	if r == nil {
		runs[s.ID] = &run{read: true, started: s.Started}
		return true
	}
	if r.read || !s.Running && s.Started.Equal(r.started) {
		return false
	}
	r.read, r.started = true, s.Started
	return true
}

func anyRead(runs map[string]*run) bool {
	for _, r := range runs {
		if r.read {
			return true
		}
	}
	return false
}

// sources asks which containers there are until the engine tells; none where
// there is none.
func (l *Logs) sources(ctx context.Context, t *topic, id string) []container.LogSource {
	pause := backoff.Backoff{Min: l.cfg.MinRetry, Max: l.cfg.MaxRetry}
	for {
		sources, err := l.cfg.Engine.Sources(ctx, id)
		if err == nil {
			l.mu.Lock()
			t.sources = sources
			l.mu.Unlock()
			t.tape.keep(sources)
			return sources
		}
		if errors.Is(err, container.ErrNotFound) || backoff.Sleep(ctx, pause.Next()) != nil {
			return nil
		}
	}
}

// Why a pass is given up for a new one.
var (
	// The engine filters by a clock that does not hold any more.
	errClock = errors.New("the clock was set back")
	// An engine that is followed while it rotates its files may leave lines out
	// or hand them over twice, without a word.
	errBehind = errors.New("the engine's log grows too fast to be followed")
	errOrder  = errors.New("the engine goes back in its log")
	errSilent = errors.New("the engine does not tell of new lines")
)

// follow takes in what a container prints, to its end: first what there is, then
// what comes. Whatever ends that, it begins again from where the tape ends; when
// the container has ended it is asked for what it has not shown yet, and no more:
// whoever starts it again attaches it again.
func (l *Logs) follow(ctx context.Context, t *topic, s container.LogSource) {
	pause := backoff.Backoff{Min: l.cfg.MinRetry, Max: l.cfg.MaxRetry}
	for whole := false; ; {
		taken, err := l.once(ctx, t, s, whole)
		if ctx.Err() != nil || err == nil || errors.Is(err, container.ErrNotFound) {
			return
		}
		whole = whole || errors.Is(err, errClock)
		l.cfg.Log.Debug().Err(err).Str("container", t.cn).Msg("log broke off; reading on from its last line")
		if taken > 0 {
			pause.Reset()
		}
		if again := errors.Is(err, errClock) || taken > 0 && (errors.Is(err, errBehind) || errors.Is(err, errOrder)); again {
			continue
		}
		if backoff.Sleep(ctx, pause.Next()) != nil {
			return
		}
	}
}

// once follows a container to its end, or to a failure. Only meanwhile its log is
// occupied.
func (l *Logs) once(ctx context.Context, t *topic, s container.LogSource, whole bool) (taken int, err error) {
	free, err := l.occupy(ctx, t, s.ID)
	if err != nil {
		return 0, err
	}
	defer free()
	for _, p := range []pass{{running: true}, {follow: true}, {}} {
		p.logs, p.topic, p.source, p.whole = l, t, s, whole
		err = p.run(ctx)
		if taken += p.taken; err != nil {
			return taken, err
		}
	}
	return taken, nil
}

// occupy waits until nobody reads a container's log into the tape: each line has
// to be taken once.
func (l *Logs) occupy(ctx context.Context, t *topic, id string) (free func(), err error) {
	for {
		l.mu.Lock()
		other := t.busy[id]
		if other == nil {
			mine := make(chan struct{})
			if t.busy == nil {
				t.busy = map[string]chan struct{}{}
			}
			t.busy[id] = mine
			l.mu.Unlock()
			return func() {
				l.mu.Lock()
				defer l.mu.Unlock()
				delete(t.busy, id)
				close(mine)
			}, nil
		}
		l.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Drain takes in what is left of the log of a container that has ended and is
// about to be removed. It waits for that, but not for long; what is not read by
// then is a gap. What it has is on the disk when it returns: with the container
// goes the engine's copy, which a power cut would have left.
func (l *Logs) Drain(ctx context.Context, cn string, c container.Container) {
	l.mu.Lock()
	t := l.topic(cn)
	l.mu.Unlock()
	limited, cancel := context.WithTimeout(ctx, l.cfg.DrainLimit)
	defer cancel()
	err := l.drain(limited, t, container.SourceOf(c))
	switch {
	case ctx.Err() != nil:
		return
	case err != nil && !errors.Is(err, container.ErrNotFound):
		l.cfg.Log.Warn().Err(err).Str("container", cn).Msg("a container goes before its log was read to the end")
		l.miss(t, sourceOf(c.ID))
	}
	if err := t.tape.stream.Flush(true); err != nil {
		l.cfg.Log.Warn().Err(err).Str("container", cn).Msg("a container goes, and a power cut may still take the end of its log")
	}
}

// miss notes that lines of a container are missing.
func (l *Logs) miss(t *topic, of source) {
	l.take(t, line{at: l.cfg.Wall(), kind: hole, source: of, gap: protocol.GapEngine})
}

func (l *Logs) drain(ctx context.Context, t *topic, s container.LogSource) error {
	free, err := l.occupy(ctx, t, s.ID)
	if err != nil {
		return err
	}
	defer free()
	p := pass{logs: l, topic: t, source: s}
	return p.run(ctx)
}
