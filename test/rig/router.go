package rig

import (
	"context"
	"errors"
	"io"
	"log"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/router"
	"github.com/gammazero/nexus/v3/router/auth"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
)

// A Router is a plain WAMP router that is not the studio's: nexus as it comes,
// with WAMP-CRA, that tells callees who calls. A relay stands before it, for
// those who are to lose their link.
type Router struct {
	URL    string // through the relay
	Relay  *testenv.Relay
	t      testing.TB
	direct string
	keys   secrets
}

// SystemSecret is what the backend logs in with at a Router.
const SystemSecret = "c3lzdGVtLXNlY3JldA=="

// NewRouter starts a router for those who have these secrets. format is the only
// serialisation that it speaks: "json", "msgpack" or "cbor".
func NewRouter(t testing.TB, format string, principals map[string]string) *Router {
	t.Helper()
	r := &Router{t: t, keys: secrets{protocol.AuthIDSystem: SystemSecret}}
	for authid, secret := range principals {
		r.keys[authid] = secret
	}
	quiet := log.New(io.Discard, "", 0)
	n, err := router.NewRouter(&router.Config{RealmConfigs: []*router.RealmConfig{{
		URI: protocol.RealmDevices, AllowDisclose: true, Authorizer: discloser{},
		Authenticators: []auth.Authenticator{auth.NewCRAuthenticator(r.keys, 10*time.Second)},
	}}}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	sockets := router.NewWebsocketServer(n)
	sockets.OutQueueSize = 4096
	sockets.Upgrader.Subprotocols = []string{"wamp.2." + format}
	t.Cleanup(n.Close)
	addr := testenv.Serve(t, nil, sockets)
	r.direct = "ws://" + addr + "/ws"
	r.Relay = testenv.NewRelay(t, addr)
	r.URL = "ws://" + r.Relay.Addr() + "/ws"
	return r
}

// Session joins the router under one of its names, on a link of its own.
func (r *Router) Session(authid string, formats ...string) *messenger.Session {
	r.t.Helper()
	return Open(r.t, Login{URL: r.direct, AuthID: authid, Secret: r.keys[authid], Formats: formats})
}

type discloser struct{}

func (discloser) Authorize(_ *wamp.Session, m wamp.Message) (bool, error) {
	if r, ok := m.(*wamp.Register); ok {
		r.Options = wamp.SetOption(r.Options, wamp.OptDiscloseCaller, true)
	}
	return true, nil
}

// secrets by authid. A number is a user, system the backend, the rest devices.
type secrets map[string]string

func (s secrets) AuthKey(authid, _ string) ([]byte, error) {
	if secret := s[authid]; secret != "" {
		return []byte(secret), nil
	}
	return nil, errors.New("no such principal")
}

func (s secrets) AuthRole(authid string) (string, error) {
	if authid == protocol.AuthIDSystem {
		return protocol.RoleSystem, nil
	}
	if _, isNumber := protocol.Uint(authid); isNumber {
		return protocol.RoleUser, nil
	}
	return protocol.RoleDevice, nil
}

func (secrets) PasswordInfo(string) (salt string, keylen, iterations int) { return "", 0, 0 }
func (secrets) Provider() string                                          { return "test" }

// Serve registers a procedure that answers whatever answer returns, until the
// test ends.
func Serve(s *messenger.Session, uri string, answer func(args []any) messenger.Outcome) {
	s.Declare(uri, nil, func(_ context.Context, in messenger.Invocation) messenger.Outcome { return answer(in.Args) })
}
