//go:build linux

package terminal

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// processes counts those whose command line holds text (with NULs between words).
func processes(t *testing.T, text string) (n int) {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines {
		if raw, err := os.ReadFile(line); err == nil && strings.Contains(string(raw), text) {
			n++
		}
	}
	return n
}
