package agent

import (
	"context"
	"errors"
	"reflect"

	"github.com/rs/zerolog"

	"reagent/messenger"
	"reagent/protocol"
)

// A procedure is one row of the table: what somebody may call on this device,
// and the privilege that it takes.
type procedure struct {
	name  string // suffix of its URI
	needs protocol.Privilege
	// unless names the arguments with which it takes another privilege.
	unless exception
	// denial is the text that a caller without the privilege gets.
	denial string
	// unverified stands before the reason why nobody could tell whether the caller
	// has the privilege; "" = the denial does.
	unverified string
	handle     handler
	// ours: the contract does not have it, and it answers errors in our own form
	// (design S13).
	ours bool
	// itself: requestor_account_key is an argument of its own, and does not say
	// for whom the system calls.
	itself bool
	// deed says how it is written down; nil = it only reads.
	deed *deed
}

// An exception is the privilege that a call takes instead where its first
// argument has a text of that name. What the procedure reads it must read alike:
// an absent, an empty and a malformed one do not count.
type exception struct {
	key   string
	needs protocol.Privilege
}

// inContainer is for what is done inside an app, and so to nothing but it.
var inContainer = exception{"container_name", protocol.Develop}

// privilege is what a call with these arguments takes.
func (p procedure) privilege(args []any) protocol.Privilege {
	if p.unless.key != "" {
		d, _ := protocol.AsDict(protocol.Arg(args, 0))
		if text, _ := protocol.Text(d[p.unless.key]); text != "" {
			return p.unless.needs
		}
	}
	return p.needs
}

// What a procedure may need besides the privileges that users are granted.
const (
	// anybody: not even a caller that the router discloses.
	anybody protocol.Privilege = ""
	// onlySystem: the studio's backend, for no user at all.
	onlySystem protocol.Privilege = "system"
)

// Texts of the contract.
const (
	denied     = "insufficient privileges"
	unverified = "could not verify privileges"
)

// deps is what the procedures stand on: each takes the one small interface that
// it needs.
type deps struct {
	serial     string
	about      about
	apps       appRequester
	uploads    uploader
	ports      portChecker
	containers containerLister
	images     imageLister
	prune      imagePruner
	past       logHistory
	appLogs    logQuerier
	follow     logFollower
	ownLog     ownLogQuerier
	machine    machineStats
	addresses  addressLister
	audit      auditQuerier
	terminals  terminals
	commands   commandRunner
	programs   programExecutor
}

// procedures is the table (wire §5.2 with the gates of its Appendix A, design
// D13). Whoever adds one adds a row here, its file proc_<name>.go, and its name
// and arguments in protocol.
func procedures(d deps) []procedure {
	return []procedure{
		{name: protocol.ConnectionEstablished, needs: anybody, handle: connectionEstablished},
		{name: protocol.DeviceHandshake, needs: onlySystem, denial: denied, handle: deviceHandshake(d.serial)},
		{name: protocol.RequestAppState, needs: onlySystem, denial: denied, handle: requestAppState(d.apps), itself: true, deed: wish},
		{name: protocol.WriteData, needs: protocol.Develop, denial: denied + " write data to device", handle: writeData(d.uploads), deed: upload},
		{name: protocol.CheckHostPort, needs: onlySystem, denial: denied, handle: typed(checkHostPort(d.ports))},
		{name: protocol.ListContainers, needs: protocol.Read, denial: denied + " to list containers", handle: typed(listContainers(d.containers))},
		{name: protocol.GetImages, needs: protocol.Read, denial: denied + " to read docker images", handle: getImages(d.images)},
		{name: protocol.PruneImages, needs: protocol.Maintain, denial: denied + " to prune images", handle: pruneImages(d.prune), deed: pruning},
		{name: protocol.GetAppLogHistory, needs: protocol.Read, denial: denied + " to get app log history", handle: typed(getAppLogHistory(d.past))},
		{name: protocol.QueryAppLogs, needs: protocol.Read, denial: denied + " to query app logs", unverified: unverified, handle: typed(queryAppLogs(d.appLogs))},
		{name: protocol.FollowAppLogs, needs: protocol.Read, denial: denied + " to follow app logs", handle: followAppLogs(d.follow), ours: true},
		{name: protocol.QueryDeviceLogs, needs: protocol.Read, denial: denied + " to query device logs", unverified: unverified, handle: typed(queryDeviceLogs(d.ownLog))},
		{name: protocol.InitDeviceTerminal, needs: protocol.Maintain, denial: toStartATerminal, handle: initDeviceTerminal(d.terminals), deed: shell},
		{name: protocol.RequestTerminal, needs: protocol.Develop, denial: toStartATerminal, handle: requestTerminalSession(d.terminals), deed: containerShell},
		{name: protocol.StartTerminal, needs: protocol.Develop, denial: toStartATerminal, handle: startTerminalSession(d.terminals), deed: ofSession},
		{name: protocol.StopTerminal, needs: protocol.Develop, denial: toStartATerminal, handle: stopTerminalSession(d.terminals), deed: endOfSession},
		{name: protocol.ExecuteCmd, needs: protocol.Maintain, denial: denied + " to execute commands", handle: executeCmd(d.programs), deed: execution},
		{name: protocol.RunCommand, needs: protocol.Maintain, unless: inContainer, denial: denied + " to run commands", handle: runCommand(d.commands), ours: true, deed: command},
		{name: protocol.StopCommand, needs: protocol.Maintain, unless: inContainer, denial: denied + " to stop commands", handle: typed(stopCommand(d.commands)), ours: true, deed: stopping},
		{name: protocol.GetAgentMetadata, needs: protocol.Read, denial: denied + " to get agent metadata", handle: typed(getAgentMetadata(d.about))},
		{name: protocol.GetStorageData, needs: protocol.Read, denial: denied + " to get storage data", handle: typed(getStorageData(d.machine))},
		{name: protocol.GetNetworkMetadata, needs: protocol.Read, denial: denied + " to get network metadata", handle: getNetworkMetadata(d.addresses)},
		{name: protocol.GetIPv4Addresses, needs: protocol.Read, denial: denied + " to get ipv4 addresses", handle: typed(getIPv4Addresses(d.addresses))},
		{name: protocol.QueryAudit, needs: protocol.Maintain, denial: denied + " to query the audit log", handle: typed(queryAudit(d.audit)), ours: true},
	}
}

// A Call is one call of a procedure by somebody who may.
type Call struct {
	Args     []any
	Kwargs   map[string]any
	Caller   Caller
	Progress func(ctx context.Context, args ...any) error // nil where the caller wants none
	Begins   func()                                       // whoever does an announced deed calls it before that
}

// A Caller is who calls.
type Caller struct {
	AuthID  string // "" = undisclosed
	Role    string
	Account uint64 // the user for whom the call is made; 0 = the system itself, or nobody
}

// Result is the answer of a procedure.
type Result struct {
	Args   []any
	Kwargs map[string]any
	Sent   func() // where it is not nil: called once the answer takes no memory any more
}

// A handler performs a procedure. Its ctx ends when the caller cancels, or with
// the connection: what has to outlive the call gets a context from elsewhere.
type handler func(ctx context.Context, c Call) (Result, error)

// nothing is the argument, or the answer, of a procedure that has none.
type nothing struct{}

// typed makes a handler of the common case: one object in, one value out.
func typed[In, Out any](f func(context.Context, In) (Out, error)) handler {
	return func(ctx context.Context, c Call) (Result, error) {
		var in In
		if err := argument(c.Args, &in); err != nil {
			return Result{}, err
		}
		out, err := f(ctx, in)
		if _, none := any(out).(nothing); none || err != nil {
			return Result{}, err
		}
		value, err := protocol.WireValue(out)
		return Result{Args: []any{value}}, err
	}
}

// argument reads args[0], which has to be an object, into in: by its own way
// where it has one (for the sake of the contract's texts), else by its json tags.
// One that is Optional may be missing, which is as good as an empty one.
func argument(args []any, in any) error {
	if _, none := in.(*nothing); none {
		return nil
	}
	_, optional := in.(interface{ Optional() })
	if len(args) == 0 && !optional {
		return &protocol.Error{Code: protocol.CodeInvalid, Text: "arguments are missing"}
	}
	d, ok := protocol.AsDict(protocol.Arg(args, 0))
	if absent := protocol.Arg(args, 0) == nil; !ok && !(absent && optional) {
		return &protocol.Error{Code: protocol.CodeInvalid, Text: "first param should be a dict"}
	}
	if own, ok := in.(interface{ ReadDict(map[string]any) error }); ok {
		return own.ReadDict(d)
	}
	return protocol.Decode(d, in)
}

// positional makes an answer of which each element is an argument of its own.
func positional(list any) (Result, error) {
	v := reflect.ValueOf(list)
	args := make([]any, v.Len())
	for i := range args {
		value, err := protocol.WireValue(v.Index(i).Interface())
		if err != nil {
			return Result{}, err
		}
		args[i] = value
	}
	return Result{Args: args}, nil
}

// A declarer takes procedures to the router; messenger.Session is one.
type declarer interface {
	Declare(uri string, options map[string]any, h messenger.Handler) (withdraw func())
}

// declare offers the whole table but the probe for duplicates, which it returns:
// the greeting registers that one by itself, for its refusal has a meaning.
func declare(session declarer, d *dispatcher, table []procedure) (probe messenger.Handler) {
	for _, p := range table {
		if p.name == protocol.ConnectionEstablished {
			probe = d.handler(p)
			continue
		}
		session.Declare(protocol.Procedure(d.serial, p.name), registerOptions(), d.handler(p))
	}
	return probe
}

// registerOptions are the contract's (wire §4); routers that do not know it
// ignore it.
func registerOptions() map[string]any { return map[string]any{"force_reregister": true} }

// callLine is the one log line of a call.
func callLine(log zerolog.Logger, p procedure, inv messenger.Invocation, account uint64, err error) *zerolog.Event {
	line := log.Debug()
	if err != nil && !errors.Is(err, context.Canceled) { // a caller who goes away is no news
		line = log.Info()
	}
	if !line.Enabled() {
		return line
	}
	if err != nil {
		line.Str(zerolog.ErrorFieldName, protocol.Loggable(err.Error()))
	}
	line.Str("procedure", protocol.Loggable(p.name)).Str("caller", clip(inv.Caller)).Str("role", clip(inv.CallerRole))
	if account != 0 {
		line.Uint64("account", account)
	}
	return line
}
