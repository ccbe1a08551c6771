package backend_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
)

// The image registry leaves one goroutine behind, in its library, for as long as
// the process lives.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

// The whole life of an app as the device sees it, over each serialisation.
func TestTheLifeOfAnApp(t *testing.T) {
	for _, serialization := range []string{"json", "cbor", "msgpack"} {
		t.Run(serialization, func(t *testing.T) {
			s := testenv.Studio(t)
			a := admin(t, s)
			_, file := s.AddDevice("press")
			releases := push(t, a, "1.0", "2.0")

			// Wished for while it is away: waits in the list.
			w := deploy(t, a, "1.0", map[string]any{"NONCE": "x=1", "N": 5})
			if w.Delivered || w.Reason == "" || w.App.Target != protocol.Running || w.App.ContainerName != "prod_1_web" {
				t.Errorf("wish for a device that is away: %+v", w)
			}
			d := &device{testenv.Join(t, messenger.Config{
				URL: file.DeviceEndpointURL, Realm: protocol.RealmDevices, Serializations: []string{serialization},
				Identity: func() (string, string) { return protocol.DeviceAuthID(file.SwarmKey, file.DeviceKey), file.Secret },
			}), file, make(chan map[string]any, 16)}
			eventually(t, "the device is online", func() bool { return row(t, s, "press").Online })
			list := d.list(t)
			if len(list) != 1 {
				t.Fatalf("wish list = %v", list)
			}
			wish, _ := protocol.AsDict(list[0])
			for key, want := range map[string]any{
				"app_key": 1, "app_name": "web", "stage": "PROD", "current_state": "REMOVED", "target_state": "RUNNING",
				"requestor_account_key": 1, "device_owner_account_key": 1, "release_key": releases["1.0"], "new_release_key": releases["1.0"],
				"present_version": "1.0", "newest_version": "1.0", "request_update": false, "app_cred_epoch": 1,
			} {
				if !same(wish[key], want) {
					t.Errorf("%s = %#v, want %#v", key, wish[key], want)
				}
			}
			r, err := protocol.ParseRequestedApp(wish)
			if err != nil {
				t.Fatalf("the device cannot read %v: %v", wish, err)
			}
			if nonce, _ := protocol.AsDict(r.Environment["NONCE"]); nonce["value"] != "x=1" {
				t.Errorf("environment = %v", r.Environment)
			}
			if colour, _ := protocol.AsDict(r.EnvironmentTemplate["COLOUR"]); colour["defaultValue"] != "red" {
				t.Errorf("template = %v", r.EnvironmentTemplate)
			}
			if len(r.Ports) != 2 || r.Ports[0].Port != 8080 || r.Ports[1].Wire() != "udp" {
				t.Errorf("ports = %+v", r.Ports)
			}

			// It runs, and reports a port.
			d.register()
			d.report(t, protocol.Downloading, releases["1.0"])
			ports := protocol.PortsReport{AppKey: 1, DeviceKey: file.DeviceKey, SwarmKey: 1, Stage: protocol.Prod, Ports: []protocol.PortRule{{Port: 8080, Name: "page", HostPort: 41000}, {Port: 53, Protocol: "udp", HostPort: 41001}}}
			if _, err := d.Call(t.Context(), protocol.UpdateAppOnDevice, []any{ports.Wire()}, nil); err != nil {
				t.Fatalf("ports: %v", err)
			}
			d.report(t, protocol.Running, releases["1.0"])
			if got := state(t, s, "press"); got.State != protocol.Running || got.Version != "1.0" || len(got.Ports) != 2 || got.Ports[0].HostPort != 41000 {
				t.Errorf("state = %+v", got)
			}

			// Another version.
			eventually(t, "an update is delivered", func() bool {
				w := deploy(t, a, "2.0", nil)
				return w.Delivered
			})
			wish = d.wish(t)
			for key, want := range map[string]any{
				"_caller": "system", "_role": "system", "request_update": true, "present_version": "1.0", "newest_version": "2.0",
				"release_key": releases["1.0"], "new_release_key": releases["2.0"], "current_state": "RUNNING", "target_state": "RUNNING",
			} {
				if !same(wish[key], want) {
					t.Errorf("update: %s = %#v, want %#v", key, wish[key], want)
				}
			}
			if r, err = protocol.ParseAppRequest(wish); err != nil || r.Ports[0].HostPort != 41000 || r.Ports[1].HostPort != 41001 {
				t.Errorf("update: %v, ports %+v: the host ports are kept", err, r.Ports)
			}
			if env, _ := protocol.AsDict(r.Environment["NONCE"]); env["value"] != "x=1" {
				t.Errorf("update: environment = %v", r.Environment)
			}
			d.report(t, protocol.Updating, releases["1.0"])
			d.report(t, protocol.Present, releases["2.0"], "updateStatus", "pending_remote_confirmation")
			if got := state(t, s, "press"); got.Version != "2.0" {
				t.Errorf("after the confirmation version %q is the present one", got.Version)
			}
			d.report(t, protocol.Running, releases["2.0"], "updateStatus", "completed")
			wish, _ = protocol.AsDict(d.list(t)[0])
			if wish["request_update"] != false || wish["present_version"] != "2.0" {
				t.Errorf("after the update: %v", wish)
			}

			// It did not stay up: the old one is back, the wish stays.
			d.report(t, protocol.Failed, releases["2.0"], "error", "the new version exited with status code 1")
			if got := state(t, s, "press"); got.Error == "" {
				t.Errorf("failed: %+v", got)
			}
			d.report(t, protocol.Running, releases["1.0"], "updateStatus", "canceled")
			if got := state(t, s, "press"); got.Version != "1.0" || got.TargetVersion != "2.0" || got.UpdateStatus != protocol.UpdateCanceled || got.Error != "" {
				t.Errorf("rolled back: %+v", got)
			}

			// Stopped, and gone.
			a.Ask(protocol.StudioStopApp, protocol.AppOnDevice{App: "web", Device: "press"}, nil)
			if wish = d.wish(t); wish["target_state"] != "PRESENT" {
				t.Errorf("stop: %v", wish)
			}
			a.Ask(protocol.StudioRemoveApp, protocol.RemoveApp{App: "1", Device: file.SerialNumber, Uninstall: true}, nil)
			if wish = d.wish(t); wish["target_state"] != "UNINSTALLED" || wish["request_update"] != false {
				t.Errorf("uninstall: %v", wish)
			}
			d.report(t, protocol.Removed, releases["1.0"])
			if got := d.list(t); len(got) != 1 {
				t.Errorf("on the way the list has %d rows", len(got))
			}
			d.report(t, protocol.Uninstalled, releases["1.0"])
			if got := d.list(t); len(got) != 0 {
				t.Errorf("at the end the list is %v", got)
			}
		})
	}
}

func TestOnlyTheCallersAuthIDSaysWhichDeviceItIs(t *testing.T) {
	s := testenv.Studio(t)
	one, two := newDevice(t, s, "press"), newDevice(t, s, "mill")
	push(t, admin(t, s), "1.0")
	deploy(t, admin(t, s), "", nil)
	for name, c := range map[string]struct {
		uri string
		arg map[string]any
	}{
		"status":   {protocol.UpdateDeviceStatus, map[string]any{"device_key": one.file.DeviceKey, "status": "CONNECTED"}},
		"metadata": {protocol.ReadDeviceMetadata, map[string]any{"device_key": one.file.DeviceKey}},
		"list":     {protocol.GetRequestedAppStates, map[string]any{"device_key": one.file.DeviceKey}},
		"report":   {protocol.UpdateAppOnDevice, map[string]any{"device_key": one.file.DeviceKey, "app_key": 1, "stage": "PROD", "state": "FAILED"}},
		"arch":     {protocol.UpdateDeviceArchitecture, map[string]any{"device_key": one.file.DeviceKey, "architecture": "x"}},
	} {
		if _, err := two.Call(t.Context(), c.uri, []any{c.arg}, nil); code(err) != string(protocol.CodeRefused) {
			t.Errorf("%s of another device: %v", name, err)
		}
	}
	if len(two.list(t)) != 0 || len(one.list(t)) != 1 {
		t.Error("the lists are mixed up")
	}
	// People do not have devices' procedures, and the other way round.
	for uri := range map[string]bool{protocol.UpdateDeviceStatus: true, protocol.GetAppCredKey: true, protocol.GetRegistryToken: true} {
		if _, err := admin(t, s).Call(t.Context(), uri, []any{map[string]any{"callerID": 1}}, nil); err == nil {
			t.Errorf("a user may call %s", uri)
		}
	}
	if err := two.Try(protocol.StudioListDevices, nil, nil); err == nil {
		t.Error("a device may list devices")
	}
}

func TestWhatDevicesAreAnswered(t *testing.T) {
	s := testenv.Studio(t)
	d := newDevice(t, s, "press")
	ask := func(uri string, args ...any) any {
		t.Helper()
		answer, err := d.Call(t.Context(), uri, args, nil)
		if err != nil {
			t.Fatalf("%s: %v", uri, err)
		}
		return protocol.Arg(answer.Args, 0)
	}
	status, _ := protocol.AsDict(ask(protocol.UpdateDeviceStatus, map[string]any{"status": "CONNECTED", "device_key": d.file.DeviceKey, "swarm_key": 1, "stats": nil}))
	if status["reswarmBaseURL"] != s.URL() {
		t.Errorf("status = %v", status)
	}
	meta, _ := protocol.AsDict(ask(protocol.ReadDeviceMetadata, map[string]any{"device_key": d.file.DeviceKey}))
	if meta["device_name"] != "press" || meta["ownername"] != "admin" || meta["swarm_name"] == "" || !same(meta["swarm_key"], 1) {
		t.Errorf("metadata = %v", meta)
	}
	if key, _ := ask(protocol.GetAppCredKey).(string); len(key) != 44 {
		t.Errorf("credential key = %q", key)
	}
	if token, _ := ask(protocol.GetRegistryToken, map[string]any{"callerID": 1}).(string); token == "" {
		t.Error("no registry token")
	}
	ask(protocol.UpdateDeviceArchitecture, map[string]any{"swarm_key": 1, "device_key": d.file.DeviceKey, "architecture": "armv7", "os": "linux debian", "arch": "arm", "variant": "v7", "agent_version": "1.2.3"})
	if r := row(t, s, "press"); r.Architecture != "armv7" || r.AgentVersion != "1.2.3" || r.Status != protocol.Connected || r.LastSeen.IsZero() {
		t.Errorf("row = %+v", r)
	}
	question := func(change ...any) any {
		q := protocol.Wire(protocol.PrivilegeQuestion{Privilege: protocol.Read, Entity: "DEVICE", EntityKey: d.file.DeviceKey, RequestorAccountKey: 1, SwarmKey: 1})
		for i := 0; i < len(change); i += 2 {
			q[change[i].(string)] = change[i+1]
		}
		return ask(protocol.CheckPrivilege, q)
	}
	if question() != true {
		t.Error("the administrator may not READ")
	}
	for _, change := range [][]any{{"requestor_account_key", 2}, {"requestor_account_key", 0}, {"requestor_account_key", "x"}, {"requestor_account_key", nil}, {"entity_key", 99}, {"entity", "APP"}, {"privilege", ""}, {"privilege", 5}} {
		if got := question(change...); got != false {
			t.Errorf("%v: %v", change, got)
		}
	}
}

func TestPrivilegesOfUsers(t *testing.T) {
	s := testenv.Studio(t)
	a := admin(t, s)
	d := newDevice(t, s, "press")
	newDevice(t, s, "mill")
	push(t, a, "1.0")
	var added protocol.UserAdded
	a.Ask(protocol.StudioAddUser, protocol.AddUser{Name: "ann"}, &added)
	ann := s.Join(added.Profile)

	devicesOf := func() (names []string) {
		var list protocol.DeviceList
		ann.Ask(protocol.StudioListDevices, nil, &list)
		for _, r := range list.Devices {
			names = append(names, r.Name)
		}
		return names
	}
	want := func(uri string, in any, wanted protocol.Code) {
		t.Helper()
		if got := code(ann.Try(uri, in, nil)); got != string(wanted) && !(wanted == "" && got == "<nil>") {
			t.Errorf("%s: %q, want %q", uri, got, wanted)
		}
	}
	if got := devicesOf(); len(got) != 0 {
		t.Errorf("without a right ann sees %v", got)
	}
	deployWeb := protocol.DeployApp{App: "web", Device: "press"}
	want(protocol.StudioDeployApp, deployWeb, protocol.CodeNotFound)
	want(protocol.StudioListStates, protocol.ListStates{Device: "press"}, protocol.CodeNotFound)
	for _, uri := range []string{protocol.StudioAddUser, protocol.StudioListUsers, protocol.StudioRemoveUser, protocol.StudioGrantPrivilege, protocol.StudioRevokePrivilege, protocol.StudioAddDevice, protocol.StudioRemoveDevice} {
		want(uri, protocol.GrantArgs{User: "ann", Device: "press", Privilege: protocol.Read}, protocol.CodeRefused)
	}
	want(protocol.StudioCreateRelease, protocol.CreateRelease{App: "web", Version: "9", Architectures: []string{"amd64"}}, protocol.CodeRefused)
	want(protocol.StudioCreateRegistryToken, protocol.AppArgs{App: "web"}, protocol.CodeRefused)

	a.Ask(protocol.StudioGrantPrivilege, protocol.GrantArgs{User: "ann", Device: "press", Privilege: protocol.Read}, nil)
	if got := devicesOf(); !reflect.DeepEqual(got, []string{"press"}) {
		t.Errorf("with READ on press ann sees %v", got)
	}
	want(protocol.StudioDeployApp, deployWeb, protocol.CodeRefused)
	a.Ask(protocol.StudioGrantPrivilege, protocol.GrantArgs{User: "ann", Device: "press", Privilege: protocol.Develop}, nil)
	want(protocol.StudioDeployApp, deployWeb, "")
	var login protocol.RegistryLogin
	ann.Ask(protocol.StudioCreateApp, protocol.CreateApp{Name: "anns"}, nil)
	ann.Ask(protocol.StudioCreateRegistryToken, protocol.AppArgs{App: "anns"}, &login)
	if login.AppKey != 2 || login.Registry != s.Address()+"/" || login.Repository != "apps/" || !login.Insecure || login.Username != "2" || login.Password == "" {
		t.Errorf("registry login = %+v", login)
	}

	// Events reach her for this device, and for no other.
	events := make(chan string, 16)
	ann.DeclareTopic(protocol.StudioDeviceState, "", func(_ context.Context, e messenger.Event) {
		row, _ := protocol.AsDict(protocol.Arg(e.Args, 0))
		events <- fmt.Sprint(row["name"])
	})
	eventually(t, "ann hears of press and not of mill", func() bool {
		for _, status := range []string{"CONNECTED", "CONFIGURING"} {
			if _, err := d.Call(t.Context(), protocol.UpdateDeviceStatus, []any{map[string]any{"status": status}}, nil); err != nil {
				t.Fatal(err)
			}
		}
		select {
		case name := <-events:
			if name != "press" {
				t.Fatalf("ann hears of %s", name)
			}
			return true
		default:
			return false
		}
	})

	// A right that is taken away ends what lives on it.
	a.Ask(protocol.StudioRevokePrivilege, protocol.GrantArgs{User: "ann", Device: "press", Privilege: protocol.Read}, nil)
	eventually(t, "ann is back with less", func() bool {
		var list protocol.DeviceList
		return ann.Try(protocol.StudioListDevices, nil, &list) == nil && len(list.Devices) == 0
	})
	var row protocol.AccountRow
	ann.Ask(protocol.StudioReadAccount, nil, &row)
	if row.Name != "ann" || row.Administrator || len(row.Grants) != 1 || row.Grants[0].Privilege != protocol.Develop {
		t.Errorf("account = %+v", row)
	}
	a.Ask(protocol.StudioRemoveUser, protocol.RemoveUser{User: "ann"}, nil)
	eventually(t, "ann is out", func() bool { return !ann.Online() })
}

func TestPresence(t *testing.T) {
	s := testenv.Studio(t)
	_, file := s.AddDevice("press")
	if r := row(t, s, "press"); r.Online || r.Status != protocol.Disconnected || r.SerialNumber == "" {
		t.Errorf("never seen: %+v", r)
	}
	d := join(t, s, file)
	if r := row(t, s, "press"); r.Status != protocol.Configuring || r.Since.IsZero() {
		t.Errorf("joined: %+v", r)
	}
	d.Leave()
	eventually(t, "the device is offline", func() bool { r := row(t, s, "press"); return !r.Online && r.Status == protocol.Disconnected })

	// Refused logins are counted until one is good.
	wrong, err := messenger.New(messenger.Config{
		URL: s.Endpoint(), Realm: protocol.RealmDevices, Identity: func() (string, string) { return "1-1", "wrong" },
		UnauthorizedRetry: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- wrong.Run(ctx, func(context.Context, *messenger.Link) error { return nil }) }()
	eventually(t, "refused logins are counted", func() bool {
		r := row(t, s, "press").RefusedLogins
		return r.Count >= 2 && r.Reason == "wrong secret" && !r.Last.IsZero()
	})
	cancel()
	<-ended
	d = join(t, s, file)
	if got := row(t, s, "press").RefusedLogins.Count; got != 0 {
		t.Errorf("after a good login %d refused ones are counted", got)
	}

	// A studio that comes back learns who is there.
	s.Restart()
	eventually(t, "the device is seen again", func() bool { return row(t, s, "press").Online })

	admin(t, s).Ask(protocol.StudioRemoveDevice, protocol.DeviceArgs{Device: "press"}, nil)
	eventually(t, "the removed device is out", func() bool { return !d.Online() })
}

func TestAWishThatADeviceRefusesIsToldSo(t *testing.T) {
	s := testenv.Studio(t)
	d := newDevice(t, s, "press")
	push(t, admin(t, s), "1.0")
	d.Declare(protocol.Procedure(d.file.SerialNumber, protocol.RequestAppState), nil, func(context.Context, messenger.Invocation) messenger.Outcome {
		return messenger.Outcome{Error: protocol.ErrorContract, Args: []any{map[string]any{"error": "not on this device"}}}
	})
	var w protocol.Wished
	eventually(t, "the device answers", func() bool { w = deploy(t, admin(t, s), "", nil); return w.Refused })
	if w.Delivered || !strings.Contains(w.Reason, "not on this device") {
		t.Errorf("wish = %+v, want the device's words", w)
	}
}

func TestAWishThatWasNotDeliveredIsDeliveredLater(t *testing.T) {
	s := testenv.Studio(t)
	d := newDevice(t, s, "press")
	push(t, admin(t, s), "1.0")
	// Online, but its procedures are not there yet, and its list was asked for.
	d.list(t)
	if w := deploy(t, admin(t, s), "", nil); w.Delivered || w.Refused || w.Reason == "" {
		t.Errorf("wish = %+v", w)
	}
	d.register()
	connected := func() {
		if _, err := d.Call(t.Context(), protocol.UpdateDeviceStatus, []any{map[string]any{"status": "CONNECTED"}}, nil); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the wish arrives", func() bool { connected(); return len(d.wishes) > 0 })
	if w := d.wish(t); w["target_state"] != "RUNNING" {
		t.Errorf("wish = %v", w)
	}
	eventually(t, "it is not delivered again and again", func() bool {
		n := len(d.wishes)
		for range 3 {
			connected()
		}
		return n == len(d.wishes)
	})
}

func TestEventsTellWhatStatesTell(t *testing.T) {
	s := testenv.Studio(t)
	a := admin(t, s)
	d := newDevice(t, s, "press")
	releases := push(t, a, "1.0")
	events := make(chan protocol.AppOnDeviceRow, 16)
	follower := s.Admin()
	withdraw := follower.DeclareTopic(protocol.StudioAppState, "", func(_ context.Context, e messenger.Event) {
		var row protocol.AppOnDeviceRow
		if err := protocol.Decode(protocol.Arg(e.Args, 0), &row); err != nil {
			t.Errorf("event: %v", err)
		}
		events <- row
	})
	defer withdraw()
	eventually(t, "the follower hears of a wish", func() bool { deploy(t, a, "", nil); return len(events) > 0 })
	for len(events) > 0 {
		<-events
	}
	d.report(t, protocol.Failed, releases["1.0"], "error", "no such image")
	for {
		select {
		case e := <-events:
			if e.State != protocol.Failed {
				continue
			}
			want := state(t, s, "press")
			want.Wished, want.Reported = e.Wished, e.Reported
			if !reflect.DeepEqual(e, want) || e.Error != "no such image" {
				t.Errorf("event %+v, states %+v", e, want)
			}
			return
		case <-time.After(5 * time.Second):
			t.Fatal("no event")
		}
	}
}

// Whatever comes: an error or nothing, never a panic, and nothing is lost.
func TestArgumentsOfAnyShape(t *testing.T) {
	s := testenv.Studio(t)
	a := admin(t, s)
	d := newDevice(t, s, "press")
	releases := push(t, a, "1.0")
	deploy(t, a, "", nil)
	d.report(t, protocol.Running, releases["1.0"])
	before := state(t, s, "press")
	odd := []any{nil, "x", 5, -1, 1.5, true, []any{}, []any{[]any{}}, map[string]any{}, map[string]any{"device_key": "x"}, map[string]any{"device_key": []any{}},
		map[string]any{"app_key": -1, "stage": "PROD", "state": "RUNNING"}, map[string]any{"app_key": 1, "stage": "prod", "state": "RUNNING"},
		map[string]any{"app_key": 1, "stage": "PROD", "state": "WALKING"}, map[string]any{"app_key": 1, "stage": "PROD", "state": nil},
		map[string]any{"app_key": 1, "stage": "PROD", "ports": "x"}, map[string]any{"app_key": 1, "stage": "PROD", "ports": []any{1, nil, map[string]any{"port": 70000}}},
		map[string]any{"app_key": 1e300, "stage": 5}, map[string]any{"status": 5}, map[string]any{"status": "x"}, map[string]any{"architecture": []any{}},
		map[string]any{"app": []any{}, "device": 5, "environment": "x"}, map[string]any{"user": nil, "name": map[string]any{}}, map[string]any{"history": -5}, map[string]any{"history": "x"},
		map[string]any{"app": "web", "device": "press", "environment": map[string]any{"A B": "x"}}, map[string]any{"app": "web", "device": "press", "environment": map[string]any{"A": []any{1}}},
		map[string]any{"app": "web", "device": "press", "environment": map[string]any{"A": "x\x00y"}}, map[string]any{"app": "web", "version": "../1", "architectures": []any{"amd64"}},
		map[string]any{"app": "web", "version": "1.1", "architectures": []any{"amd64"}, "ports": []any{map[string]any{"port": 0}}}, map[string]any{"app": "web", "device": "press", "version": "77"}}
	for _, uri := range []string{protocol.UpdateDeviceStatus, protocol.ReadDeviceMetadata, protocol.GetAppCredKey, protocol.UpdateDeviceArchitecture, protocol.CheckPrivilege, protocol.GetRequestedAppStates, protocol.UpdateAppOnDevice, protocol.GetRegistryToken} {
		for _, args := range shapes(odd) {
			_, err := d.Call(t.Context(), uri, args, map[string]any{"device_key": 99})
			if c := code(err); c == string(protocol.CodeInternal) {
				t.Errorf("%s%v: %v", uri, args, err)
			}
			var refusal *messenger.CallError
			if errors.As(err, &refusal) && refusal.URI != protocol.ErrorContract {
				t.Errorf("%s%v: error %s, want the contract's", uri, args, refusal.URI)
			}
		}
	}
	for _, uri := range []string{protocol.StudioReadAccount, protocol.StudioAddUser, protocol.StudioListUsers, protocol.StudioRemoveUser, protocol.StudioGrantPrivilege, protocol.StudioRevokePrivilege, protocol.StudioAddDevice, protocol.StudioListDevices, protocol.StudioRemoveDevice, protocol.StudioCreateApp, protocol.StudioListApps, protocol.StudioCreateRegistryToken, protocol.StudioCreateRelease, protocol.StudioDeployApp, protocol.StudioStopApp, protocol.StudioRemoveApp, protocol.StudioListStates, protocol.StudioSetAppEnvironment, protocol.StudioSetAppPorts, protocol.StudioDevelopApp, protocol.StudioPublishApp, protocol.StudioDeleteRelease, protocol.StudioDeleteApp} {
		for _, args := range shapes(odd[:len(odd)-1]) {
			d, _ := protocol.AsDict(protocol.Arg(args, 0))
			if (uri == protocol.StudioStopApp || uri == protocol.StudioRemoveApp || uri == protocol.StudioRemoveDevice) && d["device"] == "press" {
				continue // those are good
			}
			_, err := a.Call(t.Context(), uri, args, nil)
			if c := code(err); c == string(protocol.CodeInternal) {
				t.Errorf("%s%v: %v", uri, args, err)
			}
		}
	}
	after := state(t, s, "press")
	if !reflect.DeepEqual(before, after) {
		t.Errorf("something was changed:\n%+v, then\n%+v", before, after)
	}
	if got := d.list(t); len(got) != 1 {
		t.Errorf("wish list = %v", got)
	}
}

// shapes are argument lists with each value first, and some with none.
func shapes(values []any) [][]any {
	all := [][]any{nil, {}}
	for _, v := range values {
		all = append(all, []any{v}, []any{v, v})
	}
	return all
}
