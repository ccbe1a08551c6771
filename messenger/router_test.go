package messenger_test

import (
	"context"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io"
	stdlog "log"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/router"
	"github.com/gammazero/nexus/v3/router/auth"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/internal/testenv"
	. "reagent/messenger"
)

// A testRouter is a real nexus router behind real sockets, with a relay in front
// of its WebSocket.
type testRouter struct {
	t     testing.TB
	r     router.Router
	relay *testenv.Relay
	url   string // through the relay
	keys  *keyStore
}

// keyStore knows devices' secrets. Those whose name begins with "salted" are
// stored salted.
type keyStore struct {
	mu      sync.Mutex
	secrets map[string]string
}

func (k *keyStore) set(authid, secret string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.secrets[authid] = secret
}

const testSalt, testIterations, testKeyLength = "sodium", 4000, 32

func salted(authid string) bool { return len(authid) > 6 && authid[:6] == "salted" }

func (k *keyStore) AuthKey(authid, _ string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	secret, ok := k.secrets[authid]
	if !ok {
		return nil, errors.New("no such user")
	}
	if salted(authid) {
		key, err := pbkdf2.Key(sha256.New, secret, []byte(testSalt), testIterations, testKeyLength)
		return []byte(base64.StdEncoding.EncodeToString(key)), err
	}
	return []byte(secret), nil
}

func (k *keyStore) PasswordInfo(authid string) (string, int, int) {
	if salted(authid) {
		return testSalt, testKeyLength, testIterations
	}
	return "", 0, 0
}
func (k *keyStore) Provider() string                { return "test" }
func (k *keyStore) AuthRole(string) (string, error) { return "device", nil }

// disclose makes the router tell callees who calls.
type disclose struct{}

func (disclose) Authorize(_ *wamp.Session, msg wamp.Message) (bool, error) {
	switch m := msg.(type) {
	case *wamp.Call:
		m.Options = wamp.SetOption(m.Options, "disclose_me", true)
	case *wamp.Publish:
		m.Options = wamp.SetOption(m.Options, "disclose_me", true)
	}
	return true, nil
}

func startRouter(t testing.TB, secrets map[string]string) *testRouter {
	t.Helper()
	keys := &keyStore{secrets: map[string]string{}}
	for id, secret := range secrets {
		keys.secrets[id] = secret
	}
	r, err := router.NewRouter(&router.Config{RealmConfigs: []*router.RealmConfig{{
		URI: TestRealm, AllowDisclose: true, EnableMetaKill: true, Authorizer: disclose{}, RequireLocalAuthz: true,
		Authenticators: []auth.Authenticator{auth.NewCRAuthenticator(keys, 10*time.Second)},
	}}}, stdlog.New(io.Discard, "", 0))
	if err != nil {
		t.Fatalf("router: %v", err)
	}
	t.Cleanup(r.Close)
	tr := &testRouter{t: t, r: r, keys: keys}
	tr.relay = testenv.NewRelay(t, tr.serve(nil))
	tr.url = "ws://" + tr.relay.Addr() + "/ws"
	return tr
}

// serve opens one more WebSocket listener and returns its address.
func (tr *testRouter) serve(cfg *tls.Config) string {
	tr.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tr.t.Fatal(err)
	}
	if cfg != nil {
		l = tls.NewListener(l, cfg)
	}
	ws := router.NewWebsocketServer(tr.r)
	ws.OutQueueSize = 4096
	return testenv.Serve(tr.t, l, ws)
}

// peer is another client of the router, trusted, in this process.
func (tr *testRouter) peer() *client.Client {
	tr.t.Helper()
	c, err := client.ConnectLocal(tr.r, client.Config{
		Realm: TestRealm, Logger: stdlog.New(io.Discard, "", 0), LocalQueueSize: 4096,
		HelloDetails: wamp.Dict{"authid": "42", "authrole": "user"},
	})
	if err != nil {
		tr.t.Fatalf("peer: %v", err)
	}
	tr.t.Cleanup(func() { c.Close() })
	return c
}

// config is a session's configuration with waits for tests.
func (tr *testRouter) config(authid, secret string) Config {
	cfg := Quick()
	cfg.URL = tr.url
	cfg.Identity = func() (string, string) { return authid, secret }
	return cfg
}

func call(t testing.TB, c *client.Client, uri string, args ...any) (*wamp.Result, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return c.Call(ctx, uri, nil, args, nil, nil)
}
