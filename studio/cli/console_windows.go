package cli

import (
	"context"
	"os"
	"syscall"
	"time"
)

// resized tells that the terminal may have another size now, until ctx ends. The
// system tells it only among the keys, where the library does not look for it.
func resized(ctx context.Context) <-chan time.Time {
	look := time.NewTicker(500 * time.Millisecond)
	context.AfterFunc(ctx, look.Stop)
	return look.C
}

// untilHangUp is ctx: the system ends a program whose terminal is closed.
func untilHangUp(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithCancel(ctx)
}

// enableSequences makes a console act on the sequences that programs print to
// steer a terminal.
func enableSequences(out *os.File) (undo func()) {
	nothing := func() {}
	if out == nil {
		return nothing
	}
	const processed, sequences, noReturn = 0x1, 0x4, 0x8 // ENABLE_PROCESSED_OUTPUT, ENABLE_VIRTUAL_TERMINAL_PROCESSING, DISABLE_NEWLINE_AUTO_RETURN
	handle := syscall.Handle(descriptor(out))
	var mode uint32
	if syscall.GetConsoleMode(handle, &mode) != nil {
		return nothing
	}
	set := syscall.NewLazyDLL("kernel32.dll").NewProc("SetConsoleMode")
	if done, _, _ := set.Call(uintptr(handle), uintptr(mode|processed|sequences|noReturn)); done == 0 {
		return nothing
	}
	return func() { _, _, _ = set.Call(uintptr(handle), uintptr(mode)) }
}
