package router_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/transport/serialize"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
	"reagent/studio/router"
)

var serializations = map[string]serialize.Serialization{"json": serialize.JSON, "msgpack": serialize.MSGPACK, "cbor": serialize.CBOR}

func TestCallsAndEventsPassInEverySerialization(t *testing.T) {
	r := newRig(t, router.Config{})
	for name, s := range serializations {
		t.Run(name, func(t *testing.T) {
			device := r.joinWith(protocol.RealmDevices, dev1, s)
			defer device.Close()
			user := r.joinWith(protocol.RealmDevices, "3", s)
			defer user.Close()
			if err := device.Register("re.mgmt.sn1.echo", echo, nil); err != nil {
				t.Fatalf("register: %v", err)
			}
			result, err := user.Call(t.Context(), "re.mgmt.sn1.echo", nil, wamp.List{"x", 5, wamp.Dict{"a": wamp.List{true, nil}}}, nil, nil)
			if err != nil {
				t.Fatalf("call: %v", err)
			}
			if len(result.Arguments) != 3 || result.Arguments[0] != "x" {
				t.Errorf("answer = %v", result.Arguments)
			}
			if got := result.ArgumentsKw; got["authid"] != "3" || got["role"] != protocol.RoleUser {
				t.Errorf("the callee was told %v about the caller", got)
			}

			events := make(chan *wamp.Event, 1)
			if err := user.SubscribeChan("reswarm.logs.sn1.", events, wamp.Dict{"match": "prefix"}); err != nil {
				t.Fatalf("subscribe: %v", err)
			}
			if err := device.Publish("reswarm.logs.sn1.prod_5_web", wamp.Dict{"acknowledge": true}, wamp.List{"line"}, wamp.Dict{"k": "v"}); err != nil {
				t.Fatalf("publish: %v", err)
			}
			select {
			case e := <-events:
				if e.Details["publisher_authid"] != dev1 || e.Details["publisher_authrole"] != protocol.RoleDevice {
					t.Errorf("the subscriber was told %v about the publisher", e.Details)
				}
				if topic, _ := wamp.AsString(e.Details["topic"]); topic != "reswarm.logs.sn1.prod_5_web" {
					t.Errorf("topic = %v", e.Details["topic"])
				}
				if len(e.Arguments) != 1 || e.Arguments[0] != "line" || len(e.ArgumentsKw) != 1 || e.ArgumentsKw["k"] != "v" {
					t.Errorf("event = %v %v", e.Arguments, e.ArgumentsKw)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("no event")
			}
		})
	}
}

func TestWrongSecretAndUnknownNameLookTheSame(t *testing.T) {
	r := newRig(t, router.Config{})
	var texts []string
	for _, c := range []struct{ realm, authid, secret string }{
		{protocol.RealmDevices, dev1, "wrong"},
		{protocol.RealmDevices, "7-99", "s1"},
		{protocol.RealmDevices, "nobody at all", "x"},
		{protocol.RealmDevices, "", "x"},
		{realmApp, app1, "wrong"},
		{protocol.AppRealm(7, 6, protocol.Prod), app1, "a1"},
		{"made.up.realm", dev1, "s1"},
		{realmApp, "4", "u4"},
	} {
		_, err := r.dial(c.realm, c.authid, c.secret, serialize.JSON)
		if err == nil {
			t.Errorf("%s as %q with %q was let in", c.realm, c.authid, c.secret)
			continue
		}
		texts = append(texts, err.Error())
	}
	for _, text := range texts {
		if text != texts[0] {
			t.Errorf("answers differ: %q and %q", text, texts[0])
		}
	}
	// Only those who exist have something to be told about.
	want := protocol.RealmDevices + " " + dev1 + ": wrong secret\n" + realmApp + " " + app1 + ": wrong secret"
	eventually(t, "refusals are recorded", func() bool { return strings.Join(r.dir.refusals(), "\n") == want })
	if got := r.router.Realms(); len(got) != 1 {
		t.Errorf("realms = %v, want only that of the devices", got)
	}
}

func TestOnlyCRAIsSpoken(t *testing.T) {
	r := newRig(t, router.Config{})
	for _, methods := range []wamp.List{nil, {"anonymous"}, {"ticket"}, {5, nil}} {
		w := r.raw("wamp.2.json")
		w.send(&wamp.Hello{Realm: protocol.RealmDevices, Details: wamp.Dict{"roles": wamp.Dict{"caller": wamp.Dict{}}, "authid": dev1, "authmethods": methods, "authrole": "system"}})
		if m, ok := w.receive().(*wamp.Abort); !ok || m.Reason != wamp.ErrNoAuthMethod {
			t.Errorf("methods %v: %v", methods, m)
		}
		w.close()
	}
}

// Every row is one request; what must come is "" for allowed, or the error.
func TestRulesByRole(t *testing.T) {
	r := newRig(t, router.Config{})
	sys := r.system()
	for _, uri := range []string{"re.studio.x", "re.mgmt.sn2.x", "reswarm.devices.update_device_status", "reswarm.devices.other", "app.echo", "wampum"} {
		if err := sys.Register(uri, echo, nil); err != nil {
			t.Fatalf("register %s: %v", uri, err)
		}
	}
	sessions := map[string]*client.Client{
		"device": r.join(protocol.RealmDevices, dev1), "user": r.join(protocol.RealmDevices, "3"), "stranger": r.join(protocol.RealmDevices, "4"), "maintainer": r.join(protocol.RealmDevices, "5"),
		"app": r.join(realmApp, app1), "system": sys,
	}
	if err := sessions["device"].Register("re.mgmt.sn1.x", echo, nil); err != nil {
		t.Fatal(err)
	}
	no := string(wamp.ErrNotAuthorized)
	none := string(wamp.ErrNoSuchProcedure)
	for _, c := range []struct{ who, verb, uri, match, want string }{
		{"device", "register", "re.mgmt.sn1.y", "", ""},
		{"device", "register", "re.mgmt.sn2.y", "", no},
		{"device", "register", "re.mgmt.sn11.y", "", no},
		{"device", "register", "re.mgmt.sn1", "", no},
		{"device", "register", "re.mgmt.sn1.", "prefix", no},
		{"device", "register", "reswarm.devices.check_privilege", "", no},
		{"device", "register", "re.studio.y", "", no},
		{"device", "publish", "reswarm.logs.sn1.prod_1_a", "", ""},
		{"device", "publish", "reswarm.logs.sn2.prod_1_a", "", no},
		{"device", "publish", "re.mgmt.sn1.data.u", "", ""},
		{"device", "publish", "re.mgmt.sn2.data.u", "", no},
		{"device", "publish", "reswarm.api.testament_device", "", no},
		{"device", "publish", "wamp.session.on_leave", "", no},
		{"device", "publish", "re.studio.app_state", "", no},
		{"device", "subscribe", "re.mgmt.sn1.term_write.u", "", ""},
		{"device", "subscribe", "re.mgmt.sn2.term_write.u", "", no},
		{"device", "subscribe", "re.mgmt.", "prefix", no},
		{"device", "subscribe", "wamp.subscription.on_create", "", ""},
		{"device", "subscribe", "wamp.subscription.on_delete", "", ""},
		{"device", "subscribe", "wamp.registration.on_unregister", "", ""},
		{"device", "subscribe", "reswarm.device.%d.list/ondestroy", "", ""},
		{"device", "subscribe", "wamp.session.on_join", "", no},
		{"device", "subscribe", "reswarm.logs.sn2.a", "", no},
		{"device", "call", "reswarm.devices.update_device_status", "", ""},
		{"device", "call", "reswarm.devices.other", "", no},
		{"device", "call", "re.studio.x", "", no},
		{"device", "call", "re.mgmt.sn2.x", "", no},
		{"device", "call", "wamp.subscription.match", "", ""},
		{"device", "call", "wamp.session.list", "", no},
		{"device", "call", "wamp.session.kill_all", "", no},
		{"user", "call", "re.studio.x", "", ""},
		{"user", "call", "re.mgmt.sn1.x", "", ""},
		{"user", "call", "re.mgmt.sn2.x", "", no},
		{"user", "call", "re.mgmt..x", "", no},
		{"user", "call", "reswarm.devices.update_device_status", "", no},
		{"user", "call", "wamp.session.kill_all", "", no},
		{"user", "register", "re.mgmt.sn1.z", "", no},
		{"user", "publish", "re.mgmt.sn1.term_write.u", "", ""},
		{"user", "publish", "re.mgmt.sn2.term_write.u", "", no},
		{"user", "publish", "reswarm.logs.sn1.a", "", no},
		{"user", "subscribe", "reswarm.logs.sn1.a", "", ""},
		{"user", "subscribe", "reswarm.logs.sn1.", "prefix", ""},
		{"user", "subscribe", "reswarm.logs.sn1", "prefix", no},
		{"user", "subscribe", "reswarm.logs.", "prefix", no},
		{"user", "subscribe", "reswarm.logs..prod_1_a", "wildcard", no},
		{"user", "subscribe", "reswarm.logs.sn1..", "wildcard", ""},
		{"user", "subscribe", "re.mgmt.sn1.data.u", "", ""},
		{"user", "subscribe", "re.mgmt.sn1.cmd_output_7", "", no},
		{"maintainer", "subscribe", "re.mgmt.sn1.cmd_output_7", "", ""},
		{"maintainer", "subscribe", "re.mgmt.sn2.cmd_output_7", "", no},
		{"user", "publish", "re.mgmt.sn1.cmd_output_7", "", no},
		{"stranger", "subscribe", "re.mgmt.sn1.cmd_output_7", "", no},
		{"user", "subscribe", "re.mgmt.sn1.", "prefix", no},
		{"user", "subscribe", "re.studio.app_state", "", ""},
		{"user", "subscribe", "wamp.session.on_join", "", no},
		{"user", "subscribe", "", "prefix", no},
		{"stranger", "call", "re.mgmt.sn1.x", "", no},
		{"stranger", "call", "re.studio.x", "", ""},
		{"stranger", "subscribe", "reswarm.logs.sn1.a", "", no},
		{"stranger", "publish", "re.mgmt.sn1.term_write.u", "", no},
		{"system", "call", "re.mgmt.sn1.x", "", ""},
		{"system", "subscribe", "wamp.session.on_join", "", ""},
		{"system", "publish", "re.studio.app_state", "", ""},
		{"app", "register", "anything.at.all", "", ""},
		{"app", "call", "anything.at.all", "", ""},
		{"app", "call", "re.mgmt.sn1.x", "", none}, // another realm: not even there
		{"app", "call", "re.studio.x", "", none},
		{"app", "call", "app.echo", "", none},
		{"app", "publish", "my.topic", "", ""},
		{"app", "publish", "wamp.session.on_leave", "", no},
		{"app", "subscribe", "my.", "prefix", ""},
		{"app", "subscribe", "wamp.session.on_join", "", ""},
		{"app", "call", "wamp.session.kill_all", "", no},
		{"app", "call", "wamp.session.count", "", ""},
	} {
		t.Run(strings.Join([]string{c.who, c.verb, c.uri, c.match}, " "), func(t *testing.T) {
			err := request(t, sessions[c.who], c.verb, c.uri, c.match)
			got := ""
			if err != nil {
				got = err.Error()
			}
			if c.want == "" && got != "" || c.want != "" && !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func request(t *testing.T, c *client.Client, verb, uri, match string) error {
	options := wamp.Dict{}
	if match != "" {
		options["match"] = match
	}
	switch verb {
	case "register":
		return c.Register(uri, echo, options)
	case "subscribe":
		return c.Subscribe(uri, func(*wamp.Event) {}, options)
	case "publish":
		return c.Publish(uri, wamp.Dict{"acknowledge": true}, nil, nil)
	}
	_, err := c.Call(t.Context(), uri, nil, nil, nil, nil)
	return err
}

func TestADeviceCannotLeaveAnothersTestament(t *testing.T) {
	r := newRig(t, router.Config{})
	device := r.join(protocol.RealmDevices, dev1)
	own := wamp.Dict{"swarm_key": 7, "device_key": 1}
	for name, c := range map[string]struct {
		args wamp.List
		ok   bool
	}{
		"own":            {wamp.List{protocol.TestamentDevice, wamp.List{own}, wamp.Dict{}}, true},
		"another device": {wamp.List{protocol.TestamentDevice, wamp.List{wamp.Dict{"swarm_key": 7, "device_key": 2}}, wamp.Dict{}}, false},
		"both":           {wamp.List{protocol.TestamentDevice, wamp.List{own, wamp.Dict{"swarm_key": 7, "device_key": 2}}, wamp.Dict{}}, false},
		"session events": {wamp.List{"wamp.session.on_leave", wamp.List{1}, wamp.Dict{}}, false},
		"studio topic":   {wamp.List{"re.studio.app_state", wamp.List{}, wamp.Dict{}}, false},
		"own log":        {wamp.List{"reswarm.logs.sn1.a", wamp.List{"bye"}, wamp.Dict{}}, true},
		"others' log":    {wamp.List{"reswarm.logs.sn2.a", wamp.List{"bye"}, wamp.Dict{}}, false},
		"rubbish":        {wamp.List{5, 6, 7}, false},
		"too short":      {wamp.List{protocol.TestamentDevice}, false},
		"none":           {nil, false},
	} {
		_, err := device.Call(t.Context(), protocol.AddTestament, nil, c.args, wamp.Dict{"publish_options": wamp.Dict{"ppt_scheme": 5, "eligible": "x"}}, nil)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", name, err)
		}
	}
	sys := r.system()
	events := make(chan *wamp.Event, 4)
	if err := sys.SubscribeChan(protocol.TestamentDevice, events, nil); err != nil {
		t.Fatal(err)
	}
	_ = device.Close()
	select {
	case e := <-events:
		if e.Details["publisher_authid"] != dev1 || len(e.ArgumentsKw) != 0 {
			t.Errorf("testament = %v %v", e.Details, e.ArgumentsKw)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the testament was not published")
	}
}

func TestDevicesAreToldOnlyOfSubscriptionsThatConcernThem(t *testing.T) {
	r := newRig(t, router.Config{})
	r.dir.may["3 sn2 READ"] = true
	device, user := r.join(protocol.RealmDevices, dev1), r.join(protocol.RealmDevices, "3")
	created, deleted := make(chan *wamp.Event, 8), make(chan *wamp.Event, 8)
	if err := device.SubscribeChan(protocol.SubscriptionOnCreate, created, nil); err != nil {
		t.Fatal(err)
	}
	if err := device.SubscribeChan(protocol.SubscriptionOnDelete, deleted, nil); err != nil {
		t.Fatal(err)
	}
	ignore := func(*wamp.Event) {}
	for _, topic := range []string{"reswarm.logs.sn2.a", "re.studio.app_state", "reswarm.logs.sn1.a"} {
		if err := user.Subscribe(topic, ignore, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, topic := range []string{"reswarm.logs.sn2.a", "re.studio.app_state", "reswarm.logs.sn1.a"} {
		if err := user.Unsubscribe(topic); err != nil {
			t.Fatal(err)
		}
	}
	var id any
	select {
	case e := <-created:
		details, _ := wamp.AsDict(e.Arguments[1])
		if uri, _ := wamp.AsString(details["uri"]); uri != "reswarm.logs.sn1.a" {
			t.Errorf("told of %v", details)
		}
		id = details["id"]
	case <-time.After(5 * time.Second):
		t.Fatal("not told of its own log's listener")
	}
	select {
	case e := <-deleted:
		if e.Arguments[1] != id {
			t.Errorf("told that %v is gone, want %v", e.Arguments[1], id)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("not told that the listener is gone")
	}
	if len(created)+len(deleted) != 0 {
		t.Errorf("told of others' subscriptions")
	}
}

func TestAppsMeetInTheirRealmAndNowhereElse(t *testing.T) {
	r := newRig(t, router.Config{})
	one := r.joinWith(realmApp, app1, serialize.MSGPACK)
	two := r.joinWith(realmApp, app2, serialize.MSGPACK)
	user := r.join(realmApp, "3")
	if got := r.router.Realms(); len(got) != 2 {
		t.Fatalf("realms = %v", got)
	}
	if err := one.Register("add", echo, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*client.Client{two, user} {
		if _, err := c.Call(t.Context(), "add", nil, wamp.List{1}, nil, nil); err != nil {
			t.Errorf("call in the realm: %v", err)
		}
	}
	if _, err := r.join(protocol.RealmDevices, "3").Call(t.Context(), "add", nil, nil, nil, nil); err == nil {
		t.Error("an app's procedure can be called from the devices' realm")
	}
	for _, c := range []*client.Client{one, two, user} {
		_ = c.Close()
	}
	eventually(t, "the realm is dropped after its last session", func() bool { return len(r.router.Realms()) == 1 })
	again := r.join(realmApp, app1)
	if _, err := again.Call(t.Context(), "add", nil, nil, nil, nil); err == nil || !strings.Contains(err.Error(), string(wamp.ErrNoSuchProcedure)) {
		t.Errorf("in the new realm: %v", err)
	}
}

func TestTheNumberOfAppRealmsIsBounded(t *testing.T) {
	r := newRig(t, router.Config{MaxAppRealms: 1})
	other := protocol.AppRealm(7, 9, protocol.Prod)
	r.dir.set(other, app2, router.Principal{Role: protocol.RoleApp, Secret: "a2", Serial: "sn2"})
	first := r.join(realmApp, app1)
	if _, err := r.dial(other, app2, "a2", serialize.JSON); err == nil || !strings.Contains(err.Error(), "takes no more") {
		t.Errorf("second realm: %v", err)
	}
	_ = first.Close()
	eventually(t, "there is room again", func() bool {
		c, err := r.dial(other, app2, "a2", serialize.JSON)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

func TestASessionEndsWithItsRights(t *testing.T) {
	r := newRig(t, router.Config{})
	device, user, other := r.join(protocol.RealmDevices, dev1), r.join(protocol.RealmDevices, "3"), r.join(protocol.RealmDevices, "4")
	r.dir.remove(protocol.RealmDevices, dev1)
	p, _ := r.dir.Principal(protocol.RealmDevices, "3")
	p.Revision++
	r.dir.set(protocol.RealmDevices, "3", p)
	r.router.Recheck()
	for name, c := range map[string]*client.Client{"removed device": device, "user with a right less": user} {
		select {
		case <-c.Done():
		case <-time.After(5 * time.Second):
			t.Errorf("%s: the session goes on", name)
		}
	}
	if err := other.Publish("re.mgmt.sn1.term_write.x", nil, nil, nil); err != nil {
		t.Errorf("the session of another user: %v", err)
	}
	r.join(protocol.RealmDevices, "3") // may come back
}

func TestTheRouterClosesWithSessionsOpen(t *testing.T) {
	r := newRig(t, router.Config{})
	var all []*client.Client
	for _, id := range []string{dev1, dev2, "3", "4"} {
		all = append(all, r.join(protocol.RealmDevices, id))
	}
	all = append(all, r.join(realmApp, app1), r.system())
	half := r.raw("wamp.2.json") // still logging in
	began := time.Now()
	r.router.Close()
	if took := time.Since(began); took > 4*time.Second {
		t.Errorf("Close took %v", took)
	}
	for _, c := range all {
		select {
		case <-c.Done():
		case <-time.After(5 * time.Second):
			t.Error("a session was not told")
		}
	}
	half.close()
	if _, err := r.dial(protocol.RealmDevices, dev1, "s1", serialize.JSON); err == nil {
		t.Error("a closed router lets in")
	}
	if _, err := r.router.Local(protocol.RealmDevices, "system", "system"); err == nil {
		t.Error("a closed router lets in locally")
	}
}

func TestCancelReachesTheCallee(t *testing.T) {
	r := newRig(t, router.Config{})
	device, user := r.join(protocol.RealmDevices, dev1), r.join(protocol.RealmDevices, "3")
	began, ended := make(chan struct{}), make(chan error, 1)
	err := device.Register("re.mgmt.sn1.slow", func(ctx context.Context, _ *wamp.Invocation) client.InvokeResult {
		close(began)
		<-ctx.Done()
		ended <- ctx.Err()
		return client.InvokeResult{Err: wamp.ErrCanceled}
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-began; cancel() }()
	if _, err := user.Call(ctx, "re.mgmt.sn1.slow", nil, nil, nil, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("call = %v", err)
	}
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("the callee was not told")
	}
}
