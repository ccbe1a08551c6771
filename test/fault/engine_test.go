//go:build linux

package fault

import (
	"fmt"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/test/rig"
)

// An engine that is not there, hangs or begins anew costs the apps their engine
// and nobody their device.
func TestTheDeviceStaysReachableWhateverTheEngineDoes(t *testing.T) {
	t.Parallel()
	e := testenv.NewPrivateEngine(t)
	e.Stop()
	s := newSite(t, e.Engine)
	web := s.app("web")
	s.Release(web, rig.Release{Version: "1.0.0"})
	agent := s.start(quick(t))

	t.Log("absent at the start")
	s.reachable()
	s.Deploy(web, s.device.Serial, "1.0.0", nil)
	e.Start()
	s.wait(web, protocol.Running, "1.0.0")
	if lifeOf(t, e.Engine, s.name(web)) == lifeNone {
		t.Fatal("the app is reported RUNNING and its container does not run")
	}

	t.Log("stopped in order and started again")
	e.Stop()
	testenv.Eventually(t, 20*time.Second, s.shown, func() bool { return !s.device.Status().Engine.Reachable })
	s.reachable()
	e.Start()
	e.WaitRunning(s.name(web))
	s.wait(web, protocol.Running, "1.0.0")

	t.Log("killed and started again")
	e.Kill()
	testenv.Eventually(t, 20*time.Second, s.shown, func() bool { return !s.device.Status().Engine.Reachable })
	s.reachable()
	e.Start()
	e.WaitRunning(s.name(web))
	s.wait(web, protocol.Running, "1.0.0")

	t.Log("hung")
	e.Hang()
	s.reachable()
	// A wish that arrives meanwhile waits for the engine.
	s.Stop(web, s.device.Serial)
	s.reachable()
	e.Continue()
	s.wait(web, protocol.Present, "")
	e.WaitGone(s.name(web))
	s.run(web, "")

	t.Log("hung while the agent starts")
	begun := lifeOf(t, e.Engine, s.name(web))
	agent.Kill()
	e.Hang()
	s.start(quick(t))
	s.reachable()
	e.Continue()
	testenv.Eventually(t, 60*time.Second, s.shown, func() bool { return s.device.Status().Engine.Reachable })
	s.wait(web, protocol.Running, "1.0.0")
	s.same(web, begun)
}

func (s *site) shown() string {
	return fmt.Sprintf("the status shows it: %+v", s.device.Status().Engine)
}

// reachable fails the test unless the device answers, also what it has to ask
// the engine for.
func (s *site) reachable() {
	s.t.Helper()
	for _, procedure := range []string{protocol.GetAgentMetadata, protocol.GetStorageData} {
		begun := time.Now()
		if err := s.answers(procedure, 5*time.Second); err != nil {
			s.t.Errorf("%s: %v after %v", procedure, err, time.Since(begun))
		}
	}
	begun := time.Now()
	if err := s.answers(protocol.ListContainers, 40*time.Second); err != nil {
		s.t.Errorf("%s: %v after %v", protocol.ListContainers, err, time.Since(begun))
	}
	if row := s.Device(s.device.Serial); !rig.Connected(row) {
		s.t.Errorf("the studio has the device as %+v", row)
	}
}
