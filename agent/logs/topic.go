package logs

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

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
	listeners map[uint64]struct{} // ids of subscriptions

	// What is said.
	said    ring // by the agent
	printed ring // by the container, as far as it was followed
	cleared time.Time
	events  []event // wait for the publisher, in order
	window  window  // the last of them, still open

	// Where it comes from.
	container string    // id; "" = none that goes on
	from      time.Time // lines before it were sent, or shall not be …
	of        string    // … of this container
	late      bool      // lines since from are sent to whoever turns out to listen
	stream    *stream   // nil = not followed
	again     bool      // the container was started while its stream was about to end
}

// An event waits to be published.
type event struct {
	args  []any
	first time.Time // of a window: when its first line was printed
}

// A window gathers lines that are published together.
type window struct {
	text    []byte
	lines   int
	dropped int
	due     time.Time
	first   time.Time // when its first line was printed; zero = not a container's
}

func (w *window) empty() bool { return w.lines == 0 && w.dropped == 0 }

// add takes a line in. Once one was dropped, all that follow are: the rest of a
// window goes, not every other line.
func (w *window) add(line string, printed time.Time, most int) {
	size := len(line)
	if w.lines > 0 {
		size++
	}
	if w.dropped > 0 || len(w.text)+size > most {
		w.dropped++
		return
	}
	if w.lines > 0 {
		w.text = append(w.text, '\n')
	} else {
		w.first = printed
	}
	w.text = append(w.text, line...)
	w.lines++
}

// close makes an event of what was gathered.
func (w *window) close() event {
	text := string(w.text)
	if w.dropped > 0 {
		if w.lines > 0 {
			text += "\n"
		}
		text += fmt.Sprintf("… %d log line(s) dropped (rate limit)", w.dropped)
	}
	e := event{args: []any{text}, first: w.first}
	*w = window{}
	return e
}

// say puts a message of the agent into the queue. Lines that were printed before
// it go first.
func (l *Logs) say(t *topic, text string) {
	if !t.window.empty() && len(t.listeners) > 0 {
		l.queue(t, t.window.close())
	}
	l.queue(t, event{args: []any{protocol.AgentMessage(text)}})
}

func (l *Logs) queue(t *topic, e event) {
	if len(t.events) >= maxEvents {
		l.cfg.Log.Debug().Str("container", t.cn).Msg("log message dropped: the connection is too slow")
		return
	}
	t.events = append(t.events, e)
	l.poke()
}

// print puts a line into the open window.
func (l *Logs) print(t *topic, line string, printed time.Time) {
	if t.window.empty() {
		t.window.due = time.Now().Add(l.cfg.FlushEvery)
		l.poke()
	}
	t.window.add(line, printed, l.cfg.MaxFlush)
}

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
