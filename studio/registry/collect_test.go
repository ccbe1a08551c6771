package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
	"github.com/rs/zerolog"

	"reagent/protocol"
)

// wanted are Releases of a test.
type wanted struct {
	mu     sync.Mutex
	images map[string][]string
}

func (w *wanted) Images() (map[string][]string, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.images), nil
}

func (w *wanted) want(repository string, tags ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.images[repository] = tags
}

// A yard is a registry whose garbage is collected, with what is wanted of it.
type yard struct {
	*site
	wanted *wanted
	folder string
}

func openYard(t *testing.T, change func(*Config)) *yard {
	t.Helper()
	w := &wanted{images: map[string][]string{}}
	folder := t.TempDir()
	s := start(t, folder, func(c *Config) {
		c.Releases = w
		if change != nil {
			change(c)
		}
	})
	return &yard{s, w, folder}
}

func (y *yard) tag(t *testing.T, image string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(y.host+"/"+image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

var owner = remote.WithAuth(authn.FromConfig(basic("1", "user one")))

// put pushes an image under "repository:tag".
func (y *yard) put(t *testing.T, image string, img v1.Image) {
	t.Helper()
	if err := remote.Write(y.tag(t, image), img, owner, remote.WithTransport(transportOf(t))); err != nil {
		t.Fatalf("push %s: %v", image, err)
	}
}

// whole is nil if each byte of an image can be pulled.
func (y *yard) whole(t *testing.T, image string) error {
	img, err := remote.Image(y.tag(t, image), owner, remote.WithTransport(transportOf(t)))
	if err != nil {
		return err
	}
	if _, err := img.RawConfigFile(); err != nil {
		return err
	}
	layers, err := img.Layers()
	for _, l := range layers {
		var body io.ReadCloser
		if body, err = l.Compressed(); err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, body)
		body.Close()
		if err != nil {
			return err
		}
	}
	return err
}

// age makes all that was pushed so far look two days old.
func (y *yard) age(t *testing.T) {
	t.Helper()
	old := time.Now().Add(-48 * time.Hour)
	err := filepath.WalkDir(filepath.Join(y.folder, "images"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		return os.Chtimes(path, old, old)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (y *yard) collect(t *testing.T) protocol.GarbageCollected {
	t.Helper()
	done, err := y.Collect(t.Context())
	if err != nil {
		t.Fatalf("Collect: %v", err)
	}
	return done
}

// blobs are the names of all content.
func (y *yard) blobs(t *testing.T) []digest.Digest {
	t.Helper()
	all, err := digests(newLayout(y.storage.root).blobs(), true)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(all)
	return all
}

func randomImage(t *testing.T, layers int) v1.Image {
	t.Helper()
	img, err := random.Image(512, int64(layers))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// on is an image with one more layer.
func on(t *testing.T, base v1.Image) v1.Image {
	t.Helper()
	layer, err := random.Layer(512, "application/vnd.docker.image.rootfs.diff.tar.gzip")
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(base, layer)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

const serviceRepository = "apps/prod_amd64_6_hello_web"

func TestWhatNoReleaseRefersToGoesAndTheRestStays(t *testing.T) {
	t.Parallel()
	y := openYard(t, nil)
	base := randomImage(t, 2)
	kept, shared, gone, replaced := on(t, base), on(t, base), randomImage(t, 3), randomImage(t, 1)
	y.put(t, repository+":1.0", kept)
	y.put(t, serviceRepository+":1.0", shared)
	y.put(t, repository+":0.9", gone) // its release was deleted
	y.put(t, repository+":2.0", replaced)
	y.put(t, repository+":2.0", shared) // another image in its place
	y.put(t, "apps/dev_amd64_6_hello:latest", randomImage(t, 1))
	y.wanted.want(repository, "1.0", "2.0", "3.0")
	y.wanted.want(serviceRepository, "1.0")
	y.age(t)
	before := len(y.blobs(t))

	done := y.collect(t)
	if done.Tags != 2 || done.Manifests != 3 || done.Layers != uint64(before-8) || done.Bytes == 0 || done.Reason != "" {
		t.Errorf("collected %+v of %d blobs, %d are left", done, before, len(y.blobs(t)))
	}
	// kept: 2 common layers, 2 own ones, 2 configurations, 2 manifests.
	if got := len(y.blobs(t)); got != 8 {
		t.Errorf("%d blobs are left, want 8", got)
	}
	for _, image := range []string{repository + ":1.0", repository + ":2.0", serviceRepository + ":1.0"} {
		if err := y.whole(t, image); err != nil {
			t.Errorf("%s after a collection: %v", image, err)
		}
	}
	for _, image := range []string{repository + ":0.9", "apps/dev_amd64_6_hello:latest"} {
		if err := y.whole(t, image); err == nil {
			t.Errorf("%s is still there", image)
		}
	}
	if again := y.collect(t); again.Tags+again.Manifests+again.Layers != 0 {
		t.Errorf("a second collection finds %+v", again)
	}
	// What went can come back.
	y.put(t, repository+":0.9", gone)
	if err := y.whole(t, repository+":0.9"); err != nil {
		t.Errorf("pushed again: %v", err)
	}
}

func TestIndexesKeepWhatTheyReferTo(t *testing.T) {
	t.Parallel()
	y := openYard(t, nil)
	a, b := randomImage(t, 1), randomImage(t, 1)
	index := mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: a}, mutate.IndexAddendum{Add: b})
	if err := remote.WriteIndex(y.tag(t, repository+":1.0"), index, owner, remote.WithTransport(transportOf(t))); err != nil {
		t.Fatal(err)
	}
	y.wanted.want(repository, "1.0")
	y.age(t)
	if done := y.collect(t); done.Tags+done.Manifests+done.Layers != 0 {
		t.Errorf("collected %+v of an index", done)
	}
	y.wanted.want(repository, "2.0")
	if done := y.collect(t); done.Manifests != 3 || len(y.blobs(t)) != 0 {
		t.Errorf("collected %+v, %d blobs are left, want 3 manifests and nothing", done, len(y.blobs(t)))
	}
}

func TestWhatAPushIsAboutToUseStays(t *testing.T) {
	t.Parallel()
	y := openYard(t, nil)
	y.wanted.want(repository, "9")
	img := randomImage(t, 1)
	y.put(t, repository+":1.0", img) // young: its release is about to be entered
	if done := y.collect(t); done.Tags+done.Manifests+done.Layers != 0 {
		t.Errorf("collected %+v of a push that just ended", done)
	}
	y.age(t)
	layers, _ := img.Layers()
	layer, _ := layers[0].Digest()
	config, _ := img.ConfigName()
	token := y.bearer(t, "1", "user one", "repository:"+repository+":pull,push")
	head := func(token, what string) int {
		req, _ := http.NewRequest(http.MethodHead, "http://"+y.host+"/v2/"+repository+"/"+what, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	// Somebody who only pulls keeps nothing.
	head(y.bearer(t, "1-1", "device one", "repository:"+repository+":pull"), "blobs/"+config.String())
	// Somebody who pushes finds a layer, and will not send it.
	if status := head(token, "blobs/"+layer.String()); status != http.StatusOK {
		t.Fatalf("HEAD of a layer = %d", status)
	}
	y.collect(t)
	if got := y.blobs(t); !slices.Equal(got, []digest.Digest{digest.Digest(layer.String())}) {
		t.Errorf("left are %v, want the layer that was asked for", got)
	}
	if status := head(token, "blobs/"+layer.String()); status != http.StatusOK {
		t.Errorf("the layer that was found is gone: %d", status)
	}
	if status := head(token, "blobs/"+config.String()); status != http.StatusNotFound {
		t.Errorf("what was removed is still said to be there: %d", status)
	}

	y.put(t, repository+":1.0", img)
	y.age(t)
	if there, err := y.Has(t.Context(), repository, "1.0"); !there || err != nil {
		t.Fatalf("Has = %v, %v", there, err)
	}
	y.collect(t) // between the question and the release
	if err := y.whole(t, repository+":1.0"); err != nil {
		t.Errorf("an image that is about to be a release's: %v", err)
	}
}

// before is a transport that does something before one of its requests.
type before struct {
	http.RoundTripper
	mu   sync.Mutex
	left int
	do   func()
}

func (b *before) RoundTrip(req *http.Request) (*http.Response, error) {
	b.mu.Lock()
	b.left--
	now := b.left == 0
	b.mu.Unlock()
	if now {
		b.do()
	}
	return b.RoundTripper.RoundTrip(req)
}

// An image whose layers are garbage is pushed again, and they are collected before
// each request of the push in turn.
func TestAPushIsWholeWhereverACollectionComesBetween(t *testing.T) {
	t.Parallel()
	y := openYard(t, nil)
	y.wanted.want(repository, "9")
	img := randomImage(t, 2)
	for n := 1; ; n++ {
		if n > 100 {
			t.Fatal("a push has more than 100 requests")
		}
		image := fmt.Sprintf("%s:2.%d", repository, n)
		y.put(t, repository+":1.0", img)
		y.age(t)
		between := &before{RoundTripper: transportOf(t), left: n, do: func() { y.collect(t) }}
		if err := remote.Write(y.tag(t, image), img, owner, remote.WithTransport(between), remote.WithJobs(1)); err != nil {
			t.Fatalf("collected before request %d: %v", n, err)
		}
		if err := y.whole(t, image); err != nil {
			t.Fatalf("collected before request %d: pushed, and not whole: %v", n, err)
		}
		if between.left > 0 {
			if n < 8 {
				t.Errorf("the push took %d requests only: does this test see them?", n)
			}
			return
		}
	}
}

func TestNothingIsCollectedWhileAManifestIsPutInPlace(t *testing.T) {
	y := openYard(t, nil)
	for path, want := range map[string]bool{"/v2/" + repository + "/manifests/1.0": true, "/v2/" + repository + "/blobs/uploads/1": false} {
		held := false
		y.hold(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			if held = !y.gate.TryLock(); !held {
				y.gate.Unlock()
			}
		})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodPut, path, nil))
		if held != want {
			t.Errorf("PUT %s keeps collections out: %v, want %v", path, held, want)
		}
	}
}

func TestHasKnowsWholeImagesOnly(t *testing.T) {
	y := openYard(t, nil)
	img := randomImage(t, 2)
	y.put(t, repository+":1.0", img)
	for image, want := range map[string]bool{repository + ":1.0": true, repository + ":2.0": false, serviceRepository + ":1.0": false} {
		repository, tag, _ := strings.Cut(image, ":")
		if got, err := y.Has(t.Context(), repository, tag); got != want || err != nil {
			t.Errorf("Has(%s) = %v, %v, want %v", image, got, err, want)
		}
	}
	layers, _ := img.Layers()
	layer, _ := layers[1].Digest()
	if err := os.Remove(newLayout(y.storage.root).data(digest.Digest(layer.String()))); err != nil {
		t.Fatal(err)
	}
	if got, err := y.Has(t.Context(), repository, "1.0"); got || err != nil {
		t.Errorf("Has of an image without a layer = %v, %v", got, err)
	}
}

func TestADamagedImageOfAReleaseLosesNothingMore(t *testing.T) {
	t.Parallel()
	for claim, damage := range map[string]func(path string) error{
		"a manifest that is gone": os.Remove,
		"one that was overwritten": func(path string) error {
			return os.WriteFile(path, []byte(`{"layers":[]}`), 0o600)
		},
	} {
		t.Run(claim, func(t *testing.T) {
			y := openYard(t, func(c *Config) { c.Log = zerolog.Nop() })
			img := randomImage(t, 2)
			y.put(t, repository+":1.0", img)
			y.put(t, serviceRepository+":0.1", randomImage(t, 1))
			y.wanted.want(repository, "1.0")
			manifest, _ := img.Digest()
			if err := damage(newLayout(y.storage.root).data(digest.Digest(manifest.String()))); err != nil {
				t.Fatal(err)
			}
			y.age(t)
			y.collect(t)
			if left := y.blobs(t); len(left) < 3 || len(left) > 4 { // two layers, the configuration, perhaps the manifest
				t.Errorf("%d blobs are left, want those of the damaged image and no others", len(left))
			}
			// Once the version is deleted, the rest can go.
			y.wanted.want(repository, "2.0")
			y.collect(t)
			if left := y.blobs(t); len(left) != 0 {
				t.Errorf("without the version %d blobs are left", len(left))
			}
		})
	}
}

func TestNothingIsCollectedWhereItCannotBeKnownWhatIsWanted(t *testing.T) {
	y := openYard(t, nil)
	y.put(t, repository+":1.0", randomImage(t, 1))
	y.age(t)
	if done := y.collect(t); done.Reason == "" || done.Layers != 0 || y.whole(t, repository+":1.0") != nil {
		t.Errorf("with no release at all: %+v", done)
	}
	s := start(t, t.TempDir(), nil)
	if _, err := s.Collect(t.Context()); err == nil {
		t.Error("Collect of a registry that nobody tells what is wanted = nil, want an error")
	}
}

func TestACollectionWaitsForAPushToBeFinishedAndNotForEver(t *testing.T) {
	y := openYard(t, nil)
	y.wanted.want(repository, "9")
	y.gate.RLock()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	done, err := y.Collect(ctx)
	if err != nil || done.Reason == "" {
		t.Errorf("while a push is finished: %+v, %v, want a reason", done, err)
	}
	y.gate.RUnlock()
	if done := y.collect(t); done.Reason != "" {
		t.Errorf("afterwards: %+v", done)
	}
}

func TestGarbageIsCollectedWithoutBeingAskedFor(t *testing.T) {
	y := openYard(t, nil)
	y.put(t, repository+":1.0", randomImage(t, 1))
	y.wanted.want(repository, "9")
	y.age(t)
	synctest.Test(t, func(t *testing.T) {
		// Its clock began in 2000, which the other registry's files are not from.
		cfg := Config{Releases: y.wanted, Settle: -50 * 365 * 24 * time.Hour, Log: zerolog.Nop()}
		r := &Registry{cfg: cfg.withDefaults(), storage: y.storage, clock: newClock()}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(time.Hour)
		synctest.Wait()
		if left := y.blobs(t); len(left) != 0 {
			t.Errorf("an hour after the start %d blobs are left", len(left))
		}
		cancel()
		<-done
	})
}

func TestASetClockStopsCollecting(t *testing.T) {
	begun := time.Date(1970, 1, 1, 0, 10, 0, 0, time.UTC)
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := clock{shown: begun}
	for _, look := range []struct {
		shown time.Time
		at    time.Duration
		want  bool
	}{
		{begun.Add(time.Hour), time.Hour, false},
		{now, 2 * time.Hour, true},                      // the network said what time it is
		{now.Add(23 * time.Hour), 25 * time.Hour, true}, // files may still have the time of before
		{now.Add(25 * time.Hour), 27 * time.Hour, false},
		{now.Add(2 * time.Hour), 28 * time.Hour, true}, // back
	} {
		if got := c.look(look.shown, look.at, 25*time.Hour); got != look.want {
			t.Errorf("%v after the start the clock shows %v: set = %v, want %v", look.at, look.shown, got, look.want)
		}
	}
}

// The collection of this process is killed when its folder is in the variable.
func TestACollectionMayBeKilledAnywhere(t *testing.T) {
	if folder := os.Getenv("REAGENT_COLLECT"); folder != "" {
		collectForEver(t, folder)
		return
	}
	t.Parallel()
	y := openYard(t, nil)
	var keep []string
	for i := range 6 {
		repository := fmt.Sprintf("apps/prod_amd64_6_hello_s%d", i)
		base := randomImage(t, 2)
		y.put(t, repository+":1.0", on(t, base))
		for v := range 4 {
			y.put(t, fmt.Sprintf("%s:0.%d", repository, v), on(t, base))
		}
		y.wanted.want(repository, "1.0")
		keep = append(keep, repository+":1.0")
	}
	y.age(t)
	images := filepath.Join(y.folder, "images")
	for round, left := 0, len(y.blobs(t)); left > 6*5 && round < 200; round++ {
		cmd := exec.Command(os.Args[0], "-test.run=^TestACollectionMayBeKilledAnywhere$")
		cmd.Env = append(os.Environ(), "REAGENT_COLLECT="+images)
		var said bytes.Buffer
		cmd.Stdout = &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// It is killed when it has removed a few more.
		for deadline := time.Now().Add(30 * time.Second); len(y.blobs(t)) > left-3 && time.Now().Before(deadline) && cmd.ProcessState == nil; {
			if len(y.blobs(t)) <= 6*5 {
				break
			}
		}
		_ = cmd.Process.Kill()
		var ended *exec.ExitError
		if err := cmd.Wait(); err != nil && !errors.As(err, &ended) {
			t.Fatalf("%v\n%s", err, said.String())
		}
		for _, image := range keep[round%6:][:1] {
			if err := y.whole(t, image); err != nil {
				t.Fatalf("round %d: %s: %v", round, image, err)
			}
		}
		left = len(y.blobs(t))
	}
	y.collect(t)
	for _, image := range keep {
		if err := y.whole(t, image); err != nil {
			t.Errorf("at the end %s: %v", image, err)
		}
	}
	if got := len(y.blobs(t)); got != 6*5 { // three layers, configuration, manifest
		t.Errorf("%d blobs are left, want %d", got, 6*5)
	}
}

func collectForEver(t *testing.T, images string) {
	all := map[string][]string{}
	for i := range 6 {
		all[fmt.Sprintf("apps/prod_amd64_6_hello_s%d", i)] = []string{"1.0"}
	}
	r := &Registry{cfg: Config{Settle: time.Hour, Log: zerolog.Nop()}}
	c := collection{r: r, at: newLayout(images), wanted: all, since: time.Now().Add(-time.Hour), live: map[digest.Digest]struct{}{}}
	if err := c.run(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestADevicePushesOnlyWhatItIsToPublish(t *testing.T) {
	t.Parallel()
	y := openYard(t, nil)
	login := basic(y.PullToken(1, "1-1"), "device one")
	push := func(image string) error {
		return remote.Write(y.tag(t, image), randomImage(t, 1), remote.WithAuth(authn.FromConfig(login)), remote.WithTransport(transportOf(t)))
	}
	if err := push(repository + ":1.0"); !refused(err) {
		t.Errorf("a device that is to publish nothing: %v, want a refusal", err)
	}
	y.who.mu.Lock()
	y.who.publish = map[string]string{"1-1": "1.0"}
	y.who.mu.Unlock()
	for image, good := range map[string]bool{
		repository + ":1.0":                true,
		serviceRepository + ":1.0":         true,
		repository + ":2.0":                false,
		"apps/prod_armv7_6_hello:1.0":      false,
		"apps/dev_amd64_6_hello:1.0":       false,
		"apps/prod_amd64_7_other:1.0":      false,
		"elsewhere/prod_amd64_6_hello:1.0": false,
	} {
		err := push(image)
		if good && err != nil || !good && !refused(err) {
			t.Errorf("push of %s = %v, want good %v", image, err, good)
		}
	}
}
