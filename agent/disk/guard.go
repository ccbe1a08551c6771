package disk

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/filesystem"
	"reagent/internal/backoff"
	"reagent/protocol"
)

// Config says what is watched and what is done. DataRoot, Folders and Changed
// are needed; a zero elsewhere stands for the product's value, or for nothing to
// do.
type Config struct {
	// DataRoot is the engine's folder on this machine; "" when the engine is
	// elsewhere and none of our business. With an error it is a guess.
	DataRoot func(context.Context) (string, error)
	// Folders are the agent's: the first holds the apps' files, another one
	// perhaps its state.
	Folders []string
	Steps   []Step // what may be reclaimed on the engine's disk, in this order
	// Reserve makes room for changes of the agent's state. It is called at the
	// start and each time that a disk begins to run low.
	Reserve func() error
	// Changed is told, by the goroutine of Run, that a disk has another level or
	// room for what was refused.
	Changed func()
	Log     zerolog.Logger

	Limits Limits
	Waits  Waits
	Free   func(path string) (filesystem.Space, error) // nil = filesystem.Free
	Same   func(a, b string) bool                      // two paths are on one disk; nil = filesystem.SameDisk
}

// Waits are the times of a guard (design S16).
type Waits struct {
	Look     time.Duration // longest pause between two looks; jittered like all
	Critical time.Duration // pause between two looks while a disk is critical, and the shortest ever
	Refused  time.Duration // longest pause while somebody who was refused waits
	Reclaim  time.Duration // between two attempts to reclaim that nothing new is the reason of
	Ask      time.Duration // between two questions to the engine where its folder is
	Root     time.Duration // it answers within
	Rate     uint64        // bytes a second that no writer exceeds unseen
}

// ProductWaits are the product's.
func ProductWaits() Waits {
	return Waits{
		Look: 5 * time.Minute, Critical: 5 * time.Second, Refused: 30 * time.Second,
		Reclaim: 5 * time.Minute, Ask: 5 * time.Minute, Root: 10 * time.Second, Rate: 20 << 20,
	}
}

// A Guard watches the disks of one device. Make it with New.
type Guard struct {
	cfg   Config
	wake  chan struct{} // capacity 1
	ready chan struct{} // closed after the first look

	mu     sync.Mutex
	engine *place
	files  []*place // by folder

	// Only the goroutine of Run uses what follows.
	rootAsked    time.Time
	begun, short bool                 // the reserve was made, and why it may be due again
	last         attempt              // to reclaim
	performed    map[string]time.Time // when each step was, by name
}

// A place is a folder on a file system that is watched.
type place struct {
	name  string // as people are told
	path  string // "" = unknown, or not on this machine
	same  *place // the place before it that is on the same disk
	space filesystem.Space
	level protocol.DiskLevel
	blind bool // its figures could not be read, and that was said
	// awaited is how much must be free for the most modest of those who were
	// refused; 0 = nobody waits.
	awaited uint64
}

// disk is the place that speaks for the whole file system.
func (p *place) disk() *place {
	if p.same != nil {
		return p.same
	}
	return p
}

// New makes a guard that has not looked yet: everything is admitted.
func New(cfg Config) *Guard {
	if cfg.Limits == (Limits{}) {
		cfg.Limits = ProductLimits()
	}
	if cfg.Waits == (Waits{}) {
		cfg.Waits = ProductWaits()
	}
	if cfg.Free == nil {
		cfg.Free = filesystem.Free
	}
	if cfg.Same == nil {
		cfg.Same = filesystem.SameDisk
	}
	g := &Guard{
		cfg: cfg, wake: make(chan struct{}, 1), ready: make(chan struct{}),
		engine:    &place{name: "container engine", level: protocol.DiskEnough},
		performed: map[string]time.Time{},
	}
	names := []string{"apps' files", "agent's state"}
	for i, folder := range cfg.Folders {
		g.files = append(g.files, &place{name: names[min(i, len(names)-1)], path: folder, level: protocol.DiskEnough})
	}
	return g
}

// Ready is closed when the guard has looked for the first time.
func (g *Guard) Ready() <-chan struct{} { return g.ready }

// Look makes the guard look soon, because somebody met a full disk.
func (g *Guard) Look() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// AdmitImage refuses so many bytes on the engine's disk if they are too many; 0
// stands for nobody knows.
func (g *Guard) AdmitImage(need uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.admit(g.engine, need)
}

// AdmitFile is AdmitImage for the disk of the apps' files.
func (g *Guard) AdmitFile(need uint64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.admit(g.files[0], need)
}

// admit looks afresh: what was admitted a second ago has grown meanwhile.
func (g *Guard) admit(p *place, need uint64) error {
	p = p.disk()
	if p.path == "" {
		return nil
	}
	space, err := g.cfg.Free(p.path)
	if err != nil {
		return nil // it counts as having enough, and the next look says why
	}
	keep := g.cfg.Limits.on(space.Total).kept(p.level)
	if need <= space.Free && keep <= space.Free-need {
		return nil
	}
	if need <= space.Total && (p.awaited == 0 || keep+need < p.awaited) {
		p.awaited = keep + need
		g.Look()
	}
	text := fmt.Sprintf("the disk of the %s is too full: %s of %s are free, and %s of them are kept for the device itself",
		p.name, size(space.Free), size(space.Total), size(keep))
	if need > 0 {
		text += fmt.Sprintf("; this needs %s", size(need))
	}
	return &protocol.Error{Code: protocol.CodeDiskFull, Text: text}
}

// Critical says why no app may run now; nil while they may.
func (g *Guard) Critical() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	p := g.engine
	if p.level != protocol.DiskCritical {
		return nil
	}
	return &protocol.Error{Code: protocol.CodeDiskFull, Text: fmt.Sprintf(
		"the disk of the %s is nearly full (%s of %s free); apps run again when %s are free",
		p.name, size(p.space.Free), size(p.space.Total), size(g.cfg.Limits.on(p.space.Total).kept(p.level)))}
}

// Status is how the disks were at the last look, each file system once.
func (g *Guard) Status() []protocol.DiskStatus {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []protocol.DiskStatus
	for _, p := range g.places() {
		if p.same == nil && p.space.Total > 0 {
			all = append(all, protocol.DiskStatus{Name: p.name, Path: p.path, Level: p.level, Free: p.space.Free, Total: p.space.Total})
		}
	}
	return all
}

func (g *Guard) places() []*place { return append([]*place{g.engine}, g.files...) }

// Run watches until ctx ends.
func (g *Guard) Run(ctx context.Context) error {
	for {
		g.look(ctx)
		select {
		case <-g.ready:
		default:
			close(g.ready)
		}
		g.keepReserve()
		g.reclaim(ctx)
		timer := time.NewTimer(g.pause())
		select {
		case <-timer.C:
		case <-g.wake:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// pause is how long the next look may wait.
func (g *Guard) pause() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	longest := g.cfg.Waits.Look
	for _, p := range g.places() {
		if p.same != nil || p.space.Total == 0 {
			continue
		}
		switch limits := g.cfg.Limits.on(p.space.Total); {
		case p.level == protocol.DiskCritical:
			longest = 0
		case g.cfg.Waits.Rate > 0:
			left := float64(p.space.Free-min(p.space.Free, limits.Enter)) / float64(g.cfg.Waits.Rate)
			longest = min(longest, time.Duration(min(left, longest.Seconds())*float64(time.Second)))
		}
		if p.awaited > 0 {
			longest = min(longest, g.cfg.Waits.Refused)
		}
	}
	longest = max(longest, g.cfg.Waits.Critical)
	return longest*3/4 + backoff.Jitter(longest/2)
}

// look measures the disks, and tells what that changed.
func (g *Guard) look(ctx context.Context) {
	g.findRoot(ctx)
	g.mu.Lock()
	changed := false
	all := g.places()
	for i, p := range all {
		p.same = nil
		for _, before := range all[:i] {
			if p.path != "" && before.path != "" && before.same == nil && g.cfg.Same(p.path, before.path) {
				p.same = before
			}
		}
		if p.same == nil && g.measure(p) {
			changed = true
		}
	}
	g.mu.Unlock()
	if changed {
		g.cfg.Changed()
	}
}

// findRoot asks the engine for its folder, not at every look.
func (g *Guard) findRoot(ctx context.Context) {
	if !g.rootAsked.IsZero() && time.Since(g.rootAsked) < g.cfg.Waits.Ask {
		return
	}
	limited, cancel := context.WithTimeout(ctx, g.cfg.Waits.Root)
	defer cancel()
	root, err := g.cfg.DataRoot(limited)
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case err == nil:
		g.rootAsked, g.engine.path = time.Now(), root
	case g.engine.path == "" && root != "":
		g.engine.path = root // most likely; the next look asks again
	case g.engine.path == "":
		g.blind(g.engine, err)
	}
}

// measure looks at one disk. g.mu is held.
func (g *Guard) measure(p *place) (changed bool) {
	if p.path == "" {
		return false
	}
	was := p.level
	space, err := g.cfg.Free(p.path)
	if err != nil {
		g.blind(p, err)
		p.level, p.space = protocol.DiskEnough, filesystem.Space{}
		return p.level != was
	}
	p.blind, p.space = false, space
	p.level = g.cfg.Limits.on(space.Total).level(was, space.Free)
	if p.awaited > 0 && space.Free >= p.awaited {
		p.awaited, changed = 0, true
	}
	if p.level == was {
		return changed
	}
	line := g.cfg.Log.Info()
	if p.level != protocol.DiskEnough {
		line = g.cfg.Log.Warn()
	}
	line.Str("disk", p.name).Str("path", p.path).Str("level", string(p.level)).Str("was", string(was)).
		Uint64("free", space.Free).Uint64("total", space.Total).Msg("disk has another level")
	return true
}

// blind says once that a disk cannot be judged. g.mu is held.
func (g *Guard) blind(p *place, err error) {
	if !p.blind {
		g.cfg.Log.Warn().Err(err).Str("disk", p.name).Msg("nobody knows how full a disk is; taking it for empty enough")
	}
	p.blind = true
}

// keepReserve makes the room for the agent's state at the start and whenever a
// disk leaves enough, which is before it is full.
func (g *Guard) keepReserve() {
	short := false
	g.mu.Lock()
	for _, p := range g.places() {
		short = short || p.level != protocol.DiskEnough
	}
	g.mu.Unlock()
	if g.cfg.Reserve != nil && (!g.begun || short && !g.short) {
		if err := g.cfg.Reserve(); err != nil {
			g.cfg.Log.Warn().Err(err).Msg("no room kept for the agent's own state")
		}
	}
	g.begun, g.short = true, short
}

// size writes bytes as people read them.
func size(n uint64) string {
	if n < 10_000_000 {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	for _, unit := range []struct {
		size uint64
		name string
	}{{1_000_000_000_000, "TB"}, {1_000_000_000, "GB"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d MB", n/1_000_000)
}
