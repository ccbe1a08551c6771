package interop

import (
	_ "embed"
	"flag"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/test/rig"
)

// The image registry leaves one goroutine behind, in its library.
var registrys = goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run")

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "8") // these tests mostly wait, for engines and for each other
	code := m.Run()
	testenv.RemovePrograms()
	if code == 0 {
		if err := goleak.Find(registrys); err != nil {
			fmt.Fprintln(os.Stderr, "goleak:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// A world is a router with the studio's backend, an operator, and a device that
// has not been started.
type world struct {
	engine   *testenv.Engine
	operator *rig.Operator
	device   *testenv.Device
	file     protocol.DeviceFileContent
	studio   *rig.Studio // nil where the router is not the studio's
	login    rig.Login   // of the operator
	system   rig.Login   // of the backend; only where another session may be it, too
}

// worlds are the routers that everything has to work with.
var worlds = map[string]func(*testing.T) *world{"studio": studioWorld}

// everywhere runs a test in each world.
func everywhere(t *testing.T, test func(*testing.T, *world)) {
	for name, make := range worlds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, make(t))
		})
	}
}

func studioWorld(t *testing.T) *world {
	t.Helper()
	w := &world{engine: testenv.Docker(t)}
	w.studio = rig.NewStudio(t)
	w.login = w.studio.Login()
	w.operator = w.studio.Operator(t)
	w.device, w.file = w.operator.AddDevice(w.engine.Prefix)
	return w.own(t)
}

func (w *world) own(t *testing.T) *world {
	t.Helper()
	w.login.Realm, w.system.Realm = protocol.RealmDevices, protocol.RealmDevices
	w.engine.Owns(w.device.Serial)
	return w
}

func authID(file protocol.DeviceFileContent) string {
	return protocol.DeviceAuthID(file.SwarmKey, file.DeviceKey)
}

// start starts the agent, as shipped, on the world's device.
func (w *world) start(t *testing.T) *testenv.Process {
	t.Helper()
	p := w.device.Start(t, agent(t))
	w.operator.WaitDevice(w.device.Serial, "connected", limit, rig.Connected)
	return p
}

func agent(t *testing.T) string { return testenv.Program(t, "./cmd/reagent", false) }
