package journal_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/persistence/journal"
)

func BenchmarkAppend(b *testing.B) {
	s := journal.Open(journal.Config{Dir: b.TempDir(), Log: zerolog.Nop()}).Stream("a")
	record := make([]byte, 100)
	b.SetBytes(int64(len(record)))
	b.ReportAllocs()
	for b.Loop() {
		s.Append(record)
	}
}

func BenchmarkRead(b *testing.B) {
	s := journal.Open(journal.Config{Dir: b.TempDir(), Log: zerolog.Nop()}).Stream("a")
	record := make([]byte, 100)
	const records = 100_000
	for range records {
		s.Append(record)
	}
	b.SetBytes(records * int64(len(record)))
	for b.Loop() {
		n := 0
		if err := s.Read(0, func(uint64, []byte) bool { n++; return true }); err != nil || n != records {
			b.Fatal(n, err)
		}
	}
}

// Each pass is a line to each of so many streams, and the flush of all.
func BenchmarkFlushOfManyStreams(b *testing.B) {
	for _, n := range []int{10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			j := journal.Open(journal.Config{Dir: b.TempDir(), Log: zerolog.Nop()})
			streams := make([]*journal.Stream, n)
			for i := range streams {
				streams[i] = j.Stream(fmt.Sprint("stream-", i))
			}
			record := make([]byte, 100)
			for b.Loop() {
				for _, s := range streams {
					s.Append(record)
				}
				must(b, j.Close())
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*n), "µs/stream")
		})
	}
}

// A tail is what a follower that is up to date reads each time.
func BenchmarkReadTail(b *testing.B) {
	s := journal.Open(journal.Config{Dir: b.TempDir(), Log: zerolog.Nop()}).Stream("a")
	for range 100_000 {
		s.Append(make([]byte, 100))
	}
	must(b, s.Flush(false))
	_, next := s.Bounds()
	b.Run("forward", func(b *testing.B) {
		for b.Loop() {
			must(b, s.Read(next-10, func(uint64, []byte) bool { return true }))
		}
	})
	b.Run("back", func(b *testing.B) {
		for b.Loop() {
			n := 0
			must(b, s.ReadBack(next, func(uint64, []byte) bool { n++; return n < 10 }))
		}
	})
}

// Five apps that print a line a minute, for a day, without a wait: what the
// flash has to take.
func TestAQuietDayWritesAFewMegabytesAtMost(t *testing.T) {
	const (
		apps = 5
		// What a file system of the ext family writes beside a file's own pages, in
		// one transaction for all files of a flush: a block each for its begin and
		// its end, the inodes, the bitmaps and the folder, once into its journal and
		// once into their place.
		metadata = 2 * 6
	)
	c := journal.Config{Dir: t.TempDir()}
	j := open(t, c)
	flushes := 0
	for minute := range 24 * 60 {
		for app := range apps {
			s := j.Stream(fmt.Sprint("prod_", app, "_app"))
			_, next := s.Bounds()
			s.Append(append(line(next), make([]byte, 60)...))
		}
		if every := int(journal.DefaultFlush / time.Minute); minute%every == every-1 {
			must(t, j.Close())
			flushes++
		}
	}
	st := j.Stats()
	written := (st.Pages + uint64(flushes*metadata)) * 4096
	t.Logf("%d flushes, %d pages, %d files: %.1f MB a day", flushes, st.Pages, st.Files, float64(written)/1e6)
	if written > 5e6 || st.Pages == 0 {
		t.Errorf("%d bytes a day; want less than 5 MB", written)
	}
}
