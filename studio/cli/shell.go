package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

// A shell is a terminal session on a device, from its beginning to its end.
//
//	stdin ─► read ─► steer ─► keystrokes, what was received ─► device
//	         stdout ◄─ screen ◄──────────────── output events ─┘
//
// steer is the one that decides; read and screen only wait for people.
type shell struct {
	c         *Call
	studio    Session
	device    device
	container string // "" = the device's own shell
	what      string // as it is called in a sentence
	windows   bool   // the device runs Windows
	detach    key

	at      protocol.TerminalSession
	console *console // nil: nobody sits here, the input is a file or a pipe
	events  chan messenger.Event
	reach   reach
	shown   shown
	work    sync.WaitGroup
}

// How a shell ends.
var (
	errShellEnded = errors.New("the shell has ended") // in order, and all its output was shown
	errDetached   = errors.New("detached")
	errShellGone  = errors.New("the shell has ended meanwhile; what it printed last may be missing above")
)

// run opens the session, lends it the console and brings it to its end.
func (s *shell) run(ctx context.Context) (err error) {
	ctx, stop := untilHangUp(ctx)
	defer stop()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	if err := s.open(ctx); err != nil {
		return err
	}
	if s.console, err = s.c.openConsole(); err != nil {
		return s.leave(fmt.Errorf("prepare the terminal: %w", err))
	}
	if s.console != nil {
		defer s.console.restore()
	}
	typed := make(chan input)
	s.goes(func() { end(s.screen(ctx)) })
	s.goes(func() { s.read(ctx, typed) })
	err = s.steer(ctx, typed)
	end(err)
	s.finish()
	if s.console != nil {
		if !errors.Is(err, errShellEnded) {
			s.console.calm()
		}
		s.console.restore()
	}
	return s.leave(err)
}

// goes starts a goroutine of the session. One that panics ends the program, and
// leaves the terminal as it was.
func (s *shell) goes(f func()) {
	s.work.Go(func() {
		whole := false
		defer func() {
			if !whole && s.console != nil {
				s.console.restore()
			}
		}()
		f()
		whole = true
	})
}

// finish waits for the goroutines. Who reads a terminal, or writes to a pipe that
// nobody empties, can be woken up in some systems only; the program ends then
// without him.
func (s *shell) finish() {
	if in, ok := s.c.Stdin.(interface{ SetReadDeadline(time.Time) error }); ok {
		_ = in.SetReadDeadline(time.Unix(1, 0))
	}
	if out, ok := s.c.Stdout.(interface{ SetWriteDeadline(time.Time) error }); ok {
		_ = out.SetWriteDeadline(time.Now().Add(s.c.linger()))
	}
	done := make(chan struct{})
	go func() { defer close(done); s.work.Wait() }()
	late := time.NewTimer(s.c.linger())
	defer late.Stop()
	select {
	case <-done:
	case <-late.C:
	}
}

// open begins the session on the device. Its output is followed before it can
// print anything.
func (s *shell) open(ctx context.Context) (err error) {
	if s.studio, err = s.c.studio(ctx); err != nil {
		return err
	}
	s.reach.begin()
	s.studio.Watch(s.reach.link)
	err = s.studio.Follow(ctx, protocol.StudioDeviceState, func(e messenger.Event) {
		var row protocol.DeviceRow
		if protocol.Decode(protocol.Arg(e.Args, 0), &row) == nil && row.SerialNumber == s.device.serial {
			s.reach.device(row.Online)
		}
	})
	if err != nil {
		return err
	}
	// The device looks for a shell in the container first.
	asking, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	procedure, arguments := protocol.InitDeviceTerminal, map[string]any{}
	if s.container != "" {
		procedure, arguments = protocol.RequestTerminal, map[string]any{"containerName": s.container}
	}
	if s.at, err = askDevice[protocol.TerminalSession](asking, s.c, s.device, procedure, arguments); err != nil {
		return err
	}
	if s.at.DataTopic == "" || s.at.WriteTopic == "" || s.at.ResizeTopic == "" {
		return fmt.Errorf("the answer of %s names no terminal: its agent may be of another version", s.device.name)
	}
	s.events, s.shown = make(chan messenger.Event, 64), shown{news: make(chan struct{}, 1)}
	err = s.studio.Follow(ctx, s.at.DataTopic, func(e messenger.Event) {
		select {
		case s.events <- e:
		case <-ctx.Done():
		}
	})
	if err == nil && s.container != "" {
		_, err = askDevice[any](asking, s.c, s.device, protocol.StartTerminal, s.session(map[string]any{"registrationID": 0}))
	}
	if err != nil && s.container != "" {
		_ = s.stop() // it was never started, and goes by itself
	}
	return err
}

// session names the session to the device.
func (s *shell) session(also map[string]any) map[string]any {
	out := map[string]any{"sessionID": s.at.SessionID}
	for k, v := range also {
		out[k] = v
	}
	return out
}

// stop ends a shell in a container, which nobody could come back to.
func (s *shell) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_, err := askDevice[any](ctx, s.c, s.device, protocol.StopTerminal, s.session(nil))
	return err
}

// leave says good-bye to the device, and how it ended to people.
func (s *shell) leave(how error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	next, flows, _, _ := s.shown.now()
	last := protocol.TerminalFlow{Received: next, Release: !errors.Is(how, errShellEnded)}
	if flows && !errors.Is(how, errShellGone) {
		_ = s.studio.Publish(ctx, s.at.WriteTopic, []any{""}, last.Kwargs()) // a courtesy: the device finds out by itself
	}
	switch {
	case errors.Is(how, errShellEnded):
		return nil
	case errors.Is(how, errShellGone):
		return how
	case s.container != "":
		if err := s.stop(); err != nil {
			s.c.say("%s could not be told to end; it does so by itself when nobody uses it", s.what)
		} else {
			s.c.say("%s was ended", s.what)
		}
	default:
		s.c.say("%s goes on, for ten minutes or until %q comes back to it", s.what, s.c.Name+" shell "+s.device.name)
	}
	if errors.Is(how, errDetached) {
		return nil
	}
	return how
}

// note says something to people in between.
func (s *shell) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if s.console != nil { // in which a line feed does not return
		fmt.Fprintf(s.c.Stderr, "\r\n[%s]\r\n", text)
		return
	}
	s.c.say("%s", text)
}

// screen shows the output, at the pace of whoever reads it.
func (s *shell) screen(ctx context.Context) error {
	r := receiver{container: s.container != "", open: true}
	var clear <-chan time.Time // what is held will not come with a position
	for {
		var out output
		select {
		case e := <-s.events:
			if out = r.take(e); r.waits() && clear == nil {
				clear = time.After(s.c.hold())
			}
		case <-clear:
			out = r.settle()
		case <-ctx.Done():
			return ctx.Err()
		}
		if out.lost > 0 {
			s.note("%d bytes of output are lost", out.lost)
		}
		if len(out.data) > 0 {
			if _, err := s.c.Stdout.Write(out.data); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
		s.shown.set(&r, out.ask)
		if r.ended {
			return errShellEnded
		}
	}
}

// An input is something that was typed. The last one says how the input ended.
type input struct {
	typed []byte
	end   error // io.EOF, errDetached
}

// read hands on what is typed until it ends or the key to detach is pressed.
func (s *shell) read(ctx context.Context, to chan<- input) {
	for {
		typed := make([]byte, 4<<10)
		n, err := s.c.Stdin.Read(typed)
		in := input{typed: typed[:n]}
		if err != nil {
			in.end = io.EOF
		}
		if s.console != nil {
			var pressed bool
			if in.typed, pressed = s.detach.cut(in.typed); pressed || err != nil { // who closes a terminal has left
				in.end = errDetached
			}
		}
		select {
		case to <- in:
		case <-ctx.Done():
			return
		}
		if in.end != nil {
			return
		}
	}
}

// shown is how far the screen is, for steer.
type shown struct {
	news chan struct{} // capacity 1

	mu    sync.Mutex
	next  uint64
	flows bool
	over  bool // the end came, though perhaps not all that is before it
	ask   bool
}

func (s *shown) set(r *receiver, ask bool) {
	s.mu.Lock()
	s.ask = ask || s.ask && r.next == s.next // what came meanwhile may have been it
	s.next, s.flows, s.over = r.next, r.flows, r.over || r.ended
	s.mu.Unlock()
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// now is how far it is, and whether something has to be asked for; that it says
// once.
func (s *shown) now() (next uint64, flows, over, ask bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ask, s.ask = s.ask, false
	return s.next, s.flows, s.over, ask
}

// reach is whether there is a way to the device: from here to the studio, and
// from there on.
type reach struct {
	news chan struct{} // capacity 1

	mu     sync.Mutex
	away   bool   // the studio cannot be reached, …
	reason string // … for this reason
	absent bool   // the device has no connection to it
	came   int    // how often one of them came back
}

func (r *reach) begin() { r.news = make(chan struct{}, 1) }

func (r *reach) link(online bool, reason string) {
	r.change(func() {
		if online && r.away {
			r.came++
		}
		r.away, r.reason = !online, reason
	})
}

func (r *reach) device(online bool) {
	r.change(func() {
		if online && r.absent {
			r.came++
		}
		r.absent = !online
	})
}

func (r *reach) change(f func()) {
	r.mu.Lock()
	f()
	r.mu.Unlock()
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *reach) now() (away, absent bool, reason string, came int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.away, r.absent, r.reason, r.came
}
