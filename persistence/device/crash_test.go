package device_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/persistence/device"
	"reagent/protocol"
)

// writerFile makes the test binary a process that writes into that file until
// it is killed, and prints what it may forget no more.
const writerFile = "REAGENT_TEST_WRITER"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerFile); path != "" {
		if err := write(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

const crashApps = 5

// write saves one step after the other, each a state and its report in one
// transaction. The step is the release key.
func write(path string) error {
	s, err := device.Open(path, zerolog.Nop())
	if err != nil {
		return err
	}
	states, _, err := s.Outbox()
	if err != nil {
		return err
	}
	step := uint64(0)
	for _, r := range states {
		step = max(step, r.State.ReleaseKey)
	}
	for {
		step++
		app := 1 + step%crashApps
		w, _, err := s.Want(wish(app), true)
		if err != nil {
			return err
		}
		fmt.Println("wish", app, w.Seq)
		a, o := have(app, protocol.Running), report(app, protocol.Running)
		a.ReleaseKey, o.Report.ReleaseKey, o.Coalesce = step, step, true
		if err := s.Save(a, o); err != nil {
			return err
		}
		fmt.Println("save", app, step)
	}
}

// The writer is killed with -9 at random moments, again and again on the same
// file. What it was told is stored is there, wholly, and the file is sound.
func TestNothingAcknowledgedIsLostWhenTheProcessIsKilled(t *testing.T) {
	killWriters(t, 30, rand.New(rand.NewPCG(20, 26)))
}

// TestMoreKillsOfTheWriter is for make soak: REAGENT_SOAK says how many.
func TestMoreKillsOfTheWriter(t *testing.T) {
	if n, _ := strconv.Atoi(os.Getenv("REAGENT_SOAK")); n > 0 {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		killWriters(t, n, rand.New(rand.NewPCG(seed, 0)))
	}
}

func killWriters(t *testing.T, kills int, random *rand.Rand) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	acknowledged := map[string]map[uint64]uint64{"wish": {}, "save": {}}
	for kill := range kills {
		written := killedWriter(t, path, time.Duration(random.IntN(40))*time.Millisecond, acknowledged)
		if written == 0 {
			t.Fatalf("kill %d: the writer wrote nothing", kill)
		}
		compare(t, path, acknowledged)
		if t.Failed() {
			t.Fatalf("after kill %d", kill)
		}
	}
}

// killedWriter runs a writer, kills it some time after its first line, and notes
// what it printed.
func killedWriter(t *testing.T, path string, after time.Duration, acknowledged map[string]map[uint64]uint64) (lines int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), writerFile+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	scanner := bufio.NewScanner(out)
	var timer *time.Timer
	for scanner.Scan() {
		if lines == 0 {
			timer = time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		lines++
		f := strings.Fields(scanner.Text())
		if len(f) != 3 {
			break // killed in the middle of a line
		}
		app, _ := strconv.ParseUint(f[1], 10, 64)
		n, err := strconv.ParseUint(f[2], 10, 64)
		must(t, err)
		acknowledged[f[0]][app] = n
	}
	if timer != nil {
		timer.Stop()
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return lines
}

// compare looks whether all that was acknowledged is there, and reports belong
// to their states.
func compare(t *testing.T, path string, acknowledged map[string]map[uint64]uint64) {
	t.Helper()
	s, err := device.Open(path, zerolog.New(zerolog.NewTestWriter(t)))
	must(t, err)
	defer s.Close()
	if s.Rebuilt() {
		t.Fatal("the file was damaged")
	}
	if err := s.Check(); err != nil {
		t.Errorf("the file is inconsistent: %v", err)
	}
	reports, _, err := s.Outbox()
	must(t, err)
	reported := map[uint64]uint64{}
	for _, r := range reports {
		reported[r.State.AppKey] = r.State.ReleaseKey
	}
	for app := uint64(1); app <= crashApps; app++ {
		id := protocol.AppID{Key: app, Stage: protocol.Prod}
		w, _, err := s.Wanted(id)
		must(t, err)
		if want := acknowledged["wish"][app]; w.Seq < want {
			t.Errorf("app %d: wish %d was acknowledged, %d is stored", app, want, w.Seq)
		}
		a, _, err := s.Actual(id)
		must(t, err)
		if want := acknowledged["save"][app]; a.ReleaseKey < want {
			t.Errorf("app %d: step %d was acknowledged, %d is stored", app, want, a.ReleaseKey)
		}
		if a.ReleaseKey != reported[app] {
			t.Errorf("app %d: the state is of step %d, its report of step %d", app, a.ReleaseKey, reported[app])
		}
	}
}

func TestAFileCutShortIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	s := open(t, path)
	for i := range uint64(200) {
		must(t, s.Save(have(1+i, protocol.Running), report(1+i, protocol.Running)))
	}
	must(t, s.Close())
	info, err := os.Stat(path)
	must(t, err)
	must(t, os.Truncate(path, info.Size()/2+77))
	s = open(t, path)
	if !s.Rebuilt() {
		t.Error("Rebuilt: got false; want true")
	}
	if all, err := s.AllActual(); err != nil || len(all) != 0 {
		t.Errorf("AllActual: got %d records, %v; want none", len(all), err)
	}
	must(t, s.Save(have(1, protocol.Running)))
	kept, err := filepath.Glob(path + ".damaged-*")
	if err != nil || len(kept) != 1 {
		t.Errorf("set aside: got %v, %v; want one file", kept, err)
	}
}
