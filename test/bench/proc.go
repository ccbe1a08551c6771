package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"reagent/internal/testenv"
)

// A footprint is what a process costs at one instant.
type footprint struct {
	pss, anonymous, rss float64 // MiB
	ticks               float64 // of the CPU since its start
}

// microsecondsPerTick is the same on every Linux that Go runs on (USER_HZ).
const microsecondsPerTick = 1e6 / 100

// look is readFootprint of a process that has to be there.
func look(t *stage, pid int) footprint {
	f, err := readFootprint(pid)
	if err != nil {
		t.Fatalf("look at process %d: %v", pid, err)
	}
	return f
}

// readFootprint looks at a process. PSS counts a page that n processes share as
// an nth of it; of an agent alone on its binary it equals what is resident.
func readFootprint(pid int) (footprint, error) {
	var f footprint
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return f, err
	}
	sizes, err := parseRollup(string(rollup))
	if err != nil {
		return f, err
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return f, err
	}
	ticks, err := parseTicks(string(stat))
	return footprint{pss: sizes["Pss"] / 1024, anonymous: sizes["Anonymous"] / 1024, rss: sizes["Rss"] / 1024, ticks: ticks}, err
}

// parseRollup reads the sizes of smaps_rollup, in KiB.
func parseRollup(text string) (map[string]float64, error) {
	sizes := map[string]float64{}
	for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
		name, rest, ok := strings.Cut(lines.Text(), ":")
		words := strings.Fields(rest)
		if !ok || len(words) != 2 || words[1] != "kB" {
			continue // the head names an address range
		}
		size, err := strconv.ParseFloat(words[0], 64)
		if err != nil {
			return nil, fmt.Errorf("%s in smaps_rollup: %w", name, err)
		}
		sizes[name] = size
	}
	for _, needed := range []string{"Pss", "Anonymous", "Rss"} {
		if _, ok := sizes[needed]; !ok {
			return nil, fmt.Errorf("no %s in smaps_rollup", needed)
		}
	}
	return sizes, nil
}

// parseTicks adds up what a process has spent in user and system mode.
func parseTicks(stat string) (float64, error) {
	// The name of the program may hold anything, so fields count from its end.
	end := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	const user, kernel = 14 - 3, 15 - 3 // the third field of proc(5) comes after the name
	if end < 0 || len(fields) <= kernel {
		return 0, fmt.Errorf("stat of a process is too short: %q", stat)
	}
	sum := 0.0
	for _, i := range []int{user, kernel} {
		ticks, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, fmt.Errorf("ticks of a process: %w", err)
		}
		sum += ticks
	}
	return sum, nil
}

// A machine is where a report was made: absolute figures hold there only.
type machine struct {
	OS     string `json:"os"`
	Arch   string `json:"arch"`
	Kernel string `json:"kernel"`
	CPUs   int    `json:"cpus"`
	Go     string `json:"go"`
	Engine string `json:"engine"` // version; "" = none answers
	// Load is how many processes wanted a CPU in the minute before the run.
	// Figures of a machine that others use, too, say little.
	Load float64 `json:"load"`
}

func thisMachine(t *stage) machine {
	engine := ""
	_ = perform(t.ctx, "engine", func(t *stage) { // none is no fault
		if v, err := testenv.Docker(t).API.ServerVersion(t.ctx); err == nil {
			engine = v.Version
		}
	})
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	loads, _ := os.ReadFile("/proc/loadavg")
	load, _, _ := strings.Cut(string(loads), " ")
	minute, _ := strconv.ParseFloat(load, 64) // 0 where there is no such file
	return machine{
		OS: runtime.GOOS, Arch: runtime.GOARCH, Kernel: strings.TrimSpace(string(kernel)),
		CPUs: runtime.NumCPU(), Go: runtime.Version(), Engine: engine,
		Load: minute,
	}
}

func (m machine) String() string {
	engine := "no engine"
	if m.Engine != "" {
		engine = "Docker Engine " + m.Engine
	}
	text := fmt.Sprintf("%s/%s, kernel %s, %d CPUs, %s, %s, load %.1f", m.OS, m.Arch, m.Kernel, m.CPUs, m.Go, engine, m.Load)
	if m.Load > float64(m.CPUs)/2 {
		text += "\nThe machine was busy with something else before the run: these figures say little."
	}
	return text
}
