package commands

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"reagent/container"
	"reagent/protocol"
)

// A run is a command from its claim to its end, owned by the goroutine that
// performs it.
type run struct {
	claimed record // as it was begun; never changes
	output  *output
	once    sync.Once
	stop    chan struct{} // closed when somebody wants it to end
	done    chan struct{} // closed when it has ended and its result is kept

	// Guarded by Commands.mu.
	followers int
	newest    int  // the number of the one who came last
	unwanted  bool // … and who has left with the wish that it ends

	record record // everybody's after done
	err    error  // why there is no result; everybody's after done
}

func (r *run) cancel() { r.once.Do(func() { close(r.stop) }) }

// A process is a program that runs.
type process interface {
	// output hands over what the program prints until nobody can print any more,
	// or until close.
	output(stdout, stderr func(part []byte))
	close()
	wait() ending
	end(ctx context.Context) error // with all that it has started
	giveUp()                       // wait waits no longer
}

// An ending is how a program ended.
type ending struct {
	code   int
	signal string // "SIGKILL"; "" = it exited
	text   string // "" = it succeeded; or as Go says it: "exit status 3", "signal: killed"
	err    error  // nobody knows how: its container is gone, or the engine
}

// perform runs a command to its end.
func (c *Commands) perform(life context.Context, r *run, q Question) {
	// The kernel ends a program of this machine with the thread that started it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()

	begun := time.Now()
	if r.err = c.store.begin(r.record); r.err == nil {
		if q.Begins != nil {
			q.Begins()
		}
		result := c.execute(life, r, q.RunCommandArgs)
		result.DurationMS = uint64(time.Since(begun).Milliseconds())
		result.Ended = time.Now().UTC()
		r.output.finish()
		result.Stdout, result.Stderr = r.output.printed()
		r.record.End = &result
		c.store.finish(r.record, r.output)
		c.cfg.Log.Info().Str("id", r.record.ID).Str("container", r.record.Container).Str("state", result.State).
			Uint64("took_ms", result.DurationMS).Uint64("bytes", result.Stdout+result.Stderr).Msg("command ended")
	} else {
		c.cfg.Log.Warn().Err(r.err).Str("id", r.record.ID).Msg("command not run")
		r.output.finish()
	}
	c.mu.Lock()
	delete(c.running, r.record.ID)
	c.mu.Unlock()
	close(r.done)
}

// execute runs the program.
func (c *Commands) execute(life context.Context, r *run, a protocol.RunCommandArgs) result {
	if life.Err() != nil {
		return result{State: protocol.CommandInterrupted}
	}
	program, err := c.start(life, a)
	if err != nil {
		if life.Err() != nil {
			return result{State: protocol.CommandInterrupted}
		}
		return result{State: protocol.CommandFailed, Error: err.Error()}
	}
	if x, ok := program.(*inside); ok {
		r.record.Exec = x.exec.ID()
		c.store.note(r.record)
	}
	e, state, err := supervise(life, program, c.limits(a.Timeout), r.stop, r.output.stdout, r.output.stderr)
	res := result{State: state, Signal: e.signal}
	if err != nil {
		res.Error = err.Error()
		c.cfg.Log.Warn().Err(err).Str("id", r.record.ID).Msg("a command may not have ended")
	}
	switch {
	case state != protocol.CommandExited:
	case e.err != nil:
		res.State, res.Error = protocol.CommandInterrupted, e.err.Error()
	case e.signal != "":
		res.State = protocol.CommandSignaled
	default:
		res.ExitCode = &e.code
	}
	return res
}

// limits bound a program: how long it may run, take to end, and be listened to
// after its end.
type limits struct {
	run, end, seen time.Duration
	drain          time.Duration // while nothing comes …
	drainMost      time.Duration // … and at most
}

func (c *Commands) limits(run time.Duration) limits {
	return limits{run, c.cfg.Grace + c.cfg.EndLimit, c.cfg.EndSeen, c.cfg.Drain, c.cfg.DrainMost}
}

// errUnseen means that a program was ended, and nobody has seen its end.
var errUnseen = errors.New("its end was not seen")

// supervise waits for the end of a program, or sees to it: when its time is up, or
// somebody wants it to stop, or life ends. err is why it may go on nevertheless.
func supervise(life context.Context, p process, l limits, stop <-chan struct{}, stdout, stderr func([]byte)) (e ending, state string, err error) {
	read, ended := make(chan struct{}), make(chan ending, 1)
	var work sync.WaitGroup
	defer work.Wait()
	part := parts{come: make(chan struct{}, 1)}
	work.Go(func() { defer close(read); p.output(part.to(stdout), part.to(stderr)) })
	work.Go(func() { ended <- p.wait() })
	late := time.NewTimer(l.run)
	defer late.Stop()
	select {
	case e = <-ended:
		state = protocol.CommandExited
	case <-late.C:
		state = protocol.CommandTimedOut
	case <-stop:
		state = protocol.CommandCanceled
	case <-life.Done():
		state = protocol.CommandInterrupted
	}
	if state != protocol.CommandExited || e.err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(life), l.end)
		defer cancel()
		if err = p.end(ctx); err == nil && state != protocol.CommandExited {
			unseen := time.NewTimer(l.seen)
			defer unseen.Stop()
			select {
			case e = <-ended:
			case <-unseen.C:
				p.giveUp()
				err = errUnseen
			}
		}
	}
	part.drain(life, l, read)
	p.close()
	return e, state, err
}

// parts sees what a program prints pass by.
type parts struct {
	come chan struct{} // capacity 1: something has come
	busy atomic.Int32  // so many are taken just now
}

func (p *parts) to(taker func([]byte)) func([]byte) {
	return func(part []byte) {
		p.busy.Add(1)
		taker(part)
		p.busy.Add(-1)
		select {
		case p.come <- struct{}{}:
		default:
		}
	}
}

// drain waits until a program that has ended was read to the end, or somebody in
// the background holds its output.
func (p *parts) drain(life context.Context, l limits, read <-chan struct{}) {
	idle, late := time.NewTimer(l.drain), time.NewTimer(l.drainMost)
	defer idle.Stop()
	defer late.Stop()
	for over := life.Done(); ; {
		select {
		case <-read:
			return
		case <-p.come:
			idle.Reset(l.drain)
		case <-idle.C:
			if p.busy.Load() == 0 {
				return
			}
			idle.Reset(l.drain)
		case <-late.C:
			return
		case <-over:
			late.Reset(l.drain)
			over = nil
		}
	}
}

// start starts the program of a command.
func (c *Commands) start(life context.Context, a protocol.RunCommandArgs) (process, error) {
	if a.Container == "" {
		return startHere(a, markOf(a.ID), c.cfg.Grace, loud)
	}
	env := make([]string, 0, len(a.Env))
	for name, value := range a.Env {
		env = append(env, name+"="+value)
	}
	// The stream does not end with life: the last words of a program that is
	// ended then are to be heard.
	x, err := c.cfg.Engine.Exec(context.WithoutCancel(life), a.Container, container.ExecSpec{Argv: a.Argv, Env: env, Cwd: a.Cwd, Mark: a.ID})
	if err != nil {
		return nil, err
	}
	watch, stop := context.WithCancel(context.WithoutCancel(life))
	return &inside{x, watch, stop}, nil
}

// inside is a program in a container.
type inside struct {
	exec  *container.Exec
	watch context.Context
	stop  context.CancelFunc
}

func (p *inside) output(stdout, stderr func([]byte)) { _ = p.exec.Output(stdout, stderr) } // as far as it came

func (p *inside) wait() ending {
	code, err := p.exec.Wait(p.watch)
	return ending{code: code, err: err}
}

func (p *inside) end(ctx context.Context) error {
	err := p.exec.End(ctx)
	if err != nil {
		p.giveUp()
	}
	return err
}

func (p *inside) giveUp() { p.stop() }

func (p *inside) close() {
	p.stop()
	_ = p.exec.Close()
}

// follow waits for the end of the run and hands over its output meanwhile.
func (c *Commands) follow(ctx context.Context, r *run, q Question) (protocol.CommandEnd, error) {
	told := q.Progress != nil && r.send(ctx, q) == nil
	select {
	case <-r.done:
	case <-ctx.Done():
		return protocol.CommandEnd{}, ctx.Err()
	}
	if r.err != nil {
		return protocol.CommandEnd{}, r.err
	}
	end := r.record.end()
	end.DroppedBytes = end.StdoutBytes + end.StderrBytes - uint64(r.output.kept())
	end.Truncated = end.DroppedBytes > 0
	if !told {
		gone, err := c.large(ctx, q)
		if err != nil {
			return protocol.CommandEnd{}, err
		}
		defer gone()
		stdout, stderr, cut := r.output.fit(q.Base64)
		end.Stdout, end.Stderr = &stdout, &stderr
		end.Truncated = end.Truncated || cut
	}
	return end, nil
}

// send hands over the output from its beginning, as it comes.
func (r *run) send(ctx context.Context, q Question) error {
	reader := r.output.reader()
	defer reader.close()
	for seq := uint64(0); ; seq++ {
		f, err := reader.next(ctx)
		if err != nil {
			if errors.Is(err, errEnd) {
				return nil
			}
			return err
		}
		chunk := protocol.CommandChunk{Type: "output", Seq: seq, Stream: streams[f.stream], Data: encoded(f.data, q.Base64)}
		if err := q.Progress(ctx, chunk); err != nil {
			return fmt.Errorf("send output: %w", err)
		}
	}
}

func encoded(data []byte, asBase64 bool) string {
	if asBase64 {
		return base64.StdEncoding.EncodeToString(data)
	}
	return strings.ToValidUTF8(string(data), "\uFFFD")
}
