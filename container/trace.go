package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// Bounds of what is remembered about one build.
const (
	maxSteps    = 10000
	maxStepLine = 64 << 10
)

// A trace puts BuildKit's progress into the words of the classic builder.
// BuildKit builds a graph: it tells again and again how far each step is, and
// its output as it comes. A viewer of ours reads lines; each begins with its
// step's number, since steps run beside each other:
//
//	#4 [2/3] RUN make
//	#4 cc -c main.c
//	#4 DONE 1.2s
//
// What a step fetches comes as records with bytes, as those of a pull.
type trace struct {
	record func([]byte)
	steps  map[string]*step // by digest
}

type step struct {
	number   int
	name     string
	begun    bool
	ended    bool
	failed   bool
	line     []byte           // output without an end yet
	fetching map[string]int64 // how far each part is, as last told
}

func newTrace(record func([]byte)) *trace {
	return &trace{record: record, steps: map[string]*step{}}
}

// take takes a record of the engine in.
func (t *trace) take(line []byte, r buildRecord) error {
	if r.ID != "moby.buildkit.trace" {
		t.record(line)
		return nil
	}
	var message []byte
	if err := json.Unmarshal(r.Aux, &message); err != nil {
		return fmt.Errorf("the engine's progress is not readable: %w", err)
	}
	// StatusResponse of moby.buildkit.v1.
	err := eachField(message, func(number protowire.Number, value []byte, _ uint64) error {
		switch number {
		case 1:
			return t.vertex(value)
		case 2:
			return t.status(value)
		case 3:
			return t.log(value)
		case 4:
			return t.warning(value)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("the engine's progress is not readable: %w", err)
	}
	return nil
}

// vertex is told when a step is known, begins, and ends.
func (t *trace) vertex(message []byte) error {
	var digest, name, failure string
	var cached bool
	var started, completed time.Time
	err := eachField(message, func(number protowire.Number, value []byte, n uint64) (err error) {
		switch number {
		case 1:
			digest = string(value)
		case 3:
			name = string(value)
		case 4:
			cached = n != 0
		case 5:
			started, err = timestamp(value)
		case 6:
			completed, err = timestamp(value)
		case 7:
			failure = string(value)
		}
		return err
	})
	if err != nil {
		return err
	}
	s := t.step(digest)
	if s == nil {
		return nil
	}
	if name != "" {
		s.name = strings.Join(strings.Fields(name), " ")
	}
	if !s.begun && (cached || !started.IsZero()) {
		s.begun = true
		t.say(s, s.name)
	}
	// An end is not final: a step that is needed twice ends twice. Once is told,
	// and a failure in any case.
	switch {
	case !s.begun || completed.IsZero() && !cached || s.failed:
	case failure != "":
		s.ended, s.failed = true, true
		t.flush(s)
		t.say(s, "ERROR: "+failure)
	case s.ended:
	case cached:
		s.ended = true
		t.say(s, "CACHED")
	default:
		s.ended = true
		t.flush(s)
		t.say(s, fmt.Sprintf("DONE %.1fs", max(0, completed.Sub(started).Seconds())))
	}
	return nil
}

// fetches are BuildKit's words for how a part of a base image comes, in those of
// a pull.
var fetches = map[string]string{
	"downloading": "Downloading",
	"done":        "Download complete",
}

// status is told while a step fetches or unpacks.
func (t *trace) status(message []byte) error {
	var id, digest, name string
	var current, total uint64
	err := eachField(message, func(number protowire.Number, value []byte, n uint64) error {
		switch number {
		case 1:
			id = string(value)
		case 2:
			digest = string(value)
		case 3:
			name = string(value)
		case 4:
			current = n
		case 5:
			total = n
		}
		return nil
	})
	if err != nil {
		return err
	}
	s := t.step(digest)
	word := fetches[name]
	if s == nil || word == "" || current == 0 {
		return nil
	}
	if s.fetching == nil {
		s.fetching = map[string]int64{}
	}
	if last, told := s.fetching[id]; told && last == int64(current) || len(s.fetching) > maxSteps {
		return nil
	}
	s.fetching[id] = int64(current)
	type detail struct {
		Current uint64 `json:"current"`
		Total   uint64 `json:"total,omitempty"`
	}
	t.write(struct {
		Status string `json:"status"`
		Detail detail `json:"progressDetail"`
		ID     string `json:"id"`
	}{word, detail{current, total}, shortDigest(id)})
	return nil
}

// shortDigest is how the engine names a part in its records.
func shortDigest(digest string) string {
	digest = strings.TrimPrefix(digest, "sha256:")
	return digest[:min(len(digest), 12)]
}

// log is a piece of what a step prints, cut anywhere.
func (t *trace) log(message []byte) error {
	var digest string
	var text []byte
	err := eachField(message, func(number protowire.Number, value []byte, _ uint64) error {
		switch number {
		case 1:
			digest = string(value)
		case 4:
			text = value
		}
		return nil
	})
	if err != nil {
		return err
	}
	s := t.step(digest)
	if s == nil {
		return nil
	}
	for {
		before, after, whole := bytes.Cut(text, []byte("\n"))
		s.line = append(s.line, before[:min(len(before), maxStepLine-len(s.line))]...)
		if !whole {
			return nil
		}
		t.flush(s)
		text = after
	}
}

// warning is the builder's advice.
func (t *trace) warning(message []byte) error {
	var digest, short string
	err := eachField(message, func(number protowire.Number, value []byte, _ uint64) error {
		switch number {
		case 1:
			digest = string(value)
		case 3:
			short = string(value)
		}
		return nil
	})
	if s := t.step(digest); err == nil && s != nil && short != "" {
		t.say(s, "WARN: "+short)
	}
	return err
}

// step gives the step of a digest; nil beyond the bound.
func (t *trace) step(digest string) *step {
	s := t.steps[digest]
	if s == nil && digest != "" && len(t.steps) < maxSteps {
		s = &step{number: len(t.steps) + 1}
		t.steps[digest] = s
	}
	return s
}

// flush writes what a step printed since its last end of a line.
func (t *trace) flush(s *step) {
	if len(s.line) > 0 {
		t.say(s, strings.TrimSuffix(string(s.line), "\r"))
	}
	s.line = s.line[:0]
}

func (t *trace) say(s *step, text string) {
	t.write(struct {
		Stream string `json:"stream"`
	}{fmt.Sprintf("#%d %s\n", s.number, strings.ToValidUTF8(text, "\uFFFD"))})
}

func (t *trace) write(record any) {
	line, err := json.Marshal(record)
	if err == nil { // texts and numbers
		t.record(line)
	}
}

// eachField walks through a message; a value is bytes or a number, by its type.
func eachField(message []byte, field func(number protowire.Number, value []byte, n uint64) error) error {
	for len(message) > 0 {
		number, kind, size := protowire.ConsumeTag(message)
		if size < 0 {
			return protowire.ParseError(size)
		}
		message = message[size:]
		var value []byte
		var n uint64
		switch kind {
		case protowire.VarintType:
			n, size = protowire.ConsumeVarint(message)
		case protowire.BytesType:
			value, size = protowire.ConsumeBytes(message)
		default:
			size = protowire.ConsumeFieldValue(number, kind, message)
		}
		if size < 0 {
			return protowire.ParseError(size)
		}
		if err := field(number, value, n); err != nil {
			return err
		}
		message = message[size:]
	}
	return nil
}

// timestamp reads a google.protobuf.Timestamp.
func timestamp(message []byte) (time.Time, error) {
	var seconds, nanos uint64
	err := eachField(message, func(number protowire.Number, value []byte, n uint64) error {
		switch {
		case value != nil:
			return errors.New("a time is made of numbers")
		case number == 1:
			seconds = n
		case number == 2:
			nanos = n
		}
		return nil
	})
	return time.Unix(int64(seconds), int64(nanos)), err
}
