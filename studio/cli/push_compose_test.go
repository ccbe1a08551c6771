package cli

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"reagent/protocol"
)

const shopDefinition = `
services:
  web:
    build: ./web
    depends_on: [db]
  worker:
    build: {context: .}
    image: local/worker:dev
  db:
    image: postgres:17
`

// composeFolder is a folder "my Shop" with a compose file in it.
func composeFolder(t *testing.T, definition string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "my Shop")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "compose.yaml")
	if err := os.WriteFile(file, []byte(definition), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestPushOfAComposeAppSendsTheImagesOfItsServices(t *testing.T) {
	s := openShop(t)
	file := composeFolder(t, shopDefinition)
	web, worker := filepath.Join(t.TempDir(), "web"), filepath.Join(t.TempDir(), "worker.tar")
	saveImage(t, web, built(t, "web", "arm64"))
	saveImage(t, worker, built(t, "worker", "arm64"))
	s.Engine = savedImage{"myshop-web", web} // as "docker compose build" calls it
	if err := s.run(t, "app", "push", "hello", "1.0.0", "-f", file, "--image", "worker="+worker); err != nil {
		t.Fatal(err)
	}
	tr := http.DefaultTransport.(*http.Transport).Clone()
	defer tr.CloseIdleConnections()
	for service, path := range map[string]string{"web": web, "worker": worker} {
		ref, err := name.NewTag(fmt.Sprintf("%s/apps/prod_arm64_6_hello_%s:1.0.0", s.host, service), name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		img, err := remote.Image(ref, remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: "1", Password: "s3cret"})), remote.WithTransport(tr))
		if err != nil {
			t.Errorf("the image of %s: %v", service, err)
			continue
		}
		want, _ := built(t, service, "arm64").ConfigName()
		if got, err := img.ConfigName(); err != nil || got != want {
			t.Errorf("the image of %s is %v (%v), want that of %s", service, got, err, path)
		}
	}
	in := s.studio.question(t, protocol.StudioCreateRelease)
	if got, want := encode(in["compose"]), `{"services":{"db":{"image":"postgres:17"},"web":{"depends_on":["db"]},"worker":{}}}`; got != want {
		t.Errorf("definition %s, want %s", got, want)
	}
	if got, want := encode(in["architectures"]), `["arm64"]`; got != want {
		t.Errorf("architectures %s, want %s", got, want)
	}
	if in["ports"] != nil || in["environment_template"] != nil {
		t.Errorf("ports %v and defaults %v, want those of the app: none said", in["ports"], in["environment_template"])
	}
	if !strings.Contains(s.stderr.String(), "pushing Hello (web) 1.0.0 for arm64") {
		t.Errorf("it does not say what it sends:\n%s", s.stderr.String())
	}
}

func TestAComposeAppOfStrangersImages(t *testing.T) {
	s := openShop(t)
	file := composeFolder(t, "services: {db: {image: postgres}}")
	if err := s.run(t, "app", "push", "hello", "1.0.0", "-f", file); err == nil || !strings.Contains(err.Error(), "--arch") {
		t.Errorf("without an architecture = %v, want how to say it", err)
	}
	if err := s.run(t, "app", "push", "hello", "1.0.0", "-f", file, "--arch", "amd64", "--arch", "armv7"); err != nil {
		t.Fatal(err)
	}
	if got, want := encode(s.studio.question(t, protocol.StudioCreateRelease)["architectures"]), `["amd64","armv7"]`; got != want {
		t.Errorf("architectures %s, want %s", got, want)
	}
}

func TestPushOfAComposeAppRefusesWhatDoesNotFit(t *testing.T) {
	arm, amd := filepath.Join(t.TempDir(), "arm.tar"), filepath.Join(t.TempDir(), "amd.tar")
	saveImage(t, arm, built(t, "1", "arm64"))
	saveImage(t, amd, built(t, "1", "amd64"))
	for _, c := range []struct {
		claim, want string
		args        []string
	}{
		{"images of two architectures", "made for amd64, that of web for arm64", []string{"--image", "web=" + arm, "--image", "worker=" + amd}},
		{"an image that is not there", "service web: image my", nil},
		{"a service that is not there", "has no such service", []string{"--image", "wrb=" + arm}},
	} {
		s := openShop(t)
		s.Engine = savedImage{"none", ""}
		args := append([]string{"app", "push", "hello", "1.0.0", "-f", composeFolder(t, shopDefinition)}, c.args...)
		if err := s.run(t, args...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: push = %v, want %q", c.claim, err, c.want)
		}
		if n := s.uploads(); n != 0 || len(s.studio.asked[protocol.StudioCreateRelease]) != 0 {
			t.Errorf("%s: %d blobs were sent", c.claim, n)
		}
	}
}
