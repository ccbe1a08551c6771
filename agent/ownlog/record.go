package ownlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// severities orders the levels; a line counts from the asked one on.
var severities = map[string]int{"trace": 0, "debug": 1, "info": 2, "warn": 3, "error": 4, "fatal": 5, "panic": 6}

// A record is one line that the agent wrote.
type record struct {
	at       time.Time
	level    string
	severity int
	message  string
	err      string
	raw      []byte // all of it; valid as long as the line that was parsed
}

// parse reads a line. One that is no object with a time is none of the agent's
// records; a level that nobody knows counts as info.
func parse(raw []byte) (record, bool) {
	var o struct {
		Time, Level, Message json.RawMessage
		Err                  json.RawMessage
		Error                json.RawMessage // the spelling of other agents
	}
	if raw[0] != '{' || json.Unmarshal(raw, &o) != nil {
		return record{}, false
	}
	at, err := time.Parse(time.RFC3339, text(o.Time))
	if err != nil {
		return record{}, false
	}
	r := record{at: at, level: strings.ToLower(text(o.Level)), message: text(o.Message), err: text(o.Err), raw: raw}
	if r.err == "" {
		r.err = text(o.Error)
	}
	known := false
	if r.severity, known = severities[r.level]; !known {
		r.level, r.severity = "info", severities["info"]
	}
	return r, true
}

// skim reads time and severity of a line in the agent's own spelling without
// taking it apart: most lines of a long search are of no interest.
func skim(raw []byte) (r record, ok bool) {
	rest, ok := bytes.CutPrefix(raw, []byte(`{"level":"`))
	if !ok || raw[len(raw)-1] != '}' {
		return record{}, false
	}
	level, _, _ := bytes.Cut(rest, []byte{'"'})
	if r.severity, ok = severities[string(level)]; !ok {
		return record{}, false
	}
	// Within a text the quotes would be escaped, and only the message comes later.
	const key = `,"time":"`
	i := bytes.LastIndex(rest, []byte(key))
	if i < 0 {
		return record{}, false
	}
	stamp, _, _ := bytes.Cut(rest[i+len(key):], []byte{'"'})
	at, err := time.Parse(time.RFC3339, string(stamp))
	r.at = at
	return r, err == nil
}

// text reads a value of any kind as a text.
func text(raw json.RawMessage) string {
	if len(raw) == 0 || string(raw) == "null" {
		return ""
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return s
	}
	return string(raw)
}

// text is the record as answers have it (wire §5.7). What the message is about,
// which app, which router, goes with it: without that, it says nothing.
func (r record) text() string {
	line := r.at.UTC().Format(time.RFC3339) + " " + strings.ToUpper(r.level) + " " + r.message + details(r.raw)
	if r.err != "" {
		line += ": " + r.err
	}
	return line
}

// details are the fields that have no place of their own in a line.
func details(raw []byte) string {
	var b strings.Builder
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return ""
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			break
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			break
		}
		name, _ := key.(string)
		switch strings.ToLower(name) {
		case "time", "level", "message", "err", "error", "stack":
			continue
		}
		v := text(value)
		if v == "" || strings.ContainsFunc(v, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) || r == '"' }) && value[0] == '"' {
			v = strconv.Quote(v)
		}
		b.WriteString(" " + name + "=" + v)
	}
	return b.String()
}

// clean makes a line that is no record one that every serialisation can carry.
func clean(raw []byte, cut int) string {
	line := strings.ToValidUTF8(string(bytes.TrimSuffix(raw, []byte{'\r'})), "\ufffd")
	if cut > 0 {
		line += fmt.Sprintf("… %d byte(s) cut", cut)
	}
	return line
}

// firstTime finds the first record in the beginning of a file.
func firstTime(head []byte) time.Time {
	for line := range bytes.Lines(head) {
		if r, ok := parse(line); ok {
			return r.at
		}
	}
	return time.Time{}
}
