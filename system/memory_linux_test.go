package system

import (
	"os"
	"regexp"
	"strconv"
	"testing"
)

func TestUnmappedCodeGoesOnRunning(t *testing.T) {
	before := resident(t)
	UnmapCode()
	after := resident(t)
	if after >= before {
		t.Errorf("resident file pages went from %d kB to %d kB", before, after)
	}
	for range 3 { // code that was dropped a moment ago is used again
		UnmapCode()
		if resident(t) == 0 {
			t.Fatal("nothing is mapped although it runs")
		}
	}
}

func resident(t *testing.T) int {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`RssFile:\s+(\d+) kB`).FindSubmatch(raw)
	if m == nil {
		t.Skip("this kernel does not tell the resident file pages")
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
