package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

const (
	historyOfPress = "re.mgmt.s1.get_app_log_history"
	queryOfPress   = "re.mgmt.s1.query_app_logs"
	followOfPress  = "re.mgmt.s1.follow_app_logs"
	topicOfPress   = "reswarm.logs.s1.prod_1_hello"
)

// logDesk is a desk whose studio knows hello on press-07, which is on-line.
func logDesk(t *testing.T) *desk {
	d := newDesk(t)
	d.Again, d.FollowWait = time.Millisecond, time.Minute
	d.studio.answers[protocol.StudioListStates] = func(in map[string]any) (any, error) {
		if in["app"] != "hello" || in["device"] != "press-07" {
			return refuse(protocol.CodeNotFound, fmt.Sprintf("there is no device %q", in["device"]))(in)
		}
		return someStates(), nil
	}
	d.press(true)
	return d
}

// press says whether press-07 is there.
func (d *desk) press(online bool) {
	row := protocol.DeviceRow{DeviceKey: 1, Name: "press-07", SerialNumber: "s1", Online: online, Status: protocol.Disconnected}
	if online {
		row.Status = protocol.Connected
	}
	d.studio.answer(protocol.StudioListDevices, give(protocol.DeviceList{Devices: []protocol.DeviceRow{row}}))
}

// A journal is the log of an app on a device whose agent has follow_app_logs.
type journal struct {
	mu        sync.Mutex
	lines     []protocol.LogLine
	grown     chan struct{}
	from      []string      // where calls began
	few       int           // lines that an answer takes; 0 = any
	fail      error         // of the next call, in the middle of it
	away      bool          // nobody answers
	lose      int           // parts that do not arrive …
	swallowed chan struct{} // … each of which is told here
	done      bool          // the app is gone
	forgot    bool          // cursors from before are unknown
}

func (d *desk) journal(lines ...string) *journal {
	j := &journal{grown: make(chan struct{}), swallowed: make(chan struct{}, 16)}
	for _, text := range lines {
		j.print(protocol.LogLine{Text: text})
	}
	d.studio.streams[followOfPress] = j.follow
	return j
}

func (j *journal) change(do func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	do()
	close(j.grown)
	j.grown = make(chan struct{})
}

// print appends a line; the newest was printed at noon, each one an hour after
// the one before.
func (j *journal) print(line protocol.LogLine) {
	j.change(func() {
		line.Seq = uint64(len(j.lines) + 1)
		if line.Stream == "" {
			line.Stream = protocol.StreamStdout
		}
		j.lines = append(j.lines, line)
		for i := range j.lines {
			j.lines[i].Time = noon.Add(time.Duration(i+1-len(j.lines)) * time.Hour).Format(time.RFC3339Nano)
		}
	})
}

// follow answers as extensions of the contract say: from a cursor, which is the
// number of the last line.
func (j *journal) follow(ctx context.Context, in map[string]any, send func(any)) (any, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	wait, _ := protocol.Uint(in["wait_ms"])
	at, from := len(j.lines), "cursor"
	if text, _ := protocol.Text(in["cursor"]); text != "" {
		if at, _ = strconv.Atoi(text); j.forgot {
			at, j.forgot = 0, false
			j.mu.Unlock()
			send(protocol.LogRecord{Type: protocol.LogGap, Cursor: "0", Reason: protocol.GapCursorUnknown})
			j.mu.Lock()
		}
	} else {
		from, _ = protocol.Text(in["from"])
		for i := len(j.lines) - 1; i >= 0 && from != "now"; i-- {
			since, _ := protocol.ParseTimeBound("from", strings.Replace(from, "oldest", "1000h", 1), noon)
			if when, _ := time.Parse(time.RFC3339Nano, j.lines[i].Time); when.Before(since) {
				break
			}
			at = i
		}
	}
	j.from = append(j.from, from)
	var all []any
	for {
		if j.away {
			return nil, &messenger.CallError{URI: protocol.ErrorNoSuchProcedure}
		}
		lines := j.lines[at:]
		if j.few > 0 {
			lines = lines[:min(j.few, len(lines))]
		}
		if len(lines) > 0 {
			at += len(lines)
			part := protocol.LogRecord{Type: protocol.LogLines, Cursor: strconv.Itoa(at), Lines: slices.Clone(lines)}
			switch {
			case wait == 0:
				all = append(all, part.Wire())
			case j.lose > 0:
				j.lose--
				j.swallowed <- struct{}{}
			default:
				j.mu.Unlock()
				send(part)
				j.mu.Lock()
			}
		}
		if j.fail != nil {
			defer func() { j.fail = nil }()
			return nil, j.fail
		}
		end := map[string]any{"type": protocol.LogEnd, "cursor": strconv.Itoa(at), "device_time": noon.Format(time.RFC3339), "reason": protocol.EndWait, "records": all}
		switch {
		case at < len(j.lines):
			if end["reason"] = protocol.EndMaxBytes; wait == 0 {
				return end, nil
			}
			continue
		case j.done:
			end["reason"] = protocol.EndRemoved
			return end, nil
		case wait == 0:
			return end, nil
		}
		grown := j.grown
		j.mu.Unlock()
		select {
		case <-grown:
		case <-ctx.Done():
		}
		j.mu.Lock()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
}

// lost waits until what was to be lost is.
func (j *journal) lost(t *testing.T) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		j.mu.Lock()
		left, grown := j.lose, j.swallowed
		j.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-grown:
		case <-deadline.C:
			t.Fatal("nothing was sent that could be lost")
		}
	}
}

func TestLogsPrintsTheNewestLines(t *testing.T) {
	var many []string
	for i := range 500 {
		many = append(many, fmt.Sprintf("line %d", i+1))
	}
	for _, c := range []struct {
		args        string
		few         int
		first, last string
		count       int
		from        string
	}{
		{"hello press-07", 0, "line 301", "line 500", 200, "1s 10s 100s 20m 3h 30h 300h"},
		{"press-07 hello", 7, "line 301", "line 500", 200, ""},
		{"hello press-07 --tail 2", 0, "line 499", "line 500", 2, "1s 10s 100s 20m 3h"},
		{"hello press-07 --tail 0", 0, "", "", 0, "now"},
		{"hello press-07 --tail all", 0, "line 1", "line 500", 500, "oldest"},
		{"hello press-07 --since 90m", 0, "line 499", "line 500", 2, "90m"},
		{"hello press-07 --since 30h --tail 3", 0, "line 498", "line 500", 3, "30h"},
	} {
		d := logDesk(t)
		j := d.journal(many...)
		j.few = c.few
		if err := d.run(t, append([]string{"logs"}, strings.Fields(c.args)...)...); err != nil {
			t.Errorf("logs %s = %v", c.args, err)
			continue
		}
		got := strings.Split(strings.TrimSuffix(d.stdout.String(), "\n"), "\n")
		if c.count == 0 {
			if d.stdout.String() != "" {
				t.Errorf("logs %s: %q, want nothing", c.args, got)
			}
		} else if len(got) != c.count || got[0] != c.first || got[len(got)-1] != c.last {
			t.Errorf("logs %s: %d lines from %q to %q, want %d from %q to %q", c.args, len(got), got[0], got[len(got)-1], c.count, c.first, c.last)
		}
		if got := strings.Join(j.from, " "); c.from != "" && got != c.from {
			t.Errorf("logs %s asked for %s, want %s", c.args, got, c.from)
		}
	}
}

func TestLogsRefusesWhatItCannotMean(t *testing.T) {
	for _, args := range []string{"hello press-07 --tail many", "hello press-07 --tail 5001", "hello press-07 --since yesterday", "hello"} {
		d := logDesk(t)
		var usage *UsageError
		if err := d.run(t, append([]string{"logs"}, strings.Fields(args)...)...); !errors.As(err, &usage) {
			t.Errorf("logs %s = %v, want a UsageError", args, err)
		}
	}
}

func TestALineOfALog(t *testing.T) {
	const at = "2026-05-04T11:59:59.123456789Z"
	for _, c := range []struct {
		claim   string
		printer logPrinter
		line    protocol.LogLine
		want    string
	}{
		{"as it is", logPrinter{}, protocol.LogLine{Time: at, Text: "\x1b[1m a\tb "}, "\x1b[1m a\tb "},
		{"with its service", logPrinter{}, protocol.LogLine{Service: "web", Text: "a"}, "web | a"},
		{"with its time", logPrinter{timestamps: true}, protocol.LogLine{Time: at, Service: "web", Text: "a"}, "2026-05-04T11:59:59.123Z web | a"},
		{"a time that is none", logPrinter{timestamps: true}, protocol.LogLine{Time: "now\x1b", Text: "a"}, "now a"},
		{"stderr for people", logPrinter{colours: true}, protocol.LogLine{Stream: "stderr", Text: "a"}, "\x1b[33ma\x1b[0m"},
		{"stderr elsewhere", logPrinter{}, protocol.LogLine{Stream: "stderr", Text: "a"}, "a"},
		{"stdout for people", logPrinter{colours: true}, protocol.LogLine{Stream: "stdout", Text: "a"}, "a"},
		{"the agent does not steer the terminal", logPrinter{colours: true}, protocol.LogLine{Stream: "agent", Text: "a\x1b[2J"}, "\x1b[2ma [2J\x1b[0m"},
		{"one that was cut", logPrinter{}, protocol.LogLine{Text: "a", Cut: true}, "a … (longer than the device keeps)"},
	} {
		if got := c.printer.text(c.line); got != c.want {
			t.Errorf("%s: %q, want %q", c.claim, got, c.want)
		}
	}
}

func TestLogsForPrograms(t *testing.T) {
	d := logDesk(t)
	d.journal("one").print(protocol.LogLine{Text: "two", Stream: protocol.StreamStderr, Service: "web", Cut: true})
	if err := d.run(t, "logs", "hello", "press-07", "--output", "json"); err != nil {
		t.Fatal(err)
	}
	want := `{"line":{"seq":1,"time":"2026-05-04T11:00:00Z","stream":"stdout","service":"","text":"one"}}
{"line":{"seq":2,"time":"2026-05-04T12:00:00Z","stream":"stderr","service":"web","text":"two","cut":true}}
`
	if got := d.stdout.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestMissingLinesAreTold(t *testing.T) {
	three, seven := uint64(3), uint64(7)
	for _, c := range []struct {
		gap               protocol.LogRecord
		told, forPrograms string
	}{
		{protocol.LogRecord{FromSeq: &three, ToSeq: &seven, Reason: protocol.GapStoreFull}, "-- 5 lines are missing here: the device had to make room for newer ones\n", `{"gap":{"from_seq":3,"reason":"store_full","to_seq":7}}`},
		{protocol.LogRecord{FromSeq: &three, ToSeq: &three, Reason: protocol.GapEngine}, "-- a line is missing here: the container engine had dropped them before the agent read them\n", `{"gap":{"from_seq":3,"reason":"engine","to_seq":3}}`},
		{protocol.LogRecord{Reason: protocol.GapCursorUnknown}, "-- lines may be missing here: the device no longer knows how far they were read\n", `{"gap":{"from_seq":null,"reason":"cursor_unknown","to_seq":null}}`},
		{protocol.LogRecord{FromSeq: &seven, ToSeq: &three, Reason: "flood\x1b"}, "-- lines may be missing here: flood\n", ""},
	} {
		c.gap.Type = protocol.LogGap
		for _, json := range []bool{false, true} {
			d := newDesk(t)
			if err := (&Call{Program: &d.Program, JSON: json}).logPrinter(false).record(c.gap); err != nil {
				t.Fatal(err)
			}
			if got := d.stderr.String(); !json && got != c.told {
				t.Errorf("%v: told %q, want %q", c.gap, got, c.told)
			}
			if got := strings.TrimSpace(d.stdout.String()); json && c.forPrograms != "" && got != c.forPrograms {
				t.Errorf("%v: %s, want %s", c.gap, got, c.forPrograms)
			}
		}
	}
}

// following runs logs -f until the returned function ends it.
func (d *desk) following(t *testing.T, args ...string) (end func() error) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx, append([]string{"logs", "-f", "hello", "press-07"}, args...)) }()
	return func() error {
		cancel()
		return <-done
	}
}

func TestAFollowedLogHasEveryLineOnce(t *testing.T) {
	d := logDesk(t)
	j := d.journal("1", "2", "3")
	end := d.following(t, "--tail", "2")
	d.stdout.waitFor(t, "3\n")
	j.print(protocol.LogLine{Text: "4"})
	d.stdout.waitFor(t, "4\n")

	t.Log("the device leaves in the middle of a call, and comes back")
	d.press(false)
	j.change(func() { j.away = true })
	d.stderr.waitFor(t, "press-07 is away: its log goes on when it is back\n")
	for _, text := range []string{"5", "6"} {
		j.print(protocol.LogLine{Text: text})
	}
	j.change(func() { j.away = false })
	d.press(true)
	d.stdout.waitFor(t, "6\n")
	d.stderr.waitFor(t, "press-07 is back\n")

	t.Log("the connection of this command is lost with lines on it")
	j.change(func() {
		j.fail, j.lose = messenger.ErrOffline, 1
		j.lines = append(j.lines, protocol.LogLine{Seq: 7, Text: "7"})
	})
	d.stdout.waitFor(t, "7\n")

	t.Log("the router drops a part, and the next one arrives")
	j.change(func() { j.lose = 1; j.lines = append(j.lines, protocol.LogLine{Seq: 8, Text: "8"}) })
	j.lost(t)
	j.print(protocol.LogLine{Text: "9"})
	d.stdout.waitFor(t, "9\n")

	t.Log("a router ends the call")
	j.change(func() { j.fail = &messenger.CallError{URI: protocol.ErrorContract, Args: []any{"callee gone"}} })
	j.print(protocol.LogLine{Text: "10"})
	d.stdout.waitFor(t, "10\n")
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Errorf("logs -f = %v, want context.Canceled", err)
	}
	if got, want := d.stdout.String(), "2\n3\n4\n5\n6\n7\n8\n9\n10\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if told := d.stderr.String(); strings.Contains(told, "missing") {
		t.Errorf("told %q, though nothing was lost", told)
	}
}

func TestALineThatNeverComesIsTold(t *testing.T) {
	d := logDesk(t)
	j := d.journal("1")
	end := d.following(t)
	d.stdout.waitFor(t, "1\n")
	j.change(func() { j.lines = append(j.lines, protocol.LogLine{Seq: 4, Text: "4"}) })
	d.stdout.waitFor(t, "4\n")
	_ = end()
	if got, want := d.stderr.String(), "-- 2 lines are missing here: they were lost on the way\n"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

// A device that was set up anew, or whose power was cut, does not know the cursor.
func TestALogThatBeganAnewIsNotPrintedTwice(t *testing.T) {
	d := logDesk(t)
	j := d.journal("1", "2", "3")
	end := d.following(t)
	d.stdout.waitFor(t, "3\n")
	j.change(func() {
		j.forgot, j.fail = true, messenger.ErrOffline
		j.lines = j.lines[1:]
		for i := range j.lines {
			j.lines[i].Seq = uint64(i + 1)
		}
		j.lines = append(j.lines, protocol.LogLine{Seq: 3, Text: "4", Time: noon.Add(time.Second).Format(time.RFC3339)})
	})
	d.stdout.waitFor(t, "4\n")
	_ = end()
	if got, want := d.stdout.String(), "1\n2\n3\n4\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := d.stderr.String(), "-- lines may be missing here: the device no longer knows how far they were read\n"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
}

func TestFollowingEndsWithTheApp(t *testing.T) {
	d := logDesk(t)
	j := d.journal("1")
	end := d.following(t)
	d.stdout.waitFor(t, "1\n")
	j.change(func() {
		j.done, j.lose = true, 1
		j.lines = append(j.lines, protocol.LogLine{Seq: 2, Text: "last words"})
	})
	d.stderr.waitFor(t, "hello was removed from press-07; this was its log\n")
	if err := end(); err != nil {
		t.Errorf("logs -f = %v, want nil", err)
	}
	if got, want := d.stdout.String(), "1\nlast words\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFollowingWaitsForADeviceThatIsAway(t *testing.T) {
	d := logDesk(t)
	j := d.journal("1")
	j.away = true
	d.press(false)
	end := d.following(t)
	d.stderr.waitFor(t, "press-07 is away: its log goes on when it is back\n")
	j.change(func() { j.away = false })
	d.press(true)
	d.stdout.waitFor(t, "1\n")
	d.stderr.waitFor(t, "press-07 is back\n")
	_ = end()
}

func TestLogsOfWhatIsNotThere(t *testing.T) {
	d := newDesk(t)
	d.studio.answers[protocol.StudioListStates] = give(protocol.StateList{})
	if err := d.run(t, "logs", "hello", "press-07"); err == nil || !strings.Contains(err.Error(), "hello is not on press-07") {
		t.Errorf("no such app = %v", err)
	}
	d = logDesk(t)
	if err := d.run(t, "logs", "hello", "press-08"); err == nil || !strings.Contains(err.Error(), `there is no device "press-08"`) {
		t.Errorf("no such device = %v", err)
	}
	d.press(false)
	if err := d.run(t, "logs", "hello", "press-07"); err == nil || !strings.Contains(err.Error(), "press-07 is not on-line") {
		t.Errorf("device off-line = %v", err)
	}
	d = logDesk(t)
	d.studio.answers[followOfPress] = refuse(protocol.CodeRefused, "insufficient privileges to follow app logs")
	if err := d.run(t, "logs", "-f", "hello", "press-07"); err == nil || !strings.Contains(err.Error(), "insufficient privileges") {
		t.Errorf("no privilege = %v", err)
	}
}

func TestLogsOfAnAgentThatCannotFollow(t *testing.T) {
	d := logDesk(t)
	d.studio.answers[queryOfPress] = give(protocol.AppLogsAnswer{Lines: []string{"one", "two"}, Source: "docker"})
	if err := d.run(t, "logs", "hello", "press-07", "--since", "1h", "--tail", "7", "--timestamps"); err != nil {
		t.Fatal(err)
	}
	if got := d.stdout.String(); got != "one\ntwo\n" {
		t.Errorf("got %q", got)
	}
	in := d.studio.question(t, queryOfPress)
	if n, _ := protocol.Uint(in["tail"]); in["containerName"] != "prod_1_hello" || n != 7 || in["since"] != "1h" || in["timestamps"] != true {
		t.Errorf("asked %v", in)
	}
	delete(d.studio.answers, queryOfPress)
	d.studio.answers[historyOfPress] = give([]any{"one", "two"})
	d.stdout.reset()
	if err := d.run(t, "logs", "hello", "press-07", "--tail", "1", "--output", "json"); err != nil || d.stdout.String() != `{"line":{"text":"two"}}`+"\n" {
		t.Errorf("json: %v %q", err, d.stdout.String())
	}
}

func TestFollowingAnAgentThatCannotFollow(t *testing.T) {
	d := logDesk(t)
	d.studio.answers[historyOfPress] = func(map[string]any) (any, error) {
		// These come while the history is asked for, and the first two are in it.
		d.studio.followers[topicOfPress](messenger.Event{Args: []any{"two\nthree"}})
		d.studio.followers[topicOfPress](messenger.Event{Args: []any{"four"}})
		return []any{"one", "two", "three"}, nil
	}
	end := d.following(t)
	d.stdout.waitFor(t, "four\n")
	d.studio.publish(t, topicOfPress, "five\nsix")
	d.stdout.waitFor(t, "six\n")
	if err := end(); !errors.Is(err, context.Canceled) {
		t.Errorf("logs -f = %v, want context.Canceled", err)
	}
	if got, want := d.stdout.String(), "one\ntwo\nthree\nfour\nfive\nsix\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if told := d.stderr.String(); !strings.Contains(told, "cannot say which lines are missing") {
		t.Errorf("told %q", told)
	}
}

// What a device answers may be anything.
func FuzzFollowedRecords(f *testing.F) {
	f.Add(`[{"type":"lines","cursor":"1","lines":[{"seq":1,"text":"a"}]},{"type":"gap","to_seq":5},{"type":"end","reason":"max_bytes"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		var parts []any
		if json.Unmarshal([]byte(text), &parts) != nil || len(parts) == 0 {
			return
		}
		d := newDesk(t)
		d.studio.streams[followOfPress] = func(_ context.Context, _ map[string]any, send func(any)) (any, error) {
			for _, part := range parts[:len(parts)-1] {
				send(part)
			}
			return parts[len(parts)-1], nil
		}
		d.Again, d.FollowWait = time.Nanosecond, time.Nanosecond
		c := &Call{Program: &d.Program, session: d.studio}
		fo := newFollower(c, protocol.AppOnDeviceRow{SerialNumber: "s1", ContainerName: "prod_1_hello"}, true, true)
		for range 3 {
			_ = fo.more(t.Context())
		}
	})
}

func TestLinesOfALog(t *testing.T) {
	for _, c := range []struct {
		claim string
		args  []any
		want  []string
	}{
		{"lines", []any{"a\nb\n"}, []string{"a", "b"}},
		{"an empty line", []any{"a\n\nb"}, []string{"a", "", "b"}},
		{"a message of the agent", []any{map[string]any{"type": "build", "chunk": "Starting hello..."}}, []string{"Starting hello..."}},
		{"the request to clear", []any{map[string]any{"type": "build", "chunk": "LOGGER_CLEAR"}}, nil},
		{"a transfer", []any{map[string]any{"id": "a.tgz", "status": "Transfer Progress:", "progress": "12.345%"}}, []string{"a.tgz Transfer Progress: 12.345%"}},
		{"a pull", []any{`{"status":"Pulling from apps/x","id":"1.0.0"}` + "\n" + `{"status":"Downloading","progressDetail":{"current":1,"total":2},"progress":"[=> ]","id":"abc"}` + "\n" + `{"status":"Digest: sha256:00"}`},
			[]string{"1.0.0: Pulling from apps/x", "Digest: sha256:00"}},
		{"a push", []any{`{"status":"The push refers to repository [r/apps/x]"}` + "\n" + `{"status":"1.0.0: digest: sha256:00 size: 527"}`},
			[]string{"The push refers to repository [r/apps/x]", "1.0.0: digest: sha256:00 size: 527"}},
		{"a failed pull", []any{`{"errorDetail":{"message":"no space"},"error":"no space"}`}, []string{"no space"}},
		{"a build", []any{`{"stream":"Step 1/2 : FROM scratch\n"}`}, []string{"Step 1/2 : FROM scratch"}},
		{"an app that logs JSON", []any{`{"status":"ok","level":"info"}` + "\n" + `{"status":"ok"}`}, []string{`{"status":"ok","level":"info"}`, `{"status":"ok"}`}},
		{"rubbish", []any{7, nil, []any{}}, nil},
	} {
		if got := logLines(c.args); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.claim, got, c.want)
		}
	}
}

func FuzzLogLines(f *testing.F) {
	f.Add(`{"status":"x","id":"y","progressDetail":{"current":1}}`)
	f.Add("a\nb")
	f.Fuzz(func(_ *testing.T, text string) { logLines([]any{text, map[string]any{"chunk": text, "status": 7}}) })
}
