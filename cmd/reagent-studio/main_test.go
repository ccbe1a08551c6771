package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/release"
	"reagent/studio/cli"
)

func TestMain(m *testing.M) {
	// The registry's library keeps one of these for each registry, and never ends it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

// A shell runs the program with an environment of its own.
type shell struct {
	t   *testing.T
	env map[string]string
}

func newShell(t *testing.T) *shell {
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	return &shell{t, map[string]string{"REAGENT_STUDIO_DATA": filepath.Join(t.TempDir(), "studio")}}
}

func (s *shell) try(args ...string) (stdout, stderr string, err error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	err = run(ctx, args, func(name string) string { return s.env[name] }, &out, &errs)
	return out.String(), errs.String(), err
}

func (s *shell) run(args ...string) string {
	s.t.Helper()
	stdout, stderr, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("reagent-studio %s: %v\n%s%s", strings.Join(args, " "), err, stdout, stderr)
	}
	return stdout
}

func (s *shell) refused(want string, args ...string) {
	s.t.Helper()
	if _, _, err := s.try(args...); err == nil || !strings.Contains(err.Error(), want) {
		s.t.Errorf("reagent-studio %s = %v, want %q", strings.Join(args, " "), err, want)
	}
}

// serve starts a studio in this process and returns when it answers.
func (s *shell) serve(args ...string) (stop func() error) {
	s.t.Helper()
	ctx, cancel := context.WithCancel(s.t.Context())
	var log lines
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, append([]string{"serve", "--listen", "127.0.0.1:0"}, args...), func(name string) string { return s.env[name] }, io.Discard, &log)
	}()
	stop = sync.OnceValue(func() error {
		cancel()
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Second):
			return errors.New("the studio does not end")
		}
	})
	s.t.Cleanup(func() { _ = stop() })
	deadline := time.Now().Add(time.Minute)
	for !strings.Contains(log.String(), "studio is ready") {
		select {
		case err := <-ended:
			ended <- err
			s.t.Fatalf("serve: %v\n%s", err, log.String())
		case <-time.After(5 * time.Millisecond):
			if time.Now().After(deadline) {
				s.t.Fatalf("the studio does not become ready\n%s", log.String())
			}
		}
	}
	return stop
}

type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestAStudioFromItsFirstStart(t *testing.T) {
	s := newShell(t)
	s.refused("reagent-studio serve", "device", "ls")
	stop := s.serve()
	if got := s.run("whoami"); !strings.Contains(got, "everything") {
		t.Errorf("whoami = %q, want the administrator", got)
	}
	file := filepath.Join(t.TempDir(), "press.reswarm")
	s.run("device", "add", "press-07", "--out", file)
	content, err := os.ReadFile(file)
	var device protocol.DeviceFileContent
	if err == nil {
		err = json.Unmarshal(content, &device)
	}
	if err != nil || device.Secret == "" || device.SwarmKey == 0 || !strings.HasPrefix(device.DeviceEndpointURL, "ws://127.0.0.1:") {
		t.Errorf("device file %s (%v)", content, err)
	}
	s.refused("device ls", "device", "add", "press-07", "--out", filepath.Join(t.TempDir(), "again"))
	s.run("device", "add", "cutter", "--serial", "c-1", "--out", "-")
	if got := s.run("device", "ls"); !strings.Contains(got, "press-07") || !strings.Contains(got, "c-1") {
		t.Errorf("device ls:\n%s", got)
	}

	// Another user sees what was granted to him, and nothing else.
	profile := filepath.Join(t.TempDir(), "eve.json")
	s.run("user", "add", "eve", "--out", profile)
	eve := &shell{t, map[string]string{"REAGENT_STUDIO_PROFILE": profile}}
	if got := eve.run("device", "ls"); strings.Contains(got, "press-07") {
		t.Errorf("eve sees a device that is not hers:\n%s", got)
	}
	s.run("grant", "eve", "press-07", "read")
	if got := eve.run("device", "ls"); !strings.Contains(got, "press-07") || strings.Contains(got, "cutter") {
		t.Errorf("eve sees\n%s", got)
	}
	eve.refused("", "device", "add", "mine", "--out", filepath.Join(t.TempDir(), "x"))
	s.run("revoke", "eve", "press-07", "read")
	if got := eve.run("device", "ls"); strings.Contains(got, "press-07") {
		t.Errorf("eve still sees a device after the grant was taken:\n%s", got)
	}
	s.run("user", "rm", "eve")
	eve.refused("refuses account", "device", "ls")

	if err := stop(); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("serve = %v, want an end as asked", err)
	}
	s.refused("no studio answers at http://127.0.0.1:", "device", "ls")

	// All of it is there after a restart.
	s.serve()
	if got := s.run("device", "ls"); !strings.Contains(got, "press-07") || !strings.Contains(got, "cutter") {
		t.Errorf("after a restart, device ls:\n%s", got)
	}
	s.run("device", "rm", "cutter")
	s.refused("device ls", "device", "rm", "cutter")
}

func TestAnImageOfTheLocalEngineBecomesAVersion(t *testing.T) {
	e := testenv.Docker(t)
	s := newShell(t)
	s.serve()
	s.env["DOCKER_HOST"] = os.Getenv("DOCKER_HOST")
	image := e.Prefix + "/hello"
	testenv.BuildImage(t, e, image+":latest", testenv.App{Version: "1"})
	testenv.BuildImage(t, e, image+":2", testenv.App{Version: "2"})

	s.refused("reagent-studio app create hello", "app", "push", "hello", "1.0.0", image)
	s.run("app", "create", "hello")
	s.refused("no such image", "app", "push", "hello", "1.0.0", image+":none")
	if got := s.run("app", "push", "hello", "1.0.0", image, "--port", "web=8080"); !strings.Contains(got, "hello@1.0.0") {
		t.Errorf("app push says %q", got)
	}
	s.refused("--replace", "app", "push", "hello", "1.0.0", image+":2")
	s.run("app", "push", "hello", "1.1.0", image+":2")
	var list protocol.AppList
	if err := json.Unmarshal([]byte(s.run("app", "ls", "--output", "json")), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Apps) != 1 || len(list.Apps[0].Releases) != 2 {
		t.Fatalf("apps %+v, want one with two versions", list.Apps)
	}
	first := list.Apps[0].Releases[0]
	if first.Version != "1.0.0" || strings.Join(first.Architectures, ",") != release.Arch() || len(first.Ports) != 1 || first.Ports[0].Port != 8080 {
		t.Errorf("the first version is %+v", first)
	}

	// A wish for a device that never came waits for it.
	s.run("device", "add", "press-07", "--out", "-")
	if got := s.run("deploy", "hello@1.0.0", "press-07", "--env", "COLOR=green"); !strings.Contains(got, "as soon as the device takes the wish") {
		t.Errorf("deploy says %q", got)
	}
	if got := s.run("states"); !strings.Contains(got, "press-07") || !strings.Contains(got, "RUNNING 1.0.0") {
		t.Errorf("states:\n%s", got)
	}
	_, _, err := s.try("deploy", "hello", "press-07", "--wait", "--timeout", "300ms")
	if err == nil || !strings.Contains(err.Error(), "does not run on press-07 after 300ms") {
		t.Errorf("deploy --wait for a device that is away = %v", err)
	}
	s.refused("not on-line", "logs", "press-07", "hello")
}

func TestExitCodes(t *testing.T) {
	s := newShell(t)
	for _, c := range []struct {
		line string
		want int
	}{
		{"", 0}, {"help", 0}, {"help serve", 0}, {"serve --help", 0}, {"device --help", 0}, {"version", 0}, {"--version", 0}, {"version --output json", 0},
		{"nonsense", 2}, {"serve --nonsense", 2}, {"serve x", 2}, {"device ls --profile", 2}, {"help nonsense", 2},
		{"device ls", 1}, {"serve --listen 0.0.0.0:0", 1}, {"serve --tls-cert x", 1}, {"serve --listen nonsense", 1},
	} {
		_, _, err := s.try(strings.Fields(c.line)...)
		if got := exitCode(err); got != c.want {
			t.Errorf("%q ends with %d (%v), want %d", c.line, got, err, c.want)
		}
	}
	if got := exitCode(context.Canceled); got != 0 {
		t.Errorf("asked to end = %d, want 0", got)
	}
	var usage *cli.UsageError
	if _, _, err := s.try("nonsense"); !errors.As(err, &usage) {
		t.Errorf("nonsense = %v, want a usage error", err)
	}
}

func TestOneStudioAFolder(t *testing.T) {
	s := newShell(t)
	s.serve()
	_, _, err := s.try("serve", "--listen", "127.0.0.1:0")
	if err == nil || !strings.Contains(err.Error(), s.env["REAGENT_STUDIO_DATA"]) {
		t.Errorf("a second studio on the same folder = %v, want a refusal that names it", err)
	}
}

func TestTheDataFolderFollowsTheUser(t *testing.T) {
	if os.Geteuid() != 0 {
		env := map[string]string{"HOME": "/home/u"}
		if got := dataFolder(func(n string) string { return env[n] }); got != "/home/u/.local/state/reagent-studio" {
			t.Errorf("not root: %s", got)
		}
	} else if got := dataFolder(func(string) string { return "" }); got != "/var/lib/reagent-studio" {
		t.Errorf("root: %s", got)
	}
	if got := dataFolder(func(string) string { return "/x" }); got != "/x" {
		t.Errorf("with REAGENT_STUDIO_DATA: %s", got)
	}
}
