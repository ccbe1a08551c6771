package router_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/transport/serialize"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/gammazero/nexus/v3/wamp/crsign"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/protocol"
	"reagent/studio/router"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// directory is a Directory that a test may change at any time.
type directory struct {
	mu      sync.Mutex
	known   map[string]router.Principal // by realm + " " + authid
	may     map[string]bool             // account serial privilege
	refused []string
}

func (d *directory) Principal(realm, authid string) (router.Principal, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p, ok := d.known[realm+" "+authid]
	return p, ok
}

func (d *directory) Refused(realm, authid, reason string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refused = append(d.refused, realm+" "+authid+": "+reason)
}

func (d *directory) May(account uint64, serial string, privileges ...protocol.Privilege) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(privileges) == 0 {
		privileges = protocol.Privileges()
	}
	for _, p := range privileges {
		if d.may[fmt.Sprintf("%d %s %s", account, serial, p)] {
			return true
		}
	}
	return false
}

func (d *directory) set(realm, authid string, p router.Principal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.known[realm+" "+authid] = p
}

func (d *directory) remove(realm, authid string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, realm+" "+authid)
}

func (d *directory) refusals() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]string(nil), d.refused...)
}

const (
	dev1 = "7-1"
	dev2 = "7-2"
	app1 = "app-5-prod-e1@sn1"
	app2 = "app-5-prod-e1@sn2"
)

var realmApp = protocol.AppRealm(7, 5, protocol.Prod)

// world is a router with two devices, two users and an app on both devices.
// User 3 may READ and DEVELOP on sn1.
func world() *directory {
	d := &directory{known: map[string]router.Principal{}, may: map[string]bool{"3 sn1 READ": true, "3 sn1 DEVELOP": true, "5 sn1 MAINTAIN": true}}
	d.set(protocol.RealmDevices, dev1, router.Principal{Role: protocol.RoleDevice, Secret: "s1", Serial: "sn1"})
	d.set(protocol.RealmDevices, dev2, router.Principal{Role: protocol.RoleDevice, Secret: "s2", Serial: "sn2"})
	d.set(protocol.RealmDevices, "3", router.Principal{Role: protocol.RoleUser, Secret: "u3", Account: 3})
	d.set(protocol.RealmDevices, "4", router.Principal{Role: protocol.RoleUser, Secret: "u4", Account: 4})
	d.set(protocol.RealmDevices, "5", router.Principal{Role: protocol.RoleUser, Secret: "u5", Account: 5})
	d.set(realmApp, app1, router.Principal{Role: protocol.RoleApp, Secret: "a1", Serial: "sn1"})
	d.set(realmApp, app2, router.Principal{Role: protocol.RoleApp, Secret: "a2", Serial: "sn2"})
	d.set(realmApp, "3", router.Principal{Role: protocol.RoleUser, Secret: "u3", Account: 3})
	return d
}

type rig struct {
	t      *testing.T
	dir    *directory
	router *router.Router
	url    string
}

func newRig(t *testing.T, cfg router.Config) *rig {
	t.Helper()
	cfg.Log = zerolog.Nop()
	if testing.Verbose() && os.Getenv("ROUTER_LOG") != "" {
		cfg.Log = zerolog.New(zerolog.NewTestWriter(t))
	}
	dir := world()
	r, err := router.New(cfg, dir)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(r)
	t.Cleanup(func() { r.Close(); server.Close() })
	return &rig{t, dir, r, "ws" + strings.TrimPrefix(server.URL, "http") + "/ws"}
}

// secrets of the world.
var secrets = map[string]string{dev1: "s1", dev2: "s2", "3": "u3", "4": "u4", "5": "u5", app1: "a1", app2: "a2"}

// signer answers challenges with a secret.
func signer(secret string) map[string]client.AuthFunc {
	return map[string]client.AuthFunc{"wampcra": func(c *wamp.Challenge) (string, wamp.Dict) {
		return crsign.RespondChallenge(secret, c, nil), wamp.Dict{}
	}}
}

func (r *rig) config(realm, authid, secret string, s serialize.Serialization) client.Config {
	return client.Config{
		Realm: realm, Serialization: s, ResponseTimeout: 5 * time.Second, Logger: nolog{},
		HelloDetails: wamp.Dict{"authid": authid}, AuthHandlers: signer(secret),
	}
}

func (r *rig) dial(realm, authid, secret string, s serialize.Serialization) (*client.Client, error) {
	return client.ConnectNet(r.t.Context(), r.url, r.config(realm, authid, secret, s))
}

// join joins as one of the world.
func (r *rig) join(realm, authid string) *client.Client {
	return r.joinWith(realm, authid, serialize.JSON)
}

func (r *rig) joinWith(realm, authid string, s serialize.Serialization) *client.Client {
	r.t.Helper()
	c, err := r.dial(realm, authid, secrets[authid], s)
	if err != nil {
		r.t.Fatalf("join %s as %s: %v", realm, authid, err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

// system joins from within the process.
func (r *rig) system() *client.Client {
	r.t.Helper()
	peer, err := r.router.Local(protocol.RealmDevices, protocol.AuthIDSystem, protocol.RoleSystem)
	if err != nil {
		r.t.Fatal(err)
	}
	c, err := client.NewClient(peer, client.Config{Realm: protocol.RealmDevices, Logger: nolog{}, ResponseTimeout: 5 * time.Second})
	if err != nil {
		r.t.Fatalf("join as the system: %v", err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c
}

type nolog struct{}

func (nolog) Print(...any)          {}
func (nolog) Println(...any)        {}
func (nolog) Printf(string, ...any) {}

// eventually polls until f is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline, again := time.NewTimer(time.Minute), time.NewTicker(5*time.Millisecond)
	defer deadline.Stop()
	defer again.Stop()
	for !f() {
		select {
		case <-deadline.C:
			t.Fatalf("not within 10 s: %s", what)
		case <-again.C:
		}
	}
}

// echo answers its arguments and what it was told about the caller.
func echo(_ context.Context, inv *wamp.Invocation) client.InvokeResult {
	return client.InvokeResult{Args: inv.Arguments, Kwargs: wamp.Dict{"authid": inv.Details["caller_authid"], "role": inv.Details["caller_authrole"]}}
}
