package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

const (
	mostTyped   = 64 << 10 // waits to be sent while somebody types; a file is read no further before it is gone
	mostPiped   = 4 << 10
	mostSent    = 4 << 10                     // at once
	tellAfter   = protocol.TerminalWindow / 8 // so many bytes are acknowledged together
	pastOutput  = 64 << 10                    // of a shell that goes on, shown to who comes back to it
	mostPause   = 30 * time.Second
	mostProbe   = time.Minute
	mostAttach  = 3               // times that an agent that gives no positions is asked for them
	askPause    = time.Second     // before something missing is asked for again; doubles
	attachPause = 2 * time.Second // the same of positions
)

// endOfFile is what a terminal takes for the end of its input, at the beginning of
// a line.
const endOfFile = "\x04"

// A pacer spaces out what is done again and again: further and further apart,
// until it is told that something has changed.
type pacer struct {
	first, most time.Duration
	pause       time.Duration
	at          time.Time // not before
}

func (p *pacer) due(now time.Time) bool { return !now.Before(p.at) }

func (p *pacer) done(now time.Time) {
	p.pause = min(max(2*p.pause, p.first), p.most)
	p.at = now.Add(p.pause)
}

// again makes it due after its first pause.
func (p *pacer) again(now time.Time) { p.pause, p.at = p.first, now.Add(p.first) }

// A helm is what steer knows.
type helm struct {
	*shell
	reading bool   // the input has not ended
	typed   []byte // waits to be sent
	last    byte   // … the last of it
	finals  pacer  // the end of a file, told to the shell again until it ends
	attach  pacer  // asking for positions …
	asked   int    // … so often so far
	missing bool   // something is to be asked for
	ask     pacer  // … again
	probe   pacer  // asking although nothing is known to be missing
	quiet   int    // probes since something came
	told    uint64 // position that the device knows of
	next    uint64 // position that was shown
	over    bool   // see shown
	came    int    // see reach.now
	away    bool   // as people were told
	absent  bool   // the same of the device
	size    screenSize
	sized   bool      // the device knows size, or does not want it
	touch   pacer     // telling it again
	unknown time.Time // since when the device does not know the session; zero = it does

	sending  chan error // nil = nothing is under way
	keys     int        // bytes of typed in it
	touching chan error
}

// steer sends what is typed, keeps the flow of the output going, and tells the
// size, until the session ends.
func (s *shell) steer(ctx context.Context, typed <-chan input) error {
	h := &helm{
		shell: s, reading: true, last: '\n',
		finals: pacer{first: s.c.again(), most: mostPause},
		attach: pacer{first: attachPause, most: mostPause},
		ask:    pacer{first: askPause, most: mostPause},
		probe:  pacer{first: s.c.probe(), most: mostProbe},
		touch:  pacer{first: s.c.again(), most: mostPause},
	}
	h.probe.again(time.Now())
	h.size, _ = s.console.size()
	h.sized = h.size == screenSize{}
	var resizes = resized(ctx)
	wake := time.NewTimer(0)
	defer wake.Stop()
	for {
		from := typed
		if !h.reading || s.console == nil && len(h.typed) >= mostPiped {
			from = nil
		}
		var err error
		select {
		case in := <-from:
			err = h.take(in)
		case err = <-h.sending:
			err = h.sent(err)
		case err = <-h.touching:
			err = h.touched(err)
		case <-resizes:
			h.resized()
		case <-s.shown.news:
		case <-s.reach.news:
			h.look()
		case <-wake.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err != nil {
			return err
		}
		wake.Reset(h.act(ctx))
	}
}

// take takes in what was typed.
func (h *helm) take(in input) error {
	if n := len(in.typed); n > 0 {
		h.last = in.typed[n-1]
		h.probe.again(time.Now())
	}
	if h.console != nil && len(h.typed)+len(in.typed) > mostTyped {
		_, _ = io.WriteString(h.c.Stderr, "\a")
	} else {
		h.typed = append(h.typed, in.typed...)
	}
	switch {
	case in.end == nil:
		return nil
	case errors.Is(in.end, io.EOF):
		h.reading = false
		return nil
	}
	return in.end
}

// look tells people of what happened to the connections, and remembers what is to
// be made up for.
func (h *helm) look() {
	away, absent, reason, came := h.reach.now()
	switch {
	case away && !h.away:
		h.note("the connection to the studio is lost: %s; trying again", reason)
	case !away && h.away:
		h.note("the studio is back")
	}
	switch {
	case absent && !h.absent:
		h.note("%s is off-line; %s waits for it", h.device.name, h.what)
	case !absent && h.absent:
		h.note("%s is back", h.device.name)
	}
	h.away, h.absent = away, absent
	if came != h.came {
		h.came, h.missing, h.ask.at = came, true, time.Time{}
		h.sized, h.touch.at = false, time.Time{} // and is the session still there?
	}
}

func (h *helm) resized() {
	if size, ok := h.console.size(); ok && size != h.size {
		h.size, h.sized, h.touch.at = size, false, time.Time{}
	}
}

// act does what is due, and returns when to look again.
func (h *helm) act(ctx context.Context) (wait time.Duration) {
	now := time.Now()
	next, flows, over, ask := h.shown.now()
	h.over = over
	if next != h.next { // it goes on
		h.next, h.quiet, h.missing = next, 0, false
		h.ask.pause, h.ask.at = 0, time.Time{}
		h.probe.again(now)
		h.finals.at = now.Add(h.finals.first)
	}
	h.missing = h.missing || ask
	if flows && h.probe.due(now) {
		h.missing, h.ask.at = true, time.Time{}
		if h.quiet++; h.quiet > 1 {
			h.sized = false
		}
		h.probe.done(now)
	}
	if h.away || h.absent {
		return mostProbe
	}
	if h.sending == nil {
		h.send(ctx, now, flows)
	}
	if h.touching == nil && !h.sized && h.touch.due(now) && (flows || h.size != screenSize{}) {
		h.touching = h.errand(ctx, h.tellSize)
	}
	wait = mostProbe
	for _, p := range []struct {
		waits bool
		pacer *pacer
	}{
		{flows, &h.probe}, {h.missing && flows, &h.ask}, {!flows && h.asked < mostAttach, &h.attach},
		{!h.sized, &h.touch}, {!h.reading && !h.over, &h.finals},
	} {
		if p.waits {
			wait = min(wait, max(p.pacer.at.Sub(now), 10*time.Millisecond))
		}
	}
	return wait
}

// send publishes what waits to be: keystrokes, and what is said of the output.
func (h *helm) send(ctx context.Context, now time.Time, flows bool) {
	flow := protocol.TerminalFlow{Received: h.next}
	say := false
	switch {
	case !flows && h.asked < mostAttach && h.attach.due(now):
		say, flow.Resume = true, true
		if h.container == "" {
			flow.Tail = pastOutput
		}
		h.asked++
		h.attach.done(now)
	case flows && h.missing && h.ask.due(now):
		say, flow.Resume = true, true
		h.missing = false
		h.ask.done(now)
	case flows && h.next-h.told >= tellAfter:
		say = true
	}
	if !h.reading && !h.over && len(h.typed) == 0 && h.finals.due(now) {
		h.typed = append(h.typed, h.farewell()...)
		h.finals.done(now)
	}
	h.keys = wholeText(h.typed, mostSent)
	if h.keys == 0 && !h.reading {
		h.keys = min(len(h.typed), mostSent) // no more comes that could make it whole
	}
	if !say && h.keys == 0 {
		return
	}
	var kwargs map[string]any
	if say || flows {
		kwargs, h.told = flow.Kwargs(), h.next
	}
	text := string(h.typed[:h.keys])
	h.sending = h.errand(ctx, func(ctx context.Context) error {
		return h.studio.Publish(ctx, h.at.WriteTopic, []any{text}, kwargs)
	})
}

// farewell is the end of a file, as one would type it. While a program runs that
// does not read, a terminal forgets it; so it is said again.
func (h *helm) farewell() string {
	newline, end := "\n", endOfFile
	if h.windows {
		newline, end = "\r", "exit\r"
	}
	if h.last != '\n' && h.last != '\r' {
		h.last = '\n'
		return newline + end
	}
	return end
}

// errand does something in the background that the studio has to answer.
func (h *helm) errand(ctx context.Context, f func(context.Context) error) chan error {
	done := make(chan error, 1)
	h.goes(func() {
		ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		done <- f(ctx)
	})
	return done
}

// sent deals with the outcome of a publication. Keystrokes are not sent twice: what
// may have arrived is not repeated.
func (h *helm) sent(err error) error {
	keys := h.keys
	h.sending, h.keys = nil, 0
	h.typed = h.typed[keys:]
	var answer *messenger.CallError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &answer):
		return err
	case keys > 0 && h.console == nil:
		return fmt.Errorf("the connection to the studio was lost while input was on its way; whether it arrived is not known")
	case keys > 0:
		h.note("what was typed last may not have arrived")
	}
	h.missing = true
	return nil
}

// errUnknown says that the device is there and does not know the session.
var errUnknown = errors.New("the device does not know the session")

// tellSize tells the device the size, and so finds out whether the session is
// there. Without a size it says what means none.
func (h *helm) tellSize(ctx context.Context) error {
	_, err := h.studio.Call(ctx, h.at.ResizeTopic, []any{map[string]any{"height": h.size.height, "width": h.size.width}}, nil)
	if isAbsent(err) && h.device.answers(ctx, h.c) {
		return errUnknown
	}
	return err
}

// touched deals with its outcome. A session that is new is not known at once, nor
// is one of a device that comes back.
func (h *helm) touched(err error) error {
	h.touching = nil
	now := time.Now()
	var answer *messenger.CallError
	switch {
	case errors.Is(err, errUnknown):
		if h.unknown.IsZero() {
			h.unknown = now
		}
		if now.Sub(h.unknown) > h.c.lookFor() {
			return errShellGone
		}
		h.touch.again(now)
		return nil
	case err == nil, errors.As(err, &answer) && !isAbsent(err) && !isCutOff(err):
		h.sized = true // or not wanted
	default:
		h.touch.done(now)
	}
	h.unknown = time.Time{}
	return nil
}
