package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gammazero/nexus/v3/client"
	nexus "github.com/gammazero/nexus/v3/router"
	"github.com/gammazero/nexus/v3/router/auth"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/gammazero/nexus/v3/wamp/crsign"

	"reagent/protocol"
)

const (
	queue    = 4096 // messages that wait for one session; the library drops what is more
	patience = 10 * time.Second
)

// A router is a WAMP router on a port of the loopback that can be killed and
// come back on the same port. Only one goroutine may kill and serve.
type router struct {
	addr string
	keys *keys

	backend *backend
	running *served // nil while killed
}

// served is what lives from one serve to the next kill.
type served struct {
	router nexus.Router
	server *http.Server
	local  *client.Client // the backend's session
	done   chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// serveRouter starts a router on a free port.
func serveRouter(b *backend) (*router, error) {
	r := &router{addr: "127.0.0.1:0", keys: &keys{secrets: map[string]string{protocol.AuthIDSystem: random(24)}}, backend: b}
	return r, r.serve()
}

// serve brings the router up, with the backend attached before the first guest.
func (r *router) serve() error {
	n, err := nexus.NewRouter(&nexus.Config{RealmConfigs: []*nexus.RealmConfig{{
		URI: protocol.RealmDevices, AllowDisclose: true,
		Authenticators: []auth.Authenticator{auth.NewCRAuthenticator(r.keys, patience)},
		Authorizer:     discloser{},
	}}}, quiet)
	if err != nil {
		return fmt.Errorf("make a router: %w", err)
	}
	s := &served{router: n, done: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	s.local, err = client.ConnectLocal(n, client.Config{Realm: protocol.RealmDevices, Logger: quiet})
	if err == nil {
		err = r.backend.attach(s.local)
	}
	var listener net.Listener
	if err == nil {
		listener, err = net.Listen("tcp", r.addr)
	}
	if err != nil {
		n.Close()
		return fmt.Errorf("start the router: %w", err)
	}
	r.addr = listener.Addr().String()
	guests := nexus.NewWebsocketServer(n)
	guests.OutQueueSize = queue
	s.server = &http.Server{Handler: guests, ReadHeaderTimeout: patience}
	go func() {
		defer close(s.done)
		_ = s.server.Serve(tracked{listener, s}) // ends with kill
	}()
	r.running = s
	return nil
}

// kill ends the router as the death of its process does: no goodbye, all
// connections reset, the port closed.
func (r *router) kill() {
	s := r.running
	if s == nil {
		return
	}
	r.running = nil
	_ = s.server.Close()
	<-s.done
	s.mu.Lock()
	for c := range s.conns {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}
	s.mu.Unlock()
	_ = s.local.Close()
	s.router.Close()
}

// join opens a session over the network, as a stranger's client would.
func (r *router) join(ctx context.Context, authid string) (*client.Client, error) {
	secret := r.keys.secret(authid)
	c, err := client.ConnectNet(ctx, "ws://"+r.addr+"/ws", client.Config{
		Realm: protocol.RealmDevices, ResponseTimeout: patience, Logger: quiet,
		HelloDetails: wamp.Dict{"authid": authid},
		AuthHandlers: map[string]client.AuthFunc{
			"wampcra": func(c *wamp.Challenge) (string, wamp.Dict) {
				return crsign.RespondChallenge(secret, c, nil), wamp.Dict{}
			},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("join the router as %s: %w", authid, err)
	}
	return c, nil
}

// quiet is for a library that logs each reset connection.
var quiet = log.New(io.Discard, "", 0)

// tracked notes the connections that the listener hands out: a server forgets
// those that became WebSockets.
type tracked struct {
	net.Listener
	to *served
}

func (t tracked) Accept() (net.Conn, error) {
	c, err := t.Listener.Accept()
	if err == nil {
		t.to.mu.Lock()
		t.to.conns[c] = struct{}{}
		t.to.mu.Unlock()
	}
	return c, err
}

// A discloser tells every callee who calls, as routers of the platform do.
type discloser struct{}

func (discloser) Authorize(_ *wamp.Session, m wamp.Message) (bool, error) {
	if r, ok := m.(*wamp.Register); ok {
		r.Options = wamp.SetOption(r.Options, wamp.OptDiscloseCaller, true)
	}
	return true, nil
}

// keys are the secrets of those who may join. Everybody but the system is a
// device.
type keys struct {
	mu      sync.Mutex
	secrets map[string]string
}

func (k *keys) set(authid, secret string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.secrets[authid] = secret
}

func (k *keys) secret(authid string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.secrets[authid]
}

func (k *keys) AuthKey(authid, _ string) ([]byte, error) {
	if secret := k.secret(authid); secret != "" {
		return []byte(secret), nil
	}
	return nil, errors.New("no such principal")
}

func (k *keys) AuthRole(authid string) (string, error) {
	if authid == protocol.AuthIDSystem {
		return protocol.RoleSystem, nil
	}
	return protocol.RoleDevice, nil
}

func (k *keys) PasswordInfo(string) (salt string, keylen, iterations int) { return "", 0, 0 }
func (k *keys) Provider() string                                          { return "bench" }
