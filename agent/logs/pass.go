package logs

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"time"

	"reagent/container"
	"reagent/internal/backoff"
	"reagent/protocol"
)

// A pass reads the log of one container from where the tape ends: what the engine
// has, which is sure to be all of it, or also what comes.
type pass struct {
	logs   *Logs
	topic  *topic
	source container.LogSource
	whole  bool // all of it: times do not tell what is new
	follow bool
	// The container may run, and the next pass gets the rest of a last line that
	// is only half printed.
	running bool

	of     source
	finder *finder
	pace   pace
	last   [2]time.Time // of the lines that were taken
	taken  int          // lines
	heard  *uint64      // last line of the place when the silence was looked at
	giveUp context.CancelCauseFunc
	over   bool // it is given up
}

// mostAtFirst is how many lines are taken of a container of which none was: the
// log of an adopted one may be many times what the store holds.
const mostAtFirst = 500_000

func (p *pass) run(ctx context.Context) error {
	l := p.logs
	p.of = sourceOf(p.source.ID)
	p.finder = newFinder(p.topic.tape.place(p.of), l.cfg.Wall(), p.whole)
	for k, m := range p.finder.place.marks {
		p.last[k] = m.at
	}
	o := container.LogOptions{Timestamps: true}
	if !p.finder.certain() {
		err := l.cfg.Engine.Logs(ctx, p.source.ID, o, func(stream string, raw []byte) {
			k := kindOf(stream)
			at, _ := p.split(k, raw)
			p.finder.scan(k, at)
		})
		if err != nil {
			return err
		}
		p.finder.endScan()
	}
	inner, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p.giveUp = cancel
	o.Follow, o.Running, o.Since = p.follow, p.running, p.finder.since
	if !p.finder.place.started() {
		o.Tail = mostAtFirst
	}
	if p.follow {
		defer l.watch(p)()
	}
	err := l.cfg.Engine.Logs(inner, p.source.ID, o, p.line)
	if cause := context.Cause(inner); cause != nil && ctx.Err() == nil {
		return cause
	}
	if err != nil {
		return err
	}
	if p.finder.over(); p.finder.gone {
		return errOrder
	}
	p.topic.tape.proved(p.of)
	return nil
}

// watch notes that a log is followed.
func (l *Logs) watch(p *pass) (ended func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.passes[p] = struct{}{}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.passes, p)
	}
}

// watchClock notices a clock that is set back: the engine would keep back all
// that is printed until it has caught up.
func (l *Logs) watchClock(ctx context.Context) {
	tick := time.NewTicker(l.cfg.ClockLook)
	defer tick.Stop()
	wall, at := l.cfg.Wall(), time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		now, passed := l.cfg.Wall(), time.Since(at)
		back := passed - now.Sub(wall)
		wall, at = now, time.Now()
		if back < disorder/2 {
			continue
		}
		l.mu.Lock()
		for p := range l.passes {
			if !p.finder.since.IsZero() {
				p.giveUp(errClock)
			}
		}
		for _, t := range l.topics {
			t.from = earlier(t.from, now)
		}
		l.mu.Unlock()
	}
}

// watchSilence notices logs that are not followed any more although nobody said
// so: engines stop to tell of new lines where something else rotates their files.
func (l *Logs) watchSilence(ctx context.Context) {
	for backoff.Sleep(ctx, l.cfg.SilenceLook/2+backoff.Jitter(l.cfg.SilenceLook)) == nil {
		l.mu.Lock()
		passes := slices.Collect(maps.Keys(l.passes))
		l.mu.Unlock()
		for _, p := range passes {
			missed, err := p.missed(ctx)
			switch {
			case missed:
				p.giveUp(errSilent)
			case err != nil && ctx.Err() == nil:
				l.cfg.Log.Debug().Err(err).Str("container", p.topic.cn).Msg("whether a silent log has new lines is not known")
			}
		}
	}
}

// missed tells whether the log has a line behind the last one that was taken,
// where none was since it was asked before. Only watchSilence may ask.
func (p *pass) missed(ctx context.Context) (missed bool, err error) {
	now := p.topic.tape.place(p.of)
	if before := p.heard; before == nil || *before != now.used {
		p.heard = &now.used
		return false, nil
	}
	o := container.LogOptions{Timestamps: true, Tail: 1}
	err = p.logs.cfg.Engine.Logs(ctx, p.source.ID, o, func(stream string, raw []byte) {
		at, _ := split(raw)
		missed = at.After(now.marks[kindOf(stream)].at)
	})
	return missed && err == nil, err
}

// line takes one line in, as the engine gave it.
func (p *pass) line(stream string, raw []byte) {
	if p.over {
		return
	}
	k := kindOf(stream)
	at, text := p.split(k, raw)
	fresh, last := p.finder.next(k, at)
	if p.finder.gone {
		p.over = true
		p.giveUp(errOrder)
		return
	}
	if p.finder.lost {
		p.finder.lost = false
		p.logs.miss(p.topic, p.of)
	}
	if last {
		if text, fresh = glued(text, p.finder.place.marks[k].size); fresh {
			at, text = split(text)
		}
	}
	if !fresh {
		return
	}
	if err := p.doubt(k, at, len(raw)); err != nil {
		p.over = true
		p.giveUp(err)
		return
	}
	p.last[k] = at
	p.taken++
	n := line{at: at, kind: k, source: p.of, service: p.source.Service, name: p.source.Name, size: len(text)}
	n.text, n.over = tidy(text)
	if n.cut = n.over > 0; len(raw) >= container.MaxLine {
		n.over = 0 // it was longer than anybody read
	}
	p.logs.take(p.topic, n)
}

// doubt tells what speaks against a line that comes while the log is followed.
// Where the clock was set back a line is older than the one before it; that may as
// well be a repetition, and is seen when all is read again.
func (p *pass) doubt(k kind, at time.Time, size int) error {
	switch {
	case !p.follow || at.IsZero():
		return nil
	case at.Before(p.last[k]):
		return errOrder
	case p.pace.ahead(at, p.logs.cfg.Wall(), size) > farBehind:
		return errBehind
	}
	return nil
}

// farBehind is how many bytes an engine's log may have grown by since the line
// that is read, or the one before it: fewer than make it rotate its files twice.
const farBehind = 2 << 20

// A pace is how fast a log grows.
type pace struct {
	from, last time.Time // of the window, and of the last line
	bytes      int       // in the window
	rate       float64   // bytes a second, in the window before
}

// paceWindow is how long a pace is measured.
const paceWindow = time.Second

// ahead counts a line in and tells how many bytes there may be behind it, or
// before it.
func (p *pace) ahead(at, now time.Time, size int) float64 {
	const envelope = 90 // bytes that the engine writes around a line
	if passed := at.Sub(p.from); passed >= paceWindow {
		p.rate = float64(p.bytes) / passed.Seconds()
		p.from, p.bytes = at, 0
	}
	behind := now.Sub(at)
	if !p.last.IsZero() {
		behind = max(behind, at.Sub(p.last))
	}
	p.last = at
	p.bytes += size + envelope
	return max(p.rate, float64(p.bytes)/paceWindow.Seconds()) * behind.Seconds()
}

// tidy makes a line's text as it is kept, and tells how many bytes of it are not.
func tidy(raw []byte) (text string, over int) {
	head := whole(raw, protocol.MaxLogLine)
	text, over = clean(head, len(head)), len(raw)-len(head)
	if len(text) > protocol.MaxLogLine { // U+FFFD takes three bytes
		head = whole([]byte(text), protocol.MaxLogLine)
		text, over = string(head), over+len(text)-len(head)
	}
	return text, over
}

// glued gives what follows in a line whose beginning was the last one of a
// container: it had no end of its own, and when the container was started again
// the engine went on right behind it, with a time in between. A carriage return
// that it ended with was cut off it, when it was the end of the log.
func glued(text []byte, size int) (rest []byte, is bool) {
	if size >= len(text) {
		return nil, false
	}
	rest = bytes.TrimPrefix(text[size:], []byte{'\r'})
	at, _ := split(rest)
	return rest, !at.IsZero()
}

// split takes the time off a line. Of the last line that was taken it is the one
// that the line was taken with, even where it was glued to another.
func (p *pass) split(k kind, raw []byte) (at time.Time, text []byte) {
	at, text = split(raw)
	if stamp := p.finder.stamps[k]; stamp != nil && !p.finder.found[k] {
		if _, rest, is := bytes.Cut(text, stamp); is {
			return p.finder.place.marks[k].at, rest
		}
	}
	return at, text
}

// kindOf is the kind of a line that the engine says is of a stream.
func kindOf(stream string) kind {
	if stream == protocol.StreamStderr {
		return stderr
	}
	return stdout
}

// split takes the time off a line.
func split(raw []byte) (at time.Time, text []byte) {
	stamp, text, ok := bytes.Cut(raw, []byte{' '})
	if !ok || len(stamp) > len(time.RFC3339Nano) {
		return time.Time{}, raw
	}
	at, err := time.Parse(time.RFC3339Nano, string(stamp))
	if err != nil {
		return time.Time{}, raw
	}
	return at, text
}
