package apps

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/protocol"
)

// newDevRig makes a device on which somebody develops an app.
func newDevRig(t *testing.T) *rig {
	t.Helper()
	docker := testenv.Docker(t)
	e, err := container.New(container.Config{Host: docker.Host, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	reg := testenv.NewRegistry(t)
	r := &rig{
		t: t, engine: e, studio: newStudio(), log: &logDouble{}, dir: t.TempDir(), waits: quick(),
		id: protocol.AppID{Key: 1<<40 + rand.Uint64N(1<<40), Stage: protocol.Dev},
		facts: Facts{Serial: docker.Prefix, DeviceKey: 7, SwarmKey: 41, EndpointURL: "ws://127.0.0.1:1/ws",
			Registry: reg.Host + "/", Repository: docker.Prefix + "/"},
	}
	t.Cleanup(r.remove)
	r.start()
	return r
}

// files is what somebody develops, by name.
type files map[string]string

// pack makes an archive of them.
func (f files) pack(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	w := tar.NewWriter(z)
	for name, content := range f {
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// source is an app that can be built: testapp, with these lines in its Dockerfile.
func source(t testing.TB, lines ...string) files {
	return files{
		"testapp":    string(testenv.Testapp(t)),
		"Dockerfile": strings.Join(append([]string{"FROM scratch", "COPY testapp /testapp", `ENTRYPOINT ["/testapp"]`}, lines...), "\n") + "\n",
	}
}

// upload brings files to the device, as a studio does.
func (r *rig) upload(f files) {
	r.t.Helper()
	r.uploadArchive(f.pack(r.t))
}

func (r *rig) uploadArchive(raw []byte) {
	r.t.Helper()
	send := func(chunk string) {
		r.t.Helper()
		c := protocol.WriteDataArgs{Chunk: chunk, File: "web.tgz", Container: r.cn(), Total: int64(len(raw)), ID: "t"}
		if err := r.apps.Upload(context.Background(), c); err != nil {
			r.t.Fatal(err)
		}
	}
	send(protocol.TransferBegin)
	for piece := range slices.Chunk(raw, 1<<20) {
		send(hex.EncodeToString(piece))
	}
	send(protocol.TransferEnd)
}

// wish asks for a state of the DEV app, and returns the reports from then on.
func (r *rig) wish(target protocol.State, change ...func(*protocol.AppRequest)) func(want ...string) {
	r.t.Helper()
	before := len(r.states())
	r.request(func(q *protocol.AppRequest) {
		*q = protocol.AppRequest{AppKey: r.id.Key, AppName: "web", Stage: protocol.Dev, Target: target, RequestorAccountKey: 1}
		for _, c := range change {
			c(q)
		}
	})
	return func(want ...string) {
		r.t.Helper()
		since := func() []string { return r.states()[before:] }
		r.eventually(fmt.Sprintf("%s brings %q", target, want), func() bool { return len(since()) >= len(want) })
		if got := since(); !slices.Equal(got, want) {
			r.t.Fatalf("%s brought %q\nwant %q\nlog: %q", target, got, want, r.log.lines)
		}
	}
}

// lastError is the text of the newest FAILED report.
func (r *rig) lastError() string {
	reports := r.studio.all()
	for _, rep := range slices.Backward(reports) {
		if rep["state"] == "FAILED" {
			text, _ := protocol.Text(rep["error"])
			return text
		}
	}
	return ""
}

func (r *rig) devImage() string {
	return protocol.RegistryImage(r.facts.Registry, r.facts.Repository, protocol.Dev, "amd64", r.id.Key, "web") + ":latest"
}

func (r *rig) imageID(ref string) string {
	r.t.Helper()
	i, err := r.engine.Image(r.t.Context(), ref)
	if err != nil && !errors.Is(err, container.ErrNotFound) {
		r.t.Fatal(err)
	}
	return i.ID
}

func TestWholeLifeOfADevelopersApp(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(source(t, "ENV BUILD=1"))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	for _, line := range []string{"Received first package on device!", "File transfer has finished, starting build...", "Starting image build...", "Image built successfully"} {
		if !r.log.contains(r.cn() + ": " + line) {
			t.Errorf("the log lacks %q: %q", line, r.log.lines)
		}
	}
	r.wish(protocol.Running)("STARTING", "RUNNING")
	first := r.container(r.cn())
	if first == nil || !slices.Contains(first.Env, "BUILD=1") || !slices.Contains(first.Env, "ENV=DEV") {
		t.Fatalf("the container is %+v", first)
	}
	r.wish(protocol.Running)("RUNNING")

	// Built again from other files: the old container goes, a new one comes.
	r.upload(source(t, "ENV BUILD=2"))
	r.wish(protocol.Built)("STOPPING", "PRESENT", "REMOVED", "BUILDING", "BUILT", "PRESENT")
	if c := r.container(r.cn()); c != nil {
		t.Errorf("there is a container after the build: %s", c.Status)
	}
	r.wish(protocol.Running)("STARTING", "RUNNING")
	if c := r.container(r.cn()); c == nil || !slices.Contains(c.Env, "BUILD=2") {
		t.Errorf("the container is not of the new build: %+v", c)
	}
	r.wish(protocol.Built)("STOPPING", "PRESENT", "REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.wish(protocol.Removed)("DELETING", "REMOVED")
	r.settled(protocol.Removed)
	if r.imageID(r.devImage()) != "" {
		t.Error("the image is still there")
	}
	if _, err := os.Stat(filepath.Join(r.dir, "apps", "build", "web.tgz")); err != nil {
		t.Errorf("removing took the archive: %v", err)
	}
	r.wish(protocol.Uninstalled)("DELETING", "REMOVED", "UNINSTALLED")
	if left, _ := os.ReadDir(filepath.Join(r.dir, "apps", "build")); len(left) != 0 {
		t.Errorf("the build folder still holds %q", left[0].Name())
	}
}

func TestADevelopersAppThatCrashesStaysDown(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(source(t, "ENV TESTAPP_EXIT=3 TESTAPP_AFTER=1500ms"))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.wish(protocol.Running)("STARTING", "RUNNING", "FAILED")
	if got := r.lastError(); !strings.Contains(got, "exited with status code 3") {
		t.Errorf("reported %q", got)
	}
	crashed := r.container(r.cn())
	r.never("the crashed app was touched", 10*r.waits.Crash.Step, func() bool {
		c := r.container(r.cn())
		return c == nil || c.ID != crashed.ID || c.Status != container.StatusExited
	})
	r.stop()
	before := len(r.states())
	r.start()
	r.eventually("the state is reported after a start", func() bool { return len(r.states()) > before })
	r.wish(protocol.Present)("PRESENT")
	if got := r.states()[before:]; slices.Contains(got, "STARTING") {
		t.Errorf("a restart of the agent started it: %q", got)
	}
	if r.log.contains("crashloop") {
		t.Errorf("a DEV app is in a crash loop: %q", r.log.lines)
	}
	r.wish(protocol.Running)("STARTING", "RUNNING", "FAILED")
	r.wish(protocol.Running)("STARTING", "RUNNING", "FAILED")
}

func TestADevelopersAppRunsAgainAfterAPowerCut(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(source(t))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.wish(protocol.Running)("STARTING", "RUNNING")
	old := r.container(r.cn())
	r.stop()
	before := len(r.states())
	r.start()
	r.eventually("the state is reported after a start", func() bool { return len(r.states()) > before })
	r.wish(protocol.Running)("RUNNING")
	if c := r.container(r.cn()); c == nil || c.ID != old.ID {
		t.Error("a restart of the agent replaced the container")
	}
	r.stop()
	if err := r.engine.Stop(t.Context(), old.ID, 0); err != nil {
		t.Fatal(err)
	}
	before = len(r.states())
	r.start()
	r.eventually("it runs again", func() bool { got := r.states()[before:]; return len(got) > 0 && got[len(got)-1] == "RUNNING" })
	if c := r.container(r.cn()); c == nil || c.Status != container.StatusRunning {
		t.Errorf("the container is %+v", c)
	}
}

func TestADevelopersAppGetsThePortThatItDeclares(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	port := freePort(t)
	rule := func(q *protocol.AppRequest) {
		q.Ports = []protocol.PortRule{{Port: port, Protocol: "tcp"}}
	}
	r.upload(source(t, fmt.Sprintf("ENV TESTAPP_SERVE=%d", port)))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.wish(protocol.Running, rule)("STARTING", "RUNNING")
	r.eventually("it answers on its own port", func() bool { return answers(fmt.Sprintf("http://127.0.0.1:%d/", port)) })

	r.wish(protocol.Uninstalled)("DELETING", "REMOVED", "UNINSTALLED")
	taken := listen(t, port)
	defer taken.Close()
	r.upload(source(t, fmt.Sprintf("ENV TESTAPP_SERVE=%d", port)))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.wish(protocol.Running, rule)("STARTING", "RUNNING")
	a, _, err := r.store.Actual(r.id)
	got := a.HostPorts[portKey("tcp", port)]
	if err != nil || got < firstHostPort || got > lastHostPort {
		t.Errorf("host port %d (%v), want one of the pool", got, err)
	}
	notice := fmt.Sprintf("Port %d is in use on this device; the app's port tcp/%d is reached at %d", port, port, got)
	r.eventually("the log has "+notice, func() bool { return r.log.contains(notice) }) // it comes after the report
}

// listen takes a port of the host.
func listen(t *testing.T, port uint16) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// never watches for a while that something does not happen.
func (r *rig) never(what string, wait time.Duration, happens func() bool) {
	r.t.Helper()
	end := time.After(wait)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-end:
			return
		case <-tick.C:
			if happens() {
				r.t.Fatalf("%s\nreported: %q\nlog: %q", what, r.states(), r.log.lines)
			}
		}
	}
}

func TestAListTellsADevelopersAppNothingButThatItIsKnown(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(source(t))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.wish(protocol.Running)("STARTING", "RUNNING")
	row := func(key uint64, current protocol.State) map[string]any {
		return map[string]any{"app_key": key, "app_name": "web", "stage": "DEV", "target_state": "REMOVED", "current_state": string(current)}
	}
	sync := func(rows ...any) {
		t.Helper()
		if _, err := r.apps.Sync(rows, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	sync(row(r.id.Key, protocol.Running))
	r.never("a list changed a developer's app", 3*r.waits.Look/2, func() bool {
		c := r.container(r.cn())
		return c == nil || c.Status != container.StatusRunning
	})
	before := len(r.states())
	sync(row(r.id.Key, protocol.Failed))
	r.eventually("a studio that sees it wrongly is told", func() bool {
		got := r.states()[before:]
		return len(got) == 1 && got[0] == "RUNNING"
	})
	lost := r.id.Key + 1
	sync(row(r.id.Key, protocol.Running), row(lost, protocol.Running))
	r.eventually("a studio that sees what is not here is told", func() bool { return slices.Equal(r.studio.states(lost), []string{"REMOVED"}) })
	sync(map[string]any{"app_key": lost + 1, "app_name": "other", "stage": "PROD", "target_state": "REMOVED", "current_state": "REMOVED"})
	r.eventually("what the studio does not know goes", func() bool { return r.container(r.cn()) == nil })
	r.settled(protocol.Removed)
}
