package logs

import (
	"bytes"
	"context"
	"errors"
	"time"

	"reagent/container"
	"reagent/internal/backoff"
)

// A stream is one container being followed.
type stream struct {
	container string
	cancel    context.CancelFunc
	past      bool        // only for what is kept; nobody listens
	from      time.Time   // lines before it are only kept
	ending    *time.Timer // cuts it off when its container does not end; nil = it goes on
}

// end lets a stream go on for as long as its container takes to end, and no
// longer than that.
func (s *stream) end(linger time.Duration) {
	if s.ending == nil {
		s.ending = time.AfterFunc(linger, s.cancel)
	}
}

// keep takes end back.
func (s *stream) keep() {
	if s.ending != nil {
		s.ending.Stop()
		s.ending = nil
	}
}

// settle follows an app's container exactly while somebody listens.
func (l *Logs) settle(t *topic) {
	wanted := t.container != "" && l.heard(t)
	switch {
	case wanted && t.stream == nil:
		l.follow(t, false)
	case wanted && t.stream.past: // it was let go, and taken back
		l.unfollow(t)
		l.follow(t, false)
	case !wanted && t.stream != nil && t.stream.ending == nil:
		l.unfollow(t)
		t.printed.clear() // the engine has it
	}
}

func (l *Logs) unfollow(t *topic) {
	if s := t.stream; s != nil {
		s.keep()
		s.cancel()
		t.stream = nil
	}
}

// follow begins to follow an app's container, for listeners or for the past.
func (l *Logs) follow(t *topic, past bool) {
	if l.ctx == nil || l.ctx.Err() != nil {
		return
	}
	ctx, cancel := context.WithCancel(l.ctx)
	s := &stream{container: t.container, cancel: cancel, past: past}
	t.stream, t.again = s, false
	l.group.Go(func() {
		defer cancel()
		l.read(ctx, t, s)
		l.mu.Lock()
		defer l.mu.Unlock()
		s.keep()
		if t.stream != s {
			return
		}
		t.stream = nil
		if t.again {
			l.settle(t)
		}
	})
}

// read follows a container to its end. An engine that breaks off is asked again
// for what came since; one that ends in order is not: whoever starts the
// container again attaches it again.
func (l *Logs) read(ctx context.Context, t *topic, s *stream) {
	pause := backoff.Backoff{Min: l.cfg.MinRetry, Max: l.cfg.MaxRetry}
	for {
		begun := false
		err := l.cfg.Engine.Logs(ctx, s.container, l.begin(t, s), func(_ string, line []byte) {
			l.line(t, s, line, !begun)
			begun = true
		})
		if ctx.Err() != nil || err == nil || errors.Is(err, container.ErrNotFound) {
			return
		}
		l.cfg.Log.Debug().Err(err).Str("container", t.cn).Msg("log broke off; following it again")
		if begun {
			pause.Reset()
		}
		if backoff.Sleep(ctx, pause.Next()) != nil {
			return
		}
	}
}

// begin says which part of a log a stream needs: what the history keeps, too,
// so that it has no holes.
func (l *Logs) begin(t *topic, s *stream) container.LogOptions {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().Round(0)
	s.from = earlier(t.from, now)
	if oldest := now.Add(-l.cfg.CatchUp); s.from.Before(oldest) {
		s.from = oldest
	}
	o := container.LogOptions{Follow: true, Timestamps: true, Since: earlier(t.cleared, s.from)}
	switch behind := now.Sub(s.from); {
	case s.past:
		o.Tail = keptLines
	case behind < time.Second:
		o.Tail = shortTail
	default:
		o.Tail = longTail
	}
	return o
}

// earlier keeps a clock that was set back from silencing a log until it has
// caught up.
func earlier(t, now time.Time) time.Time {
	if t.After(now) {
		return now.Round(0)
	}
	return t
}

// line takes one line in, as the engine gave it: its time, a space, its text.
func (l *Logs) line(t *topic, s *stream, raw []byte, first bool) {
	at, text := split(raw)
	line := clean(text, len(text))
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.stream != s {
		return
	}
	if first {
		t.printed.clear() // what comes now has it in it
	}
	if at.IsZero() || !at.Before(t.cleared) {
		t.printed.add(entry{at: at, text: line})
	}
	if s.past || !at.IsZero() && at.Before(s.from) {
		return
	}
	if !at.IsZero() {
		t.from = at.Add(1)
	}
	if l.heard(t) {
		l.print(t, line, at)
	}
}

func split(raw []byte) (at time.Time, text []byte) {
	stamp, text, ok := bytes.Cut(raw, []byte{' '})
	if !ok {
		return time.Time{}, raw
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return time.Time{}, raw
	}
	return at, text
}
