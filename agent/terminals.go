package agent

import (
	"context"
	"strings"

	"reagent/agent/terminal"
	"reagent/protocol"
)

// terminals has the shells of the device and its containers; terminal.Manager is
// one.
type terminals interface {
	Device(ctx context.Context, by terminal.Caller) (protocol.TerminalSession, error)
	Container(ctx context.Context, by terminal.Caller, name string) (protocol.TerminalSession, error)
	Start(ctx context.Context, by terminal.Caller, id string) error
	Stop(by terminal.Caller, id string) error
}

// toStartATerminal is how the contract ends the denial of all that is about
// terminals.
const toStartATerminal = denied + " to start a terminal session"

// offerResize offers the procedure by which a terminal is told its size. Its
// callers are admitted as those of the table are.
func offerResize(session declarer, d *dispatcher) func(terminal.Resize) (withdraw func()) {
	return func(r terminal.Resize) func() {
		needs := terminalNeeds(r.Device)
		return session.Declare(r.URI, registerOptions(), d.handler(procedure{
			name:  strings.TrimPrefix(r.URI, protocol.Procedure(d.serial, "")),
			needs: needs, denial: toStartATerminal, deed: shell,
			handle: func(ctx context.Context, c Call) (Result, error) {
				return Result{}, r.Handle(ctx, holder(c), c.Args)
			},
		}))
	}
}

// terminalNeeds is the privilege that a shell takes.
func terminalNeeds(device bool) protocol.Privilege {
	if device {
		return protocol.Maintain
	}
	return protocol.Develop
}

// mayHave asks the studio whether somebody who has a shell may still have it.
func mayHave(d *dispatcher) func(ctx context.Context, by terminal.Caller, device bool) (bool, error) {
	return func(ctx context.Context, by terminal.Caller, device bool) (bool, error) {
		account := by.Account
		if account == 0 && !protocol.IsSystem(by.AuthID, by.Role) {
			account, _ = protocol.Uint(by.AuthID)
		}
		if account == 0 {
			return true, nil // the system for itself: nobody else was let in
		}
		swarm, key := d.device()
		return d.may(ctx, protocol.PrivilegeQuestion{
			Privilege: terminalNeeds(device), Entity: "DEVICE", EntityKey: key, RequestorAccountKey: account, SwarmKey: swarm,
		})
	}
}

// holder is who calls, for the ownership of terminals: the user for whom the
// system calls, else the caller itself (wire Appendix A).
func holder(c Call) terminal.Caller {
	by := terminal.Caller{AuthID: c.Caller.AuthID, Role: c.Caller.Role}
	if protocol.IsSystem(by.AuthID, by.Role) {
		by.Account = c.Caller.Account
	}
	return by
}

// noteShells writes the begin and the end of each shell down.
func noteShells(audit auditor) func(terminal.Notice) {
	return func(n terminal.Notice) {
		e := protocol.AuditEntry{
			AuthID: n.By.AuthID, AuthRole: n.By.Role, Procedure: protocol.InitDeviceTerminal, Target: n.Container,
			Result: protocol.AuditStarted, SessionID: n.Session, Args: map[string]any{},
		}
		if n.By.Account != 0 {
			e.ForAccount = &n.By.Account
		}
		if n.Container != "" {
			e.Procedure = protocol.RequestTerminal
		}
		if n.Ended {
			e.Result, e.DurationMS, e.Args["why"] = protocol.AuditEnded, uint64(n.Lasted.Milliseconds()), n.Why
		}
		audit.Record(e, !n.Ended)
	}
}
