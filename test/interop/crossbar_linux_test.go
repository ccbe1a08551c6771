package interop

import (
	"testing"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/test/rig"
)

func init() { worlds["Crossbar.io"] = crossbarWorld }

func crossbarWorld(t *testing.T) *world {
	t.Helper()
	w := &world{engine: testenv.Docker(t)}
	b := rig.NewBackend(t)
	w.file = b.AddDevice(w.engine.Prefix)
	router := testenv.Crossbar(t, map[string]testenv.Login{
		protocol.AuthIDSystem: {Secret: rig.SystemSecret, Role: protocol.RoleSystem},
		rig.Administrator:     {Secret: "b3BlcmF0b3I=", Role: protocol.RoleUser},
		authID(w.file):        {Secret: w.file.Secret, Role: protocol.RoleDevice, Salted: true},
	})
	b.Join(router.Addr)
	w.login = rig.Login{URL: b.URL(), AuthID: rig.Administrator, Secret: "b3BlcmF0b3I="}
	w.system = rig.Login{URL: b.URL(), AuthID: protocol.AuthIDSystem, Secret: rig.SystemSecret}
	w.operator = rig.NewOperator(t, rig.Open(t, w.login))
	w.device = testenv.NewDevice(t, rig.DeviceFile(t, w.file))
	return w.own(t)
}
