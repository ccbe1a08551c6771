package container_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
)

// readLog collects a log that does not follow.
func readLog(t *testing.T, e *container.Engine, id string, o container.LogOptions) (lines []string) {
	t.Helper()
	err := e.Logs(t.Context(), id, o, func(stream string, line []byte) {
		lines = append(lines, stream+": "+string(line))
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// waitForLine follows a log until a line comes.
func waitForLine(t *testing.T, e *container.Engine, id, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	found := false
	err := e.Logs(ctx, id, container.LogOptions{Follow: true}, func(_ string, line []byte) {
		if string(line) == want {
			found = true
			cancel()
		}
	})
	if !found {
		t.Fatalf("the line %q did not come: %v", want, err)
	}
}

func TestLogLinesArriveWhole(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	for _, tty := range []bool{false, true} {
		id := run(t, e, container.Spec{
			Name: docker.Prefix + "-" + map[bool]string{false: "plain", true: "tty"}[tty], Image: image, TTY: tty,
			Env: []string{"TESTAPP_LINES=3", "TESTAPP_EXIT=0", "TESTAPP_STDERR=a\rb " + strings.Repeat("x", 40_000)},
		})
		if _, err := e.Wait(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		long := map[bool]string{false: "stderr", true: "stdout"}[tty] + ": a\rb " + strings.Repeat("x", 40_000)
		want := []string{"stdout: line 1", "stdout: line 2", "stdout: line 3", "stdout: ready", long}
		slices.Sort(want) // two streams come in any order
		got := readLog(t, e, id, container.LogOptions{})
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("tty %t: %d lines, want %d: %.300q", tty, len(got), len(want), got)
		}
		for _, line := range readLog(t, e, id, container.LogOptions{Timestamps: true}) {
			_, line, _ = strings.Cut(line, ": ")
			stamp, text, _ := strings.Cut(line, " ")
			if _, err := time.Parse(time.RFC3339Nano, stamp); err != nil {
				t.Errorf("tty %t: %.60q does not begin with a time: %v", tty, line, err)
			}
			if strings.HasPrefix(text, "a\rb") && len(text) != 40_004 {
				t.Errorf("tty %t: the long line has %d characters with times, want 40004", tty, len(text))
			}
		}
		if got := readLog(t, e, id, container.LogOptions{Tail: -1}); len(got) != 0 {
			t.Errorf("tty %t: no tail gives %.100q", tty, got)
		}
		if got := readLog(t, e, id, container.LogOptions{Tail: 1}); len(got) != 1 {
			t.Errorf("tty %t: tail 1 gives %d lines", tty, len(got))
		}
		if got := readLog(t, e, id, container.LogOptions{Since: time.Now().Add(time.Hour)}); len(got) != 0 {
			t.Errorf("tty %t: since tomorrow gives %.100q", tty, got)
		}
	}
}

func TestFollowedLogEndsWithTheContainerOrTheCaller(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	id := run(t, e, container.Spec{Name: docker.Prefix + "-app", Image: image, TTY: true, Env: []string{"TESTAPP_EVERY=20ms"}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ticks := 0
	err := e.Logs(ctx, id, container.LogOptions{Follow: true}, func(_ string, line []byte) {
		if strings.HasPrefix(string(line), "tick ") {
			if ticks++; ticks == 5 {
				cancel()
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("logs = %v, want context.Canceled", err)
	}

	ended := make(chan error, 1)
	lines := make(chan string, 10_000)
	go func() {
		ended <- e.Logs(t.Context(), id, container.LogOptions{Follow: true, Tail: -1}, func(_ string, line []byte) { lines <- string(line) })
	}()
	if first := <-lines; !strings.HasPrefix(first, "tick ") || first == "tick 1" {
		t.Errorf("first line = %q, want a later tick", first)
	}
	if err := e.Stop(t.Context(), id, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("logs = %v, want nil at the container's end", err)
	}
	close(lines)
	last := ""
	for line := range lines {
		last = line
	}
	if last != "terminated" {
		t.Errorf("last line = %q, want terminated", last)
	}
}

func TestSilentLogIsNotATimeout(t *testing.T) {
	t.Parallel() // mostly waits
	docker, _, image := realEngine(t, testenv.App{})
	e := newEngine(t, docker.Host, func(c *container.Config) { c.Timeout = 300 * time.Millisecond })
	id := run(t, newEngine(t, docker.Host), container.Spec{Name: docker.Prefix + "-app", Image: image})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := e.Logs(ctx, id, container.LogOptions{Follow: true, Tail: -1}, func(_ string, line []byte) {})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("logs = %v, want the caller's deadline", err)
	}
}

func TestLogThatStallsInTheMidstIsATimeout(t *testing.T) {
	t.Parallel() // mostly waits
	docker, direct, image := realEngine(t, testenv.App{})
	id := run(t, direct, container.Spec{Name: docker.Prefix + "-app", Image: image})
	wire := tap(t, docker.Host)
	e := newEngine(t, wire.host, func(c *container.Config) { c.LogIdle = 300 * time.Millisecond })
	wire.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/logs") {
			return false
		}
		w.WriteHeader(http.StatusOK)
		_, _ = io.WriteString(w, "\x01\x00\x00\x00\x00\x00\x00\x04one\n")
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	var got []string
	err := e.Logs(t.Context(), id, container.LogOptions{}, func(_ string, line []byte) {
		got = append(got, string(line))
		<-time.After(2 * 300 * time.Millisecond) // whoever reads may take its time
	})
	if !errors.Is(err, container.ErrTimeout) || !slices.Equal(got, []string{"one"}) {
		t.Errorf("log = %q, %v, want one line and %v", got, err, container.ErrTimeout)
	}
}
