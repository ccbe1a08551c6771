package protocol

import (
	"strings"
	"time"
)

// The procedure follow_app_logs: a log that loses nothing. Each call ends by
// itself; the caller asks again with the last cursor that it has processed.

// Bounds of one call of follow_app_logs.
const (
	FollowBytes    = 1 << 20
	MaxFollowBytes = 8 << 20
	FollowWait     = 30 * time.Second
	MaxFollowWait  = 5 * time.Minute
	MaxLogResult   = 256 << 10 // bytes of one progressive result as it is encoded …
	MaxLogLine     = 256 << 10 // … and of one line's text
	maxCursor      = 64
)

// FollowArgs is the argument of follow_app_logs.
type FollowArgs struct {
	ContainerName string
	Cursor        string    // "" = begin as Oldest and At say
	Oldest        bool      // with the oldest line that is kept
	At            time.Time // with the first line at or after it; zero = with what comes from now on
	MaxBytes      int
	Wait          time.Duration
}

// ReadDict reads the argument.
func (a *FollowArgs) ReadDict(d map[string]any) error {
	name, ok := Text(d["container_name"])
	_, _, app, parsed := ParseContainerName(name)
	if !ok || !parsed || CheckAppName(app) != nil {
		return invalid("container_name: the exact name of an app's container is needed, such as prod_12_hello")
	}
	a.ContainerName = name
	if a.Cursor, ok = Text(d["cursor"]); !ok && d["cursor"] != nil || !ValidCursor(a.Cursor) {
		return invalid("invalid cursor")
	}
	from, ok := Text(d["from"])
	if !ok && d["from"] != nil {
		return invalid(`from: "oldest", "now" or a time is needed`)
	}
	switch from {
	case "", "now":
	case "oldest":
		a.Oldest = true
	default:
		var err error
		if a.At, err = ParseTimeBound("from", from, time.Now()); err != nil {
			return err
		}
	}
	bytes, err := bounded(d, "max_bytes", FollowBytes, MaxFollowBytes)
	if err != nil {
		return err
	}
	wait, err := bounded(d, "wait_ms", uint64(FollowWait/time.Millisecond), uint64(MaxFollowWait/time.Millisecond))
	a.MaxBytes, a.Wait = int(bytes), time.Duration(wait)*time.Millisecond
	return err
}

// ValidCursor tells whether a text has a cursor's form; "" has.
func ValidCursor(c string) bool {
	return len(c) <= maxCursor && strings.IndexFunc(c, func(r rune) bool {
		return !(r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r))
	}) < 0
}

// bounded reads a number that is clamped to most.
func bounded(d map[string]any, name string, otherwise, most uint64) (uint64, error) {
	v := d[name]
	if v == nil {
		return otherwise, nil
	}
	n, ok := Uint(v)
	if !ok {
		return 0, invalid("%s: a non-negative whole number is needed", name)
	}
	return min(n, most), nil
}

// Kinds of a LogRecord.
const (
	LogLines = "lines"
	LogGap   = "gap"
	LogEnd   = "end"
)

// Why lines are missing.
const (
	GapStoreFull     = "store_full"     // they were dropped to make room
	GapStoreDamaged  = "store_damaged"  // the device's file was
	GapCursorUnknown = "cursor_unknown" // nobody can tell whether any are
	GapEngine        = "engine"         // the engine had dropped them before they were read
)

// Why a call ended.
const (
	EndMaxBytes = "max_bytes"
	EndWait     = "wait"
	EndRemoved  = "removed" // the app is gone, and this was all of its log
)

// Streams of a line.
const (
	StreamStdout = "stdout"
	StreamStderr = "stderr"
	StreamAgent  = "agent" // what the agent said about the app
)

// A LogLine is one line of an app's log.
type LogLine struct {
	Seq     uint64 `json:"seq"` // grows by 1 per container name
	Time    string `json:"time"`
	Stream  string `json:"stream"`
	Service string `json:"service"` // of a compose app; "" of others
	Text    string `json:"text"`
	Cut     bool   `json:"cut,omitempty"` // it was longer
}

// A LogRecord is one result of follow_app_logs; which fields count depends on
// its Type.
type LogRecord struct {
	Type   string    `json:"type"`
	Cursor string    `json:"cursor"`          // behind what this record tells
	Lines  []LogLine `json:"lines,omitempty"` // LogLines

	FromSeq *uint64 `json:"from_seq,omitempty"` // LogGap: inclusive; nil = unknown
	ToSeq   *uint64 `json:"to_seq,omitempty"`
	Reason  string  `json:"reason,omitempty"` // LogGap, LogEnd

	DeviceTime string      `json:"device_time,omitempty"` // LogEnd
	Records    []LogRecord `json:"records,omitempty"`     // LogEnd without progressive results
}

// Wire gives the record as it is sent: a gap's unknown ends are null. It is made
// by hand, because a log is many lines.
func (r LogRecord) Wire() map[string]any {
	d := map[string]any{"type": r.Type, "cursor": r.Cursor}
	switch r.Type {
	case LogLines:
		d["lines"] = wires(r.Lines)
	case LogGap:
		d["from_seq"], d["to_seq"], d["reason"] = number(r.FromSeq), number(r.ToSeq), r.Reason
	case LogEnd:
		d["reason"], d["device_time"] = r.Reason, r.DeviceTime
		if r.Records != nil {
			d["records"] = wires(r.Records)
		}
	}
	return d
}

// Wire gives the line as it is sent.
func (l LogLine) Wire() map[string]any {
	d := map[string]any{"seq": int64(l.Seq), "time": l.Time, "stream": l.Stream, "service": l.Service, "text": l.Text}
	if l.Cut {
		d["cut"] = true
	}
	return d
}

func wires[T interface{ Wire() map[string]any }](items []T) []any {
	list := make([]any, len(items))
	for i, item := range items {
		list[i] = item.Wire()
	}
	return list
}

// number is a number or null.
func number(n *uint64) any {
	if n == nil {
		return nil
	}
	return int64(*n)
}
