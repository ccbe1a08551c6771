package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reagent/container"
	"reagent/protocol"
)

// A diskDouble has room for so many bytes of images, and may be critical.
type diskDouble struct {
	mu       sync.Mutex
	room     uint64
	critical bool
	looks    int
}

func (d *diskDouble) AdmitImage(need uint64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.critical || d.room == 0 || need > d.room {
		return &protocol.Error{Code: protocol.CodeDiskFull, Text: fmt.Sprintf("room for %d bytes, this needs %d", d.room, need)}
	}
	return nil
}

func (d *diskDouble) AdmitFile(need uint64) error { return d.AdmitImage(need) }

func (d *diskDouble) Critical() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.critical {
		return &protocol.Error{Code: protocol.CodeDiskFull, Text: "the disk is nearly full"}
	}
	return nil
}

func (d *diskDouble) Look() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.looks++
}

// A plainEngine runs containers in memory; how many bytes a download of the
// version "slow" is kept from is the test's decision.
type plainEngine struct {
	*smallEngine
	goOn chan struct{} // closed when it may end
}

func (e plainEngine) Run(ctx context.Context, s container.Spec) (id, note string, err error) {
	if id, err = e.Create(ctx, s); err == nil {
		err = e.Start(ctx, id)
	}
	return id, "", err
}

func (e plainEngine) Pull(ctx context.Context, ref string, c *container.Credential, progress func(container.PullProgress)) error {
	if versionOf(ref) == "slow" {
		progress(container.PullProgress{Record: []byte("{}"), Current: 1, Total: pullParts})
		select {
		case <-e.goOn:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return e.smallEngine.Pull(ctx, ref, c, progress)
}

// DownloadSize does not know everything, as an engine behind a mirror.
func (e plainEngine) DownloadSize(ctx context.Context, ref string, c *container.Credential) (int64, error) {
	if versionOf(ref) == "slow" {
		return 0, errors.New("no way to the registry from here")
	}
	return e.smallEngine.DownloadSize(ctx, ref, c)
}

// A cramped rig has a small engine and a disk that a test fills.
type cramped struct {
	*rig
	disk  *diskDouble
	small plainEngine
}

func newCramped(t *testing.T, room uint64) cramped {
	t.Helper()
	c := cramped{disk: &diskDouble{room: room}, small: plainEngine{newSmallEngine(), make(chan struct{})}}
	for _, version := range []string{"1", "2", "slow"} {
		c.small.prints[version] = blueprint{}
	}
	c.rig = &rig{
		t: t, engine: c.small, disk: c.disk, studio: newStudio(), log: &logDouble{}, dir: t.TempDir(), waits: quick(),
		facts: Facts{Serial: "s-1", DeviceKey: 42, SwarmKey: 7, Registry: "registry.invalid/", Repository: "apps/", Secret: "secret"},
		id:    protocol.AppID{Key: 6, Stage: protocol.Prod},
	}
	c.start()
	t.Cleanup(c.stop)
	return c
}

// becomes changes the disk and tells the apps, as a guard does.
func (c cramped) becomes(room uint64, critical bool) {
	c.disk.mu.Lock()
	c.disk.room, c.disk.critical = room, critical
	c.disk.mu.Unlock()
	c.apps.RoomChanged()
}

// refused waits until the app failed for want of room, and nobody calls that a
// crash.
func (c cramped) refused(text string) {
	c.t.Helper()
	c.eventually("FAILED because of "+text, func() bool {
		have, _, err := c.store.Actual(c.id)
		return err == nil && have.State == protocol.Failed && strings.Contains(have.Error, text)
	})
	c.eventually("the guard is told to look", func() bool {
		c.disk.mu.Lock()
		defer c.disk.mu.Unlock()
		return c.disk.looks > 0
	})
	if c.log.contains("crashloop") {
		c.t.Errorf("a full disk counts as a crash: %q", c.log.lines)
	}
}

func (c cramped) pulled() (n int) {
	c.small.mu.Lock()
	defer c.small.mu.Unlock()
	for _, line := range c.small.journal {
		if strings.HasPrefix(line, "pulled") {
			n++
		}
	}
	return n
}

func TestNothingIsPulledWhereThereIsNoRoom(t *testing.T) {
	t.Parallel()
	c := newCramped(t, 0)
	c.request(nil)
	c.refused("room for 0 bytes")
	if n := c.pulled(); n != 0 {
		t.Errorf("%d images were pulled", n)
	}
	c.becomes(100, false)
	c.running("1")
}

func TestADownloadThatIsKnownNotToFitIsNotBegun(t *testing.T) {
	t.Parallel()
	c := newCramped(t, pullParts*unpacked-1)
	c.request(nil)
	c.refused(fmt.Sprintf("this needs %d", pullParts*unpacked))
	if got := c.states(); slices.Contains(got, "DOWNLOADING") {
		t.Errorf("reported %q, want no download", got)
	}
	c.becomes(pullParts*unpacked, false)
	c.running("1")
}

func TestADownloadThatTurnsOutTooLargeIsGivenUp(t *testing.T) {
	t.Parallel()
	c := newCramped(t, (pullParts-1)*unpacked-1)
	c.request(func(r *protocol.AppRequest) { r.PresentVersion, r.NewestVersion = "slow", "slow" }) // and never ends by itself
	c.refused(fmt.Sprintf("this needs %d", (pullParts-1)*unpacked))
	if n := c.pulled(); n != 0 {
		t.Errorf("%d images were pulled", n)
	}
}

func TestAnUpdateWithoutRoomLeavesTheOldVersionRunning(t *testing.T) {
	t.Parallel()
	c := newCramped(t, 100)
	c.request(nil)
	before := c.running("1")
	c.settled(protocol.Running)
	told := len(c.states())
	c.becomes(pullParts*unpacked-1, false)
	c.request(toVersion("2", 12))
	c.eventually("the refusal is told", func() bool { return slices.Contains(c.states()[told:], "FAILED") })
	c.settled(protocol.Running)
	if now := c.running("1"); now != before {
		t.Errorf("the old version's container is %s, was %s", now, before)
	}
	c.eventually("RUNNING is told after it", func() bool { got := c.states(); return got[len(got)-1] == "RUNNING" })
	if c.log.contains("crashloop") {
		t.Errorf("a full disk counts as a crash: %q", c.log.lines)
	}
	c.becomes(100, false)
	c.running("2")
	c.settled(protocol.Running)
}

func TestAppsStopWhileTheDiskIsCriticalAndComeBackByThemselves(t *testing.T) {
	t.Parallel()
	c := newCramped(t, 100)
	c.request(nil)
	id := c.running("1")
	c.settled(protocol.Running)
	c.becomes(100, true)
	c.refused("nearly full")
	if now := c.container(c.cn()); now == nil || now.ID != id || now.Status != container.StatusExited {
		t.Errorf("the container is %+v, want %s to be there and to have ended", now, id)
	}
	// Another wish for the same, a restart of the agent, or a container that
	// somebody starts, changes nothing.
	c.request(nil)
	c.stop()
	c.start()
	if err := c.small.Start(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	c.eventually("it is stopped again", func() bool {
		now := c.container(c.cn())
		return now != nil && now.Status == container.StatusExited
	})
	c.refused("nearly full")

	c.becomes(100, false)
	if now := c.running("1"); now != id {
		t.Errorf("the container that came back is %s, was %s", now, id)
	}
	c.settled(protocol.Running)
}

// A developer's app that failed is not started again by itself; this one did not.
func TestADevelopersAppComesBackByItselfToo(t *testing.T) {
	t.Parallel()
	c := newCramped(t, 100)
	c.id.Stage = protocol.Dev
	c.small.prints[devVersion] = blueprint{}
	ref := c.image(devVersion)
	c.small.images[ref] = idOf(ref)
	c.request(func(r *protocol.AppRequest) { r.Stage, r.Current = protocol.Dev, protocol.Built })
	c.running(devVersion)
	c.settled(protocol.Running)
	c.becomes(100, true)
	c.refused("nearly full")
	c.becomes(100, false)
	c.running(devVersion)
	c.settled(protocol.Running)
}

// That it had to stop once excuses no crash later.
func TestAnAppThatCameBackMayCrashAsAnyOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCramped(t, 100)
		c.id.Stage = protocol.Dev
		ref := c.image(devVersion)
		c.small.prints[devVersion] = blueprint{}
		c.small.images[ref] = idOf(ref)
		c.request(func(r *protocol.AppRequest) { r.Stage, r.Current = protocol.Dev, protocol.Built })
		c.running(devVersion)
		c.settled(protocol.Running)
		c.becomes(100, true)
		c.refused("nearly full")
		c.small.mu.Lock()
		c.small.does[idOf(ref)] = blueprint{ends: 6 * time.Second, exit: 3}
		c.small.mu.Unlock()
		before := len(c.states())
		c.becomes(100, false)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if got, want := c.states()[before:], []string{"STARTING", "RUNNING", "FAILED"}; !slices.Equal(got, want) {
			t.Errorf("reported %q, want %q", got, want)
		}
	})
}

func TestStopAndUninstallWorkWhileTheDiskIsCritical(t *testing.T) {
	t.Parallel()
	c := newCramped(t, 100)
	c.request(nil)
	c.running("1")
	c.settled(protocol.Running)
	c.becomes(0, true)
	c.refused("nearly full")
	c.request(target(protocol.Present))
	c.settled(protocol.Present)
	c.request(target(protocol.Uninstalled))
	c.eventually("nothing is left", func() bool {
		_, known, err := c.store.Actual(c.id)
		return err == nil && !known && c.container(c.cn()) == nil && len(c.small.references("registry.invalid/")) == 0
	})
}

func TestWhatGrowsEndsWhenTheDiskBecomesCritical(t *testing.T) {
	t.Parallel()
	c := newCramped(t, 100)
	c.request(func(r *protocol.AppRequest) { r.PresentVersion, r.NewestVersion = "slow", "slow" })
	c.eventually("it downloads", func() bool { return slices.Contains(c.states(), "DOWNLOADING") })
	c.becomes(100, true)
	c.refused("nearly full")
	close(c.small.goOn)
	c.becomes(100, false)
	c.running("slow")
}

// The download of another version may take long; the old one runs meanwhile.
func TestAnAppThatHadToStopRunsBeforeItsUpdateGoesOn(t *testing.T) {
	t.Parallel()
	c := newCramped(t, 100)
	c.request(nil)
	id := c.running("1")
	c.settled(protocol.Running)
	c.request(toVersion("slow", 12))
	c.eventually("it downloads", func() bool { return slices.Contains(c.states(), "UPDATING") })
	c.becomes(100, true)
	c.eventually("it has stopped", func() bool {
		now := c.container(c.cn())
		return now != nil && now.Status == container.StatusExited
	})
	c.becomes(100, false)
	if now := c.running("1"); now != id {
		t.Errorf("the container that came back is %s, was %s", now, id)
	}
	close(c.small.goOn)
	c.running("slow")
	c.settled(protocol.Running)
}

// What stops for want of room did not fail its probation.
func TestAnUpdateThatTheDiskInterruptsIsNotRolledBack(t *testing.T) {
	t.Parallel()
	c := newCramped(t, 100)
	c.stop()
	c.waits.Probation = 3 * time.Second
	c.start()
	c.request(nil)
	c.running("1")
	c.settled(protocol.Running)
	c.request(toVersion("2", 12))
	c.running("2")
	c.becomes(100, true)
	c.refused("nearly full")
	c.becomes(100, false)
	c.running("2")
	c.settled(protocol.Running)
	have, _, err := c.store.Actual(c.id)
	if err != nil || have.Version != "2" || have.Rejected != nil {
		t.Errorf("installed is %s, rejected %+v, %v; want version 2", have.Version, have.Rejected, err)
	}
}

func TestOnlyWantOfRoomIsTakenForIt(t *testing.T) {
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{errors.New("no space left on device"), false}, // only words
		{fmt.Errorf("pull: %w", container.ErrNoSpace), true},
		{&protocol.Error{Code: protocol.CodeTooLarge}, false},
		{fmt.Errorf("update: %w", &protocol.Error{Code: protocol.CodeDiskFull}), true},
	} {
		if got := noRoom(c.err); got != c.want {
			t.Errorf("noRoom(%v) = %t, want %t", c.err, got, c.want)
		}
	}
}
