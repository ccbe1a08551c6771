package protocol

import "time"

// Bounds of an answer of query_audit.
const (
	AuditTail    = 200
	MaxAuditTail = 5000
)

// AuditArgs is the argument of query_audit; all of it is optional.
type AuditArgs struct {
	Tail         int
	BeforeSeq    uint64 // 0 = no bound
	Since, Until time.Time
	AuthID       string // of the caller; "" = anybody's
	Procedure    string // its suffix; "" = any
}

// Optional says that a call without the argument is a good one.
func (*AuditArgs) Optional() {}

// ReadDict reads the argument.
func (a *AuditArgs) ReadDict(d map[string]any) error {
	tail, err := bounded(d, "tail", AuditTail, MaxAuditTail)
	if err != nil {
		return err
	}
	a.Tail = int(tail)
	if v := d["before_seq"]; v != nil {
		var ok bool
		if a.BeforeSeq, ok = Uint(v); !ok {
			return invalid("before_seq: a non-negative whole number is needed")
		}
	}
	if a.Since, a.Until, err = window(d, time.Now()); err != nil {
		return err
	}
	for _, text := range []struct {
		name string
		to   *string
	}{{"authid", &a.AuthID}, {"procedure", &a.Procedure}} {
		v, ok := Text(d[text.name])
		if !ok && d[text.name] != nil {
			return invalid("%s: a text is needed", text.name)
		}
		*text.to = v
	}
	return nil
}

// How a call that was written down went.
const (
	AuditOK      = "ok"
	AuditRefused = "refused" // the caller may not do that
	AuditError   = "error"
	AuditStarted = "started" // what goes on after the answer, such as a shell …
	AuditEnded   = "ended"   // … and its end
)

// An AuditEntry is one call that changed something, or opened a shell, or would
// have.
type AuditEntry struct {
	Seq        uint64         `json:"seq"`
	Time       string         `json:"time"`
	AuthID     string         `json:"caller_authid"` // "" = undisclosed
	AuthRole   string         `json:"caller_authrole"`
	ForAccount *uint64        `json:"for_account"` // nil = the caller itself
	Procedure  string         `json:"procedure"`   // suffix
	Target     string         `json:"target"`
	Args       map[string]any `json:"args"` // secrets as "***"
	Result     string         `json:"result"`
	Error      string         `json:"error,omitempty"`
	DurationMS uint64         `json:"duration_ms"`
	SessionID  string         `json:"session_id,omitempty"`
	Count      uint64         `json:"count,omitempty"` // of refusals like this one that have no entry; 0 = it is one call
}

// AuditAnswer is the answer of query_audit.
type AuditAnswer struct {
	Entries         []AuditEntry `json:"entries"` // the oldest first
	Returned        int          `json:"returned"`
	Truncated       bool         `json:"truncated"`
	DeviceTime      string       `json:"device_time"`
	OldestAvailable string       `json:"oldest_available,omitempty"`
}
