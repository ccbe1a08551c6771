package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/test/rig"
)

func TestAnAppLivesItsWholeLife(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		agent := w.start(t)
		wholeLife(t, w)
		agent.Terminate(syscall.SIGTERM, 5*time.Second)
		w.operator.WaitDevice(w.device.Serial, "is gone", 5*time.Second, func(d protocol.DeviceRow) bool { return !d.Online })
		w.keptSecrets(t, agent)
	})
}

// keptSecrets fails the test when a log tells the device's secret.
func (w *world) keptSecrets(t *testing.T, agent *testenv.Process) {
	t.Helper()
	logs := map[string]string{"the agent's log": w.device.Log(), "the agent's console": agent.Said()}
	if w.studio != nil {
		logs["the studio's log"] = w.studio.Log()
	}
	for name, text := range logs {
		if strings.Contains(text, w.file.Secret) || strings.Contains(text, w.login.Secret) {
			t.Errorf("%s tells a secret", name)
		}
	}
}

// dictKeys are the keys that an object of the contract has at least.
var dictKeys = map[string][]string{
	protocol.GetAgentMetadata: {"os", "OSVersion", "arch", "variant", "version", "serialNumber", "canUpdate", "tunnelCapable"},
	protocol.GetStorageData: {
		"cpu_count", "cpu_usage", "memory_total", "memory_used", "memory_available", "storage_total", "storage_used", "storage_free",
		"docker_apps_total", "docker_apps_used", "docker_apps_free", "docker_apps_mounted",
	},
}

func TestAutobahnCallsTheDevicesProceduresAndReadsItsLogs(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		w.start(t)
		app := w.engine.Prefix + "talks"
		w.operator.Release(app, rig.Release{Version: "1.0.0", Image: testenv.App{Env: []string{"TESTAPP_EVERY=100ms", "TESTAPP_LINES=3"}}})
		for _, format := range []string{"json", "msgpack", "cbor"} {
			user, hello := foreign(t, w.login, format)
			if hello.Joined == nil || hello.Joined.AuthID != rig.Administrator {
				t.Fatalf("%s: Autobahn says %+v, want that it joined", format, hello)
			}
			w.readsAnswers(t, user, format)
			w.isRefused(t, user, format)
		}
		w.asSystem(t)

		user, _ := foreign(t, w.login, "msgpack")
		cn := protocol.ContainerName(protocol.Prod, w.operator.Deploy(app, w.device.Serial, "1.0.0", nil).App.AppKey, app)
		if got := user.does(map[string]any{"subscribe": protocol.LogTopic(w.device.Serial, cn)}); got.Subscribed == "" {
			t.Fatalf("subscribe to the log: %+v", got)
		}
		testenv.Eventually(t, limit, func() string { return fmt.Sprintf("the log tells ticks and what the agent does: %q", user.heard()) }, func() bool {
			said := strings.Join(user.heard(), "\n")
			return strings.Contains(said, "tick 5") && strings.Contains(said, "Now running app")
		})
		inOrderOf(t, user.heard(), "tick ")
		past := user.call(w.uri(protocol.GetAppLogHistory), []any{map[string]any{"containerName": cn}}, nil)
		if lines := fmt.Sprint(past.Args...); !strings.Contains(lines, "tick 1") {
			t.Errorf("history = %+v, want the lines so far", past)
		}
		w.readsBack(t, user, cn)
		w.runsCommands(t, user, cn)
	})
}

// runsCommands runs commands in an app's container, which the policy of a device
// does not forbid, and none on the device, which it does.
func (w *world) runsCommands(t *testing.T, user *autobahn, cn string) {
	t.Helper()
	question := map[string]any{
		"id": "3f1c2a54-0f52-4d3e-9b8f-1d2f6f0c1d9e", "container_name": cn, "argv": []any{"/testapp"},
		"env": map[string]any{"TESTAPP_LINES": "5000", "TESTAPP_EXIT": "3", "TESTAPP_STDERR": "to the other stream"},
	}
	before := len(user.heard())
	got := user.does(map[string]any{"call": w.uri(protocol.RunCommand), "args": []any{question}, "progress": true})
	end, _ := protocol.AsDict(protocol.Arg(got.Args, 0))
	if end["state"] != "exited" || fmt.Sprint(end["exit_code"]) != "3" || end["stdout"] != nil || end["replayed"] != false {
		t.Errorf("run_command answers %+v", got)
	}
	parts := strings.Join(user.heard()[before:], "\n")
	for _, want := range []string{"seq:0", "line 1\n", "line 5000\n", "to the other stream", "type:output"} {
		if !strings.Contains(parts, want) {
			t.Errorf("no %q in its output of %d bytes", want, len(parts))
		}
	}
	for _, args := range []map[string]any{question, {"id": question["id"], "container_name": cn}} {
		got = user.call(w.uri(protocol.RunCommand), []any{args}, nil)
		end, _ = protocol.AsDict(protocol.Arg(got.Args, 0))
		if text := fmt.Sprint(end["stdout"]); end["replayed"] != true || !strings.HasSuffix(text, "line 5000\nready\n") || end["stderr"] != "to the other stream\n" {
			t.Errorf("run_command %v answers %.300v", args, got)
		}
	}
	got = user.call(w.uri(protocol.RunCommand), []any{map[string]any{"id": question["id"], "shell": "true"}}, nil)
	if got.Error != "re.error.disabled_by_policy" || !strings.Contains(fmt.Sprint(got.Args), "policy.commands") {
		t.Errorf("on the device: %+v, want the policy's refusal", got)
	}
}

// readsBack asks for the log of an app, and for the agent's own.
func (w *world) readsBack(t *testing.T, user *autobahn, cn string) {
	t.Helper()
	lines := func(procedure string, args map[string]any) (map[string]any, []string) {
		t.Helper()
		got := user.call(w.uri(procedure), []any{args}, nil)
		d, _ := protocol.AsDict(protocol.Arg(got.Args, 0))
		list, _ := protocol.AsList(d["lines"])
		var texts []string
		for _, line := range list {
			texts = append(texts, fmt.Sprint(line))
		}
		if n, _ := protocol.Uint(d["returned"]); int(n) != len(texts) || d["device_time"] == nil || got.Error != "" {
			t.Errorf("%s %v answers %+v", procedure, args, got)
		}
		return d, texts
	}
	whole, all := lines(protocol.QueryAppLogs, map[string]any{"containerName": cn, "tail": 5000, "timestamps": false})
	if !slices.Contains(all, "line 1") || !slices.Contains(all, "tick 1") || whole["truncated"] != false || whole["source"] != "docker" || whole["oldest_available"] == nil {
		t.Errorf("query_app_logs answers %+v", whole)
	}
	inOrderOf(t, all, "tick ")
	part, two := lines(protocol.QueryAppLogs, map[string]any{"containerName": cn, "tail": "2", "since": "1h", "until": "0s"})
	if len(two) != 2 || part["truncated"] != true {
		t.Errorf("the newest two lines: %+v", part)
	}
	_, own := lines(protocol.QueryDeviceLogs, map[string]any{"tail": 5000, "level": "info"})
	if !slices.ContainsFunc(own, func(s string) bool { return strings.Contains(s, " INFO session joined") }) {
		t.Errorf("the agent's own log is %q, want that it joined", own)
	}
}

func (w *world) uri(procedure string) string { return protocol.Procedure(w.device.Serial, procedure) }

// readsAnswers calls what a user with all rights may call; every answer has the
// contract's shape.
func (w *world) readsAnswers(t *testing.T, user *autobahn, format string) {
	t.Helper()
	for procedure, keys := range dictKeys {
		got := user.call(w.uri(procedure), nil, nil)
		d, _ := protocol.AsDict(protocol.Arg(got.Args, 0))
		for _, key := range keys {
			if _, there := d[key]; !there {
				t.Errorf("%s: %s answers %+v, want an object with %s", format, procedure, got, key)
			}
		}
	}
	if got := user.call(w.uri(protocol.ListContainers), nil, nil); len(got.Args) != 1 {
		t.Errorf("%s: list_containers answers %+v, want one list", format, got)
	} else if _, ok := protocol.AsList(got.Args[0]); !ok {
		t.Errorf("%s: list_containers answers %T, want a list", format, got.Args[0])
	}
	for procedure, key := range map[string]string{protocol.GetImages: "id", protocol.GetNetworkMetadata: "IP"} {
		got := user.call(w.uri(procedure), nil, nil)
		if d, _ := protocol.AsDict(protocol.Arg(got.Args, 0)); d[key] == nil {
			t.Errorf("%s: %s answers %.200s, want objects with %s", format, procedure, fmt.Sprint(got.Args), key)
		}
	}
	if got := user.call(w.uri(protocol.GetIPv4Addresses), nil, nil); len(got.Args) != 1 {
		t.Errorf("%s: get_ipv4_addresses answers %+v, want one list", format, got)
	}
	if got := user.call(w.uri(protocol.ConnectionEstablished), nil, nil); len(got.Args) != 1 || got.Args[0] != "Hello :-)" {
		t.Errorf("%s: wamp_connection_established answers %+v", format, got)
	}
}

// isRefused calls wrongly, and what is not for users.
func (w *world) isRefused(t *testing.T, user *autobahn, format string) {
	t.Helper()
	for _, row := range []struct {
		procedure string
		args      []any
		says      string
	}{
		{protocol.PruneImages, []any{"x"}, "first param should be a dict"},
		{protocol.PruneImages, []any{map[string]any{"all": "x"}}, "all value for container prune is not a boolean"},
		{protocol.GetAppLogHistory, []any{map[string]any{"containerName": ""}}, "container name is empty"},
		{protocol.DeviceHandshake, nil, "insufficient privileges"},
		{protocol.RequestAppState, nil, "insufficient privileges"},
	} {
		got := user.call(w.uri(row.procedure), row.args, nil)
		d, _ := protocol.AsDict(protocol.Arg(got.Args, 0))
		if text, _ := protocol.Text(d["error"]); got.Error != protocol.ErrorContract || !strings.Contains(text, row.says) {
			t.Errorf("%s: %s %v answers %+v, want an error that says %q", format, row.procedure, row.args, got, row.says)
		}
	}
}

// asSystem calls what only the backend may, where Autobahn can be the backend.
func (w *world) asSystem(t *testing.T) {
	t.Helper()
	if w.studio != nil {
		return // which lets nobody else be the system
	}
	for _, format := range []string{"json", "msgpack"} {
		system, hello := foreign(t, w.system, format)
		if hello.Joined == nil {
			t.Fatalf("Autobahn as system says %+v", hello)
		}
		got := system.call(w.uri(protocol.DeviceHandshake), nil, nil)
		if got.Kwargs["id"] != w.device.Serial || got.Kwargs["utp"] == nil {
			t.Errorf("%s: device_handshake answers %+v", format, got)
		}
		// MessagePack makes every small number a signed one; it counts all the same.
		got = system.call(w.uri(protocol.RequestAppState), nil, map[string]any{
			"app_key": 987654, "app_name": "none", "stage": "PROD", "current_state": "REMOVED", "target_state": "REMOVED", "requestor_account_key": 1,
		})
		if got.Error != "" {
			t.Errorf("%s: request_app_state answers %+v", format, got)
		}
	}
}

// inOrderOf fails the test when numbered lines arrived twice or out of order.
func inOrderOf(t *testing.T, lines []string, prefix string) {
	t.Helper()
	last := 0
	for _, line := range lines {
		var n int
		if _, err := fmt.Sscanf(line, prefix+"%d", &n); err != nil {
			continue
		}
		if n <= last {
			t.Errorf("%s%d arrived after %s%d", prefix, n, prefix, last)
		}
		last = n
	}
}

func TestAWrongSecretIsShownOnBothSidesAndCostsNothing(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		agent := w.start(t)
		app := w.engine.Prefix + "stays"
		w.operator.Release(app, rig.Release{Version: "1.0.0"})
		w.operator.Deploy(app, w.device.Serial, "1.0.0", nil)
		cn := w.operator.WaitState(app, w.device.Serial, protocol.Running, "1.0.0", limit).ContainerName
		id := w.engine.WaitRunning(cn)
		agent.Terminate(syscall.SIGTERM, 5*time.Second)

		right, err := os.ReadFile(w.device.File)
		if err != nil {
			t.Fatal(err)
		}
		wrong := strings.Replace(string(right), w.file.Secret, "d3Jvbmc=", 1)
		if err := os.WriteFile(w.device.File, []byte(wrong), 0o600); err != nil {
			t.Fatal(err)
		}
		agent = w.device.Start(t, testenv.Program(t, "./cmd/reagent", false))
		testenv.Eventually(t, limit, func() string { return fmt.Sprintf("unauthorized: %+v", w.device.Status()) }, func() bool {
			return w.device.Status().State == "unauthorized"
		})
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		stdout, stderr, code := w.device.Run(ctx, testenv.Program(t, "./cmd/reagent", false), "status", "-agentDir", w.device.AgentDir())
		if code != 0 || !strings.Contains(stdout, "unauthorized") {
			t.Errorf("reagent status ended with %d and said %q %q", code, stdout, stderr)
		}
		stdout, _, _ = w.device.Run(ctx, testenv.Program(t, "./cmd/reagent", false), "status", "-agentDir", w.device.AgentDir(), "--output", "json")
		var status protocol.AgentStatus
		if err := json.Unmarshal([]byte(stdout), &status); err != nil || status.State != "unauthorized" || status.Reason == "" || !status.NextTry.After(time.Now()) {
			t.Errorf("reagent status --output json = %s, %v", stdout, err)
		}
		if strings.Contains(w.device.Log(), "d3Jvbmc=") || strings.Contains(w.device.Log(), w.file.Secret) {
			t.Error("the log tells the secret")
		}
		if w.studio != nil { // a router of others tells nobody whom it refused
			row := w.operator.WaitDevice(w.device.Serial, "shows the refused login", limit, func(d protocol.DeviceRow) bool { return d.RefusedLogins.Count > 0 })
			if row.Online || row.RefusedLogins.Last.IsZero() || row.RefusedLogins.Reason == "" {
				t.Errorf("the studio shows %+v", row)
			}
			if table := w.studio.Run("device", "ls"); !strings.Contains(table, row.RefusedLogins.Reason) || !strings.Contains(table, "1x") {
				t.Errorf("device ls shows no refused login:\n%s", table)
			}
		} else if row := w.operator.Device(w.device.Serial); row.Online {
			t.Errorf("the studio shows %+v", row)
		}
		if got := w.engine.WaitRunning(cn); got != id {
			t.Errorf("the app's container is %s, was %s", got, id)
		}
		if !agent.Running() {
			t.Error("the agent ended")
		}
		agent.Terminate(syscall.SIGTERM, 5*time.Second)

		if err := os.WriteFile(w.device.File, right, 0o600); err != nil {
			t.Fatal(err)
		}
		w.start(t)
		if row := w.operator.Device(w.device.Serial); row.RefusedLogins.Count != 0 {
			t.Errorf("refused logins after a good one: %+v", row.RefusedLogins)
		}
	})
}

// TestAnAppLogsInWithWhatItFindsInItsFolder is how the platform's app SDKs work:
// Autobahn, MessagePack, the app's own realm, the credential from /data/env.
func TestAnAppLogsInWithWhatItFindsInItsFolder(t *testing.T) {
	t.Parallel()
	w := studioWorld(t)
	w.start(t)
	app := w.engine.Prefix + "sdk"
	w.operator.Release(app, rig.Release{
		Version: "1.0.0", Image: testenv.App{Env: []string{"TESTAPP_SERVE=8080"}}, Ports: []protocol.PortRule{{Main: true, Port: 8080, Protocol: "http"}},
	})
	w.operator.Deploy(app, w.device.Serial, "1.0.0", nil)
	row := w.operator.WaitState(app, w.device.Serial, protocol.Running, "1.0.0", limit)
	row = w.operator.WaitPorts(app, w.device.Serial, limit)

	// What the app itself reads, asked of it.
	read := func(name string) (value string) {
		t.Helper()
		testenv.Eventually(t, limit, func() string { return "the app reads /data/env/" + name + ".txt" }, func() bool {
			text, err := fetch(t.Context(), fmt.Sprintf("http://127.0.0.1:%d/file/data/env/%s.txt", row.Ports[0].HostPort, name))
			value = string(text)
			return err == nil && value != ""
		})
		return value
	}
	if got, want := read("APP_KEY"), fmt.Sprint(row.AppKey); got != want {
		t.Errorf("APP_KEY = %q, want %q", got, want)
	}
	endpoint, err := url.Parse(read("DEVICE_ENDPOINT_URL"))
	if err != nil || endpoint.Hostname() != "host.docker.internal" {
		t.Errorf("DEVICE_ENDPOINT_URL = %v, %v: want the host as containers see it", endpoint, err)
	}
	login := rig.Login{
		URL:    strings.TrimSuffix(w.login.URL, "/ws") + "/ws-ua-usr",
		Realm:  fmt.Sprintf("realm-%s-%s-%s", read("SWARM_KEY"), read("APP_KEY"), strings.ToLower(read("ENV"))),
		AuthID: read("APP_AUTH_ID"), Secret: read("APP_AUTH_SECRET"),
	}
	sdk, hello := foreign(t, login, "msgpack")
	if hello.Joined == nil || hello.Joined.Realm != login.Realm || hello.Joined.AuthRole != protocol.RoleApp {
		t.Fatalf("the app's login: %+v", hello)
	}
	if got := sdk.does(map[string]any{"register": "measure.temperature"}); got.Registered == "" {
		t.Fatalf("the app registers: %+v", got)
	}
	if got := sdk.does(map[string]any{"subscribe": "setpoint"}); got.Subscribed == "" {
		t.Fatalf("the app subscribes: %+v", got)
	}
	// A user who may read one of its devices meets it there, and only there.
	user := w.login
	user.URL, user.Realm = login.URL, login.Realm
	meets, hello := foreign(t, user, "json")
	if hello.Joined == nil {
		t.Fatalf("a user's login to the app's realm: %+v", hello)
	}
	if got := meets.call("measure.temperature", []any{21.5, "C"}, nil); fmt.Sprint(got.Args) != "[[21.5 C]]" {
		t.Errorf("the app answers %+v", got)
	}
	meets.does(map[string]any{"publish": "setpoint", "args": []any{"19"}})
	testenv.Eventually(t, limit, func() string { return "the app hears the user" }, func() bool { return slices.Contains(sdk.heard(), "19") })
	for _, uri := range []string{w.uri(protocol.ListContainers), protocol.StudioListDevices, protocol.GetRequestedAppStates} {
		if got := sdk.call(uri, nil, nil); got.Error == "" {
			t.Errorf("the app reached %s: %+v", uri, got)
		}
	}
	for name, bad := range map[string]rig.Login{
		"the devices' realm":   {URL: login.URL, Realm: protocol.RealmDevices, AuthID: login.AuthID, Secret: login.Secret},
		"another app's realm":  {URL: login.URL, Realm: login.Realm[:len(login.Realm)-len("prod")] + "dev", AuthID: login.AuthID, Secret: login.Secret},
		"a wrong secret":       {URL: login.URL, Realm: login.Realm, AuthID: login.AuthID, Secret: "x"},
		"another epoch's name": {URL: login.URL, Realm: login.Realm, AuthID: strings.Replace(login.AuthID, "-e1@", "-e2@", 1), Secret: login.Secret},
		"another device":       {URL: login.URL, Realm: login.Realm, AuthID: login.AuthID + "0", Secret: login.Secret},
	} {
		if _, hello := foreign(t, bad, "msgpack"); hello.Joined != nil {
			t.Errorf("%s: let in: %+v", name, hello.Joined)
		}
	}
}
