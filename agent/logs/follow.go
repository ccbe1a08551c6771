package logs

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"reagent/protocol"
)

// A follower is one call of follow_app_logs.
type follower struct {
	logs  *Logs
	topic *topic
	emit  func(context.Context, protocol.LogRecord) error // nil = all at the end

	at      uint64 // number of the next line
	end     uint64 // lines below it may be shown
	durable uint64 // … and survive a power cut

	left    int                // bytes that may still be sent
	begun   bool               // something was, or is about to be
	lines   []protocol.LogLine // wait to be sent …
	size    int                // … and take so much, encoded
	records []protocol.LogRecord
}

// Bounds of what follow_app_logs sends, as it is encoded.
const (
	bareRecord = 512 // of a record without its lines
	bareLine   = 160 // of a line without its text and service
	// A call without progressive results keeps a frame below 8 MiB, and all such
	// calls together do not hold more than holdMost; then they end earlier.
	wholeMost = protocol.MaxFollowBytes - protocol.MaxLogResult
	holdMost  = 16 << 20
	holdLeast = 64 << 10
)

var errTooManyFollowers = &protocol.Error{Code: protocol.CodeUnavailable, Text: "too many followers"}

// Follow hands over an app's log from where a cursor stands, in order, each line
// once, and every loss as a gap: to emit, piece by piece, or without that all at
// the end. It returns the record that ends the call, which comes by itself after
// a while or when enough was sent; whoever calls again with the cursor behind
// what it has processed gets the rest.
//
// A line is handed over when it is safe on the disk, at most every SyncEvery.
func (l *Logs) Follow(ctx context.Context, in protocol.FollowArgs, emit func(context.Context, protocol.LogRecord) error) (protocol.LogRecord, error) {
	installed := l.cfg.Installed(in.ContainerName)
	if !installed && l.kept(in.ContainerName) == nil {
		return protocol.LogRecord{}, &protocol.Error{Code: protocol.CodeNotFound, Text: "container not found"}
	}
	l.mu.Lock()
	if l.followers >= l.cfg.MaxFollowers {
		l.mu.Unlock()
		return protocol.LogRecord{}, errTooManyFollowers
	}
	l.followers++
	f := &follower{logs: l, topic: l.topic(in.ContainerName), emit: emit, left: in.MaxBytes}
	held := 0
	if emit == nil {
		held = min(in.MaxBytes, wholeMost, max(holdLeast, holdMost-l.held))
		f.left, f.records = held, []protocol.LogRecord{}
	}
	l.held += held
	l.mu.Unlock()
	defer func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.followers--
		l.held -= held
	}()
	reason, err := f.run(ctx, in)
	if err != nil {
		return protocol.LogRecord{}, fmt.Errorf("follow the log of %s: %w", in.ContainerName, err)
	}
	return protocol.LogRecord{
		Type: protocol.LogEnd, Cursor: f.cursor(), Reason: reason,
		DeviceTime: protocol.DeviceTime(l.cfg.Wall()), Records: f.records,
	}, nil
}

// run sends what there is and what comes, and tells why it ended.
func (f *follower) run(ctx context.Context, in protocol.FollowArgs) (reason string, err error) {
	over := time.NewTimer(in.Wait)
	defer over.Stop()
	if err := f.look(ctx); err != nil {
		return "", err
	}
	if err := f.begin(ctx, in); err != nil {
		return "", err
	}
	for {
		grown, changed := f.topic.tape.stream.Grown(), f.logs.changes(f.topic)
		ended := f.logs.hasEnded(f.topic) // before the look at what there is: it may have grown just before
		if err := f.look(ctx); err != nil {
			return "", err
		}
		if enough, err := f.send(ctx); enough || err != nil || f.begun && f.left <= 0 {
			return protocol.EndMaxBytes, err
		}
		if ended {
			return protocol.EndRemoved, nil
		}
		select {
		case <-grown:
		case <-changed:
		case <-over.C:
			return protocol.EndWait, nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// look finds out up to where lines may be shown. While they cannot be written
// they are shown as well: that is when somebody has to see what happens.
func (f *follower) look(ctx context.Context) error {
	next, err := f.topic.tape.secure(ctx, f.logs.cfg.SyncEvery)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f.end = next
	if err == nil {
		f.durable = next
	}
	return nil
}

// begin finds the first line that is wanted.
func (f *follower) begin(ctx context.Context, in protocol.FollowArgs) error {
	oldest, next := f.topic.tape.stream.Bounds()
	switch {
	case in.Cursor != "":
		at, ok := f.parse(in.Cursor)
		if ok && at <= next {
			f.at = at
			return nil
		}
		f.at = oldest
		return f.tell(ctx, protocol.LogRecord{Reason: protocol.GapCursorUnknown})
	case in.Oldest:
		f.at = oldest
	case in.At.IsZero():
		f.at = next
	default:
		f.at = next
		return f.topic.tape.back(next, func(seq uint64, n line) bool {
			switch {
			case !n.at.Before(in.At):
				f.at = seq
			case n.kind.printed():
				return false
			}
			return true
		})
	}
	return nil
}

// cursor stands behind the last line that was sent. One behind a line that a
// power cut could take, and give its number to another, counts only as long as
// the agent runs.
func (f *follower) cursor() string {
	c := f.topic.tape.stream.ID() + "." + strconv.FormatUint(f.at-1, 10)
	if f.at > f.durable {
		c += "." + f.logs.run
	}
	return c
}

// parse gives the number behind a cursor of this log.
func (f *follower) parse(c string) (at uint64, ok bool) {
	id, rest, _ := strings.Cut(c, ".")
	number, run, volatile := strings.Cut(rest, ".")
	n, err := strconv.ParseUint(number, 10, 63)
	return n + 1, err == nil && id == f.topic.tape.stream.ID() && (!volatile || run == f.logs.run)
}

// send sends the lines up to f.end, as many as may be. enough tells that there
// are more.
func (f *follower) send(ctx context.Context) (enough bool, err error) {
	readErr := f.topic.tape.read(f.at, f.end, func(seq uint64, n line) bool {
		if seq < f.at {
			return true // no line goes out twice, whoever hands it over
		}
		if seq > f.at {
			if enough, err = f.missing(ctx, seq-1); enough || err != nil {
				return false
			}
		}
		enough, err = f.line(ctx, seq, n)
		return !enough && err == nil
	})
	if err == nil {
		err = readErr
	}
	if err == nil && !enough && f.at < f.end {
		enough, err = f.missing(ctx, f.end-1)
	}
	if err == nil {
		err = f.flush(ctx)
	}
	return enough, err
}

// line adds one line to what is sent next.
func (f *follower) line(ctx context.Context, seq uint64, n line) (enough bool, err error) {
	if n.kind == hole {
		if !f.affords(bareRecord) {
			return true, nil
		}
		return false, f.gap(ctx, seq, seq, n.gap)
	}
	w := n.wire(seq)
	const most = protocol.MaxLogResult - bareRecord
	room := most - bareLine - protocol.EncodedText(w.Service)
	size := protocol.EncodedText(w.Text)
	if size > room {
		w.Text, w.Cut = fitting(w.Text, room), true
		size = protocol.EncodedText(w.Text)
	}
	size += bareLine + protocol.EncodedText(w.Service)
	if f.size+size > most {
		if err := f.flush(ctx); err != nil {
			return false, err
		}
	}
	cost := size
	if f.size == 0 {
		cost += bareRecord
	}
	if !f.affords(cost) {
		return true, nil
	}
	f.lines, f.size, f.at = append(f.lines, w), f.size+size, seq+1
	return false, nil
}

// affords takes from what may be sent. Something is always sent, or nobody would
// ever get on.
func (f *follower) affords(size int) bool {
	if f.begun && f.left < size {
		return false
	}
	f.begun, f.left = true, f.left-size
	return true
}

// missing tells that the lines up to last are gone.
func (f *follower) missing(ctx context.Context, last uint64) (enough bool, err error) {
	if !f.affords(bareRecord) {
		return true, nil
	}
	reason := protocol.GapStoreDamaged
	if oldest, _ := f.topic.tape.stream.Bounds(); f.at < oldest {
		reason = protocol.GapStoreFull
	}
	return false, f.gap(ctx, f.at, last, reason)
}

func (f *follower) gap(ctx context.Context, from, to uint64, reason string) error {
	if err := f.flush(ctx); err != nil {
		return err
	}
	f.at = to + 1
	return f.tell(ctx, protocol.LogRecord{FromSeq: &from, ToSeq: &to, Reason: reason})
}

// tell sends a gap.
func (f *follower) tell(ctx context.Context, r protocol.LogRecord) error {
	r.Type = protocol.LogGap
	return f.out(ctx, r)
}

// flush sends the lines that wait.
func (f *follower) flush(ctx context.Context) error {
	if len(f.lines) == 0 {
		return nil
	}
	r := protocol.LogRecord{Type: protocol.LogLines, Lines: f.lines}
	f.lines, f.size = nil, 0
	return f.out(ctx, r)
}

func (f *follower) out(ctx context.Context, r protocol.LogRecord) error {
	r.Cursor = f.cursor()
	if f.emit != nil {
		return f.emit(ctx, r)
	}
	f.records = append(f.records, r)
	return nil
}

// fitting is the beginning of a text that takes at most so many bytes encoded.
func fitting(text string, most int) string {
	size := 2
	for i, r := range text {
		if size += protocol.EncodedText(string(r)) - 2; size > most {
			return text[:i]
		}
	}
	return text
}

// changes is closed when an app's container ends, or the app itself.
func (l *Logs) changes(t *topic) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.changed == nil {
		t.changed = make(chan struct{})
	}
	return t.changed
}

// stir tells followers to look again. l.mu is held.
func (l *Logs) stir(t *topic) {
	if t.changed != nil {
		close(t.changed)
		t.changed = nil
	}
}

// hasEnded tells whether an app is gone and nothing more is taken in of it.
func (l *Logs) hasEnded(t *topic) bool {
	l.mu.Lock()
	running := t.collection != nil || t.container != ""
	l.mu.Unlock()
	return !running && !l.cfg.Installed(t.cn)
}

// Gone says that an app was uninstalled: who follows its log need not wait.
func (l *Logs) Gone(cn string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if t := l.topics[cn]; t != nil {
		t.container = ""
		l.stir(t)
	}
}
