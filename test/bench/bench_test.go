package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQuantilesLieBetweenTheirNeighbours(t *testing.T) {
	for _, row := range []struct {
		of   sample
		q    float64
		want float64
	}{
		{sample{3}, 0.5, 3},
		{sample{4, 1, 3}, 0.5, 3},
		{sample{4, 1, 3, 2}, 0.5, 2.5},
		{sample{4, 1, 3, 2}, 0, 1},
		{sample{4, 1, 3, 2}, 1, 4},
		{sample{0, 10}, 0.99, 9.9},
	} {
		if got := row.of.quantile(row.q); math.Abs(got-row.want) > 1e-9 {
			t.Errorf("quantile %v of %v = %v, want %v", row.q, row.of, got, row.want)
		}
	}
	if got := sample(nil).median(); !math.IsNaN(got) {
		t.Errorf("median of nothing = %v, want none", got)
	}
	unsorted := sample{2, 1}
	unsorted.median()
	if unsorted[0] != 2 {
		t.Error("asking for a median changed the order of the sample")
	}
}

func TestGoalsAreMetAtTheirLimit(t *testing.T) {
	for _, row := range []struct {
		goal  goal
		value float64
		want  bool
	}{
		{goal{AtMost: 20}, 20, true},
		{goal{AtMost: 20}, 20.01, false},
		{goal{AtLeast: 0.9}, 0.9, true},
		{goal{AtLeast: 0.9}, 0.89, false},
		{goal{AtLeast: 0.9}, math.NaN(), false},
		{goal{AtMost: 20}, math.NaN(), false},
	} {
		if got := row.goal.met(row.value); got != row.want {
			t.Errorf("%+v met by %v = %v, want %v", row.goal, row.value, got, row.want)
		}
	}
}

func TestEveryGoalBelongsToAMeasurement(t *testing.T) {
	for name := range goals {
		part, _, _ := strings.Cut(name, ".")
		if _, err := choose(part); err != nil {
			t.Errorf("goal %s: %v", name, err)
		}
	}
}

func TestHighestIsWhatAProcessHeldInBetween(t *testing.T) {
	if _, err := os.Stat("/proc/self/smaps_rollup"); err != nil {
		t.Skip("the kernel of this machine does not tell")
	}
	ticks := make(chan time.Time)
	peak := watchPeak(os.Getpid(), ticks)
	held := bytes.Repeat([]byte{1}, 64<<20)
	now, err := readFootprint(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	ticks <- time.Now()
	ticks <- time.Now() // it is taken when the first look is over
	runtime.KeepAlive(held)
	held = nil
	debug.FreeOSMemory()
	if got := peak(); got.anonymous < 64 || got.anonymous < now.anonymous-1 {
		t.Errorf("highest %.1f MiB, and it held %.1f", got.anonymous, now.anonymous)
	}
}

func TestNumbersShowThreeDigits(t *testing.T) {
	for want, v := range map[string]float64{
		"0": 0, "7": 7, "28600": 28600, "28601": 28600.7, "189": 189.3, "12.5": 12.49, "1.10": 1.1, "0.165": 0.1649, "none": math.NaN(),
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %q, want %q", v, got, want)
		}
	}
}

// aReport has a figure of each form.
func aReport() *report {
	r := &report{Agent: "1.2.3", Taken: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC), Machine: machine{OS: "linux", Arch: "amd64", Kernel: "6.1", CPUs: 2, Go: "go1.26", Load: 1.5}}
	r.add(
		single("size.binary", "stripped static binary", "MB", 19.5),
		median("start.connected.fresh", "start → CONNECTED", "ms", sample{70, 60, 90}),
		single("calls.rate.ratio", "rate", "×", 0.95),
		median("start.none", "nothing", "ms", nil),
	)
	return r
}

func TestTableShowsGoalsAndWhatIsLeftOut(t *testing.T) {
	var out bytes.Buffer
	if err := aReport().table(&out, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"agent 1.2.3", "linux/amd64, kernel 6.1, 2 CPUs, go1.26, no engine, load 1.5", "was busy",
		"19.5 MB", "≤ 20 met", "70 ms", "60 – 90", "≤ 63 missed (a third of the reference's 189 ms)", "≥ 0.900 met",
		"left out: start.none: nothing was measured",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the table lacks %q:\n%s", want, out.String())
		}
	}
}

func TestReportComesBackFromItsFileAsItWas(t *testing.T) {
	path := filepath.Join(t.TempDir(), "build", "bench.json")
	want := aReport()
	if err := want.save(path); err != nil {
		t.Fatal(err)
	}
	got, err := loadReport(path)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("loaded %+v, want %+v", got, want)
	}
}

func TestComparisonShowsRatiosOfWhatBothHave(t *testing.T) {
	old, now := aReport(), aReport()
	now.Figures[0].Value = 39
	now.add(single("idle.pss.five", "PSS", "MiB", 12))
	var out bytes.Buffer
	if err := now.table(&out, old); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	for about, want := range map[string]string{"stripped static binary": "19.5 2.00", "start → CONNECTED": "70 1.00", "PSS": "–"} {
		found := false
		for _, line := range lines {
			if strings.Contains(line, about) {
				found = strings.HasSuffix(strings.Join(strings.Fields(line), " "), want)
			}
		}
		if !found {
			t.Errorf("the line of %q does not end in %q:\n%s", about, want, out.String())
		}
	}
}

func TestUnknownNamesAreRefused(t *testing.T) {
	for _, args := range [][]string{{"-only", "nothing"}, {"-compare", "/nonexistent"}, {"-frobnicate"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("bench %q went well", args)
		}
	}
	var out bytes.Buffer
	if err := run(t.Context(), []string{"-list"}, &out, io.Discard); err != nil || strings.Count(out.String(), "\n") != len(measurements) {
		t.Errorf("-list: %v, printed %q", err, out.String())
	}
}

func TestWitnessFindsTheNthOfWhatCameAfterTheMark(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWitness()
		w.note(sighting{Kind: registered, Name: "old"})
		mark := w.mark()
		done := make(chan sighting)
		go func() {
			s, err := w.await(t.Context(), mark, 2, sighting{Kind: registered}, time.Minute)
			if err != nil {
				t.Error(err)
			}
			done <- s
		}()
		for _, s := range []sighting{{Kind: registered, Name: "a"}, {Kind: status, Name: "b"}, {Kind: registered, Name: "c"}} {
			synctest.Wait()
			w.note(s)
		}
		if got := <-done; got.Name != "c" {
			t.Errorf("the second registration after the mark is %q, want c", got.Name)
		}
		if _, err := w.await(t.Context(), mark, 3, sighting{Kind: registered}, time.Minute); err == nil {
			t.Error("a third registration was found")
		}
	})
}

func TestStageCleansUpBackwardsAfterAFault(t *testing.T) {
	var order []string
	err := perform(t.Context(), "stage", func(s *stage) {
		s.Cleanup(func() { order = append(order, "first"); s.Errorf("again") })
		s.Cleanup(func() { order = append(order, "second"); s.Fatal("late") })
		s.Logf("a hint")
		s.Fatalf("broken %d", 7)
		order = append(order, "not reached")
	})
	if want := []string{"second", "first"}; !reflect.DeepEqual(order, want) {
		t.Errorf("order %q, want %q", order, want)
	}
	for _, want := range []string{"broken 7", "late", "again", "a hint"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v lacks %q", err, want)
		}
	}
}

func TestStageTellsWhyItWasLeft(t *testing.T) {
	if err := perform(t.Context(), "stage", func(s *stage) { s.Skipf("no %s", "engine") }); !errors.Is(err, errSkipped) || !strings.Contains(err.Error(), "no engine") {
		t.Errorf("skipped: %v", err)
	}
	if err := perform(t.Context(), "stage", func(*stage) { panic("boom") }); err == nil || !strings.Contains(err.Error(), "boom") {
		t.Errorf("panicked: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := perform(ctx, "stage", func(s *stage) { cancel(); s.Fatal("a consequence") }); !errors.Is(err, context.Canceled) || strings.Contains(err.Error(), "consequence") {
		t.Errorf("interrupted: %v", err)
	}
	if err := perform(t.Context(), "stage", func(s *stage) { s.TempDir() }); err != nil {
		t.Errorf("nothing failed: %v", err)
	}
}

func TestFootprintIsRead(t *testing.T) {
	sizes, err := parseRollup("00400000-7ffd000 ---p 00000000 00:00 0 [rollup]\nRss:  20480 kB\nPss:   10240 kB\nAnonymous:   512 kB\n")
	if err != nil || sizes["Pss"] != 10240 || sizes["Anonymous"] != 512 {
		t.Errorf("sizes %v, %v", sizes, err)
	}
	if _, err := parseRollup("Rss: 1 kB\n"); err == nil {
		t.Error("a rollup without PSS was read")
	}
	ticks, err := parseTicks("42 (a ) b) S 1 42 42 0 -1 4194560 100 0 0 0 7 5 0 0 20 0 8 0 100 1 1\n")
	if err != nil || ticks != 12 {
		t.Errorf("ticks %v, %v; want 12", ticks, err)
	}
	for _, bad := range []string{"", "42 (a) S 1", "42 (a) S 1 42 42 0 -1 4194560 100 0 0 0 x 5 0"} {
		if _, err := parseTicks(bad); err == nil {
			t.Errorf("ticks were read from %q", bad)
		}
	}
}

// TestRouterThatWasKilledComesBackOnItsPort also holds that a kill leaves no
// connection that still works.
func TestRouterThatWasKilledComesBackOnItsPort(t *testing.T) {
	w := newWitness()
	r, err := serveRouter(newBackend(w))
	if err != nil {
		t.Fatal(err)
	}
	defer r.kill()
	for range 2 {
		mark := w.mark()
		session, err := r.join(t.Context(), "system")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.await(t.Context(), mark, 1, sighting{Kind: joined, Name: "system"}, 5*time.Second); err != nil {
			t.Error(err)
		}
		addr := r.addr
		r.kill()
		select {
		case <-session.Done():
		case <-time.After(5 * time.Second):
			t.Error("a session outlived its router")
		}
		_ = session.Close()
		if err := r.serve(); err != nil {
			t.Fatal(err)
		}
		if r.addr != addr {
			t.Errorf("the router came back on %s, want %s", r.addr, addr)
		}
	}
}
