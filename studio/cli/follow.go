package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

// A follower reads the log of one app with follow_app_logs: call after call, each
// of them bounded, each from behind the last record that was taken. So a call that
// is lost, with whatever it had on the way, is asked again, and nothing is taken
// twice.
type follower struct {
	c       *Call
	app     protocol.AppOnDeviceRow
	device  device
	out     *logPrinter
	forever bool // waits for a device that is away, and for lines to come

	sink   func(protocol.LogRecord) error // takes what is read
	cursor string                         // behind the last record that was taken; "" = none
	seq    uint64                         // of the last line that was taken; 0 = unknown
	newest time.Time                      // when that was printed
	since  time.Time                      // lines up to then were taken, but the device does not know the cursor; zero = it does
	jumps  int                            // calls in a row that began behind a line that never came
	absent int                            // calls in a row that a device which is there did not know
	away   bool                           // people were told that the device is
	ended  bool                           // the app is gone, and its log was read to the end
}

func newFollower(c *Call, app protocol.AppOnDeviceRow, forever, timestamps bool) *follower {
	f := &follower{c: c, app: app, forever: forever, device: device{app.SerialNumber, printable(app.DeviceName)}, out: c.logPrinter(timestamps)}
	f.sink = f.out.record
	return f
}

var (
	errNoFollow = errors.New("the agent has no follow_app_logs")
	errLost     = errors.New("a part of the answer was lost")
)

// How much a call brings: little enough for a thin link, on which what was on its
// way when the link was lost comes again.
const (
	followBytes  = 512 << 10
	answerWithin = time.Minute
)

// run prints the log: from its beginning to now or, where that is asked for, on
// and on.
func (f *follower) run(ctx context.Context, from beginning) error {
	session, err := f.c.studio(ctx)
	if err != nil {
		return err
	}
	f.c.tellLosses(session, "")
	err = f.patiently(ctx, func() error { return f.begin(ctx, from) })
	for err == nil && f.forever && !f.ended {
		err = f.patiently(ctx, func() error { return f.more(ctx) })
	}
	if err == nil && f.forever {
		f.c.say("%s was removed from %s; this was its log", printable(f.app.AppName), f.device.name)
	}
	return err
}

// patiently takes a step and, when following, takes it again until it comes off.
func (f *follower) patiently(ctx context.Context, step func() error) error {
	for {
		err := step()
		switch {
		case err == nil:
			f.reached()
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if err := f.judge(ctx, err); err != nil {
			return err
		}
		if err := pause(ctx, f.c.again()); err != nil {
			return err
		}
	}
}

// triesOfAnAgent is how often a device that is there has to be without the
// procedure until that is believed.
const triesOfAnAgent = 3

// judge makes an error final that another try would meet, too.
func (f *follower) judge(ctx context.Context, err error) error {
	absent := isAbsent(err)
	switch {
	case !absent:
		f.absent = 0
	case f.device.answers(ctx, f.c):
		// It may have come, or gone, between the call and this look.
		if f.absent++; f.absent < triesOfAnAgent {
			return nil
		}
		return errNoFollow
	}
	switch {
	case !f.forever:
		return f.device.explain(ctx, f.c, protocol.FollowAppLogs, err)
	case errors.Is(err, messenger.ErrOffline): // the session says so itself
	case absent, isCutOff(err), errors.Is(err, context.DeadlineExceeded):
		if !f.away {
			f.away = true
			f.c.say("%s is away: its log goes on when it is back", f.device.name)
		}
	case f.cursor != "" && mayPass(err):
	default:
		return err
	}
	return nil
}

// mayPass tells an error of a device that another call may not meet.
func mayPass(err error) bool {
	var answer *messenger.CallError
	if !errors.As(err, &answer) {
		return false
	}
	switch codeOf(answer) {
	case protocol.CodeUnavailable, protocol.CodeTimeout, protocol.CodeInternal, protocol.CodeConflict:
		return true
	}
	return false
}

// reached says that a device which was away is back.
func (f *follower) reached() {
	if f.away {
		f.away = false
		f.c.say("%s is back", f.device.name)
	}
	f.absent = 0
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// lookBack are the windows in which the newest lines are looked for: the device
// reads forwards only, and each window costs about as much as all before it.
var lookBack = []string{"1s", "10s", "100s", "20m", "3h", "30h", "300h", "oldest"}

// begin prints what is there already, as far as it is wanted.
func (f *follower) begin(ctx context.Context, from beginning) error {
	n := from.lines()
	if n == all {
		return f.catchUp(ctx, cmp.Or(from.since, "oldest"))
	}
	windows := lookBack
	switch {
	case from.since != "":
		windows = []string{from.since}
	case n == 0:
		windows = []string{"now"}
	}
	var last newest
	defer func() { f.sink = f.out.record }()
	for _, window := range windows {
		f.cursor, f.seq, f.newest = "", 0, time.Time{}
		last = newest{most: n}
		f.sink = last.add
		if err := f.catchUp(ctx, window); err != nil {
			return err
		}
		if last.count >= n {
			break
		}
	}
	if last.dropped && !from.said && interactive(f.c.Stderr) {
		f.c.say("-- the newest %d lines; see more with --tail or --since", n)
	}
	for _, r := range last.records {
		if err := f.out.record(r); err != nil {
			return err
		}
	}
	return nil
}

// catchUp takes what is in the log, from the cursor or, before there is one, from
// a beginning. What is printed meanwhile need not be in it: an app may be faster
// than the link.
func (f *follower) catchUp(ctx context.Context, from string) error {
	var begun time.Time
	for {
		before := f.cursor
		end, err := f.page(ctx, from)
		if err != nil {
			return err
		}
		f.ended = end.Reason == protocol.EndRemoved
		if end.Reason != protocol.EndMaxBytes || f.cursor == before {
			return nil
		}
		if begun.IsZero() {
			begun, _ = time.Parse(time.RFC3339, end.DeviceTime) // zero: it ends with the lines
		}
		if !begun.IsZero() && f.newest.After(begun) {
			return nil
		}
	}
}

// page takes what a single answer holds.
func (f *follower) page(ctx context.Context, from string) (end protocol.LogRecord, err error) {
	session, err := f.c.studio(ctx)
	if err != nil {
		return end, err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	result, err := session.Call(ctx, f.procedure(), []any{f.question(from, 0)}, nil)
	if err != nil {
		return end, err
	}
	switch end, err = f.last(result); {
	case errors.Is(err, errLost):
		return f.page(ctx, from)
	case err == nil:
		f.cursor = end.Cursor // all of it came in one
	}
	return end, err
}

// more takes what comes until the device ends the call.
func (f *follower) more(ctx context.Context) error {
	session, err := f.c.studio(ctx)
	if err != nil {
		return err
	}
	wait := f.c.followWait()
	if f.away {
		wait = 0 // so that people know at once that it is back
	}
	call, cancel := context.WithTimeout(ctx, wait+answerWithin)
	defer cancel()
	begun, before := time.Now(), f.cursor
	var failed error
	result, err := session.CallProgress(call, f.procedure(), []any{f.question("now", wait)}, nil, func(r messenger.Result) {
		if failed != nil {
			return
		}
		if failed = f.part(protocol.Arg(r.Args, 0)); failed != nil {
			cancel()
		}
	})
	if failed == nil && err == nil {
		var end protocol.LogRecord
		// The end's cursor is not taken: a part in front of it may have been lost.
		if end, failed = f.last(result); failed == nil && end.Reason == protocol.EndRemoved {
			return f.catchUp(ctx, "now")
		}
	}
	switch {
	case errors.Is(failed, errLost):
		return nil // what is behind the cursor comes again
	case failed != nil || err != nil:
		return cmp.Or(failed, err)
	case f.cursor == before && time.Since(begun) < wait/2:
		return pause(ctx, f.c.again()) // it does not wait as it should
	}
	return nil
}

func (f *follower) procedure() string {
	return protocol.Procedure(f.device.serial, protocol.FollowAppLogs)
}

func (f *follower) question(from string, wait time.Duration) map[string]any {
	in := map[string]any{"container_name": f.app.ContainerName, "max_bytes": followBytes, "wait_ms": wait.Milliseconds()}
	switch {
	case f.cursor != "":
		in["cursor"] = f.cursor
	case !f.since.IsZero():
		in["from"] = f.since.Format(time.RFC3339Nano)
	default:
		in["from"] = from
	}
	return in
}

// last reads the final answer, and takes what is in it.
func (f *follower) last(result messenger.Result) (end protocol.LogRecord, err error) {
	if err := protocol.Decode(protocol.Arg(result.Args, 0), &end); err != nil {
		return end, f.unreadable(err)
	}
	for _, r := range end.Records {
		if err := f.take(r); err != nil {
			return end, err
		}
	}
	return end, nil
}

func (f *follower) part(arg any) error {
	var r protocol.LogRecord
	if err := protocol.Decode(arg, &r); err != nil {
		return f.unreadable(err)
	}
	f.reached()
	return f.take(r)
}

func (f *follower) unreadable(err error) error {
	return fmt.Errorf("the answer of %s cannot be read, its agent may be of another version: %w", f.device.name, err)
}

// triesOfALine is how often a line that did not come is asked for again before
// that is told as a gap.
const triesOfALine = 3

// take passes a record on, unless it was taken before or does not follow on the
// last one.
func (f *follower) take(r protocol.LogRecord) error {
	switch r.Type {
	case protocol.LogGap:
		if r.ToSeq == nil && !f.newest.IsZero() && f.since.IsZero() {
			// What comes now begins anywhere, and may have been taken: it is
			// better asked for by its time.
			f.cursor, f.seq, f.since = "", 0, f.newest
			return cmp.Or(f.sink(r), errLost)
		}
		f.seq = 0
		if r.ToSeq != nil {
			f.seq = *r.ToSeq
		}
	case protocol.LogLines:
		if r.Lines = f.untaken(r.Lines); len(r.Lines) == 0 {
			f.cursor = r.Cursor
			return nil
		}
		if err := f.follows(r.Lines[0].Seq); err != nil {
			return err
		}
		last := r.Lines[len(r.Lines)-1]
		f.seq, f.since = last.Seq, time.Time{}
		if t, err := time.Parse(time.RFC3339, last.Time); err == nil {
			f.newest = t
		}
	default: // of a newer agent
		return nil
	}
	f.jumps = 0
	if err := f.sink(r); err != nil {
		return err
	}
	f.cursor = r.Cursor
	return nil
}

// untaken are the lines that were not taken yet.
func (f *follower) untaken(lines []protocol.LogLine) []protocol.LogLine {
	for len(lines) > 0 {
		t, err := time.Parse(time.RFC3339, lines[0].Time)
		if lines[0].Seq > f.seq && (f.since.IsZero() || err != nil || t.After(f.since)) {
			break
		}
		lines = lines[1:]
	}
	return lines
}

// follows tells whether a line is the next one. One that is not is asked for
// again, and told as missing when it does not come then either.
func (f *follower) follows(first uint64) error {
	if f.seq == 0 || first == f.seq+1 {
		return nil
	}
	if f.jumps++; f.jumps < triesOfALine {
		return errLost
	}
	from, to := f.seq+1, first-1
	return f.sink(protocol.LogRecord{Type: protocol.LogGap, FromSeq: &from, ToSeq: &to, Reason: "they were lost on the way"})
}

// newest keeps the last lines of what it is given, and what is missing between
// them.
type newest struct {
	most    int
	records []protocol.LogRecord // of one line each
	count   int
	dropped bool
}

func (n *newest) add(r protocol.LogRecord) error {
	if r.Type == protocol.LogGap {
		n.records = append(n.records, r)
	}
	for _, line := range r.Lines {
		n.records = append(n.records, protocol.LogRecord{Type: protocol.LogLines, Lines: []protocol.LogLine{line}})
		n.count++
	}
	for n.count > n.most || len(n.records) > n.most+protocol.MaxLogTail {
		n.count -= len(n.records[0].Lines)
		n.records, n.dropped = n.records[1:], true
	}
	return nil
}
