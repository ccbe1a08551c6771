package logs

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"math"
	"time"

	"reagent/protocol"
)

// A line is one record of an app's log: what a container printed or the agent
// said, or that something is missing here.
type line struct {
	at      time.Time
	kind    kind
	source  source // of a container's
	service string // "" = the app has one container
	name    string // of the container among its project's; begins with the service as a rule
	text    string
	size    int    // bytes of what was printed, before it was made clean; of a container's
	cut     bool   // the text was longer …
	over    int    // … by so many bytes, which is not written down; 0 = unknown
	gap     string // of a gap: why
}

// A kind is where a line comes from.
type kind byte

const (
	stdout kind = iota
	stderr
	said  // by the agent
	hole  // lines are missing
	kinds // how many there are

	kindMask = kinds - 1
)

var kindNames = [kinds]string{protocol.StreamStdout, protocol.StreamStderr, protocol.StreamAgent, ""}

// printed tells whether a container printed it.
func (k kind) printed() bool { return k <= stderr }

// A source is a container, in eight bytes.
type source uint64

func sourceOf(containerID string) source {
	h := fnv.New64a()
	_, _ = h.Write([]byte(containerID))
	return source(h.Sum64())
}

// A record on the disk:
//
//	1 byte      kind, and what else there is
//	8 bytes     time, in ns since 1970; the smallest number = unknown
//	8 bytes     source, of all but the agent's
//	            if named: length of the name, length of the service, name,
//	            and the service where the name does not begin with it
//	            if sized: how many bytes were printed, as a varint; else as many as
//	            the text has
//	the rest    text; of a gap: why
const (
	flagCut   = 1 << 2
	flagNamed = 1 << 3
	flagApart = 1 << 4 // the name does not begin with the service
	flagSized = 1 << 5 // the text is not what was printed, byte by byte
	flagsAll  = byte(kindMask) | flagCut | flagNamed | flagApart | flagSized
)

const noTime = math.MinInt64

// The times that a record can hold: from 1677 to 2262.
var (
	earliest = time.Unix(0, noTime+1)
	latest   = time.Unix(0, math.MaxInt64)
)

// Bounds of what a record names; longer names are cut.
const maxName = 255

func (l line) append(b []byte) []byte {
	flags := byte(l.kind)
	name, service := clip(l.name), clip(l.service)
	if l.cut {
		flags |= flagCut
	}
	if name != "" || service != "" {
		flags |= flagNamed
	}
	apart := len(service) > len(name) || name[:len(service)] != service
	if apart {
		flags |= flagApart
	}
	sized := l.kind.printed() && l.size != len(l.text)
	if sized {
		flags |= flagSized
	}
	b = append(b, flags)
	b = binary.BigEndian.AppendUint64(b, uint64(nanos(l.at)))
	if l.kind != said {
		b = binary.BigEndian.AppendUint64(b, uint64(l.source))
	}
	if flags&flagNamed != 0 {
		b = append(b, byte(len(name)), byte(len(service)))
		b = append(b, name...)
		if apart {
			b = append(b, service...)
		}
	}
	if sized {
		b = binary.AppendUvarint(b, uint64(l.size))
	}
	if l.kind == hole {
		return append(b, l.gap...)
	}
	return append(b, l.text...)
}

func clip(name string) string { return name[:min(len(name), maxName)] }

var errRecord = errors.New("the record is not readable")

// parseLine reads a record. The line keeps nothing of it.
func parseLine(b []byte) (l line, err error) {
	l, rest, err := parseHead(b)
	if err != nil {
		return line{}, err
	}
	if l.kind == hole {
		l.gap = string(rest)
	} else {
		l.text = string(rest)
	}
	return l, nil
}

// parseHead reads all of a record but its text.
func parseHead(b []byte) (l line, text []byte, err error) {
	if len(b) < 9 || b[0]&^flagsAll != 0 {
		return line{}, nil, errRecord
	}
	flags := b[0]
	l.kind = kind(flags) & kindMask
	l.cut = flags&flagCut != 0
	l.at = fromNanos(int64(binary.BigEndian.Uint64(b[1:])))
	b = b[9:]
	if l.kind != said {
		if len(b) < 8 {
			return line{}, nil, errRecord
		}
		l.source = source(binary.BigEndian.Uint64(b))
		b = b[8:]
	}
	if flags&flagNamed != 0 {
		if b, err = l.parseNames(flags, b); err != nil {
			return line{}, nil, err
		}
	}
	if !l.kind.printed() {
		if flags&flagSized != 0 {
			return line{}, nil, errRecord
		}
		return l, b, nil
	}
	l.size = len(b)
	if flags&flagSized != 0 {
		size, rest := number(binary.Uvarint, b)
		if rest == nil || size > maxCount {
			return line{}, nil, errRecord
		}
		l.size, b = int(size), rest
	}
	return l, b, nil
}

// parseNames reads what a record names, and gives the rest of it.
func (l *line) parseNames(flags byte, b []byte) (rest []byte, err error) {
	if len(b) < 2 {
		return nil, errRecord
	}
	name, service := int(b[0]), int(b[1])
	b = b[2:]
	if len(b) < name {
		return nil, errRecord
	}
	l.name, b = string(b[:name]), b[name:]
	switch {
	case flags&flagApart == 0 && service <= name:
		l.service = l.name[:service]
	case flags&flagApart != 0 && service <= len(b):
		l.service, b = string(b[:service]), b[service:]
	default:
		return nil, errRecord
	}
	return b, nil
}

// nanos is a time in eight bytes. What does not fit is unknown.
func nanos(t time.Time) int64 {
	if t.Before(earliest) || t.After(latest) {
		return noTime
	}
	return t.UnixNano()
}

func fromNanos(n int64) time.Time {
	if n == noTime {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
