package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/term"
)

// A progress is one line on a terminal that says what is being measured.
// Elsewhere it is silent.
type progress struct{ out io.Writer }

func newProgress(out io.Writer) progress {
	if f, ok := out.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return progress{out}
	}
	return progress{io.Discard}
}

const eraseLine = "\r\x1b[K"

func (p progress) say(format string, args ...any) {
	fmt.Fprint(p.out, eraseLine+fmt.Sprintf(format, args...))
}

func (p progress) clear() { fmt.Fprint(p.out, eraseLine) }
