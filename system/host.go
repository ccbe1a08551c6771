package system

import (
	"bytes"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

// A Host is the machine. Make it with New.
type Host struct {
	root string // what its files are read below; "/" but in tests
	name func() string

	cpu   meter
	gpu   recent[bool]
	lanIP recent[string]
}

// New makes a Host of this machine. Nothing is read before somebody asks.
func New() *Host { return at(string(filepath.Separator)) }

func at(root string) *Host {
	h := &Host{root: root}
	h.name = sync.OnceValue(h.longName)
	return h
}

func (h *Host) path(name string) string { return filepath.Join(h.root, filepath.FromSlash(name)) }

// OS is the long name of the operating system: its family, the distribution, the
// distribution's version and the kernel's, such as
// "linux debian 13.3 6.1.0-28-amd64". It is found out once.
func (h *Host) OS() string { return h.name() }

func (h *Host) longName() string {
	platform, version := h.platform()
	parts := []string{runtime.GOOS, platform, version, h.kernel()}
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), " ")
}

// Boot names this start of the system, another one after each reboot; "" where
// the system does not tell.
func (h *Host) Boot() string {
	id, err := os.ReadFile(h.path("/proc/sys/kernel/random/boot_id"))
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(id))
}

// GPU reports whether the machine has an NVIDIA GPU whose driver is installed,
// so that containers get NVIDIA's runtime (life §9.4). Drivers come and go while
// the agent runs; ask each time.
func (h *Host) GPU() bool { return h.gpu.get(h.findGPU) }

func (h *Host) findGPU() bool {
	if h.exists("/usr/lib/nvidia") {
		return true
	}
	// The linker's cache is what `ldconfig -p` prints.
	if cache, err := os.ReadFile(h.path("/etc/ld.so.cache")); err == nil && bytes.Contains(cache, []byte("libnvidia")) {
		return true
	}
	model, err := os.ReadFile(h.path("/proc/device-tree/model"))
	return err == nil && bytes.Contains(bytes.ToLower(model), []byte("nvidia"))
}

// sharedPaths are what every app gets from the host, where it is there (life §3.3).
var sharedPaths = []string{
	"/sys/bus/w1/devices", // one-wire sensors
	"/usr/local/cuda",     // NVIDIA's tool kit
}

// SharedPaths lists the folders of this machine that every app gets at the same
// place.
func (h *Host) SharedPaths() []string {
	found := []string{}
	for _, p := range sharedPaths {
		if h.exists(p) {
			found = append(found, p)
		}
	}
	return found
}

func (h *Host) exists(name string) bool {
	_, err := os.Stat(h.path(name))
	return err == nil
}

// A recent value is found out again when somebody asks for it and it is no longer
// fresh, so that those who ask at each event of the engine cost nothing.
type recent[T any] struct {
	mu    sync.Mutex
	at    time.Time
	value T
}

const fresh = 2 * time.Second

func (r *recent[T]) get(find func() T) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.at.IsZero() || time.Since(r.at) >= fresh {
		r.value, r.at = find(), time.Now()
	}
	return r.value
}
