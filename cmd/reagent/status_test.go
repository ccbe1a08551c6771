package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"reagent/config"
	"reagent/protocol"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func sampleStatus() protocol.AgentStatus {
	return protocol.AgentStatus{
		Version: "1.2.3", PID: 4711, Started: noon.Add(-50 * time.Hour), Updated: noon.Add(-5 * time.Minute),
		Name: "press-07", Serial: "0b0f3f0e",
		State: "offline", Since: noon.Add(-90 * time.Second), NextTry: noon.Add(12 * time.Second), Router: "wss://router.example.test/ws-re-dev", Reason: "connection refused\x1b[2J\ttwice",
		Engine: protocol.EngineStatus{Reachable: true, Version: "20.10.24"}, Compose: "/usr/libexec/docker/cli-plugins/docker-compose",
		Disks: []protocol.DiskStatus{{Name: "container engine", Path: "/var/lib/docker", Level: protocol.DiskLow, Free: 2_100_000_000, Total: 31_000_000_000}},
		Apps: []protocol.AppStatus{
			{AppKey: 7, Stage: protocol.Prod, Name: "web", State: protocol.Running, Version: "1.0.0"},
			{AppKey: 1208, Stage: protocol.Dev, Name: "a-longer-name", State: protocol.Failed, Error: "pull: no such image"},
		},
	}
}

func TestStatusIsATableThatCannotSteerTheTerminal(t *testing.T) {
	var b bytes.Buffer
	stale := sampleStatus()
	stale.Compose, stale.Engine, stale.Apps = "", protocol.EngineStatus{Reason: "no such socket"}, nil
	for _, s := range []config.LiveStatus{{AgentStatus: sampleStatus(), Running: true}, {AgentStatus: stale}} {
		if err := printStatus(&b, s, noon); err != nil {
			t.Fatal(err)
		}
		b.WriteString("\n")
	}
	path := filepath.Join("testdata", "status.golden")
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", b.String(), want)
	}
}

func TestStatusOfAStaleFileSaysSo(t *testing.T) {
	d := newDevice(t)
	dir := d.env["REAGENT_AGENT_DIR"]
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := config.WriteStatus(filepath.Join(dir, "status.json"), sampleStatus()); err != nil {
		t.Fatal(err)
	}
	out, _, err := d.do(nil, "status")
	if err == nil || exitCode(err) != exitFailure || !strings.Contains(out, "does not run; process 4711") {
		t.Errorf("status = %q, %v", out, err)
	}
	out, _, err = d.do(nil, "status", "-agentDir", dir, "--output", "json")
	var got struct {
		protocol.AgentStatus
		Running *bool
	}
	if err == nil || json.Unmarshal([]byte(out), &got) != nil || got.Running == nil || *got.Running || got.PID != 4711 || len(got.Apps) != 2 {
		t.Errorf("status as JSON = %s, %v", out, err)
	}
}

func TestSpansHaveOneUnit(t *testing.T) {
	for d, want := range map[time.Duration]string{-time.Second: "0 s", 0: "0 s", 1500 * time.Millisecond: "2 s", 119 * time.Second: "119 s", 2 * time.Minute: "2 min", 119 * time.Minute: "119 min", 3 * time.Hour: "3 h", 47 * time.Hour: "47 h", 49 * time.Hour: "2 d"} {
		if got := span(d); got != want {
			t.Errorf("span(%v) = %q, want %q", d, got, want)
		}
	}
}
