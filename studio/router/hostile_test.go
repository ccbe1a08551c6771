package router_test

import (
	"context"
	"math/rand/v2"

	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/transport/serialize"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/gammazero/nexus/v3/wamp/crsign"
	"github.com/gorilla/websocket"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/studio/router"
)

// raw is a client that may say anything.
type raw struct {
	t          *testing.T
	conn       *websocket.Conn
	serializer serialize.Serializer
	kind       int
}

func (r *rig) raw(subprotocol string) *raw { return r.rawAt(r.url, subprotocol) }

func (r *rig) rawAt(url, subprotocol string) *raw {
	r.t.Helper()
	conn, _, err := (&websocket.Dialer{Subprotocols: []string{subprotocol}}).DialContext(r.t.Context(), url, nil)
	if err != nil {
		r.t.Fatalf("dial: %v", err)
	}
	w := &raw{t: r.t, conn: conn, serializer: &serialize.JSONSerializer{}, kind: websocket.TextMessage}
	if subprotocol == "wamp.2.msgpack" {
		w.serializer, w.kind = &serialize.MessagePackSerializer{}, websocket.BinaryMessage
	}
	r.t.Cleanup(w.close)
	return w
}

func (w *raw) close() { _ = w.conn.Close() }

func (w *raw) send(msg wamp.Message) {
	w.t.Helper()
	b, err := w.serializer.Serialize(msg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.write(b)
}

func (w *raw) write(b []byte) { _ = w.conn.WriteMessage(w.kind, b) }

// receive returns nil when the connection has ended.
func (w *raw) receive() wamp.Message {
	w.t.Helper()
	_ = w.conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	_, b, err := w.conn.ReadMessage()
	if err != nil {
		return nil
	}
	msg, err := w.serializer.Deserialize(b)
	if err != nil {
		w.t.Fatalf("the router sent %q: %v", b, err)
	}
	return msg
}

var everyRole = wamp.Dict{
	"caller": wamp.Dict{}, "callee": wamp.Dict{}, "publisher": wamp.Dict{}, "subscriber": wamp.Dict{},
}

// join logs in and returns the WELCOME.
func (w *raw) join(realm, authid, secret string) *wamp.Welcome {
	w.t.Helper()
	w.send(&wamp.Hello{Realm: wamp.URI(realm), Details: wamp.Dict{"roles": everyRole, "authid": authid, "authmethods": wamp.List{"wampcra"}}})
	challenge, ok := w.receive().(*wamp.Challenge)
	if !ok {
		w.t.Fatal("no CHALLENGE")
	}
	text, _ := challenge.Extra["challenge"].(string)
	w.send(&wamp.Authenticate{Signature: crsign.SignChallenge(text, []byte(secret)), Extra: wamp.Dict{}})
	welcome, ok := w.receive().(*wamp.Welcome)
	if !ok {
		w.t.Fatal("no WELCOME")
	}
	return welcome
}

func TestAMessageOverTheLimitEndsItsSenderOnly(t *testing.T) {
	r := newRig(t, router.Config{MaxHello: 4 << 10, MaxMessage: 1 << 20})
	device, user := r.join(protocol.RealmDevices, dev1), r.join(protocol.RealmDevices, "3")
	if err := device.Register("re.mgmt.sn1.length", func(_ context.Context, inv *wamp.Invocation) client.InvokeResult {
		s, _ := inv.Arguments[0].(string)
		return client.InvokeResult{Args: wamp.List{len(s)}}
	}, nil); err != nil {
		t.Fatal(err)
	}
	below := strings.Repeat("x", 1<<20-200)
	result, err := user.Call(t.Context(), "re.mgmt.sn1.length", nil, wamp.List{below}, nil, nil)
	if err != nil {
		t.Fatalf("just below the limit: %v", err)
	}
	if n, _ := wamp.AsInt64(result.Arguments[0]); n != int64(len(below)) {
		t.Errorf("length = %d, want %d", n, len(below))
	}
	if _, err := user.Call(t.Context(), "re.mgmt.sn1.length", nil, wamp.List{below + below}, nil, nil); err == nil {
		t.Error("above the limit: answered")
	}
	select {
	case <-user.Done():
	case <-time.After(5 * time.Second):
		t.Error("above the limit: the sender's session goes on")
	}
	if device.Connected() == false {
		t.Error("the device's session ended too")
	}
	again := r.join(protocol.RealmDevices, "3")
	if _, err := again.Call(t.Context(), "re.mgmt.sn1.length", nil, wamp.List{"x"}, nil, nil); err != nil {
		t.Errorf("the device does not answer any more: %v", err)
	}

	// A stranger may say less.
	w := r.raw("wamp.2.json")
	w.send(&wamp.Hello{Realm: protocol.RealmDevices, Details: wamp.Dict{"roles": everyRole, "authid": strings.Repeat("x", 8<<10)}})
	if msg := w.receive(); msg != nil {
		t.Errorf("a long HELLO was answered: %v", msg)
	}
}

func TestAMessageTooLongForItsReceiverIsAnswered(t *testing.T) {
	r := newRig(t, router.Config{MaxMessage: 1 << 20, MaxForward: 1 << 20})
	device := r.join(protocol.RealmDevices, dev1) // JSON: each of these characters takes six bytes
	user := r.joinWith(protocol.RealmDevices, "3", serialize.MSGPACK)
	answers := strings.Repeat("\x01", 300<<10)
	if err := device.Register("re.mgmt.sn1.echo", echo, nil); err != nil {
		t.Fatal(err)
	}
	_, err := user.Call(t.Context(), "re.mgmt.sn1.echo", nil, wamp.List{answers}, nil, nil)
	if err == nil || !strings.Contains(err.Error(), "too_large") {
		t.Errorf("call = %v, want too_large", err)
	}
	if _, err := user.Call(t.Context(), "re.mgmt.sn1.echo", nil, wamp.List{"x"}, nil, nil); err != nil {
		t.Errorf("the next call: %v", err)
	}
	// The other way: the answer is too long for the caller.
	if err := r.system().Register("re.studio.long", func(_ context.Context, _ *wamp.Invocation) client.InvokeResult {
		return client.InvokeResult{Args: wamp.List{answers}}
	}, nil); err != nil {
		t.Fatal(err)
	}
	json := r.join(protocol.RealmDevices, "4")
	if _, err := json.Call(t.Context(), "re.studio.long", nil, nil, nil, nil); err == nil || !strings.Contains(err.Error(), "too_large") {
		t.Errorf("answer = %v, want too_large", err)
	}
}

func TestASlowSubscriberLosesEventsAndNobodyWaits(t *testing.T) {
	r := newRig(t, router.Config{MaxBacklog: 1 << 20, MaxForward: 1 << 20, WriteTimeout: time.Minute, PingInterval: time.Minute})
	slow := r.raw("wamp.2.json")
	slow.join(protocol.RealmDevices, "3", "u3")
	slow.send(&wamp.Subscribe{Request: 1, Options: wamp.Dict{}, Topic: "reswarm.logs.sn1.a"})
	if _, ok := slow.receive().(*wamp.Subscribed); !ok {
		t.Fatal("not subscribed")
	}
	device := r.join(protocol.RealmDevices, dev1)
	line := strings.Repeat("x", 100<<10)
	began := time.Now()
	for range 200 { // 20 MB
		if err := device.Publish("reswarm.logs.sn1.a", wamp.Dict{"acknowledge": true}, wamp.List{line}, nil); err != nil {
			t.Fatal(err)
		}
	}
	if took := time.Since(began); took > 50*time.Second { // until the slow one is given up
		t.Errorf("the publisher waited %v", took)
	}
	n := 0
	for slow.receive() != nil && n < 200 { // what got through can be read
		if n++; n == 5 {
			break
		}
	}
	if n < 5 {
		t.Errorf("received %d events", n)
	}
}

func TestTwoSubscribersOfOneTopicShareNothing(t *testing.T) {
	// With the library's own details, the race detector and, rarely, the runtime
	// end the process here.
	r := newRig(t, router.Config{})
	r.dir.may["4 sn1 READ"] = true
	device := r.join(protocol.RealmDevices, dev1)
	const each = 200
	var received sync.WaitGroup
	for _, id := range []string{"3", "4", "3", "4"} {
		c := r.join(protocol.RealmDevices, id)
		events := make(chan *wamp.Event, each)
		match := "exact"
		topic := "reswarm.logs.sn1.a"
		if id == "4" {
			match, topic = "prefix", "reswarm.logs.sn1."
		}
		if err := c.SubscribeChan(topic, events, wamp.Dict{"match": match}); err != nil {
			t.Fatal(err)
		}
		received.Go(func() {
			for i := range each {
				select {
				case e := <-events:
					if e.Details["publisher_authid"] != dev1 || e.Details["topic"] == nil {
						t.Errorf("details = %v", e.Details)
					}
				case <-time.After(10 * time.Second):
					t.Errorf("%s: %d of %d events", id, i, each)
					return
				}
			}
		})
	}
	for range each {
		if err := device.Publish("reswarm.logs.sn1.a", nil, wamp.List{"line"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	received.Wait()
}

func TestADeadSessionDoesNotKeepItsDeviceOut(t *testing.T) {
	r := newRig(t, router.Config{GhostPatience: 300 * time.Millisecond})
	relay := testenv.NewRelay(t, hostOf(r.url))
	ghost := r.rawAt("ws://"+relay.Addr()+"/ws", "wamp.2.json")
	ghost.join(protocol.RealmDevices, dev1, "s1")
	ghost.send(&wamp.Register{Request: 1, Options: wamp.Dict{}, Procedure: "re.mgmt.sn1.x"})
	if _, ok := ghost.receive().(*wamp.Registered); !ok {
		t.Fatal("not registered")
	}
	relay.Freeze() // half-open: nobody is told
	began := time.Now()
	back := r.join(protocol.RealmDevices, dev1)
	if err := back.Register("re.mgmt.sn1.x", echo, nil); err != nil {
		t.Errorf("the device is kept out by its dead session: %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("coming back took %v", took)
	}
	// A real duplicate lives, answers, and keeps what it has.
	second := r.join(protocol.RealmDevices, dev1)
	if err := second.Register("re.mgmt.sn1.x", echo, nil); err == nil || !strings.Contains(err.Error(), string(wamp.ErrProcedureAlreadyExists)) {
		t.Errorf("a duplicate got the procedure: %v", err)
	}
	if !back.Connected() {
		t.Error("a living session was closed")
	}
}

func hostOf(url string) string {
	return strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/ws")
}

func TestALinkThatDiesWithoutAWordIsNoticed(t *testing.T) {
	r := newRig(t, router.Config{PingInterval: 50 * time.Millisecond})
	sys := r.system()
	left := make(chan *wamp.Event, 1)
	if err := sys.SubscribeChan(protocol.SessionOnLeave, left, nil); err != nil {
		t.Fatal(err)
	}
	relay := testenv.NewRelay(t, hostOf(r.url))
	w := r.rawAt("ws://"+relay.Addr()+"/ws", "wamp.2.json")
	id := w.join(protocol.RealmDevices, dev1, "s1").ID
	go func() {
		for w.receiveQuietly() {
		}
	}()
	select {
	case <-left:
		t.Fatal("a session that answers was closed")
	case <-time.After(500 * time.Millisecond):
	}
	relay.Freeze()
	select {
	case e := <-left:
		if got, _ := wamp.AsID(e.Arguments[0]); got != id || e.Arguments[1] != dev1 {
			t.Errorf("left: %v, want %d", e.Arguments, id)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("not noticed")
	}
	relay.Thaw()
}

func (w *raw) receiveQuietly() bool { _, _, err := w.conn.ReadMessage(); return err == nil }

// What follows ends nexus, or makes it wait for ever, when it gets that far.
func TestMessagesThatEndTheLibrary(t *testing.T) {
	r := newRig(t, router.Config{})
	device, sys := r.join(protocol.RealmDevices, dev1), r.system()
	if err := device.Register("re.mgmt.sn1.echo", echo, nil); err != nil {
		t.Fatal(err)
	}
	if err := sys.Register("re.studio.echo", echo, nil); err != nil {
		t.Fatal(err)
	}
	opaque := wamp.Dict{"ppt_scheme": "x", "ppt_serializer": 5, "ppt_cipher": wamp.List{}, "ppt_keyid": nil}
	odd := wamp.Dict{"ppt_scheme": 5, "acknowledge": "yes", "match": 7, "invoke": wamp.Dict{}, "timeout": -1, "mode": 5, "progress": "x", "exclude": 1, "eligible_x": wamp.List{"y"}, "disclose_me": false}
	for name, messages := range map[string][]wamp.Message{
		"opaque call":      {&wamp.Call{Request: 1, Options: opaque, Procedure: "re.studio.echo"}},
		"opaque publish":   {&wamp.Publish{Request: 1, Options: opaque, Topic: "re.mgmt.sn1.term_write.x"}},
		"opaque yield":     {&wamp.Yield{Request: 1, Options: opaque}},
		"odd call":         {&wamp.Call{Request: 1, Options: odd, Procedure: "re.studio.echo"}},
		"odd publish":      {&wamp.Publish{Request: 1, Options: odd, Topic: "re.mgmt.sn1.term_write.x"}},
		"odd subscribe":    {&wamp.Subscribe{Request: 1, Options: odd, Topic: "reswarm.logs.sn1.x"}},
		"odd register":     {&wamp.Register{Request: 1, Options: odd, Procedure: "re.mgmt.sn1.z"}},
		"odd cancel":       {&wamp.Cancel{Request: 9, Options: odd}},
		"twice":            {&wamp.Call{Request: 1, Options: wamp.Dict{}, Procedure: "re.mgmt.sn1.echo"}, &wamp.Call{Request: 1, Options: wamp.Dict{"progress": true}, Procedure: "re.mgmt.sn1.echo"}},
		"progressive call": {&wamp.Call{Request: 1, Options: wamp.Dict{"progress": true}, Procedure: "re.mgmt.sn1.echo"}},
		"timeout":          {&wamp.Call{Request: 1, Options: wamp.Dict{"timeout": 1}, Procedure: "re.mgmt.sn1.echo"}},
		"no options":       {&wamp.Call{Request: 1, Procedure: "re.studio.echo"}, &wamp.Publish{Request: 2, Topic: "x"}, &wamp.Subscribe{Request: 3, Topic: "y"}},
		"wrong error":      {&wamp.Error{Type: wamp.CALL, Request: 1}},
		"unsubscribe":      {&wamp.Unsubscribe{Request: 1, Subscription: 12345}, &wamp.Unregister{Request: 2, Registration: 1}},
		"second hello":     {&wamp.Hello{Realm: "x", Details: wamp.Dict{}}},
		"welcome":          {&wamp.Welcome{ID: 1, Details: wamp.Dict{}}},
		"envelope":         {&wamp.Publish{Request: 1, Topic: "re.mgmt.sn1.term_write.x", ArgumentsKw: wamp.Dict{"\x00envelope": "forged"}}},
		"goodbye twice":    {&wamp.Goodbye{Reason: "x"}, &wamp.Goodbye{Reason: "x"}},
	} {
		for _, format := range []string{"wamp.2.json", "wamp.2.msgpack"} {
			t.Run(name+" "+format, func(t *testing.T) {
				w := r.raw(format)
				w.t = t
				w.join(protocol.RealmDevices, "3", "u3")
				for _, msg := range messages {
					w.send(msg)
				}
				w.send(&wamp.Goodbye{Reason: "wamp.close.normal", Details: wamp.Dict{}})
				for w.receive() != nil {
				}
				if _, err := sys.Call(t.Context(), "re.mgmt.sn1.echo", nil, wamp.List{"still there"}, nil, nil); err != nil {
					t.Errorf("afterwards: %v", err)
				}
			})
		}
	}
}

func TestRandomBytesEndNothingButTheirSender(t *testing.T) {
	r := newRig(t, router.Config{})
	device, sys := r.join(protocol.RealmDevices, dev1), r.system()
	if err := device.Register("re.mgmt.sn1.echo", echo, nil); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(1, 2))
	words := []string{"{}", "[]", "null", "1", "-1", "1e300", `"re.mgmt.sn1.echo"`, `"wamp.session.add_testament"`, `"match"`, `{"match":"prefix"}`, `[["reswarm.api.testament_device",[{}],{}]]`, "true", `""`, `{"a":{"b":[]}}`}
	for range 150 {
		w := r.raw("wamp.2.json")
		w.join(protocol.RealmDevices, dev1, "s1")
		for range 5 {
			types := []string{"16", "32", "34", "48", "49", "64", "66", "68", "70", "8", "6", "1", "2", "5", "999", "null"}
			parts := []string{types[random.IntN(len(types))]}
			for range random.IntN(7) {
				parts = append(parts, words[random.IntN(len(words))])
			}
			w.write([]byte("[" + strings.Join(parts, ",") + "]"))
		}
		w.close()
	}
	if _, err := sys.Call(t.Context(), "re.mgmt.sn1.echo", nil, wamp.List{"still there"}, nil, nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestStrangersMayNotStay(t *testing.T) {
	r := newRig(t, router.Config{LoginTimeout: 200 * time.Millisecond, MaxLogins: 4})
	var idle []*raw
	for range 4 {
		idle = append(idle, r.raw("wamp.2.json"))
	}
	if _, answer, err := (&websocket.Dialer{Subprotocols: []string{"wamp.2.json"}}).Dial(r.url, nil); err == nil || answer == nil || answer.StatusCode != 503 {
		t.Errorf("one more stranger: %v", err)
	}
	for _, w := range idle {
		if msg := w.receive(); msg != nil {
			t.Errorf("received %v", msg)
		}
	}
	r.join(protocol.RealmDevices, dev1)
}

func TestPlainRequestsGetAHint(t *testing.T) {
	r := newRig(t, router.Config{})
	_, answer, err := (&websocket.Dialer{Subprotocols: []string{"chat"}}).Dial(r.url, nil)
	if err == nil || answer == nil || answer.StatusCode != 400 {
		t.Errorf("a WebSocket without WAMP: %v %v", answer, err)
	}
}

func TestAFleetCanComeBackAtOnce(t *testing.T) {
	r := newRig(t, router.Config{})
	const fleet = 150
	var all sync.WaitGroup
	for i := range fleet {
		authid := protocol.DeviceAuthID(8, uint64(i+1))
		serial := "fleet" + authid
		r.dir.set(protocol.RealmDevices, authid, router.Principal{Role: protocol.RoleDevice, Secret: "f", Serial: serial})
		all.Go(func() {
			c, err := r.dial(protocol.RealmDevices, authid, "f", serialize.JSON)
			if err != nil {
				t.Errorf("join: %v", err)
				return
			}
			defer c.Close()
			will := wamp.Dict{"swarm_key": 8, "device_key": i + 1}
			if _, err := c.Call(t.Context(), protocol.AddTestament, nil, wamp.List{protocol.TestamentDevice, wamp.List{will}, wamp.Dict{}}, nil, nil); err != nil {
				t.Errorf("testament: %v", err)
			}
			if _, err := c.Call(t.Context(), protocol.SubscriptionMatch, nil, wamp.List{"reswarm.logs." + serial + ".a"}, nil, nil); err != nil {
				t.Errorf("match: %v", err)
			}
		})
	}
	all.Wait()
}
