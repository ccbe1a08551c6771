package fault

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/google/uuid"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/internal/testenv"
	"reagent/persistence/device"
	"reagent/protocol"
	"reagent/release"
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // these tests mostly wait, for engines and for each other
	code := m.Run()
	testenv.RemovePrograms()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goleak:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// product is the agent as it is shipped.
func product(t testing.TB) string { return testenv.Program(t, "./cmd/reagent", false) }

// quick is the same agent with shorter waits, watched by the race detector.
func quick(t testing.TB) string { return testenv.Program(t, "./test/fault/quickagent", true) }

// wellBehaved is how long an agent may take to end, and wait how long a test waits
// for what should take moments.
const (
	wellBehaved = 5 * time.Second
	wait        = 60 * time.Second
)

// nowhere is the address of a router that is not there.
const nowhere = "ws://127.0.0.1:1/ws-re-dev"

// unattended makes a device that belongs to no studio that could be reached.
// Its images come from a registry that does not exist, so they have to be there.
func unattended(t testing.TB, e *testenv.Engine) *testenv.Device {
	t.Helper()
	content, err := json.MarshalIndent(map[string]any{
		"name": "bench", "secret": "bm90LWEtcmVhbC1zZWNyZXQ=", "swarm_key": 41, "device_key": 1207,
		"serial_number": uuid.NewString(), "device_endpoint_url": nowhere, "environment": "local",
		"docker_registry_url": e.Prefix + ".invalid/", "docker_main_repository": "apps/",
		"made_by": map[string]any{"a key": "that nobody knows"},
	}, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	d := testenv.NewDevice(t, content)
	e.Owns(d.Serial)
	return d
}

// image is the reference of an app's image on an unattended device.
func image(e *testenv.Engine, key uint64, name, version string) string {
	return protocol.RegistryImage(e.Prefix+".invalid/", "apps/", protocol.Prod, release.Arch(), key, name) + ":" + version
}

// wish writes a wish into the database of a device on which no agent runs, as an
// agent would have when it was asked to.
func wish(t testing.TB, d *testenv.Device, requests ...protocol.AppRequest) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(d.Database()), 0o700); err != nil {
		t.Fatal(err)
	}
	store, err := device.Open(d.Database(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range requests {
		if _, _, err := store.Want(r, true); err != nil {
			t.Fatal(err)
		}
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
}

// running is the wish that an app runs.
func running(key uint64, name, version string) protocol.AppRequest {
	return protocol.AppRequest{
		AppKey: key, AppName: name, Stage: protocol.Prod, Target: protocol.Running,
		PresentVersion: version, NewestVersion: version, RequestorAccountKey: 1,
	}
}

// A life is what identifies one start of a container: any restart or new
// container is another life.
type life struct{ ID, Started string }

// lifeOf is the life of a container that runs; the zero life where none does.
func lifeOf(t testing.TB, e *testenv.Engine, name string) life {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	c, err := e.API.ContainerInspect(ctx, name)
	if err != nil || c.State == nil || !c.State.Running {
		return life{}
	}
	return life{c.ID, c.State.StartedAt}
}

// inspect looks at a container that must be there.
func inspect(t testing.TB, e *testenv.Engine, name string) container.InspectResponse {
	t.Helper()
	c, err := e.API.ContainerInspect(t.Context(), name)
	if err != nil {
		t.Fatalf("look at %s: %v", name, err)
	}
	return c
}

// appStatus is what the agent's own status says of an app.
func appStatus(d *testenv.Device, key uint64) protocol.AppStatus {
	for _, a := range d.Status().Apps {
		if a.AppKey == key {
			return a
		}
	}
	return protocol.AppStatus{}
}

// waitStatus waits until the agent's own status shows an app in a state.
func waitStatus(t testing.TB, d *testenv.Device, key uint64, want protocol.State) {
	t.Helper()
	testenv.Eventually(t, 30*time.Second,
		func() string { return fmt.Sprintf("app %d is %+v, want %s", key, appStatus(d, key), want) },
		func() bool { return appStatus(d, key).State == want })
}

// contents reads a file that must be there.
func contents(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
