package backend_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
)

// device is a session that answers request_app_state by noting it.
type device struct {
	*testenv.SessionRig
	file   protocol.DeviceFileContent
	wishes chan map[string]any
}

func newDevice(t *testing.T, s *testenv.StudioRig, name string) *device {
	t.Helper()
	_, file := s.AddDevice(name)
	return join(t, s, file)
}

func join(t *testing.T, s *testenv.StudioRig, file protocol.DeviceFileContent) *device {
	t.Helper()
	d := &device{s.As(file), file, make(chan map[string]any, 16)}
	eventually(t, "the studio sees "+file.Name, func() bool { return row(t, s, file.Name).Online })
	return d
}

// register makes the device reachable for wishes.
func (d *device) register() {
	d.Declare(protocol.Procedure(d.file.SerialNumber, protocol.RequestAppState), map[string]any{"force_reregister": true},
		func(_ context.Context, inv messenger.Invocation) messenger.Outcome {
			inv.Kwargs["_caller"], inv.Kwargs["_role"] = inv.Caller, inv.CallerRole
			d.wishes <- inv.Kwargs
			return messenger.Outcome{}
		})
}

func (d *device) wish(t *testing.T) map[string]any {
	t.Helper()
	select {
	case w := <-d.wishes:
		return w
	case <-time.After(10 * time.Second):
		t.Fatal("the device got no wish")
		return nil
	}
}

func (d *device) report(t *testing.T, state protocol.State, release uint64, more ...any) {
	t.Helper()
	r := map[string]any{"app_key": 1, "device_key": d.file.DeviceKey, "swarm_key": 1, "serial_number": d.file.SerialNumber, "stage": "PROD", "state": string(state), "release_key": release, "updateStatus": ""}
	for i := 0; i < len(more); i += 2 {
		r[more[i].(string)] = more[i+1]
	}
	if _, err := d.Call(t.Context(), protocol.UpdateAppOnDevice, []any{r}, nil); err != nil {
		t.Fatalf("report %s: %v", state, err)
	}
}

// list is the device's wish list.
func (d *device) list(t *testing.T) []any {
	t.Helper()
	answer, err := d.Call(t.Context(), protocol.GetRequestedAppStates, []any{map[string]any{"device_key": d.file.DeviceKey}}, nil)
	if err != nil {
		t.Fatalf("wish list: %v", err)
	}
	list, ok := protocol.AsList(protocol.Arg(answer.Args, 0))
	if !ok {
		t.Fatalf("the wish list is %#v", answer.Args)
	}
	return list
}

func eventually(t *testing.T, what string, f func() bool) { t.Helper(); testenv.WaitFor(t, what, f) }

var admins sync.Map // of the studio of each test

func admin(t *testing.T, s *testenv.StudioRig) *testenv.SessionRig {
	t.Helper()
	if a, ok := admins.Load(s); ok && a.(*testenv.SessionRig).Online() {
		return a.(*testenv.SessionRig)
	}
	a := s.Admin()
	admins.Store(s, a)
	return a
}

func row(t *testing.T, s *testenv.StudioRig, name string) protocol.DeviceRow {
	t.Helper()
	var list protocol.DeviceList
	admin(t, s).Ask(protocol.StudioListDevices, nil, &list)
	for _, r := range list.Devices {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no device %q in %+v", name, list)
	return protocol.DeviceRow{}
}

func state(t *testing.T, s *testenv.StudioRig, device string) protocol.AppOnDeviceRow {
	t.Helper()
	var list protocol.StateList
	admin(t, s).Ask(protocol.StudioListStates, protocol.ListStates{Device: device}, &list)
	if len(list.States) != 1 {
		t.Fatalf("states = %+v", list.States)
	}
	return list.States[0]
}

// push enters versions of the app "web".
func push(t *testing.T, a *testenv.SessionRig, versions ...string) (releases map[string]uint64) {
	t.Helper()
	var app protocol.AppRow
	a.Ask(protocol.StudioCreateApp, protocol.CreateApp{Name: "web"}, &app)
	for _, v := range versions {
		app = a.Release(protocol.CreateRelease{
			App: "web", Version: v, Architectures: []string{"amd64"}, Ports: []protocol.PortRule{{Port: 8080, Name: "page"}, {Port: 53, Protocol: "udp"}},
			EnvironmentTemplate: map[string]any{"COLOUR": map[string]any{"defaultValue": "red"}},
		})
	}
	releases = map[string]uint64{}
	for _, r := range app.Releases {
		releases[r.Version] = r.ReleaseKey
	}
	return releases
}

func deploy(t *testing.T, a *testenv.SessionRig, version string, env map[string]any) protocol.Wished {
	t.Helper()
	var w protocol.Wished
	a.Ask(protocol.StudioDeployApp, protocol.DeployApp{App: "web", Device: "press", Version: version, Environment: env}, &w)
	return w
}

func code(err error) string {
	var e *messenger.CallError
	if !errors.As(err, &e) {
		return fmt.Sprint(err)
	}
	d, _ := protocol.AsDict(protocol.Arg(e.Args, 0))
	return fmt.Sprint(d["code"])
}

func same(a, b any) bool {
	x, okX := protocol.Uint(a)
	y, okY := protocol.Uint(b)
	return okX && okY && x == y || reflect.DeepEqual(a, b)
}
