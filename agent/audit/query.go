package audit

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"time"

	"reagent/persistence/journal"
	"reagent/protocol"
)

// maxAnswer is what the entries of an answer take at most, as JSON: far enough
// below the 8 MiB of a frame for what goes around them.
const maxAnswer = 6 << 20

// A found entry is one as it is stored.
type found struct {
	seq    uint64
	record []byte
}

// Query answers query_audit.
func (l *Log) Query(ctx context.Context, q protocol.AuditArgs) (protocol.AuditAnswer, error) {
	l.mu.Lock()
	streams := slices.Collect(maps.Values(l.streams))
	l.mu.Unlock()

	var matching []found
	var oldest found
	for _, s := range streams {
		some, err := newest(ctx, s, q)
		if err != nil {
			return protocol.AuditAnswer{}, err
		}
		matching = append(matching, some...)
		if err := s.Read(0, func(seq uint64, record []byte) bool {
			if oldest.record == nil || seq < oldest.seq {
				oldest = found{seq, slices.Clone(record)}
			}
			return false
		}); err != nil {
			return protocol.AuditAnswer{}, err
		}
	}
	slices.SortFunc(matching, func(a, b found) int { return cmp.Compare(b.seq, a.seq) })
	answer := protocol.AuditAnswer{Entries: []protocol.AuditEntry{}, DeviceTime: protocol.DeviceTime(time.Now())}
	if e, ok := oldest.entry(); ok {
		answer.OldestAvailable = e.Time
	}
	room := maxAnswer
	for _, f := range matching {
		if room -= len(f.record) + 1; len(answer.Entries) >= q.Tail || room < 0 {
			answer.Truncated = true
			break
		}
		if e, ok := f.entry(); ok {
			answer.Entries = append(answer.Entries, e)
		}
	}
	slices.Reverse(answer.Entries)
	answer.Returned = len(answer.Entries)
	return answer, nil
}

// newest finds a stream's newest entries that a question asks for, and one more
// to tell whether there are more.
func newest(ctx context.Context, s *journal.Stream, q protocol.AuditArgs) (some []found, err error) {
	before := cmp.Or(q.BeforeSeq, math.MaxUint64)
	err = s.ReadBack(before, func(seq uint64, record []byte) bool {
		if ctx.Err() != nil {
			return false
		}
		if f := (found{seq, record}); f.matches(q) {
			some = append(some, found{seq, slices.Clone(record)})
		}
		return len(some) <= q.Tail
	})
	return some, cmp.Or(err, ctx.Err())
}

func (f found) entry() (e protocol.AuditEntry, ok bool) {
	if json.Unmarshal(f.record, &e) != nil {
		return e, false
	}
	e.Seq = f.seq
	return e, true
}

// matches tells whether an entry is one that is asked for. The clock may have
// been set back: the order of entries says nothing about their times.
func (f found) matches(q protocol.AuditArgs) bool {
	if q.AuthID == "" && q.Procedure == "" && q.Since.IsZero() && q.Until.IsZero() {
		return true
	}
	var e struct {
		Time      time.Time `json:"time"`
		AuthID    string    `json:"caller_authid"`
		Procedure string    `json:"procedure"`
	}
	return json.Unmarshal(f.record, &e) == nil &&
		(q.AuthID == "" || e.AuthID == q.AuthID) &&
		(q.Procedure == "" || e.Procedure == q.Procedure) &&
		(q.Since.IsZero() || !e.Time.Before(q.Since)) &&
		(q.Until.IsZero() || !e.Time.After(q.Until))
}
