package disk

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/filesystem"
	"reagent/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	MiB = 1 << 20
	GiB = 1 << 30
)

// A machine has disks by path.
type machine struct {
	mu     sync.Mutex
	disks  map[string]filesystem.Space
	broken error
	told   []string // levels, each time that Changed was told
	guard  *Guard
}

func (m *machine) free(path string) (filesystem.Space, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.disks[path], m.broken
}

// apart: no two disks are the same.
func apart(string, string) bool { return false }

func (m *machine) set(path string, free uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disks[path] = filesystem.Space{Total: m.disks[path].Total, Free: free}
}

func (m *machine) breaks(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.broken = err
}

// levels are how Changed was told so far.
func (m *machine) levels() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.told)
}

// run starts a guard of a machine whose engine has a disk of its own, and ends
// it with the test.
func (m *machine) run(t *testing.T, steps ...Step) *Guard {
	t.Helper()
	cfg := Config{
		DataRoot: func(context.Context) (string, error) { return "/engine", nil },
		Folders:  []string{"/nowhere/apps"},
		Steps:    steps, Free: m.free, Same: apart,
		Log: zerolog.New(zerolog.NewTestWriter(t)),
	}
	cfg.Changed = func() {
		var now []string
		for _, s := range m.guard.Status() {
			now = append(now, string(s.Level))
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.told = append(m.told, strings.Join(now, " "))
	}
	m.guard = New(cfg)
	return m.start(t)
}

func (m *machine) start(t *testing.T) *Guard {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.guard.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want context.Canceled", err)
		}
	})
	<-m.guard.Ready()
	synctest.Wait()
	return m.guard
}

func newMachine(total, free uint64) *machine {
	return &machine{disks: map[string]filesystem.Space{
		"/engine":       {Total: total, Free: free},
		"/nowhere/apps": {Total: 64 * GiB, Free: 60 * GiB},
	}}
}

func TestLimitsAreTheContractsAndOnSmallDisksTheirShare(t *testing.T) {
	for _, c := range []struct {
		total             uint64
		warn, enter, back uint64
	}{
		{500 * GiB, 3 * GiB, GiB, 3 * GiB},
		{16 * GiB, 3 * GiB, GiB, 3 * GiB},
		{4 * GiB, 768 * MiB, 256 * MiB, 768 * MiB},
		{256 * MiB, 48 * MiB, 16 * MiB, 48 * MiB},
		{0, 0, 0, 0},
	} {
		l := ProductLimits().on(c.total)
		if l.Warn != c.warn || l.Enter != c.enter || l.Leave != c.back {
			t.Errorf("limits of a disk of %s are %+v, want %d, %d, %d", size(c.total), l, c.warn, c.enter, c.back)
		}
	}
}

func TestCriticalIsHeldUntilThereIsAGoodDeal(t *testing.T) {
	l := ProductLimits()
	level := protocol.DiskEnough
	for _, c := range []struct {
		free uint64
		want protocol.DiskLevel
	}{
		{4 * GiB, protocol.DiskEnough}, {3*GiB - 1, protocol.DiskLow}, {GiB, protocol.DiskLow}, {GiB - 1, protocol.DiskCritical},
		{2 * GiB, protocol.DiskCritical}, {3*GiB - 1, protocol.DiskCritical}, {3 * GiB, protocol.DiskEnough}, {2 * GiB, protocol.DiskLow},
		{0, protocol.DiskCritical}, {10 * GiB, protocol.DiskEnough},
	} {
		if level = l.level(level, c.free); level != c.want {
			t.Errorf("with %s free it is %s, want %s", size(c.free), level, c.want)
		}
	}
}

func TestALevelIsToldWhenItChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, 50*GiB)
		g := m.run(t)
		if err := g.Critical(); err != nil || len(m.levels()) != 0 {
			t.Fatalf("on a disk with room Critical = %v, told %q; want nothing", err, m.levels())
		}
		m.set("/engine", GiB/2)
		time.Sleep(10 * time.Minute)
		err := g.Critical()
		var full *protocol.Error
		if !errors.As(err, &full) || full.Code != protocol.CodeDiskFull || !strings.Contains(full.Text, "536 MB of 107.4 GB free") {
			t.Errorf("Critical = %v, want disk_full and how much is free", err)
		}
		m.set("/engine", 2*GiB)
		time.Sleep(10 * time.Minute)
		if g.Critical() == nil {
			t.Error("it is critical no more with 2 GiB, want 3")
		}
		m.set("/engine", 3*GiB)
		time.Sleep(10 * time.Minute)
		if err := g.Critical(); err != nil {
			t.Errorf("with room again: %v", err)
		}
		if want := []string{"critical enough", "enough enough"}; !slices.Equal(m.levels(), want) {
			t.Errorf("told %q, want %q", m.levels(), want)
		}
	})
}

// A pause that does not see a disk run full is of no use; one that is short
// without need costs a battery.
func TestLooksComeTheSoonerTheLessIsLeft(t *testing.T) {
	for _, c := range []struct {
		free        uint64
		least, most time.Duration
	}{
		{50 * GiB, 225 * time.Second, 375 * time.Second},
		{3*GiB + 48*MiB, 78 * time.Second, 131 * time.Second}, // at 20 MB a second critical in 105 s
		{GiB + 40*MiB, 3750 * time.Millisecond, 6250 * time.Millisecond},
		{GiB / 2, 3750 * time.Millisecond, 6250 * time.Millisecond},
	} {
		g := New(Config{Folders: []string{"/nowhere"}})
		g.engine.space = filesystem.Space{Total: 100 * GiB, Free: c.free}
		g.engine.level = g.cfg.Limits.level(protocol.DiskEnough, c.free)
		seen := map[time.Duration]bool{}
		for range 200 {
			pause := g.pause()
			seen[pause] = true
			if pause < c.least || pause > c.most {
				t.Errorf("with %s free the next look is in %s, want within [%s, %s]", size(c.free), pause, c.least, c.most)
			}
		}
		if len(seen) < 100 {
			t.Errorf("with %s free 200 pauses had %d lengths, want them spread", size(c.free), len(seen))
		}
	}
}

func TestNothingIsAdmittedThatDoesNotFit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, 5*GiB)
		m.disks["/nowhere/apps"] = filesystem.Space{Total: 64 * GiB, Free: 2 * GiB}
		g := m.run(t)
		for _, c := range []struct {
			ask    func(uint64) error
			need   uint64
			admits bool
		}{
			{g.AdmitImage, 0, true}, {g.AdmitImage, 4 * GiB, true}, {g.AdmitImage, 4*GiB + 1, false}, {g.AdmitImage, 200 * GiB, false}, {g.AdmitImage, 1<<64 - 1, false},
			{g.AdmitFile, 0, true}, {g.AdmitFile, GiB, true}, {g.AdmitFile, GiB + 1, false},
		} {
			err := c.ask(c.need)
			var full *protocol.Error
			if c.admits && err != nil || !c.admits && (!errors.As(err, &full) || full.Code != protocol.CodeDiskFull) {
				t.Errorf("%d bytes: %v, want admission %t or disk_full", c.need, err, c.admits)
			}
		}
		if err := g.AdmitImage(10 * GiB); !strings.Contains(fmt.Sprint(err), "5.4 GB of 107.4 GB are free, and 1.1 GB of them are kept for the device itself; this needs 10.7 GB") {
			t.Errorf("the refusal says %v", err)
		}
		m.set("/engine", GiB-1)
		if g.AdmitImage(0) == nil {
			t.Error("admitted on a full disk before the guard had looked again")
		}
	})
}

func TestWhoWasRefusedIsToldWhenThereIsRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, 5*GiB)
		g := m.run(t)
		if g.AdmitImage(8*GiB) == nil || g.AdmitImage(6*GiB) == nil {
			t.Fatal("admitted what does not fit")
		}
		_ = g.AdmitImage(200 * GiB) // never will
		time.Sleep(time.Minute)
		if got := m.levels(); len(got) != 0 {
			t.Fatalf("told %q while there is no room", got)
		}
		m.set("/engine", 7*GiB)
		time.Sleep(time.Minute)
		if got := m.levels(); len(got) != 1 {
			t.Errorf("told %q, want once", got)
		}
		if err := g.AdmitImage(6 * GiB); err != nil {
			t.Errorf("there is room now: %v", err)
		}
		m.set("/engine", 90*GiB)
		time.Sleep(time.Hour)
		if got := m.levels(); len(got) != 1 {
			t.Errorf("told %q though nobody waits", got)
		}
	})
}

func TestAnUnreadableDiskCountsAsHavingEnoughAndIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, GiB/2)
		var said strings.Builder
		g := m.run(t)
		if g.Critical() == nil {
			t.Fatal("not critical to begin with")
		}
		g.cfg.Log = zerolog.New(&said) // Run looks at it in its next turn only
		m.breaks(errors.New("the disk is on fire"))
		time.Sleep(time.Hour)
		if err := errors.Join(g.Critical(), g.AdmitImage(GiB), g.AdmitFile(GiB)); err != nil {
			t.Errorf("refused: %v", err)
		}
		synctest.Wait()
		if n := strings.Count(said.String(), "on fire"); n != 2 {
			t.Errorf("said %d times, want once for each of two disks:\n%s", n, said.String())
		}
	})
}

func TestAnEngineThatDoesNotAnswerIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, GiB/2)
		asked := 0
		m.guard = New(Config{
			DataRoot: func(ctx context.Context) (string, error) {
				if asked++; asked == 1 {
					<-ctx.Done() // hangs
					return "", ctx.Err()
				}
				return "/engine", nil
			},
			Folders: []string{"/nowhere/apps"}, Changed: func() {}, Free: m.free, Same: apart, Log: zerolog.Nop(),
		})
		begun := time.Now()
		g := m.start(t)
		if waited := time.Since(begun); waited > 11*time.Second {
			t.Errorf("the first look took %s, want the limit of 10 s", waited)
		}
		if g.Critical() != nil {
			t.Error("critical on an unknown disk")
		}
		time.Sleep(10 * time.Minute)
		if g.Critical() == nil {
			t.Error("the engine's disk is still unknown")
		}
	})
}

func TestWhereTheEngineMostLikelyIsIsWatchedUntilItAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, 50*GiB)
		m.disks["/likely"] = filesystem.Space{Total: 100 * GiB, Free: GiB / 2}
		var answers atomic.Bool
		m.guard = New(Config{
			DataRoot: func(context.Context) (string, error) {
				if answers.Load() {
					return "/engine", nil
				}
				return "/likely", errors.New("no engine")
			},
			Folders: []string{"/nowhere/apps"}, Changed: func() {}, Free: m.free, Same: apart, Log: zerolog.Nop(),
		})
		g := m.start(t)
		if g.Critical() == nil {
			t.Error("a full disk was not seen before the engine answered")
		}
		answers.Store(true)
		time.Sleep(time.Minute)
		if err := g.Critical(); err != nil {
			t.Errorf("the engine is elsewhere: %v", err)
		}
		answers.Store(false) // it is where it was
		time.Sleep(time.Hour)
		if err := g.Critical(); err != nil {
			t.Errorf("a guess won over what the engine had said: %v", err)
		}
	})
}

func TestAnEngineElsewhereIsNotWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, 0)
		m.guard = New(Config{
			DataRoot: func(context.Context) (string, error) { return "", nil },
			Folders:  []string{"/nowhere/apps"}, Changed: func() {}, Free: m.free, Same: apart, Log: zerolog.Nop(),
		})
		g := m.start(t)
		if err := errors.Join(g.Critical(), g.AdmitImage(GiB)); err != nil {
			t.Error(err)
		}
		if g.AdmitFile(1000*GiB) == nil {
			t.Error("our own disk is not watched any more")
		}
	})
}

func TestADiskThatIsSharedIsJudgedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, GiB/2)
		m.guard = New(Config{
			DataRoot: func(context.Context) (string, error) { return "/engine", nil },
			Folders:  []string{"/nowhere/apps", "/nowhere/state"}, Changed: func() {}, Free: m.free, Log: zerolog.Nop(),
			Same: func(a, b string) bool { return true },
		})
		g := m.start(t)
		if all := g.Status(); len(all) != 1 || all[0].Path != "/engine" {
			t.Errorf("Status = %+v, want one disk", all)
		}
		if g.AdmitFile(0) == nil {
			t.Error("a file is admitted on the engine's full disk")
		}
	})
}

func TestAFullDiskOfTheAppsFilesStopsNoApp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, 50*GiB)
		g := m.run(t)
		m.set("/nowhere/apps", 0)
		time.Sleep(10 * time.Minute)
		if err := g.Critical(); err != nil {
			t.Errorf("Critical = %v, want none: the engine has room", err)
		}
		if g.AdmitFile(1) == nil {
			t.Error("a file is admitted")
		}
		if want := []string{"enough critical"}; !slices.Equal(m.levels(), want) {
			t.Errorf("told %q, want %q", m.levels(), want)
		}
	})
}

func TestTheReserveIsMadeAtTheStartAndEachTimeThatADiskRunsLow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMachine(100*GiB, 50*GiB)
		made := 0
		m.guard = New(Config{
			DataRoot: func(context.Context) (string, error) { return "/engine", nil },
			Folders:  []string{"/nowhere/apps"}, Changed: func() {}, Free: m.free, Same: apart, Log: zerolog.Nop(),
			Reserve: func() error { made++; return errors.New("no room") },
		})
		m.start(t)
		for i, c := range []struct {
			free uint64
			want int
		}{{50 * GiB, 1}, {2 * GiB, 2}, {GiB / 2, 2}, {50 * GiB, 2}, {2 * GiB, 3}} {
			m.set("/engine", c.free)
			time.Sleep(time.Hour)
			synctest.Wait()
			if made != c.want {
				t.Errorf("look %d, with %s free: made %d times, want %d", i, size(c.free), made, c.want)
			}
		}
	})
}
