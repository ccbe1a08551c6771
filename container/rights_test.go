package container_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	dockercontainer "github.com/docker/docker/api/types/container"

	"reagent/container"
	"reagent/internal/testenv"
)

// privileged is what an app's container asks for.
func privileged(name, image string) container.Spec {
	return container.Spec{Name: name, Image: image, Privileged: true, Devices: []string{"/dev"}}
}

// asked are the rights that each create of a wiretap asked for.
func asked(t *testing.T, notes []note) (creates []*dockercontainer.HostConfig) {
	t.Helper()
	for _, n := range notes {
		if !strings.Contains(n.line, "/containers/create") {
			continue
		}
		var body struct{ HostConfig *dockercontainer.HostConfig }
		if err := json.Unmarshal([]byte(n.body), &body); err != nil {
			t.Fatal(err)
		}
		creates = append(creates, body.HostConfig)
	}
	return creates
}

func TestPrivilegedAsksForAllOfIt(t *testing.T) {
	docker, _, image := realEngine(t, testenv.App{})
	wire := tap(t, docker.Host)
	// Created only: not every engine starts it.
	if _, _, err := newEngine(t, wire.host).Create(t.Context(), privileged(docker.Prefix+"-app", image)); err != nil {
		t.Fatal(err)
	}
	got := asked(t, wire.take())
	if len(got) != 1 {
		t.Fatalf("%d creates, want 1", len(got))
	}
	host := got[0]
	if !host.Privileged || !slices.Equal(host.CapAdd, []string{"ALL"}) {
		t.Errorf("privileged %t, capabilities %v, want all", host.Privileged, host.CapAdd)
	}
	if want := (dockercontainer.DeviceMapping{PathOnHost: "/dev", PathInContainer: "/dev", CgroupPermissions: "rwm"}); len(host.Devices) != 1 || host.Devices[0] != want {
		t.Errorf("devices = %v, want %v", host.Devices, want)
	}
}

func TestRunGivesWhatTheEngineAllowsAndRemembersIt(t *testing.T) {
	t.Parallel() // mostly waits
	docker, _, image := realEngine(t, testenv.App{})
	wire := tap(t, docker.Host)
	e := newEngine(t, wire.host)
	id, note, err := e.Run(t.Context(), privileged(docker.Prefix+"-first", image))
	if err != nil {
		t.Fatal(err)
	}
	c := inspect(t, e, id)
	if c.Privileged != (note == "") {
		t.Errorf("privileged %t, note %q", c.Privileged, note)
	}
	t.Logf("this engine: %q", note)
	wire.take()
	_, again, err := e.Run(t.Context(), privileged(docker.Prefix+"-second", image))
	if err != nil || again != note {
		t.Errorf("second run: note %q, %v, want %q", again, err, note)
	}
	if got := wire.take(); len(got) != 2 {
		t.Errorf("second run took %d requests, want 2: %v", len(got), got)
	}
}

func TestRefusedRightsAreLoweredStepByStep(t *testing.T) {
	docker, _, image := realEngine(t, testenv.App{})
	const caps = "failed to create shim task: OCI runtime create failed: unable to apply caps: operation not permitted: unknown"
	for _, test := range []struct {
		name      string
		allows    func(*dockercontainer.HostConfig) bool
		creates   int
		noteAbout string
	}{
		{"all capabilities", func(h *dockercontainer.HostConfig) bool { return !h.Privileged }, 2, "all capabilities"},
		{"those it has", func(h *dockercontainer.HostConfig) bool { return !h.Privileged && !slices.Contains(h.CapAdd, "ALL") }, 3, "that the engine has"},
		{"the usual", func(h *dockercontainer.HostConfig) bool { return !h.Privileged && len(h.CapAdd) == 0 }, 4, "the usual ones and its devices"},
		{"no devices", func(h *dockercontainer.HostConfig) bool { return !h.Privileged && len(h.CapAdd)+len(h.Devices) == 0 }, 5, "devices: the container runs"},
	} {
		t.Run(test.name, func(t *testing.T) {
			wire := tap(t, docker.Host)
			e := newEngine(t, wire.host)
			var last *dockercontainer.HostConfig
			creates, unknown := 0, 0
			wire.setFault(func(w http.ResponseWriter, r *http.Request) bool {
				switch {
				case strings.Contains(r.URL.Path, "/containers/create"):
					var body struct{ HostConfig *dockercontainer.HostConfig }
					if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
						t.Error(err)
					}
					if last = body.HostConfig; slices.Contains(last.CapAdd, "CAP_BPF") {
						unknown++ // as an engine does that is older than its kernel
						return refuse(w, http.StatusBadRequest, `invalid CapAdd: unknown capability: "CAP_BPF"`)
					}
					creates++
					w.Header().Set("Content-Type", "application/json")
					w.WriteHeader(http.StatusCreated)
					w.Write([]byte(`{"Id":"` + strings.Repeat("ab", 32) + `"}`))
					return true
				case strings.HasSuffix(r.URL.Path, "/start"):
					if !test.allows(last) {
						return refuse(w, http.StatusInternalServerError, caps)
					}
					w.WriteHeader(http.StatusNoContent)
					return true
				case r.Method == http.MethodDelete:
					w.WriteHeader(http.StatusNoContent)
					return true
				}
				return false
			})
			_, note, err := e.Run(t.Context(), privileged(docker.Prefix+"-app", image))
			if err != nil || !strings.Contains(note, test.noteAbout) || creates != test.creates {
				t.Errorf("note %q, %v after %d creates, want one about %q after %d", note, err, creates, test.noteAbout, test.creates)
			}
			if wantUnknown := min(1, max(0, test.creates-2)); unknown > wantUnknown {
				t.Errorf("the unknown capability was asked for %d times, want at most %d", unknown, wantUnknown)
			}
			before := creates
			if _, again, err := e.Run(t.Context(), privileged(docker.Prefix+"-app", image)); err != nil || again != note || creates != before+1 {
				t.Errorf("second run: %q, %v after %d creates, want the same at once", again, err, creates-before)
			}
		})
	}
}

func TestRefusalThatNothingHelpsIsAnError(t *testing.T) {
	docker, _, image := realEngine(t, testenv.App{})
	wire := tap(t, docker.Host)
	e := newEngine(t, wire.host)
	wire.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, "/start") && refuse(w, http.StatusInternalServerError, "operation not permitted")
	})
	name := docker.Prefix + "-app"
	if _, _, err := e.Run(t.Context(), privileged(name, image)); err == nil || !strings.Contains(err.Error(), "operation not permitted") {
		t.Errorf("run = %v, want the engine's reason", err)
	}
	if found, err := docker.API.ContainerInspect(t.Context(), name); err == nil {
		t.Errorf("a container is left: %s", found.ID)
	}
	wire.setFault(nil)
	wire.take()
	if _, _, err := e.Run(t.Context(), privileged(name, image)); err != nil {
		t.Fatal(err)
	}
	if first := asked(t, wire.take())[0]; !first.Privileged {
		t.Error("a refusal that nothing helped was remembered")
	}
}

func TestMissingRuntimeIsDoneWithout(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	info, err := e.Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	spec := container.Spec{Name: docker.Prefix + "-app", Image: image, Runtime: "nvidia"}
	id, note, err := e.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if has := slices.Contains(info.Runtimes, "nvidia"); has != (note == "") || !has && !strings.Contains(note, `"nvidia"`) {
		t.Errorf("note = %q, engine has the runtime: %t", note, has)
	}
	if got := inspect(t, e, id).Status; got != container.StatusRunning {
		t.Errorf("status = %s, want running", got)
	}
}

func TestUnprivilegedStaysUnprivileged(t *testing.T) {
	docker, _, image := realEngine(t, testenv.App{})
	wire := tap(t, docker.Host)
	_, note, err := newEngine(t, wire.host).Run(t.Context(), container.Spec{Name: docker.Prefix + "-app", Image: image})
	if err != nil || note != "" {
		t.Fatalf("run = %q, %v", note, err)
	}
	for _, host := range asked(t, wire.take()) {
		if host.Privileged || len(host.CapAdd)+len(host.Devices) != 0 {
			t.Errorf("asked for %+v", host)
		}
	}
}
