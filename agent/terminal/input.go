package terminal

import (
	"io"
	"sync"
)

// mostTyped bounds the keystrokes that a shell has not read yet.
const mostTyped = 1 << 20

// An input holds keystrokes until the shell reads them: whoever brings them does
// not wait.
type input struct {
	wake chan struct{} // has room for one

	mu     sync.Mutex
	typed  []byte
	closed bool
}

func newInput() *input { return &input{wake: make(chan struct{}, 1)} }

// add takes keystrokes, or reports false where there are too many.
func (in *input) add(text string) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if len(in.typed)+len(text) > mostTyped {
		return false
	}
	if !in.closed {
		in.typed = append(in.typed, text...)
	}
	in.poke()
	return true
}

// pass writes what comes to the shell, until close or the shell's end.
func (in *input) pass(to io.Writer) {
	for range in.wake {
		in.mu.Lock()
		typed, closed := in.typed, in.closed
		in.typed = nil
		in.mu.Unlock()
		if closed {
			return
		}
		if len(typed) == 0 {
			continue
		}
		if _, err := to.Write(typed); err != nil {
			return
		}
	}
}

func (in *input) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.poke()
}

func (in *input) poke() {
	select {
	case in.wake <- struct{}{}:
	default:
	}
}
