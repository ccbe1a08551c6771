package logs

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"reagent/container"
)

// What is kept of an app, of the agent's messages and of its lines each.
const (
	keptLines = 100
	keptBytes = 256 << 10
	oldLines  = 50 // of a container that printed nothing since the history was cleared
)

// An entry is one line of the past.
type entry struct {
	at   time.Time // zero = unknown
	text string
}

// A ring keeps the newest entries.
type ring struct {
	most, bytes int // bounds
	list        []entry
	size        int // bytes in list
}

func (r *ring) add(e entry) {
	r.list = append(r.list, e)
	r.size += len(e.text)
	for len(r.list) > r.most || r.size > r.bytes && len(r.list) > 1 {
		r.size -= len(r.list[0].text)
		r.list[0] = entry{} // the array lives on
		r.list = r.list[1:]
	}
}

func (r *ring) clear() { r.list, r.size = nil, 0 }

// History is the recent past of an app: what the agent said and what the
// container printed since the last ClearHistory, by time; or the container's
// last lines before that, where it printed none since. Never nil. While the
// engine does not answer, and when the container is gone, it is what is known
// without it.
func (l *Logs) History(ctx context.Context, cn string) ([]string, error) {
	var said, printed []entry
	var cleared time.Time
	name := cn
	l.mu.Lock()
	if t := l.topics[cn]; t != nil {
		said, printed = slices.Clone(t.said.list), slices.Clone(t.printed.list)
		cleared = t.cleared
		name = cmp.Or(t.container, cn)
	}
	l.mu.Unlock()

	kept, err := l.tail(ctx, name, earlier(cleared, time.Now()), keptLines)
	if err == nil && len(kept) == 0 && len(printed) == 0 && !cleared.IsZero() {
		kept, err = l.tail(ctx, name, time.Time{}, oldLines)
	}
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	if err != nil && !errors.Is(err, container.ErrNotFound) {
		l.cfg.Log.Debug().Err(err).Str("container", cn).Msg("engine does not tell a container's past")
	}
	if len(kept) > 0 {
		printed = kept
	}
	all := append(said, printed...)
	slices.SortStableFunc(all, func(a, b entry) int { return a.at.Compare(b.at) })
	lines := make([]string, len(all))
	for i, e := range all {
		lines[i] = e.text
	}
	return lines, nil
}

// tail reads the end of a container's log.
func (l *Logs) tail(ctx context.Context, idOrName string, since time.Time, most int) ([]entry, error) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.EngineLimit)
	defer cancel()
	kept := ring{most: most, bytes: 4 * keptBytes}
	err := l.cfg.Engine.Logs(ctx, idOrName, container.LogOptions{Since: since, Tail: most, Timestamps: true}, func(_ string, raw []byte) {
		at, text := split(raw)
		kept.add(entry{at, clean(text, keptBytes)})
	})
	if err != nil {
		return nil, err
	}
	return kept.list, nil
}
