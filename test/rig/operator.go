package rig

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/release"
)

// An Operator does with a studio what people do.
type Operator struct {
	*messenger.Session
	t testing.TB
}

// NewOperator is an operator over a session that may call re.studio.*.
func NewOperator(t testing.TB, s *messenger.Session) *Operator { return &Operator{s, t} }

// Ask calls a procedure of the studio until one answers, and fails the test
// where the answer is an error of the studio's. While the router restarts, or the
// backend has not registered again, nobody answers; that is waited for.
func Ask[Out any](o *Operator, uri string, in any) Out {
	o.t.Helper()
	out, err := Try[Out](o, uri, in)
	if err != nil {
		o.t.Fatalf("%s: %v", uri, err)
	}
	return out
}

// Try is Ask with the studio's error.
func Try[Out any](o *Operator, uri string, in any) (out Out, err error) {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	for {
		result, err := o.Call(ctx, uri, []any{protocol.Wire(in)}, nil)
		if err == nil {
			return out, protocol.Decode(protocol.Arg(result.Args, 0), &out)
		}
		if !passing(err) {
			return out, err
		}
		select {
		case <-ctx.Done():
			return out, err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// passing tells whether nobody took the call, so that it may be made again.
func passing(err error) bool {
	text := err.Error()
	for _, sign := range []string{messenger.ErrOffline.Error(), protocol.ErrorNoSuchProcedure, "connection", "session ended", "link", "goodbye"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}

// AddDevice makes a device in the studio, and the machine for it.
func (o *Operator) AddDevice(deviceName string) (*testenv.Device, protocol.DeviceFileContent) {
	o.t.Helper()
	added := Ask[protocol.DeviceAdded](o, protocol.StudioAddDevice, protocol.AddDevice{Name: deviceName})
	return testenv.NewDevice(o.t, DeviceFile(o.t, added.File)), added.File
}

// A Release is a version of an app for the studio's registry.
type Release struct {
	Version  string
	Image    testenv.App
	Ports    []protocol.PortRule
	Defaults map[string]any // environment_template
}

// Release pushes an image into the studio's registry as the architecture of this
// machine, and enters the version. The app is made where it is missing.
func (o *Operator) Release(app string, r Release) protocol.AppRow {
	o.t.Helper()
	if _, err := Try[protocol.AppRow](o, protocol.StudioCreateApp, protocol.CreateApp{Name: app}); err != nil && !strings.Contains(err.Error(), string(protocol.CodeConflict)) {
		o.t.Fatalf("create app %s: %v", app, err)
	}
	login := Ask[protocol.RegistryLogin](o, protocol.StudioCreateRegistryToken, protocol.AppArgs{App: app})
	ref := protocol.RegistryImage(login.Registry, login.Repository, protocol.Prod, release.Arch(), login.AppKey, login.AppName) + ":" + r.Version
	if r.Image.Version == "" {
		r.Image.Version = r.Version
	}
	Push(o.t, ref, login, r.Image)
	return Ask[protocol.AppRow](o, protocol.StudioCreateRelease, protocol.CreateRelease{
		App: app, Version: r.Version, Architectures: []string{release.Arch()}, Ports: r.Ports, EnvironmentTemplate: r.Defaults,
	})
}

// Push puts an image into the studio's registry.
func Push(t testing.TB, ref string, login protocol.RegistryLogin, app testenv.App) {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	testenv.SaveImage(t, archive, ref, app)
	options := []name.Option{}
	if login.Insecure {
		options = append(options, name.Insecure)
	}
	tag, err := name.NewTag(ref, options...)
	if err != nil {
		t.Fatal(err)
	}
	image, err := tarball.ImageFromPath(archive, &tag)
	if err != nil {
		t.Fatal(err)
	}
	err = remote.Write(tag, image, remote.WithContext(t.Context()),
		remote.WithAuth(&authn.Basic{Username: login.Username, Password: login.Password}))
	if err != nil {
		t.Fatalf("push %s: %v", ref, err)
	}
}

// Deploy wishes that an app runs.
func (o *Operator) Deploy(app, device, version string, environment map[string]any) protocol.Wished {
	o.t.Helper()
	return Ask[protocol.Wished](o, protocol.StudioDeployApp, protocol.DeployApp{App: app, Device: device, Version: version, Environment: environment})
}

// Stop wishes that an app stops.
func (o *Operator) Stop(app, device string) protocol.Wished {
	o.t.Helper()
	return Ask[protocol.Wished](o, protocol.StudioStopApp, protocol.AppOnDevice{App: app, Device: device})
}

// Remove wishes that an app goes.
func (o *Operator) Remove(app, device string, uninstall bool) protocol.Wished {
	o.t.Helper()
	return Ask[protocol.Wished](o, protocol.StudioRemoveApp, protocol.RemoveApp{App: app, Device: device, Uninstall: uninstall})
}

// State is what the studio knows of an app on a device.
func (o *Operator) State(app, device string) protocol.AppOnDeviceRow {
	o.t.Helper()
	list := Ask[protocol.StateList](o, protocol.StudioListStates, protocol.ListStates{App: app, Device: device, History: 50})
	if len(list.States) == 0 {
		return protocol.AppOnDeviceRow{}
	}
	return list.States[0]
}

// WaitState waits until the device reported a state, and the version that goes
// with it; an empty version is any.
func (o *Operator) WaitState(app, device string, want protocol.State, version string, limit time.Duration) (row protocol.AppOnDeviceRow) {
	o.t.Helper()
	testenv.Eventually(o.t, limit,
		func() string { return fmt.Sprintf("%s on %s is %+v, want %s %s", app, device, row, want, version) },
		func() bool {
			row = o.State(app, device)
			return row.State == want && (version == "" || row.Version == version)
		})
	return row
}

// WaitPorts waits until the device reported host ports for an app.
func (o *Operator) WaitPorts(app, device string, limit time.Duration) (row protocol.AppOnDeviceRow) {
	o.t.Helper()
	testenv.Eventually(o.t, limit,
		func() string { return fmt.Sprintf("%s on %s has host ports: %+v", app, device, row) },
		func() bool {
			row = o.State(app, device)
			return len(row.Ports) > 0 && row.Ports[0].HostPort != 0
		})
	return row
}

// Device is what the studio knows of a device.
func (o *Operator) Device(nameOrSerial string) protocol.DeviceRow {
	o.t.Helper()
	for _, d := range Ask[protocol.DeviceList](o, protocol.StudioListDevices, struct{}{}).Devices {
		if d.Name == nameOrSerial || d.SerialNumber == nameOrSerial {
			return d
		}
	}
	return protocol.DeviceRow{}
}

// WaitDevice waits until the studio knows something of a device.
func (o *Operator) WaitDevice(device, what string, limit time.Duration, holds func(protocol.DeviceRow) bool) (row protocol.DeviceRow) {
	o.t.Helper()
	testenv.Eventually(o.t, limit,
		func() string { return fmt.Sprintf("device %s %s: it is %+v", device, what, row) },
		func() bool {
			row = o.Device(device)
			return holds(row)
		})
	return row
}

// Connected is true of a device that has a session and has said that it is up.
func Connected(d protocol.DeviceRow) bool { return d.Online && d.Status == protocol.Connected }
