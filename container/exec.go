package container

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/versions"
)

// What Exec can lack, beside an engine.
var (
	ErrNotRunning = errors.New("the container does not run")
	ErrNoProgram  = errors.New("the program cannot be started")
)

// An ExecSpec is a program to be run in a container that runs.
type ExecSpec struct {
	Argv          []string // the program and its arguments; no shell reads them
	Env           []string // NAME=value, beside the container's own
	Cwd           string   // "" = the container's
	User          string   // "" = the container's
	TTY           bool     // it gets a terminal, and its output is one stream
	Stdin         bool     // it can be written to; else its input is empty
	Height, Width uint16   // of the terminal; 0 = the engine's choice
	// Mark is in the environment of the program and of all that it starts, so that End
	// finds its daemons, and EndMarked all of them in another life of this process;
	// letters, digits and hyphens, nobody else's. "" = nobody will look for them.
	Mark string
}

// An Exec is a program that runs in a container. Its output is read by one
// goroutine, with Read or Output; its input may be written by another; Resize,
// Wait, End and Close are for everybody.
type Exec struct {
	engine    *Engine
	id        string // the engine's
	container string
	conn      net.Conn
	in        *bufio.Reader
	reach     reach
	unbind    func() bool // the stream does not end with its context any more
	eof       chan struct{}
	over      func() // closes eof
}

// Exec starts a program in the container with this id or exactly this name, and
// returns when it runs. A program that cannot be started is ErrNoProgram, with
// the engine's words. The stream ends with ctx; the program does not: End it.
func (e *Engine) Exec(ctx context.Context, idOrName string, s ExecSpec) (*Exec, error) {
	err := checkContainer(idOrName)
	if err == nil && (len(s.Argv) == 0 || s.Argv[0] == "") {
		err = &engineError{ErrNoProgram, errors.New("the program has no name")}
	}
	var x *Exec
	if err == nil {
		x, err = e.exec(ctx, idOrName, s)
	}
	return x, wrap("run a program in container", idOrName, err)
}

func (e *Engine) exec(ctx context.Context, idOrName string, s ExecSpec) (*Exec, error) {
	x := &Exec{engine: e, eof: make(chan struct{})}
	x.over = sync.OnceFunc(func() { close(x.eof) })
	var resize bool
	err := e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) error {
		c, err := p.inspect(ctx, idOrName)
		if err != nil {
			return err
		}
		if c.Status != StatusRunning {
			return &engineError{ErrNotRunning, fmt.Errorf("%w: it is %s", ErrNotRunning, c.Status)}
		}
		x.container, x.reach = c.ID, e.reachOf(c, s.Mark)
		options := container.ExecOptions{
			User: s.User, WorkingDir: s.Cwd, Cmd: s.Argv, Tty: s.TTY,
			Env:         append(s.Env[:len(s.Env):len(s.Env)], x.reach.env()...),
			AttachStdin: s.Stdin, AttachStdout: true, AttachStderr: true,
		}
		start := container.ExecAttachOptions{Tty: s.TTY}
		if sized := s.TTY && s.Height > 0 && s.Width > 0; sized && versions.LessThan(p.version, "1.42") {
			resize = true
		} else if sized {
			options.ConsoleSize = &[2]uint{uint(s.Height), uint(s.Width)}
			start.ConsoleSize = options.ConsoleSize
		}
		made, err := p.ContainerExecCreate(ctx, c.ID, options)
		if err != nil {
			return err
		}
		if x.id = made.ID; !isID(x.id) {
			return fmt.Errorf("the engine's answer about it is not complete")
		}
		x.conn, x.in, err = p.hijack(ctx, "/exec/"+made.ID+"/start", start)
		return err
	})
	if err != nil {
		if x.id != "" { // the engine may have heard that it is to start
			x.abandon(ctx)
		}
		return nil, err
	}
	x.unbind = context.AfterFunc(ctx, func() { x.conn.Close() })
	if err := x.begin(ctx); err != nil {
		x.abandon(ctx)
		return nil, err
	}
	if resize {
		_ = x.Resize(ctx, s.Height, s.Width) // one that has ended already has no size
	}
	return x, nil
}

// begin waits until the program has started: the engine agrees to the stream
// before it tries.
func (x *Exec) begin(ctx context.Context) error {
	late, cancel := context.WithTimeout(ctx, x.engine.cfg.Timeout)
	defer cancel()
	for pause := execLook; ; pause = min(2*pause, 20*execLook) {
		state, err := x.inspect(late)
		switch {
		case err != nil:
			return translate(ctx, err)
		case state.Pid != 0:
			x.reach.found(state.Pid, x.container)
			return nil
		case !state.Running && state.ExitCode != 0:
			return x.whyNot(late)
		}
		select {
		case <-time.After(pause):
		case <-late.Done():
			return translate(ctx, late.Err())
		}
	}
}

// Pauses between two looks at a program. Most often its stream tells of its end;
// not so when a child holds it.
const (
	execLook     = 5 * time.Millisecond
	execSlowLook = 2 * time.Second        // by way of the engine
	execNearLook = 250 * time.Millisecond // at a process of this machine
)

// whyNot reads the engine's words about a program that it could not start: they
// come where the program's output would.
func (x *Exec) whyNot(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { x.conn.Close() })
	defer stop()
	raw, err := io.ReadAll(io.LimitReader(x.in, 64<<10))
	if len(raw) == 0 && err != nil {
		return err
	}
	var text bytes.Buffer
	add := func(part []byte) { text.Write(part) }
	if unframe(bufio.NewReader(bytes.NewReader(raw)), add, add) != nil {
		text.Reset() // it has a terminal
		text.Write(raw)
	}
	return &engineError{ErrNoProgram, errors.New(plainReason(text.String()))}
}

// plainReason takes out of an engine's error what its layers have put around it:
//
//	OCI runtime exec failed: exec failed: unable to start container process: exec: "x": executable file not found in $PATH: unknown
func plainReason(text string) string {
	text = strings.TrimSuffix(strings.TrimSpace(text), ": unknown")
	for _, layer := range []string{"OCI runtime exec failed: ", "exec failed: ", "container_linux.go:", "unable to start container process: "} {
		if rest, ok := strings.CutPrefix(text, layer); ok {
			text = rest
			if layer == "container_linux.go:" { // "380: starting container process caused: …"
				_, text, _ = strings.Cut(rest, "caused: ")
			}
		}
	}
	if text == "" {
		return ErrNoProgram.Error()
	}
	return text
}

// abandon is for a program of which nobody knows whether it runs.
func (x *Exec) abandon(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), x.engine.cfg.Short)
	defer cancel()
	defer x.Close()
	for pause := execLook; ; pause = min(2*pause, 20*execLook) {
		state, err := x.inspect(ctx)
		switch {
		case err != nil, !state.Running && (state.Pid != 0 || state.ExitCode != 0):
			return // it has ended, or cannot be reached
		case state.Pid != 0:
			x.reach.found(state.Pid, x.container)
			_ = x.End(ctx)
			return
		}
		select { // it starts just now, or never
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

func (x *Exec) inspect(ctx context.Context) (state container.ExecInspect, err error) {
	err = x.engine.call(ctx, x.engine.cfg.Timeout, func(ctx context.Context, p *peer) error {
		state, err = p.ContainerExecInspect(ctx, x.id)
		if err == nil && state.ContainerID != x.container && x.container != "" {
			err = fmt.Errorf("the engine's answer about it is not complete")
		}
		return err
	})
	return state, err
}

// ID is the engine's name for it, by which EndExec finds it again.
func (x *Exec) ID() string { return x.id }

// Read reads the output of a program with a terminal. At its end it is io.EOF.
func (x *Exec) Read(b []byte) (int, error) {
	n, err := x.in.Read(b)
	if err != nil {
		x.over()
	}
	return n, err
}

// Output hands over what a program without a terminal prints, in the engine's
// order and from the calling goroutine, until the program has let go of its
// output; each part is valid until the function returns. While a function does
// not return, nothing is read: the program waits when the pipes are full.
func (x *Exec) Output(stdout, stderr func(part []byte)) error {
	defer x.over()
	return unframe(x.in, stdout, stderr)
}

// Write writes to the program's input.
func (x *Exec) Write(b []byte) (int, error) { return x.conn.Write(b) }

// CloseWrite ends the program's input.
func (x *Exec) CloseWrite() error {
	if half, ok := x.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// Resize tells the program's terminal its size.
func (x *Exec) Resize(ctx context.Context, height, width uint16) error {
	err := x.engine.call(ctx, x.engine.cfg.Timeout, func(ctx context.Context, p *peer) error {
		return p.ContainerExecResize(ctx, x.id, container.ResizeOptions{Height: uint(height), Width: uint(width)})
	})
	return wrap("resize the terminal in container", x.container, err)
}

// Wait waits for the program's end, whatever else holds its output, and returns
// its exit code (128 and the signal's number where a signal ended it). The end of
// the container is the program's end: an exit code, or ErrNotFound once the
// container is gone. It may be called again.
func (x *Exec) Wait(ctx context.Context) (exitCode int, err error) {
	eof := x.eof
	for pause := execLook; ; pause = min(2*pause, x.reach.slowest()) {
		if !x.reach.runs() {
			state, err := x.inspect(ctx)
			if err != nil {
				return -1, wrap("wait for a program in container", x.container, err)
			}
			if !state.Running {
				return state.ExitCode, nil
			}
		}
		select {
		case <-eof:
			eof, pause = nil, execLook // it ends now, or has closed its output only
		case <-time.After(pause):
		case <-ctx.Done():
			return -1, wrap("wait for a program in container", x.container, ctx.Err())
		}
	}
}

// Close lets go of the stream. The program is not ended by that.
func (x *Exec) Close() error {
	if x.conn == nil {
		return nil
	}
	if x.unbind != nil {
		x.unbind()
	}
	return x.conn.Close()
}
