package fault

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/test/rig"
)

func TestADamagedDatabaseIsRebuiltAndNoContainerNotices(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	web := s.app("web")
	s.Release(web, rig.Release{Version: "1.0.0", Ports: []protocol.PortRule{{Main: true, Name: "page", Port: 8080, Protocol: "http"}}, Image: testenv.App{Env: []string{"TESTAPP_SERVE=8080"}}})
	agent := s.start(quick(t))
	begun := s.run(web, "1.0.0")
	for _, row := range []struct {
		name   string
		damage func(whole []byte) []byte
		aside  bool // something is left that is worth keeping
	}{
		{"gone", nil, false},
		{"empty", func([]byte) []byte { return nil }, false},
		{"cut in half", func(whole []byte) []byte { return whole[:len(whole)/2] }, true},
		{"its root zeroed", func(whole []byte) []byte { clear(whole[:3*os.Getpagesize()]); return whole }, true},
		{"rubbish", func(whole []byte) []byte { return bytes.Repeat([]byte("rubbish "), len(whole)/8) }, true},
	} {
		agent.Terminate(syscall.SIGTERM, wellBehaved)
		rewrite(t, s.device.Database(), row.damage)
		agent = s.start(quick(t))
		app := s.wait(web, protocol.Running, "1.0.0")
		waitStatus(t, s.device, app.AppKey, protocol.Running)
		if got := lifeOf(t, s.engine, s.name(web)); got != begun {
			t.Errorf("%s: the container is %v, was %v", row.name, got, begun)
		}
		aside, _ := filepath.Glob(s.device.Database() + ".damaged-*")
		if row.aside != (len(aside) > 0) {
			t.Errorf("%s: set aside were %v, want one: %t", row.name, aside, row.aside)
		}
		for _, path := range aside {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		}
	}
	// What was rebuilt is as good as what was lost: the app still obeys.
	s.Operator.Stop(web, s.device.Serial)
	s.wait(web, protocol.Present, "")
	s.engine.WaitGone(s.name(web))
}

func TestADamagedDatabaseOfTheStudioCostsNoDeviceItsApps(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	web := s.app("web")
	s.Release(web, rig.Release{Version: "1.0.0"})
	agent := s.start(quick(t))
	begun := s.run(web, "1.0.0")

	s.studio.Stop()
	files, err := filepath.Glob(filepath.Join(s.studio.Data, "*.bolt"))
	if err != nil || len(files) != 1 {
		t.Fatalf("databases of the studio: %v, %v", files, err)
	}
	whole := []byte(contents(t, files[0]))
	rewrite(t, files[0], func(all []byte) []byte { return all[:len(all)/3] })
	if s.studio.TryStart() {
		// It began with an empty one: it knows neither the device nor the app.
		testenv.Eventually(t, wait, func() string { return fmt.Sprintf("the agent says why it is not connected: %+v", s.device.Status()) }, func() bool {
			return s.device.Status().State == "unauthorized"
		})
		s.studio.Stop()
	}
	s.same(web, begun)
	if !agent.Running() {
		t.Fatal("the agent ended with the studio's database")
	}
	// The backup comes back, and with it everything.
	if err := os.WriteFile(files[0], whole, 0o600); err != nil {
		t.Fatal(err)
	}
	s.studio.Start()
	agent.Terminate(syscall.SIGTERM, wellBehaved) // it would try again within minutes
	s.start(quick(t))
	s.wait(web, protocol.Running, "1.0.0")
	s.same(web, begun)
}

// rewrite damages a file; without a damage the file goes.
func rewrite(t testing.TB, path string, damage func([]byte) []byte) {
	t.Helper()
	if damage == nil {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		return
	}
	if err := os.WriteFile(path, damage([]byte(contents(t, path))), 0o600); err != nil {
		t.Fatal(err)
	}
}
