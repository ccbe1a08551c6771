package system

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"reagent/filesystem"
)

// An Upkeep bounds what the machine itself writes: the logs of the engine's
// containers, the journal, packages that were downloaded (life §10.2, §10.3). It
// changes files of the machine and starts its programs, so it is for devices
// whose policy says so, and for Linux. Its methods may be called from any
// goroutine, but the same one not twice at once.
type Upkeep struct {
	root string
	run  func(ctx context.Context, program string, args ...string) error
}

// NewUpkeep makes one for this machine. It changes nothing yet.
func NewUpkeep() *Upkeep { return &Upkeep{root: "/", run: runProgram} }

const journalBound = "[Journal]\nSystemMaxUse=200M\n"

// BoundLogs makes engine and journal bound their logs where nobody has decided
// otherwise. The engine reads its settings at its next start; nobody restarts it.
func (u *Upkeep) BoundLogs(ctx context.Context) error {
	engine := u.boundEngine(filepath.Join(u.root, "etc/docker/daemon.json"))
	return errors.Join(engine, u.boundJournal(ctx))
}

// boundEngine adds what is missing to the engine's settings. Settings that it
// could not read, or that choose another kind of log, stay as they are.
func (u *Upkeep) boundEngine(path string) error {
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("engine's settings: %w", err)
	}
	settings := map[string]json.RawMessage{}
	if len(bytes.TrimSpace(text)) > 0 {
		if err := json.Unmarshal(text, &settings); err != nil || settings == nil {
			return fmt.Errorf("engine's settings in %s are no JSON object; they are left alone: %w", path, err)
		}
	}
	driver, known := settings["log-driver"]
	if known && string(bytes.TrimSpace(driver)) != `"json-file"` {
		return nil // its options are others
	}
	before := len(settings)
	for key, value := range map[string]string{
		"log-driver": `"json-file"`,
		"log-opts":   `{"max-size": "10m", "max-file": "3"}`,
	} {
		if _, there := settings[key]; !there {
			settings[key] = json.RawMessage(value)
		}
	}
	if len(settings) == before {
		return nil
	}
	out, err := json.MarshalIndent(settings, "", "  ")
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = filesystem.Write(path, append(out, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("bound the logs of containers: %w", err)
	}
	return nil
}

func (u *Upkeep) boundJournal(ctx context.Context) error {
	configured := filepath.Join(u.root, "etc/systemd")
	if _, err := os.Stat(configured); err != nil {
		return nil // no systemd, no journal
	}
	path := filepath.Join(configured, "journald.conf.d", "10-ironflock.conf") // the contract's name
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	changed := false
	if err == nil {
		changed, err = filesystem.WriteIfChanged(path, []byte(journalBound), 0o644)
	}
	if err == nil && changed {
		err = u.run(ctx, "systemctl", "restart", "systemd-journald")
	}
	if err != nil {
		return fmt.Errorf("bound the journal: %w", err)
	}
	return nil
}

// Clean frees what the journal has beyond 100 MB, and the packages that were
// downloaded to be installed. A tool that is not there has left nothing behind.
func (u *Upkeep) Clean(ctx context.Context) error {
	return errors.Join(
		u.run(ctx, "journalctl", "--vacuum-size=100M"),
		u.run(ctx, "apt-get", "clean"),
	)
}

// runProgram runs a program of the machine to its end; one that is not installed
// is not missed.
func runProgram(ctx context.Context, program string, args ...string) error {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil
	}
	var said tail
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(slices.Insert(args, 0, program), " "), err, said)
	}
	return nil
}

// A tail keeps the end of what a program says.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	*t = append(*t, b...)
	if over := len(*t) - 1024; over > 0 {
		*t = append((*t)[:0], (*t)[over:]...)
	}
	return len(b), nil
}

func (t tail) String() string { return strings.ToValidUTF8(string(bytes.TrimSpace(t)), "?") }
