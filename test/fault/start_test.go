package fault

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/protocol"
)

func TestADamagedDeviceFileIsNamedAndLeftAlone(t *testing.T) {
	t.Parallel()
	whole := `{"name": "press", "secret": "s3cret-of-the-device", "swarm_key": 41, "device_key": 7, "serial_number": "0b0f3f0e", "device_endpoint_url": "` + nowhere + `"}`
	for name, row := range map[string]struct{ content, says string }{
		"cut by a power cut": {whole[:len(whole)/2], ":1:"},
		"empty":              {"", ""},
		"zeros":              {strings.Repeat("\x00", 512), ""},
		"a list":             {`["name"]`, ""},
		"null":               {`null`, ""},
		"no secret":          {strings.Replace(whole, "secret", "sceret", 1), "secret"},
		"wrong type":         {strings.Replace(whole, "41", `"41x"`, 1), "swarm_key"},
		"no address":         {strings.Replace(whole, "ws://", "", 1), "device_endpoint_url"},
		"dotted serial":      {strings.Replace(whole, "0b0f3f0e", "0b.0f", 1), "serial_number"},
		"second line":        {"{\n \"name\": \"press\"\n \"secret\": 1}", ":3:"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := testenv.NewDevice(t, []byte(whole))
			if err := os.WriteFile(d.File, []byte(row.content), 0o640); err != nil {
				t.Fatal(err)
			}
			before := stamp(t, d.File)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			stdout, stderr, code := d.Run(ctx, product(t), d.Args()...)
			if code != 2 {
				t.Errorf("exit code = %d, want 2; it said %s%s", code, stdout, stderr)
			}
			if !strings.Contains(stderr, d.File) || !strings.Contains(stderr, row.says) {
				t.Errorf("it said %q, want the file's name and %q", stderr, row.says)
			}
			if strings.Contains(stderr, "s3cret") {
				t.Errorf("it gave the secret away: %q", stderr)
			}
			if after := stamp(t, d.File); after != before {
				t.Errorf("the file is %v, was %v", after, before)
			}
		})
	}
}

func TestASecondAgentGivesWayToTheFirst(t *testing.T) {
	t.Parallel()
	e := testenv.Docker(t)
	d := unattended(t, e)
	first := d.Start(t, product(t))
	testenv.Eventually(t, 20*time.Second, func() string { return "no status: " + first.Said() }, func() bool { return d.Status().PID == first.PID() })

	other := testenv.NewDevice(t, []byte(contents(t, d.File)))
	for name, args := range map[string][]string{
		"in the same folder":                    d.Args(),
		"of the same device, in another folder": other.Args(),
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, stderr, code := d.Run(ctx, product(t), args...)
		cancel()
		if code != 3 || !strings.Contains(stderr, strconv.Itoa(first.PID())) {
			t.Errorf("an agent %s ended with %d and said %q, want 3 and process %d", name, code, stderr, first.PID())
		}
	}
	if !first.Running() {
		t.Errorf("the first agent ended with the second: %s", first.Said())
	}
	first.Kill() // its locks must not outlive it
	second := d.Start(t, product(t))
	testenv.Eventually(t, 20*time.Second, func() string { return "no status: " + second.Said() }, func() bool { return d.Status().PID == second.PID() })
	second.Terminate(syscall.SIGTERM, wellBehaved)
}

func TestAnUnreachableRouterOrEngineKeepsNobodyFromEnding(t *testing.T) {
	t.Parallel()
	e := testenv.Docker(t)
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			d := unattended(t, e)
			d.Flags = []string{"-dockerHost", "unix:///nonexistent/docker.sock"}
			p := d.Start(t, product(t))
			testenv.Eventually(t, 20*time.Second, func() string { return fmt.Sprintf("status %+v", d.Status()) }, func() bool {
				s := d.Status()
				return s.PID == p.PID() && s.State != "" && s.Engine.Reason != ""
			})
			took := p.Terminate(s, wellBehaved)
			t.Logf("ended after %v", took)
			if got := d.Status(); got.Engine.Reachable || got.Serial != d.Serial {
				t.Errorf("status = %+v, want the engine shown as absent", got)
			}
		})
	}
}

func TestOfflineAppsRunAndOutliveTheAgent(t *testing.T) {
	t.Parallel()
	e := testenv.Docker(t)
	d := unattended(t, e)
	name := e.Prefix + "web"
	testenv.BuildImage(t, e, image(e, 7, name, "1.0.0"), testenv.App{Version: "1.0.0"})
	wish(t, d, running(7, name, "1.0.0"))
	cn := protocol.ContainerName(protocol.Prod, 7, name)
	before := contents(t, d.File)

	d.Flags = []string{"-offline"}
	first := d.Start(t, product(t))
	waitStatus(t, d, 7, protocol.Running)
	one := lifeOf(t, e, cn)
	if s := d.Status(); s.State != "disabled" {
		t.Errorf("state of an agent that never dials = %q, want disabled", s.State)
	}
	first.Terminate(syscall.SIGTERM, wellBehaved)
	if got := lifeOf(t, e, cn); got != one || one == lifeNone {
		t.Errorf("container after the agent's end = %v, want %v", got, one)
	}

	// The same agent again takes it for what it is.
	second := d.Start(t, product(t))
	testenv.Eventually(t, 20*time.Second, func() string { return "no status" }, func() bool { return d.Status().PID == second.PID() })
	waitStatus(t, d, 7, protocol.Running)
	if got := lifeOf(t, e, cn); got != one {
		t.Errorf("container after the agent's restart = %v, want %v", got, one)
	}

	// A power cut ends both; the app comes back without a network.
	second.Kill()
	if err := e.API.ContainerKill(t.Context(), cn, "KILL"); err != nil {
		t.Fatal(err)
	}
	d.Start(t, product(t))
	if id := e.WaitRunning(cn); id != one.ID {
		t.Logf("the app came back as another container")
	}
	if got := contents(t, d.File); got != before {
		t.Errorf("the device file was written: %s", got)
	}
}

// stamp is what a file that nobody touched keeps.
func stamp(t testing.TB, path string) string {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s %d bytes, mode %v, from %v", contents(t, path), info.Size(), info.Mode(), info.ModTime())
}
