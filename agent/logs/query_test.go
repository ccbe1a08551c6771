package logs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reagent/container"
	"reagent/protocol"
)

// ask is a question about web with the contract's defaults.
func ask(change ...func(*protocol.QueryAppLogsArgs)) protocol.QueryAppLogsArgs {
	q := protocol.QueryAppLogsArgs{ContainerName: web, Tail: protocol.AppLogTail}
	for _, c := range change {
		c(&q)
	}
	return q
}

func query(t *testing.T, l *Logs, change ...func(*protocol.QueryAppLogsArgs)) protocol.AppLogsAnswer {
	t.Helper()
	a, err := l.Query(t.Context(), ask(change...))
	if err != nil {
		t.Fatal(err)
	}
	if a.Returned != len(a.Lines) {
		t.Errorf("returned = %d of %d lines", a.Returned, len(a.Lines))
	}
	return a
}

// numbered prints so many lines, a second apart, and gives the time of the first.
func numbered(e *fakeEngine, id string, n int) (first time.Time) {
	first = time.Now().Round(0)
	e.change(id, func(c *fakeContainer) {
		for i := range n {
			c.lines = append(c.lines, stamp(first.Add(time.Duration(i)*time.Second), fmt.Sprint("line ", i)))
		}
	})
	return first
}

func sequence(from, to int) (lines []string) {
	for i := from; i < to; i++ {
		lines = append(lines, fmt.Sprint("line ", i))
	}
	return lines
}

func TestWindowIsAppliedBeforeLinesAreCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine(web)
		first := numbered(e, web, 10_000)
		l := running(t, e, &fakeSession{})
		at := func(line int) time.Time { return first.Add(time.Duration(line) * time.Second) }
		for _, c := range []struct {
			name      string
			change    func(*protocol.QueryAppLogsArgs)
			want      []string
			truncated bool
		}{
			{"nothing but defaults", func(*protocol.QueryAppLogsArgs) {}, sequence(9800, 10_000), true},
			{"all that may be", func(q *protocol.QueryAppLogsArgs) { q.Tail = 5000 }, sequence(5000, 10_000), true},
			{"until", func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Until = 5, at(9000) }, sequence(8996, 9001), true},
			{"until, far back", func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Until = 5, at(100) }, sequence(96, 101), true},
			{"until, at the beginning", func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Until = 5, at(3) }, sequence(0, 4), false},
			{"until, before it", func(q *protocol.QueryAppLogsArgs) { q.Until = at(-1) }, nil, false},
			{"since", func(q *protocol.QueryAppLogsArgs) { q.Since = at(9990) }, sequence(9990, 10_000), false},
			{"since, more than tail", func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Since = 5, at(9990) }, sequence(9995, 10_000), true},
			{"since, exactly tail", func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Since = 10, at(9990) }, sequence(9990, 10_000), false},
			{"since tomorrow", func(q *protocol.QueryAppLogsArgs) { q.Since = at(20_000) }, nil, false},
			{"a part of a second", func(q *protocol.QueryAppLogsArgs) { q.Since, q.Until = at(10).Add(1), at(13).Add(-1) }, sequence(11, 13), false},
			{"both, turned round", func(q *protocol.QueryAppLogsArgs) { q.Since, q.Until = at(13), at(10) }, nil, false},
			{"offset", func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Offset = 3, 10 }, sequence(9987, 9990), true},
			{"offset in a window", func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Offset, q.Since, q.Until = 3, 10, at(500), at(512) }, sequence(500, 503), false},
			{"offset beyond the window", func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Offset, q.Since = 3, 10, at(9995) }, nil, false},
			{"no lines", func(q *protocol.QueryAppLogsArgs) { q.Tail = 0 }, nil, true},
			{"no lines of none", func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Since = 0, at(20_000) }, nil, false},
		} {
			a := query(t, l, c.change)
			expect(t, c.name, a.Lines, c.want)
			if a.Truncated != c.truncated || a.Source != "docker" || a.OldestAvailable != protocol.DeviceTime(first) || a.DeviceTime != protocol.DeviceTime(time.Now()) {
				t.Errorf("%s: %v %s %s %s, want truncated %v, of docker, from %v on", c.name, a.Truncated, a.Source, a.OldestAvailable, a.DeviceTime, c.truncated, first)
			}
		}
	})
}

func TestEveryLineIsReachedByPaging(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine(web)
		numbered(e, web, 4321)
		l := running(t, e, &fakeSession{})
		var all []string
		for more := true; more; {
			a := query(t, l, func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Offset = 500, len(all) })
			all, more = append(a.Lines, all...), a.Truncated
		}
		expect(t, "all pages", all, sequence(0, 4321))
	})
}

func TestLinesThatTheEngineKeepsInPartsAreCountedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine(web)
		e.print(web, sequence(0, 10)...)
		l := running(t, e, &fakeSession{}, func(c *Config) { c.Engine = partsEngine{e, 4} })
		for i := range 12 { // wherever the engine's tail begins
			a := query(t, l, func(q *protocol.QueryAppLogsArgs) { q.Tail = i })
			want := sequence(10-min(i, 10), 10)
			for j := range want {
				want[j] += strings.Repeat("x", 4*recordSize)
			}
			if !slices.Equal(a.Lines, want) || a.Truncated != (i < 10) {
				t.Errorf("tail %d: %d lines, truncated %v; want %d whole ones", i, len(a.Lines), a.Truncated, len(want))
			}
		}
	})
}

// partsEngine counts a line as so many parts more, as an engine does with long
// lines: the first one of a tail may be no more than a line's end.
type partsEngine struct {
	*fakeEngine
	parts int
}

func (e partsEngine) Logs(ctx context.Context, id string, o container.LogOptions, line func(string, []byte)) error {
	e.mu.Lock()
	lines, left := slices.Clone(e.containers[id].lines), o.Tail
	e.mu.Unlock()
	if left == 0 {
		left = len(lines) * (e.parts + 1)
	}
	var out []string
	for _, l := range slices.Backward(lines) {
		if left <= 0 {
			break
		}
		n := min(left, e.parts+1)
		left -= n
		l += strings.Repeat("x", e.parts*recordSize)
		if n <= e.parts { // not its beginning
			l = l[:len(stamped)+1] + l[len(l)-n*recordSize:]
		}
		out = append(out, l)
	}
	for _, l := range slices.Backward(out) {
		line("stdout", []byte(l))
	}
	return ctx.Err()
}

func TestProjectsAreReadByTimeNotByContainer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine(web+"_compose-alpha-1", web+"_compose-beta-1", "prod_6_webshop_compose-x-1")
		for i := range 50 {
			e.print(web+"_compose-"+[]string{"alpha-1", "beta-1"}[i%2], fmt.Sprint("line ", i))
			if i == 30 {
				e.change(web+"_compose-alpha-1", func(c *fakeContainer) { // its clock was set back and forth
					c.lines = append(c.lines, stamp(time.Now().Add(-20*time.Second), "line 30b"))
				})
			}
			time.Sleep(time.Second)
		}
		l := running(t, e, &fakeSession{})
		a := query(t, l, func(q *protocol.QueryAppLogsArgs) { q.Tail = 3 })
		expect(t, "the newest of all", a.Lines, []string{"beta-1   | line 47", "alpha-1  | line 48", "beta-1   | line 49"})
		if a.Source != "compose" || !a.Truncated || a.OldestAvailable != protocol.DeviceTime(time.Now().Add(-50*time.Second)) {
			t.Errorf("answer %+v", a)
		}
		a = query(t, l, func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Offset, q.Timestamps = 1, 2, true })
		expect(t, "with its time", a.Lines, []string{"beta-1   | " + stamp(time.Now().Add(-3*time.Second), "line 47")})
		a = query(t, l)
		if len(a.Lines) != 51 || a.Truncated || a.Lines[31] != "alpha-1  | line 30b" {
			t.Errorf("%d lines, truncated %v, 31 is %q; want all 51, a container's in their order", len(a.Lines), a.Truncated, a.Lines[31])
		}
	})
}

func TestAnswersFitAFrameWhateverIsPrinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine(web)
		line := strings.Repeat("\x1b", 100<<10)
		e.print(web, slicesOf(line, 20)...)
		e.print(web, strings.Repeat("é", 200<<10)+"\xff")
		l := running(t, e, &fakeSession{})
		a := query(t, l)
		size := 0
		for _, line := range a.Lines {
			size += protocol.EncodedText(line) + 1
		}
		if len(a.Lines) != 7 || !a.Truncated || size > protocol.MaxLogAnswer {
			t.Errorf("%d lines of %d bytes, truncated %v; want the 7 that fit into 4 MiB", len(a.Lines), size, a.Truncated)
		}
		if last := a.Lines[len(a.Lines)-1]; !strings.HasSuffix(last, "é… 147457 byte(s) cut") || len(last) > 257<<10 {
			t.Errorf("the long line ends in %q after %d bytes", last[len(last)-40:], len(last))
		}
		e.print(web, strings.Repeat("x", container.MaxLine)) // which is all that anybody reads of a line
		a = query(t, l, func(q *protocol.QueryAppLogsArgs) { q.Tail = 1 })
		if got := a.Lines[0]; !strings.HasSuffix(got, "x… more than 786432 byte(s) cut") {
			t.Errorf("the longest line ends in %q", got[len(got)-40:])
		}
		e.print(web, slicesOf(strings.Repeat("x", 250<<10), 200)...)
		a = query(t, l, func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Offset = 10, 100 })
		if len(a.Lines) != 0 || !a.Truncated {
			t.Errorf("%d lines, truncated %v; want none beyond what is held at once, and that there are more", len(a.Lines), a.Truncated)
		}
	})
}

func TestContainersThatAreGoneAnswerFromHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{})
		a := query(t, l)
		if a.Lines != nil || a.Source != "history" || a.Truncated || a.OldestAvailable != "" {
			t.Errorf("of an unknown app: %+v, want nothing, of history", a)
		}
		begun := time.Now()
		for i := range 10 {
			l.Agent(web, fmt.Sprint("line ", i))
			time.Sleep(time.Second)
		}
		a = query(t, l, func(q *protocol.QueryAppLogsArgs) { q.Tail, q.Until = 3, begun.Add(5*time.Second) })
		expect(t, "the window", a.Lines, sequence(3, 6))
		if a.Source != "history" || !a.Truncated || a.OldestAvailable != protocol.DeviceTime(begun) {
			t.Errorf("answer %+v", a)
		}
		e.fail(container.ErrUnavailable)
		expect(t, "while no engine answers", query(t, l).Lines, sequence(0, 10))
		if _, err := l.Query(t.Context(), ask(func(q *protocol.QueryAppLogsArgs) { q.ContainerName = "prod_7_x" })); !errors.Is(err, container.ErrUnavailable) {
			t.Errorf("of an app of which nothing is stored: %v, want that no engine answers", err)
		}
		e.fail(errors.New("driver does not support reading"))
		if _, err := l.Query(t.Context(), ask()); err == nil || err.Error() != "driver does not support reading" {
			t.Errorf("Query = %v, want the engine's words", err)
		}
	})
}

func TestQueriesEndAndWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := running(t, newFakeEngine(), &fakeSession{}, func(c *Config) { c.Engine = hungEngine{} })
		results := make(chan error, 10)
		for range 5 {
			go func() { _, err := l.Query(t.Context(), ask()); results <- err }()
		}
		begun := time.Now()
		for range 5 {
			if err := <-results; !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "ask for a later time") && !strings.Contains(err.Error(), "too many") {
				t.Errorf("Query = %v, want a deadline and what to do", err)
			}
		}
		if took := time.Since(begun); took != 30*time.Second {
			t.Errorf("they took %v, want 30s", took)
		}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if _, err := l.Query(ctx, ask()); !errors.Is(err, context.Canceled) {
			t.Errorf("Query = %v, want the caller's own end", err)
		}
	})
}

func TestWhatAnEarlierContainerPrintedIsPointedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine(web)
		l := running(t, e, &fakeSession{})
		begun := time.Now()
		l.Agent(web, "Starting web...")
		time.Sleep(time.Second)
		e.print(web, "of the new version")
		a := query(t, l)
		expect(t, "the container's log", a.Lines, []string{"of the new version"})
		if a.StoredSince != protocol.DeviceTime(begun) || a.OldestAvailable != protocol.DeviceTime(begun.Add(time.Second)) || a.Truncated {
			t.Errorf("answer %+v, want that there is more since %v", a, begun)
		}
	})
}
