package fault

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/test/rig"
)

func TestTwentyKillsOfTheRouterLoseNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	web := s.app("web")
	s.Release(web, rig.Release{Version: "1.0.0"})
	agent := s.start(quick(t))
	begun := s.run(web, "1.0.0")
	for round := range 20 {
		s.studio.Kill()
		if round%5 == 4 { // something to tell afterwards
			begun = s.crash(web, begun)
		}
		s.studio.Start()
		s.connected(agent)
		if err := s.answers(protocol.GetStorageData, 10*time.Second); err != nil {
			t.Fatalf("round %d: the device does not answer: %v", round, err)
		}
		s.wait(web, protocol.Running, "1.0.0")
		s.same(web, begun)
	}
	if !agent.Running() {
		t.Error("the agent ended")
	}
	agent.Terminate(syscall.SIGTERM, wellBehaved)
	s.same(web, begun)
}

func TestAHalfOpenLinkIsNoticedAndHealed(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	relay := s.behind()
	s.device.Flags = append(s.device.Flags, "-ppTimeout", "500", "-connTimeout", "500")
	web := s.app("web")
	s.Release(web, rig.Release{Version: "1.0.0"})
	s.start(quick(t))
	begun := s.run(web, "1.0.0")
	for range 2 {
		relay.Freeze() // nothing passes, nobody is told
		frozen := time.Now()
		testenv.Eventually(t, 10*time.Second,
			func() string { return fmt.Sprintf("the agent notices: %+v", s.device.Status()) },
			func() bool { return s.device.Status().State == string(messenger.Offline) })
		t.Logf("the agent noticed after %v", time.Since(frozen))
		s.WaitDevice(s.device.Serial, "is seen to be gone", 30*time.Second, func(d protocol.DeviceRow) bool { return !d.Online })
		t.Logf("the studio noticed after %v", time.Since(frozen))
		begun = s.crash(web, begun)
		relay.Thaw()
		s.WaitDevice(s.device.Serial, "is back", 60*time.Second, rig.Connected)
		s.wait(web, protocol.Running, "1.0.0")
		s.same(web, begun)
	}
}

func TestASignalEndsInOrderAndLeavesTheAppsAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	web := s.app("web")
	s.Release(web, rig.Release{Version: "1.0.0"})
	begun := life{}
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		agent := s.start(product(t))
		if begun == lifeNone {
			begun = s.run(web, "1.0.0")
		}
		s.wait(web, protocol.Running, "1.0.0")
		s.same(web, begun)
		took := agent.Terminate(signal, wellBehaved)
		s.WaitDevice(s.device.Serial, fmt.Sprintf("is gone right after %v", signal), 2*time.Second,
			func(d protocol.DeviceRow) bool { return !d.Online && d.Status == protocol.Disconnected })
		t.Logf("ended %v after %v", took, signal)
		s.same(web, begun)
	}
	// And a process that had no time to say goodbye is shown as gone, too.
	agent := s.start(product(t))
	agent.Kill()
	s.WaitDevice(s.device.Serial, "is gone right after it was killed", 2*time.Second,
		func(d protocol.DeviceRow) bool { return !d.Online && d.Status == protocol.Disconnected })
	s.same(web, begun)
}
