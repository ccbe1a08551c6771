package logs

import (
	"time"

	"reagent/container"
)

// take takes a line into an app's tape, and hands it to whoever listens.
func (l *Logs) take(t *topic, n line) {
	t.tape.mu.Lock()
	defer t.tape.mu.Unlock()
	seq := t.tape.write(n)
	l.mu.Lock()
	defer l.mu.Unlock()
	if seq <= t.sent || t.late || t.serving {
		return // it is found in the tape
	}
	t.sent = seq
	if l.heard(t) {
		l.show(t, seq, n)
	}
}

// show puts a line of a container into the open window, as the topic has it.
// What the agent says is published as it says it.
func (l *Logs) show(t *topic, seq uint64, n line) {
	if !n.kind.printed() || !n.at.IsZero() && n.at.Before(t.from) {
		return
	}
	text := prefix(t.sources, n) + n.text
	if n.cut {
		head := whole([]byte(text), l.cfg.MaxFlush-cutRoom)
		text = string(head) + cutMark(len(text)-len(head)+n.over, n.over == 0)
	}
	l.print(t, text, seq)
}

// prefix is what compose puts before a line of a project.
func prefix(sources []container.LogSource, n line) string {
	if n.name == "" {
		return ""
	}
	for _, s := range sources {
		if sourceOf(s.ID) == n.source {
			return s.Prefix
		}
	}
	return container.LogPrefixes([]string{n.name})[0] // of a container that is gone
}

// serve begins to send what was kept for somebody who listens now. l.mu is held.
func (l *Logs) serve(t *topic) {
	t.late = false
	if t.serving || l.ctx == nil || l.ctx.Err() != nil {
		return
	}
	now := l.cfg.Wall()
	t.from = earlier(t.from, now)
	if oldest := now.Add(-l.cfg.CatchUp); t.from.Before(oldest) {
		t.from = oldest
	}
	t.serving = true
	from := t.from
	l.group.Go(func() {
		l.passOver(t, from)
		for l.serveMore(t) {
		}
	})
}

// passOver leaves out what is too old to be sent: after a long time without a
// connection that may be nearly all.
func (l *Logs) passOver(t *topic, from time.Time) {
	first := uint64(0)
	err := t.tape.back(0, func(seq uint64, n line) bool {
		first = seq
		return !n.kind.printed() || n.at.IsZero() || !n.at.Before(from)
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && first > 0 {
		t.sent = max(t.sent, first-1)
	}
}

// serveMore sends some of the lines that were kept. Between two looks at the
// tape the lock is free.
func (l *Logs) serveMore(t *topic) (more bool) {
	type kept struct {
		seq uint64
		line
	}
	var lines []kept
	l.mu.Lock()
	from := t.sent + 1
	l.mu.Unlock()
	end, size := t.tape.next(), 0
	behind := end - 1
	err := t.tape.read(from, end, func(seq uint64, n line) bool {
		lines = append(lines, kept{seq, n})
		if size += len(n.text); size < l.cfg.MaxFlush {
			return true
		}
		behind = seq
		return false
	})
	if err != nil {
		l.cfg.Log.Warn().Err(err).Str("container", t.cn).Msg("what was printed meanwhile cannot be read")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.heard(t) || l.ctx == nil || l.ctx.Err() != nil {
		t.serving = false // whoever listens next
		return false
	}
	for _, n := range lines {
		l.show(t, n.seq, n.line)
	}
	t.sent = max(t.sent, behind)
	t.serving = t.tape.next() > t.sent+1
	return t.serving
}
