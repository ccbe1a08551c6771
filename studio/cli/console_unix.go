//go:build unix

package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// resized tells that the terminal may have another size now, until ctx ends.
func resized(ctx context.Context) <-chan os.Signal {
	changes := make(chan os.Signal, 1)
	signal.Notify(changes, syscall.SIGWINCH)
	context.AfterFunc(ctx, func() { signal.Stop(changes) })
	return changes
}

// untilHangUp is ctx that ends, too, when the terminal is closed.
func untilHangUp(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, syscall.SIGHUP)
}

// enableSequences prepares a terminal for what is printed; here there is nothing
// to do, and nothing to undo.
func enableSequences(*os.File) (undo func()) { return func() {} }
