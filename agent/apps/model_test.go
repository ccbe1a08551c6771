package apps

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rs/zerolog"
)

// TestWhateverHappensAnAppEndsAsWanted plays random sequences of wishes, lists,
// crashes, cuts and faults on a small engine and checks the rules of the design
// after every move. A failure prints the shortest sequence that was found.
//
// REAGENT_MODEL plays so many moves of further sequences; REAGENT_SEED plays one
// sequence again (make model).
func TestWhateverHappensAnAppEndsAsWanted(t *testing.T) {
	const length = 60
	seeds := make([]uint64, 0, 40)
	for seed := range uint64(40) {
		seeds = append(seeds, seed+1)
	}
	if n, err := strconv.Atoi(os.Getenv("REAGENT_MODEL")); err == nil {
		for range n / length {
			seeds = append(seeds, rand.Uint64())
		}
	}
	if seed, err := strconv.ParseUint(os.Getenv("REAGENT_SEED"), 10, 64); err == nil {
		seeds = []uint64{seed}
	}
	for _, seed := range seeds {
		moves := draw(seed, length)
		at, problems, story := play(t, moves)
		if problems == "" {
			continue
		}
		t.Logf("seed %d fails at move %d: %s", seed, at, problems)
		moves, problems, story = shorten(t, moves[:at+1], problems, story)
		t.Fatalf("REAGENT_SEED=%d fails; %d moves suffice:\n%s\n%s", seed, len(moves), problems, story)
	}
}

// play performs moves in a world of their own until something is wrong.
func play(t *testing.T, list []move) (at int, problems, story string) {
	dir, err := os.MkdirTemp(memory(), "reagent-model-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		w := newWorld(dir, zerolog.Nop())
		if err := w.begin(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := w.end(); err != nil {
				t.Error(err)
			}
		}()
		end := move{kind: "faults end", seed: 1}
		for i, m := range append(list[:len(list):len(list)], end) {
			at = min(i, len(list)-1)
			what := moves[m.kind].do(w, rand.New(rand.NewPCG(m.seed, 1)))
			synctest.Wait()
			w.check()
			fmt.Fprintf(&log, "%3d %s: %s\n", i, m.kind, what)
			if len(w.studio.problems) > 0 {
				problems = strings.Join(w.studio.problems, "\n")
				story = log.String() + w.describe()
				return
			}
		}
	})
	return at, problems, story
}

// shorten drops moves as long as what is left fails, too.
func shorten(t *testing.T, list []move, problems, story string) ([]move, string, string) {
	for size := len(list) / 2; size > 0; size /= 2 {
		for from := 0; from+size <= len(list); {
			fewer := append(append([]move{}, list[:from]...), list[from+size:]...)
			failed := false
			for range 2 { // workers race each other: not every play is the same
				at, p, s := play(t, fewer)
				if p != "" {
					list, problems, story, failed = fewer[:min(at+1, len(fewer))], p, s, true
					break
				}
			}
			if !failed {
				from += size
			}
		}
	}
	return list, problems, story
}

// memory is where files cost no disk: what the model kills is the process, not
// the power.
func memory() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}
