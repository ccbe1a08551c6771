package journal_test

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"reagent/persistence/journal"
)

func TestAChattyStreamEvictsItsOwnRecordsOnly(t *testing.T) {
	const limit = 256 << 10
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir, MaxBytes: limit, SegmentBytes: 16 << 10, FlushBytes: 2 << 10})
	quiet, chatty := j.Stream("quiet"), j.Stream("chatty")
	for range 200 {
		add(quiet, 1)
		add(chatty, 200)
	}
	must(t, j.Close())
	wantNumbers(t, "quiet", read(t, quiet, 0), upTo(1, 200))
	oldest, next := chatty.Bounds()
	if oldest < 2 || next != 40001 {
		t.Errorf("chatty holds %d to %d; want the newest of 40000", oldest, next-1)
	}
	wantNumbers(t, "chatty", read(t, chatty, 0), upTo(oldest, 40000))
	if st := j.Stats(); st.Bytes > limit || st.Bytes < limit*3/4 || st.Lost != 0 {
		t.Errorf("stats %+v; want about %d bytes and nothing lost", st, limit)
	}
	if onDisk := folderSize(t, dir); onDisk > limit {
		t.Errorf("%d bytes on the disk; want at most %d", onDisk, limit)
	}

	// Two that both are chatty share what there is.
	second := j.Stream("second")
	add(second, 40000)
	add(chatty, 20000)
	add(second, 20000)
	must(t, j.Close())
	a, _ := chatty.Bounds()
	b, _ := second.Bounds()
	hold, other := 60001-a, 60001-b
	if hold < other/2 || other < hold/2 {
		t.Errorf("chatty keeps %d records, second %d; want about as many", hold, other)
	}
	wantNumbers(t, "quiet beside two", read(t, quiet, 0), upTo(1, 200))
}

func folderSize(t *testing.T, dir string) (n int64) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			info, err := d.Info()
			must(t, err)
			n += info.Size()
		}
		return err
	}))
	return n
}

// What room is made by must be what is on the disk, whatever happened to it.
func TestTheBytesThatAreCountedAreThoseOfTheFiles(t *testing.T) {
	const limit = 200 << 10
	c := journal.Config{Dir: t.TempDir(), MaxBytes: limit, SegmentBytes: 16 << 10, FlushBytes: 2 << 10}
	random := rand.New(rand.NewPCG(5, 11))
	j := open(t, c)
	check := func(round int, after string) {
		t.Helper()
		onDisk := int64(0)
		for _, path := range segments(t, c.Dir) {
			info, err := os.Stat(path)
			must(t, err)
			onDisk += (info.Size() + 4095) / 4096 * 4096
		}
		if got := j.Stats().Bytes; got != onDisk {
			t.Fatalf("round %d: %d bytes are counted after %s; want %d", round, got, after, onDisk)
		}
	}
	for round := range 150 {
		name := fmt.Sprint("stream-", random.IntN(8))
		s := j.Stream(name)
		add(s, random.IntN(600))
		if round%5 == 0 {
			s.Skip(2)
		}
		must(t, s.Flush(false))
		check(round, "a flush")
		switch round % 10 {
		case 3:
			must(t, j.Remove(name))
			check(round, "a removal")
		case 6:
			must(t, j.Close())
			files, err := filepath.Glob(filepath.Join(c.Dir, name+"-*", "*.seg"))
			must(t, err)
			newest, err := os.OpenFile(files[len(files)-1], os.O_APPEND|os.O_WRONLY, 0)
			must(t, err)
			_, err = newest.Write(make([]byte, 9000)) // will be cut off
			must(t, errors.Join(err, newest.Close()))
			j = open(t, c)
			check(round, "it was opened")
			j.Stream(name)
			check(round, "a repair")
		}
	}
	if got := j.Stats().Bytes; got > limit || got < limit/2 {
		t.Errorf("%d bytes; want about %d, so that files were evicted", got, limit)
	}
}

func TestManyStreamsStayWithinTheLimit(t *testing.T) {
	const streams, limit = 120, 1 << 20
	c := journal.Config{Dir: t.TempDir(), MaxBytes: limit, FlushBytes: 4 << 10, BufferBytes: 64 << 10}
	j := open(t, c)
	for round := range 12 {
		for n := range streams {
			add(j.Stream(fmt.Sprint("stream-", n)), 10)
		}
		if b := j.Stats().Buffered; b > 80<<10 {
			t.Fatalf("round %d: %d bytes in memory; want at most 64 KiB and a record", round, b)
		}
	}
	must(t, j.Close())
	if st := j.Stats(); st.Bytes > limit || st.Buffered != 0 {
		t.Errorf("stats %+v; want at most %d bytes", st, limit)
	}
	j = open(t, c)
	for n := range streams {
		s := j.Stream(fmt.Sprint("stream-", n))
		oldest, next := s.Bounds()
		if next != 121 {
			t.Errorf("stream %d goes on with %d; want 121", n, next)
		}
		wantNumbers(t, fmt.Sprint("stream ", n), read(t, s, 0), upTo(oldest, 120))
	}
}

func TestNumbersOutliveTheirRecords(t *testing.T) {
	// One segment may hold all of it: so all of it goes.
	c := journal.Config{Dir: t.TempDir(), MaxBytes: 1, SegmentBytes: 1 << 20, FlushBytes: 1 << 20}
	j := open(t, c)
	s := j.Stream("a")
	add(s, 100)
	must(t, s.Flush(true))
	if oldest, next := s.Bounds(); oldest != 101 || next != 101 {
		t.Errorf("bounds %d, %d; want nothing, and 101 next", oldest, next)
	}
	id := s.ID()
	j = open(t, c)
	s = j.Stream("a")
	if seq := s.Append(line(101)); seq != 101 || s.ID() != id {
		t.Errorf("goes on with %d and ID %s; want 101 and %s", seq, s.ID(), id)
	}
}

func TestAHeadStaysTrueWhenItsRecordsAreEvicted(t *testing.T) {
	count := 0
	state := func() []byte { return fmt.Appendf(nil, "%d records", count) }
	carry := func(head []byte, records iter.Seq2[uint64, []byte]) []byte {
		if len(head) == 0 { // the other stream has none, and goes too when the journal has the time
			return nil
		}
		n := 0
		_, err := fmt.Sscanf(string(head), "%d records", &n)
		must(t, err)
		for seq, record := range records {
			if n++; seq != uint64(n) || string(record) != string(line(seq)) {
				t.Errorf("record %d of the evicted is number %d, %q", n, seq, record)
			}
		}
		return fmt.Appendf(nil, "%d records", n)
	}
	for name, k := range map[string]struct {
		carry func([]byte, iter.Seq2[uint64, []byte]) []byte
		want  string
	}{"moved": {carry, "100 records"}, "without anybody to move it": {nil, ""}} {
		count = 0
		c := journal.Config{Dir: t.TempDir(), Carry: k.carry}
		j := open(t, c)
		for s := j.Stream("a"); count < 100; count++ {
			s.AppendAfter(state, line(uint64(count+1)))
		}
		must(t, j.Close())

		c.MaxBytes = 1
		j = open(t, c)
		add(j.Stream("other"), 1) // whoever writes makes room, before the owner is there
		must(t, j.Close())
		for range 2 {
			s := j.Stream("a")
			if oldest, next := s.Bounds(); oldest != 101 || next != 101 {
				t.Fatalf("%s: bounds %d, %d; want nothing, and 101 next", name, oldest, next)
			}
			if head, from := s.Head(); string(head) != k.want || from != 101 {
				t.Errorf("%s: head %q, from %d; want %q, 101", name, head, from, k.want)
			}
			j = open(t, c) // and so it is when it is read again
		}
	}
}
