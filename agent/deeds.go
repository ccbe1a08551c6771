package agent

import (
	"errors"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

// A deed says how the calls of a procedure come into the audit: each, with who
// made it, what became of it, and of its arguments what is listed here. What only
// reads has none.
type deed struct {
	arguments func(args []any, kwargs map[string]any) map[string]any // by their names; nil = those of the first one
	target    func(arguments map[string]any) string                  // nil = the device
	shows     []string                                               // arguments that are written down …
	names     []string                                               // … and those of whose values the names alone are
	// account is the argument that says for which account the studio calls, where
	// it does not call as that: what may be done, it has settled itself.
	account string
	// unless tells which calls change nothing. Refused ones count all the same.
	unless func(arguments map[string]any) bool
	// synced: the entry is on the disk before the call is answered. It always is in
	// the file.
	synced bool
	// announced: so is one that says that it begins, before it does: it could end
	// the agent, or the machine. Who does it says when (Call.Begins): a call may
	// still be refused, or ask for what was done before.
	announced bool
	// told: who does it tells what has begun and ended. What is left are the calls
	// that came to nothing.
	told bool
}

// The deeds of the table.
var (
	wish = &deed{
		arguments: func(_ []any, kwargs map[string]any) map[string]any { return kwargs },
		target: func(a map[string]any) string {
			key, _ := protocol.Uint(a["app_key"])
			name, _ := protocol.Text(a["app_name"])
			if name == "" {
				return ""
			}
			stage, _ := protocol.Text(a["stage"])
			return protocol.ContainerName(protocol.Stage(stage), key, name)
		},
		shows: []string{
			"app_key", "app_name", "stage", "target_state", "manually_requested_state", "account_id",
			"release_key", "new_release_key", "version", "present_version", "newest_version", "request_update", "cancel_transition",
		},
		names:   []string{"environment"},
		account: "requestor_account_key",
	}
	upload = &deed{
		arguments: func(args []any, _ map[string]any) map[string]any {
			phase := protocol.Arg(args, 0)
			if phase != protocol.TransferBegin && phase != protocol.TransferEnd {
				phase = transferData
			}
			return map[string]any{
				"phase": phase, "name": protocol.Arg(args, 1), "containerName": protocol.Arg(args, 2),
				"total": protocol.Arg(args, 3), "id": protocol.Arg(args, 4),
			}
		},
		target: at("containerName"),
		shows:  []string{"phase", "name", "total", "id"},
		unless: func(a map[string]any) bool { return a["phase"] == transferData },
	}
	pruning = &deed{shows: []string{"all"}, synced: true}
	// Of shells, begin and end are told by agent/terminal.
	shell          = &deed{told: true}
	containerShell = &deed{target: at("containerName"), told: true}
	ofSession      = &deed{shows: []string{"sessionID"}, told: true}
	endOfSession   = &deed{shows: []string{"sessionID"}}
	command        = &deed{
		target: at("container_name"),
		shows:  []string{"id", "argv", "shell", "cwd", "timeout_ms", "max_output", "detach"},
		names:  []string{"env"},
		unless: func(a map[string]any) bool { return a["id"] != nil && a["argv"] == nil && a["shell"] == nil }, // it asks what became of one
		synced: true, announced: true,
	}
	stopping  = &deed{target: at("container_name"), shows: []string{"id"}, synced: true}
	execution = &deed{shows: []string{"cmd", "args", "blocking", "timeout"}, synced: true, announced: true}
)

// transferData stands for what is neither the begin nor the end of an upload.
const transferData = "data"

// at takes the target from an argument.
func at(key string) func(map[string]any) string {
	return func(arguments map[string]any) string {
		text, _ := protocol.Text(arguments[key])
		return text
	}
}

// An auditor keeps the audit; audit.Log is one. Seq and time are its own
// business, and so is what is too long or secret by its name.
type auditor interface {
	Record(e protocol.AuditEntry, synced bool)
}

// by names the arguments of a call.
func (t *deed) by(args []any, kwargs map[string]any) map[string]any {
	if t.arguments != nil {
		return t.arguments(args, kwargs)
	}
	d, _ := protocol.AsDict(protocol.Arg(args, 0))
	return d
}

// entry is what the audit says of a call; nil where it says nothing.
func (t *deed) entry(p procedure, inv messenger.Invocation, account uint64, result string) *protocol.AuditEntry {
	arguments := t.by(inv.Args, inv.Kwargs)
	refused := result == protocol.AuditRefused
	if !refused && t.unless != nil && t.unless(arguments) || t.told && result == protocol.AuditOK {
		return nil
	}
	if t.account != "" {
		account, _ = protocol.Uint(arguments[t.account])
	}
	e := &protocol.AuditEntry{Procedure: p.name, Result: result, Args: t.shown(arguments)}
	e.AuthID, e.AuthRole, e.ForAccount = callerOf(inv, account)
	if t.target != nil {
		e.Target = t.target(arguments)
	}
	return e
}

// callerOf is who calls as the audit names them, and for whom where that is
// somebody else.
func callerOf(inv messenger.Invocation, account uint64) (authid, role string, forAccount *uint64) {
	if !inv.Disclosed {
		return "", "", nil
	}
	if account != 0 && protocol.IsSystem(inv.Caller, inv.CallerRole) {
		forAccount = &account
	}
	return inv.Caller, inv.CallerRole, forAccount
}

func (t *deed) shown(arguments map[string]any) map[string]any {
	shown := map[string]any{}
	for _, key := range t.shows {
		if v, there := arguments[key]; there {
			shown[key] = v
		}
	}
	for _, key := range t.names {
		d, ok := protocol.AsDict(arguments[key])
		if !ok {
			continue
		}
		masked := make(map[string]any, len(d))
		for name := range d {
			masked[name] = hidden
		}
		shown[key] = masked
	}
	return shown
}

// hidden stands for a value that nobody is to read.
const hidden = "***"

// announce writes down that a deed begins, where it has to be.
func (d *dispatcher) announce(p procedure, inv messenger.Invocation, account uint64) {
	if p.deed == nil || !p.deed.announced {
		return
	}
	if e := p.deed.entry(p, inv, account, protocol.AuditStarted); e != nil {
		d.audit.Record(*e, true)
	}
}

// note writes down what became of a call.
func (d *dispatcher) note(p procedure, inv messenger.Invocation, account uint64, err error, took time.Duration) {
	if p.deed == nil {
		return
	}
	result := outcome(err)
	e := p.deed.entry(p, inv, account, result)
	if e == nil {
		return
	}
	if err != nil {
		e.Error = err.Error()
	}
	e.DurationMS = uint64(took.Milliseconds())
	d.audit.Record(*e, p.deed.synced && result != protocol.AuditRefused)
}

// outcome is how a call went as the audit says it. A refusal is one whoever
// refuses: the dispatcher, or a procedure to whose policy or owner it is left.
func outcome(err error) string {
	if err == nil {
		return protocol.AuditOK
	}
	var told *protocol.Error
	if errors.As(err, &told) && (told.Code == protocol.CodeRefused || told.Code == protocol.CodeDisabled) {
		return protocol.AuditRefused
	}
	return protocol.AuditError
}
