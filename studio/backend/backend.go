// Package backend holds the procedures that devices and people call, and knows
// who is there.
//
//	devices ── reswarm.… (wire §6) ──►  Backend ──► store
//	people  ── re.studio.…         ──►     │
//	devices ◄─ request_app_state ──────────┘
//
// It is written against a WAMP session, not against a router: the embedded one, a
// Crossbar.io, or any other that discloses callers. Several backends on one
// router may share the procedures and one store.
//
// Promises:
//   - Who calls is what the router says, never what the arguments claim.
//   - What was answered is on the disk (but see store for what devices say all
//     the time). An argument of the wrong shape changes nothing.
//   - A wish that its device did not take is delivered when the device asks for
//     its list, or says that it is connected, whichever comes first. Wishes of one
//     app on one device are delivered in their order.
//   - Events about a device reach only those who may READ it.
//
// A Backend may be used from any goroutine.
package backend

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/protocol"
	"reagent/studio/store"
)

// A Session is the connection to the router. Errors of a procedure that was
// called are *CallError.
type Session interface {
	Call(ctx context.Context, uri string, args []any, kwargs map[string]any) ([]any, error)
	Publish(ctx context.Context, topic string, options map[string]any, args []any) error
}

// A CallError is an error that a procedure answered.
type CallError struct{ URI, Text string }

func (e *CallError) Error() string {
	if e.Text == "" {
		return e.URI
	}
	return e.Text
}

// A Request is one call of a procedure.
type Request struct {
	Args      []any
	Kwargs    map[string]any
	Disclosed bool   // the router says who calls
	AuthID    string // who
	Role      string
}

// A Reply is the answer; Error is an error's URI, "" for a result.
type Reply struct {
	Args  []any
	Error string
}

// A Procedure answers calls. It never panics.
type Procedure func(ctx context.Context, r Request) Reply

// A Topic is told the arguments of events, one at a time.
type Topic func(ctx context.Context, args []any)

// Images is the image registry: it hands out logins, knows what was pushed, and
// removes what nobody refers to.
type Images interface {
	PullToken(account uint64, device string) string
	PushLogin(account, appKey uint64) (username, password string)
	// Has tells whether an image is there; it stays there for some hours, so
	// that it can be entered as a release's.
	Has(ctx context.Context, repository, tag string) (bool, error)
	Collect(ctx context.Context) (protocol.GarbageCollected, error)
}

// Address says where the studio is reached from outside.
type Address struct {
	URL string // http(s)://host:port, without a path
	CA  string // PEM that its certificate is verified with; "" = the system's roots
}

// Config says what a Backend stands on. Store, Session and Images are needed.
type Config struct {
	Store   *store.Store
	Session Session
	Images  Images
	Address Address
	// DeviceRoles and UserRoles are the roles that devices and people have on
	// the router; default "device" and "user".
	DeviceRoles []string
	UserRoles   []string
	// Revoked is told that somebody lost a right, after it was written.
	Revoked func()

	DeliverLimit   time.Duration // how long a device may take for a wish; default 10 s
	ReconcileEvery time.Duration // how often the router is asked who is there; default 5 min
	CollectPause   time.Duration // how often run_gc collects, whoever calls it; default 5 min

	Log zerolog.Logger
}

// A Backend answers. Make one with [New].
type Backend struct {
	cfg   Config
	store *store.Store
	log   zerolog.Logger
	kick  chan uint64 // devices with wishes to deliver

	garbage garbage

	mu          sync.Mutex // guards what follows
	delivering  map[uint64]*turn
	undelivered map[uint64]map[protocol.AppID]time.Time
}

// New makes a backend.
func New(cfg Config) *Backend {
	if cfg.DeviceRoles == nil {
		cfg.DeviceRoles = []string{protocol.RoleDevice}
	}
	if cfg.UserRoles == nil {
		cfg.UserRoles = []string{protocol.RoleUser}
	}
	if cfg.Revoked == nil {
		cfg.Revoked = func() {}
	}
	if cfg.DeliverLimit == 0 {
		cfg.DeliverLimit = 10 * time.Second
	}
	if cfg.CollectPause == 0 {
		cfg.CollectPause = 5 * time.Minute
	}
	if cfg.ReconcileEvery == 0 {
		cfg.ReconcileEvery = 5 * time.Minute
	}
	return &Backend{
		cfg: cfg, store: cfg.Store, log: cfg.Log,
		kick: make(chan uint64, 1024), delivering: map[uint64]*turn{}, undelivered: map[uint64]map[protocol.AppID]time.Time{},
	}
}

// Run delivers wishes that could not be delivered at once and looks after who is
// there, until ctx ends.
func (b *Backend) Run(ctx context.Context) error {
	const atOnce = 16
	var (
		work   sync.WaitGroup
		places = make(chan struct{}, atOnce)
		look   = time.NewTicker(b.cfg.ReconcileEvery)
	)
	defer work.Wait()
	defer look.Stop()
	for {
		select {
		case device := <-b.kick:
			select {
			case places <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			work.Go(func() {
				defer func() { <-places }()
				b.deliverAll(ctx, device)
			})
		case <-look.C:
			if err := b.Online(ctx); err != nil && ctx.Err() == nil {
				b.log.Warn().Err(err).Msg("router does not say who is there")
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Procedures are what the session registers, by URI.
func (b *Backend) Procedures() map[string]Procedure {
	all := map[string]Procedure{}
	for _, p := range b.deviceProcedures() {
		all[p.uri] = b.guard(p.uri, contractError, func(ctx context.Context, r Request) ([]any, error) {
			d, err := b.callingDevice(r)
			if err != nil {
				return nil, err
			}
			return p.answer(ctx, d, r.Args)
		})
	}
	all[protocol.RunRegistryGC] = b.guard(protocol.RunRegistryGC, contractError, b.runGC)
	for _, p := range b.userProcedures() {
		all[p.uri] = b.guard(p.uri, ownError, func(ctx context.Context, r Request) ([]any, error) {
			c, err := b.caller(r)
			if err != nil {
				return nil, err
			}
			if p.administrator && !c.administrator() {
				return nil, refused("only the administrator of this studio may do that")
			}
			answer, err := p.answer(ctx, c, protocol.Arg(r.Args, 0))
			if err != nil {
				return nil, err
			}
			return []any{protocol.Wire(answer)}, nil
		})
	}
	return all
}

// guard is what every procedure goes through: panics, errors, the log line.
func (b *Backend) guard(uri string, errorURI func(protocol.Code) string, f func(context.Context, Request) ([]any, error)) Procedure {
	return func(ctx context.Context, r Request) (reply Reply) {
		began := time.Now()
		defer func() {
			if p := recover(); p != nil {
				b.log.Error().Str("procedure", uri).Str("caller", r.AuthID).Interface("panic", p).Bytes("stack", debug.Stack()).Msg("procedure panicked")
				reply = failure(errorURI, &protocol.Error{Code: protocol.CodeInternal, Text: "internal error; the studio's log says more"})
			}
		}()
		args, err := f(ctx, r)
		event := b.log.Debug()
		var known *protocol.Error
		switch {
		case err == nil:
			reply = Reply{Args: args}
		case errors.As(err, &known):
			reply = failure(errorURI, known)
		default:
			event = b.log.Error()
			reply = failure(errorURI, &protocol.Error{Code: protocol.CodeInternal, Text: "internal error; the studio's log says more"})
		}
		event.Err(err).Str("procedure", uri).Str("caller", r.AuthID).Dur("took", time.Since(began)).Msg("call")
		return reply
	}
}

func contractError(protocol.Code) string  { return protocol.ErrorContract }
func ownError(code protocol.Code) string  { return protocol.ErrorPrefix + string(code) }
func refused(f string, args ...any) error { return fault(protocol.CodeRefused, f, args...) }
func invalid(f string, args ...any) error { return fault(protocol.CodeInvalid, f, args...) }
func notThere(kind, ref string) error {
	return fault(protocol.CodeNotFound, "there is no %s %q", kind, ref)
}
func conflicts(f string, args ...any) error { return fault(protocol.CodeConflict, f, args...) }

func fault(code protocol.Code, f string, args ...any) error {
	return &protocol.Error{Code: code, Text: fmt.Sprintf(f, args...)}
}

func failure(uri func(protocol.Code) string, e *protocol.Error) Reply {
	return Reply{Error: uri(e.Code), Args: []any{map[string]any{"error": e.Text, "code": string(e.Code)}}}
}

// callingDevice is the device that calls.
func (b *Backend) callingDevice(r Request) (store.Device, error) {
	if !r.Disclosed || !slices.Contains(b.cfg.DeviceRoles, r.Role) {
		return store.Device{}, refused("only a device may call this")
	}
	d, ok := b.store.DeviceByAuthID(r.AuthID)
	if !ok {
		return d, refused("this studio has no such device")
	}
	return d, nil
}

// A caller is a person, or the studio itself.
type caller struct {
	account store.Account
	system  bool
}

func (c caller) administrator() bool { return c.system || c.account.Administrator() }

func (b *Backend) caller(r Request) (caller, error) {
	switch {
	case !r.Disclosed:
		return caller{}, refused("the router does not say who calls")
	case r.Role == protocol.RoleSystem:
		admin, err := b.store.Account(fmt.Sprint(protocol.AccountAdministrator))
		return caller{admin, true}, err
	case slices.Contains(b.cfg.UserRoles, r.Role):
		key, ok := protocol.Uint(r.AuthID)
		a, err := b.store.Account(r.AuthID)
		if !ok || err != nil || a.Key != key {
			return caller{}, refused("this studio has no such user")
		}
		return caller{account: a}, nil
	}
	return caller{}, refused("only a user of this studio may call this")
}

// device finds a device that the caller may do something with. One that he has
// no right on is not there for him.
func (b *Backend) device(c caller, ref string, privileges ...protocol.Privilege) (store.Device, error) {
	d, err := b.store.Device(ref)
	switch {
	case err != nil:
		return d, err
	case c.system:
		return d, nil
	case !b.store.May(c.account.Key, d.Key):
		return d, notThere("device", ref)
	case !b.store.May(c.account.Key, d.Key, privileges...):
		return d, refused("you need %s on the device %q: ask the administrator to grant it", privileges[0], d.Name)
	}
	return d, nil
}

// typed makes an answer from a function that takes a struct.
func typed[In, Out any](f func(context.Context, caller, In) (Out, error)) func(context.Context, caller, any) (any, error) {
	return func(ctx context.Context, c caller, arg any) (any, error) {
		var in In
		if arg != nil {
			d, ok := protocol.AsDict(arg)
			if !ok {
				return nil, invalid("the first argument is not an object")
			}
			if err := protocol.Decode(d, &in); err != nil {
				return nil, err
			}
		}
		return f(ctx, c, in)
	}
}

// A userProcedure is one row of the table.
type userProcedure struct {
	uri           string
	administrator bool // only he
	answer        func(context.Context, caller, any) (any, error)
}

func (b *Backend) userProcedures() []userProcedure {
	return []userProcedure{
		{protocol.StudioReadAccount, false, typed(b.readAccount)},
		{protocol.StudioAddUser, true, typed(b.addUser)},
		{protocol.StudioListUsers, true, typed(b.listUsers)},
		{protocol.StudioRemoveUser, true, typed(b.removeUser)},
		{protocol.StudioGrantPrivilege, true, typed(b.grant)},
		{protocol.StudioRevokePrivilege, true, typed(b.revoke)},
		{protocol.StudioAddDevice, true, typed(b.addDevice)},
		{protocol.StudioListDevices, false, typed(b.listDevices)},
		{protocol.StudioRemoveDevice, true, typed(b.removeDevice)},
		{protocol.StudioCreateApp, false, typed(b.createApp)},
		{protocol.StudioListApps, false, typed(b.listApps)},
		{protocol.StudioCreateRegistryToken, false, typed(b.registryLogin)},
		{protocol.StudioCreateRelease, false, typed(b.createRelease)},
		{protocol.StudioDeployApp, false, typed(b.deploy)},
		{protocol.StudioStopApp, false, typed(b.stop)},
		{protocol.StudioRemoveApp, false, typed(b.remove)},
		{protocol.StudioListStates, false, typed(b.listStates)},
		{protocol.StudioSetAppEnvironment, false, typed(b.setEnvironment)},
		{protocol.StudioSetAppPorts, false, typed(b.setPorts)},
		{protocol.StudioDevelopApp, false, typed(b.develop)},
		{protocol.StudioPublishApp, false, typed(b.publishVersion)},
		{protocol.StudioDeleteRelease, false, typed(b.deleteRelease)},
		{protocol.StudioDeleteApp, false, typed(b.deleteApp)},
		{protocol.StudioCollectGarbage, true, typed(b.collectGarbage)},
	}
}

// nothing is the argument of procedures that need none.
type nothing struct{}
