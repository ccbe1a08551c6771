package system

import (
	"bufio"
	"bytes"
	"os"
	"strings"
)

// platform reads which distribution this is. Debian's os-release knows only its
// major version; the point release stands in a file of its own.
func (h *Host) platform() (name, version string) {
	for _, file := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		if raw, err := os.ReadFile(h.path(file)); err == nil {
			release := parseRelease(raw)
			name, version = release["ID"], release["VERSION_ID"]
			break
		}
	}
	if name == "debian" || name == "raspbian" {
		if raw, err := os.ReadFile(h.path("/etc/debian_version")); err == nil {
			if text := strings.TrimSpace(string(raw)); text != "" {
				version = text
			}
		}
	}
	return name, version
}

// parseRelease reads the NAME=value lines of an os-release file.
func parseRelease(raw []byte) map[string]string {
	values := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(raw))
	for lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimSpace(lines.Text()), "=")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
			value = value[1 : n-1]
		}
		values[name] = value
	}
	return values
}

func (h *Host) kernel() string {
	raw, _ := os.ReadFile(h.path("/proc/sys/kernel/osrelease"))
	return string(raw)
}
