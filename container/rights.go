package container

import (
	"context"
	"regexp"
	"slices"
	"strings"
)

// rights is how much of "privileged" is asked for: a row of levels, and the
// capabilities of that row.
type rights struct {
	level int
	caps  []string
}

// levels are what is asked for in the place of a privileged container, best
// first (design D8). A nested or hardened host refuses the first, because it
// lacks a capability itself.
var levels = []struct {
	privileged bool
	devices    bool
	caps       func(context.Context, *Engine) []string
	note       string
}{
	{true, true, allCaps, ""},
	{false, true, allCaps, "the engine refuses privileged containers: the container runs with all capabilities and its devices instead"},
	{false, true, boundingCaps, "the engine refuses privileged containers: the container runs with the capabilities that the engine has itself, and its devices, instead"},
	{false, true, noCaps, "the engine refuses privileged containers and more capabilities: the container runs with the usual ones and its devices"},
	{false, false, noCaps, "the engine refuses privileged containers, more capabilities and devices: the container runs with the usual capabilities"},
}

func (r *rights) privileged() bool       { return levels[r.level].privileged }
func (r *rights) devices() bool          { return levels[r.level].devices }
func (r *rights) capabilities() []string { return slices.Clone(r.caps) }

func (r *rights) note() []string {
	if note := levels[r.level].note; note != "" {
		return []string{note}
	}
	return nil
}

// lower goes to the next level; false at the last.
func (r *rights) lower(ctx context.Context, e *Engine) bool {
	if r.level+1 == len(levels) {
		return false
	}
	r.level++
	r.caps = levels[r.level].caps(ctx, e)
	return true
}

// dropUnknown takes the capability out that an older engine has never heard of
// although its kernel has it; false when err is about something else.
func (r *rights) dropUnknown(err error) bool {
	m := unknownCap.FindStringSubmatch(err.Error())
	if m == nil {
		return false
	}
	before := len(r.caps)
	r.caps = slices.DeleteFunc(slices.Clone(r.caps), func(name string) bool { return name == m[1] })
	return len(r.caps) < before
}

var unknownCap = regexp.MustCompile(`unknown capability: "(CAP_[A-Z_]+)"`)

// refused reports whether err says that the engine may not give a container the
// rights that were asked for.
func refused(err error) bool {
	text := strings.ToLower(err.Error())
	says := func(s string) bool { return strings.Contains(text, s) }
	return kindOf(err) == nil && slices.ContainsFunc(rightsRefused, says) && !slices.ContainsFunc(rightsNotMeant, says)
}

// What a refusal is told by, and what reads almost the same and is the app's own
// fault: a program that may not be executed, a port that is not for everybody.
var (
	rightsRefused  = []string{"operation not permitted", "permission denied", "capabilit", "privileged"}
	rightsNotMeant = []string{`exec: "`, "exec /", "privileged port"}
)

// refusedNow reports whether a refusal is about a device that happens to be there
// right now, so that the next container may get what this one did not.
func refusedNow(err error) bool {
	return strings.Contains(err.Error(), "error creating device nodes")
}

// rights gives what is known to work with the engine that answers now.
func (e *Engine) rights(ctx context.Context) (rights, error) {
	var known rights
	err := e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) error {
		if r := p.rights.Load(); r != nil {
			known = *r
		} else {
			known = rights{caps: allCaps(ctx, e)}
		}
		return nil
	})
	return known, err
}

// learn remembers what worked.
func (e *Engine) learn(worked rights) {
	if p := e.peer.Load(); p != nil {
		p.rights.Store(&worked)
	}
}

func allCaps(context.Context, *Engine) []string { return []string{"ALL"} }

func noCaps(context.Context, *Engine) []string { return nil }

// boundingCaps are the capabilities of the engine's own bounding set, which no
// container of it can exceed; none when the engine is not on this machine.
func boundingCaps(ctx context.Context, e *Engine) []string {
	path, local := strings.CutPrefix(e.host, "unix://")
	if !local {
		return nil
	}
	set, err := boundingSet(ctx, path)
	if err != nil {
		e.cfg.Log.Debug().Err(err).Msg("capabilities of the container engine are unknown")
		return nil
	}
	var names []string
	for bit, name := range capNames {
		if set&(1<<bit) != 0 {
			names = append(names, "CAP_"+name)
		}
	}
	return names
}

// capNames are the names of capabilities by their number, as in capability.h.
var capNames = [...]string{
	"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL",
	"SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE", "NET_BIND_SERVICE",
	"NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
	"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT",
	"SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME",
	"SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL",
	"SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM",
	"BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
}
