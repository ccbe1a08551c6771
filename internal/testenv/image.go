package testenv

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/client"
)

// An App is an image around the program testapp: no base, nothing from outside.
type App struct {
	Version string   // a layer of its own, so that versions share the program's and differ in this
	Env     []string // what testapp shall do, and whatever else the image sets
	Labels  map[string]string
	Health  time.Duration // interval of its health check; 0 = it has none
	Ballast []byte        // one more layer, for pulls that take their time
	Arch    string        // only said, not done; "" = this machine's
	Shell   bool          // it has a shell and the usual tools: this machine's static busybox
}

// BuildImage puts an image into an engine under a reference and returns its id.
// It is marked as this test's own, so that no other test has the same image,
// and removed at the end whatever its references are by then.
func BuildImage(t testing.TB, e *Engine, ref string, app App) (id string) {
	t.Helper()
	var archive bytes.Buffer
	img := app.of(e.Prefix).parts(t)
	img.save(&archive, ref)
	answer, err := e.API.ImageLoad(t.Context(), &archive, client.ImageLoadWithQuiet(true))
	if err != nil {
		t.Fatalf("load image %s: %v", ref, err)
	}
	defer answer.Body.Close()
	if text, err := io.ReadAll(answer.Body); err != nil || bytes.Contains(text, []byte(`"error"`)) {
		t.Fatalf("load image %s: %s, %v", ref, text, err)
	}
	return digest(img.config)
}

// of marks an image as somebody's own, so that nobody else has the same one.
func (app App) of(owner string) App {
	labels := map[string]string{"testenv": owner}
	maps.Copy(labels, app.Labels)
	app.Labels = labels
	return app
}

// SaveImage writes an image to a file, in the form of "docker save".
func SaveImage(t testing.TB, path, ref string, app App) {
	t.Helper()
	var archive bytes.Buffer
	app.parts(t).save(&archive, ref)
	if err := os.WriteFile(path, archive.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

// PushImage puts an image into a registry that listens on this machine; user and
// password may be empty. ref is host:port/repository:tag; the image is marked as
// the repository's own.
func PushImage(t testing.TB, ref, user, password string, app App) {
	t.Helper()
	host, rest, _ := strings.Cut(ref, "/")
	repository, tag, ok := strings.Cut(rest, ":")
	if !ok {
		tag = "latest"
	}
	send := func(method, path, kind string, body []byte) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+host+"/v2/"+repository+path, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", kind)
		if user != "" {
			request.SetBasicAuth(user, password)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatalf("push %s: %v", ref, err)
		}
		defer answer.Body.Close()
		if answer.StatusCode/100 != 2 {
			text, _ := io.ReadAll(answer.Body)
			t.Fatalf("push %s: %s: %s", ref, answer.Status, text)
		}
	}
	blob := func(kind string, content []byte) map[string]any {
		t.Helper()
		send(http.MethodPost, "/blobs/uploads/?digest="+url.QueryEscape(digest(content)), "application/octet-stream", content)
		return map[string]any{"mediaType": kind, "size": len(content), "digest": digest(content)}
	}
	img := app.of(host + "/" + repository).parts(t)
	layers := []any{}
	for _, l := range img.layers {
		layers = append(layers, blob("application/vnd.docker.image.rootfs.diff.tar", l))
	}
	const manifest = "application/vnd.docker.distribution.manifest.v2+json"
	send(http.MethodPut, "/manifests/"+tag, manifest, encode(map[string]any{
		"schemaVersion": 2,
		"mediaType":     manifest,
		"config":        blob("application/vnd.docker.container.image.v1+json", img.config),
		"layers":        layers,
	}))
}

// parts is what an image consists of: its configuration and its layers, which
// are not compressed.
type parts struct {
	config []byte
	layers [][]byte
}

func (app App) parts(t testing.TB) parts {
	t.Helper()
	layers := [][]byte{layer("testapp", program(t))}
	if app.Version != "" {
		layers = append(layers, layer("version", []byte(app.Version)))
	}
	if app.Ballast != nil {
		layers = append(layers, layer("ballast", app.Ballast))
	}
	if app.Shell {
		layers = append(layers, tools(t))
	}
	config := map[string]any{
		"Entrypoint": []string{"/testapp"},
		"Env":        app.Env,
		"Labels":     app.Labels,
	}
	if app.Health > 0 {
		config["Healthcheck"] = map[string]any{
			"Test":     []string{"CMD", "/testapp", "health"},
			"Interval": app.Health,
			"Timeout":  5 * time.Second,
			"Retries":  2,
		}
	}
	arch := app.Arch
	if arch == "" {
		arch = runtime.GOARCH
	}
	var diffs []string
	var history []any
	for _, l := range layers {
		diffs = append(diffs, digest(l))
		history = append(history, map[string]any{"created": born, "created_by": "testenv"})
	}
	return parts{layers: layers, config: encode(map[string]any{
		"architecture": arch,
		"os":           "linux",
		"created":      born,
		"config":       config,
		"rootfs":       map[string]any{"type": "layers", "diff_ids": diffs},
		"history":      history,
	})}
}

// born is when all images were made, so that the same image has the same id.
var born = time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC)

// save writes the form of "docker save", which every engine loads.
func (p parts) save(w io.Writer, ref string) {
	archive := tar.NewWriter(w)
	config := strings.TrimPrefix(digest(p.config), "sha256:") + ".json"
	add(archive, config, p.config)
	var names []string
	for _, l := range p.layers {
		name := strings.TrimPrefix(digest(l), "sha256:") + "/layer.tar"
		add(archive, name, l)
		names = append(names, name)
	}
	add(archive, "manifest.json", encode([]any{map[string]any{
		"Config": config, "RepoTags": []string{ref}, "Layers": names,
	}}))
	archive.Close()
}

// tools is the layer with busybox under all of its names.
func tools(t testing.TB) []byte {
	t.Helper()
	const busybox = "/bin/busybox"
	program, err := os.ReadFile(busybox)
	if err != nil {
		missing(t, "an image with a shell needs busybox-static: %v", err)
	}
	names, err := exec.Command(busybox, "--list").Output()
	if err != nil {
		t.Fatalf("ask busybox what it can do: %v", err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add(w, "bin/busybox", program)
	for _, name := range strings.Fields(string(names)) {
		if name != "busybox" {
			w.WriteHeader(&tar.Header{Name: "bin/" + name, Linkname: busybox, Mode: 0o777, ModTime: born, Typeflag: tar.TypeSymlink})
		}
	}
	w.Close()
	return b.Bytes()
}

func layer(name string, content []byte) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add(w, name, content)
	w.Close()
	return b.Bytes()
}

// add writes a file; a tar in memory has no errors but wrong sizes.
func add(w *tar.Writer, name string, content []byte) {
	w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content)), ModTime: born, Typeflag: tar.TypeReg})
	w.Write(content)
}

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func encode(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // maps of our own
	}
	return text
}

// Testapp is the static binary of the program testapp, for images that a test has
// an engine build.
func Testapp(t testing.TB) []byte {
	t.Helper()
	return program(t)
}

// program is the static binary testapp, built once for all tests of a process.
func program(t testing.TB) []byte {
	t.Helper()
	binary, err := builtProgram()
	if err != nil {
		t.Fatal(err)
	}
	return binary
}

var builtProgram = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "testapp")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "testapp")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "reagent/internal/testenv/testapp")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOFLAGS=")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build testapp: %w\n%s", err, text)
	}
	return os.ReadFile(path)
})
