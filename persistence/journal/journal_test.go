package journal_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/persistence/journal"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, c journal.Config) *journal.Journal {
	t.Helper()
	if c.Dir == "" {
		c.Dir = filepath.Join(t.TempDir(), "journal")
	}
	c.Log = zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)
	return journal.Open(c)
}

// add appends n records that tell their own number.
func add(s *journal.Stream, n int) {
	for range n {
		_, next := s.Bounds()
		s.Append(line(next))
	}
}

func line(seq uint64) []byte {
	return fmt.Appendf(nil, "%s record %d", "some text that is a line", seq)
}

// read gives the numbers of all records from that one on, and fails where a
// record is another than the one that was appended.
func read(t testing.TB, s *journal.Stream, from uint64) (numbers []uint64) {
	t.Helper()
	must(t, s.Read(from, func(seq uint64, record []byte) bool {
		if string(record) != string(line(seq)) {
			t.Errorf("record %d is %q, want %q", seq, record, line(seq))
		}
		numbers = append(numbers, seq)
		return true
	}))
	return numbers
}

func readBack(t testing.TB, s *journal.Stream, before uint64) (numbers []uint64) {
	t.Helper()
	must(t, s.ReadBack(before, func(seq uint64, record []byte) bool {
		if string(record) != string(line(seq)) {
			t.Errorf("record %d is %q, want %q", seq, record, line(seq))
		}
		numbers = append(numbers, seq)
		return true
	}))
	return numbers
}

func upTo(from, to uint64) (numbers []uint64) {
	for n := from; n <= to; n++ {
		numbers = append(numbers, n)
	}
	return numbers
}

// short shows a list of numbers as ranges.
func short(numbers []uint64) string {
	var b strings.Builder
	for i := 0; i < len(numbers); {
		k := i
		for k+1 < len(numbers) && numbers[k+1] == numbers[k]+1 {
			k++
		}
		fmt.Fprintf(&b, "%d-%d ", numbers[i], numbers[k])
		i = k + 1
	}
	return b.String()
}

func wantNumbers(t testing.TB, what string, got, want []uint64) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %s; want %s", what, short(got), short(want))
	}
}

func TestRecordsComeBackInOrderAndFromAnywhere(t *testing.T) {
	j := open(t, journal.Config{FlushBytes: 1 << 10, SegmentBytes: 8 << 10})
	s := j.Stream("prod_6_web")
	for round := range 3 {
		add(s, 400)
		for _, from := range []uint64{0, 1, 2, 133, 399, 400, 401} {
			to := uint64(400 * (round + 1))
			wantNumbers(t, fmt.Sprintf("round %d from %d", round, from), read(t, s, from), upTo(max(from, 1), to))
			back := readBack(t, s, from)
			slices.Reverse(back)
			wantNumbers(t, fmt.Sprintf("round %d back before %d", round, from), back, upTo(1, max(from, 1)-1))
		}
		must(t, s.Flush(round == 1))
	}
	var some []uint64
	must(t, s.Read(700, func(seq uint64, _ []byte) bool { some = append(some, seq); return len(some) < 3 }))
	wantNumbers(t, "stopped", some, upTo(700, 702))
	some = nil
	must(t, s.ReadBack(700, func(seq uint64, _ []byte) bool { some = append(some, seq); return len(some) < 3 }))
	wantNumbers(t, "stopped going back", some, []uint64{699, 698, 697})
}

func TestAJournalGoesOnWhereItEnded(t *testing.T) {
	c := journal.Config{Dir: t.TempDir(), FlushBytes: 1 << 10, SegmentBytes: 4 << 10}
	ids := map[string]string{}
	names := []string{"prod_6_web", "dev_6_web", "../../etc", "", "Über ☃", strings.Repeat("x", 3000), "PROD_6_WEB", "a/b", "a_b"}
	for life := range 3 {
		j := open(t, c)
		for _, name := range names {
			s := j.Stream(name)
			wantNumbers(t, name, read(t, s, 0), upTo(1, uint64(100*life)))
			if id := s.ID(); life > 0 && id != ids[name] {
				t.Errorf("%q: ID %s; want %s", name, id, ids[name])
			}
			ids[name] = s.ID()
			add(s, 100)
		}
		must(t, j.Close())
		want := slices.DeleteFunc(slices.Sorted(slices.Values(names)), func(n string) bool { return n == "" })
		if got := j.Streams(); !reflect.DeepEqual(got, want) {
			t.Errorf("streams: got %q; want %q", got, want)
		}
	}
	seen := map[string]bool{}
	for name, id := range ids {
		if seen[id] || id == "" {
			t.Errorf("%q has the ID %q of another", name, id)
		}
		seen[id] = true
	}
}

func TestNothingButItsOwnersCanReadAJournal(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("no modes")
	}
	c := journal.Config{Dir: filepath.Join(t.TempDir(), "new", "journal"), SegmentBytes: 4 << 10, FlushBytes: 1 << 10}
	j := open(t, c)
	add(j.Stream("../web"), 500)
	must(t, j.Close())
	files := 0
	must(t, filepath.WalkDir(c.Dir, func(path string, d fs.DirEntry, err error) error {
		must(t, err)
		info, err := d.Info()
		must(t, err)
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		} else {
			files++
		}
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v; want %v", path, info.Mode(), want)
		}
		return nil
	}))
	if files < 3 {
		t.Errorf("%d files below the folder; want the journal's", files)
	}
}

func TestIdleStreamsTakeNoMemory(t *testing.T) {
	c := journal.Config{Dir: t.TempDir()}
	j := open(t, c)
	const streams = 250
	for n := range streams {
		add(j.Stream(fmt.Sprint("prod_", n, "_app")), 1)
	}
	must(t, j.Close())
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	again := open(t, c)
	for n := range streams {
		add(again.Stream(fmt.Sprint("prod_", n, "_app")), 1)
	}
	must(t, again.Close())
	if took := heap() - before; took > 1500*streams {
		t.Errorf("%d bytes for each stream; want fewer than 1500", took/streams)
	}
	runtime.KeepAlive(j)
	runtime.KeepAlive(again)
}

func TestARemovedStreamBeginsAnew(t *testing.T) {
	c := journal.Config{Dir: t.TempDir(), FlushBytes: 1 << 10, SegmentBytes: 4 << 10}
	j := open(t, c)
	s := j.Stream("a")
	add(s, 500)
	must(t, s.Flush(true))
	id, grown := s.ID(), s.Grown()
	must(t, j.Remove("a"))
	must(t, j.Remove("never there"))
	select {
	case <-grown:
	default:
		t.Error("who waits for the stream is not woken")
	}
	if _, there := j.Lookup("a"); there || len(j.Streams()) != 0 {
		t.Error("a removed stream is found")
	}
	if st := j.Stats(); st.Bytes != 0 || st.Buffered != 0 {
		t.Errorf("stats %+v; want nothing kept", st)
	}
	add(s, 3)
	wantNumbers(t, "anew", read(t, s, 0), upTo(1, 3))
	if s.ID() == id {
		t.Error("the new stream has the old one's ID")
	}
	must(t, j.Close())
	s = open(t, c).Stream("a")
	wantNumbers(t, "anew, read again", read(t, s, 0), upTo(1, 3))
}

func TestQuestionsMakeNoStreams(t *testing.T) {
	dir := t.TempDir()
	j := open(t, journal.Config{Dir: dir})
	if _, there := j.Lookup("a"); there {
		t.Error("a stream is there that nobody made")
	}
	s := j.Stream("a")
	if _, there := j.Lookup("a"); there || len(j.Streams()) != 0 {
		t.Error("a stream is there to which nothing was appended")
	}
	s.Append(nil)
	if got, there := j.Lookup("a"); !there || got != s || len(j.Streams()) != 1 {
		t.Error("a stream with a record is not found")
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 0 {
		t.Errorf("before the first flush: %v, %v; want no files", entries, err)
	}
}

func TestNumbersThatAreLeftOutAreNotGivenAgain(t *testing.T) {
	c := journal.Config{Dir: t.TempDir()}
	j := open(t, c)
	s := j.Stream("a")
	add(s, 2)
	s.Skip(5) // 3…7
	add(s, 2) // 8, 9
	s.Skip(1) // 10
	must(t, s.Flush(false))
	want := []uint64{1, 2, 8, 9}
	wantNumbers(t, "at once", read(t, s, 0), want)
	s = open(t, c).Stream("a")
	wantNumbers(t, "read again", read(t, s, 0), want)
	s.Skip(1)       // 11
	s.Skip(1 << 33) // far
	add(s, 1)
	s.Skip(1 << 40)
	add(s, 1)
	must(t, s.Flush(false))
	want = append(want, 12+1<<33, 13+1<<33+1<<40)
	wantNumbers(t, "far ahead", read(t, s, 0), want)
	j = open(t, c)
	s = j.Stream("a")
	wantNumbers(t, "far ahead, read again", read(t, s, 0), want)
	back := readBack(t, s, ^uint64(0))
	slices.Reverse(back)
	wantNumbers(t, "far ahead, back", back, want)
	if _, next := s.Bounds(); next != 14+1<<33+1<<40 {
		t.Errorf("next %d", next)
	}
}

func TestTooLongARecordIsLostAndTheNextIsNot(t *testing.T) {
	j := open(t, journal.Config{})
	s := j.Stream("a")
	if seq := s.Append(make([]byte, journal.MaxRecord+1)); seq != 1 {
		t.Errorf("number %d; want 1", seq)
	}
	long := make([]byte, journal.MaxRecord)
	s.Append(long)
	add(s, 1)
	must(t, s.Flush(false))
	var got []string
	must(t, s.Read(0, func(seq uint64, record []byte) bool {
		got = append(got, fmt.Sprint(seq, " ", len(record)))
		return true
	}))
	if want := []string{fmt.Sprint("2 ", len(long)), fmt.Sprint("3 ", len(line(3)))}; !slices.Equal(got, want) {
		t.Errorf("got %v; want %v", got, want)
	}
	if j.Stats().Lost != 1 {
		t.Errorf("lost %d; want 1", j.Stats().Lost)
	}
}

func TestANewSegmentBeginsWithItsOwnersHead(t *testing.T) {
	c := journal.Config{Dir: t.TempDir(), SegmentBytes: 4 << 10, FlushBytes: 512}
	j := open(t, c)
	s := j.Stream("a")
	if head, from := s.Head(); head != nil || from != 1 {
		t.Errorf("a new stream: head %q, from %d; want none", head, from)
	}
	count := 0
	state := func() []byte { return fmt.Appendf(nil, "%d records", count) }
	check := func(when string) {
		t.Helper()
		head, from := s.Head()
		if want := fmt.Sprintf("%d records", from-1); string(head) != want {
			t.Errorf("%s: head %q in front of record %d; want %q", when, head, from, want)
		}
		if from+120 < uint64(count) || count > 0 && from < 1 {
			t.Errorf("%s: the newest head is from record %d of %d", when, from, count)
		}
	}
	for range 1000 {
		s.AppendAfter(state, line(uint64(count+1)))
		count++
		if count%37 == 0 {
			check("while it grows")
		}
	}
	must(t, j.Close())
	j = open(t, c)
	s = j.Stream("a")
	check("read again")
	wantNumbers(t, "records", read(t, s, 0), upTo(1, 1000))

	// A segment without records, and one that somebody began without a head.
	want, at := s.Head()
	s.Skip(3)
	must(t, s.Flush(false))
	s.Append([]byte("x"))
	must(t, s.Flush(false))
	s = open(t, c).Stream("a")
	if head, from := s.Head(); string(head) != string(want) || from != at {
		t.Errorf("head %q, from %d; want %q, %d", head, from, want, at)
	}
}

func TestWhoWaitsIsWokenByTheNextRecord(t *testing.T) {
	s := open(t, journal.Config{}).Stream("a")
	s.Append(nil)
	grown := s.Grown()
	select {
	case <-grown:
		t.Fatal("woken by an old record")
	default:
	}
	s.Append(nil)
	select {
	case <-grown:
	default:
		t.Fatal("not woken")
	}
}

func TestReadersAndWritersDoNotDisturbEachOther(t *testing.T) {
	j := open(t, journal.Config{MaxBytes: 512 << 10, SegmentBytes: 32 << 10, FlushBytes: 2 << 10})
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- j.Run(ctx) }()
	const each = 4000
	var wg sync.WaitGroup
	for n := range 3 {
		s := j.Stream(fmt.Sprint("stream-", n))
		wg.Go(func() { add(s, each) })
		wg.Go(func() { // follows: all in order, none twice
			at := uint64(1)
			for at <= each {
				grown := s.Grown()
				if err := s.Read(at, func(seq uint64, record []byte) bool {
					if seq < at || string(record) != string(line(seq)) {
						t.Errorf("stream %d: record %d %q after %d", n, seq, record, at-1)
					}
					at = seq + 1
					return true
				}); err != nil {
					t.Error(err)
					return
				}
				if at <= each {
					<-grown
				}
			}
		})
		wg.Go(func() {
			for range 50 {
				if err := s.Flush(true); err != nil {
					t.Error(err)
				}
				last := uint64(1 << 62)
				if err := s.ReadBack(last, func(seq uint64, record []byte) bool {
					if seq >= last || string(record) != string(line(seq)) {
						t.Errorf("stream %d: record %d %q before %d", n, seq, record, last)
					}
					last = seq
					return true
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	cancel()
	if err := <-ran; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v; want its context's end", err)
	}
	if b := j.Stats().Buffered; b != 0 {
		t.Errorf("%d bytes are in memory after Run; want 0", b)
	}
}

func TestRunWritesFromTimeToTime(t *testing.T) {
	c := journal.Config{Dir: t.TempDir(), FlushEvery: 10 * time.Millisecond}
	j := open(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- j.Run(ctx) }()
	defer func() { cancel(); <-ran }()
	for round := uint64(1); round <= 3; round++ {
		add(j.Stream("a"), 1)
		deadline := time.Now().Add(time.Minute)
		for j.Stats().Buffered > 0 {
			if time.Now().After(deadline) {
				t.Fatal("a record is in no file")
			}
			runtime.Gosched()
		}
		wantNumbers(t, "another's view", read(t, open(t, c).Stream("a"), 0), upTo(1, round))
	}
}
