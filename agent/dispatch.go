package agent

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/messenger"
	"reagent/protocol"
)

// A dispatcher stands between the router and the procedures: who calls, may
// they, what is answered when it fails, the audit and the log line. No handler can
// forget any of it.
type dispatcher struct {
	serial string
	log    zerolog.Logger
	device func() (swarmKey, deviceKey uint64)
	// may asks the studio whether a user has a privilege on this device.
	may   func(ctx context.Context, q protocol.PrivilegeQuestion) (bool, error)
	limit time.Duration // of that question; 0 = the contract's 10 s
	audit auditor
}

func (d *dispatcher) handler(p procedure) messenger.Handler {
	return func(ctx context.Context, inv messenger.Invocation) messenger.Outcome {
		begun := time.Now()
		result, account, err := d.perform(ctx, p, inv)
		took := time.Since(begun)
		d.note(p, inv, account, err, took)
		callLine(d.log, p, inv, account, err).Dur("took", took).Msg("called")
		if err != nil {
			return failure(ctx, p, err)
		}
		return messenger.Outcome{Args: result.Args, Kwargs: result.Kwargs, Sent: result.Sent}
	}
}

// perform answers a call, or says why not. A procedure that panics is a
// procedure that failed (design S2).
func (d *dispatcher) perform(ctx context.Context, p procedure, inv messenger.Invocation) (result Result, account uint64, err error) {
	defer func() {
		if v := recover(); v != nil {
			d.log.Error().Str("procedure", protocol.Loggable(p.name)).Str("panic", fmt.Sprint(v)).Bytes("stack", debug.Stack()).Msg("procedure panicked")
			result, err = Result{}, &protocol.Error{Code: protocol.CodeInternal, Text: "internal error"}
		}
	}()
	account, err = d.admit(ctx, p, inv)
	if err != nil {
		return Result{}, account, err
	}
	result, err = p.handle(ctx, Call{
		Args: inv.Args, Kwargs: inv.Kwargs, Progress: inv.Progress,
		Caller: Caller{AuthID: inv.Caller, Role: inv.CallerRole, Account: account},
		Begins: func() { d.announce(p, inv, account) },
	})
	return result, account, err
}

// admit decides whether a call is allowed, and for which account it is made
// (wire §5.1, Appendix A, design S14).
func (d *dispatcher) admit(ctx context.Context, p procedure, inv messenger.Invocation) (account uint64, err error) {
	if p.needs == anybody {
		return 0, nil
	}
	if !inv.Disclosed {
		return 0, refusal(p, "the router does not tell who calls")
	}
	system := protocol.IsSystem(inv.Caller, inv.CallerRole)
	switch {
	case !system && p.needs == onlySystem:
		return 0, refusal(p, "")
	case !system:
		n, ok := protocol.Uint(inv.Caller)
		if !ok || n == 0 {
			return 0, refusal(p, fmt.Sprintf("the caller %q is no account", clip(inv.Caller)))
		}
		account = n
	case p.itself:
		return 0, nil
	default:
		v, acting := actsFor(inv)
		if !acting {
			return 0, nil
		}
		n, ok := protocol.Uint(v)
		if !ok || n == 0 {
			return 0, refusal(p, "requestor_account_key is no account")
		}
		if account = n; p.needs == onlySystem {
			return account, refusal(p, "")
		}
	}
	return account, d.ask(ctx, p, p.privilege(inv.Args), account)
}

// actsFor finds the account for which the system says that it calls, present or
// not: in the keyword arguments, else in the first argument.
func actsFor(inv messenger.Invocation) (v any, acting bool) {
	const key = "requestor_account_key"
	if v, acting = inv.Kwargs[key]; acting {
		return v, true
	}
	d, _ := protocol.AsDict(protocol.Arg(inv.Args, 0))
	v, acting = d[key]
	return v, acting
}

// ask asks the studio. Nothing is cached: a right that is withdrawn is gone at
// once. No answer is a no.
func (d *dispatcher) ask(ctx context.Context, p procedure, needs protocol.Privilege, account uint64) error {
	limit := d.limit
	if limit == 0 {
		limit = 10 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	swarm, device := d.device()
	yes, err := d.may(ctx, protocol.PrivilegeQuestion{
		Privilege: needs, Entity: "DEVICE", EntityKey: device, RequestorAccountKey: account, SwarmKey: swarm,
	})
	switch {
	case err != nil && p.unverified != "":
		return &protocol.Error{Code: protocol.CodeRefused, Text: p.unverified + ": " + err.Error()}
	case err != nil:
		return refusal(p, err.Error())
	case !yes:
		return refusal(p, "")
	}
	return nil
}

func refusal(p procedure, why string) error {
	text := p.denial
	if why != "" {
		text += ": " + why
	}
	return &protocol.Error{Code: protocol.CodeRefused, Text: text}
}

// codes says what programs are told of an error. The first that fits counts.
var codes = []struct {
	is   error
	code protocol.Code
}{
	{container.ErrNotFound, protocol.CodeNotFound},
	{container.ErrConflict, protocol.CodeConflict},
	{container.ErrInUse, protocol.CodeConflict},
	{container.ErrTimeout, protocol.CodeTimeout},
	{container.ErrUnavailable, protocol.CodeUnavailable},
	{container.ErrUnauthorized, protocol.CodeUnauthorized},
	{messenger.ErrOffline, protocol.CodeUnavailable},
	{messenger.ErrTooLarge, protocol.CodeTooLarge},
	{context.DeadlineExceeded, protocol.CodeTimeout},
}

func codeOf(err error) protocol.Code {
	var told *protocol.Error
	if errors.As(err, &told) {
		return told.Code
	}
	for _, c := range codes {
		if errors.Is(err, c.is) {
			return c.code
		}
	}
	return protocol.CodeInternal
}

// failure is an error as it is answered (design S13): the contract's procedures
// know one URI, ours one for each code. A call that was cancelled gets WAMP's own
// and no arguments.
func failure(ctx context.Context, p procedure, err error) messenger.Outcome {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return messenger.Outcome{Error: protocol.ErrorContract}
	}
	code, uri := codeOf(err), protocol.ErrorContract
	if p.ours {
		uri = protocol.ErrorPrefix + string(code)
	}
	return messenger.Outcome{
		Error: uri,
		Args:  []any{map[string]any{"error": err.Error(), "code": string(code)}},
	}
}

// clip keeps a stranger's text from filling the log.
func clip(text string) string {
	const most = 100
	if len(text) > most {
		return text[:most] + "…"
	}
	return text
}
