package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"reagent/protocol"
)

// A logPrinter prints the log of an app: its lines to stdout, what is missing to
// stderr. As JSON both are objects on stdout, one a line.
type logPrinter struct {
	c          *Call
	timestamps bool
	colours    bool
}

func (c *Call) logPrinter(timestamps bool) *logPrinter {
	return &logPrinter{c: c, timestamps: timestamps, colours: interactive(c.Stdout) && c.Getenv("NO_COLOR") == ""}
}

// streamColours tell apart, on a terminal, what an app did not print to stdout.
var streamColours = map[string]string{protocol.StreamStderr: "\x1b[33m", protocol.StreamAgent: "\x1b[2m"}

// record prints lines or a gap.
func (p *logPrinter) record(r protocol.LogRecord) error {
	if r.Type == protocol.LogGap {
		return p.gap(r)
	}
	for _, line := range r.Lines {
		if err := p.line(line); err != nil {
			return err
		}
	}
	return nil
}

func (p *logPrinter) line(line protocol.LogLine) error {
	if p.c.JSON {
		return p.c.record("line", line)
	}
	_, err := io.WriteString(p.c.Stdout, p.text(line)+"\n")
	return err
}

// text is a line for people.
func (p *logPrinter) text(line protocol.LogLine) string {
	text := line.Text
	if line.Stream == protocol.StreamAgent {
		text = harmless(text)
	}
	if line.Cut {
		text += " … (longer than the device keeps)"
	}
	if line.Service != "" {
		text = printable(line.Service) + " | " + text
	}
	if colour := streamColours[line.Stream]; p.colours && colour != "" {
		text = colour + text + "\x1b[0m"
	}
	if p.timestamps {
		text = clock(line.Time) + " " + text
	}
	return text
}

// clock is a time in a fixed width.
func clock(text string) string {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return printable(text)
	}
	return t.UTC().Format("2006-01-02T15:04:05.000Z")
}

// gapReasons are why lines are missing, for people.
var gapReasons = map[string]string{
	protocol.GapStoreFull:     "the device had to make room for newer ones",
	protocol.GapStoreDamaged:  "the file that the device keeps them in was damaged",
	protocol.GapCursorUnknown: "the device no longer knows how far they were read",
	protocol.GapEngine:        "the container engine had dropped them before the agent read them",
}

// gap says that lines are missing, how many, and why.
func (p *logPrinter) gap(r protocol.LogRecord) error {
	if p.c.JSON {
		d := r.Wire()
		delete(d, "type")
		delete(d, "cursor")
		return p.c.record("gap", d)
	}
	reason, known := gapReasons[r.Reason]
	if !known {
		reason = orUnknown(printable(r.Reason)) // of a newer agent
	}
	what := "lines may be missing here"
	if from, to := r.FromSeq, r.ToSeq; from != nil && to != nil && *to >= *from {
		if n := *to - *from + 1; n == 1 {
			what = "a line is missing here"
		} else {
			what = fmt.Sprintf("%d lines are missing here", n)
		}
	}
	p.c.say("-- %s: %s", what, reason)
	return nil
}

// texts prints lines of which nothing but the text is known.
func (p *logPrinter) texts(lines []string) error {
	if !p.c.JSON {
		return p.c.printLog(lines)
	}
	for _, line := range lines {
		if err := p.c.record("line", map[string]string{"text": line}); err != nil {
			return err
		}
	}
	return nil
}

// live prints what comes until ctx ends. What is in the history already is not
// printed again.
func (p *logPrinter) live(ctx context.Context, history []string, live <-chan []string) error {
	var begun []string
	for len(live) > 0 {
		begun = append(begun, <-live...)
	}
	for lines := begun[overlap(history, begun):]; ; {
		if err := p.texts(lines); err != nil {
			return err
		}
		select {
		case lines = <-live:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// overlap is how many lines at the beginning of b are the end of a.
func overlap(a, b []string) int {
	for n := min(len(a), len(b)); n > 0; n-- {
		if slices.Equal(a[len(a)-n:], b[:n]) {
			return n
		}
	}
	return 0
}
