package protocol

import (
	"maps"
	"math"
	"strconv"
	"strings"
	"time"
)

// Bounds of an answer of query_app_logs and query_device_logs (wire §5.7).
const (
	AppLogTail     = 200
	DeviceLogTail  = 300
	MaxLogTail     = 5000
	MaxLogAnswer   = 4 << 20 // bytes of its lines as they are encoded
	LogFromDocker  = "docker"
	LogFromCompose = "compose"
	LogFromHistory = "history" // the container is gone
)

// ParseTimeBound reads a bound in time (wire §5.7): an RFC 3339 time, how long
// ago as a Go duration with or without a minus, or seconds since 1970. name is
// what the argument is called. "" is the zero time: no bound.
func ParseTimeBound(name, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago.Abs()), nil
	}
	if s, err := strconv.ParseFloat(text, 64); err == nil && math.Abs(s) < 1<<40 {
		whole, part := math.Modf(s)
		return time.Unix(int64(whole), int64(part*float64(time.Second))), nil
	}
	return time.Time{}, invalid("invalid %s: %q is not an RFC3339 time, a Unix timestamp, or a duration", name, text)
}

// window reads the bounds since and until of a question.
func window(d map[string]any, now time.Time) (since, until time.Time, err error) {
	for _, b := range []struct {
		name string
		to   *time.Time
	}{{"since", &since}, {"until", &until}} {
		text, ok := Text(d[b.name])
		if !ok && d[b.name] != nil {
			return since, until, invalid("the %s param should be a string", b.name)
		}
		if *b.to, err = ParseTimeBound(b.name, text, now); err != nil {
			return since, until, err
		}
	}
	return since, until, nil
}

// lines reads a number of lines; more than MaxLogTail are clamped.
func lines(d map[string]any, name string, otherwise int) (int, error) {
	v := d[name]
	if v == nil {
		return otherwise, nil
	}
	n, ok := Uint(v)
	if !ok {
		return 0, invalid("the %s param should be a non-negative whole number", name)
	}
	return int(min(n, MaxLogTail)), nil
}

// QueryAppLogsArgs is the argument of query_app_logs.
type QueryAppLogsArgs struct {
	ContainerName string
	Tail          int // newest lines of the window …
	Offset        int // … before so many newer ones; both together at most MaxLogTail
	Since, Until  time.Time
	Timestamps    bool // each line begins with its time and a space
}

// ReadDict reads the argument with the contract's texts for what is wrong.
func (a *QueryAppLogsArgs) ReadDict(d map[string]any) error {
	var name AppLogArgs
	err := name.ReadDict(d)
	if err != nil {
		return err
	}
	a.ContainerName = name.ContainerName
	if a.Tail, err = lines(d, "tail", AppLogTail); err != nil {
		return err
	}
	if a.Offset, err = lines(d, "offset", 0); err != nil {
		return err
	}
	a.Tail = min(a.Tail, MaxLogTail-a.Offset)
	if a.Since, a.Until, err = window(d, time.Now()); err != nil {
		return err
	}
	a.Timestamps = true
	if v := d["timestamps"]; v != nil {
		var ok bool
		if a.Timestamps, ok = v.(bool); !ok {
			return invalid("the timestamps param should be a boolean")
		}
	}
	return nil
}

// AppLogsAnswer is the answer of query_app_logs.
type AppLogsAnswer struct {
	Lines           []string `json:"lines"` // the oldest first; null when empty
	Source          string   `json:"source"`
	Returned        int      `json:"returned"`
	Truncated       bool     `json:"truncated"` // the window holds older lines than these
	DeviceTime      string   `json:"device_time"`
	OldestAvailable string   `json:"oldest_available,omitempty"`
	// StoredSince tells that this device keeps older lines than the source has, from
	// then on: those of a container that an update replaced, and the agent's own
	// messages. follow_app_logs has them.
	StoredSince string `json:"stored_since,omitempty"`
}

// Wire gives the answer as it is sent: no lines are null.
func (a AppLogsAnswer) Wire() map[string]any {
	lines := any(nil)
	if len(a.Lines) > 0 {
		lines = listOf(a.Lines)
	}
	more := map[string]any{"source": a.Source}
	if a.StoredSince != "" {
		more["stored_since"] = a.StoredSince
	}
	return answerWire(lines, a.Returned, a.Truncated, a.DeviceTime, a.OldestAvailable, more)
}

// answerWire puts together what both answers have; the lines do not take the
// way over JSON.
func answerWire(lines any, returned int, truncated bool, deviceTime, oldest string, more map[string]any) map[string]any {
	d := map[string]any{"lines": lines, "returned": int64(returned), "truncated": truncated, "device_time": deviceTime}
	if oldest != "" {
		d["oldest_available"] = oldest
	}
	maps.Copy(d, more)
	return d
}

// QueryDeviceLogsArgs is the argument of query_device_logs; all of it is optional.
type QueryDeviceLogsArgs struct {
	Tail         int
	Since, Until time.Time
	Level        string // of zerolog, "info" unless it is a known one; worse ones count, too
}

// Optional says that a call without the argument is a good one.
func (*QueryDeviceLogsArgs) Optional() {}

// ReadDict reads the argument with the contract's texts for what is wrong.
func (a *QueryDeviceLogsArgs) ReadDict(d map[string]any) (err error) {
	if a.Tail, err = lines(d, "tail", DeviceLogTail); err != nil {
		return err
	}
	if a.Since, a.Until, err = window(d, time.Now()); err != nil {
		return err
	}
	level, ok := Text(d["level"])
	if !ok && d["level"] != nil {
		return invalid("the level param should be a string")
	}
	switch level = strings.ToLower(level); level {
	case "trace", "debug", "info", "warn", "error", "fatal", "panic":
		a.Level = level
	default:
		a.Level = "info"
	}
	return nil
}

// DeviceLogsAnswer is the answer of query_device_logs.
type DeviceLogsAnswer struct {
	Lines           []string `json:"lines"` // the oldest first
	Returned        int      `json:"returned"`
	Truncated       bool     `json:"truncated"` // the window holds older lines than these
	FilesScanned    int      `json:"files_scanned"`
	DeviceTime      string   `json:"device_time"`
	OldestAvailable string   `json:"oldest_available,omitempty"`
	Hint            string   `json:"hint,omitempty"` // why there are no lines, where the device knows
}

// Wire gives the answer as it is sent.
func (a DeviceLogsAnswer) Wire() map[string]any {
	more := map[string]any{"files_scanned": int64(a.FilesScanned)}
	if a.Hint != "" {
		more["hint"] = a.Hint
	}
	return answerWire(listOf(a.Lines), a.Returned, a.Truncated, a.DeviceTime, a.OldestAvailable, more)
}

// DeviceTime is a time as answers tell it.
func DeviceTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
