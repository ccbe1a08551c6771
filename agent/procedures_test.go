package agent

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	dockercontainer "github.com/docker/docker/api/types/container"
	"github.com/rs/zerolog"

	"reagent/agent/terminal"
	"reagent/container"
	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
)

const serial = "sn-1"

// session joins a router and stays until the test ends.
func session(t *testing.T, url, authid, serialization string, declare func(*messenger.Session)) *messenger.Session {
	t.Helper()
	s, err := messenger.New(messenger.Config{
		URL: url, Realm: protocol.RealmDevices, Serializations: []string{serialization},
		Identity: func() (string, string) { return authid, "secret" },
		Log:      zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
	})
	if err != nil {
		t.Fatal(err)
	}
	if declare != nil {
		declare(s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done, up := make(chan error, 1), make(chan error, 8)
	go func() {
		done <- s.Run(ctx, func(ctx context.Context, link *messenger.Link) error {
			err := link.Apply(ctx)
			up <- err
			return err
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case err := <-up:
		if err != nil {
			t.Fatalf("%s: %v", authid, err)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("%s does not join", authid)
	}
	return s
}

// fixed is a machine, an engine and a past that are always the same.
type fixed struct {
	mu     sync.Mutex
	wishes []protocol.AppRequest
	chunks []protocol.WriteDataArgs
	err    error
}

func (f *fixed) set(err error) { f.mu.Lock(); defer f.mu.Unlock(); f.err = err }
func (f *fixed) fails() error  { f.mu.Lock(); defer f.mu.Unlock(); return f.err }

func (f *fixed) Request(_ context.Context, r protocol.AppRequest) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wishes = append(f.wishes, r)
	return f.err
}

func (f *fixed) Upload(_ context.Context, c protocol.WriteDataArgs) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.chunks = append(f.chunks, c)
	return f.err
}

func (f *fixed) CheckHostPort(_ context.Context, q protocol.CheckHostPortArgs) (protocol.PortReason, error) {
	if q.HostPort == 22 {
		return protocol.PortDenylisted, f.fails()
	}
	return protocol.PortAvailable, f.fails()
}

func (f *fixed) Summaries(context.Context) ([]map[string]any, error) {
	return []map[string]any{}, f.fails()
}

func (f *fixed) ImageSummaries(context.Context) ([]map[string]any, error) {
	return []map[string]any{
		{"id": "sha256:a", "size": int64(1 << 40), "created": int64(1700000000), "repoTags": []string{"a:1"}, "labels": map[string]string{"k": "v"}},
		{"id": "sha256:b"},
	}, f.fails()
}

func (f *fixed) List(context.Context, map[string]string) ([]container.Summary, error) {
	return nil, f.fails()
}
func (f *fixed) Prune(context.Context, bool) (container.Freed, error) {
	return container.Freed{}, f.fails()
}

func (f *fixed) History(_ context.Context, cn string) ([]string, error) {
	if cn != "prod_6_web" {
		return []string{}, f.fails()
	}
	return []string{"Starting web...", "listening\ufffd"}, f.fails()
}

// appLogs and ownLog answer what they are asked, as far as one can see it then.
type (
	appLogs struct{ f *fixed }
	ownLog  struct{ f *fixed }
)

func (l appLogs) Query(_ context.Context, q protocol.QueryAppLogsArgs) (protocol.AppLogsAnswer, error) {
	a := protocol.AppLogsAnswer{Source: "history", DeviceTime: "2026-05-04T03:02:01Z"}
	if q.ContainerName == "prod_6_web" {
		a.Lines, a.Source, a.OldestAvailable = []string{fmt.Sprint(q.Tail, q.Offset, q.Timestamps), "listening\ufffd"}, "docker", q.Since.UTC().Format(time.RFC3339Nano)
		a.Returned, a.Truncated = len(a.Lines), true
	}
	return a, l.f.fails()
}

func (l ownLog) Query(_ context.Context, q protocol.QueryDeviceLogsArgs) (protocol.DeviceLogsAnswer, error) {
	a := protocol.DeviceLogsAnswer{DeviceTime: "2026-05-04T03:02:01Z", FilesScanned: 2}
	if q.Tail > 0 {
		a.Lines = []string{fmt.Sprint(q.Tail, q.Level)}
		a.Returned = 1
	}
	return a, l.f.fails()
}

func (f *fixed) Device(_ context.Context, by terminal.Caller) (protocol.TerminalSession, error) {
	return protocol.DeviceTerminal(serial, "of-"+by.AuthID), f.fails()
}

func (f *fixed) Container(_ context.Context, _ terminal.Caller, name string) (protocol.TerminalSession, error) {
	return protocol.ContainerTerminal(serial, name, "id"), f.fails()
}

func (f *fixed) Start(context.Context, terminal.Caller, string) error { return f.fails() }
func (f *fixed) Stop(terminal.Caller, string) error                   { return f.fails() }

func (f *fixed) Stats(context.Context) protocol.Stats {
	return protocol.Stats{CPUCount: 4, CPUUsage: 12, MemoryTotal: 1 << 33, StorageTotal: 1 << 50, DockerAppsMounted: true}
}

func (f *fixed) Addresses() ([]protocol.NetworkAddress, error) {
	return []protocol.NetworkAddress{{IP: "192.168.1.7", Mask: []byte{255, 255, 255, 0}}, {IP: "::1", Mask: []byte{255, 255}}}, f.fails()
}

func (f *fixed) IPv4Addresses() ([]protocol.InterfaceAddress, error) {
	return []protocol.InterfaceAddress{}, f.fails()
}

func (f *fixed) deps() deps {
	return deps{
		serial: serial,
		about:  about{version: "1.2.3", arch: "arm", variant: "v7", serial: serial, os: func() string { return "linux debian 13.3 6.1.0-28-amd64" }},
		apps:   f, uploads: f, ports: f, containers: f, images: f, prune: f,
		past: f, machine: f, addresses: f, appLogs: appLogs{f}, ownLog: ownLog{f}, terminals: f,
	}
}

// serving makes a device with this table on a router, and a caller "system" who
// speaks the same serialization.
func serving(t *testing.T, serialization string, d deps) (caller *messenger.Session, url string) {
	t.Helper()
	url, _ = testenv.Router(t, map[string]string{"system": "secret", "3": "secret", "7-42/" + serial: "secret"})
	system := session(t, url, "system", serialization, func(s *messenger.Session) {
		s.Declare(protocol.CheckPrivilege, nil, func(_ context.Context, inv messenger.Invocation) messenger.Outcome {
			q, _ := protocol.AsDict(protocol.Arg(inv.Args, 0))
			account, _ := protocol.Uint(q["requestor_account_key"])
			return messenger.Outcome{Args: []any{account == 3 && q["privilege"] == "READ"}}
		})
	})
	trail := newTrail(t, t.TempDir())
	d.audit = trail
	session(t, url, "7-42", serialization, func(s *messenger.Session) {
		declare(s, &dispatcher{
			audit:  trail,
			serial: serial, log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
			device: func() (uint64, uint64) { return 7, 42 }, may: backend{s}.may,
		}, procedures(d))
	})
	return system, url
}

var serializations = []string{"json", "cbor", "msgpack"}

func TestAnswersHaveTheContractsShapes(t *testing.T) {
	for _, serialization := range serializations {
		t.Run(serialization, func(t *testing.T) {
			f := &fixed{}
			system, _ := serving(t, serialization, f.deps())
			mask := func(b ...byte) any {
				if serialization == "json" {
					return base64.StdEncoding.EncodeToString(b)
				}
				return b
			}
			for _, c := range []struct {
				name string
				args []any
				want []any
			}{
				{"list_containers", nil, []any{[]any{}}},
				{"get_images", nil, []any{
					map[string]any{"id": "sha256:a", "size": 1 << 40, "created": 1700000000, "repoTags": []any{"a:1"}, "labels": map[string]any{"k": "v"}},
					map[string]any{"id": "sha256:b"},
				}},
				{"prune_images", []any{map[string]any{}}, nil},
				{"prune_images", []any{map[string]any{"all": nil}}, nil},
				{"prune_images", []any{map[string]any{"all": true}}, []any{"Total reclaimed space: 0B\n"}},
				{"get_app_log_history", []any{map[string]any{"containerName": "prod_6_web"}}, []any{[]any{"Starting web...", "listening\ufffd"}}},
				{"get_app_log_history", []any{map[string]any{"containerName": "prod_7_new"}}, []any{[]any{}}},
				{"query_app_logs", []any{map[string]any{"containerName": "prod_6_web", "since": "1700000000.25", "tail": "7", "offset": 2.0, "timestamps": false}}, []any{map[string]any{
					"lines": []any{"7 2 false", "listening\ufffd"}, "source": "docker", "returned": 2, "truncated": true,
					"device_time": "2026-05-04T03:02:01Z", "oldest_available": "2023-11-14T22:13:20.25Z",
				}}},
				{"query_app_logs", []any{map[string]any{"containerName": "prod_7_new"}}, []any{map[string]any{
					"lines": nil, "source": "history", "returned": 0, "truncated": false, "device_time": "2026-05-04T03:02:01Z",
				}}},
				{"query_device_logs", nil, []any{map[string]any{
					"lines": []any{"300info"}, "returned": 1, "truncated": false, "files_scanned": 2, "device_time": "2026-05-04T03:02:01Z",
				}}},
				{"query_device_logs", []any{map[string]any{"tail": 0, "level": "WARN"}}, []any{map[string]any{
					"lines": []any{}, "returned": 0, "truncated": false, "files_scanned": 2, "device_time": "2026-05-04T03:02:01Z",
				}}},
				{"get_agent_metadata", nil, []any{map[string]any{
					"os": "linux debian 13.3 6.1.0-28-amd64", "OSVersion": "linux debian 13.3 6.1.0-28-amd64", "arch": "arm", "variant": "v7",
					"version": "1.2.3", "serialNumber": serial, "canUpdate": false, "tunnelCapable": false,
				}}},
				{"get_storage_data", nil, []any{map[string]any{
					"cpu_count": 4, "cpu_usage": 12.0, "memory_total": 1 << 33, "memory_used": 0, "memory_available": 0,
					"storage_total": 1 << 50, "storage_used": 0, "storage_free": 0,
					"docker_apps_total": 0, "docker_apps_used": 0, "docker_apps_free": 0, "docker_apps_mounted": true,
				}}},
				{"get_network_metadata", nil, []any{
					map[string]any{"IP": "192.168.1.7", "Mask": mask(255, 255, 255, 0)},
					map[string]any{"IP": "::1", "Mask": mask(255, 255)},
				}},
				{"get_ipv4_addresses", nil, []any{[]any{}}},
				{"init_device_terminal", nil, []any{map[string]any{
					"dataTopic": "re.mgmt.sn-1.data.of-system", "writeTopic": "re.mgmt.sn-1.term_write.of-system",
					"resizeTopic": "re.mgmt.sn-1.term_resize.of-system", "sessionID": "of-system",
				}}},
				{"request_terminal_session", []any{map[string]any{"containerName": "prod_6_web"}}, []any{map[string]any{
					"dataTopic": "re.mgmt.sn-1.term_data.prod_6_web.id", "writeTopic": "re.mgmt.sn-1.term_write.prod_6_web.id",
					"resizeTopic": "re.mgmt.sn-1.term_resize.prod_6_web.id", "sessionID": "id",
				}}},
				{"start_terminal_session", []any{map[string]any{"sessionID": "id", "registrationID": 5.0}}, nil},
				{"stop_terminal_session", []any{map[string]any{"sessionID": "id"}}, nil},
				{"write_data", []any{"BEGIN", "web.tgz", "dev_6_web", 3, "t-1"}, nil},
				{"check_host_port", []any{map[string]any{"app_key": 6, "port": 80, "host_port": 0}}, []any{map[string]any{"available": true, "reason": ""}}},
				{"check_host_port", []any{map[string]any{"app_key": 6, "port": 80, "host_port": 40000}}, []any{map[string]any{"available": true, "reason": ""}}},
				{"check_host_port", []any{map[string]any{"app_key": 6, "port": 80, "host_port": 22, "stage": "DEV"}}, []any{map[string]any{"available": false, "reason": "denylisted"}}},
			} {
				r, err := system.Call(t.Context(), protocol.Procedure(serial, c.name), c.args, map[string]any{"ignored": 1})
				if err != nil {
					t.Errorf("%s: %v", c.name, err)
					continue
				}
				if got := same(r.Args); !reflect.DeepEqual(got, same(c.want)) || len(r.Kwargs) != 0 {
					t.Errorf("%s answers %#v %v\nwant %#v", c.name, got, r.Kwargs, same(c.want))
				}
			}
			r, err := system.Call(t.Context(), protocol.Procedure(serial, "device_handshake"), nil, nil)
			if err != nil || len(r.Args) != 0 || r.Kwargs["id"] != serial {
				t.Fatalf("device_handshake answers %v %v, %v", r.Args, r.Kwargs, err)
			}
			utp, _ := r.Kwargs["utp"].(string)
			if at, err := time.Parse(time.RFC3339, utp); err != nil || time.Since(at).Abs() > time.Minute {
				t.Errorf("utp = %q, want the time", utp)
			}
		})
	}
}

// same makes values comparable that went over different serializations: whole
// numbers are one type, and so are dicts and lists.
func same(v any) any {
	switch v := v.(type) {
	case []byte:
		return v
	case string, bool, nil:
		return v
	}
	if f, ok := v.(float64); ok {
		return fmt.Sprint(f)
	}
	if n, ok := protocol.Uint(v); ok {
		return fmt.Sprint(float64(n))
	}
	if d, ok := protocol.AsDict(v); ok {
		out := map[string]any{}
		for k, e := range d {
			out[k] = same(e)
		}
		return out
	}
	l, _ := protocol.AsList(v)
	out := make([]any, len(l))
	for i, e := range l {
		out[i] = same(e)
	}
	return out
}

func TestWishesArriveWholeWhateverTheSerialization(t *testing.T) {
	for _, serialization := range serializations {
		t.Run(serialization, func(t *testing.T) {
			f := &fixed{}
			system, _ := serving(t, serialization, f.deps())
			r, err := system.Call(t.Context(), protocol.Procedure(serial, "request_app_state"), []any{"ignored"}, map[string]any{
				"app_key": 6, "app_name": "web", "stage": "PROD", "target_state": "RUNNING", "requestor_account_key": nil,
				"release_key": "9", "environment": map[string]any{"A": map[string]any{"value": 1}},
				"ports": []any{map[string]any{"port": 8080, "protocol": "tcp", "main": true}},
			})
			if err != nil || len(r.Args) != 0 || len(r.Kwargs) != 0 {
				t.Fatalf("answer %+v, %v; want an empty one", r, err)
			}
			f.mu.Lock()
			defer f.mu.Unlock()
			if len(f.wishes) != 1 {
				t.Fatalf("%d wishes, want 1", len(f.wishes))
			}
			w := f.wishes[0]
			if w.AppKey != 6 || w.Target != protocol.Running || w.ReleaseKey != 9 || len(w.Ports) != 1 || w.Ports[0].Port != 8080 ||
				fmt.Sprint(w.Environment) != "map[A:map[value:1]]" {
				t.Errorf("wish %+v", w)
			}
		})
	}
}

func TestBadInputIsAnErrorAndNothingElse(t *testing.T) {
	f := &fixed{}
	for _, serialization := range serializations {
		t.Run(serialization, func(t *testing.T) {
			system, url := serving(t, serialization, f.deps())
			user := session(t, url, "3", serialization, nil)
			for _, c := range []struct {
				by     *messenger.Session
				name   string
				args   []any
				kwargs map[string]any
				want   string
			}{
				{system, "request_app_state", nil, nil, "missing from payload app_key"},
				{system, "request_app_state", []any{map[string]any{"app_key": 6}}, nil, "missing from payload app_key"},
				{system, "request_app_state", []any{}, map[string]any{"app_key": "x"}, "failed to parse app_key"},
				{system, "request_app_state", nil, map[string]any{"app_key": 1e300}, "failed to parse app_key"},
				{system, "request_app_state", nil, map[string]any{"app_key": 6, "app_name": "..", "stage": "PROD", "target_state": "RUNNING"}, "failed to parse appName"},
				{system, "request_app_state", nil, map[string]any{"app_key": 6, "app_name": "a b", "stage": "PROD", "target_state": "RUNNING"}, "failed to parse appName"},
				{system, "request_app_state", nil, map[string]any{"app_key": 6, "app_name": "web", "stage": "PROD", "target_state": "WALKING"}, "failed to parse requestedState"},
				{system, "request_app_state", nil, map[string]any{"app_key": 6, "app_name": "web", "stage": "PROD", "target_state": "RUNNING", "environment": map[string]any{"A": 5}}, "failed to parse environment"},
				{system, "request_app_state", nil, map[string]any{"app_key": 6, "app_name": "web", "stage": "PROD", "target_state": "RUNNING", "ports": []any{[]any{}, "x", nil}}, "failed to parse ports"},
				{user, "request_app_state", nil, map[string]any{"app_key": 6, "app_name": "web", "stage": "PROD", "target_state": "RUNNING"}, "insufficient privileges"},
				{user, "device_handshake", nil, nil, "insufficient privileges"},
				{system, "prune_images", []any{}, map[string]any{"all": true}, "arguments are missing"},
				{system, "prune_images", []any{nil}, nil, "first param should be a dict"},
				{system, "prune_images", []any{"all"}, nil, "first param should be a dict"},
				{system, "prune_images", []any{map[string]any{"all": "yes"}}, nil, "all value for container prune is not a boolean"},
				{user, "prune_images", []any{map[string]any{}}, nil, "insufficient privileges to prune images"},
				{user, "get_app_log_history", []any{}, map[string]any{"containerName": "prod_6_web"}, "arguments are missing"},
				{user, "get_app_log_history", []any{[]any{[]any{}}}, nil, "first param should be a dict"},
				{user, "get_app_log_history", []any{map[string]any{}}, nil, "invalid value for containerName"},
				{user, "get_app_log_history", []any{map[string]any{"containerName": "../json?all=1"}}, nil, "invalid container name"},
				{user, "query_app_logs", []any{}, map[string]any{"containerName": "prod_6_web"}, "arguments are missing"},
				{user, "query_app_logs", []any{map[string]any{"containerName": ""}}, nil, "container name is empty"},
				{user, "query_app_logs", []any{map[string]any{"containerName": "prod_6_web/../../x?y"}}, nil, "invalid container name"},
				{user, "query_app_logs", []any{map[string]any{"containerName": "prod_6_web", "tail": -1}}, nil, "the tail param should be a non-negative whole number"},
				{user, "query_app_logs", []any{map[string]any{"containerName": "prod_6_web", "offset": 1.5}}, nil, "the offset param should be a non-negative whole number"},
				{user, "query_app_logs", []any{map[string]any{"containerName": "prod_6_web", "since": 5}}, nil, "the since param should be a string"},
				{user, "query_app_logs", []any{map[string]any{"containerName": "prod_6_web", "until": "soon"}}, nil, `invalid until: "soon" is not an RFC3339 time, a Unix timestamp, or a duration`},
				{user, "query_app_logs", []any{map[string]any{"containerName": "prod_6_web", "timestamps": 1}}, nil, "the timestamps param should be a boolean"},
				{user, "query_device_logs", []any{"x"}, nil, "first param should be a dict"},
				{user, "query_device_logs", []any{map[string]any{"level": 5}}, nil, "the level param should be a string"},
				{user, "init_device_terminal", nil, nil, "insufficient privileges to start a terminal session"},
				{user, "request_terminal_session", []any{map[string]any{"containerName": "prod_6_web"}}, nil, "insufficient privileges to start a terminal session"},
				{system, "request_terminal_session", []any{}, map[string]any{"containerName": "prod_6_web"}, "no args found"},
				{system, "request_terminal_session", []any{map[string]any{"containerName": nil}}, nil, "failed to parse containerName"},
				{system, "start_terminal_session", nil, nil, "failed to parse args, payload is missing"},
				{system, "start_terminal_session", []any{map[string]any{"sessionID": "id"}}, nil, "failed to parse registrationID"},
				{system, "stop_terminal_session", []any{"id"}, nil, "failed to parse payload"},
				{user, "write_data", []any{"BEGIN", "web.tgz", "dev_6_web", 3, "t-1"}, nil, "insufficient privileges write data to device"},
				{system, "write_data", nil, nil, "failed to parse chunk argument"},
				{system, "write_data", []any{"BEGIN", "../web.tgz", "dev_6_web", 3, "t-1"}, nil, "failed to parse name argument"},
				{system, "write_data", []any{"BEGIN", "a/web.tgz", "dev_6_web", 3, "t-1"}, nil, "failed to parse name argument"},
				{system, "write_data", []any{"BEGIN", ".web.tgz", "dev_6_web", 3, "t-1"}, nil, "failed to parse name argument"},
				{system, "write_data", []any{"BEGIN", "web.tgz", "prod_6_web", 3, "t-1"}, nil, "failed to parse containerName argument"},
				{system, "write_data", []any{"BEGIN", "web.tgz", "dev_6_web", -3, "t-1"}, nil, "failed to parse total argument"},
				{system, "write_data", []any{"BEGIN", "web.tgz", "dev_6_web", 3}, nil, "failed to parse id argument"},
				{user, "check_host_port", []any{map[string]any{"app_key": 6, "port": 80, "host_port": 0}}, nil, "insufficient privileges"},
				{system, "check_host_port", []any{map[string]any{"app_key": 0, "port": 80}}, nil, "failed to parse app_key"},
				{system, "check_host_port", []any{map[string]any{"app_key": 6, "port": 80, "host_port": 70000}}, nil, "failed to parse host_port"},
				{system, "list_containers", []any{map[string]any{"requestor_account_key": "abc"}}, nil, "insufficient privileges to list containers"},
				{system, "get_images", []any{}, map[string]any{"requestor_account_key": 4}, "insufficient privileges to read docker images"},
			} {
				_, err := c.by.Call(t.Context(), protocol.Procedure(serial, c.name), c.args, c.kwargs)
				var refused *messenger.CallError
				if !errors.As(err, &refused) || refused.URI != "wamp.error.canceled" || !strings.HasPrefix(refused.Text(), c.want) {
					t.Errorf("%s %v %v: %v, want %q", c.name, c.args, c.kwargs, err, c.want)
					continue
				}
				d, _ := protocol.AsDict(protocol.Arg(refused.Args, 0))
				if code, _ := protocol.Text(d["code"]); code == "" || code == "internal" {
					t.Errorf("%s %v %v: code %q", c.name, c.args, c.kwargs, code)
				}
			}
			if r, err := user.Call(t.Context(), protocol.Procedure(serial, "list_containers"), nil, nil); err != nil || len(r.Args) != 1 {
				t.Errorf("after all that: %+v, %v; want an answer", r, err)
			}
		})
	}
	if len(f.wishes) != 0 {
		t.Errorf("wishes were taken: %+v", f.wishes)
	}
}

func TestAbsentEngineIsAnAnswer(t *testing.T) {
	f := &fixed{}
	system, _ := serving(t, "json", f.deps())
	f.set(fmt.Errorf("list: %w", container.ErrUnavailable))
	for name, arg := range map[string]any{
		"list_containers": nil, "get_images": nil, "prune_images": map[string]any{}, "get_network_metadata": nil, "get_ipv4_addresses": nil,
		"get_app_log_history": map[string]any{"containerName": "prod_6_web"}, "query_app_logs": map[string]any{"containerName": "prod_6_web"},
		"query_device_logs": nil,
	} {
		_, err := system.Call(t.Context(), protocol.Procedure(serial, name), []any{arg}, nil)
		var refused *messenger.CallError
		if !errors.As(err, &refused) || !strings.Contains(fmt.Sprint(refused.Args), "code:unavailable") {
			t.Errorf("%s: %v, want unavailable", name, err)
		}
	}
}

func TestTableIsDeclaredWithTheContractsOptions(t *testing.T) {
	declared := recorder{}
	d := &dispatcher{serial: serial}
	probe := declare(declared, d, procedures(deps{}))
	if o := probe(t.Context(), messenger.Invocation{}); !slices.Equal(o.Args, []any{"Hello :-)"}) || o.Error != "" {
		t.Errorf("the probe answers anybody %+v", o)
	}
	if len(declared) != len(contractNeeds)-1 {
		t.Errorf("%d procedures are declared, want all but the probe", len(declared))
	}
	for name := range contractNeeds {
		options, there := declared[protocol.Procedure(serial, name)]
		switch {
		case name == protocol.ConnectionEstablished && there:
			t.Error("the probe for duplicates is declared; the greeting registers it")
		case name != protocol.ConnectionEstablished && !reflect.DeepEqual(options, map[string]any{"force_reregister": true}):
			t.Errorf("%s: options %v", name, options)
		}
	}
}

type recorder map[string]map[string]any

func (r recorder) Declare(uri string, options map[string]any, _ messenger.Handler) (withdraw func()) {
	r[uri] = options
	return func() {}
}

func TestContainersAndImagesOfARealEngineAreListed(t *testing.T) {
	docker := testenv.Docker(t)
	engine, err := container.New(container.Config{Host: docker.Host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	ref := docker.Prefix + "/web:1"
	id := testenv.BuildImage(t, docker, ref, testenv.App{Version: docker.Prefix, Labels: map[string]string{"made-by": docker.Prefix}})
	made, err := docker.API.ContainerCreate(t.Context(), &dockercontainer.Config{Image: ref}, nil, nil, nil, docker.Prefix+"-web")
	if err != nil {
		t.Fatal(err)
	}
	d := (&fixed{}).deps()
	d.containers, d.images = engine, engine
	for _, serialization := range serializations {
		t.Run(serialization, func(t *testing.T) {
			system, _ := serving(t, serialization, d)
			r, err := system.Call(t.Context(), protocol.Procedure(serial, "list_containers"), nil, nil)
			if err != nil || len(r.Args) != 1 {
				t.Fatalf("list_containers: %v, %v", r.Args, err)
			}
			list, _ := protocol.AsList(r.Args[0])
			at := slices.IndexFunc(list, func(e any) bool { d, _ := protocol.AsDict(e); return d["Id"] == made.ID })
			if at < 0 {
				t.Fatalf("container %s is not among %d", made.ID, len(list))
			}
			c, _ := protocol.AsDict(list[at])
			created, ok := protocol.Uint(c["Created"])
			if fmt.Sprint(c["Names"]) != "[/"+docker.Prefix+"-web]" || c["Image"] != ref || c["ImageID"] != id || c["State"] != "created" || !ok || created == 0 {
				t.Errorf("container %v", c)
			}
			for _, key := range []string{"Command", "Ports", "Labels", "Status", "HostConfig", "NetworkSettings", "Mounts"} {
				if _, there := c[key]; !there {
					t.Errorf("container has no %s", key)
				}
			}
			r, err = system.Call(t.Context(), protocol.Procedure(serial, "get_images"), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			found := false
			for _, arg := range r.Args {
				if image, _ := protocol.AsDict(arg); image["id"] == id {
					size, _ := protocol.Uint(image["size"])
					found = fmt.Sprint(image["repoTags"]) == "["+ref+"]" && size > 0 && strings.Contains(fmt.Sprint(image["labels"]), docker.Prefix)
				}
			}
			if !found {
				t.Errorf("image %s is not among %d, or not as it should be", id, len(r.Args))
			}
		})
	}
}
