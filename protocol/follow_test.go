package protocol

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestBoundsInTimeAreReadInTheContractsOrder(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"":                          {},
		"2026-11-21T11:00:00.5Z":    now.Add(-time.Hour + time.Second/2),
		"2026-11-21T12:00:00+01:00": now.Add(-time.Hour),
		"30m":                       now.Add(-30 * time.Minute),
		"-1h30m":                    now.Add(-90 * time.Minute),
		"0":                         now,
		"1700000000":                time.Unix(1700000000, 0),
		"1700000000.5":              time.Unix(1700000000, 5e8),
	} {
		if got, err := ParseTimeBound("since", text, now); err != nil || !got.Equal(want) {
			t.Errorf("%q = %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"yesterday", "--5m", "NaN", "1e300", " "} {
		_, err := ParseTimeBound("since", text, now)
		if want := "invalid since: "; err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q = %v, want %q…", text, err, want)
		}
	}
}

func TestRecordsOfALogKeepTheirForm(t *testing.T) {
	to := uint64(9)
	for _, c := range []struct {
		record LogRecord
		want   map[string]any
	}{
		{
			LogRecord{Type: LogGap, Cursor: "c.9", ToSeq: &to, Reason: GapStoreFull},
			map[string]any{"type": "gap", "cursor": "c.9", "from_seq": nil, "to_seq": int64(9), "reason": "store_full"},
		},
		{
			LogRecord{Type: LogEnd, Cursor: "c.9", Reason: EndWait, DeviceTime: "t", Records: []LogRecord{{Type: LogGap, Cursor: "c.9", Reason: GapEngine}}},
			map[string]any{"type": "end", "cursor": "c.9", "reason": "wait", "device_time": "t", "records": []any{
				map[string]any{"type": "gap", "cursor": "c.9", "from_seq": nil, "to_seq": nil, "reason": "engine"},
			}},
		},
		{
			LogRecord{Type: LogLines, Cursor: "c.1", Lines: []LogLine{{Seq: 1, Time: "t", Stream: StreamStdout, Text: "x"}}},
			map[string]any{"type": "lines", "cursor": "c.1", "lines": []any{
				map[string]any{"seq": int64(1), "time": "t", "stream": "stdout", "service": "", "text": "x"},
			}},
		},
	} {
		if got := c.record.Wire(); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%+v goes over the wire as\n%v, want\n%v", c.record, got, c.want)
		}
		var back LogRecord
		if err := Decode(c.record.Wire(), &back); err != nil || back.Type != c.record.Type || back.Cursor != c.record.Cursor {
			t.Errorf("%v is read as %+v, %v", c.record.Wire(), back, err)
		}
	}
}
