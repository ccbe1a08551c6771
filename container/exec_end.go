package container

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"reagent/internal/proctree"
)

// The engine has no call that ends what Exec has started: closing the stream
// leaves the program and its children behind. So they get their signals
//
//   - from here, where the container's processes are this machine's, after a
//     look at each whether it really is in that container, or
//   - from inside the container, where the engine is another machine's: a shell
//     there finds them by a variable that they were given. A container without a
//     shell keeps them until they end by themselves.

// reach is how the processes of one program are reached.
type reach struct {
	container string        // id; "" = not from here
	root      proctree.Root // zero until the program has started
	mark      string        // in the environment of the program; never "" when it is not reached from here
}

// markVariable names the variable by which a program in a container is found by
// another machine, and by another life of this process.
const markVariable = "REAGENT_EXEC"

// reachOf says how a program in c will be reached.
func (e *Engine) reachOf(c Container, mark string) reach {
	if e.Local() && inContainer(c.PID, c.ID) {
		return reach{container: c.ID, mark: mark}
	}
	return reach{mark: cmp.Or(mark, rand.Text())}
}

func (r *reach) env() []string {
	if r.mark == "" {
		return nil
	}
	return []string{markVariable + "=" + r.mark}
}

// found notes the program's number on this machine. One that has ended already
// may have left its session to others.
func (r *reach) found(pid int, container string) {
	if r.container == "" {
		return
	}
	r.root = proctree.Root{PID: pid}
	if root, err := proctree.Of(pid); err == nil && inContainer(pid, container) {
		r.root = root
	}
}

// inside tells whether a process of this machine is in the container.
func (r *reach) inside(pid int) bool { return inContainer(pid, r.container) }

// runs tells whether the program is seen to run, without asking the engine.
func (r *reach) runs() bool { return r.root.Runs() }

// slowest is the longest pause between two looks at the program.
func (r *reach) slowest() time.Duration {
	if r.root.PID != 0 {
		return execNearLook
	}
	return execSlowLook
}

// inContainer tells by its control group whether a process of this machine is in
// a container: every engine names the group after the container's whole id.
func inContainer(pid int, id string) bool {
	if pid <= 1 || !isID(id) {
		return false
	}
	groups, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	return err == nil && bytes.Contains(groups, []byte(id))
}

// End ends the program with everything that it has started: all get TERM, and after
// Config.Grace those that are left get KILL. It returns when nothing is left, or
// with an error when that cannot be had: then the program may go on. Daemons, which
// nothing but their mark ties to the program, end with it where it was given one; from
// inside they always do. The stream stays, for the engine may still hold what was
// printed last.
func (x *Exec) End(ctx context.Context) error {
	return wrap("end a program in container", x.container, x.end(ctx))
}

func (x *Exec) end(ctx context.Context) error {
	switch {
	case x.reach.root.PID != 0 && x.reach.mark != "":
		return x.reach.root.EndAll(ctx, markVariable+"="+x.reach.mark, x.engine.cfg.Grace, x.reach.inside)
	case x.reach.root.PID != 0:
		return x.reach.root.End(ctx, x.engine.cfg.Grace, x.reach.inside)
	case x.reach.container == "" && x.reach.mark != "":
		return x.endFromInside(ctx)
	}
	return errors.New("its processes cannot be seen from here")
}

// EndExec ends the program that Exec named so in an earlier life of this process.
// One that has ended, or whose container has, is no error.
func (e *Engine) EndExec(ctx context.Context, id string) error {
	if !isID(id) {
		return fmt.Errorf("end a program in a container: %q names none", id)
	}
	x := &Exec{engine: e, id: id}
	state, err := x.inspect(ctx)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && !state.Running:
		return nil
	case err != nil:
		return wrap("end a program in a container", id, err)
	}
	x.container = state.ContainerID
	if e.Local() {
		x.reach.container = state.ContainerID
		x.reach.found(state.Pid, state.ContainerID)
	}
	return wrap("end a program in container", x.container, x.end(ctx))
}

// EndMarked ends everything that was started with this mark in the container with
// this id or exactly this name, as End does. A container that is gone or does not run
// is no error.
func (e *Engine) EndMarked(ctx context.Context, idOrName, mark string) error {
	if mark == "" || strings.Trim(mark, marks) != "" {
		return fmt.Errorf("end programs in container %s: %q is no mark", idOrName, mark)
	}
	c, err := e.Inspect(ctx, idOrName)
	switch {
	case errors.Is(err, ErrNotFound) || err == nil && c.Status != StatusRunning:
		return nil
	case err != nil:
		return err
	}
	reach := e.reachOf(c, mark)
	if reach.container != "" {
		err = proctree.EndMarked(ctx, markVariable+"="+mark, e.cfg.Grace)
	} else {
		err = e.killFromInside(ctx, c.ID, mark)
	}
	return wrap("end programs in container", idOrName, err)
}

// marks are the characters of a mark: none means anything to grep.
const marks = "0123456789-abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

// killers is the script that ends a program from inside its container. A zombie's
// environment is empty.
const killers = `marked() { for p in /proc/[0-9]*; do grep -q "$1" "$p/environ" 2>/dev/null && echo "${p#/proc/}"; done; }
left=$(marked "$1"); [ -z "$left" ] || kill -TERM $left 2>/dev/null
for n in $2; do [ -z "$(marked "$1")" ] && exit 0; sleep 1; done
left=$(marked "$1"); [ -z "$left" ] || kill -KILL $left 2>/dev/null
exit 0`

func (x *Exec) endFromInside(ctx context.Context) error {
	if err := x.engine.killFromInside(ctx, x.container, x.reach.mark); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, x.engine.cfg.Timeout)
	defer cancel()
	for pause := execLook; ; pause = min(2*pause, execSlowLook) {
		state, err := x.inspect(ctx)
		if errors.Is(err, ErrNotFound) || err == nil && !state.Running {
			return nil
		}
		if err != nil {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return proctree.ErrLeft
		}
	}
}

// killFromInside has a shell in the container end all that bears the mark.
func (e *Engine) killFromInside(ctx context.Context, container, mark string) error {
	grace := max(1, int(e.cfg.Grace.Round(time.Second)/time.Second))
	ctx, cancel := context.WithTimeout(ctx, time.Duration(grace)*time.Second+e.cfg.Timeout)
	defer cancel()
	seconds := bytes.Repeat([]byte("x "), grace)
	killer, err := e.exec(ctx, container, ExecSpec{
		Argv: []string{"/bin/sh", "-c", killers, "sh", markVariable + "=" + mark, string(seconds)},
		User: "0",
	})
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrNotRunning) {
		return nil // and everything in it has ended
	}
	if err != nil {
		return fmt.Errorf("it can only be ended from inside, which takes a shell there: %w", err)
	}
	defer killer.Close()
	_, _ = io.Copy(io.Discard, killer.in)
	return ctx.Err()
}
