package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/test/rig"
)

// A strangeStudio is a backend whose answers a test chooses.
type strangeStudio struct {
	mu       sync.Mutex
	answer   map[string]messenger.Outcome
	statuses []string
	rows     []any // the wish list, while answer has none
}

func (s *strangeStudio) set(answer map[string]messenger.Outcome) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = answer
	s.statuses = nil
}

func (s *strangeStudio) heard(status protocol.DeviceState) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, one := range s.statuses {
		if one == string(status) {
			return true
		}
	}
	return false
}

// attach registers all that an agent calls (wire §6).
func (s *strangeStudio) attach(session *messenger.Session, d *testenv.Device) {
	good := map[string]func() []any{
		protocol.UpdateDeviceStatus:       func() []any { return []any{map[string]any{"reswarmBaseURL": "http://studio.example.test"}} },
		protocol.ReadDeviceMetadata:       func() []any { return []any{identity} },
		protocol.GetAppCredKey:            func() []any { return []any{"dGVzdC1rZXktZm9yLXZlY3Rvcg=="} },
		protocol.UpdateDeviceArchitecture: func() []any { return nil },
		protocol.CheckPrivilege:           func() []any { return []any{true} },
		protocol.GetRequestedAppStates:    func() []any { return []any{s.rows} },
		protocol.UpdateAppOnDevice:        func() []any { return nil },
		protocol.GetRegistryToken:         func() []any { return []any{"token"} },
	}
	for uri, answer := range good {
		rig.Serve(session, uri, func(args []any) messenger.Outcome {
			s.mu.Lock()
			defer s.mu.Unlock()
			if uri == protocol.UpdateDeviceStatus {
				in, _ := protocol.AsDict(protocol.Arg(args, 0))
				s.statuses = append(s.statuses, fmt.Sprint(in["status"]))
			}
			if strange, ok := s.answer[uri]; ok {
				return strange
			}
			return messenger.Outcome{Args: answer()}
		})
	}
}

// identity is what a good studio says of an unattended device.
var identity = map[string]any{"device_name": "bench", "swarm_name": "", "ownername": "", "swarm_key": 41}

// stranger is an unattended device with an app that runs, at a router with a
// strangeStudio.
type stranger struct {
	t      testing.TB
	device *testenv.Device
	engine *testenv.Engine
	studio *strangeStudio
	system *messenger.Session
	router *rig.Router
	agent  *testenv.Process
	cn     string
	begun  life
}

const webKey = 7

func newStranger(t testing.TB, format string) *stranger {
	t.Helper()
	e := testenv.Docker(t)
	d := unattended(t, e)
	s := &stranger{t: t, device: d, engine: e, studio: &strangeStudio{}}
	s.router = rig.NewRouter(t, format, map[string]string{"41-1207": "bm90LWEtcmVhbC1zZWNyZXQ=", "5": "dXNlcg=="})
	s.system = s.router.Session(protocol.AuthIDSystem)
	name := e.Prefix + "web"
	s.studio.rows = []any{map[string]any{
		"app_key": webKey, "app_name": name, "stage": "PROD", "target_state": "RUNNING", "current_state": "RUNNING",
		"present_version": "1.0.0", "newest_version": "1.0.0", "requestor_account_key": 1, "release_key": 1,
	}}
	s.studio.attach(s.system, d)
	text := strings.Replace(contents(t, d.File), nowhere, s.router.URL, 1)
	if err := os.WriteFile(d.File, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	testenv.BuildImage(t, e, image(e, webKey, name, "1.0.0"), testenv.App{Version: "1.0.0"})
	s.agent = d.Start(t, quick(t))
	testenv.Eventually(t, wait, func() string { return fmt.Sprintf("connected: %+v", d.Status()) }, func() bool { return s.studio.heard(protocol.Connected) })
	waitStatus(t, d, webKey, protocol.Running)
	s.cn = protocol.ContainerName(protocol.Prod, webKey, name)
	s.begun = lifeOf(t, e, s.cn)
	return s
}

// call calls a procedure of the device.
func (s *stranger) call(as *messenger.Session, procedure string, args []any, kwargs map[string]any) (messenger.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return as.Call(ctx, protocol.Procedure(s.device.Serial, procedure), args, kwargs)
}

// unharmed fails the test unless the agent still runs, answers, and left its app
// and its identity alone.
func (s *stranger) unharmed(after string) {
	s.t.Helper()
	if !s.agent.Running() {
		s.t.Fatalf("%s: the agent ended\n%s", after, s.agent.Said())
	}
	// A heartbeat may have said CONNECTED just before the link was cut.
	var answer any
	testenv.Eventually(s.t, wait, func() string { return fmt.Sprintf("%s: handshake = %v", after, answer) }, func() bool {
		r, err := s.call(s.system, protocol.DeviceHandshake, nil, nil)
		answer = errors.Join(err, fmt.Errorf("id %v", r.Kwargs["id"]))
		return err == nil && r.Kwargs["id"] == s.device.Serial
	})
	if got := lifeOf(s.t, s.engine, s.cn); got != s.begun {
		s.t.Errorf("%s: the app's container is %v, was %v", after, got, s.begun)
	}
	if apps := s.device.Status().Apps; len(apps) != 1 || apps[0].AppKey != webKey || apps[0].State != protocol.Running {
		s.t.Errorf("%s: apps = %+v, want the one that runs", after, apps)
	}
	var file map[string]any
	if err := json.Unmarshal([]byte(contents(s.t, s.device.File)), &file); err != nil || file["secret"] != "bm90LWEtcmVhbC1zZWNyZXQ=" || file["swarm_key"] != 41. || file["made_by"] == nil {
		s.t.Errorf("%s: the device file is %v, %v", after, file, err)
	}
}

func TestRepliesOfAnyShapeHarmNothing(t *testing.T) {
	t.Parallel()
	deep := any("bottom")
	for range 200 {
		deep = []any{deep}
	}
	replies := map[string]messenger.Outcome{
		"no arguments":     {},
		"null":             {Args: []any{nil}},
		"list of lists":    {Args: []any{[]any{[]any{}, []any{1, []any{2}}}}},
		"a text":           {Args: []any{"<nil>"}},
		"a number":         {Args: []any{-1}},
		"a huge number":    {Args: []any{1e308}},
		"an empty object":  {Args: []any{map[string]any{}}},
		"wrong types":      {Args: []any{map[string]any{"device_name": 5, "swarm_name": nil, "ownername": []any{}, "swarm_key": "x", "reswarmBaseURL": 7}}},
		"rows of rubbish":  {Args: []any{[]any{nil, 5, "x", map[string]any{}, map[string]any{"app_key": -1, "stage": "PROD"}, map[string]any{"app_key": webKey, "stage": 5}}}},
		"depth":            {Args: []any{deep}},
		"keywords only":    {Kwargs: map[string]any{"a": map[string]any{"b": nil}}},
		"an error":         {Error: "wamp.error.runtime_error", Args: []any{nil}},
		"an odd error":     {Error: "re.error.x", Args: []any{[]any{[]any{}}}, Kwargs: map[string]any{"x": nil}},
		"a project of 0":   {Args: []any{map[string]any{"device_name": "", "swarm_key": 0}}},
		"a negative one":   {Args: []any{map[string]any{"swarm_key": -41}}},
		"a fractional one": {Args: []any{map[string]any{"swarm_key": 41.5}}},
	}
	for _, format := range []string{"json", "msgpack"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			s := newStranger(t, format)
			for name, reply := range replies {
				all := map[string]messenger.Outcome{}
				for _, uri := range []string{
					protocol.UpdateDeviceStatus, protocol.ReadDeviceMetadata, protocol.GetAppCredKey, protocol.UpdateDeviceArchitecture,
					protocol.CheckPrivilege, protocol.GetRequestedAppStates, protocol.UpdateAppOnDevice, protocol.GetRegistryToken,
				} {
					all[uri] = reply
				}
				s.studio.set(all)
				s.router.Relay.Cut() // the agent asks all of them anew
				testenv.Eventually(t, wait, func() string { return name + ": connected again" }, func() bool { return s.studio.heard(protocol.Connected) })
				// Nobody gets in on an answer that is no plain true.
				if r, err := s.call(s.router.Session("5"), protocol.ListContainers, nil, nil); err == nil {
					t.Errorf("%s: a user was let in: %v", name, r)
				}
				s.unharmed(name)
			}
			s.studio.set(nil)
			s.router.Relay.Cut()
			testenv.Eventually(t, wait, func() string { return "connected again" }, func() bool { return s.studio.heard(protocol.Connected) })
			s.agent.Terminate(syscall.SIGTERM, wellBehaved)
		})
	}
}

// good is a request that would make an app; rows spoil one key each.
func good(name string) map[string]any {
	return map[string]any{
		"app_key": 4711, "app_name": name, "stage": "PROD", "target_state": "RUNNING", "current_state": "REMOVED",
		"present_version": "1.0.0", "newest_version": "1.0.0", "requestor_account_key": 1, "release_key": 1,
	}
}

// spoiled are the values that a key of request_app_state cannot have, and what
// the answer says.
var spoiled = []struct {
	key   string
	says  string
	value []any
}{
	{"app_key", "app_key", []any{nil, 0, -1, 1.5, 1e300, "x", "", true, []any{7}, map[string]any{}}},
	{"app_name", "app", []any{nil, "", 5, false, []any{}, "..", ".", "a b", "a/b", "../../etc", "a\x00b", "a\nb", " ", strings.Repeat("a", 100_000)}},
	{"stage", "stage", []any{nil, "", 5, "prod", "STAGE", " PROD", []any{"PROD"}}},
	{"target_state", "requestedState", []any{nil, "", 5, "FLYING", "running", "STOPPED", "INHERIT", "FAILED", []any{"RUNNING"}, strings.Repeat("R", 1<<20)}},
	{"target_state", "", []any{"BUILT", "PUBLISHED"}},
	{"current_state", "currentState", []any{5, "FLYING", []any{}}},
	{"requestor_account_key", "", []any{-1, 1.5, "x", []any{}, map[string]any{}, 1e300}},
	{"release_key", "", []any{-1, "x", []any{}, 1e300}},
	{"new_release_key", "newReleaseKey", []any{-1, []any{}, 1e300}},
	{"newest_version", "newestVersion", []any{5, []any{}, true}},
	{"present_version", "presentVersion", []any{5, map[string]any{}}},
	{"request_update", "requestUpdate", []any{"yes", 1, []any{}}},
	{"cancel_transition", "cancelTransition", []any{"yes", 1}},
	{"environment", "environment", []any{5, "x", []any{}, []any{map[string]any{"value": 1}}, map[string]any{"A": 5}, map[string]any{"A": []any{1}}, map[string]any{"A": nil, "B": "x"}}},
	{"environment_template", "environment template", []any{5, []any{}, map[string]any{"A": "x"}}},
	{"ports", "ports", []any{5, "x", map[string]any{"port": 1}, []any{5}, []any{[]any{}}, []any{nil}, []any{map[string]any{"port": -1}}, []any{map[string]any{"port": 70000}}, []any{map[string]any{"port": "x"}}, []any{map[string]any{"port": 80, "protocol": 5}}, []any{map[string]any{"port": 1e300}}, []any{map[string]any{"port": 80.5}}}},
	{"docker_compose", "docker compose", []any{5, "x", []any{}}},
	{"docker_credentials", "docker credentials", []any{5, "x", []any{}, map[string]any{"host": "x"}, map[string]any{"host": map[string]any{"username": "u"}}}},
}

// wrong are calls of the other procedures that have to be answered with an error.
var wrong = []struct {
	procedure string
	args      []any
	kwargs    map[string]any
	says      string
}{
	{protocol.RequestAppState, nil, nil, "app_key"},
	{protocol.RequestAppState, []any{}, map[string]any{}, "app_key"},
	{protocol.RequestAppState, []any{good("x")}, nil, "app_key"},
	{protocol.PruneImages, nil, nil, "arguments are missing"},
	{protocol.PruneImages, []any{}, map[string]any{"all": true}, "arguments are missing"},
	{protocol.PruneImages, []any{nil}, nil, "first param should be a dict"},
	{protocol.PruneImages, []any{[]any{[]any{}}}, nil, "first param should be a dict"},
	{protocol.PruneImages, []any{map[string]any{"all": "yes"}}, nil, "all value for container prune is not a boolean"},
	{protocol.PruneImages, []any{map[string]any{"all": 1}}, nil, "all value for container prune is not a boolean"},
	{protocol.GetAppLogHistory, nil, nil, "arguments are missing"},
	{protocol.GetAppLogHistory, []any{}, map[string]any{"containerName": "prod_7_x"}, "arguments are missing"},
	{protocol.GetAppLogHistory, []any{5}, nil, "first param should be a dict"},
	{protocol.GetAppLogHistory, []any{map[string]any{}}, nil, "containerName"},
	{protocol.GetAppLogHistory, []any{map[string]any{"containerName": 5}}, nil, "containerName"},
	{protocol.GetAppLogHistory, []any{map[string]any{"containerName": ""}}, nil, "container name is empty"},
	{protocol.GetAppLogHistory, []any{map[string]any{"containerName": "../../etc/passwd"}}, nil, "container name"},
	{protocol.GetAppLogHistory, []any{map[string]any{"containerName": "prod_7"}}, nil, "container name"},
	{protocol.GetAppLogHistory, []any{map[string]any{"containerName": "prod_99999999999999999999_x"}}, nil, ""},
	{protocol.QueryAppLogs, nil, nil, "arguments are missing"},
	{protocol.QueryAppLogs, []any{"prod_7_x"}, nil, "first param should be a dict"},
	{protocol.QueryAppLogs, []any{map[string]any{"containerName": []any{}}}, nil, "containerName"},
	{protocol.QueryAppLogs, []any{map[string]any{"containerName": "prod_7_x/logs?follow=1&"}}, nil, "container name"},
	{protocol.QueryAppLogs, []any{map[string]any{"containerName": "prod_7_x", "tail": "-1"}}, nil, "the tail param should be a non-negative whole number"},
	{protocol.QueryAppLogs, []any{map[string]any{"containerName": "prod_7_x", "offset": []any{[]any{}}}}, nil, "the offset param should be a non-negative whole number"},
	{protocol.QueryAppLogs, []any{map[string]any{"containerName": "prod_7_x", "since": 1e300}}, nil, "the since param should be a string"},
	{protocol.QueryAppLogs, []any{map[string]any{"containerName": "prod_7_x", "until": strings.Repeat("9", 1<<16)}}, nil, "invalid until"},
	{protocol.QueryAppLogs, []any{map[string]any{"containerName": "prod_7_x", "timestamps": "no"}}, nil, "the timestamps param should be a boolean"},
	{protocol.QueryDeviceLogs, []any{[]any{}}, nil, "first param should be a dict"},
	{protocol.QueryDeviceLogs, []any{map[string]any{"tail": 0.5}}, nil, "the tail param should be a non-negative whole number"},
	{protocol.QueryDeviceLogs, []any{map[string]any{"since": "yesterday"}}, nil, "invalid since"},
	{protocol.QueryDeviceLogs, []any{map[string]any{"level": []any{"info"}}}, nil, "the level param should be a string"},
	// A call on behalf of somebody who cannot be.
	{protocol.ListContainers, nil, map[string]any{"requestor_account_key": 0}, ""},
	{protocol.ListContainers, nil, map[string]any{"requestor_account_key": nil}, ""},
	{protocol.ListContainers, nil, map[string]any{"requestor_account_key": "abc"}, ""},
	{protocol.ListContainers, nil, map[string]any{"requestor_account_key": -5}, ""},
	{protocol.ListContainers, nil, map[string]any{"requestor_account_key": []any{[]any{}}}, ""},
	{protocol.GetImages, []any{map[string]any{"requestor_account_key": 1.5}}, nil, ""},
}

// harmless are odd calls that have an answer nevertheless: what they bring is
// not read.
var harmless = []struct {
	procedure string
	args      []any
	kwargs    map[string]any
}{
	{protocol.DeviceHandshake, []any{nil, []any{[]any{}}, 1e300}, map[string]any{"x": nil}},
	{protocol.ConnectionEstablished, []any{5}, nil},
	{protocol.ListContainers, []any{5, "x"}, map[string]any{"y": []any{}}},
	{protocol.GetAgentMetadata, []any{[]any{}}, nil},
	{protocol.GetStorageData, []any{map[string]any{"": nil}}, nil},
	{protocol.GetNetworkMetadata, []any{strings.Repeat("x", 1<<20)}, nil},
	{protocol.GetIPv4Addresses, nil, map[string]any{strings.Repeat("k", 1<<16): 1}},
	{protocol.GetImages, []any{nil}, nil},
	{protocol.QueryDeviceLogs, nil, map[string]any{"tail": "x"}},
	{protocol.QueryDeviceLogs, []any{map[string]any{"tail": 1 << 60, "since": "-1h", "until": "", "level": "LOUD", "x": []any{}}}, nil},
	{protocol.QueryAppLogs, []any{map[string]any{"containerName": "/prod_7_x", "tail": "99999999", "offset": 1e6, "since": "99999h", "until": nil, "timestamps": nil}}, nil},
}

func TestBadInputIsAnsweredWithAnErrorAndChangesNothing(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"json", "msgpack", "cbor"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			s := newStranger(t, format)
			files := tree(t, s.device.Dir)
			name := s.engine.Prefix + "bad"
			refused := func(what, says string, r messenger.Result, err error) {
				t.Helper()
				text, isError := answeredError(err)
				if !isError || text == "" || !strings.Contains(text, says) {
					t.Errorf("%s: %v, %v; want an error of the contract that says %q", what, r, err, says)
				}
			}
			for _, row := range spoiled {
				for _, value := range row.value {
					kwargs := good(name)
					kwargs[row.key] = value
					r, err := s.call(s.system, protocol.RequestAppState, nil, kwargs)
					refused(fmt.Sprintf("%s: %.60s", row.key, fmt.Sprint(value)), row.says, r, err)
				}
			}
			s.unharmed("requests")
			for _, row := range wrong {
				r, err := s.call(s.system, row.procedure, row.args, row.kwargs)
				refused(fmt.Sprintf("%s %v %v", row.procedure, row.args, row.kwargs), row.says, r, err)
			}
			for _, row := range harmless {
				if _, err := s.call(s.system, row.procedure, row.args, row.kwargs); err != nil {
					t.Errorf("%s %.60s: %v, want the usual answer", row.procedure, fmt.Sprint(row.args), err)
				}
			}
			s.unharmed("other calls")
			for path := range tree(t, s.device.Dir) {
				// What was refused is written down.
				if !files[path] && !strings.Contains(path, filepath.Join(".reagent", "audit")) {
					t.Errorf("a file was made: %s", path)
				}
			}
			// Names that come over the wire stay below the app's own folder.
			kwargs := good(name)
			kwargs["environment"] = map[string]any{"../../../escaped": map[string]any{"value": "x"}, "/escaped": map[string]any{"value": "x"}}
			if _, err := s.call(s.system, protocol.RequestAppState, nil, kwargs); err == nil {
				testenv.Eventually(t, wait, func() string { return "the odd app is tried" }, func() bool { return appStatus(s.device, 4711).State == protocol.Failed })
				kwargs["target_state"] = "UNINSTALLED"
				if _, err := s.call(s.system, protocol.RequestAppState, nil, kwargs); err != nil {
					t.Error(err)
				}
			}
			testenv.Eventually(t, wait, func() string { return fmt.Sprintf("the odd app is gone: %+v", s.device.Status().Apps) }, func() bool { return len(s.device.Status().Apps) == 1 })
			for path := range tree(t, s.device.Dir) {
				if strings.Contains(path, "escaped") {
					t.Errorf("a variable's name reached %s", path)
				}
			}
			s.unharmed("names with slashes")
		})
	}
}

// answeredError is the text of an error that a procedure of the contract
// answered (design S13).
func answeredError(err error) (text string, ok bool) {
	var call *messenger.CallError
	if !errors.As(err, &call) || call.URI != protocol.ErrorContract || len(call.Args) != 1 {
		return "", false
	}
	d, ok := protocol.AsDict(call.Args[0])
	text, _ = protocol.Text(d["error"])
	code, _ := protocol.Text(d["code"])
	return text, ok && code != "" && code != string(protocol.CodeInternal)
}

// tree is every file below a folder.
func tree(t testing.TB, root string) map[string]bool {
	t.Helper()
	all := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		all[path] = true
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
