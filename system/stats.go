package system

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"

	"reagent/protocol"
)

// dockerApps is the partition that flashed images keep apps on.
const dockerApps = "/opt/reagent/docker-apps"

// Stats are the machine's figures of this instant (wire §6.1); what cannot be
// read is 0.
func (h *Host) Stats(ctx context.Context) protocol.Stats {
	s := protocol.Stats{CPUCount: runtime.NumCPU(), CPUUsage: h.cpu.usage(ctx)}
	if m, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		s.MemoryTotal, s.MemoryUsed, s.MemoryAvailable = m.Total, m.Used, m.Available
	}
	if d, err := disk.UsageWithContext(ctx, h.path("/")); err == nil {
		s.StorageTotal, s.StorageUsed, s.StorageFree = d.Total, d.Used, d.Free
	}
	if d, err := disk.UsageWithContext(ctx, h.path(dockerApps)); err == nil {
		s.DockerAppsTotal, s.DockerAppsUsed, s.DockerAppsFree = d.Total, d.Used, d.Free
		s.DockerAppsMounted = d.Total != s.StorageTotal
	}
	return s
}

// shortestLook is the least time between two looks at the processors: over less,
// a handful of clock ticks would pass for a load.
const shortestLook = time.Second

// A meter tells how busy the processors were between two looks. The zero value
// is ready; its first answer is the average since the machine started.
type meter struct {
	mu    sync.Mutex
	at    time.Time // of the last look
	last  cpuTime
	value float64 // percent
}

type cpuTime struct{ busy, all float64 } // seconds

func (m *meter) usage(ctx context.Context) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.at.IsZero() && time.Since(m.at) < shortestLook {
		return m.value
	}
	times, err := cpu.TimesWithContext(ctx, false)
	if err != nil || len(times) == 0 {
		return 0
	}
	m.look(time.Now(), sum(times[0]))
	return m.value
}

func (m *meter) look(now time.Time, t cpuTime) {
	busy, all := t.busy-m.last.busy, t.all-m.last.all
	if busy < 0 || all < 0 { // the counters began anew: a suspended or moved virtual machine
		busy, all = t.busy, t.all
	}
	m.at, m.last, m.value = now, t, 0
	if all > 0 {
		m.value = min(100*busy/all, 100)
	}
}

// sum counts a guest's time once: Linux has it in the user's time, too.
func sum(t cpu.TimesStat) cpuTime {
	busy := t.User + t.Nice + t.System + t.Irq + t.Softirq + t.Steal
	return cpuTime{busy, busy + t.Idle + t.Iowait}
}
