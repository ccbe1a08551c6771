//go:build linux

package fault

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	dockercontainer "github.com/docker/docker/api/types/container"
	"github.com/rs/zerolog"

	"reagent/filesystem"
	"reagent/internal/testenv"
	"reagent/persistence/device"
	"reagent/protocol"
	"reagent/release"
	"reagent/test/rig"
)

const mb = 1 << 20

// A crowded site has one small disk for everything: the engine's data, the apps'
// files and the agent's state, as a device with little flash memory does.
type crowded struct {
	*site
	disk string
}

func newCrowded(t *testing.T) crowded {
	t.Helper()
	engine := testenv.NewPrivateEngine(t)
	c := crowded{disk: filepath.Join(engine.Dir, "data")}
	engine.Stop()
	image := filepath.Join(engine.Dir, "disk.ext4")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 320*mb); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"mkfs.ext4", "-q", "-F", "-m", "0", image}, // nothing of it is kept for root
		{"mount", "-o", "loop", image, c.disk},
	} {
		if said, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("a small disk needs root and the right to mount: %v: %v: %s", command, err, said)
		}
	}
	engine.Start()
	c.site = newSite(t, engine.Engine)
	files := filepath.Join(c.disk, "apps")
	for _, folder := range []string{files, c.device.AppsDir()} {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mount(files, c.device.AppsDir(), "", syscall.MS_BIND, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(c.device.AppsDir(), syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return c
}

func (c crowded) space() filesystem.Space {
	c.t.Helper()
	s, err := filesystem.Free(c.disk)
	if err != nil {
		c.t.Fatal(err)
	}
	return s
}

// leave makes an app's data as large as it takes to leave so many bytes free.
func (c crowded) leave(free uint64) {
	c.t.Helper()
	path := filepath.Join(c.device.AppsDir(), "prod", "recordings")
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		c.t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	for have := c.space().Free; have > free; have = c.space().Free {
		if _, err := f.Write(make([]byte, min(have-free, mb))); err != nil {
			break // to the last byte
		}
	}
	if info, err := f.Stat(); err == nil && c.space().Free+mb < free {
		if err := f.Truncate(max(0, info.Size()-int64(free-c.space().Free))); err != nil {
			c.t.Fatal(err)
		}
	}
}

// status waits until the studio has a status of the device.
func (c crowded) status(want protocol.DeviceState) {
	c.t.Helper()
	c.WaitDevice(c.device.Serial, "is "+string(want), wait, func(d protocol.DeviceRow) bool { return d.Online && d.Status == want })
}

// refused waits until the studio was told that an app found no room.
func (c crowded) refused(app, why string) {
	c.t.Helper()
	var row protocol.AppOnDeviceRow
	testenv.Eventually(c.t, wait, func() string { return fmt.Sprintf("%s is refused (%s): %+v", app, why, row) }, func() bool {
		row = c.State(app, c.device.Serial)
		return row.State == protocol.Failed && strings.Contains(row.Error, why)
	})
}

// narrow puts a link of so many bytes a second between the engine and the
// registry.
func (c crowded) narrow(rate int) *testenv.Relay {
	c.t.Helper()
	relay := testenv.NewRelay(c.t, c.studio.Addr)
	relay.SetRate(rate)
	text := strings.Replace(contents(c.t, c.device.File), c.file.DockerRegistryURL, relay.Addr()+"/", 1)
	if err := os.WriteFile(c.device.File, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return relay
}

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// TestADiskThatAppsFillIsRefusedReclaimedAndSurvived fills the one disk of a
// device in steps, and empties it.
func TestADiskThatAppsFillIsRefusedReclaimedAndSurvived(t *testing.T) {
	t.Parallel()
	c := newCrowded(t)
	web, big := c.app("web"), c.app("big")
	c.Release(web, rig.Release{Version: "1.0.0"})
	c.Release(web, rig.Release{Version: "2.0.0", Image: testenv.App{Ballast: noise(50 * mb)}})
	row := c.Release(big, rig.Release{Version: "1.0.0", Image: testenv.App{Ballast: noise(50 * mb)}})
	agent := c.start(quick(t))
	begun := c.run(web, "1.0.0")

	// What nobody needs, and what is none of our business.
	superseded := protocol.RegistryImage(c.file.DockerRegistryURL, c.file.DockerMainRepository, protocol.Prod, release.Arch(), row.AppKey, big) + ":0.1.0"
	testenv.BuildImage(t, c.engine, superseded, testenv.App{Version: superseded, Ballast: noise(20 * mb)})
	testenv.BuildImage(t, c.engine, c.engine.Prefix+"-foreign:1", testenv.App{Version: "foreign"})
	foreign, err := c.engine.API.ContainerCreate(t.Context(), &dockercontainer.Config{Image: c.engine.Prefix + "-foreign:1"}, nil, nil, nil, c.engine.Prefix+"-foreign")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.engine.API.ContainerStart(t.Context(), foreign.ID, dockercontainer.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	theirs := lifeOf(t, c.engine, foreign.ID)

	// Low: what is superfluous goes, and what does not fit does not begin.
	c.leave(45 * mb)
	testenv.Eventually(t, wait, func() string { return "the superseded image goes: " + c.device.Log() }, func() bool {
		_, err := c.engine.API.ImageInspect(t.Context(), superseded)
		return err != nil
	})
	c.leave(45 * mb)
	c.Deploy(big, c.device.Serial, "1.0.0", nil)
	c.refused(big, "are kept for the device itself")
	if free := c.space().Free; free < 30*mb {
		t.Errorf("%d bytes are free after the refusal, were 45 MB: it began all the same", free)
	}
	c.Deploy(web, c.device.Serial, "2.0.0", nil)
	testenv.Eventually(t, wait, func() string { return "the update is refused: " + c.device.Log() }, func() bool {
		return strings.Contains(c.device.Log(), "update to 2.0.0: ") || strings.Contains(c.State(web, c.device.Serial).Error, "kept for the device")
	})
	c.wait(web, protocol.Running, "1.0.0")
	c.same(web, begun)

	// Critical: our apps stop, nobody else's, and the studio is told.
	c.leave(5 * mb)
	c.status(protocol.Emergency)
	c.refused(web, "nearly full")
	if now := lifeOf(t, c.engine, c.name(web)); now != lifeNone {
		t.Errorf("the app runs on a full disk: %v", now)
	}

	// To the last byte, and a power cut: wishes are still taken, and stops obeyed.
	c.leave(0)
	agent.Kill()
	c.leave(0)
	agent = c.device.Start(t, quick(t))
	testenv.Eventually(t, wait, func() string { return fmt.Sprintf("it is on-line again: %+v", c.device.Status()) }, func() bool {
		return c.device.Status().PID == agent.PID() && c.answers(protocol.GetStorageData, wellBehaved) == nil
	})
	c.status(protocol.Emergency)
	if w := c.Stop(web, c.device.Serial); !w.Delivered {
		t.Errorf("a stop on a full disk is not taken: %s", w.Reason)
	}
	c.wait(web, protocol.Present, "1.0.0")
	if w := c.Deploy(web, c.device.Serial, "1.0.0", nil); !w.Delivered {
		t.Errorf("a wish on a full disk is not taken: %s", w.Reason)
	}
	c.refused(web, "nearly full")

	// Room again: everything comes back by itself.
	c.leave(220 * mb)
	c.status(protocol.Connected)
	c.wait(web, protocol.Running, "")
	c.wait(big, protocol.Running, "1.0.0")
	if now := lifeOf(t, c.engine, foreign.ID); now != theirs {
		t.Errorf("the foreign container is %v, was %v", now, theirs)
	}
	agent.Terminate(syscall.SIGTERM, wellBehaved)
	if log := c.device.Log(); strings.Contains(log, "damaged") || strings.Contains(log, "panic") {
		t.Errorf("the log tells of damage:\n%s", log)
	}
	store, err := device.Open(c.device.Database(), zerolog.Nop())
	if err != nil {
		t.Fatalf("the state after a full disk: %v", err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
}

// TestWhatFillsTheDiskIsEnded has a build, and then an app, write until there is
// no room.
func TestWhatFillsTheDiskIsEnded(t *testing.T) {
	t.Parallel()
	c := newCrowded(t)
	web, greedy := c.app("web"), c.app("greedy")
	c.Release(web, rig.Release{Version: "1.0.0"})
	c.Release(greedy, rig.Release{Version: "1.0.0", Image: testenv.App{Env: []string{"TESTAPP_FILL=/hoard", "TESTAPP_EVERY=50ms"}}})
	c.Release(web, rig.Release{Version: "2.0.0", Image: testenv.App{Ballast: noise(30 * mb)}})
	link := c.narrow(3 * mb) // an update takes longer than filling the disk
	agent := c.start(quick(t))
	c.run(web, "1.0.0")

	folder := t.TempDir()
	for name, content := range map[string]string{
		"Dockerfile": "FROM scratch\nCOPY testapp /testapp\nENV TESTAPP_FILL=/hoard TESTAPP_EVERY=100ms\nRUN [\"/testapp\"]\n",
		"testapp":    string(testenv.Testapp(t)),
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	c.leave(85 * mb)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	push := exec.CommandContext(ctx, testenv.Program(t, "./cmd/reagent-studio", false), "dev", "push", folder, c.device.Serial, "--app", c.app("built"), "--no-run")
	push.Env = append(os.Environ(), "REAGENT_STUDIO_PROFILE="+filepath.Join(c.studio.Data, "cli.json"))
	said, err := push.CombinedOutput()
	if err == nil || !strings.Contains(string(said), "nearly full") {
		t.Errorf("a build that never ends on a disk that does: %v\n%s", err, said)
	}
	c.status(protocol.Connected)
	c.wait(web, protocol.Running, "1.0.0")

	// In the middle of an update: it ends, the old version comes back first, and
	// then the update goes on.
	c.leave(150 * mb)
	c.Deploy(web, c.device.Serial, "2.0.0", nil)
	c.wait(web, protocol.Updating, "")
	c.leave(5 * mb) // and what the download has brought so far, which goes with it
	testenv.Eventually(t, wait, func() string { return "the update ends: " + c.device.Log() }, func() bool {
		row := c.State(web, c.device.Serial)
		told := row.Error
		if row.LastUpdate != nil {
			told += row.LastUpdate.Reason
		}
		return strings.Contains(told, "full")
	})
	link.Freeze()
	c.leave(200 * mb)
	testenv.Eventually(t, wait, func() string { return "the old version comes back: " + c.device.Log() }, func() bool {
		return lifeOf(t, c.engine, c.name(web)) != lifeNone
	})
	link.Thaw()
	c.wait(web, protocol.Running, "2.0.0")

	c.leave(70 * mb)
	c.Deploy(greedy, c.device.Serial, "1.0.0", nil)
	c.status(protocol.Emergency)
	c.refused(greedy, "nearly full")
	c.refused(web, "nearly full")
	c.Remove(greedy, c.device.Serial, true)
	c.status(protocol.Connected)
	c.wait(web, protocol.Running, "2.0.0")
	agent.Terminate(syscall.SIGTERM, wellBehaved)
}
