package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/persistence/journal"
	"reagent/protocol"
)

// call follows once, with progressive results.
func call(ctx context.Context, l *Logs, in protocol.FollowArgs) (records []protocol.LogRecord, end protocol.LogRecord, err error) {
	in.ContainerName = web
	if in.MaxBytes == 0 {
		in.MaxBytes = protocol.FollowBytes
	}
	end, err = l.Follow(ctx, in, func(_ context.Context, r protocol.LogRecord) error {
		records = append(records, r)
		return nil
	})
	return records, end, err
}

// told are the records in words: lines as "seq text", gaps as "[from-to reason]".
func told(records []protocol.LogRecord) []string {
	out := []string{}
	for _, r := range records {
		number := func(n *uint64) string {
			if n == nil {
				return "?"
			}
			return strconv.FormatUint(*n, 10)
		}
		switch r.Type {
		case protocol.LogGap:
			out = append(out, fmt.Sprintf("[%s-%s %s]", number(r.FromSeq), number(r.ToSeq), r.Reason))
		case protocol.LogLines:
			for _, n := range r.Lines {
				out = append(out, fmt.Sprintf("%d %s", n.Seq, n.Text))
			}
		}
	}
	return out
}

// followed is what a call gives that waits for nothing.
func followed(t *testing.T, l *Logs, in protocol.FollowArgs) ([]string, protocol.LogRecord) {
	t.Helper()
	synctest.Wait()
	records, end, err := call(t.Context(), l, in)
	if err != nil {
		t.Fatal(err)
	}
	return told(records), end
}

func TestFollowerGetsEachLineOnceWithItsCursor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{})
		l.Agent(web, "Starting web...")
		l.Attach(web, "c1")
		e.print("c1", "one", "two")
		got, end := followed(t, l, protocol.FollowArgs{Oldest: true})
		expect(t, "from the oldest", got, []string{"1 Starting web...", "2 one", "3 two"})
		if end.Reason != protocol.EndWait || end.Type != protocol.LogEnd || end.DeviceTime == "" {
			t.Errorf("it ends with %+v, want wait", end)
		}
		if got, _ := followed(t, l, protocol.FollowArgs{}); len(got) != 0 {
			t.Errorf("from now: %q, want nothing", got)
		}
		e.print("c1", "three")
		l.Agent(web, "Received stop signal for web")
		got, end = followed(t, l, protocol.FollowArgs{Cursor: end.Cursor})
		expect(t, "behind the cursor", sorted(got), []string{"4", "5"})
		got, _ = followed(t, l, protocol.FollowArgs{Cursor: end.Cursor})
		expect(t, "behind that", got, []string{})
	})
}

// sorted are the numbers of what was told.
func sorted(told []string) []string {
	numbers := []string{}
	for _, s := range told {
		n, _, _ := strings.Cut(s, " ")
		numbers = append(numbers, n)
	}
	return numbers
}

func TestLinesTellWhereTheyComeFrom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{})
		at := time.Now()
		l.Attach(web, "c1")
		e.change("c1", func(c *fakeContainer) {
			c.lines = append(c.lines, stamp(at, "fine"), "!"+stamp(at.Add(5), "bad \xff"), stamp(at.Add(6), strings.Repeat("é", 150_000)))
		})
		synctest.Wait()
		records, _, err := call(t.Context(), l, protocol.FollowArgs{Oldest: true})
		if err != nil {
			t.Fatal(err)
		}
		var lines []protocol.LogLine
		for _, r := range records {
			lines = append(lines, r.Lines...)
		}
		if len(lines) != 3 {
			t.Fatalf("%d lines, want 3", len(lines))
		}
		stamped := func(at time.Time) string { return at.UTC().Format(time.RFC3339Nano) }
		if got, want := lines[0], (protocol.LogLine{Seq: 1, Time: stamped(at), Stream: "stdout", Text: "fine"}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if got, want := lines[1], (protocol.LogLine{Seq: 2, Time: stamped(at.Add(5)), Stream: "stderr", Text: "bad \ufffd"}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		if long := lines[2]; !long.Cut || len(long.Text) > protocol.MaxLogLine || len(long.Text) < protocol.MaxLogLine-1000 || strings.Trim(long.Text, "é") != "" {
			t.Errorf("a line of 300,000 bytes comes with %d, cut %v", len(long.Text), long.Cut)
		}
	})
}

func TestNewLineComesAtOnceAndManyDoNotWearTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{})
		l.Attach(web, "c1")
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		pieces, done := make(chan time.Time, 2000), make(chan error, 1)
		go func() {
			_, err := l.Follow(ctx, protocol.FollowArgs{ContainerName: web, MaxBytes: 1 << 20, Wait: time.Hour}, func(context.Context, protocol.LogRecord) error {
				pieces <- time.Now()
				return nil
			})
			done <- err
		}()
		time.Sleep(time.Minute)
		begun := time.Now()
		for range 1000 {
			e.print("c1", "x")
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		if n := len(pieces); n > 12 || n < 5 {
			t.Fatalf("a second of lines came in %d pieces, want one each 100ms", n)
		}
		if took := (<-pieces).Sub(begun); took > 200*time.Millisecond {
			t.Errorf("the first line came after %v, want 200ms at most", took)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("a call that was cancelled = %v, want context.Canceled", err)
		}
	})
}

func TestCallEndsWhenEnoughWasSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{})
		l.Attach(web, "c1")
		for i := range 3000 {
			e.print("c1", fmt.Sprintf("%04d \x1b[31m%s", i, strings.Repeat("\x01<", 100)))
		}
		for _, most := range []int{0, 1, 3000, 100_000, 1 << 20} {
			in, next, calls := protocol.FollowArgs{ContainerName: web, Oldest: true, MaxBytes: most}, 0, 0
			for next < 3000 && calls < 20 {
				calls++
				size, n := 0, 0
				synctest.Wait()
				end, err := l.Follow(t.Context(), in, func(_ context.Context, r protocol.LogRecord) error {
					raw, err := json.Marshal(r.Wire())
					if err != nil {
						return err
					}
					if size += len(raw); len(raw) > protocol.MaxLogResult {
						t.Errorf("a result of %d bytes, want %d at most", len(raw), protocol.MaxLogResult)
					}
					for _, line := range r.Lines {
						if want := fmt.Sprintf("%04d ", next); !strings.HasPrefix(line.Text, want) {
							t.Fatalf("line %q, want %s…", line.Text[:5], want)
						}
						next++
						n++
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
				if n == 0 || size > most && n > 1 {
					t.Errorf("max_bytes %d: %d lines in %d bytes", most, n, size)
				}
				if next < 3000 && end.Reason != protocol.EndMaxBytes {
					t.Errorf("max_bytes %d: it ends with %q after %d lines, want max_bytes", most, end.Reason, next)
				}
				in = protocol.FollowArgs{ContainerName: web, Cursor: end.Cursor, MaxBytes: most}
			}
		}
	})
}

func TestWithoutProgressAllComesInTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{})
		l.Attach(web, "c1")
		end, err := l.Follow(t.Context(), protocol.FollowArgs{ContainerName: web, MaxBytes: 1000}, nil)
		if err != nil || end.Records == nil || len(end.Records) != 0 {
			t.Errorf("of nothing: %+v, %v, want an empty list", end, err)
		}
		e.print("c1", slicesOf(strings.Repeat("\x01", 20_000), 150)...)
		synctest.Wait()
		seen, cursor := 0, ""
		for seen < 150 {
			in := protocol.FollowArgs{ContainerName: web, Oldest: cursor == "", Cursor: cursor, MaxBytes: protocol.MaxFollowBytes}
			end, err := l.Follow(t.Context(), in, nil)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(end.Wire())
			if err != nil {
				t.Fatal(err)
			}
			if len(raw) >= protocol.MaxFollowBytes {
				t.Errorf("an answer of %d bytes, want fewer than %d", len(raw), protocol.MaxFollowBytes)
			}
			n := 0
			for _, r := range end.Records {
				n += len(r.Lines)
			}
			if seen, cursor = seen+n, end.Cursor; n == 0 {
				t.Fatalf("no line after %d", seen)
			}
		}
	})
}

func TestCursorsOfAnyKindAreAGapNotAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{})
		l.Attach(web, "c1")
		e.print("c1", "one", "two")
		_, end := followed(t, l, protocol.FollowArgs{Oldest: true})
		id, _, _ := strings.Cut(end.Cursor, ".")
		for _, c := range []string{"x", "0123456789ab.1", id + ".99", id + ".", id + ".-1", id + ".99999999999999999999", id + ".1.otherrun", "..", id} {
			got, end := followed(t, l, protocol.FollowArgs{Cursor: c})
			expect(t, c, got, []string{"[?-? cursor_unknown]", "1 one", "2 two"})
			got, _ = followed(t, l, protocol.FollowArgs{Cursor: end.Cursor})
			expect(t, "behind "+c, got, []string{})
		}
	})
}

func TestFollowBeginsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{})
		l.Attach(web, "c1")
		var third time.Time
		for i := range 5 {
			time.Sleep(time.Second)
			if i == 2 {
				third = time.Now()
			}
			e.print("c1", fmt.Sprint("line ", i+1))
		}
		got, _ := followed(t, l, protocol.FollowArgs{At: third})
		expect(t, "from the third", got, []string{"3 line 3", "4 line 4", "5 line 5"})
		got, _ = followed(t, l, protocol.FollowArgs{At: third.Add(time.Hour)})
		expect(t, "from later", got, []string{})
		got, _ = followed(t, l, protocol.FollowArgs{At: time.Unix(1, 0)})
		expect(t, "from long ago", sorted(got), []string{"1", "2", "3", "4", "5"})
	})
}

func TestWhatTheStoreHadToDropIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{}, func(c *Config) {
			c.Journal = journal.Open(journal.Config{Dir: t.TempDir(), MaxBytes: 64 << 10, SegmentBytes: 16 << 10, FlushBytes: 1 << 10})
		})
		l.Attach(web, "c1")
		e.print("c1", "first")
		_, end := followed(t, l, protocol.FollowArgs{Oldest: true})
		e.print("c1", slicesOf(strings.Repeat("x", 1000), 500)...)
		got, _ := followed(t, l, protocol.FollowArgs{Cursor: end.Cursor})
		var from, to, next uint64
		if _, err := fmt.Sscanf(got[0], "[%d-%d store_full]", &from, &to); err != nil || from != 2 || to < 400 {
			t.Fatalf("it begins with %q, want a gap from 2", got[0])
		}
		if _, err := fmt.Sscanf(got[1], "%d x", &next); err != nil || next != to+1 || int(to)+len(got)-1 != 501 {
			t.Errorf("behind the gap up to %d: %.10q and %d more, want all up to 501", to, got[1], len(got)-2)
		}
		if got, _ := followed(t, l, protocol.FollowArgs{Oldest: true}); strings.HasPrefix(got[0], "[") {
			t.Errorf("from the oldest: %q, want no gap", got[0])
		}
	})
}

func TestFollowersOfAnUninstalledAppAreToldSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, installed := newFakeEngine("c1"), true
		l := running(t, e, &fakeSession{}, func(c *Config) { c.Installed = func(cn string) bool { return cn == web && installed } })
		if _, err := l.Follow(t.Context(), protocol.FollowArgs{ContainerName: "prod_9_other"}, nil); err == nil || err.Error() != "container not found" {
			t.Errorf("of an app that is not there: %v", err)
		}
		if _, end := followed(t, l, protocol.FollowArgs{Oldest: true}); end.Reason != protocol.EndWait {
			t.Errorf("an app that printed nothing ends with %q, want wait", end.Reason)
		}
		l.Attach(web, "c1")
		synctest.Wait()
		ends := make(chan protocol.LogRecord, 1)
		begun := time.Now()
		go func() {
			_, end, _ := call(t.Context(), l, protocol.FollowArgs{Wait: time.Hour})
			ends <- end
		}()
		synctest.Wait()
		l.Detach(web)
		e.print("c1", "bye")
		e.remove("c1")
		time.Sleep(time.Second)
		l.Agent(web, "Successfully stopped web")
		installed = false
		l.Gone(web)
		if end := <-ends; end.Reason != protocol.EndRemoved || time.Since(begun) > time.Minute {
			t.Errorf("it ends with %q after %v, want removed at once", end.Reason, time.Since(begun))
		}
		got, end := followed(t, l, protocol.FollowArgs{Oldest: true, Wait: time.Hour})
		expect(t, "what is left", got, []string{"1 bye", "2 Successfully stopped web"})
		if end.Reason != protocol.EndRemoved {
			t.Errorf("it ends with %q, want removed", end.Reason)
		}
		installed = true // again, under the same name
		l.Agent(web, "Starting web...")
		got, _ = followed(t, l, protocol.FollowArgs{Cursor: end.Cursor})
		expect(t, "the next life", got, []string{"3 Starting web..."})
	})
}

func TestTooManyFollowersAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := running(t, newFakeEngine(), &fakeSession{}, func(c *Config) { c.MaxFollowers = 3 })
		ctx, cancel := context.WithCancel(t.Context())
		for range 3 {
			go l.Follow(ctx, protocol.FollowArgs{ContainerName: web, MaxBytes: 1, Wait: time.Hour}, nil)
		}
		synctest.Wait()
		_, err := l.Follow(ctx, protocol.FollowArgs{ContainerName: web}, nil)
		if err == nil || err.Error() != "too many followers" {
			t.Errorf("the fourth: %v, want too many followers", err)
		}
		cancel()
		synctest.Wait()
		if _, err := l.Follow(t.Context(), protocol.FollowArgs{ContainerName: web}, nil); err != nil {
			t.Errorf("when they have gone: %v", err)
		}
		if l.held != 0 || l.followers != 0 {
			t.Errorf("%d followers hold %d bytes after all have gone", l.followers, l.held)
		}
	})
}

// What a follower has seen is what an agent that was killed right then knows.
func TestNumbersThatWereSeenSurviveAKill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, dir := newFakeEngine("c1"), t.TempDir()
		open := func() *journal.Journal {
			return journal.Open(journal.Config{Dir: filepath.Join(dir, "logs"), Log: zerolog.Nop()})
		}
		l := running(t, e, &fakeSession{}, func(c *Config) { c.Journal = open() })
		l.Attach(web, "c1")
		e.print("c1", "one", "two")
		got, end := followed(t, l, protocol.FollowArgs{Oldest: true})
		expect(t, "before", got, []string{"1 one", "2 two"})
		e.print("c1", "three") // nobody has asked for it yet
		synctest.Wait()

		// The journal is not closed: another one opens what is in its files.
		next := running(t, e, &fakeSession{}, func(c *Config) { c.Journal = open() })
		next.Agent(web, "Starting again")
		next.Attach(web, "c1")
		got, _ = followed(t, next, protocol.FollowArgs{Cursor: end.Cursor})
		expect(t, "after", got, []string{"3 Starting again", "4 three"})
	})
}

func FuzzRecordsOfAnyFormAreReadOrRefused(f *testing.F) {
	for _, n := range []line{
		{}, {kind: said, text: "Starting"}, {kind: hole, gap: protocol.GapEngine, source: 9},
		{at: time.Unix(1, 5), kind: stderr, source: 5, name: "web-1", service: "web", text: "x", cut: true},
		{kind: stdout, name: "a", service: "other", text: ""},
		{kind: stdout, text: "\ufffd", size: 1}, {kind: stderr, name: "web-1", text: "x", size: 1 << 20, cut: true},
	} {
		f.Add(n.append(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		n, err := parseLine(raw)
		if err != nil {
			return
		}
		again, err := parseLine(n.append(nil))
		if err != nil || again != n {
			t.Errorf("%q is read as %+v, and that as %+v, %v", raw, n, again, err)
		}
	})
}

func FuzzPlacesOfAnyFormAreReadOrRefused(f *testing.F) {
	at := time.Unix(5, 0)
	f.Add(places{1: {marks: [2]mark{{at, 2, 10}, {}}, peak: at, used: 7}, 2: {}}.append(nil))
	f.Add([]byte{placesFormat, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		ps, err := parsePlaces(raw)
		if err != nil {
			return
		}
		again, err := parsePlaces(ps.append(nil))
		if err != nil || len(again) != len(ps) {
			t.Errorf("%q is read as %+v, and that as %+v, %v", raw, ps, again, err)
		}
		for of, p := range ps {
			newFinder(p, time.Now(), false).next(stdout, at)
			if again[of] != p {
				t.Errorf("place %v, and again %v", p, again[of])
			}
		}
	})
}
