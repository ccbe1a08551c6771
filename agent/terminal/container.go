package terminal

import (
	"context"
	"errors"

	"reagent/container"
	"reagent/protocol"
)

// An engine runs programs in containers; container.Engine is one.
type engine interface {
	Inspect(ctx context.Context, idOrName string) (container.Container, error)
	Exec(ctx context.Context, idOrName string, s container.ExecSpec) (*container.Exec, error)
	FirstFile(ctx context.Context, idOrName string, paths ...string) (string, error)
}

// system opens the shells of this machine.
type system struct {
	user   string // of the device's shell; "" = the agent's own
	engine engine
	owns   func(container.Container) bool // is it one of this device's apps?
}

func newSystem(cfg Config) system {
	if cfg.Owns == nil {
		cfg.Owns = func(container.Container) bool { return false }
	}
	return system{user: cfg.User, engine: cfg.Engine, owns: cfg.Owns}
}

// containerShells are what is looked for in a container, the best first (wire
// §9.1, but without the programs and files that a small image lacks).
var containerShells = []string{
	"/bin/zsh", "/usr/bin/zsh", "/usr/local/bin/zsh",
	"/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash",
	"/bin/sh", "/usr/bin/sh", "/busybox/sh", "/bin/ash",
}

var errNoContainer = &protocol.Error{Code: protocol.CodeNotFound, Text: "container not found"}

// container starts the best shell of a running container of one of the apps. A
// shell in any other could be worth more than the right to develop apps: those
// whom the machine's owner trusts have the machine.
func (s system) container(ctx context.Context, name string) (shell, error) {
	found, err := s.engine.Inspect(ctx, name)
	switch {
	case err != nil:
		return nil, refusal(err)
	case found.Name != name || !s.owns(found): // engines know containers by their IDs, too
		return nil, errNoContainer
	}
	path, err := s.engine.FirstFile(ctx, found.ID, containerShells...)
	if err != nil {
		return nil, refusal(err)
	}
	if path == "" {
		path = "sh" // perhaps the container's own PATH has one
	}
	// The stream outlives the call that asks for it.
	x, err := s.engine.Exec(context.WithoutCancel(ctx), found.ID, container.ExecSpec{
		Argv: []string{path}, Env: []string{"TERM=" + terminalType},
		TTY: true, Stdin: true, Height: firstHeight, Width: firstWidth,
	})
	if err != nil {
		return nil, refusal(err)
	}
	return execShell{x}, nil
}

// refusal gives the contract's text to what it has one for.
func refusal(err error) error {
	switch {
	case errors.Is(err, container.ErrNotFound):
		return errNoContainer
	case errors.Is(err, container.ErrNoProgram):
		return &protocol.Error{Code: protocol.CodeUnsupported, Text: "there is no shell in this container: " + err.Error()}
	}
	return err
}

// An execShell is a shell in a container.
type execShell struct{ *container.Exec }

// Wait is over with the shell; its exit code means nothing here.
func (x execShell) Wait(ctx context.Context) error {
	_, err := x.Exec.Wait(ctx)
	return err
}

// Close ends the stream.
func (x execShell) Close() error {
	x.Exec.Close()
	return nil
}
