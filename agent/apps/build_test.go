package apps

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/persistence/device"
	"reagent/protocol"
)

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

func TestABuildIsMadeOnceForEachWish(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(source(t))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	built := r.imageID(r.devImage())
	r.stop()
	before := len(r.states())
	r.start()
	r.wish(protocol.Present) // the look after a start may report the state, too
	r.eventually("the wish is answered", func() bool { return slices.Contains(r.states()[before:], "PRESENT") })
	r.settled(protocol.Present)
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
	r.wish(protocol.Present) // the look after a start may report the state, too
	r.eventually("the wish is answered", func() bool { return slices.Contains(r.states()[before:], "PRESENT") })
	r.settled(protocol.Present)
	if got := r.states()[before:]; slices.Contains(got, "BUILDING") {
		t.Errorf("built once more: %q", got)
	}
}

func TestABuildIsNotLostToTheWishThatFollowsIt(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(source(t, "ENV BUILD=1"))
	ask := func(target protocol.State) {
		t.Helper()
		if err := r.apps.Request(t.Context(), protocol.AppRequest{AppKey: r.id.Key, AppName: "web", Stage: protocol.Dev, Target: target}); err != nil {
			t.Fatal(err)
		}
	}
	ask(protocol.Built)
	ask(protocol.Running)
	r.reported("REMOVED", "BUILDING", "BUILT", "STARTING", "RUNNING")

	// Nor while the app that runs is being stopped for it, nor to an end of the agent.
	r.upload(slowSource(t, "60"))
	ask(protocol.Built)
	r.eventually("it is stopped", func() bool { return slices.Contains(r.states(), "STOPPING") })
	ask(protocol.Running)
	r.eventually("it is built", func() bool { s := r.states(); return s[len(s)-1] == "BUILDING" })
	r.stop()
	if err := os.WriteFile(filepath.Join(r.dir, "apps", "build", "web.tgz"), source(t, "ENV BUILD=2").pack(t), 0o600); err != nil {
		t.Fatal(err)
	}
	r.start()
	r.eventually("the new build runs", func() bool {
		c := r.container(r.cn())
		return c != nil && c.Status == container.StatusRunning && slices.Contains(c.Env, "BUILD=2")
	})
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

// openStore opens the database of a rig that is stopped.
func (r *rig) openStore() *device.Store {
	r.t.Helper()
	store, err := device.Open(filepath.Join(r.dir, "state.bolt"), zerolog.Nop())
	if err != nil {
		r.t.Fatal(err)
	}
	return store
}
