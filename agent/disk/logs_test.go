package disk

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"testing"

	"reagent/container"
)

// labelled are containers by id, with their labels.
type labelled map[string]map[string]string

func (l labelled) List(_ context.Context, want map[string]string) (found []container.Summary, err error) {
	for id, labels := range l {
		if maps.Equal(labels, want) {
			found = append(found, container.Summary{ID: id})
		}
	}
	return found, nil
}

func TestOnlyLongLogsOfOurContainersAreCut(t *testing.T) {
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	ours := map[string]string{"reagent.serial": "s-1"}
	engine := labelled{"long": ours, "short": ours, "linked": ours, "none": ours, "foreign": {"reagent.serial": "s-2"}}
	write := func(path string, size int64) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
	}
	log := func(id string) string { return filepath.Join(root, "containers", id, id+"-json.log") }
	before := map[string]int64{log("long"): longLog + 1, log("short"): longLog, log("foreign"): 2 * longLog, outside: 2 * longLog}
	for path, size := range before {
		write(path, size)
	}
	if err := os.MkdirAll(filepath.Dir(log("linked")), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, log("linked")); err != nil {
		t.Fatal(err)
	}
	won, err := cutLogs(t.Context(), engine, root, ours)
	if err != nil || won != longLog+1 {
		t.Errorf("cutLogs = %d, %v; want %d", won, err, longLog+1)
	}
	before[log("long")] = 0
	for path, want := range before {
		info, err := os.Stat(path)
		if err != nil || info.Size() != want {
			t.Errorf("%s has %v bytes (%v), want %d", filepath.Base(path), info, err, want)
		}
	}
	for what, call := range map[string]func() (uint64, error){
		"an engine elsewhere": func() (uint64, error) { return cutLogs(t.Context(), engine, "", ours) },
		"no label to go by":   func() (uint64, error) { return cutLogs(t.Context(), engine, root, nil) },
		"no such folder":      func() (uint64, error) { return cutLogs(t.Context(), engine, filepath.Join(root, "x"), ours) },
	} {
		if won, err := call(); won != 0 || err != nil {
			t.Errorf("%s: %d, %v; want nothing done", what, won, err)
		}
	}
}
