package proctree

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"
	"time"
)

// Of describes the process of this number, which runs or is a zombie now.
func Of(pid int) (Root, error) {
	p, err := look(pid)
	if err != nil {
		return Root{}, err
	}
	return Root{PID: pid, Start: p.start}, nil
}

// Runs tells whether the root itself runs.
func (r Root) Runs() bool {
	if r.PID <= 1 {
		return false
	}
	p, err := look(r.PID)
	return err == nil && !p.ended && p.start == r.Start
}

// Alive tells whether anything of the program runs. Where is is given, only
// processes for which it holds are counted.
func (r Root) Alive(is func(pid int) bool) bool {
	return len(r.members(nil, is)) > 0
}

// Signal sends a signal to all that belongs to the root, and tells to how many.
func (r Root) Signal(sig os.Signal, is func(pid int) bool) int {
	return signal(r.members(nil, is), nil, sig)
}

// End asks all of the program to end, and kills what is left after grace. It
// returns when nothing is left; where that cannot be, ErrLeft, and where ctx ends
// before, its error, with everything killed that was still there. Where is is
// given, only processes for which it holds are touched.
func (r Root) End(ctx context.Context, grace time.Duration, is func(pid int) bool) error {
	seen := map[int]uint64{} // whom a member has started stays one when that has ended
	return end(ctx, grace, func() []process { return r.members(seen, is) })
}

// EndAll ends, as End does, the program and with it those whom EndMarked would end,
// and what belongs to them: daemons are found, too, if they have kept the entry.
func (r Root) EndAll(ctx context.Context, entry string, grace time.Duration, is func(pid int) bool) error {
	seen := map[int]uint64{}
	return end(ctx, grace, func() []process {
		for _, p := range marked(entry) {
			seen[p.pid] = p.start
		}
		return r.members(seen, is)
	})
}

// EndMarked ends, as End does, all processes that were started with this entry
// (NAME=value) in their environment. That finds also those whose parents are gone
// and whose session is their own. This process, those by which it was started, and
// what it has started with an entry that it was given itself, are spared.
func EndMarked(ctx context.Context, entry string, grace time.Duration) error {
	return end(ctx, grace, func() []process { return marked(entry) })
}

func end(ctx context.Context, grace time.Duration, find func() []process) error {
	asked := map[int]uint64{}
	if !wait(ctx, grace, func() bool {
		found := find()
		signal(found, asked, syscall.SIGTERM)
		return len(found) > 0
	}) {
		return nil
	}
	if err := ctx.Err(); err != nil {
		signal(find(), nil, syscall.SIGKILL)
		return err
	}
	if wait(context.WithoutCancel(ctx), killed, func() bool {
		found := find()
		signal(found, nil, syscall.SIGKILL)
		return len(found) > 0
	}) {
		return ErrLeft
	}
	return nil
}

// wait looks until nobody is left, for at most so long.
func wait(ctx context.Context, most time.Duration, look func() (left bool)) (left bool) {
	late := time.NewTimer(most)
	defer late.Stop()
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		if !look() {
			return false
		}
		select {
		case <-time.After(pause):
		case <-late.C:
			return true
		case <-ctx.Done():
			return true
		}
	}
}

// signal sends sig to each process, but not twice to those in sent. The handle
// is taken before the last look, so that the one who was looked at gets it.
func signal(to []process, sent map[int]uint64, sig os.Signal) (reached int) {
	for _, p := range to {
		if start, already := sent[p.pid]; already && start == p.start {
			continue
		}
		handle, err := os.FindProcess(p.pid)
		if err != nil {
			continue
		}
		if now, err := look(p.pid); err == nil && now.start == p.start && handle.Signal(sig) == nil {
			reached++
			if sig == syscall.SIGTERM {
				_ = handle.Signal(syscall.SIGCONT) // one that is stopped hears nothing else
			}
		}
		_ = handle.Release()
		if sent != nil {
			sent[p.pid] = p.start
		}
	}
	return reached
}

// members are the processes of the program that have not ended. Those in seen
// are members whoever their parents are by now, and those found are added to it.
func (r Root) members(seen map[int]uint64, is func(pid int) bool) []process {
	if r.PID <= 1 {
		return nil // no program's, but all that the kernel and the system run
	}
	all := everybody()
	if root, there := all[r.PID]; there && r.Start != 0 && root.start != r.Start {
		// The number is somebody else's, which it cannot become as long as
		// there is anybody in the session.
		return known(all, seen, is)
	}
	in := map[int]bool{}
	var belongs func(p process, depth int) bool
	belongs = func(p process, depth int) bool {
		if yes, decided := in[p.pid]; decided {
			return yes
		}
		start, before := seen[p.pid]
		yes := p.pid == r.PID || p.session == r.PID || before && start == p.start
		if parent, ok := all[p.parent]; !yes && ok && depth < len(all) {
			yes = belongs(parent, depth+1)
		}
		in[p.pid] = yes
		return yes
	}
	var found []process
	for _, p := range all {
		if p.ended || !belongs(p, 0) || is != nil && !is(p.pid) {
			continue
		}
		found = append(found, p)
		if seen != nil {
			seen[p.pid] = p.start
		}
	}
	return found
}

func known(all map[int]process, seen map[int]uint64, is func(pid int) bool) (found []process) {
	for pid, start := range seen {
		if p, there := all[pid]; there && p.start == start && !p.ended && (is == nil || is(pid)) {
			found = append(found, p)
		}
	}
	return found
}

// marked lists the processes with an entry in their environment, but neither this
// one nor those by which it was started. Where this one has the entry itself, its own
// may have it from nobody else, and are spared, too.
func marked(entry string) (found []process) {
	all, self := everybody(), os.Getpid()
	spared := map[int]bool{}
	for p, ok := all[self]; ok && !spared[p.pid]; p, ok = all[p.parent] {
		spared[p.pid] = true
	}
	ours := hasEntry(self, entry)
	for pid, p := range all {
		if p.ended || spared[pid] || !hasEntry(pid, entry) || ours && descends(all, p, self) {
			continue
		}
		found = append(found, p)
	}
	return found
}

// hasEntry tells whether a process was started with an entry in its environment.
func hasEntry(pid int, entry string) bool {
	environment, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	if err != nil {
		return false
	}
	for one := range bytes.SplitSeq(environment, []byte{0}) {
		if string(one) == entry {
			return true
		}
	}
	return false
}

// descends tells whether the chain of a process's parents leads to another.
func descends(all map[int]process, p process, from int) bool {
	for range all {
		parent, ok := all[p.parent]
		if !ok || parent.pid == from {
			return ok
		}
		p = parent
	}
	return false
}

// A process is what the kernel tells about one.
type process struct {
	pid, parent, session int
	start                uint64
	ended                bool // a zombie: only its parent has not asked yet
}

// everybody lists the processes that can be seen.
func everybody() map[int]process {
	proc, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer proc.Close()
	names, _ := proc.Readdirnames(-1) // as far as it came
	all := make(map[int]process, len(names))
	for _, name := range names {
		pid, err := strconv.Atoi(name)
		if err != nil {
			continue
		}
		if p, err := look(pid); err == nil {
			all[pid] = p
		}
	}
	return all
}

func look(pid int) (process, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	p, err := parse(stat)
	if err != nil {
		return process{}, fmt.Errorf("process %d: %w", pid, err)
	}
	p.pid = pid
	return p, nil
}

var errStat = errors.New("its stat file has another form")

// parse reads "pid (name) state ppid pgrp session … starttime …". The name may
// hold spaces and parentheses of its own.
func parse(stat []byte) (p process, err error) {
	end := bytes.LastIndexByte(stat, ')')
	if end < 0 {
		return p, errStat
	}
	fields := bytes.Fields(stat[end+1:])
	const state, parent, session, start = 0, 1, 3, 19
	if len(fields) <= start {
		return p, errStat
	}
	for field, to := range map[int]*int{parent: &p.parent, session: &p.session} {
		if *to, err = strconv.Atoi(string(fields[field])); err != nil {
			return p, errStat
		}
	}
	if p.start, err = strconv.ParseUint(string(fields[start]), 10, 64); err != nil {
		return p, errStat
	}
	p.ended = fields[state][0] == 'Z' || fields[state][0] == 'X'
	return p, nil
}
