package container

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/docker/docker/client"
	"github.com/rs/zerolog"
)

const (
	maxLine   = 1 << 20 // bytes of a line of output; the rest of it is dropped
	tailLines = 25      // of the output that an error shows
	maxTail   = 1 << 10 // bytes of each of them
)

// environment is what a back end gets of this process's: the way to other
// programs, and to the engine. A definition can put any of it into a container.
func environment(dockerHost string, getenv func(string) string) []string {
	env := []string{
		"COMPOSE_ANSI=never", "COMPOSE_PROGRESS=plain", "COMPOSE_MENU=false", "COMPOSE_COMPATIBILITY=false",
		"BUILDKIT_PROGRESS=plain", "DOCKER_CLI_HINTS=false",
	}
	keep := []string{"PATH", client.EnvOverrideCertPath}
	if runtime.GOOS == "windows" {
		keep = append(keep, "SystemRoot", "SystemDrive", "ComSpec", "PATHEXT", "ProgramData", "ProgramFiles")
	}
	for _, name := range keep {
		if value := getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	if dockerHost != "" {
		env = append(env, client.EnvOverrideHost+"="+dockerHost)
		if getenv(client.EnvOverrideCertPath) != "" && !isLocal(dockerHost) {
			env = append(env, client.EnvTLSVerify+"=1") // as the Engine does
		}
	}
	return env
}

// A room is what an operation has on the disk: a folder for temporary files that
// stands in for the user's home, so that nobody's Docker configuration is read
// or written.
type room struct {
	dir    string
	config *os.File // the configuration in memory, handed to the child; nil = none, or a file in dir
}

// nowhere stands in for a folder that could not be made: stopping an app must
// work on a full disk.
var nowhere = filepath.Join(os.DevNull, "none")

const roomPrefix = "reagent-compose-"

// removeRooms removes those that an earlier process was killed in.
func removeRooms(temp string) {
	if temp == "" {
		return
	}
	left, _ := filepath.Glob(filepath.Join(temp, roomPrefix+"*")) // errs for odd patterns only
	for _, dir := range left {
		_ = os.RemoveAll(dir) // holds nothing that matters
	}
}

// makeRoom makes the room of one operation. Only credentials need it; everything
// else goes without.
func makeRoom(temp string, plugins []string, credentials map[string]Credential) (*room, error) {
	if temp != "" {
		_ = os.MkdirAll(temp, 0o700) // the next line tells
	}
	dir, err := os.MkdirTemp(temp, roomPrefix)
	if err != nil {
		if dir, err = os.MkdirTemp("", roomPrefix); err != nil && len(credentials) > 0 {
			return nil, err
		}
	}
	r := &room{dir: dir}
	if dir == "" {
		return r, nil
	}
	config, err := dockerConfig(plugins, credentials)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "config.json")
	if r.config, err = inMemory(path, config); err != nil {
		err = os.WriteFile(path, config, 0o600) // in a folder of mode 0700
	}
	if err != nil && len(credentials) > 0 {
		r.remove(zerolog.Nop())
		return nil, err
	}
	return r, nil
}

func (r *room) remove(log zerolog.Logger) {
	if r.config != nil {
		r.config.Close()
	}
	if r.dir == "" {
		return
	}
	if err := os.RemoveAll(r.dir); err != nil {
		log.Warn().Err(err).Msg("temporary folder of compose is left behind")
	}
}

// dockerConfig is what Docker's programs read as their configuration.
func dockerConfig(plugins []string, credentials map[string]Credential) ([]byte, error) {
	type auth struct {
		Auth string `json:"auth"`
	}
	auths := map[string]auth{}
	for host, c := range credentials {
		auths[loginHost(host)] = auth{base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password))}
	}
	return json.Marshal(map[string]any{"auths": auths, "cliPluginsExtraDirs": plugins})
}

func (r *room) environment() []string {
	dir := r.dir
	if dir == "" {
		dir = nowhere
	}
	env := []string{"HOME=" + dir, "DOCKER_CONFIG=" + dir}
	if r.dir != "" {
		env = append(env, "TMPDIR="+dir, "TMP="+dir, "TEMP="+dir, "USERPROFILE="+dir)
	}
	return env
}

// run runs one process to its end. When ctx ends, the process is asked to end
// with all that it started, and killed after KillAfter.
func (c *Compose) run(ctx context.Context, path string, args []string, r *room, line func(string)) error {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(c.env[:len(c.env):len(c.env)], r.environment()...)
	cmd.Dir = cmp.Or(r.dir, string(filepath.Separator)) // not this process's, where a file .env may lie
	if r.config != nil {
		cmd.ExtraFiles = []*os.File{r.config}
	}
	out := &output{line: line}
	cmd.Stdout, cmd.Stderr = out, out
	all, err := newGroup(cmd)
	if err != nil {
		return err
	}
	defer all.close()
	cmd.Cancel = all.ask
	cmd.WaitDelay = c.cfg.KillAfter

	done := make(chan error)
	go func() {
		// Linux ends the child with the *thread* that started it.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			all.take()
			err = cmd.Wait()
		}
		done <- err
	}()
	err = <-done
	out.end()
	if ctx.Err() != nil || errors.Is(err, exec.ErrWaitDelay) {
		all.kill() // what the child started and did not end
	}
	if err != nil {
		return &exitError{err, out.tail}
	}
	return nil
}

// output takes a process's output apart into lines and keeps the last ones.
type output struct {
	line    func(string)
	pending []byte
	tail    []string
}

func (o *output) Write(p []byte) (int, error) {
	n := len(p)
	for {
		part, rest, whole := bytes.Cut(p, []byte("\n"))
		if room := maxLine - len(o.pending); len(part) > room {
			part = part[:room]
		}
		o.pending = append(o.pending, part...)
		if !whole {
			return n, nil
		}
		o.flush()
		p = rest
	}
}

func (o *output) end() {
	if len(o.pending) > 0 {
		o.flush()
	}
}

func (o *output) flush() {
	// Of what overwrote itself, the last counts, as on a terminal.
	text := strings.TrimRight(string(o.pending), "\r")
	text = text[strings.LastIndexByte(text, '\r')+1:]
	o.pending = o.pending[:0]
	if cap(o.pending) > 64<<10 {
		o.pending = nil
	}
	if o.line != nil {
		o.line(text)
	}
	if text = strings.TrimSpace(text); text == "" {
		return
	}
	if len(text) > maxTail {
		text = text[:maxTail] + "…"
	}
	if len(o.tail) == tailLines {
		o.tail = append(o.tail[:0], o.tail[1:]...)
	}
	o.tail = append(o.tail, text)
}

// An exitError is a process that failed, with the end of what it said.
type exitError struct {
	err  error
	tail []string
}

func (e *exitError) Error() string {
	if len(e.tail) == 0 {
		return e.err.Error()
	}
	return fmt.Sprintf("%v: %s", e.err, strings.Join(e.tail, "\n"))
}

func (e *exitError) Unwrap() error { return e.err }

// meaning is the error as one of ours. While images are built, all lines but
// the last are other programs' words.
func (e *exitError) meaning(verb string) error {
	lines := e.tail
	if (verb == verbBuild || verb == verbCheck) && len(lines) > 0 {
		lines = lines[len(lines)-1:]
	}
	switch m := meaning(errors.New(strings.Join(lines, "\n"))).(type) {
	case *PortError:
		return &PortError{Ports: m.Ports, Err: e}
	case *engineError:
		return &engineError{m.kind, e}
	}
	return e
}
