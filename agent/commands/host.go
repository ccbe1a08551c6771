package commands

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"reagent/internal/proctree"
	"reagent/protocol"
)

// orShell makes a program of a line for the shell.
func orShell(line string, argv []string, inContainer bool) (string, []string) {
	switch {
	case line == "":
		return "", argv
	case runtime.GOOS == "windows" && !inContainer:
		return "", []string{"cmd", "/c", line}
	}
	return "", []string{"/bin/sh", "-c", line}
}

// here is a program on this machine.
type here struct {
	cmd   *exec.Cmd
	pipes [2]*os.File
	mark  string // in the environment of all that it starts, and of nobody else
	grace time.Duration
	group group

	reaped chan struct{} // closed when it has ended; how is in state
	state  *os.ProcessState
	lost   chan struct{} // closed when nobody waits for it any more
	once   sync.Once
}

// Variable is in the environment of all that a command starts, so that its end and
// another life find them. An agent that a command starts is not the command's, and has to
// take it out of its own.
const Variable = "REAGENT_COMMAND"

func markOf(id string) string { return Variable + "=" + id }

// Whether anybody wants to know what a program says on its second stream.
const (
	quiet = false
	loud  = true
)

// startHere starts a program on this machine. The calling goroutine stays on its
// thread as long as the program runs.
func startHere(a protocol.RunCommandArgs, mark string, grace time.Duration, both bool) (_ *here, err error) {
	env := append(environment(a.Env), mark)
	path, err := find(a.Argv[0], env, a.Cwd)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: path, Args: a.Argv, Env: env, Dir: a.Cwd}
	if cmd.Dir == "" {
		cmd.Dir = home(env)
	} else if info, err := os.Stat(cmd.Dir); err != nil || !info.IsDir() { // else the program is said to be missing
		return nil, fmt.Errorf("cwd: there is no folder %s", cmd.Dir)
	}
	p := &here{cmd: cmd, mark: mark, grace: grace, reaped: make(chan struct{}), lost: make(chan struct{})}
	if p.group, err = newGroup(cmd); err != nil {
		return nil, err
	}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			p.close()
			p.group.close()
		}
	}()
	for i, to := range []*io.Writer{&cmd.Stdout, &cmd.Stderr} {
		if i > 0 && !both {
			break
		}
		ours, other, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		p.pipes[i], *to, theirs = ours, other, append(theirs, other)
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p.group.take()
	proctree.Ordinary(cmd.Process.Pid)
	go func() { // ends with the program: nobody else can reap it
		defer close(p.reaped)
		_ = cmd.Wait() // what it says is in the state
		p.state = cmd.ProcessState
	}()
	return p, nil
}

func (p *here) output(stdout, stderr func([]byte)) {
	var both sync.WaitGroup
	for i, to := range []func([]byte){stdout, stderr} {
		if p.pipes[i] == nil {
			continue
		}
		both.Go(func() {
			part := make([]byte, 32<<10)
			for {
				n, err := p.pipes[i].Read(part)
				if n > 0 {
					to(part[:n])
				}
				if err != nil {
					return
				}
			}
		})
	}
	both.Wait()
}

func (p *here) wait() ending {
	select {
	case <-p.reaped:
	case <-p.lost:
		return ending{err: errors.New("it does not end")}
	}
	e := ending{code: p.state.ExitCode(), signal: signalOf(p.state)}
	if !p.state.Success() {
		e.text = p.state.String()
	}
	return e
}

func (p *here) end(ctx context.Context) error {
	err := p.group.end(ctx, p.mark, p.grace)
	if err != nil {
		p.giveUp()
	}
	return err
}

func (p *here) giveUp() { p.once.Do(func() { close(p.lost) }) }

// close lets go of the output, which ends output.
func (p *here) close() {
	for _, pipe := range p.pipes {
		if pipe != nil {
			_ = pipe.Close()
		}
	}
	select {
	case <-p.reaped:
		p.group.close()
	default:
	}
}

// environment is what a login would give: nothing of the agent's own settings.
func environment(extra map[string]string) []string {
	all := map[string]string{}
	for _, name := range passedOn {
		if value, there := os.LookupEnv(name); there {
			all[name] = value
		}
	}
	if runtime.GOOS != "windows" {
		all["PATH"] = cmp.Or(all["PATH"], "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
		if me, err := user.Current(); err == nil {
			all["HOME"], all["USER"], all["LOGNAME"] = me.HomeDir, me.Username, me.Username
		}
		all["SHELL"] = "/bin/sh"
	}
	for name, value := range extra {
		all[name] = value
	}
	env := make([]string, 0, len(all))
	for name, value := range all {
		env = append(env, name+"="+value)
	}
	return env
}

// home is where a command starts that says nothing else.
func home(env []string) string {
	if dir := lookup(env, "HOME"); dir != "" {
		if info, err := os.Stat(dir); err == nil && info.IsDir() {
			return dir
		}
	}
	return string(filepath.Separator)
}

func lookup(env []string, name string) string {
	for _, entry := range env {
		if value, ok := strings.CutPrefix(entry, name+"="); ok {
			return value
		}
	}
	return ""
}

// find finds a program as a shell with this environment would.
func find(name string, env []string, cwd string) (string, error) {
	if strings.ContainsRune(name, filepath.Separator) || runtime.GOOS == "windows" {
		if !filepath.IsAbs(name) && strings.ContainsRune(name, filepath.Separator) {
			return filepath.Join(cmp.Or(cwd, home(env)), name), nil
		}
		return exec.LookPath(name)
	}
	for _, dir := range filepath.SplitList(lookup(env, "PATH")) {
		if !filepath.IsAbs(dir) {
			continue // the folder that somebody happens to be in
		}
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}
