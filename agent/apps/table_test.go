package apps

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"reagent/protocol"
)

var rewrite = flag.Bool("update", false, "rewrite the golden files")

func TestEveryPairOfStatesIsDecided(t *testing.T) {
	var b strings.Builder
	fmt.Fprintln(&b, "# stage: from × wanted → step; a transient wish stands for the state in brackets")
	for _, stage := range []protocol.Stage{protocol.Dev, protocol.Prod} {
		for _, from := range protocol.States() {
			for _, wish := range protocol.States() {
				s, ok := transitions[stage][edge{from, wish.Settled()}]
				if !ok {
					t.Errorf("%s: %s × %s is not decided", stage, from, wish)
				}
				meant := ""
				if wish.Settled() != wish {
					meant = fmt.Sprintf(" (%s)", wish.Settled())
				}
				fmt.Fprintf(&b, "%-4s %-12s %-12s%s → %s\n", stage, from, wish, meant, s)
			}
		}
	}
	golden(t, "transitions.txt", b.String())
}

func TestNoStateIsADeadEnd(t *testing.T) {
	wishes := map[protocol.Stage][]protocol.State{
		protocol.Prod: {protocol.Present, protocol.Running, protocol.Removed, protocol.Uninstalled},
		protocol.Dev:  {protocol.Present, protocol.Running, protocol.Removed, protocol.Uninstalled, protocol.Built, protocol.Published},
	}
	// once are wishes for a deed, not for a state: it is done each time.
	once := []protocol.State{protocol.Built, protocol.Published}
	for stage, wishes := range wishes {
		for _, from := range protocol.States() {
			for _, wanted := range wishes {
				s := transitions[stage][edge{from, wanted}]
				met := from == wanted && !slices.Contains(once, wanted) || from.Gone() && wanted == protocol.Removed ||
					wanted == protocol.Present && (stage == protocol.Dev && from.Gone() || stage == protocol.Prod && slices.Contains(once, from))
				if (s == none) != met || s == refused {
					t.Errorf("%s: %s × %s → %s", stage, from, wanted, s)
				}
			}
		}
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs; go test -update rewrites it. Got:\n%s", path, got)
	}
}

func TestALongStepYieldsToTheWishesThatMakeItPointless(t *testing.T) {
	wish := func(target protocol.State, version string, update bool) protocol.AppRequest {
		return protocol.AppRequest{AppKey: 6, AppName: "web", Stage: protocol.Prod, Target: target, PresentVersion: "1", NewestVersion: version, RequestUpdate: update}
	}
	for _, c := range []struct {
		step         step
		doing, newer protocol.AppRequest
		want         bool
	}{
		{pull, wish(protocol.Running, "1", false), wish(protocol.Present, "1", false), false},
		{pull, wish(protocol.Running, "1", false), wish(protocol.Removed, "1", false), true},
		{pull, wish(protocol.Present, "1", false), wish(protocol.Uninstalled, "1", false), true},
		{run, wish(protocol.Running, "1", false), wish(protocol.Present, "1", false), true},
		{run, wish(protocol.Running, "1", false), wish(protocol.Running, "1", false), false},
		{update, wish(protocol.Running, "2", true), wish(protocol.Running, "2", true), false},
		{update, wish(protocol.Running, "2", true), wish(protocol.Running, "3", true), true},
		{update, wish(protocol.Running, "2", true), wish(protocol.Present, "2", false), true},
		{update, wish(protocol.Running, "2", true), wish(protocol.Removed, "2", true), true},
		{build, wish(protocol.Built, "", false), wish(protocol.Running, "", false), false},
		{build, wish(protocol.Built, "", false), wish(protocol.Built, "", false), false},
		{build, wish(protocol.Built, "", false), wish(protocol.Removed, "", false), true},
		{build, wish(protocol.Built, "", false), protocol.AppRequest{Target: protocol.Present, CancelTransition: true}, true},
		{publish, wish(protocol.Published, "", false), wish(protocol.Present, "", false), false},
		{publish, wish(protocol.Published, "", false), wish(protocol.Uninstalled, "", false), true},
	} {
		if got := yields[c.step](c.doing, c.newer); got != c.want {
			t.Errorf("%s for %+v yields to %+v: %t, want %t", c.step, c.doing, c.newer, got, c.want)
		}
	}
	for _, short := range []step{stop, remove, uninstall, settle, cancel} {
		if yields[short] != nil {
			t.Errorf("%s is short and must not be interrupted", short)
		}
	}
}
