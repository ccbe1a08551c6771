package registry

import (
	"archive/tar"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// docker runs Docker's own client with a configuration of the test's own, so
// that no login of the machine's user helps or is changed.
func docker(t *testing.T, stdin []byte, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+dockerConfig(t))
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func dockerConfig(t *testing.T) string {
	dir := os.Getenv("REAGENT_TEST_DOCKER_CONFIG")
	if dir == "" {
		dir = t.TempDir()
		t.Setenv("REAGENT_TEST_DOCKER_CONFIG", dir)
	}
	return dir
}

func needDocker(t *testing.T) {
	t.Helper()
	if out, err := docker(t, nil, "version"); err != nil {
		if os.Getenv("REAGENT_REQUIRE_DOCKER") == "1" {
			t.Fatalf("a Docker Engine and its client are needed: %v\n%s", err, out)
		}
		t.Skipf("no Docker Engine answers: %v", err)
	}
}

func TestTheEnginePushesAndPullsWithTheRightLoginOnly(t *testing.T) {
	needDocker(t)
	s := start(t, t.TempDir(), nil)
	ref := s.host + "/" + repository + ":1.0.0"

	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := w.WriteHeader(&tar.Header{Name: "hello", Mode: 0o644, Size: int64(len(ref))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(ref)); err != nil { // another image in each run
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if out, err := docker(t, layer.Bytes(), "import", "-", ref); err != nil {
		t.Fatalf("docker import: %v\n%s", err, out)
	}
	t.Cleanup(func() { _, _ = exec.Command("docker", "rmi", "-f", ref).CombinedOutput() })

	user, password := s.PushLogin(1, 6)
	for _, step := range []struct {
		claim              string
		username, password string
		command            string
		good               bool
	}{
		{"nobody", "", "", "push", false},
		{"a device", "1-1", "device one", "push", false},
		{"a user with a login for the push", user, password, "push", true},
		{"nobody", "", "", "pull", false},
		{"a device of another project", s.PullToken(2, "2-2"), "device two", "pull", false},
		{"the device with its token", s.PullToken(1, "1-1"), "device one", "pull", true},
		{"the device by name", "1-1", "device one", "pull", true},
		{"the device with its token", s.PullToken(1, "1-1"), "device one", "push", false},
		{"the device that is to publish", s.PullToken(1, "1-1"), "device one", "push", true},
	} {
		s.who.mu.Lock()
		s.who.publish = map[string]string{"1-1": map[bool]string{true: "1.0.0"}[strings.Contains(step.claim, "publish")]}
		s.who.mu.Unlock()
		if step.command == "pull" {
			if out, err := docker(t, nil, "rmi", ref); err != nil && !strings.Contains(out, "No such image") {
				t.Fatalf("docker rmi: %v\n%s", err, out)
			}
		}
		if step.username != "" {
			if out, err := docker(t, []byte(step.password), "login", s.host, "-u", step.username, "--password-stdin"); err != nil {
				t.Errorf("%s: docker login: %v\n%s", step.claim, err, out)
			}
		}
		out, err := docker(t, nil, step.command, ref)
		if (err == nil) != step.good {
			t.Errorf("%s: docker %s = %v, want good %v\n%s", step.claim, step.command, err, step.good, out)
		}
		if step.username != "" {
			if out, err := docker(t, nil, "logout", s.host); err != nil {
				t.Errorf("docker logout: %v\n%s", err, out)
			}
		}
	}
	if out, err := docker(t, []byte("wrong"), "login", s.host, "-u", "1-1", "--password-stdin"); err == nil {
		t.Errorf("docker login with a wrong secret works, want a refusal\n%s", out)
	}
}
