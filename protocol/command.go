package protocol

import (
	"strings"
	"time"
)

// Bounds of a command that run_command runs.
const (
	CommandTimeout    = time.Minute
	MaxCommandTimeout = time.Hour
	CommandOutput     = 1 << 20 // bytes of both streams together
	MaxCommandOutput  = 16 << 20
	MaxCommandChunk   = 64 << 10 // bytes of one progressive result
)

// RunCommandArgs is the argument of run_command.
type RunCommandArgs struct {
	ID        string   // a UUID of the caller's choice
	Argv      []string // or …
	Shell     string   // … a line for the shell; neither = the result of ID is asked for
	Container string   // runs inside this one; "" = on the device
	Cwd       string
	Env       map[string]string
	Timeout   time.Duration
	MaxOutput int
	Base64    bool // output as base64, else as text
	Detach    bool // the end of the call is not the command's
}

// Fetches tells whether nothing is to be run.
func (a RunCommandArgs) Fetches() bool { return len(a.Argv) == 0 && a.Shell == "" }

// ReadDict reads the argument.
func (a *RunCommandArgs) ReadDict(d map[string]any) (err error) {
	if a.ID, err = commandID(d); err != nil {
		return err
	}
	if v := d["argv"]; v != nil {
		list, ok := AsList(v)
		if !ok || len(list) == 0 {
			return invalid("argv: a list of texts is needed, the program first")
		}
		for _, v := range list {
			word, ok := Text(v)
			if !ok || strings.ContainsRune(word, 0) {
				return invalid("argv: a list of texts is needed, the program first")
			}
			a.Argv = append(a.Argv, word)
		}
		if a.Argv[0] == "" {
			return invalid("argv: the program has no name")
		}
	}
	for _, text := range []struct {
		name string
		to   *string
	}{{"shell", &a.Shell}, {"container_name", &a.Container}, {"cwd", &a.Cwd}} {
		v, ok := Text(d[text.name])
		if !ok && d[text.name] != nil || strings.ContainsRune(v, 0) {
			return invalid("%s: a text is needed", text.name)
		}
		*text.to = v
	}
	if a.Argv != nil && a.Shell != "" {
		return invalid("argv or shell, not both")
	}
	if v := d["env"]; v != nil {
		env, ok := AsDict(v)
		if !ok {
			return invalid("env: an object of texts is needed")
		}
		a.Env = map[string]string{}
		for name, v := range env {
			value, ok := Text(v)
			if !ok || name == "" || strings.ContainsAny(name, "=\x00") || strings.ContainsRune(value, 0) {
				return invalid("env: an object of texts is needed, and no = in a name")
			}
			a.Env[name] = value
		}
	}
	ms, err := bounded(d, "timeout_ms", uint64(CommandTimeout/time.Millisecond), uint64(MaxCommandTimeout/time.Millisecond))
	if err != nil {
		return err
	}
	a.Timeout = time.Duration(ms) * time.Millisecond
	most, err := bounded(d, "max_output", CommandOutput, MaxCommandOutput)
	if err != nil {
		return err
	}
	a.MaxOutput = int(most)
	switch encoding, ok := Text(d["encoding"]); {
	case encoding == "base64":
		a.Base64 = true
	case d["encoding"] != nil && (!ok || encoding != "utf8"):
		return invalid(`encoding: "utf8" or "base64" is needed`)
	}
	if v := d["detach"]; v != nil {
		var ok bool
		if a.Detach, ok = v.(bool); !ok {
			return invalid("detach: true or false is needed")
		}
	}
	return nil
}

// StopCommandArgs is the argument of stop_command.
type StopCommandArgs struct {
	ID        string
	Container string // in which it runs; "" = wherever it does
}

// ReadDict reads the argument.
func (a *StopCommandArgs) ReadDict(d map[string]any) (err error) {
	if a.ID, err = commandID(d); err != nil {
		return err
	}
	var ok bool
	if a.Container, ok = Text(d["container_name"]); !ok && d["container_name"] != nil {
		return invalid("container_name: a text is needed")
	}
	return nil
}

// commandID reads a UUID, in any case.
func commandID(d map[string]any) (string, error) {
	id, _ := Text(d["id"])
	id = strings.ToLower(id)
	if len(id) != 36 || strings.IndexFunc(id, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef-", r) }) >= 0 ||
		strings.Count(id, "-") != 4 || id[8] != '-' || id[13] != '-' || id[18] != '-' || id[23] != '-' {
		return "", invalid("id: a UUID of the caller's choice is needed")
	}
	return id, nil
}

// A CommandChunk is a progressive result of run_command.
type CommandChunk struct {
	Type   string `json:"type"` // "output"
	Seq    uint64 `json:"seq"`  // from 0
	Stream string `json:"stream"`
	Data   string `json:"data"`
}

// Wire is the chunk as it goes over the wire, made by hand: there are many.
func (c CommandChunk) Wire() map[string]any {
	return map[string]any{"type": c.Type, "seq": c.Seq, "stream": c.Stream, "data": c.Data}
}

// States in which a command ends.
const (
	CommandExited      = "exited"
	CommandSignaled    = "signaled"
	CommandTimedOut    = "timeout"
	CommandCanceled    = "canceled"
	CommandFailed      = "failed"      // it never ran
	CommandInterrupted = "interrupted" // the agent ended meanwhile
)

// A CommandEnd is the answer of run_command.
type CommandEnd struct {
	Type         string  `json:"type"` // "end"
	ID           string  `json:"id"`
	State        string  `json:"state"`
	ExitCode     *int    `json:"exit_code"` // nil unless it exited
	Signal       string  `json:"signal,omitempty"`
	Error        string  `json:"error,omitempty"`
	StdoutBytes  uint64  `json:"stdout_bytes"`
	StderrBytes  uint64  `json:"stderr_bytes"`
	DroppedBytes uint64  `json:"dropped_bytes"`
	Truncated    bool    `json:"truncated"`
	Started      string  `json:"started"`
	DurationMS   uint64  `json:"duration_ms"`
	Replayed     bool    `json:"replayed"`
	Stdout       *string `json:"stdout,omitempty"` // without progressive results, or when replayed
	Stderr       *string `json:"stderr,omitempty"`
}
