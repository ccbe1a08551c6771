package interop

import (
	"fmt"
	"strings"
	"testing"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/test/rig"
)

func init() { worlds["Crossbar.io"] = crossbarWorld }

func crossbarWorld(t *testing.T) *world {
	t.Helper()
	return crossbarWithout(t)
}

// crossbarWithout is a world where devices may neither call nor subscribe to some
// of what the router offers.
func crossbarWithout(t *testing.T, denied ...string) *world {
	t.Helper()
	w := &world{engine: testenv.Docker(t)}
	b := rig.NewBackend(t)
	w.file = b.AddDevice(w.engine.Prefix)
	router := testenv.Crossbar(t, map[string]testenv.Login{
		protocol.AuthIDSystem: {Secret: rig.SystemSecret, Role: protocol.RoleSystem},
		rig.Administrator:     {Secret: "b3BlcmF0b3I=", Role: protocol.RoleUser},
		"2":                   {Secret: crossbarColleague, Role: protocol.RoleUser}, // the next account: see colleague
		authID(w.file):        {Secret: w.file.Secret, Role: protocol.RoleDevice, Salted: true, Denied: denied},
	})
	b.Join(router.Addr)
	w.login = rig.Login{URL: b.URL(), AuthID: rig.Administrator, Secret: "b3BlcmF0b3I="}
	w.system = rig.Login{URL: b.URL(), AuthID: protocol.AuthIDSystem, Secret: rig.SystemSecret}
	w.operator = rig.NewOperator(t, rig.Open(t, w.login))
	w.device = testenv.NewDevice(t, rig.DeviceFile(t, w.file))
	return w.own(t)
}

func TestAViewerGetsLinesFromARouterThatTellsDevicesNothing(t *testing.T) {
	t.Parallel()
	w := crossbarWithout(t, protocol.SubscriptionMatch, protocol.SubscriptionOnCreate, protocol.SubscriptionOnDelete)
	w.start(t)
	app := w.engine.Prefix + "talks"
	w.operator.Release(app, rig.Release{Version: "1.0.0", Image: testenv.App{Env: []string{"TESTAPP_EVERY=100ms"}}})
	user, _ := foreign(t, w.login, "json")
	cn := protocol.ContainerName(protocol.Prod, w.operator.Deploy(app, w.device.Serial, "1.0.0", nil).App.AppKey, app)
	if got := user.does(map[string]any{"subscribe": protocol.LogTopic(w.device.Serial, cn)}); got.Subscribed == "" {
		t.Fatalf("subscribe to the log: %+v", got)
	}
	testenv.Eventually(t, limit, func() string { return fmt.Sprintf("the log tells ticks: %q", user.heard()) }, func() bool {
		return strings.Contains(strings.Join(user.heard(), "\n"), "tick 20")
	})
	inOrderOf(t, user.heard(), "tick ")
	if n := strings.Count(w.device.Log(), "published unasked"); n != 1 {
		t.Errorf("the agent says %d times that it publishes unasked, want once", n)
	}
}
