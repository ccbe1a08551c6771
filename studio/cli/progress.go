package cli

import (
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// A bar shows how far a transfer is, where somebody watches. Elsewhere it says
// what begins, and is silent then. What a terminal does not take is not worth an
// error.
type bar struct{ shown *progressbar.ProgressBar } // nil: nobody watches

// bar begins one, of yet unknown length.
func (c *Call) bar(what string) bar {
	what = printable(what)
	if !interactive(c.Stderr) {
		c.say("%s", what)
		return bar{}
	}
	return bar{progressbar.NewOptions64(-1,
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(c.Stderr),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowTotalBytes(true),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetWidth(20),
		progressbar.OptionSetTheme(progressbar.ThemeASCII),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSpinnerType(14),
		progressbar.OptionSetSpinnerChangeInterval(0), // no goroutine of its own
		progressbar.OptionOnCompletion(func() { _, _ = io.WriteString(c.Stderr, "\n") }),
	)}
}

// Write counts what passes.
func (b bar) Write(p []byte) (int, error) {
	if b.shown != nil {
		_ = b.shown.Add64(int64(len(p)))
	}
	return len(p), nil
}

// at says how far it is. It is never full before the end: layers add to the
// total as they begin.
func (b bar) at(complete, total int64) {
	if b.shown != nil && total > 0 {
		b.shown.ChangeMax64(total)
		_ = b.shown.Set64(min(complete, total-1))
	}
}

// end leaves the bar on the screen: full, or where the transfer broke off.
func (b bar) end(err error) {
	switch {
	case b.shown == nil:
	case err != nil:
		_ = b.shown.Exit()
	default:
		_ = b.shown.Finish()
	}
}
