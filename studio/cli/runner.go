package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

// Exit codes of run beside the command's own, as those of docker run, timeout and
// shells.
const (
	exitTimeUp      = 124
	exitNotRun      = 125 // the device refuses, or does not answer
	exitCannotRun   = 126
	exitNotFound    = 127
	exitOfASignal   = 128 // and its number
	exitInterrupted = exitOfASignal + 2
)

// An ExitError makes the program end with a certain code.
type ExitError struct {
	Code int
	Err  error // nil: there is nothing to say about it
}

func (e *ExitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit code %d", e.Code)
	}
	return e.Err.Error()
}

func (e *ExitError) Unwrap() error { return e.Err }

// resultsKept is how long a device keeps what became of a command at least.
const resultsKept = time.Hour

// stopWithin is how long a command that was told to end is waited for: the device
// kills it after 2 s.
const stopWithin = 15 * time.Second

// A runner runs one command on a device. Its id makes that once, however often
// the call is lost and made again.
type runner struct {
	c        *Call
	device   device
	question map[string]any
	where    string // the flags that say inside which app it runs
	timeout  time.Duration

	output *spool
	next   uint64 // number of the part that comes next
	hole   bool   // a part was lost
	tries  int    // calls in a row that brought nothing but a hole
	begun  bool   // the device may have begun it
	away   bool   // people were told that it is
}

// run runs the command, or attaches to it, and prints its output.
func (r *runner) run(ctx context.Context) error {
	signal.Ignore(syscall.SIGPIPE) // who reads the output may have enough; then the command is stopped, too
	session, err := r.c.studio(ctx)
	if err != nil {
		return err
	}
	r.c.tellLosses(session, "")
	ctx, abort := context.WithCancelCause(ctx)
	defer abort(nil)
	var kept [2]bytes.Buffer
	if r.c.JSON {
		r.output = newSpool(&kept[0], &kept[1], abort)
	} else {
		r.output = newSpool(r.c.Stdout, r.c.Stderr, abort)
	}
	end, err := r.toTheEnd(ctx, session)
	switch failed := r.output.close(); {
	case errors.Is(failed, syscall.EPIPE):
		return &ExitError{Code: exitOfASignal + signals["PIPE"]} // as if the signal had ended this
	case failed != nil:
		return failed
	}
	if err != nil {
		return err
	}
	if r.c.JSON {
		end.Stdout, end.Stderr = text(&kept[0]), text(&kept[1])
		if err := r.c.show(end, nil); err != nil {
			return err
		}
	}
	return r.verdict(end)
}

func text(b *bytes.Buffer) *string {
	s := strings.ToValidUTF8(b.String(), "\ufffd")
	return &s
}

// toTheEnd waits for the end of the command and, once ctx has ended, sees to it.
func (r *runner) toTheEnd(ctx context.Context, session Session) (end protocol.CommandEnd, err error) {
	alive, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	var stopping sync.WaitGroup
	stopping.Go(func() {
		select {
		case <-ctx.Done():
			r.stop(alive, session, !errors.Is(context.Cause(ctx), errUnwritten))
			giveUp()
		case <-alive.Done():
		}
	})
	end, err = r.await(alive, session)
	giveUp()
	stopping.Wait()
	if err != nil && ctx.Err() != nil {
		return end, &ExitError{Code: exitInterrupted}
	}
	return end, err
}

// stop has the command ended, and returns when there is no sense in waiting for
// it any more.
func (r *runner) stop(alive context.Context, session Session, asked bool) {
	if asked {
		r.c.say("stopping it on %s; Ctrl-C again does not wait (what becomes of it tells %q)", r.device.name, r.later())
	}
	ctx, cancel := context.WithTimeout(alive, stopWithin)
	defer cancel()
	_, err := session.Call(ctx, protocol.Procedure(r.device.serial, protocol.StopCommand), []any{r.about(nil)}, nil)
	if err == nil {
		<-ctx.Done()
	}
	if alive.Err() == nil {
		r.c.say("%s does not say that it ended: what becomes of it tells %q", r.device.name, r.later())
	}
}

// about is a question about the command, which is where it was begun.
func (r *runner) about(more map[string]any) map[string]any {
	in := map[string]any{"id": r.question["id"]}
	if inside := r.question["container_name"]; inside != nil {
		in["container_name"] = inside
	}
	maps.Copy(in, more)
	return in
}

// later is the command that asks again.
func (r *runner) later() string {
	return fmt.Sprintf("%s run %s%s --id %s", r.c.Name, r.device.name, r.where, r.question["id"])
}

// await calls until there is an answer: the call may be lost with a connection,
// the command is not.
func (r *runner) await(ctx context.Context, session Session) (end protocol.CommandEnd, err error) {
	deadline := time.Now().Add(r.timeout + resultsKept)
	for {
		end, err := r.attach(ctx, session)
		switch {
		case err == nil || ctx.Err() != nil:
			return end, err
		case errors.Is(err, errHole):
			continue
		}
		if err := r.judge(ctx, err); err != nil {
			return end, err
		}
		if time.Now().After(deadline) {
			return end, fmt.Errorf("%s was not back before it forgot the command", r.device.name)
		}
		if err := pause(ctx, r.c.again()); err != nil {
			return end, err
		}
	}
}

// judge makes an error final that another call will meet, too.
func (r *runner) judge(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, messenger.ErrOffline): // the session says so itself
		r.begun = true
		return nil
	case isCutOff(err), errors.Is(err, context.DeadlineExceeded):
		r.begun = true
	case isAbsent(err) && r.begun:
	case mayPass(err) && r.begun: // the agent ends, or begins
		return nil
	default:
		return r.device.explain(ctx, r.c, protocol.RunCommand, err)
	}
	if !r.away {
		r.away = true
		r.c.say("%s is away: the command goes on there, and this when it is back (or later: %q)", r.device.name, r.later())
	}
	return nil
}

// attach begins the command, or goes on with it.
func (r *runner) attach(ctx context.Context, session Session) (end protocol.CommandEnd, err error) {
	ctx, cancel := context.WithTimeout(ctx, r.timeout+answerWithin)
	defer cancel()
	uri := protocol.Procedure(r.device.serial, protocol.RunCommand)
	r.hole = false
	result, err := session.CallProgress(ctx, uri, []any{r.question}, nil, func(p messenger.Result) {
		if r.part(protocol.Arg(p.Args, 0)); r.hole && r.tries < triesOfAPart {
			cancel() // the command does not mind; another call begins at the beginning
		}
	})
	if err != nil {
		if r.hole && errors.Is(err, context.Canceled) {
			r.tries++
			err = errHole
		}
		return end, err
	}
	if err := protocol.Decode(protocol.Arg(result.Args, 0), &end); err != nil {
		return end, fmt.Errorf("the answer of %s cannot be read, its agent may be of another version: %w", r.device.name, err)
	}
	r.back()
	if !r.whole(end) {
		r.fetch(ctx, session, uri, &end)
	}
	r.rest(end)
	return end, nil
}

func (r *runner) back() {
	r.begun = true
	if r.away {
		r.away = false
		r.c.say("%s is back", r.device.name)
	}
}

var errHole = errors.New("a part of the output was lost")

// triesOfAPart is how often a part that did not come is asked for again, before
// the end of the command is awaited: the kept result has it.
const triesOfAPart = 3

// part prints a part of the output, unless it was printed before or is behind one
// that was lost.
func (r *runner) part(arg any) {
	var chunk protocol.CommandChunk
	if protocol.Decode(arg, &chunk) != nil || chunk.Type != "output" {
		return
	}
	r.back()
	data, err := base64.StdEncoding.DecodeString(chunk.Data)
	switch {
	case chunk.Seq < r.next:
	case chunk.Seq > r.next || err != nil:
		r.hole = true
	case !r.hole:
		r.next++
		r.tries = 0
		r.output.add(chunk.Stream, data)
	}
}

// whole tells whether all output that there is was printed, or is in end.
func (r *runner) whole(end protocol.CommandEnd) bool {
	printed := r.output.count(protocol.StreamStdout) + r.output.count(protocol.StreamStderr)
	return end.Stdout != nil || !r.hole && printed+end.DroppedBytes >= end.StdoutBytes+end.StderrBytes
}

// fetch asks for the kept result, which has what was lost on its way.
func (r *runner) fetch(ctx context.Context, session Session, uri string, end *protocol.CommandEnd) {
	var kept protocol.CommandEnd
	result, err := session.Call(ctx, uri, []any{r.about(map[string]any{"encoding": "base64", "detach": true})}, nil)
	if err == nil {
		err = protocol.Decode(protocol.Arg(result.Args, 0), &kept)
	}
	if err != nil || kept.Stdout == nil {
		r.c.say("-- a part of the output was lost on its way")
		return
	}
	end.Stdout, end.Stderr = kept.Stdout, kept.Stderr
	end.Truncated = end.Truncated || kept.Truncated
}

// rest prints what of a whole output was not printed yet.
func (r *runner) rest(end protocol.CommandEnd) {
	for _, kept := range []struct {
		stream string
		all    *string
	}{{protocol.StreamStdout, end.Stdout}, {protocol.StreamStderr, end.Stderr}} {
		if kept.all == nil {
			continue
		}
		data, err := base64.StdEncoding.DecodeString(*kept.all)
		if printed := r.output.count(kept.stream); err == nil && uint64(len(data)) > printed {
			r.output.add(kept.stream, data[printed:])
		}
	}
}

// verdict tells people how it ended, and gives the exit code.
func (r *runner) verdict(end protocol.CommandEnd) error {
	if end.DroppedBytes > 0 || end.Truncated {
		r.c.say("-- its output was longer than what is kept: bytes left out: %d", end.DroppedBytes)
	}
	code := exitNotRun
	switch end.State {
	case protocol.CommandExited:
		if end.ExitCode == nil || *end.ExitCode == 0 {
			return nil
		}
		return &ExitError{Code: *end.ExitCode & 0xff}
	case protocol.CommandSignaled:
		r.c.say("-- ended by %s", printable(end.Signal))
		code = exitOfASignal + signalNumber(end.Signal)
	case protocol.CommandTimedOut:
		r.c.say("-- ended after %v: it takes longer with --timeout", r.timeout)
		code = exitTimeUp
	case protocol.CommandCanceled:
		r.c.say("-- stopped on %s", r.device.name)
		code = exitInterrupted
	case protocol.CommandFailed:
		code = exitCannotRun
		if text := strings.ToLower(end.Error); strings.Contains(text, "not found") || strings.Contains(text, "no such file") {
			code = exitNotFound
		}
		return &ExitError{code, errors.New(r.notRun(end))}
	case protocol.CommandInterrupted:
		return &ExitError{code, fmt.Errorf("the agent of %s ended while the command ran, which nobody saw the end of", r.device.name)}
	default:
		return &ExitError{code, fmt.Errorf("%s says that it is %q", r.device.name, printable(end.State))}
	}
	return &ExitError{Code: code}
}

// notRun says why a command did not even begin.
func (r *runner) notRun(end protocol.CommandEnd) string {
	text := orUnknown(printable(end.Error))
	if argv, _ := r.question["argv"].([]string); len(argv) == 1 && strings.ContainsAny(argv[0], " |;&>") {
		text += "; a line of the shell is run with --shell"
	}
	return text
}

// signals that end programs, by their numbers, which are the same on all devices.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "TRAP": 5, "ABRT": 6, "FPE": 8, "KILL": 9, "SEGV": 11, "PIPE": 13, "ALRM": 14, "TERM": 15,
}

func signalNumber(name string) int {
	return signals[strings.TrimPrefix(strings.ToUpper(name), "SIG")]
}

// A spool writes output as fast as it is taken. It never holds up whoever adds to
// it; what waits is no more than a command may print.
type spool struct {
	mu     sync.Mutex // guards what follows
	parts  []spooled
	counts map[string]uint64 // bytes that were added, by stream
	closed bool
	err    error

	wake chan struct{} // there is something to do; capacity 1
	done chan struct{}
}

var errUnwritten = errors.New("the output cannot be written")

type spooled struct {
	stream string
	data   []byte
}

// newSpool begins one, which close ends. failed is told if it cannot write.
func newSpool(stdout, stderr io.Writer, failed func(error)) *spool {
	s := &spool{counts: map[string]uint64{}, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go func() {
		defer close(s.done)
		for range s.wake {
			for {
				s.mu.Lock()
				parts, closed := s.parts, s.closed
				s.parts = nil
				s.mu.Unlock()
				for _, p := range parts {
					to := stdout
					if p.stream == protocol.StreamStderr {
						to = stderr
					}
					if _, err := to.Write(p.data); err != nil && s.err == nil {
						s.err = fmt.Errorf("%w: %w", errUnwritten, err)
						failed(s.err)
					}
				}
				if closed {
					return
				}
				if len(parts) == 0 {
					break
				}
			}
		}
	}()
	return s
}

func (s *spool) add(stream string, data []byte) {
	s.mu.Lock()
	s.parts = append(s.parts, spooled{stream, data})
	s.counts[stream] += uint64(len(data))
	s.mu.Unlock()
	s.poke()
}

func (s *spool) poke() {
	select {
	case s.wake <- struct{}{}:
	default: // it is awake
	}
}

// count is how many bytes were added.
func (s *spool) count(stream string) uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[stream]
}

// close waits until all is written.
func (s *spool) close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.poke()
	<-s.done
	return s.err
}
