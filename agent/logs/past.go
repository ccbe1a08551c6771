package logs

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"reagent/protocol"
)

// A pastLine is one line of a log that is read back.
type pastLine struct {
	at     time.Time // zero = unknown
	prefix string    // which container of a project printed it
	text   []byte    // not yet clean
	over   int       // bytes that were cut off it …
	more   bool      // … and more, nobody knows how many
}

// stamped is the form in which the engine writes times.
const stamped = "2006-01-02T15:04:05.000000000Z07:00"

// render makes the line as answers have it (wire §5.7).
func (p *pastLine) render(timestamps bool) string {
	var b strings.Builder
	b.WriteString(p.prefix)
	if timestamps && !p.at.IsZero() {
		b.WriteString(p.at.UTC().Format(stamped))
		b.WriteByte(' ')
	}
	b.WriteString(clean(p.text, len(p.text)))
	b.WriteString(cutMark(p.over, p.more))
	return b.String()
}

// cutMark stands at the end of a line of which so many bytes were cut off, and
// perhaps more; "" = none.
func cutMark(bytes int, more bool) string {
	switch {
	case more && bytes == 0:
		return "… the rest is cut"
	case more:
		return fmt.Sprintf("… more than %d byte(s) cut", bytes)
	case bytes > 0:
		return fmt.Sprintf("… %d byte(s) cut", bytes)
	}
	return ""
}

// bounded is the line at its greatest length.
func (p pastLine) bounded() pastLine {
	if len(p.text) > protocol.MaxLogLine {
		text := whole(p.text, protocol.MaxLogLine)
		p.text, p.over = text, p.over+len(p.text)-len(text)
	}
	return p
}

// A span is the time that a question is about, both ends included; zero = no
// bound. A line of an unknown time is inside.
type span struct{ since, until time.Time }

func (s span) isAfter(at time.Time) bool {
	return !s.since.IsZero() && !at.IsZero() && at.Before(s.since)
}

func (s span) isBefore(at time.Time) bool { return !s.until.IsZero() && at.After(s.until) }

func (s span) holds(at time.Time) bool { return !s.isAfter(at) && !s.isBefore(at) }

// A tail keeps the newest of the lines that are added, in bounded memory: so
// many lines, and so many bytes of them.
type tail struct {
	lines, bytes int
	seen         int // lines that were added

	list []pastLine // those from head on
	head int
	size int
}

// add takes a copy of a line.
func (t *tail) add(p pastLine) {
	t.seen++
	if t.lines == 0 {
		return
	}
	p = p.bounded()
	var spare []byte
	for n := len(t.list) - t.head; n > 0 && (n >= t.lines || t.size+len(p.text) > t.bytes); n-- {
		oldest := &t.list[t.head]
		spare, t.size = oldest.text, t.size-len(oldest.text)
		*oldest = pastLine{}
		t.head++
	}
	if t.head >= t.lines {
		t.list, t.head = slices.Delete(t.list, 0, t.head), 0
	}
	if cap(spare) > 2*len(p.text)+256 {
		spare = nil // a huge line's memory must not stay with a short one
	}
	p.text = append(spare[:0], p.text...)
	t.size += len(p.text)
	t.list = append(t.list, p)
}

// addOldest takes a line that is older than all others.
func (t *tail) addOldest(p pastLine) {
	t.seen++
	if n := len(t.kept()); n < t.lines && t.size+len(p.text) <= t.bytes {
		t.list = slices.Insert(t.list, t.head, p.bounded())
		t.size += len(t.list[t.head].text)
	}
}

// kept are the lines that are kept, the oldest first.
func (t *tail) kept() []pastLine { return t.list[t.head:] }

// merge takes in what another container printed meanwhile: by time, while the
// lines of each keep their order.
func (t *tail) merge(other *tail) {
	if t.seen == 0 {
		*t = *other
		return
	}
	both := tail{lines: t.lines, bytes: t.bytes}
	a, b := t.kept(), other.kept()
	for len(a)+len(b) > 0 {
		from := &a
		if len(a) == 0 || len(b) > 0 && b[0].at.Before(a[0].at) {
			from = &b
		}
		both.add((*from)[0])
		*from = (*from)[1:]
	}
	both.seen = t.seen + other.seen
	*t = both
}

// A past is what was found of a log for one question.
type past struct {
	tail
	source string
	oldest time.Time // of the log's first line; zero = unknown
}

// answer makes the answer of what was found: without the newest offset lines,
// and of the rest as many as are wanted and fit.
func (p *past) answer(q protocol.QueryAppLogsArgs, now time.Time) protocol.AppLogsAnswer {
	lines, size := []string(nil), 0
	list := p.kept()
	list = list[:max(0, len(list)-q.Offset)]
	for i := len(list) - 1; i >= 0 && len(lines) < q.Tail; i-- {
		line := list[i].render(q.Timestamps)
		if size += protocol.EncodedText(line) + 1; size > protocol.MaxLogAnswer {
			break
		}
		lines = append(lines, line)
	}
	slices.Reverse(lines)
	a := protocol.AppLogsAnswer{
		Lines: lines, Source: p.source, Returned: len(lines),
		Truncated:  p.seen-q.Offset > len(lines),
		DeviceTime: protocol.DeviceTime(now),
	}
	if !p.oldest.IsZero() {
		a.OldestAvailable = protocol.DeviceTime(p.oldest)
	}
	return a
}
