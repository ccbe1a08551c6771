package protocol

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestAppSecretMatchesTheContractsVector(t *testing.T) {
	const serial = "06a0bf96-a539-4d6a-8471-ac7adc67616e"
	got := AppSecret("dGVzdC1rZXktZm9yLXZlY3Rvcg==", Prod, 33, 0, serial)
	if want := "Pr7pphQvvuN4WW0EKmbTnngTGFpxqFXuH4mYCVrV6+A="; got != want {
		t.Errorf("AppSecret = %q, want %q", got, want)
	}
	id := AppAuthID(Prod, 33, 0, serial)
	if want := "app-33-prod-e1@" + serial; id != want {
		t.Errorf("AppAuthID = %q, want %q", id, want)
	}
	stage, key, epoch, sn, ok := ParseAppAuthID(id)
	if stage != Prod || key != 33 || epoch != 1 || sn != serial || !ok {
		t.Errorf("ParseAppAuthID(%q) = %v %v %v %v %v", id, stage, key, epoch, sn, ok)
	}
}

func TestRealmNamesRoundTrip(t *testing.T) {
	name := AppRealm(41, 6, Dev)
	if name != "realm-41-6-dev" {
		t.Fatalf("AppRealm = %q", name)
	}
	if s, a, st, ok := ParseAppRealm(name); s != 41 || a != 6 || st != Dev || !ok {
		t.Errorf("ParseAppRealm = %v %v %v %v", s, a, st, ok)
	}
	for _, bad := range []string{"realm1", "realm-041-6-dev", "realm-41-6-DEV", "realm-41-6-x", "realm-41-6-dev-x", ""} {
		if _, _, _, ok := ParseAppRealm(bad); ok {
			t.Errorf("ParseAppRealm(%q) was accepted", bad)
		}
	}
}

func TestContainerNamesRoundTripAndForeignOnesAreRefused(t *testing.T) {
	name := ContainerName(Prod, 6, "My_App-1")
	if name != "prod_6_my_app-1" {
		t.Fatalf("ContainerName = %q", name)
	}
	if st, key, app, ok := ParseContainerName("/" + name); st != Prod || key != 6 || app != "my_app-1" || !ok {
		t.Errorf("ParseContainerName = %v %v %v %v", st, key, app, ok)
	}
	for _, bad := range []string{"", "prod_6_", "prod_x_app", "test_6_app", "prod_06_app", "web", "prod_6", "prod_-6_a"} {
		if _, _, _, ok := ParseContainerName(bad); ok {
			t.Errorf("ParseContainerName(%q) was accepted", bad)
		}
	}
}

func TestEveryStateSettles(t *testing.T) {
	for _, s := range States() {
		to := s.Settled()
		if to.Settled() != to {
			t.Errorf("%s settles to %s, which settles further to %s", s, to, to.Settled())
		}
	}
	if len(States()) != 17 {
		t.Errorf("%d states, the contract has 17", len(States()))
	}
}

func TestNumbersOfEveryTypeAreRead(t *testing.T) {
	for _, v := range []any{5, int8(5), int16(5), int32(5), int64(5), uint(5), uint8(5), uint16(5), uint32(5), uint64(5), float32(5), 5.0, "5"} {
		if n, ok := Uint(v); n != 5 || !ok {
			t.Errorf("Uint(%T %v) = %d, %t", v, v, n, ok)
		}
	}
	for _, v := range []any{nil, -1, int64(-41), int32(-1), int16(-1), int8(-1), 5.5, math.NaN(), "5.0", "-1", "", true, []any{}, 1e30, "99999999999999999999"} {
		if n, ok := Uint(v); ok || n != 0 {
			t.Errorf("Uint(%T %v) = %d, %t, want a refusal and no number", v, v, n, ok)
		}
	}
}

func request(change func(map[string]any)) map[string]any {
	m := map[string]any{"app_key": uint64(6), "app_name": "web", "stage": "PROD", "target_state": "RUNNING", "current_state": "REMOVED"}
	if change != nil {
		change(m)
	}
	return m
}

func TestAppRequestReadsTheContractsKeys(t *testing.T) {
	r, err := ParseAppRequest(request(func(m map[string]any) {
		m["target_state"] = ""
		m["manually_requested_state"] = "STARTING"
		m["account_id"] = "17"
		m["release_key"] = "9"
		m["environment"] = map[string]any{"A": map[string]any{"value": 1}}
		m["ports"] = []any{map[string]any{"port": 80.0, "protocol": "udp", "host_port": "40001"}}
		m["instance_key"] = "rubbish"
		m["app_cred_epoch"] = 3.0
		m["docker_credentials"] = map[string]any{"r": map[string]any{"username": "u", "password": "p"}}
	}))
	if err != nil {
		t.Fatal(err)
	}
	if r.Target != Starting || r.RequestorAccountKey != 17 || r.ReleaseKey != 9 || r.AppCredEpoch != 3 || r.InstanceKey != 0 {
		t.Errorf("request = %+v", r)
	}
	if len(r.Ports) != 1 || r.Ports[0].Port != 80 || r.Ports[0].HostPort != 40001 || r.Ports[0].Wire() != "udp" {
		t.Errorf("ports = %+v", r.Ports)
	}
	if r.DockerCredentials["r"].Password != "p" {
		t.Errorf("credentials = %+v", r.DockerCredentials)
	}
	if _, kept := Wire(r)["docker_credentials"]; kept {
		t.Error("credentials are part of the stored form")
	}
}

func TestBadRequestsNameTheField(t *testing.T) {
	for name, c := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"zero key":        {func(m map[string]any) { m["app_key"] = 0 }, "missing from payload app_key"},
		"no key":          {func(m map[string]any) { delete(m, "app_key") }, "missing from payload app_key"},
		"key as text":     {func(m map[string]any) { m["app_key"] = "6" }, "failed to parse app_key"},
		"negative key":    {func(m map[string]any) { m["app_key"] = -6 }, "failed to parse app_key"},
		"huge key":        {func(m map[string]any) { m["app_key"] = 1e300 }, "failed to parse app_key"},
		"no name":         {func(m map[string]any) { m["app_name"] = "" }, "failed to parse appName"},
		"parent folder":   {func(m map[string]any) { m["app_name"] = ".." }, "failed to parse appName"},
		"name with space": {func(m map[string]any) { m["app_name"] = "a b" }, "failed to parse appName"},
		"name with slash": {func(m map[string]any) { m["app_name"] = "a/b" }, "failed to parse appName"},
		"no stage":        {func(m map[string]any) { m["stage"] = "" }, "missing from payload stage"},
		"odd stage":       {func(m map[string]any) { m["stage"] = "prod" }, "failed to parse stage"},
		"no target":       {func(m map[string]any) { delete(m, "target_state") }, "failed to parse requestedState"},
		"odd target":      {func(m map[string]any) { m["target_state"] = "WALKING" }, "failed to parse requestedState"},
		"stopped":         {func(m map[string]any) { m["target_state"] = "STOPPED" }, "failed to parse requestedState"},
		"odd current":     {func(m map[string]any) { m["current_state"] = 5 }, "failed to parse currentState"},
		"env no object":   {func(m map[string]any) { m["environment"] = map[string]any{"A": "x"} }, "failed to parse environment"},
		"env list":        {func(m map[string]any) { m["environment"] = []any{} }, "failed to parse environment"},
		"ports rubbish":   {func(m map[string]any) { m["ports"] = []any{1, "x"} }, "failed to parse ports"},
		"port too large":  {func(m map[string]any) { m["ports"] = []any{map[string]any{"port": 65536}} }, "failed to parse ports"},
		"update as text":  {func(m map[string]any) { m["request_update"] = "yes" }, "failed to parse requestUpdate"},
		"odd version":     {func(m map[string]any) { m["present_version"] = "../1" }, "failed to parse presentVersion"},
		"credential":      {func(m map[string]any) { m["docker_credentials"] = map[string]any{"r": nil} }, "failed to parse docker credentials"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParseAppRequest(request(c.change))
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("error = %v, want %q…", err, c.want)
			}
		})
	}
}

func TestPortNumbersAreSentAsFloats(t *testing.T) {
	d := PortsReport{AppKey: 1, Ports: []PortRule{{Port: 80, HostPort: 40000}}}.Wire()
	rule := d["ports"].([]any)[0].(map[string]any)
	if rule["port"] != 80.0 || rule["host_port"] != 40000.0 || d["app_key"] != int64(1) {
		t.Errorf("report = %#v", d)
	}
	if l, ok := (PortsReport{}).Wire()["ports"].([]any); !ok || l == nil {
		t.Error("no rules are not an empty list")
	}
}

func TestDecodeNamesTheWrongKey(t *testing.T) {
	var out struct {
		N Number `json:"n"`
		B bool   `json:"b"`
	}
	if err := Decode(map[string]any{"n": "7", "b": true}, &out); err != nil || out.N != 7 || !out.B {
		t.Errorf("Decode = %v, %+v", err, out)
	}
	if err := Decode(map[string]any{"b": "yes"}, &out); err == nil || !strings.Contains(err.Error(), "b") {
		t.Errorf("Decode = %v, want an error that names b", err)
	}
	for _, in := range []any{nil, "x", []any{[]any{}}, 5} {
		_ = Decode(in, &out) // must not panic, whatever it answers
	}
}

func TestAWishReadsTheSameAfterTheDisk(t *testing.T) {
	r, err := ParseAppRequest(request(func(m map[string]any) {
		m["environment"] = map[string]any{
			"BIG": map[string]any{"value": uint64(9007199254740993)}, "NAN": map[string]any{"value": math.NaN()},
			"INT": map[string]any{"value": int64(-5)}, "LIST": map[string]any{"value": []any{uint64(1), "x", nil}},
		}
	}))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var again AppRequest
	if err := json.Unmarshal(raw, &again); err != nil || !reflect.DeepEqual(r, again) {
		t.Errorf("read again (%v):\n%#v\nwant\n%#v", err, again, r)
	}
}

func FuzzParseAppRequest(f *testing.F) {
	f.Add(`{"app_key":6,"app_name":"web","stage":"PROD","target_state":"RUNNING"}`)
	f.Add(`{"ports":[{"port":1e9}],"environment":{"A":[]}}`)
	f.Fuzz(func(t *testing.T, raw string) {
		d, ok := plain([]byte(raw)).(map[string]any)
		if !ok {
			return
		}
		r, err := ParseAppRequest(d)
		if err == nil && (CheckAppName(r.AppName) != nil || !r.Stage.Valid() || !r.Target.Valid() || r.AppKey == 0) {
			t.Errorf("accepted %q as %+v", raw, r)
		}
		_, _ = ParseRequestedApp(d)
	})
}
