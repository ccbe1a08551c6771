package fault

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/test/rig"
)

// A site is a studio, its operator, and one device on one engine: the smallest
// thing that can break in all the ways that matter.
type site struct {
	*rig.Operator
	t      testing.TB
	studio *rig.Studio
	engine *testenv.Engine
	device *testenv.Device
	file   protocol.DeviceFileContent
	names  map[string]string // of the apps' containers
}

// newSite makes a site; no agent runs on its device yet.
func newSite(t testing.TB, e *testenv.Engine) *site {
	t.Helper()
	s := &site{t: t, studio: rig.NewStudio(t), engine: e, names: map[string]string{}}
	s.Operator = s.studio.Operator(t)
	s.device, s.file = s.AddDevice(e.Prefix)
	s.device.Flags = []string{"-dockerHost", e.Host}
	e.Owns(s.device.Serial)
	return s
}

// start starts an agent on the device and waits until it is connected.
func (s *site) start(program string) *testenv.Process {
	s.t.Helper()
	p := s.device.Start(s.t, program)
	s.connected(p)
	return p
}

// connected waits until the studio has this process' device as connected.
func (s *site) connected(p *testenv.Process) {
	s.t.Helper()
	testenv.Eventually(s.t, 60*time.Second,
		func() string {
			return fmt.Sprintf("connected: the agent says %+v, the studio %+v; %s", s.device.Status(), s.Device(s.device.Serial), p.Said())
		},
		func() bool { return rig.Connected(s.Device(s.device.Serial)) })
}

// app is the name of an app that belongs to this test alone.
func (s *site) app(name string) string { return s.engine.Prefix + name }

// name is the name of an app's container. It is asked for once, so that it is
// known while there is no studio.
func (s *site) name(app string) string {
	s.t.Helper()
	if s.names[app] == "" {
		s.names[app] = s.State(app, s.device.Serial).ContainerName
	}
	return s.names[app]
}

// run deploys an app and waits until the studio was told that it runs; it
// returns the life of its container.
func (s *site) run(app, version string) life {
	s.t.Helper()
	s.Deploy(app, s.device.Serial, version, nil)
	s.wait(app, protocol.Running, version)
	now := lifeOf(s.t, s.engine, s.name(app))
	if now == lifeNone {
		s.t.Fatalf("%s is reported RUNNING and its container does not run", app)
	}
	return now
}

func (s *site) wait(app string, state protocol.State, version string) protocol.AppOnDeviceRow {
	s.t.Helper()
	return s.WaitState(app, s.device.Serial, state, version, 60*time.Second)
}

// answers tells whether the device answers a procedure within d, with a result
// or with an error of its own.
func (s *site) answers(procedure string, d time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	_, err := s.Call(ctx, protocol.Procedure(s.device.Serial, procedure), nil, nil)
	if err != nil && strings.Contains(err.Error(), protocol.ErrorContract) && ctx.Err() == nil {
		return nil
	}
	return err
}

// behind puts a relay between the device and its studio.
func (s *site) behind() *testenv.Relay {
	s.t.Helper()
	relay := testenv.NewRelay(s.t, s.studio.Addr)
	u, err := url.Parse(s.file.DeviceEndpointURL)
	if err != nil {
		s.t.Fatal(err)
	}
	text := strings.Replace(contents(s.t, s.device.File), u.Host, relay.Addr(), 1)
	if err := os.WriteFile(s.device.File, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return relay
}

// same fails the test when the container of an app is not the one that it was.
func (s *site) same(app string, want life) {
	s.t.Helper()
	if got := lifeOf(s.t, s.engine, s.name(app)); got != want {
		s.t.Errorf("container of %s is %v, was %v", app, got, want)
	}
}

// crash kills an app's container and waits until the agent has started it
// again, connected or not; it returns the new life.
func (s *site) crash(app string, old life) (now life) {
	s.t.Helper()
	if err := s.engine.API.ContainerKill(s.t.Context(), s.name(app), "KILL"); err != nil {
		s.t.Fatal(err)
	}
	testenv.Eventually(s.t, 30*time.Second, func() string { return app + " comes back after a crash" }, func() bool {
		now = lifeOf(s.t, s.engine, s.name(app))
		return now != lifeNone && now != old
	})
	return now
}
