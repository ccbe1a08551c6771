package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"reagent/container"
)

// What is kept of an app, of the agent's messages and of its lines each.
const (
	keptLines = 100
	keptBytes = 256 << 10
	oldLines  = 50     // of a container that printed nothing since the history was cleared
	keptLook  = 10_000 // lines that are looked at for them
)

// History is the recent past of an app: what the agent said and what the
// container printed since the last ClearHistory, by time; or the container's
// last lines before that, where it printed none since. Never nil. What the
// agent has not stored, the engine is asked for.
func (l *Logs) History(ctx context.Context, cn string) ([]string, error) {
	var cleared uint64
	name, stored := cn, l.kept(cn)
	l.mu.Lock()
	if t := l.topics[cn]; t != nil {
		cleared, name = t.cleared, cmp.Or(t.container, cn)
	}
	l.mu.Unlock()

	var agent, printed recent
	looked := 0
	if stored != nil {
		err := stored.back(0, func(seq uint64, n line) bool {
			most := keptLines
			if seq < cleared {
				if len(printed.lines) > 0 && !printed.older {
					return false
				}
				printed.older, most = true, oldLines
			}
			switch {
			case n.kind.printed():
				printed.add(n, most)
			case n.kind == said && seq >= cleared:
				agent.add(n, most)
			}
			looked++
			return looked < keptLook && (!printed.full || seq >= cleared && !agent.full)
		})
		if err != nil {
			return nil, fmt.Errorf("read the log of %s: %w", cn, err)
		}
	}
	if len(printed.lines) == 0 {
		printed.lines = l.unstored(ctx, name, container.ProjectLog(cn+"_compose"))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	all := slices.Concat(agent.lines, printed.lines)
	slices.Reverse(all)
	slices.SortStableFunc(all, func(a, b line) int { return a.at.Compare(b.at) })
	lines := prefixes(all)
	for i, n := range all {
		lines[i] += n.text + cutMark(n.over, n.cut && n.over == 0)
	}
	return lines, nil
}

// kept gives an app's tape; nil where nothing was ever kept of it.
func (l *Logs) kept(cn string) *tape {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.topics[cn]; t != nil {
		return t.tape
	}
	if s, begun := l.cfg.Journal.Lookup(cn); begun {
		return &tape{stream: s}
	}
	return nil
}

// prefixes are what compose puts before each of the lines; "" before those of an
// app of one container, and of the agent.
func prefixes(lines []line) []string {
	var names []string
	for _, n := range lines {
		if n.name != "" && !slices.Contains(names, n.name) {
			names = append(names, n.name)
		}
	}
	of, all := container.LogPrefixes(names), make([]string, len(lines))
	for i, n := range lines {
		if k := slices.Index(names, n.name); k >= 0 {
			all[i] = of[k]
		}
	}
	return all
}

// recent gathers lines, the newest first.
type recent struct {
	lines []line
	bytes int
	older bool // they are from before the last ClearHistory
	full  bool
}

func (r *recent) add(n line, most int) {
	if r.bytes += len(n.text); len(r.lines) >= most || r.bytes > keptBytes && len(r.lines) > 0 {
		r.full = true
	}
	if !r.full {
		r.lines = append(r.lines, n)
	}
}

// unstored reads the end of a log of which no line was stored, the newest line
// first: of the first of these that is there.
func (l *Logs) unstored(ctx context.Context, ids ...string) (lines []line) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.EngineLimit)
	defer cancel()
	for _, id := range ids {
		sources, err := l.cfg.Engine.Sources(ctx, id)
		for _, s := range sources {
			var some []line
			if some, err = l.end(ctx, s); err != nil {
				break
			}
			lines = append(lines, some...)
		}
		if err == nil {
			break
		}
		if !errors.Is(err, container.ErrNotFound) && ctx.Err() == nil {
			l.cfg.Log.Debug().Err(err).Str("container", id).Msg("engine does not tell a container's past")
		}
	}
	slices.SortStableFunc(lines, func(a, b line) int { return a.at.Compare(b.at) })
	lines = lines[max(0, len(lines)-oldLines):]
	slices.Reverse(lines)
	return lines
}

// end reads the last lines that an engine has of a container.
func (l *Logs) end(ctx context.Context, s container.LogSource) (lines []line, err error) {
	size := 0
	err = l.cfg.Engine.Logs(ctx, s.ID, container.LogOptions{Tail: oldLines, Timestamps: true}, func(_ string, raw []byte) {
		at, text := split(raw)
		lines = append(lines, line{at: at, name: s.Name, text: clean(text, keptBytes)})
		for size += len(text); size > keptBytes && len(lines) > 1; lines = lines[1:] {
			size -= len(lines[0].text)
		}
	})
	return lines, err
}

// earlier keeps a clock that was set back from silencing a log until it has
// caught up.
func earlier(t, now time.Time) time.Time {
	if t.After(now) {
		return now
	}
	return t
}
