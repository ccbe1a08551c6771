package cli

import (
	"os"
	"sync"

	"golang.org/x/term"
)

// A console is the terminal at which somebody sits, with every key passed on as
// it is. restore makes it what it was, and may be called more than once.
type console struct {
	in      *os.File
	out     *os.File // nil where what is printed goes elsewhere
	restore func()
}

// openConsole is nil where nobody types: stdin is a file or a pipe.
func (p *Program) openConsole() (*console, error) {
	in, ok := p.Stdin.(*os.File)
	if !ok || !isTerminal(in) {
		return nil, nil
	}
	c := &console{in: in}
	if out, ok := p.Stdout.(*os.File); ok && isTerminal(out) {
		c.out = out
	}
	state, err := term.MakeRaw(descriptor(in))
	if err != nil {
		return nil, err
	}
	printing := enableSequences(c.out)
	c.restore = sync.OnceFunc(func() {
		_ = term.Restore(descriptor(in), state) // of no avail where the terminal is gone
		printing()
	})
	return c, nil
}

// size is how large the terminal is; ok is false where it has no size.
func (c *console) size() (size screenSize, ok bool) {
	if c == nil {
		return size, false
	}
	file := c.out
	if file == nil {
		file = c.in
	}
	width, height, err := term.GetSize(descriptor(file))
	return screenSize{width, height}, err == nil && width > 0 && height > 0
}

// calm takes back what a program on the other side may have asked the terminal
// for and did not live to take back: its second screen, the mouse, keys that send
// something else, a hidden cursor, colours.
func (c *console) calm() {
	if c != nil && c.out != nil {
		_, _ = c.out.WriteString("\x1b[?1047l\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l\x1b[?1l\x1b>\x1b[?25h\x1b[0m")
	}
}

// A screenSize is the size of a terminal in characters.
type screenSize struct{ width, height int }

func isTerminal(f *os.File) bool { return term.IsTerminal(descriptor(f)) }

// descriptor is the file's number. Unlike Fd it leaves the file as it is, so that
// a read of it can still be ended.
func descriptor(f *os.File) int {
	number := -1
	raw, err := f.SyscallConn()
	if err != nil {
		return number
	}
	if raw.Control(func(fd uintptr) { number = int(fd) }) != nil {
		return -1
	}
	return number
}
