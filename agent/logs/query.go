package logs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"reagent/container"
	"reagent/protocol"
)

// Bounds of reading a log back.
const (
	queries    = 2        // at once; more wait
	queryBytes = 16 << 20 // of text, that one of them holds
	tailGrowth = 16       // times as much is read when what was read does not reach back far enough
	firstTail  = 8 << 10  // lines that are read at first where the window ends in the past …
	lastTail   = 1 << 17  // … and beyond so many, all
	recordSize = 16 << 10 // bytes of a line that an engine keeps, and counts, as one
)

// Query reads an app's log back (wire §5.7). The engine's record of its
// container counts: an earlier container of the app, which an update replaced,
// is not part of it, and StoredSince tells that there was one. Where there is no
// container, or no engine answers, it is what this device stored.
//
// The window is applied before lines are counted. A log is read backwards, in
// parts that grow, so that the end of a huge one costs little; it ends at the
// first part that begins before the window.
func (l *Logs) Query(ctx context.Context, q protocol.QueryAppLogsArgs) (protocol.AppLogsAnswer, error) {
	limited, cancel := context.WithTimeout(ctx, l.cfg.QueryLimit)
	defer cancel()
	select {
	case l.querying <- struct{}{}:
		defer func() { <-l.querying }()
	case <-limited.Done():
		return protocol.AppLogsAnswer{}, fmt.Errorf("read log of %s: too many others are being read: %w", q.ContainerName, limited.Err())
	}
	found, err := l.find(limited, q)
	if err != nil {
		if limited.Err() != nil && ctx.Err() == nil {
			err = fmt.Errorf("it takes longer than %s; ask for a later time, or for less: %w", l.cfg.QueryLimit, err)
		}
		return protocol.AppLogsAnswer{}, err
	}
	answer := found.answer(q, time.Now())
	if found.source != protocol.LogFromHistory {
		since, err := l.storedSince(q.ContainerName)
		if err != nil {
			return protocol.AppLogsAnswer{}, err
		}
		if !since.IsZero() && (found.oldest.IsZero() || since.Before(found.oldest)) {
			answer.StoredSince = protocol.DeviceTime(since)
		}
	}
	return answer, nil
}

// find looks for an app's log: its container's, its project's, or what is stored.
func (l *Logs) find(ctx context.Context, q protocol.QueryAppLogsArgs) (*past, error) {
	for _, form := range []struct{ source, id string }{
		{protocol.LogFromDocker, q.ContainerName},
		{protocol.LogFromCompose, container.ProjectLog(q.ContainerName + "_compose")},
	} {
		found, err := l.printed(ctx, form.id, q)
		switch {
		case err == nil:
			found.source = form.source
			return found, nil
		case errors.Is(err, container.ErrNotFound):
		case ctx.Err() == nil && (errors.Is(err, container.ErrUnavailable) || errors.Is(err, container.ErrTimeout)):
			if stored, e := l.stored(q); e == nil && stored.seen > 0 {
				return stored, nil
			}
			return nil, err
		default:
			return nil, err
		}
	}
	return l.stored(q)
}

// wanted makes a tail that holds what a question needs: one line more than it
// asks for tells whether there are older ones.
func wanted(q protocol.QueryAppLogsArgs) tail {
	return tail{lines: q.Tail + q.Offset + 1, bytes: queryBytes}
}

// printed reads what an app's containers printed, by the engine.
func (l *Logs) printed(ctx context.Context, id string, q protocol.QueryAppLogsArgs) (*past, error) {
	sources, err := l.cfg.Engine.Sources(ctx, id)
	if err != nil {
		return nil, err
	}
	all, there := past{tail: wanted(q)}, false
	for _, source := range sources {
		var one *tail
		var oldest time.Time
		one, oldest, err = l.readBack(ctx, source, q)
		switch {
		case errors.Is(err, container.ErrNotFound): // of a project, others may be there
		case err != nil:
			return nil, err
		default:
			there = true
			if all.merge(one); all.oldest.IsZero() || !oldest.IsZero() && oldest.Before(all.oldest) {
				all.oldest = oldest
			}
		}
	}
	if !there {
		return nil, err
	}
	return &all, nil
}

// readBack reads the newest lines that are wanted of one container, and tells
// when its first line was printed.
func (l *Logs) readBack(ctx context.Context, source container.LogSource, q protocol.QueryAppLogsArgs) (*tail, time.Time, error) {
	window := span{q.Since, q.Until}
	records := q.Tail + q.Offset + 2
	if !q.Until.IsZero() {
		records = max(records, firstTail)
	}
	for ; ; records *= tailGrowth {
		o := container.LogOptions{Tail: records, Timestamps: true}
		if records > lastTail {
			// The engine reads from the log's beginning and stops at the first line
			// behind the window, where a clock that was set back would mislead it. That
			// it saves half of a huge log is worth more.
			o.Tail, o.Until = 0, q.Until
		}
		r := reading{window: window, prefix: source.Prefix, found: wanted(q)}
		err := l.cfg.Engine.Logs(ctx, source.ID, o, r.line)
		if err != nil {
			return nil, time.Time{}, err
		}
		all := o.Tail == 0 || r.records < o.Tail && !r.cut
		if all && r.records > 0 {
			r.countFirst()
			return &r.found, r.first.at, nil
		}
		if all || r.found.seen >= r.found.lines || window.isAfter(r.first.at) {
			oldest, err := l.oldest(ctx, source)
			return &r.found, oldest, err
		}
	}
}

// A reading takes in what an engine hands over of one part of a log.
type reading struct {
	window  span
	prefix  string
	found   tail
	first   pastLine // may be the rest of a longer line, and counts in the end only
	records int      // of the engine
	cut     bool     // some line had more records than can be told
}

func (r *reading) line(_ string, raw []byte) {
	at, text := split(raw)
	p := pastLine{at: at, prefix: r.prefix, text: text, more: len(raw) >= container.MaxLine}
	switch {
	case r.records == 0:
		p.text = bytes.Clone(text)
		r.first = p
	case r.window.holds(at):
		r.found.add(p)
	}
	r.records += len(text)/recordSize + 1
	r.cut = r.cut || p.more
}

// countFirst takes the first line for what it is: the log's first.
func (r *reading) countFirst() {
	if r.window.holds(r.first.at) {
		r.found.addOldest(r.first)
	}
}

// oldest is the time of a container's first line.
func (l *Logs) oldest(ctx context.Context, source container.LogSource) (at time.Time, err error) {
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	read := false
	err = l.cfg.Engine.Logs(ctx, source.ID, container.LogOptions{Timestamps: true}, func(_ string, raw []byte) {
		if !read {
			at, _ = split(raw)
			read = true
			enough()
		}
	})
	if read {
		err = nil
	}
	return at, err
}

// stored answers from what this device kept, the agent's messages included.
func (l *Logs) stored(q protocol.QueryAppLogsArgs) (*past, error) {
	window, found := span{q.Since, q.Until}, past{tail: wanted(q), source: protocol.LogFromHistory}
	kept := l.kept(q.ContainerName)
	if kept == nil {
		return &found, nil
	}
	var newest []line
	size := 0
	err := kept.back(0, func(_ uint64, n line) bool {
		if size >= found.bytes {
			found.seen++ // there is more than is held at once
			return false
		}
		switch {
		case n.kind == hole:
		case window.holds(n.at):
			newest = append(newest, n)
			size += len(n.text)
		case window.isAfter(n.at.Add(disorder)) && n.kind.printed():
			return false
		}
		return len(newest) < found.lines
	})
	if err != nil {
		return nil, fmt.Errorf("read the log of %s: %w", q.ContainerName, err)
	}
	slices.Reverse(newest)
	slices.SortStableFunc(newest, func(a, b line) int { return a.at.Compare(b.at) })
	for i, prefix := range prefixes(newest) {
		found.add(pastLine{at: newest[i].at, prefix: prefix, text: []byte(newest[i].text), more: newest[i].cut})
	}
	found.oldest, err = l.storedSince(q.ContainerName)
	return &found, err
}

// storedSince is the time of the oldest line that is stored of an app; zero =
// there is none.
func (l *Logs) storedSince(cn string) (at time.Time, err error) {
	kept := l.kept(cn)
	if kept == nil {
		return at, nil
	}
	oldest, next := kept.stream.Bounds()
	err = kept.read(oldest, next, func(_ uint64, n line) bool {
		at = n.at
		return n.kind == hole
	})
	if err != nil {
		err = fmt.Errorf("read the log of %s: %w", cn, err)
	}
	return at, err
}
