package logs

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reagent/container"
)

func history(t *testing.T, l *Logs) []string {
	t.Helper()
	synctest.Wait()
	got, err := l.History(t.Context(), web)
	if err != nil {
		t.Fatal(err)
	}
	if got == nil {
		t.Error("History is nil, want an empty list")
	}
	return got
}

func TestHistoryMixesMessagesAndLinesByTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{})
		expect(t, "of an unknown app", history(t, l), []string{})
		l.ClearHistory(web)
		for i, step := range []func(){
			func() { l.Agent(web, "Starting web...") },
			func() { e.print("c1", "listening") },
			func() { l.Agent(web, "Now running app web (1)"); l.Attach(web, "c1") },
			func() { e.print("c1", "request", "bad \xff byte") },
		} {
			time.Sleep(time.Duration(i+1) * time.Second)
			step()
		}
		want := []string{"Starting web...", "listening", "Now running app web (1)", "request", "bad \ufffd byte"}
		expect(t, "history", history(t, l), want)

		e.fail(container.ErrUnavailable)
		expect(t, "while the engine is away", history(t, l), want)
		e.fail(nil)

		time.Sleep(time.Second)
		l.ClearHistory(web)
		l.Agent(web, "Starting web...")
		expect(t, "after a clear, with nothing printed since", history(t, l), []string{"listening", "request", "bad \ufffd byte", "Starting web..."})
		time.Sleep(time.Second)
		e.print("c1", "again")
		expect(t, "after a clear", history(t, l), []string{"Starting web...", "again"})
	})
}

func TestHistoryIsFoundByTheContainersName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine(web) // the engine knows it by its name; nobody attached it
		e.print(web, "crashed yesterday")
		l := running(t, e, &fakeSession{})
		expect(t, "history", history(t, l), []string{"crashed yesterday"})
	})
}

func TestHistoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		l := running(t, e, &fakeSession{})
		l.Attach(web, "c1")
		for i := range 500 {
			l.Agent(web, fmt.Sprint("message ", i))
			e.print("c1", fmt.Sprint("line ", i))
		}
		got := history(t, l)
		if len(got) != 2*keptLines || !strings.Contains(strings.Join(got, "\n"), "line 400\n") || strings.Contains(strings.Join(got, "\n"), "line 399\n") {
			t.Errorf("%d entries, want the newest %d of each kind", len(got), keptLines)
		}
		l.ClearHistory(web)
		time.Sleep(time.Second)
		e.print("c1", slicesOf(strings.Repeat("x", 1<<20), 50)...)
		size := 0
		for _, line := range history(t, l) {
			size += len(line)
		}
		if size > 4*keptBytes {
			t.Errorf("history of %d bytes, want at most %d", size, 4*keptBytes)
		}
	})
}

func TestHistoryDoesNotWaitForAHungEngine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := running(t, newFakeEngine(), &fakeSession{}, func(c *Config) { c.Engine = hungEngine{} })
		l.Agent(web, "still here")
		begun := time.Now()
		expect(t, "history", history(t, l), []string{"still here"})
		if took := time.Since(begun); took > 6*time.Second {
			t.Errorf("it took %v, want the engine's limit", took)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := l.History(ctx, web); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("History = %v, want the caller's own deadline", err)
		}
	})
}

type hungEngine struct{}

func (hungEngine) Sources(_ context.Context, id string) ([]container.LogSource, error) {
	return []container.LogSource{{ID: id}}, nil
}

func (hungEngine) Logs(ctx context.Context, _ string, _ container.LogOptions, _ func(string, []byte)) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestCleanCutsBetweenCharacters(t *testing.T) {
	for _, c := range []struct {
		in   string
		most int
		want string
	}{
		{"abc", 3, "abc"}, {"abcd", 3, "abc"}, {"aé", 2, "a"}, {"aé", 3, "aé"}, {"a€", 3, "a"}, {"a😀b", 4, "a"}, {"a😀b", 5, "a😀"},
		{"", 3, ""}, {"\xff", 3, "\ufffd"}, {"a\xe2\x82", 9, "a\ufffd\ufffd"}, {"\x80\x80\x80\x80\x80", 4, "\ufffd\ufffd\ufffd\ufffd"},
	} {
		if got := clean([]byte(c.in), c.most); got != c.want {
			t.Errorf("clean(%q, %d) = %q, want %q", c.in, c.most, got, c.want)
		}
	}
}

func FuzzLinesOfAnyFormAreTaken(f *testing.F) {
	f.Add([]byte("2026-01-02T15:04:05.000000000Z hello"))
	f.Add([]byte("no time"))
	f.Add([]byte{0xff, ' ', 0xfe})
	f.Fuzz(func(t *testing.T, raw []byte) {
		l := idle(t)
		topic := l.topic(web)
		l.online, topic.known, topic.listeners = true, true, map[uint64]struct{}{1: {}}
		p := pass{logs: l, topic: topic, source: container.LogSource{ID: "c1"}, finder: newFinder(place{}, time.Now(), false), giveUp: func(error) {}}
		p.line("stdout", raw)
		if text := topic.window.close(time.Time{}).args[0].(string); len(text) > 3*len(raw)+cutRoom {
			t.Errorf("%q became %d bytes", raw, len(text))
		}
	})
}
