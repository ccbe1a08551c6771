package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/protocol"
	"reagent/studio/registry"
)

// everything is a Principals that knows one user, who may all.
type everything struct{}

func (everything) Secret(authid string) (string, bool)                       { return "s3cret", authid == "1" }
func (everything) DeviceWithSecret(string) (string, bool)                    { return "", false }
func (everything) MayPull(authid string, _ uint64) bool                      { return authid == "1" }
func (everything) MayPush(authid string, appKey uint64) bool                 { return authid == "1" && appKey == 6 }
func (everything) MayPublish(string, uint64) (arch, version string, ok bool) { return "", "", false }

// A shop is a desk with a real registry behind it.
type shop struct {
	*desk
	host string
	mu   sync.Mutex
	puts []string // uploads of blobs that came to their end, and manifests
	fail func(r *http.Request) bool
}

func openShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{desk: newDesk(t)}
	reg, err := registry.New(registry.Config{Folder: t.TempDir(), Principals: everything{}, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		if r.Method == http.MethodPut {
			s.puts = append(s.puts, r.URL.Path)
		}
		fail := s.fail
		s.mu.Unlock()
		if fail != nil && fail(r) {
			conn, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				conn.Close()
			}
			return
		}
		reg.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.Close()
		if err := reg.Close(); err != nil {
			t.Error(err)
		}
	})
	u, _ := url.Parse(server.URL)
	s.host = u.Host
	user, password := reg.PushLogin(1, 6)
	s.studio.answers[protocol.StudioCreateRegistryToken] = give(protocol.RegistryLogin{AppKey: 6, AppName: "Hello", Registry: u.Host + "/", Repository: "apps/", Insecure: true, Username: user, Password: password})
	s.studio.answers[protocol.StudioCreateRelease] = give(protocol.AppRow{AppKey: 6, Name: "Hello"})
	return s
}

func (s *shop) uploads() (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.puts {
		if strings.Contains(p, "/blobs/") {
			n++
		}
	}
	s.puts = nil
	return n
}

// there is the image that the registry has for an architecture.
func (s *shop) there(t *testing.T, arch, version string) (v1.Image, error) {
	t.Helper()
	ref, err := name.NewTag(fmt.Sprintf("%s/apps/prod_%s_6_hello:%s", s.host, arch, version), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(tr.CloseIdleConnections)
	return remote.Image(ref, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: "1", Password: "s3cret"})), remote.WithTransport(tr))
}

// savedImage is an engine that has one image.
type savedImage struct{ name, path string }

func (s savedImage) SaveImage(_ context.Context, ref string, to io.Writer) error {
	if ref != s.name {
		return fmt.Errorf("inspect image %s: %w", ref, container.ErrNotFound)
	}
	f, err := os.Open(s.path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(to, f)
	return err
}

func TestPushTakesAnImageOfTheLocalEngine(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	path := filepath.Join(t.TempDir(), "saved")
	want := built(t, "1", "amd64")
	saveImage(t, path, want)
	s := openShop(t)
	s.Engine = savedImage{"hello", path}
	if err := s.run(t, "app", "push", "hello", "1.0.0", "hello", "--port", "8080", "--port", "dns=53/udp", "--default", "COLOR=blue"); err != nil {
		t.Fatal(err)
	}
	img, err := s.there(t, "amd64", "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	id, _ := want.ConfigName()
	if got, err := img.ConfigName(); err != nil || got != id {
		t.Errorf("the registry has image %v (%v), want %s", got, err, id)
	}
	in := s.studio.question(t, protocol.StudioCreateRelease)
	release := protocol.Wire(protocol.CreateRelease{App: "6", Version: "1.0.0", Architectures: []string{"amd64"},
		Ports:               []protocol.PortRule{{Main: true, Port: 8080, Protocol: "http"}, {Name: "dns", Port: 53, Protocol: "udp"}},
		EnvironmentTemplate: map[string]any{"COLOR": map[string]any{"defaultValue": "blue"}}})
	if got, want := encode(in), encode(release); got != want {
		t.Errorf("release\ngot  %s\nwant %s", got, want)
	}
	if !strings.Contains(s.stdout.String(), "reagent-studio deploy Hello@1.0.0 DEVICE") {
		t.Errorf("the end is %q", s.stdout.String())
	}
	err = s.run(t, "app", "push", "hello", "1.0.1", "hello:none")
	if err == nil || !strings.Contains(err.Error(), "no such image in the local Docker Engine") {
		t.Errorf("push of an image that is not there = %v, want that said", err)
	}
	left, _ := filepath.Glob(filepath.Join(os.Getenv("TMPDIR"), "*"))
	if len(left) > 0 {
		t.Errorf("temporary files are left: %v", left)
	}
}

func encode(v any) string { b, _ := json.Marshal(v); return string(b) }

func TestPushTakesArchives(t *testing.T) {
	dir := t.TempDir()
	saved := filepath.Join(dir, "saved")
	saveImage(t, saved, built(t, "1", "arm64"))
	packed := filepath.Join(dir, "saved.tar.gz")
	gzipped(t, saved, packed)
	arm := platform(t, "arm", "v6")
	one := filepath.Join(dir, "one.tar")
	ociArchive(t, one, "./", arm)
	many := filepath.Join(dir, "many.tar")
	ociArchive(t, many, "", nested(t, platform(t, "amd64", ""), platform(t, "arm64", "v8")))

	for i, c := range []struct {
		path  string
		archs []string
	}{
		{saved, []string{"arm64"}}, {packed, []string{"arm64"}}, {one, []string{"armv6"}}, {many, []string{"amd64", "arm64"}},
	} {
		s := openShop(t)
		version := fmt.Sprintf("1.%d.0", i)
		if err := s.run(t, "app", "push", "hello", version, c.path); err != nil {
			t.Errorf("%s: %v", c.path, err)
			continue
		}
		in := s.studio.question(t, protocol.StudioCreateRelease)
		if got, want := encode(in["architectures"]), encode(c.archs); got != want {
			t.Errorf("%s: architectures %s, want %s", c.path, got, want)
		}
		for _, arch := range c.archs {
			img, err := s.there(t, arch, version)
			if err != nil {
				t.Errorf("%s: %v", c.path, err)
				continue
			}
			if layers, err := img.Layers(); err != nil || len(layers) == 0 {
				t.Errorf("%s: %d layers, %v", c.path, len(layers), err)
			}
		}
	}
}

func TestPushSendsWhatIsMissingOnly(t *testing.T) {
	s := openShop(t)
	first := filepath.Join(t.TempDir(), "first.tar")
	saveImage(t, first, built(t, "1", "amd64"))
	second := filepath.Join(t.TempDir(), "second.tar")
	saveImage(t, second, built(t, "2", "amd64"))
	push := func(version, path string) error { return s.run(t, "app", "push", "hello", version, path) }
	if err := push("1.0.0", first); err != nil {
		t.Fatal(err)
	}
	if n := s.uploads(); n != 3 {
		t.Errorf("the first push sent %d blobs, want two layers and the configuration", n)
	}
	if err := push("1.0.0", first); err != nil || s.uploads() != 0 {
		t.Errorf("the same again = %v, want nothing sent", err)
	}
	if err := push("1.1.0", second); err != nil {
		t.Fatal(err)
	}
	if n := s.uploads(); n != 2 {
		t.Errorf("the next version sent %d blobs, want its own layer and the configuration", n)
	}
}

func TestAPushThatBrokeOffGoesOn(t *testing.T) {
	s := openShop(t)
	path := filepath.Join(t.TempDir(), "x.tar")
	saveImage(t, path, built(t, "1", "amd64"))
	var cut atomic.Bool
	s.fail = func(r *http.Request) bool { // the manifest comes last
		if strings.Contains(r.URL.Path, "/manifests/") && r.Method == http.MethodPut {
			cut.Store(true)
		}
		return cut.Load()
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := s.Run(ctx, []string{"app", "push", "hello", "1.0.0", path}); err == nil || !strings.Contains(err.Error(), "goes on where it broke off") {
		t.Errorf("a push over a broken link = %v, want what to do", err)
	}
	s.uploads()
	s.mu.Lock()
	s.fail = nil
	s.mu.Unlock()
	if err := s.run(t, "app", "push", "hello", "1.0.0", path); err != nil {
		t.Fatal(err)
	}
	if n := s.uploads(); n != 0 {
		t.Errorf("the second push sent %d blobs again, want none", n)
	}
}

func TestAVersionIsNotReplacedUnasked(t *testing.T) {
	s := openShop(t)
	first, second := filepath.Join(t.TempDir(), "first.tar"), filepath.Join(t.TempDir(), "second.tar")
	saveImage(t, first, built(t, "1", "amd64"))
	saveImage(t, second, built(t, "2", "amd64"))
	if err := s.run(t, "app", "push", "hello", "1.0.0", first); err != nil {
		t.Fatal(err)
	}
	if err := s.run(t, "app", "push", "hello", "1.0.0", second); err == nil || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("another image under the same version = %v, want a refusal", err)
	}
	if err := s.run(t, "app", "push", "hello", "1.0.0", second, "--replace"); err != nil {
		t.Errorf("--replace = %v", err)
	}
}

func TestPushRefusesWhatIsNoImage(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, content []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := func(name, content string) []byte {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
		_, _ = io.WriteString(w, content)
		_ = w.Close()
		return b.Bytes()
	}
	windows := filepath.Join(dir, "windows.tar")
	img, err := mutate.ConfigFile(platform(t, "amd64", ""), &v1.ConfigFile{OS: "windows", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	ociArchive(t, windows, "", img)
	twice := filepath.Join(dir, "twice.tar")
	ociArchive(t, twice, "", nested(t, platform(t, "amd64", ""), platform(t, "amd64", "")))
	for _, c := range []struct{ path, want string }{
		{write("empty", nil), "no archive of an image"},
		{write("text", []byte(strings.Repeat("no tar at all ", 100))), "no tar archive"},
		{write("other.tar", file("readme", "hello")), "neither of docker save, nor an OCI one"},
		{write("broken.tar", file("manifest.json", "{")), "manifest.json"},
		{write("many.tar", file("manifest.json", `[{"Config":"a"},{"Config":"b"}]`)), "2 images"},
		{write("dangling.tar", file("index.json", `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:`+strings.Repeat("0", 64)+`","size":1}]}`)), "is missing in the archive"},
		{write("none.tar", file("index.json", `{"manifests":[]}`)), "no image for Linux"},
		{write("bad.gz", []byte("\x1f\x8bxx")), "unpack"},
		{windows, "made for windows"},
		{twice, "two images for amd64"},
		{dir + "/nothing.tar", "no such file"},
		{"./nothing", "no such file"},
		{dir, "not a file"},
	} {
		s := openShop(t)
		if err := s.run(t, "app", "push", "hello", "1.0.0", c.path); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), filepath.Base(c.path)) {
			t.Errorf("%s: push = %v, want %q", c.path, err, c.want)
		}
		if n := len(s.studio.asked[protocol.StudioCreateRelease]); n != 0 {
			t.Errorf("%s: a release was entered", c.path)
		}
	}
}

func TestALoginThatIsRefusedSaysSo(t *testing.T) {
	s := openShop(t)
	path := filepath.Join(t.TempDir(), "x.tar")
	saveImage(t, path, built(t, "1", "amd64"))
	s.studio.answers[protocol.StudioCreateRegistryToken] = give(protocol.RegistryLogin{AppKey: 6, AppName: "hello", Registry: s.host + "/", Repository: "apps/", Insecure: true, Username: "1", Password: "expired"})
	if err := s.run(t, "app", "push", "hello", "1.0.0", path); err == nil || !strings.Contains(err.Error(), "does not take the login") {
		t.Errorf("push = %v", err)
	}
}

func TestNothingIsPushedInTheClearToAStudioThatSpeaksTLS(t *testing.T) {
	s := openShop(t)
	path := filepath.Join(t.TempDir(), "x.tar")
	saveImage(t, path, built(t, "1", "amd64"))
	// Somebody else listens there, without TLS.
	var got []string
	var mu sync.Mutex
	thief := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.URL.Path)
	}))
	defer thief.Close()
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(thief.URL, "http://"))
	s.studio.answers[protocol.StudioCreateRegistryToken] = give(protocol.RegistryLogin{AppKey: 6, AppName: "hello", Registry: "127.0.0.1:" + port + "/", Repository: "apps/", Username: "1", Password: "secret"})
	if err := s.run(t, "app", "push", "hello", "1.0.0", path); err == nil {
		t.Error("push = nil, want an error")
	}
	mu.Lock()
	defer mu.Unlock()
	if len(got) > 0 {
		t.Errorf("the other side got %v, want nothing", got)
	}
}

// built makes an image as engines do: one layer that all versions share, and one
// of its own.
func built(t *testing.T, version, arch string) v1.Image {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: arch})
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []struct{ name, content string }{{"program", strings.Repeat("program", 1<<15)}, {"version", version}} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		_ = w.WriteHeader(&tar.Header{Name: file.name, Mode: 0o755, Size: int64(len(file.content))})
		_, _ = io.WriteString(w, file.content)
		_ = w.Close()
		layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
		if err != nil {
			t.Fatal(err)
		}
		if img, err = mutate.AppendLayers(img, layer); err != nil {
			t.Fatal(err)
		}
	}
	return img
}

// saveImage writes the form of "docker save".
func saveImage(t *testing.T, path string, img v1.Image) {
	t.Helper()
	if err := tarball.WriteToFile(path, name.MustParseReference("whatever:1"), img); err != nil {
		t.Fatal(err)
	}
}

// platform makes an image for an architecture.
func platform(t *testing.T, arch, variant string) v1.Image {
	t.Helper()
	img, err := random.Image(1<<10, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Variant = "linux", arch, variant
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		t.Fatal(err)
	}
	return mutate.MediaType(img, types.OCIManifestSchema1)
}

// nested makes an index as BuildKit does: the images, and what attests them.
func nested(t *testing.T, images ...v1.Image) v1.ImageIndex {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, img := range images {
		config, err := img.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		index = mutate.AppendManifests(index,
			mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: config.Architecture, Variant: config.Variant}}},
			mutate.IndexAddendum{Add: platform(t, "unknown", ""), Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"}}})
	}
	return index
}

// ociArchive packs an image or an index.
func ociArchive(t *testing.T, path, prefix string, what any) {
	t.Helper()
	folder, err := layout.Write(t.TempDir(), empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	switch what := what.(type) {
	case v1.Image:
		err = folder.AppendImage(what)
	case v1.ImageIndex:
		err = folder.AppendIndex(what)
	}
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range walk(t, string(folder)) {
		content, err := os.ReadFile(filepath.Join(string(folder), name))
		if err != nil {
			t.Fatal(err)
		}
		if err := w.WriteHeader(&tar.Header{Name: prefix + name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func walk(t *testing.T, folder string) (names []string) {
	t.Helper()
	err := filepath.Walk(folder, func(path string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			name, _ := filepath.Rel(folder, path)
			names = append(names, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func gzipped(t *testing.T, from, to string) {
	t.Helper()
	content, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(content)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func FuzzArchives(f *testing.F) {
	seed := func(files map[string]string) {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		for name, content := range files {
			_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))})
			_, _ = io.WriteString(w, content)
		}
		_ = w.Close()
		f.Add(b.Bytes())
	}
	zero := strings.Repeat("0", 64)
	seed(map[string]string{
		"manifest.json": `[{"Config":"c.json","Layers":["l.tar"],"RepoTags":["a:b"]}]`,
		"c.json":        `{"os":"linux","architecture":"amd64","rootfs":{"diff_ids":["sha256:` + zero + `"]}}`, "l.tar": "x",
	})
	seed(map[string]string{
		"index.json":           `{"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:` + zero + `","size":1}]}`,
		"blobs/sha256/" + zero: `{"config":{"digest":"sha256:` + zero + `"},"layers":[{"digest":"sha256:` + zero + `","size":3}]}`,
	})
	seed(map[string]string{
		"index.json":           `{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:` + zero + `"}]}`,
		"blobs/sha256/" + zero: `{"manifests":[{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:` + zero + `"}]}`,
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "a")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		s := &source{file: file}
		if s.read() != nil {
			return
		}
		for _, img := range s.images {
			_, _ = img.Manifest()
			layers, _ := img.Layers()
			for _, l := range layers {
				_, _ = l.Digest()
			}
		}
	})
}
