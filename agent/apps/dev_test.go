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
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/persistence/device"
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

// slowSource is one whose build takes its time.
func slowSource(t testing.TB, wait string) files {
	f := source(t)
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	f["busybox"] = string(busybox)
	f["Dockerfile"] = fmt.Sprintf("FROM scratch AS tools\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"sleep\", %q]\nRUN [\"/bin/busybox\", \"touch\", \"/done-%d\"]\n"+
		"FROM scratch\nCOPY --from=tools /done-* /\nCOPY testapp /testapp\nENTRYPOINT [\"/testapp\"]\n", wait, rand.Int())
	return f
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

func (r *rig) prodImage(version string) string {
	return protocol.RegistryImage(r.facts.Registry, r.facts.Repository, protocol.Prod, "amd64", r.id.Key, "web") + ":" + version
}

func (r *rig) imageID(ref string) string {
	r.t.Helper()
	i, err := r.engine.Image(r.t.Context(), ref)
	if err != nil && !errors.Is(err, container.ErrNotFound) {
		r.t.Fatal(err)
	}
	return i.ID
}

func publishAs(version string) func(*protocol.AppRequest) {
	return func(q *protocol.AppRequest) { q.Version = version }
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

func TestABuildIsMadeOnceForEachWish(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(source(t))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	built := r.imageID(r.devImage())
	r.stop()
	before := len(r.states())
	r.start()
	r.wish(protocol.Present)("PRESENT")
	if got := r.states()[before:]; slices.Contains(got, "BUILDING") {
		t.Errorf("a restart of the agent built again: %q", got)
	}
	if r.imageID(r.devImage()) != built {
		t.Error("the image is another one")
	}
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
}

func TestBuildsThatCannotBeginSayWhyInTheContractsWords(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	for _, c := range []struct {
		name    string
		archive []byte // nil: none
		want    string
	}{
		{"no archive", nil, "Build files for app not found: "},
		{"no Dockerfile", files{"x": "x"}.pack(t), "Could not find a Dockerfile, please create a Dockerfile in the root of your project"},
		{"empty Dockerfile", files{"Dockerfile": ""}.pack(t), "The Dockerfile cannot be empty, please fill out your Dockerfile"},
		{"only comments", files{"Dockerfile": "# nothing\n\n"}.pack(t), "The Dockerfile cannot be empty, please fill out your Dockerfile"},
		{"no archive of any form", []byte("rubbish that is no archive"), "the archive cannot be used"},
		{"half an archive", source(t).pack(t)[:5000], "the archive cannot be used"},
		{"unknown instruction", files{"Dockerfile": "FROM scratch\nCOPPY a b\n"}.pack(t), "unknown instruction: COPPY"},
	} {
		if c.archive != nil {
			r.uploadArchive(c.archive)
		}
		r.wish(protocol.Built)("REMOVED", "BUILDING", "FAILED")
		if got := r.lastError(); !strings.Contains(strings.ToLower(got), strings.ToLower(c.want)) {
			t.Errorf("%s: reported %q, want %q", c.name, got, c.want)
		}
		if !r.log.contains(r.cn() + ": " + r.lastError()) {
			t.Errorf("%s: the log does not say it: %q", c.name, r.log.lines)
		}
	}
	if r.log.contains("crashloop") {
		t.Errorf("a DEV app entered the crash loop: %q", r.log.lines)
	}
}

func TestTheDockerfileOfTheArchitectureIsUsed(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		want  string
	}{
		"the only one":                {[]string{"Dockerfile"}, "Dockerfile"},
		"of another architecture":     {[]string{"Dockerfile", "Dockerfile.armv7"}, "Dockerfile"},
		"of this one":                 {[]string{"Dockerfile", "Dockerfile.amd64"}, "Dockerfile.amd64"},
		"of this one alone":           {[]string{"Dockerfile.amd64"}, "Dockerfile.amd64"},
		"of this one, deeper":         {[]string{"Dockerfile", "deep/Dockerfile.amd64"}, "deep/Dockerfile.amd64"},
		"deeper, and another in root": {[]string{"deep/Dockerfile.amd64", "Dockerfile.amd64", "x"}, "Dockerfile.amd64"},
		"none in the root":            {[]string{"deep/Dockerfile"}, ""},
	} {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		for _, name := range c.files {
			if err := errors.Join(w.WriteHeader(&tar.Header{Name: "./" + name, Size: 1, Typeflag: tar.TypeReg}), writes(w, "x")); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := findDockerfile(t.Context(), &out, "amd64")
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q (%v), want %q", name, got, err, c.want)
		}
	}
}

func writes(w *tar.Writer, s string) error { _, err := w.Write([]byte(s)); return err }

func TestAPublishedVersionIsInTheRegistry(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(source(t, "ENV BUILD=1"))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.wish(protocol.Running)("STARTING", "RUNNING")
	before := len(r.studio.all())
	r.wish(protocol.Published, publishAs("1.0.0"))("DELETING", "REMOVED", "BUILDING", "BUILT", "PUBLISHING", "PUBLISHED")
	for _, rep := range r.studio.all()[before:] {
		if made := rep["state"] == "BUILDING" || rep["state"] == "BUILT" || rep["state"] == "PUBLISHING" || rep["state"] == "PUBLISHED"; made && rep["release_build"] != true {
			t.Errorf("%s is not reported as of a release build", rep["state"])
		}
	}
	pub := protocol.PublishLogName(r.id.Key, "web")
	for _, line := range []string{"Initializing publish process for web...", "Starting image build...", "App build has finished, Starting to publish..."} {
		if !r.log.contains(pub + ": " + line) {
			t.Errorf("the publish log lacks %q", line)
		}
	}
	pushed := r.imageID(r.prodImage("1.0.0"))
	if pushed == "" || pushed != r.imageID(r.devImage()) {
		t.Errorf("the version is image %q, built was %q", pushed, r.imageID(r.devImage()))
	}
	if err := r.engine.RemoveImage(t.Context(), r.prodImage("1.0.0")); err != nil {
		t.Fatal(err)
	}
	if err := r.engine.Pull(t.Context(), r.prodImage("1.0.0"), nil, nil); err != nil {
		t.Errorf("the registry does not have it: %v", err)
	}
	r.wish(protocol.Published, publishAs("1.0.1"))("REMOVED", "BUILDING", "BUILT", "PUBLISHING", "PUBLISHED")
	r.wish(protocol.Running)("STARTING", "RUNNING")
	r.wish(protocol.Removed)("DELETING", "REMOVED")
	if r.imageID(r.prodImage("1.0.1")) == "" {
		t.Error("removing the DEV app took the installed app's image")
	}
	r.wish(protocol.Published)
	r.eventually("a publication without a version fails", func() bool { return strings.Contains(r.lastError(), "no version to publish") })
}

// slowPush holds pushes up until it is told, and ends them badly if so.
type slowPush struct {
	engine
	mu      sync.Mutex
	begun   chan struct{}
	go_     chan struct{}
	refused error
}

func (e *slowPush) Push(ctx context.Context, ref string, c *container.Credential, record func([]byte)) error {
	close(e.begun)
	select {
	case <-e.go_:
	case <-ctx.Done():
		return ctx.Err()
	}
	if e.refused != nil {
		return e.refused
	}
	return e.engine.Push(ctx, ref, c, record)
}

func TestAPublicationThatIsCalledOffLeavesTheInstalledVersionAlone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(r *rig, e *slowPush){
		"called off": func(r *rig, e *slowPush) {
			r.wish(protocol.Removed, func(q *protocol.AppRequest) { q.CancelTransition = true })("REMOVED")
			if !r.log.contains("The app release was canceled") {
				r.t.Error("the log does not say that it was called off")
			}
		},
		"refused": func(r *rig, e *slowPush) {
			e.refused = errors.New("denied: not yours")
			before := len(r.states())
			close(e.go_)
			r.eventually("it fails", func() bool { return slices.Contains(r.states()[before:], "FAILED") })
			if got := r.lastError(); !strings.Contains(got, "denied: not yours") {
				r.t.Errorf("reported %q", got)
			}
		},
		"the agent ends": func(r *rig, e *slowPush) {
			r.stop()
			r.engine = e.engine
			// Nobody wants it any more when the agent comes back.
			r.start()
			r.wish(protocol.Present)
			r.settled(protocol.Present)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newDevRig(t)
			testenv.PushImage(t, r.prodImage("1"), "", "", testenv.App{Version: "installed", Env: []string{"TESTAPP_SERVE=8080"}})
			if err := r.engine.Pull(t.Context(), r.prodImage("1"), nil, nil); err != nil {
				t.Fatal(err)
			}
			installed := r.imageID(r.prodImage("1"))
			r.stop()
			e := &slowPush{engine: r.engine, begun: make(chan struct{}), go_: make(chan struct{})}
			r.engine = e
			r.start()
			r.upload(source(t))
			published := r.wish(protocol.Published, publishAs("1"))
			select {
			case <-e.begun:
			case <-time.After(time.Minute):
				t.Fatalf("no push: %q", r.states())
			}
			published("REMOVED", "BUILDING", "BUILT", "PUBLISHING")
			if r.imageID(r.prodImage("1")) == installed {
				t.Fatal("the push does not send what was built")
			}
			end(r, e)
			r.eventually("the installed version has its name back", func() bool { return r.imageID(r.prodImage("1")) == installed })
		})
	}
}

func TestABuildIsCalledOff(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(source(t))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.upload(slowSource(t, "60"))
	building := r.wish(protocol.Built)
	building("REMOVED", "BUILDING")
	begun := time.Now()
	r.wish(protocol.Present, func(q *protocol.AppRequest) { q.CancelTransition = true })("PRESENT")
	if !r.log.contains("The build stream was canceled") {
		t.Errorf("the log does not say so: %q", r.log.lines)
	}
	if r.imageID(r.devImage()) == "" {
		t.Error("the image of the build before is gone")
	}
	r.wish(protocol.Built)("REMOVED", "BUILDING")
	r.wish(protocol.Removed, func(q *protocol.AppRequest) { q.CancelTransition = true })("REMOVED")
	r.settled(protocol.Removed)
	if r.imageID(r.devImage()) != "" {
		t.Error("an image of a removed app is still there")
	}
	if time.Since(begun) > 40*time.Second {
		t.Errorf("two builds took %s to be called off", time.Since(begun))
	}
}

func TestAWishThatArrivesDuringABuildIsFollowedAfterIt(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(slowSource(t, "1.5"))
	r.wish(protocol.Built)("REMOVED", "BUILDING")
	r.wish(protocol.Running)("BUILT", "STARTING", "RUNNING")

	// The same wish again, for the same files, is met by the build under way.
	r.upload(slowSource(t, "1.5"))
	again := r.wish(protocol.Built)
	again("STOPPING", "PRESENT", "REMOVED", "BUILDING")
	r.wish(protocol.Built)("BUILT", "PRESENT")
	r.stop()
	before := len(r.states())
	r.start()
	r.wish(protocol.Present)("PRESENT")
	if got := r.states()[before:]; slices.Contains(got, "BUILDING") {
		t.Errorf("built once more: %q", got)
	}
}

func TestABuildThatWasCutOffIsMadeAgainButNotForEver(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(slowSource(t, "60"))
	r.wish(protocol.Built)("REMOVED", "BUILDING")
	for range maxBuilds - 1 {
		before := len(r.states())
		r.stop()
		r.start()
		r.eventually("it is built again", func() bool { return slices.Contains(r.states()[before:], "BUILDING") })
	}
	r.stop()
	r.start()
	r.eventually("it is given up", func() bool { return strings.Contains(r.lastError(), "cut off 3 times") })
	r.stop()
	before := len(r.states())
	r.start()
	r.wish(protocol.Removed)
	r.eventually("it is removed", func() bool { return slices.Contains(r.states()[before:], "REMOVED") })
	if got := r.states()[before:]; slices.Contains(got, "BUILDING") {
		t.Errorf("built again after it was given up: %q", got)
	}
}

func TestLoginsOfABuildAreKeptNowhere(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	private := testenv.NewRegistry(t)
	private.Require("dev", "hunter2")
	base := private.Host + "/" + r.facts.Repository + "base:1"
	testenv.PushImage(t, base, "dev", "hunter2", testenv.App{})
	f := files{"Dockerfile": "FROM " + base + "\nENV A=1\n"}
	r.upload(f)
	login := func(password string) func(*protocol.AppRequest) {
		return func(q *protocol.AppRequest) {
			q.DockerCredentials = map[string]protocol.RegistryCredential{private.Host: {Username: "dev", Password: password}}
		}
	}
	before := len(r.states())
	r.wish(protocol.Built, login("wrong"))
	r.eventually("a wrong login fails", func() bool { return slices.Contains(r.states()[before:], "FAILED") })
	r.wish(protocol.Built, login("hunter2"))("REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.stop()
	raw, err := os.ReadFile(filepath.Join(r.dir, "state.bolt"))
	if err != nil || bytes.Contains(raw, []byte("hunter2")) {
		t.Errorf("the login is in the database (%v)", err)
	}
	for _, image := range []string{r.devImage(), base} {
		if err := r.engine.RemoveImage(t.Context(), image); err != nil && !errors.Is(err, container.ErrNotFound) {
			t.Fatal(err)
		}
	}
	// The wish is stored, and the agent ends before it is done.
	wish := r.web(func(q *protocol.AppRequest) { q.Stage, q.Target = protocol.Dev, protocol.Built; login("hunter2")(q) })
	r.start()
	r.stop()
	store := r.openStore()
	if _, _, err := store.Want(wish, true); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.eventually("the restart says what it lacks", func() bool {
		return strings.Contains(r.lastError(), "not kept over a restart") && strings.Contains(r.lastError(), private.Host)
	})
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
	r.start()
	r.wish(protocol.Running)("RUNNING")
	if c := r.container(r.cn()); c == nil || c.ID != old.ID {
		t.Error("a restart of the agent replaced the container")
	}
	r.stop()
	if err := r.engine.Stop(t.Context(), old.ID, 0); err != nil {
		t.Fatal(err)
	}
	before := len(r.states())
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
	if want := fmt.Sprintf("Port %d is in use on this device; the app's port tcp/%d is reached at %d", port, port, got); !r.log.contains(want) {
		t.Errorf("the log lacks %q: %q", want, r.log.lines)
	}
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

// openStore opens the database of a rig that is stopped.
func (r *rig) openStore() *device.Store {
	r.t.Helper()
	store, err := device.Open(filepath.Join(r.dir, "state.bolt"), zerolog.Nop())
	if err != nil {
		r.t.Fatal(err)
	}
	return store
}
