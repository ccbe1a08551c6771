package container_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	dockercontainer "github.com/docker/docker/api/types/container"

	"reagent/container"
	"reagent/internal/testenv"
)

const (
	noCaps    = "OCI runtime create failed: unable to apply caps: operation not permitted: unknown"
	noNodes   = "OCI runtime create failed: runc create failed: unable to start container process: error during container init: error creating device nodes: open /var/lib/docker/overlay2/0a/merged/dev/pts/0: permission denied: unknown"
	noDevice  = `error gathering device information while adding custom device "/dev/ttyUSB0": no such file or directory`
	noRuntime = "Unknown runtime specified nvidia"
	noSpace   = "failed to create task for container: write /run/config.json: no space left on device"
	noProgram = `OCI runtime create failed: exec: "/etc": permission denied: unknown`
)

// privilegedRefused answers as an engine that starts no privileged containers, and
// no others either for which why gives a reason.
func privilegedRefused(t *testing.T, why func(*dockercontainer.HostConfig) string) func(http.ResponseWriter, *http.Request) bool {
	var last *dockercontainer.HostConfig
	return func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.Contains(r.URL.Path, "/containers/create"):
			var body struct{ HostConfig *dockercontainer.HostConfig }
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			last = body.HostConfig
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusCreated)
			w.Write([]byte(`{"Id":"` + strings.Repeat("ab", 32) + `"}`))
		case strings.HasSuffix(r.URL.Path, "/start"):
			text := noCaps
			if !last.Privileged {
				text = why(last)
			}
			if text != "" {
				return refuse(w, http.StatusInternalServerError, text)
			}
			w.WriteHeader(http.StatusNoContent)
		case r.Method == http.MethodDelete:
			w.WriteHeader(http.StatusNoContent)
		default:
			return false
		}
		return true
	}
}

func devices(h *dockercontainer.HostConfig) (paths []string) {
	for _, d := range h.Devices {
		paths = append(paths, d.PathOnHost)
	}
	return paths
}

func TestDevicesAreMappedOneByOneWhereNotAllMayBe(t *testing.T) {
	docker, _, image := realEngine(t, testenv.App{})
	wire := tap(t, docker.Host)
	wire.setFault(privilegedRefused(t, func(*dockercontainer.HostConfig) string { return "" }))
	if _, _, err := newEngine(t, wire.host).Run(t.Context(), privileged(docker.Prefix+"-app", image)); err != nil {
		t.Fatal(err)
	}
	creates := asked(t, wire.take())
	if got := devices(creates[0]); !slices.Equal(got, []string{"/dev"}) {
		t.Errorf("privileged: devices %q, want all", got)
	}
	got := devices(creates[len(creates)-1])
	if !slices.Contains(got, "/dev/null") {
		t.Errorf("devices = %q, want /dev/null among them", got)
	}
	for _, path := range got {
		info, err := os.Lstat(path)
		if err != nil || info.Mode()&os.ModeDevice == 0 && !info.IsDir() {
			t.Errorf("%s is mapped, which is %v, %v", path, info, err)
		}
		if slices.Contains([]string{"console", "fd", "mqueue", "ptmx", "pts", "shm"}, filepath.Base(path)) {
			t.Errorf("%s is mapped, which each container has of its own", path)
		}
	}
	for _, m := range creates[len(creates)-1].Devices {
		if m.PathInContainer != m.PathOnHost || m.CgroupPermissions != "rwm" {
			t.Errorf("mapping %+v, want it to itself", m)
		}
	}
}

// A terminal that is open on the host is a device that no container gets.
func TestContainerStartsWhileATerminalIsOpen(t *testing.T) {
	t.Parallel() // mostly waits
	docker, e, image := realEngine(t, testenv.App{})
	start := func() {
		terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { terminal.Close() })
	}
	start()
	spec := privileged(docker.Prefix+"-app", image)
	spec.TTY = true
	id, note, err := e.Run(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(note, "and devices:") {
		t.Errorf("it runs without devices: %s", note)
	}
	if err := e.Stop(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	start()
	if err := e.Start(t.Context(), id); err != nil {
		t.Errorf("second start: %v", err)
	}
}

func TestPassingRefusalIsNotRemembered(t *testing.T) {
	docker, _, image := realEngine(t, testenv.App{})
	wire := tap(t, docker.Host)
	e := newEngine(t, wire.host)
	wire.setFault(privilegedRefused(t, func(h *dockercontainer.HostConfig) string {
		if len(h.Devices) > 0 {
			return noNodes
		}
		return ""
	}))
	if _, note, err := e.Run(t.Context(), privileged(docker.Prefix+"-one", image)); err != nil || !strings.Contains(note, "and devices:") {
		t.Fatalf("run = %q, %v, want it to do without devices", note, err)
	}
	wire.setFault(privilegedRefused(t, func(*dockercontainer.HostConfig) string { return "" }))
	wire.take()
	if _, _, err := e.Run(t.Context(), privileged(docker.Prefix+"-two", image)); err != nil {
		t.Fatal(err)
	}
	creates := asked(t, wire.take())
	if last := creates[len(creates)-1]; len(last.Devices) == 0 {
		t.Error("the next container got no devices either")
	}
}

func TestDeviceThatIsUnpluggedMeanwhileIsDoneWithout(t *testing.T) {
	docker, _, image := realEngine(t, testenv.App{})
	wire := tap(t, docker.Host)
	e := newEngine(t, wire.host)
	for lost, ok := range map[int]bool{1: true, 1 << 30: false} {
		starts := 0
		wire.setFault(privilegedRefused(t, func(*dockercontainer.HostConfig) string {
			if starts++; starts <= lost {
				return noDevice
			}
			return ""
		}))
		wire.take()
		_, _, err := e.Run(t.Context(), privileged(docker.Prefix+"-app", image))
		if (err == nil) != ok {
			t.Errorf("a device is lost %d times: %v", lost, err)
		}
		creates := asked(t, wire.take())
		if len(creates) > 8 {
			t.Errorf("a device is lost %d times: %d containers", lost, len(creates))
		}
		if last := creates[len(creates)-1]; len(last.Devices) == 0 {
			t.Errorf("a device is lost %d times: all devices are left out", lost)
		}
	}
}

// Only what a container asks for can be asked for less.
func TestStartTellsWhatTheEngineDoesNotGive(t *testing.T) {
	docker, _, image := realEngine(t, testenv.App{})
	wire := tap(t, docker.Host)
	e := newEngine(t, wire.host)
	created := func(spec container.Spec) string {
		t.Helper()
		id, _, err := e.Create(t.Context(), spec)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	all := created(privileged(docker.Prefix+"-all", image))
	plain := created(container.Spec{Name: docker.Prefix + "-plain", Image: image})
	for _, test := range []struct {
		id, text  string
		ofDemand  bool
		otherwise error
		asks      string
	}{
		{all, noCaps, true, nil, "all"},
		{all, noNodes, true, nil, "all"},
		{all, noDevice, true, nil, "all"},
		{all, noSpace, false, container.ErrNoSpace, "all"},
		{all, noProgram, false, nil, "all"},
		{all, noRuntime, false, nil, "all"},
		{all, "Bind for 0.0.0.0:80 failed: port is already allocated", false, container.ErrPortTaken, "all"},
		{all, "cannot expose privileged port 80: permission denied", false, nil, "all"},
		{plain, noCaps, false, nil, "nothing"},
		{plain, noDevice, false, nil, "nothing"},
	} {
		wire.setFault(func(w http.ResponseWriter, r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, "/start") && refuse(w, http.StatusInternalServerError, test.text)
		})
		err := e.Start(t.Context(), test.id)
		if err == nil || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v, want the engine's words", test.text, err)
		}
		if got := errors.Is(err, container.ErrDemand); got != test.ofDemand {
			t.Errorf("%s, of a container that asks for %s: ErrDemand %t, want %t", test.text, test.asks, got, test.ofDemand)
		}
		if test.otherwise != nil && !errors.Is(err, test.otherwise) {
			t.Errorf("%s: %v, want %v", test.text, err, test.otherwise)
		}
	}
	// A runtime that was removed since the container was made.
	wire.setFault(func(w http.ResponseWriter, r *http.Request) bool {
		switch {
		case strings.HasSuffix(r.URL.Path, "/start"):
			return refuse(w, http.StatusBadRequest, noRuntime)
		case strings.HasSuffix(r.URL.Path, "/json"):
			w.Header().Set("Content-Type", "application/json")
			w.Write([]byte(`{"Id":"` + plain + `","HostConfig":{"Runtime":"nvidia"}}`))
			return true
		}
		return false
	})
	if err := e.Start(t.Context(), plain); !errors.Is(err, container.ErrDemand) {
		t.Errorf("%s: %v, want ErrDemand", noRuntime, err)
	}
}
