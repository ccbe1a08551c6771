//go:build unix

package journal_test

import (
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"reagent/persistence/journal"
)

// A pipe in the place of the file that a flush makes last holds it up when its
// records are in a file already.
func TestNoRecordIsReadTwiceWhileAFlushEnds(t *testing.T) {
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir})
	s := j.Stream("a")
	add(s, 3)
	must(t, s.Flush(false))
	pages := j.Stats().Pages
	pipe := filepath.Join(filepath.Dir(segments(t, dir)[0]), "0000000000000008.seg")
	must(t, syscall.Mkfifo(pipe, 0o600))
	add(s, 2)
	s.Skip(2) // kept by a file of its own
	flushed := make(chan error, 1)
	go func() { flushed <- s.Flush(false) }()
	defer func() {
		f, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		must(t, err)
		must(t, f.Close())
		if err := <-flushed; err == nil {
			t.Error("the flush was not held up")
		}
		must(t, s.Flush(false))
		wantNumbers(t, "after the flush", read(t, s, 0), upTo(1, 5))
	}()
	tick, late := time.NewTicker(time.Millisecond), time.After(time.Minute)
	defer tick.Stop()
	for j.Stats().Pages == pages {
		select {
		case <-tick.C:
		case <-late:
			t.Fatal("the records came into no file")
		}
	}
	wantNumbers(t, "forth", read(t, s, 0), upTo(1, 5))
	back := readBack(t, s, ^uint64(0))
	slices.Reverse(back)
	wantNumbers(t, "back", back, upTo(1, 5))
}
