package terminal

import "context"

// A shell runs on a terminal of its own. Read ends with an error when nothing of
// it will print any more; Close sets those free who read or write. The others may
// be called from any goroutine.
type shell interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	Resize(ctx context.Context, height, width uint16) error
	// Wait returns when the shell has exited; what it started may go on.
	Wait(ctx context.Context) error
	// End ends the shell and everything that was started in it, and returns when
	// all is gone. It may be called once the shell has exited, for the others.
	End(ctx context.Context) error
	Close() error
}

// shells opens them.
type shells interface {
	device(ctx context.Context) (shell, error)
	container(ctx context.Context, name string) (shell, error)
}

// Size of a terminal until somebody tells one.
const (
	firstHeight = 24
	firstWidth  = 80
)

// terminalType is what programs are told to expect: all that show these
// terminals understand it.
const terminalType = "xterm-256color"

// mostRead is how much of a shell's output is read at once.
const mostRead = 32 << 10
