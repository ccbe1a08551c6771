package ownlog

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"reagent/protocol"
)

var start = time.Date(2026, 5, 4, 3, 2, 1, 0, time.FixedZone("", 7200))

// at is the n-th second of the log.
func at(n int) time.Time { return start.Add(time.Duration(n) * time.Second) }

// says is a line as the agent writes it.
func says(n int, level, message string, more ...string) string {
	return fmt.Sprintf(`{"level":%q,%s"time":%q,"message":%q}`, level, strings.Join(more, ""), at(n).Format(time.RFC3339Nano), message) + "\n"
}

// shown is that line as answers have it.
func shown(n int, level, rest string) string {
	return at(n).UTC().Format("2006-01-02T15:04:05Z") + " " + level + " " + rest
}

func write(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

func query(t *testing.T, l *Log, change ...func(*protocol.QueryDeviceLogsArgs)) protocol.DeviceLogsAnswer {
	t.Helper()
	q := protocol.QueryDeviceLogsArgs{}
	if err := q.ReadDict(nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range change {
		c(&q)
	}
	a, err := l.Query(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	if a.Returned != len(a.Lines) {
		t.Errorf("returned = %d of %d lines", a.Returned, len(a.Lines))
	}
	return a
}

func expect(t *testing.T, claim string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\ngot  %q\nwant %q", claim, got, want)
	}
}

func TestLinesHaveTheContractsForm(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reagent.log")
	write(t, path,
		says(0, "debug", "not shown"),
		says(1, "info", "connected"),
		says(2, "warn", "session lost", `"err":"reset by peer","retry_in":1,"stack":"x","reason":"gone away","list":["a"],`),
		says(3, "error", "odd\nbytes\t", `"error":{"a":1},`),
		`{"time":"`+at(4).Format(time.RFC3339)+`","message":7,"level":"LOUD"}`+"\n",
		"panic: runtime error\r\n", "\n", "\tgoroutine 1 \xff\n",
		says(5, "debug", "hidden"),
		"hidden with it\n",
		"5\n", "{}\n", `{"time":"yesterday"}`+"\n",
		says(6, "panic", "the end"),
		`{"level":"info","ti`)
	l := New(Config{Path: path})
	a := query(t, l)
	expect(t, "lines", a.Lines, []string{
		shown(1, "INFO", "connected"),
		shown(2, "WARN", `session lost retry_in=1 reason="gone away" list=["a"]: reset by peer`),
		shown(3, "ERROR", "odd\nbytes\t: {\"a\":1}"),
		shown(4, "INFO", "7"),
		"panic: runtime error", "\tgoroutine 1 \ufffd",
		shown(6, "PANIC", "the end"),
		`{"level":"info","ti`,
	})
	if a.Truncated || a.FilesScanned != 1 || a.OldestAvailable != protocol.DeviceTime(at(0)) || a.Hint != "" {
		t.Errorf("answer %+v", a)
	}
	if at, err := time.Parse(time.RFC3339, a.DeviceTime); err != nil || time.Since(at) > time.Minute {
		t.Errorf("device_time %q", a.DeviceTime)
	}
	for level, want := range map[string]int{"trace": 14, "debug": 14, "info": 8, "warn": 4, "error": 3, "fatal": 2, "panic": 2} {
		if a := query(t, l, func(q *protocol.QueryDeviceLogsArgs) { q.Level = level }); len(a.Lines) != want {
			t.Errorf("level %s: %d lines, want %d: %q", level, len(a.Lines), want, a.Lines)
		}
	}
}

// threeFiles is a log that was rotated twice: 30 records, a second apart.
func threeFiles(t *testing.T) *Log {
	t.Helper()
	dir := t.TempDir()
	for i, name := range []string{"reagent-2026-05-01T00-00-00.000.log", "reagent-2026-05-02T10-00-00.000.log", "reagent.log"} {
		var lines []string
		for n := 10 * i; n < 10*i+10; n++ {
			lines = append(lines, says(n, "info", fmt.Sprint("record ", n)))
		}
		write(t, filepath.Join(dir, name), lines...)
	}
	for _, other := range []string{"reagent-x.log", "reagent-2026-05-03T00-00-00.000.txt", "other-2026-05-03T00-00-00.000.log", "reagent-studio.log"} {
		write(t, filepath.Join(dir, other), says(99, "error", "none of ours"))
	}
	return New(Config{Path: filepath.Join(dir, "reagent.log")})
}

func records(from, to int) (lines []string) {
	for n := from; n < to; n++ {
		lines = append(lines, shown(n, "INFO", fmt.Sprint("record ", n)))
	}
	return lines
}

func TestWindowsReachOverAllFiles(t *testing.T) {
	l := threeFiles(t)
	for _, c := range []struct {
		name      string
		change    func(*protocol.QueryDeviceLogsArgs)
		want      []string
		truncated bool
		scanned   int
	}{
		{"all", func(*protocol.QueryDeviceLogsArgs) {}, records(0, 30), false, 3},
		{"tail", func(q *protocol.QueryDeviceLogsArgs) { q.Tail = 3 }, records(27, 30), true, 1},
		{"a tail of two files", func(q *protocol.QueryDeviceLogsArgs) { q.Tail = 12 }, records(18, 30), true, 2},
		{"exactly all", func(q *protocol.QueryDeviceLogsArgs) { q.Tail = 30 }, records(0, 30), false, 3},
		{"since", func(q *protocol.QueryDeviceLogsArgs) { q.Since = at(15) }, records(15, 30), false, 2},
		{"since, exactly tail", func(q *protocol.QueryDeviceLogsArgs) { q.Since, q.Tail = at(15), 15 }, records(15, 30), false, 2},
		{"until", func(q *protocol.QueryDeviceLogsArgs) { q.Until, q.Tail = at(14), 5 }, records(10, 15), true, 3},
		{"both", func(q *protocol.QueryDeviceLogsArgs) { q.Since, q.Until = at(3).Add(1), at(6) }, records(4, 7), false, 3},
		{"none", func(q *protocol.QueryDeviceLogsArgs) { q.Since = at(100) }, nil, false, 1},
		{"no lines", func(q *protocol.QueryDeviceLogsArgs) { q.Tail = 0 }, nil, true, 1},
	} {
		a := query(t, l, c.change)
		expect(t, c.name, a.Lines, c.want)
		if a.Truncated != c.truncated || a.FilesScanned != c.scanned || a.OldestAvailable != protocol.DeviceTime(at(0)) {
			t.Errorf("%s: truncated %v, %d files, oldest %s; want %v, %d", c.name, a.Truncated, a.FilesScanned, a.OldestAvailable, c.truncated, c.scanned)
		}
	}
}

func TestClockThatWasNotSetYetEndsNoWindow(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reagent.log")
	write(t, path, says(0, "info", "too old"), says(10, "info", "before the power cut"),
		`{"level":"info","time":"1970-01-01T00:00:05Z","message":"booted"}`+"\n", says(20, "info", "clock set"))
	a := query(t, New(Config{Path: path}), func(q *protocol.QueryDeviceLogsArgs) { q.Since = at(5) })
	expect(t, "lines", a.Lines, []string{shown(10, "INFO", "before the power cut"), shown(20, "INFO", "clock set")})
}

func TestAgentThatLogsToItsConsoleOnlySaysSo(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{"", os.DevNull, dir, filepath.Join(dir, "none.log"), filepath.Join(dir, "none", "none.log")} {
		a := query(t, New(Config{Path: path}))
		if len(a.Lines) != 0 || a.FilesScanned != 0 || a.Truncated || a.OldestAvailable != "" || !strings.Contains(a.Hint, "-logFile") {
			t.Errorf("%q: %+v, want nothing, and how to change that", path, a)
		}
	}
}

func TestHugeAndForeignFilesAreReadInBoundedMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reagent.log")
	long := strings.Repeat("\x01", 300<<10)
	write(t, path, says(0, "info", "first"), long+"\n", strings.Repeat("x\n", 20_000), strings.Repeat(long[:100<<10]+"\n", 10))
	l := New(Config{Path: path})
	a := query(t, l)
	size := 0
	for _, line := range a.Lines {
		size += protocol.EncodedText(line) + 1
	}
	if len(a.Lines) < 6 || !a.Truncated || size > protocol.MaxLogAnswer {
		t.Errorf("%d lines of %d bytes, truncated %v; want what fits", len(a.Lines), size, a.Truncated)
	}
	write(t, path, says(0, "info", "first"), long+"\n", says(1, "info", "last"))
	a = query(t, l)
	if len(a.Lines) != 3 || !strings.HasSuffix(a.Lines[1], "\x01… 45056 byte(s) cut") {
		t.Errorf("%d lines; want the long one cut, and said so", len(a.Lines))
	}
	write(t, path, strings.Repeat("x\n", 6000))
	if a = query(t, l); len(a.Lines) != protocol.DeviceLogTail || !a.Truncated {
		t.Errorf("%d lines, truncated %v; want the newest of a file without a record", len(a.Lines), a.Truncated)
	}
	if a = query(t, l, func(q *protocol.QueryDeviceLogsArgs) { q.Since = at(0) }); len(a.Lines) != 0 {
		t.Errorf("%d lines of unknown time are in a window", len(a.Lines))
	}
}

func TestOnlyOneReadsAtATime(t *testing.T) {
	l := New(Config{Path: filepath.Join(t.TempDir(), "reagent.log"), Limit: 20 * time.Millisecond})
	l.reading <- struct{}{}
	if _, err := l.Query(t.Context(), protocol.QueryDeviceLogsArgs{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Query = %v while somebody reads, want the deadline", err)
	}
	<-l.reading
	if _, err := l.Query(t.Context(), protocol.QueryDeviceLogsArgs{}); err != nil {
		t.Errorf("Query = %v afterwards", err)
	}
}

func FuzzBackwardsGivesTheLinesInReverse(f *testing.F) {
	f.Add([]byte("one\n\ntwo\nthree"), uint16(2))
	f.Add([]byte("\n"), uint16(0))
	f.Add([]byte(""), uint16(0))
	f.Add([]byte("x"), uint16(65535))
	f.Fuzz(func(t *testing.T, data []byte, pad uint16) {
		// The padding moves the lines over the blocks' borders.
		data = append(data, strings.Repeat("p", int(pad))...)
		path := filepath.Join(t.TempDir(), "f")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		var got []string
		for b := newBackwards(file); ; {
			line, cut, err := b.next()
			if err == io.EOF {
				break
			}
			if err != nil || cut != 0 {
				t.Fatalf("cut %d, %v", cut, err)
			}
			got = append(got, string(line))
		}
		slices.Reverse(got)
		// What ends at the file's beginning may or may not count as an empty line.
		if joined := strings.Join(got, "\n"); joined != string(data) && "\n"+joined != string(data) {
			t.Errorf("%q came as %q", data, got)
		}
	})
}

func FuzzRecordsOfAnyFormAreTaken(f *testing.F) {
	f.Add([]byte(`{"level":"info","time":"2026-05-04T03:02:01Z","message":"x","err":null}`))
	f.Add([]byte(`{"time":5}`))
	f.Add([]byte(`{"level":"warn","err":",\"time\":\"x","time":"2026-05-04T03:02:01.5+02:00","message":"x,\"time\":\"1"}`))
	f.Add([]byte(`{`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) == 0 {
			return
		}
		if r, ok := parse(raw); ok && r.at.IsZero() != strings.Contains(string(raw), "0001-01-01T00:00:00") {
			t.Errorf("%q has no time", raw)
		}
		if quick, ok := skim(raw); ok && json.Valid(raw) {
			if r, whole := parse(raw); whole && !bytes.Contains(raw[1:], []byte("{")) && bytes.Count(raw, []byte("\"time\"")) == 1 && bytes.Count(raw, []byte("\"level\"")) == 1 && (!quick.at.Equal(r.at) || quick.severity != r.severity) {
				t.Errorf("%s is of %v, severity %d; at a glance of %v, %d", raw, r.at, r.severity, quick.at, quick.severity)
			}
		}
		firstTime(raw)
	})
}
