package router

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	nexus "github.com/gammazero/nexus/v3/router"
	"github.com/gammazero/nexus/v3/router/auth"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/rs/zerolog"

	"reagent/protocol"
)

// A Principal is who a session belongs to. Two that are equal have the same
// rights.
type Principal struct {
	Role    string // of protocol.Role…
	Secret  string
	Serial  string // of a device, or of the device that an app runs on
	Account uint64 // of a user
	// Revision changes whenever a right is taken away, so that sessions which
	// still live on it end.
	Revision uint64
}

// A Directory knows the principals and their rights. Its methods are called from
// many goroutines and should be quick.
type Directory interface {
	// Principal finds who may join a realm under an authid.
	Principal(realm, authid string) (Principal, bool)
	// Refused is told that a known principal's login was refused.
	Refused(realm, authid, reason string)
	// May reports whether an account has one of these privileges on the device
	// with this serial number; with none given, any privilege.
	May(account uint64, serial string, privileges ...protocol.Privilege) bool
}

// Config sets limits; a zero value stands for the product's.
type Config struct {
	MaxHello   int64 // longest message before WELCOME; default 64 KiB
	MaxMessage int64 // longest message after it; default 16 MiB
	MaxForward int64 // longest message that is sent on, as encoded for the receiver; default 64 MiB
	MaxBacklog int64 // bytes that wait for one session before events are dropped; default 16 MiB

	LoginTimeout  time.Duration // from the connection to the right answer; default 10 s
	PingInterval  time.Duration // keepalive; a session that misses two is closed; default 5 s
	WriteTimeout  time.Duration // a write that makes no progress for so long ends the session; default 10 s
	CloseTimeout  time.Duration // how long the end of a session waits to be told to the client; default 1 s
	GhostPatience time.Duration // how long a device's old session may take to show that it lives; default 2 s

	MaxLogins    int // connections that are logging in at once; default 1024
	MaxAppRealms int // default 1024
	MaxPending   int // calls, registrations and subscriptions of one session, each; default 4096

	Log zerolog.Logger
}

func (cfg Config) withDefaults() Config {
	for field, def := range map[*int64]int64{
		&cfg.MaxHello: 64 << 10, &cfg.MaxMessage: 16 << 20, &cfg.MaxForward: 64 << 20, &cfg.MaxBacklog: 16 << 20,
	} {
		if *field == 0 {
			*field = def
		}
	}
	for field, def := range map[*time.Duration]time.Duration{
		&cfg.LoginTimeout: 10 * time.Second, &cfg.PingInterval: 5 * time.Second, &cfg.WriteTimeout: 10 * time.Second,
		&cfg.CloseTimeout: time.Second, &cfg.GhostPatience: 2 * time.Second,
	} {
		if *field == 0 {
			*field = def
		}
	}
	for field, def := range map[*int]int{&cfg.MaxLogins: 1024, &cfg.MaxAppRealms: 1024, &cfg.MaxPending: 4096} {
		if *field == 0 {
			*field = def
		}
	}
	return cfg
}

// metaCalls is how many calls of the router's own procedures are let into a
// realm at once: nexus queues 64 and answers the others with a failure, which a
// fleet that comes back at the same time would run into.
const metaCalls = 32

// A Router routes. Make one with [New] and end it with [Router.Close].
type Router struct {
	cfg       Config
	directory Directory
	nexus     nexus.Router
	logins    chan struct{} // a place for each connection that is logging in
	meta      chan struct{} // a place for each call of the router's own procedures
	work      sync.WaitGroup
	ctx       context.Context // ends with Close
	cancel    context.CancelFunc

	// attach is held for reading while nexus is asked to do something, and for
	// writing to end it: nexus panics when it is asked afterwards.
	attach sync.RWMutex
	closed bool

	mu     sync.Mutex // guards what follows
	realms map[string]int
	live   map[*peer]struct{}
}

// New starts a router with the realm of the devices.
func New(cfg Config, directory Directory) (*Router, error) {
	r := &Router{
		cfg: cfg.withDefaults(), directory: directory,
		realms: map[string]int{}, live: map[*peer]struct{}{},
	}
	r.logins = make(chan struct{}, r.cfg.MaxLogins)
	r.meta = make(chan struct{}, metaCalls)
	r.ctx, r.cancel = context.WithCancel(context.Background()) // ends with Close
	var err error
	r.nexus, err = nexus.NewRouter(&nexus.Config{RealmConfigs: []*nexus.RealmConfig{realmConfig(protocol.RealmDevices)}}, libraryLog{cfg.Log})
	if err != nil {
		return nil, fmt.Errorf("start the router: %w", err)
	}
	return r, nil
}

func realmConfig(name string) *nexus.RealmConfig {
	return &nexus.RealmConfig{
		URI: wamp.URI(name), AllowDisclose: true, MetaStrict: true, EnableMetaKill: true,
		Authenticators: []auth.Authenticator{admitted{}},
	}
}

// admitted is nexus' authenticator: whoever gets as far as nexus has proved who
// he is.
type admitted struct{}

const methodCRA = "wampcra"

func (admitted) AuthMethod() string { return methodCRA }

func (admitted) Authenticate(sid wamp.ID, _ wamp.Dict, client wamp.Peer) (*wamp.Welcome, error) {
	p, ok := client.(*peer)
	if !ok {
		return nil, errors.New("not a session of this router")
	}
	p.gate.id = sid
	return &wamp.Welcome{Details: wamp.Dict{
		"realm": p.gate.realm, "authid": p.gate.authid, "authrole": p.gate.who.Role, "authprovider": authProvider,
	}}, nil
}

const authProvider = "reagent-studio"

// ServeHTTP upgrades a request to a WebSocket and serves its session until that
// ends.
func (r *Router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	select {
	case r.logins <- struct{}{}:
	default:
		w.Header().Set("Retry-After", "5")
		http.Error(w, "too many clients log in at once; try again", http.StatusServiceUnavailable)
		return
	}
	if !r.enter() {
		<-r.logins
		http.Error(w, "the studio is closing", http.StatusServiceUnavailable)
		return
	}
	defer r.work.Done()
	wire, err := upgrade(w, req, r.cfg)
	if err != nil {
		<-r.logins
		r.cfg.Log.Debug().Err(err).Str("remote", req.RemoteAddr).Msg("no WebSocket")
		return
	}
	stop := context.AfterFunc(r.ctx, wire.close)
	hello, l, err := r.login(wire)
	stop()
	<-r.logins
	if err != nil {
		wire.close()
		r.cfg.Log.Info().Err(err).Str("remote", req.RemoteAddr).Msg("login refused")
		return
	}
	wire.welcome()
	r.session(wire, l, hello)
}

// enter counts one more piece of work, unless the router is closing.
func (r *Router) enter() bool {
	r.attach.RLock()
	defer r.attach.RUnlock()
	if r.closed {
		return false
	}
	r.work.Add(1)
	return true
}

// Local joins a realm from within this process, without a secret. The peer is
// for one WAMP client.
func (r *Router) Local(realm, authid, role string) (wamp.Peer, error) {
	if !r.enter() {
		return nil, errors.New("the router is closed")
	}
	client, wire := newPipe()
	l := login{realm: realm, authid: authid, who: Principal{Role: role}, local: true}
	go func() {
		defer r.work.Done()
		stop := context.AfterFunc(r.ctx, wire.close)
		hello, err := readHello(wire)
		stop()
		if err != nil {
			wire.close()
			return
		}
		r.session(wire, l, hello)
	}()
	return client, nil
}

// Dialer is Local for a client that dials whenever it has no session.
func (r *Router) Dialer(realm, authid, role string) func(context.Context) (wamp.Peer, error) {
	return func(context.Context) (wamp.Peer, error) { return r.Local(realm, authid, role) }
}

// session serves one session until it ends.
func (r *Router) session(wire wire, l login, hello *wamp.Hello) {
	p := newPeer(wire, newGate(l, r), r.cfg)
	if l.who.Role == protocol.RoleDevice {
		r.layGhosts(p)
	}
	if err := r.join(l.realm); err != nil {
		r.cfg.Log.Warn().Err(err).Str("realm", l.realm).Msg("realm not made")
		p.run(func() { p.refuse(wamp.URI(protocol.ErrorPrefix+string(protocol.CodeUnavailable)), err.Error()) })
		return
	}
	defer r.leave(l.realm)
	r.mu.Lock()
	r.live[p] = struct{}{}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		delete(r.live, p)
		r.mu.Unlock()
	}()
	p.run(func() { r.bring(p, hello) })
}

// bring attaches a session to its realm.
func (r *Router) bring(p *peer, hello *wamp.Hello) {
	// Again, now that Recheck knows of it: the principal may have changed while
	// the client was proving that it is the one.
	if !p.gate.local {
		if who, ok := r.directory.Principal(p.gate.realm, p.gate.authid); !ok || who != p.gate.who {
			p.refuse(wamp.ErrNotAuthorized, errRefused.Error())
			return
		}
	}
	r.attach.RLock()
	defer r.attach.RUnlock()
	if r.closed {
		p.refuse(wamp.ErrSystemShutdown, "the studio is closing")
		return
	}
	p.rd <- cleanHello(hello, p.gate.login) // has room for it
	// Errors were told to the client, and the log, by nexus.
	_ = r.nexus.AttachClient(p, nil)
}

// layGhosts closes the sessions of a device that is coming back which do not
// answer any more: over a link that died without a word they would keep its
// procedures until the keepalive finds out. One that answers stays, and the
// newcomer will see that its procedures are taken.
func (r *Router) layGhosts(p *peer) {
	r.mu.Lock()
	var old []*peer
	for other := range r.live {
		if other.gate.realm == p.gate.realm && other.gate.authid == p.gate.authid {
			old = append(old, other)
		}
	}
	r.mu.Unlock()
	var wait sync.WaitGroup
	for _, ghost := range old {
		wait.Go(func() {
			if ghost.alive(r.cfg.GhostPatience) {
				return
			}
			r.cfg.Log.Info().Str("authid", p.gate.authid).Msg("dead session of a device that came back closed")
			ghost.end()
			select {
			case <-ghost.left: // nexus has forgotten it
			case <-time.After(r.cfg.GhostPatience):
			}
		})
	}
	wait.Wait()
}

// Recheck ends the sessions whose principal is gone or not what it was.
func (r *Router) Recheck() {
	r.mu.Lock()
	var all []*peer
	for p := range r.live {
		if !p.gate.local {
			all = append(all, p)
		}
	}
	r.mu.Unlock()
	for _, p := range all {
		if who, ok := r.directory.Principal(p.gate.realm, p.gate.authid); !ok || who != p.gate.who {
			p.expel(wamp.ErrNotAuthorized, "the rights of this session have changed")
		}
	}
}

// Close ends all sessions and waits until nothing of the router runs.
func (r *Router) Close() {
	r.attach.Lock()
	closing := !r.closed
	r.closed = true
	r.attach.Unlock()
	if closing {
		r.cancel()
		r.nexus.Close()
	}
	r.work.Wait()
}

// libraryLog is what nexus has to say, for those who look for a fault in it.
type libraryLog struct{ to zerolog.Logger }

func (l libraryLog) Print(v ...any)            { l.Println(v...) }
func (l libraryLog) Printf(f string, v ...any) { l.to.Debug().Msgf(f, v...) }
func (l libraryLog) Println(v ...any) {
	if e := l.to.Debug(); e.Enabled() {
		e.Msg(fmt.Sprint(v...))
	}
}
