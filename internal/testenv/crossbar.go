//go:build linux

package testenv

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"reagent/protocol"
)

// A CrossbarRouter is a Crossbar.io router of its own on this machine.
type CrossbarRouter struct {
	URL  string // WebSocket
	Raw  string // raw socket
	Addr string // host:port of URL

	t    testing.TB
	dir  string
	node *process
}

// A Login is somebody who may log in to a CrossbarRouter. Realm is
// protocol.RealmDevices if empty. Salted stores the secret salted.
type Login struct {
	Secret string
	Role   string // one of protocol's roles
	Realm  string
	Salted bool
	Denied []string // what its role may neither call nor subscribe to
}

// Crossbar starts Crossbar.io with WAMP-CRA for the given authids. Its roles may
// do everything and are disclosed to each other, as the platform's are; only that
// a session has to be logged in is asked for. It takes about three seconds.
func Crossbar(t testing.TB, logins map[string]Login) *CrossbarRouter {
	t.Helper()
	program := environment(t, "crossbar")
	ws, raw := freePort(t), freePort(t)
	c := &CrossbarRouter{
		URL:  fmt.Sprintf("ws://127.0.0.1:%d/ws", ws),
		Raw:  fmt.Sprintf("tcp://127.0.0.1:%d", raw),
		Addr: fmt.Sprintf("127.0.0.1:%d", ws),
		t:    t, dir: t.TempDir(),
	}
	config, err := json.MarshalIndent(crossbarConfig(ws, raw, logins), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(c.dir, "config.json"), config, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Kill)
	c.start(program)
	return c
}

// Start starts the router again after Kill, where it was.
func (c *CrossbarRouter) Start() {
	c.t.Helper()
	c.start(environment(c.t, "crossbar"))
}

func (c *CrossbarRouter) start(program string) {
	c.t.Helper()
	_ = os.Remove(filepath.Join(c.dir, "node.pid")) // left by a killed one
	c.node = start(c.t, program, filepath.Join(c.dir, "log"), "start", "--cbdir", c.dir, "--color", "false")
	client := http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for deadline := time.Now().Add(time.Minute); ; {
		answer, err := client.Get("http://" + c.Addr + "/")
		if err == nil {
			answer.Body.Close()
			return
		}
		if c.node.dead() || time.Now().After(deadline) {
			c.t.Fatalf("Crossbar.io does not start: %v\n%s", err, c.node.tail())
		}
		<-time.After(50 * time.Millisecond)
	}
}

// Kill ends the router without a word: its controller and its worker, which is a
// process of its own and would go on.
func (c *CrossbarRouter) Kill() {
	if c.node == nil {
		return
	}
	_ = syscall.Kill(-c.node.cmd.Process.Pid, syscall.SIGKILL)
	<-c.node.done
	c.node = nil
}

// Log is the end of what the router printed.
func (c *CrossbarRouter) Log() string { return c.node.tail() }

// dict is an object of the configuration.
type dict = map[string]any

func crossbarConfig(ws, raw int, logins map[string]Login) dict {
	users, realms := dict{}, map[string]bool{protocol.RealmDevices: true}
	denied := map[string][]string{} // by role
	for authid, l := range logins {
		denied[l.Role] = append(denied[l.Role], l.Denied...)
		user := dict{"secret": l.Secret, "role": l.Role}
		if l.Realm != "" {
			user["realm"] = l.Realm
			realms[l.Realm] = true
		}
		if l.Salted { // the secret stays plain here, the router derives the key
			user["salt"], user["iterations"], user["keylen"] = "sodium", 4000, 32
		}
		users[authid] = user
	}
	auth := dict{"wampcra": dict{"type": "static", "users": users}}
	var list []any
	for name := range realms {
		var roles []any
		for _, role := range []string{protocol.RoleSystem, protocol.RoleUser, protocol.RoleDevice, protocol.RoleApp} {
			permissions := []any{dict{
				"uri": "", "match": "prefix", "cache": true,
				"allow":    dict{"call": true, "register": true, "publish": true, "subscribe": true},
				"disclose": dict{"caller": true, "publisher": true},
			}}
			for _, uri := range denied[role] { // the narrower rule counts
				permissions = append(permissions, dict{
					"uri": uri, "match": "exact", "cache": true,
					"allow": dict{"call": false, "register": false, "publish": false, "subscribe": false},
				})
			}
			roles = append(roles, dict{"name": role, "permissions": permissions})
		}
		list = append(list, dict{"name": name, "roles": roles})
	}
	endpoint := func(port int) dict { return dict{"type": "tcp", "interface": "127.0.0.1", "port": port} }
	return dict{
		"version":    2,
		"controller": dict{},
		"workers": []any{dict{
			"type": "router", "realms": list,
			"transports": []any{
				dict{"type": "websocket", "endpoint": endpoint(ws), "serializers": []any{"json", "cbor", "msgpack"}, "auth": auth,
					"options": dict{"max_message_size": 16 << 20, "max_frame_size": 16 << 20}},
				dict{"type": "rawsocket", "endpoint": endpoint(raw), "serializers": []any{"json", "cbor", "msgpack"}, "auth": auth},
			},
		}},
	}
}

// freePort finds a port that nobody listens on now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
