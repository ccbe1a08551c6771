package main

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"reagent/internal/testenv"
	"reagent/protocol"
	studio "reagent/studio/router"
)

// settings are the flags that say how thorough a run is.
type settings struct {
	starts, cuts, runs int
	calls              int           // of one kind, one after another
	load               time.Duration // of 64 callers at once, a round
	idle               time.Duration // before memory and CPU are read
	agent              string        // binary; "" = built from this module
}

// A lab is what measurements share: one router that sees everything and one
// binary of the agent. Measurements run one after another, so that none disturbs
// the next.
type lab struct {
	settings
	progress progress
	serial   string // what the serial numbers of this run's devices begin with
	binary   string
	witness  *witness
	router   *router

	devices    uint64
	procedures int // that the agent registers; 0 until learnt
}

// openLab sets everything up, to be gone with the stage.
func openLab(t *stage, s settings, p progress) *lab {
	l := &lab{settings: s, progress: p, serial: "bench-" + random(4), witness: newWitness()}
	l.binary = filepath.Join(t.TempDir(), "reagent")
	var err error
	if l.agent != "" {
		err = copyProgram(l.binary, l.agent)
	} else {
		p.say("build the agent")
		err = build(t, l.binary, "reagent/cmd/reagent")
	}
	if err != nil {
		t.Fatal(err)
	}
	if l.router, err = serveRouter(newBackend(l.witness)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.router.kill)
	return l
}

// build makes a command of this module as it is shipped, in a file of its own:
// pages that other processes of the same file share would count in part only.
func build(t *stage, to, what string) error {
	cmd := exec.CommandContext(t.ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", to, what)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", what, err, said)
	}
	return dropFromCache(to)
}

// copyProgram is for a binary that somebody else has built.
func copyProgram(to, from string) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.WriteFile(to, text, 0o755); err != nil {
		return err
	}
	return dropFromCache(to)
}

// version asks the binary what it is.
func (l *lab) version(t *stage) string {
	said, err := exec.CommandContext(t.ctx, l.binary, "-version").Output()
	if err != nil {
		t.Fatalf("%s -version: %v", l.binary, err)
	}
	return strings.TrimSpace(string(said))
}

// newDevice makes a device that nobody has seen before and that dials address.
// registry is where its apps come from.
func (l *lab) newDevice(t *stage, address, registry string) *testenv.Device {
	l.devices++
	who := studio.Principal{Role: protocol.RoleDevice, Secret: random(24), Serial: fmt.Sprintf("%s-%d", l.serial, l.devices)}
	l.router.guests.add(protocol.DeviceAuthID(swarmKey, l.devices), who)
	content, err := json.Marshal(map[string]any{
		"name": deviceName, "serial_number": who.Serial, "secret": who.Secret,
		"swarm_key": swarmKey, "device_key": l.devices, "swarm_name": swarmName, "swarm_owner_name": ownerName,
		"device_endpoint_url": "ws://" + address + "/ws",
		"docker_registry_url": registry + "/", "docker_main_repository": repository,
	})
	if err != nil {
		t.Fatal(err)
	}
	return testenv.NewDevice(t, content)
}

const repository = "apps/"

// forget takes away what the agent has made on a device, so that its next start
// is a first one.
func forget(t *stage, d *testenv.Device) {
	for _, path := range []string{d.AgentDir(), d.AppsDir(), d.LogFile()} {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// An agent is a process that was started at an instant.
type agent struct {
	*testenv.Process
	begun time.Time
	mark  int // of the witness
}

// start runs the agent with the product's defaults, but for the folders.
func (l *lab) start(t *stage, d *testenv.Device) agent {
	mark, begun := l.witness.mark(), time.Now()
	return agent{d.Start(t, l.binary), begun, mark}
}

// connect starts the agent and waits until it is on-line wholly.
func (l *lab) connect(t *stage, d *testenv.Device) agent {
	a := l.start(t, d)
	l.awaitProcedures(t, a.mark)
	l.await(t, a.mark, connected)
	return a
}

func (a agent) stop() { a.Terminate(syscall.SIGTERM, patience) }

var connected = sighting{Kind: status, Name: string(protocol.Connected)}

// await waits for a sighting after mark and says when it was.
func (l *lab) await(t *stage, mark int, wanted sighting) time.Time {
	return l.awaitNth(t, mark, 1, wanted)
}

func (l *lab) awaitNth(t *stage, mark, n int, wanted sighting) time.Time {
	s, err := l.witness.await(t.ctx, mark, n, wanted, stepLimit)
	if err != nil {
		t.Fatal(err)
	}
	return s.At
}

// stepLimit is how long one step may take before the run is called broken.
const stepLimit = time.Minute

// awaitProcedures waits until the agent has registered everything after mark,
// and says when that was. How much that is shows at the first time: all is
// registered before CONNECTED, so what was seen a moment later is all.
func (l *lab) awaitProcedures(t *stage, mark int) time.Time {
	if l.procedures == 0 {
		l.await(t, mark, connected)
		l.rest(t, 300*time.Millisecond)
		seen, _ := l.witness.since(mark)
		for _, s := range seen {
			if s.Kind == registered {
				l.procedures++
			}
		}
		if l.procedures == 0 {
			t.Fatal("the agent says CONNECTED and has registered nothing")
		}
	}
	return l.awaitNth(t, mark, l.procedures, sighting{Kind: registered})
}

// rest lets time pass in which nothing is to be seen.
func (l *lab) rest(t *stage, d time.Duration) {
	select {
	case <-time.After(d):
	case <-t.ctx.Done():
		t.Fatal(t.ctx.Err())
	}
}

// random is the text of so many random bytes.
func random(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}
