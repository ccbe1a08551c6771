package commands

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"runtime"
	"strings"
	"time"

	"reagent/protocol"
)

// maxLine is where a line is cut that a program in the background prints.
const maxLine = 64 << 10

var (
	errNoCommand = &protocol.Error{Code: protocol.CodeInvalid, Text: "exec: no command"}
	errTooLong   = &protocol.Error{Code: protocol.CodeTooLarge, Text: "the command printed more than an answer takes, and was ended"}
	errTimeUp    = &protocol.Error{Code: protocol.CodeTimeout, Text: "the command did not end within an hour, and was ended"}
	errStopped   = &protocol.Error{Code: protocol.CodeUnavailable, Text: "the agent ends, and with it the command"}
)

// Execute runs a program on this device and answers what it printed (wire §5.9).
// begins is told before, unless it is nil. Nothing is kept: there is no id by which anybody could ask again.
func (c *Commands) Execute(ctx context.Context, a protocol.ExecuteCmdArgs, caller string, begins func()) (stdout string, err error) {
	type answer struct {
		text string
		err  error
	}
	answered, stop := make(chan answer, 1), make(chan struct{})
	err = c.beside(ctx, a, caller, begins, func(life context.Context) {
		text, err := c.collect(life, a, stop)
		answered <- answer{text, err}
	})
	if err != nil {
		return "", err
	}
	select {
	case got := <-answered:
		return got.text, got.err
	case <-ctx.Done():
		if c.cfg.Canceled(ctx) {
			close(stop)
		}
		return "", ctx.Err()
	}
}

// collect runs a program to its end.
func (c *Commands) collect(life context.Context, a protocol.ExecuteCmdArgs, stop <-chan struct{}) (string, error) {
	p, err := startHere(asRun(a), nobodys(), c.cfg.Grace, quiet)
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	long, tooLong := context.WithCancel(life)
	defer tooLong()
	over := false
	e, state, err := supervise(long, p, c.limits(protocol.MaxCommandTimeout), stop, func(part []byte) {
		if text.Len()+len(part) > maxAnswer/2 { // it may grow as it is encoded
			over = true
			tooLong()
			return
		}
		text.Write(part)
	}, nil)
	switch {
	case err != nil:
		return "", err
	case over:
		return "", errTooLong
	case state == protocol.CommandTimedOut:
		return "", errTimeUp
	case state == protocol.CommandInterrupted:
		return "", errStopped
	case state == protocol.CommandCanceled:
		return "", context.Canceled
	case e.err != nil:
		return "", e.err
	case e.text != "":
		return "", errors.New(e.text)
	}
	return encoded(text.Bytes(), false), nil
}

// ExecuteInBackground starts a program on this device and answers its number (wire
// §5.9). What it prints is published line by line, for reader and the system only;
// after an hour it is ended.
func (c *Commands) ExecuteInBackground(ctx context.Context, a protocol.ExecuteCmdArgs, reader string, begins func()) (pid int, err error) {
	started, failed := make(chan int, 1), make(chan error, 1)
	err = c.beside(ctx, a, reader, begins, func(life context.Context) {
		p, err := startHere(asRun(a), nobodys(), c.cfg.Grace, quiet)
		if err != nil {
			failed <- &protocol.Error{Code: protocol.CodeInternal, Text: "command failed to run: " + err.Error()}
			return
		}
		pid := p.cmd.Process.Pid
		started <- pid
		late := &delayed{here: p, until: time.Now().Add(a.Delay), life: life}
		lines := &splitter{line: c.publishTo(life, pid, reader)}
		bounds := c.limits(protocol.MaxCommandTimeout)
		bounds.drain += a.Delay
		bounds.drainMost = a.Delay + c.cfg.PublishMost // each line waits for the router
		_, _, err = supervise(life, late, bounds, nil, lines.add, nil)
		lines.end()
		if err != nil {
			c.cfg.Log.Warn().Err(err).Msg("a command in the background may not have ended")
		}
	})
	if err != nil {
		return 0, err
	}
	select {
	case pid = <-started:
		return pid, nil
	case err = <-failed:
		return 0, err
	}
}

// nobodys is the mark of a program that belongs to no id, and its alone.
func nobodys() string { return markOf(rand.Text()) }

// asRun is a program of execute_cmd as one of run_command.
func asRun(a protocol.ExecuteCmdArgs) protocol.RunCommandArgs {
	return protocol.RunCommandArgs{Argv: append([]string{a.Cmd}, a.Args...)}
}

// beside does something that belongs to no id on a goroutine of its own, which
// stays on its thread.
func (c *Commands) beside(ctx context.Context, a protocol.ExecuteCmdArgs, caller string, begins func(), do func(life context.Context)) error {
	if !c.cfg.Allowed {
		return errDisabled
	}
	if a.Cmd == "" {
		return errNoCommand
	}
	for _, word := range append(a.Args, a.Cmd) {
		if strings.ContainsRune(word, 0) {
			return &protocol.Error{Code: protocol.CodeInvalid, Text: "exec: an argument holds a NUL"}
		}
	}
	if _, err := c.await(ctx); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.life == nil:
		return errEnding
	case c.full(caller):
		return errTooMany
	}
	c.others[caller]++
	life := c.life
	c.work.Go(func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if begins != nil {
			begins()
		}
		do(life)
		c.mu.Lock()
		if c.others[caller]--; c.others[caller] == 0 {
			delete(c.others, caller)
		}
		c.mu.Unlock()
	})
	return nil
}

// publishTo publishes lines. One that is lost with the connection is lost.
func (c *Commands) publishTo(life context.Context, pid int, reader string) func(line []byte) {
	topic := protocol.CommandOutputTopic(c.cfg.Serial, pid)
	readers := []any{protocol.AuthIDSystem}
	if reader != protocol.AuthIDSystem {
		readers = []any{reader, protocol.AuthIDSystem}
	}
	// Acknowledged, so that a program is read no faster than the router takes it.
	options := map[string]any{"acknowledge": true, "eligible_authid": readers}
	return func(line []byte) {
		if err := c.cfg.Publish(life, topic, options, []any{encoded(line, false)}, nil); err != nil {
			c.cfg.Log.Debug().Err(err).Msg("line of a command in the background not published")
		}
	}
}

// delayed is a program of which nothing is read before its time.
type delayed struct {
	*here
	until time.Time
	life  context.Context
}

func (p *delayed) output(stdout, stderr func([]byte)) {
	wait := time.NewTimer(time.Until(p.until))
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-p.life.Done():
	}
	p.here.output(stdout, stderr)
}

// A splitter makes lines of what comes in parts.
type splitter struct {
	line    func([]byte)
	pending []byte // cut at maxLine
}

func (s *splitter) add(part []byte) {
	for len(part) > 0 {
		head, tail, ends := bytes.Cut(part, []byte{'\n'})
		s.pending = append(s.pending, head[:min(len(head), maxLine-len(s.pending))]...)
		if ends {
			s.line(bytes.TrimSuffix(s.pending, []byte{'\r'}))
			s.pending = s.pending[:0]
		}
		part = tail
	}
}

// end hands over a last line that has no end.
func (s *splitter) end() {
	if len(s.pending) > 0 {
		s.line(s.pending)
	}
}
