package apps

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/protocol"
)

// versions are the images that every rig finds in its registry.
var versions = map[string]testenv.App{
	"1":     {Version: "1", Env: []string{"TESTAPP_SERVE=8080"}},
	"2":     {Version: "2", Env: []string{"TESTAPP_SERVE=8080"}},
	"crash": {Version: "crash", Env: []string{"TESTAPP_EXIT=3"}},
}

// newRig makes a device with a serial number and an app key of its own, so that
// tests of several packages may share the engine.
func newRig(t *testing.T) *rig {
	t.Helper()
	r, _ := newRigOn(t, testenv.Docker(t))
	for version, app := range versions {
		testenv.PushImage(t, r.image(version), "", "", app)
	}
	return r
}

// newRigOn is a rig on a certain engine, with a registry in which nothing lies.
func newRigOn(t *testing.T, docker *testenv.Engine) (*rig, *testenv.Registry) {
	t.Helper()
	e, err := container.New(container.Config{Host: docker.Host, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	reg := testenv.NewRegistry(t)
	r := &rig{
		t: t, engine: e, studio: newStudio(), log: &logDouble{}, dir: t.TempDir(), waits: quick(),
		id: protocol.AppID{Key: 1<<40 + rand.Uint64N(1<<40), Stage: protocol.Prod},
		facts: Facts{Serial: docker.Prefix, DeviceKey: 7, SwarmKey: 41, EndpointURL: "ws://127.0.0.1:1/ws",
			Registry: reg.Host + "/", Repository: docker.Prefix + "/"},
	}
	t.Cleanup(r.stop)
	r.start()
	return r, reg
}

func (r *rig) cn() string { return protocol.ContainerName(r.id.Stage, r.id.Key, "web") }

func (r *rig) image(version string) string {
	return protocol.RegistryImage(r.facts.Registry, r.facts.Repository, r.id.Stage, "amd64", r.id.Key, "web") + ":" + version
}

// local pulls a version without the agent.
func (r *rig) local(version string) string {
	r.t.Helper()
	if err := r.engine.Pull(r.t.Context(), r.image(version), nil, nil); err != nil {
		r.t.Fatal(err)
	}
	return r.image(version)
}

// freePort is a port that nobody listens on right now.
func freePort(t *testing.T) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

func answers(url string) bool {
	c := http.Client{Timeout: time.Second}
	resp, err := c.Get(url)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// remove takes the rig's containers away before the test ends.
func (r *rig) remove() {
	r.stop()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	list, err := r.engine.List(ctx, map[string]string{labelSerial: r.facts.Serial})
	if err != nil {
		r.t.Error(err)
	}
	for _, c := range list {
		if err := r.engine.Remove(ctx, c.ID); err != nil {
			r.t.Error(err)
		}
	}
}
