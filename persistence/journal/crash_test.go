package journal_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/persistence/journal"
)

// writerDir makes the test binary a process that appends to a journal there
// until it is killed, and prints what it has flushed.
const writerDir = "REAGENT_TEST_JOURNAL"

func TestMain(m *testing.M) {
	if dir := os.Getenv(writerDir); dir != "" {
		if err := write(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

func crashConfig(dir string) journal.Config {
	return journal.Config{Dir: dir, MaxBytes: 200 << 10, SegmentBytes: 16 << 10, FlushBytes: 3 << 10}
}

var crashStreams = []string{"one", "two", "three"}

func write(dir string) error {
	j := journal.Open(crashConfig(dir))
	for round := 0; ; round++ {
		for n, name := range crashStreams {
			s := j.Stream(name)
			for range 1 + 30*n {
				_, next := s.Bounds()
				s.Append(line(next))
			}
			if err := s.Flush(round%20 == 0); err != nil {
				return err
			}
			_, next := s.Bounds()
			fmt.Println("flushed", name, s.ID(), next)
		}
	}
}

// The writer is killed with -9 at random moments, again and again on the same
// folder. What it had flushed is there, and no number means another record.
func TestNothingThatWasFlushedIsLostWhenTheProcessIsKilled(t *testing.T) {
	kills := 20
	if n, _ := strconv.Atoi(os.Getenv("REAGENT_SOAK")); n > 0 {
		kills = n
	}
	random := rand.New(rand.NewPCG(20, 26))
	dir := t.TempDir()
	flushed, ids := map[string]uint64{}, map[string]string{}
	for kill := range kills {
		lines := killedWriter(t, dir, time.Duration(random.IntN(30))*time.Millisecond, flushed, ids)
		if lines == 0 {
			t.Fatalf("kill %d: the writer wrote nothing", kill)
		}
		j := open(t, crashConfig(dir))
		for _, name := range crashStreams {
			s := j.Stream(name)
			oldest, next := s.Bounds()
			if next < flushed[name] || flushed[name] > 1 && s.ID() != ids[name] {
				t.Errorf("kill %d: %s goes on with %d, ID %s; %d, %s was flushed", kill, name, next, s.ID(), flushed[name], ids[name])
			}
			wantNumbers(t, fmt.Sprintf("kill %d: %s", kill, name), read(t, s, 0), upTo(oldest, next-1))
		}
		if t.Failed() {
			t.FailNow()
		}
	}
	if flushed["three"] < 1000 {
		t.Errorf("%d records in the largest stream; want enough to evict some", flushed["three"])
	}
}

func killedWriter(t *testing.T, dir string, after time.Duration, flushed map[string]uint64, ids map[string]string) (lines int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	scanner := bufio.NewScanner(out)
	var timer *time.Timer
	for scanner.Scan() {
		if lines == 0 {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		lines++
		f := strings.Fields(scanner.Text())
		if len(f) != 4 {
			break // killed in the middle of a line
		}
		n, err := strconv.ParseUint(f[3], 10, 64)
		must(t, err)
		flushed[f[1]], ids[f[1]] = n, f[2]
	}
	if timer != nil {
		timer.Stop()
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return lines
}

// segments are the files of a journal with one stream, in their order.
func segments(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*", "*.seg"))
	must(t, err)
	return files
}

// made is a journal of that many records in one stream "a".
func made(t testing.TB, records int, c journal.Config) journal.Config {
	t.Helper()
	c.Dir = t.TempDir()
	j := open(t, c)
	add(j.Stream("a"), records)
	must(t, j.Close())
	return c
}

func TestAFileThatWasCutAnywhereLosesItsEndOnly(t *testing.T) {
	const records = 8
	c := made(t, records, journal.Config{})
	path := segments(t, c.Dir)[0]
	whole, err := os.ReadFile(path)
	must(t, err)
	seen := map[int]bool{}
	for size := range len(whole) {
		must(t, os.WriteFile(path, whole[:size], 0o600))
		s := open(t, c).Stream("a")
		got := read(t, s, 0)
		wantNumbers(t, fmt.Sprint("cut at ", size), got, upTo(1, uint64(len(got))))
		seen[len(got)] = true
		_, next := s.Bounds()
		if next != uint64(len(got))+1 {
			t.Fatalf("cut at %d: goes on with %d after %d records", size, next, len(got))
		}
		add(s, 2)
		must(t, s.Flush(false))
		s = open(t, c).Stream("a")
		wantNumbers(t, fmt.Sprint("cut at ", size, ", going on"), read(t, s, 0), append(got, next, next+1))
		for _, extra := range segments(t, c.Dir)[1:] {
			must(t, os.Remove(extra))
		}
	}
	if len(seen) != records {
		t.Errorf("%d different numbers of records were left; want %d", len(seen), records)
	}
}

func TestADamagedByteCostsItsRecordOnly(t *testing.T) {
	const records = 15
	c := made(t, records, journal.Config{})
	path := segments(t, c.Dir)[0]
	whole, err := os.ReadFile(path)
	must(t, err)
	frame := 16 + len(line(1))
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x10
		must(t, os.WriteFile(path, damaged, 0o600))
		s := open(t, c).Stream("a")
		got := read(t, s, 0)
		if len(got) < records-1 || !slices.IsSorted(got) {
			t.Fatalf("byte %d: got %s; want all but one of %d", at, short(got), records)
		}
		back := readBack(t, s, ^uint64(0))
		slices.Reverse(back)
		wantNumbers(t, fmt.Sprint("byte ", at, ", back"), back, got)
		// A number that may have been told to somebody is not given again, unless
		// the last frame looks like one that never was written wholly.
		if _, next := s.Bounds(); next <= records && at < len(whole)-frame {
			t.Fatalf("byte %d: goes on with %d", at, next)
		}
		add(s, 1)
		_, next := s.Bounds()
		must(t, s.Flush(false))
		s = open(t, c).Stream("a")
		wantNumbers(t, fmt.Sprint("byte ", at, ", going on"), read(t, s, 0), append(got, next-1))
		for _, extra := range segments(t, c.Dir)[1:] {
			must(t, os.Remove(extra))
		}
	}
}

func TestWhatLiesBehindTheLastRecordIsCutOff(t *testing.T) {
	const records = 10
	garbage := bytes.Repeat([]byte("garbage!"), 100)
	for name, k := range map[string]struct {
		tail []byte
		next uint64
	}{
		"room that was never written": {make([]byte, 8192), records + 1},
		"a piece of a frame":          {append(binary.LittleEndian.AppendUint64([]byte{1, 2, 3, 4, 200, 0, 0, 0}, records+1), garbage[:50]...), records + 1},
		"a few bytes":                 {garbage[:5], records + 1},
		"garbage":                     {garbage, records + 1 + uint64(len(garbage))/16},
		"an older record again":       {frameOf(3, line(3)), records + 1 + uint64(len(line(3))+16)/16},
	} {
		c := made(t, records, journal.Config{})
		path := segments(t, c.Dir)[0]
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.Write(k.tail)
		must(t, errors.Join(err, f.Close()))
		s := open(t, c).Stream("a")
		wantNumbers(t, name, read(t, s, 0), upTo(1, records))
		if seq := s.Append(line(k.next)); seq != k.next {
			t.Errorf("%s: goes on with %d; want %d", name, seq, k.next)
		}
		must(t, s.Flush(true))
		wantNumbers(t, name+", read again", read(t, open(t, c).Stream("a"), 0), append(upTo(1, records), k.next))
	}
}

// frameOf makes a record's frame as doc.go describes it.
func frameOf(seq uint64, record []byte) []byte {
	b := binary.LittleEndian.AppendUint32(make([]byte, 4), uint32(len(record)))
	b = append(binary.LittleEndian.AppendUint64(b, seq), record...)
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], crc32.MakeTable(crc32.Castagnoli)))
	return b
}

func TestAMissingFileIsAJumpOfNumbers(t *testing.T) {
	c := made(t, 1000, journal.Config{SegmentBytes: 8 << 10, FlushBytes: 1 << 10})
	files := segments(t, c.Dir)
	if len(files) < 5 {
		t.Fatalf("%d files; want several", len(files))
	}
	j := open(t, c)
	s := j.Stream("a")
	must(t, os.Remove(files[2]))
	gone, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(files[2]), ".seg"), 16, 64)
	must(t, err)
	behind, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(files[3]), ".seg"), 16, 64)
	must(t, err)
	want := append(upTo(1, gone-1), upTo(behind, 1000)...)
	wantNumbers(t, "removed while it is open", read(t, s, 0), want)
	wantNumbers(t, "removed before it is opened", read(t, open(t, c).Stream("a"), 0), want)
}

func TestStrangeThingsInTheFolderDoNotMatter(t *testing.T) {
	c := made(t, 5, journal.Config{})
	folder := filepath.Dir(segments(t, c.Dir)[0])
	must(t, os.WriteFile(filepath.Join(c.Dir, "file"), []byte("x"), 0o600))
	must(t, os.Mkdir(filepath.Join(c.Dir, "empty"), 0o700))
	must(t, os.Mkdir(filepath.Join(c.Dir, "damaged-0123456789abcdef"), 0o700))
	must(t, os.WriteFile(filepath.Join(c.Dir, "damaged-0123456789abcdef", "0000000000000001.seg"), []byte("x"), 0o600))
	must(t, os.WriteFile(filepath.Join(folder, "0000000000000000.seg"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(folder, "00000000000000zz.seg"), nil, 0o600))
	must(t, os.WriteFile(filepath.Join(folder, "1.seg"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(folder, "0000000000000009.seg"), 0o700))
	j := open(t, c)
	if got := j.Streams(); !slices.Equal(got, []string{"a"}) {
		t.Errorf("streams %q; want a", got)
	}
	wantNumbers(t, "a", read(t, j.Stream("a"), 0), upTo(1, 5))
}

func TestAJournalWithoutAFolderKeepsTheNewestInMemory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "journal")
	must(t, os.WriteFile(dir, []byte("a file in the way"), 0o600))
	j := journal.Open(journal.Config{Dir: dir, FlushBytes: 4 << 10, Retry: time.Hour, Log: zerolog.Nop()})
	s := j.Stream("a")
	add(s, 1000)
	if err := s.Flush(false); err == nil {
		t.Error("Flush says nothing")
	}
	oldest, next := s.Bounds()
	got := read(t, s, 0)
	if next != 1001 || oldest < 800 || oldest > 1000 {
		t.Errorf("bounds %d, %d; want the newest", oldest, next)
	}
	wantNumbers(t, "in memory", got, upTo(oldest, 1000))
	if st := j.Stats(); st.Lost != oldest-1 || st.Buffered > 12<<10 {
		t.Errorf("stats %+v; want %d lost and a small buffer", st, oldest-1)
	}
	must(t, os.Remove(dir))
	must(t, s.Flush(true))
	add(s, 10)
	must(t, j.Close())
	s = open(t, journal.Config{Dir: dir}).Stream("a")
	wantNumbers(t, "when the folder could be made", read(t, s, 0), upTo(oldest, 1010))
}

// Whoever tells a number to others has to know that it survives a power cut,
// whichever process wrote the record. That a file is synced shows where it cannot
// be: a folder is in its place.
func TestWhatAnEarlierProcessWroteIsSyncedAsWell(t *testing.T) {
	c := made(t, 200, journal.Config{SegmentBytes: 4 << 10, FlushBytes: 1 << 10})
	files := segments(t, c.Dir)
	if len(files) < 2 {
		t.Fatalf("%d files; want several", len(files))
	}
	for _, path := range files {
		s := open(t, c).Stream("a")
		must(t, os.Rename(path, path+".away"))
		must(t, os.Mkdir(path, 0o700))
		if err := s.Flush(true); err == nil {
			t.Errorf("%s was not synced", filepath.Base(path))
		}
		must(t, os.Remove(path))
		must(t, os.Rename(path+".away", path))
		must(t, s.Flush(true))
	}
}

func FuzzFile(f *testing.F) {
	c := made(f, 20, journal.Config{})
	whole, err := os.ReadFile(segments(f, c.Dir)[0])
	must(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-7])
	f.Add(append(bytes.Clone(whole), frameOf(1<<40, []byte("far ahead"))...))
	f.Add(append(bytes.Clone(whole[:100]), whole[120:]...))
	f.Add([]byte("rgjrnl1\n"))
	f.Add([]byte{})
	folder := filepath.Base(filepath.Dir(segments(f, c.Dir)[0]))
	f.Fuzz(func(t *testing.T, content []byte) {
		c := journal.Config{Dir: t.TempDir(), Log: zerolog.Nop()}
		must(t, os.Mkdir(filepath.Join(c.Dir, folder), 0o700))
		must(t, os.WriteFile(filepath.Join(c.Dir, folder, "0000000000000001.seg"), content, 0o600))
		all := func(s *journal.Stream) (forth []string) {
			var back []string
			last := uint64(0)
			must(t, s.Read(0, func(seq uint64, record []byte) bool {
				if seq <= last {
					t.Errorf("record %d after %d", seq, last)
				}
				last = seq
				forth = append(forth, fmt.Sprintf("%d %x", seq, record))
				return true
			}))
			must(t, s.ReadBack(^uint64(0), func(seq uint64, record []byte) bool {
				back = append(back, fmt.Sprintf("%d %x", seq, record))
				return true
			}))
			slices.Reverse(back)
			if !slices.Equal(back, forth) {
				t.Errorf("forth %q, back %q", forth, back)
			}
			return forth
		}
		s := journal.Open(c).Stream("a")
		before := all(s)
		_, next := s.Bounds()
		if next == 0 {
			t.Skip("all numbers are used up")
		}
		if seq := s.Append([]byte("new")); seq != next {
			t.Errorf("number %d; want %d", seq, next)
		}
		must(t, s.Flush(false))
		want := append(before, fmt.Sprintf("%d %x", next, "new"))
		if got := all(s); !slices.Equal(got, want) {
			t.Errorf("after a record: %q; want %q", got, want)
		}
		if got := all(journal.Open(c).Stream("a")); !slices.Equal(got, want) {
			t.Errorf("opened again: %q; want %q", got, want)
		}
	})
}
