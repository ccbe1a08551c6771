package logs

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"reagent/container"
	"reagent/protocol"
)

// A topic is what is known about the log of one app.
type topic struct {
	cn   string // the container's name
	uri  string
	used time.Time

	// Who listens.
	known     bool                // the router was asked on this connection
	asking    bool                // … or is being asked
	askAt     time.Time           // … or shall be asked again then
	askPause  time.Duration       // before asking once more
	doubt     bool                // the router does not answer
	allowance allowance           // of what is published in doubt
	listeners map[uint64]struct{} // ids of subscriptions

	// What is said.
	events  []event   // wait for the publisher, in order
	window  window    // the last of them, still open
	sent    uint64    // lines up to this number were sent, or shall not be …
	from    time.Time // … nor lines that are older
	late    bool      // lines since then are sent to whoever turns out to listen …
	serving bool      // … and somebody is at it

	// What is kept.
	tape      *tape
	cleared   uint64 // lines below this number are no history
	clearedAt time.Time
	unwritten bool // what the agent said is in no file yet

	// Where it comes from.
	container  string                   // id; "" = none that goes on
	of         string                   // the last one
	collection *collection              // nil = it does not run
	again      bool                     // it was attached again meanwhile
	sources    []container.LogSource    // as the engine told last
	busy       map[string]chan struct{} // by container: its log is being read until this is closed
	changed    chan struct{}            // closed when the above changes; nil = nobody waits for it
}

// An event waits to be published.
type event struct {
	args  []any
	size  int    // bytes of lines
	first uint64 // of a window: its first line; 0 = none of a container's
}

// A window gathers lines that are published together.
type window struct {
	text    []byte
	lines   int
	dropped int
	held    *window // the next one, begun by a line that is too long for the rest of this one
	due     time.Time
	first   uint64 // number of its first line; 0 = not a container's
}

func (w *window) empty() bool { return w.lines == 0 && w.dropped == 0 }

// add takes a line in and reports whether it did. Once one was dropped, all that
// follow are: the rest of a window goes, not every other line.
func (w *window) add(line string, seq uint64, most int) bool {
	size := len(line)
	if w.lines > 0 {
		size++
	}
	switch {
	case w.held != nil:
		w.held.dropped++
		return false
	case w.dropped > 0 || len(w.text)+size > most:
		w.dropped++
		return false
	}
	if w.lines > 0 {
		w.text = append(w.text, '\n')
	} else {
		w.first = seq
	}
	w.text = append(w.text, line...)
	w.lines++
	return true
}

// hold keeps a line for the next window, where it is so long that it might never
// be the first of one.
func (w *window) hold(line string, seq uint64, most int) bool {
	if w.held != nil || w.dropped > 0 || w.lines == 0 || len(w.text)+1+len(line) <= most || len(line) <= most/4 {
		return false
	}
	w.held = &window{}
	return w.held.add(line, seq, most)
}

// close makes an event of what was gathered, and begins the next window.
func (w *window) close(due time.Time) event {
	text := string(w.text)
	if w.dropped > 0 {
		if w.lines > 0 {
			text += "\n"
		}
		text += fmt.Sprintf("… %d log line(s) dropped (rate limit)", w.dropped)
	}
	e := event{args: []any{text}, size: len(text), first: w.first}
	next := w.held
	*w = window{}
	if next != nil {
		*w, w.due = *next, due
	}
	return e
}

// say puts a message of the agent into the queue. Lines that were printed before
// it go first, where there is room for them.
func (l *Logs) say(t *topic, text string) {
	for l.heard(t) && !t.window.empty() && t.room() {
		l.queue(t, t.window.close(time.Time{}))
	}
	l.queue(t, event{args: []any{protocol.AgentMessage(text)}})
}

// room reports whether one more event may wait for a slow connection.
func (t *topic) room() bool {
	size := 0
	for _, e := range t.events {
		size += e.size
	}
	return len(t.events) < maxEvents && size < maxQueued
}

func (l *Logs) queue(t *topic, e event) {
	if !t.room() {
		l.cfg.Log.Debug().Str("container", t.cn).Msg("log message dropped: the connection is too slow")
		return
	}
	t.events = append(t.events, e)
	l.poke()
}

// print puts a line into the open window, as much of it as a window has room for.
func (l *Logs) print(t *topic, line string, seq uint64) {
	now, doubt := time.Now(), l.inDoubt(t)
	if t.window.empty() {
		t.window.due = now.Add(l.cfg.FlushEvery)
		if doubt {
			t.window.due = now.Add(doubtFlush)
			l.spend(t, doubtEvent)
		}
		l.poke()
	}
	if doubt {
		line = cut(line, min(doubtLine, l.cfg.MaxFlush))
		if t.window.add(line, seq, min(l.cfg.MaxFlush, len(t.window.text)+l.spare(t, now))) {
			l.spend(t, len(line)+1)
		}
		return
	}
	line = cut(line, l.cfg.MaxFlush)
	if !t.window.hold(line, seq, l.cfg.MaxFlush) {
		t.window.add(line, seq, l.cfg.MaxFlush)
	}
}

// cut makes a text no longer than that, and says how much is missing.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	at := max(0, most-cutRoom)
	for at > 0 && !utf8.RuneStart(text[at]) {
		at--
	}
	return text[:at] + cutMark(len(text)-at, false)
}

// cutRoom is at least as long as what cutMark makes.
const cutRoom = 40

// clean makes a text that every serialisation can carry: at most so long, and
// U+FFFD for each byte that is not part of a character.
func clean(raw []byte, most int) string {
	raw = whole(raw, most)
	if utf8.Valid(raw) {
		return string(raw)
	}
	var b strings.Builder
	for _, r := range string(raw) { // yields U+FFFD for each such byte
		b.WriteRune(r)
	}
	return b.String()
}

// whole is the beginning of a text, at most so long, without half a character at
// the cut.
func whole(raw []byte, most int) []byte {
	if len(raw) <= most {
		return raw
	}
	raw = raw[:most]
	for n := 1; n < utf8.UTFMax && n <= len(raw); n++ {
		if b := raw[len(raw)-n]; utf8.RuneStart(b) {
			if !utf8.FullRune(raw[len(raw)-n:]) {
				raw = raw[:len(raw)-n]
			}
			break
		}
	}
	return raw
}
