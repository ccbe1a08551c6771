package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/gammazero/nexus/v3/wamp/crsign"
	"github.com/rs/zerolog"

	"reagent/protocol"
	studio "reagent/studio/router"
)

// patience is how long one thing that is no measurement may take.
const patience = 10 * time.Second

// A router is the studio's router on a port of the loopback, with our own
// backend behind it. It can be killed and come back on the same port. Only one
// goroutine may kill and serve.
type router struct {
	addr    string
	guests  *directory
	backend *backend
	running *served // nil while killed
}

// served is what lives from one serve to the next kill.
type served struct {
	router *studio.Router
	server *http.Server
	local  *client.Client // the backend's session
	done   chan struct{}

	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// serveRouter starts a router on a free port.
func serveRouter(b *backend) (*router, error) {
	r := &router{addr: "127.0.0.1:0", guests: newDirectory(), backend: b}
	r.guests.add(protocol.AuthIDSystem, studio.Principal{Role: protocol.RoleSystem, Secret: random(24)})
	return r, r.serve()
}

// serve brings the router up, with the backend attached before the first guest.
func (r *router) serve() error {
	s := &served{done: make(chan struct{}), conns: map[net.Conn]struct{}{}}
	var err error
	if s.router, err = studio.New(studio.Config{Log: zerolog.Nop()}, r.guests); err != nil {
		return fmt.Errorf("make a router: %w", err)
	}
	var listener net.Listener
	if err = s.attach(r.backend); err == nil {
		listener, err = net.Listen("tcp", r.addr)
	}
	if err != nil {
		s.router.Close()
		return fmt.Errorf("start the router: %w", err)
	}
	r.addr = listener.Addr().String()
	s.server = &http.Server{Handler: s.router, ReadHeaderTimeout: patience}
	go func() {
		defer close(s.done)
		_ = s.server.Serve(tracked{listener, s}) // ends with kill
	}()
	r.running = s
	return nil
}

func (s *served) attach(b *backend) error {
	peer, err := s.router.Local(protocol.RealmDevices, protocol.AuthIDSystem, protocol.RoleSystem)
	if err != nil {
		return err
	}
	s.local, err = client.NewClient(peer, client.Config{Realm: protocol.RealmDevices, ResponseTimeout: patience, Logger: quiet})
	if err != nil {
		return err
	}
	return b.attach(s.local)
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
	who, _ := r.guests.Principal(protocol.RealmDevices, authid)
	c, err := client.ConnectNet(ctx, "ws://"+r.addr+"/ws", client.Config{
		Realm: protocol.RealmDevices, ResponseTimeout: patience, Logger: quiet,
		HelloDetails: wamp.Dict{"authid": authid},
		AuthHandlers: map[string]client.AuthFunc{
			"wampcra": func(c *wamp.Challenge) (string, wamp.Dict) {
				return crsign.RespondChallenge(who.Secret, c, nil), wamp.Dict{}
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

// A directory is who may join the router.
type directory struct {
	mu  sync.Mutex
	who map[string]studio.Principal
}

func newDirectory() *directory { return &directory{who: map[string]studio.Principal{}} }

func (d *directory) add(authid string, p studio.Principal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.who[authid] = p
}

func (d *directory) Principal(realm, authid string) (studio.Principal, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.who[authid]
	return p, ok && realm == protocol.RealmDevices
}

func (d *directory) Refused(string, string, string)                 {}
func (d *directory) May(uint64, string, ...protocol.Privilege) bool { return true }
