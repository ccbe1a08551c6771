package apps

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"reagent/container"
)

// A smallEngine is a container engine in memory, for runs of thousands of steps.
// It has what the life cycle of an app meets: containers that end, fail to start
// or fall ill, names and host ports that are taken, images that have to be
// pulled over a link, events, and an engine that goes away, hangs, comes back or
// dies in the middle of a call. Its time is the clock's, so that in a bubble of
// testing/synctest an hour costs nothing. TestSmallEngineActsAsTheRealOne holds
// it against Docker.
//
// What is done by the methods of the agent's interface is attributed to the
// agent and shown to guard; methods in lower case are the world's doing.
type smallEngine struct {
	engine // what an agent is not expected to call panics

	linked func() bool                        // the registry can be reached
	guard  func(op string, c *smallContainer) // before the agent changes a container
	drops  func(ref string)                   // before the agent removes a reference
	images map[string]string                  // id by reference
	prints map[string]blueprint               // what a version does that is pulled, by its tag, or built, by its Dockerfile
	taken  map[string]bool                    // host ports that a stranger listens on, "tcp/40000"

	mu         sync.Mutex
	mode       engineMode
	changed    chan struct{}                // closed when mode changes
	does       map[string]blueprint         // what an image does, by its id
	pushed     map[string]string            // what the registry was given, id by reference
	volumes    map[string]map[string]string // labels by name
	containers []*smallContainer
	streams    map[*eventStream]bool
	deaf       int // so many events to come are lost
	fuse       int // calls that change something until the engine dies; 0 = none
	fuseAfter  bool
	made       int
	journal    []string
}

type engineMode int

const (
	engineUp engineMode = iota
	engineDown
	engineHung
)

// A blueprint is what an image does when it is run.
type blueprint struct {
	missing  bool          // the registry does not have it
	pull     time.Duration // takes so long
	refused  string        // the engine cannot start it, for this reason
	ends     time.Duration // after its start; 0 = runs until it is stopped
	exit     int
	health   container.Health // what its check says
	decides  time.Duration    // after so long
	stubborn bool             // takes no notice of SIGTERM
	stalls   bool             // its download hangs
}

type smallContainer struct {
	container.Container
	spec    container.Spec
	foreign bool // not made by the agent, and none of its business
	run     int  // counts its starts
	told    bool // it was told to end
}

type eventStream struct {
	queue chan container.Event
	lost  chan struct{} // closed when the engine goes away
}

func newSmallEngine() *smallEngine {
	return &smallEngine{
		linked: func() bool { return true }, guard: func(string, *smallContainer) {}, drops: func(string) {},
		images: map[string]string{}, prints: map[string]blueprint{}, taken: map[string]bool{},
		does: map[string]blueprint{}, pushed: map[string]string{}, volumes: map[string]map[string]string{},
		changed: make(chan struct{}), streams: map[*eventStream]bool{},
	}
}

const (
	callLimit = 30 * time.Second // of a call to an engine that hangs
	stopTime  = 200 * time.Millisecond
)

func idOf(what string) string {
	sum := sha256.Sum256([]byte(what))
	return hex.EncodeToString(sum[:])
}

// enter waits for the engine to take a call. It returns with e.mu held, or with
// an error and without.
func (e *smallEngine) enter(ctx context.Context) error {
	limit := time.After(callLimit)
	for {
		e.mu.Lock()
		mode, changed := e.mode, e.changed
		switch {
		case ctx.Err() != nil:
			e.mu.Unlock()
			return ctx.Err()
		case mode == engineUp:
			return nil
		case mode == engineDown:
			e.mu.Unlock()
			return fmt.Errorf("dial: %w", container.ErrUnavailable)
		}
		e.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-limit:
			return container.ErrTimeout
		case <-changed:
		}
	}
}

// change performs a call that changes something. The engine may die just before
// or just after it.
func (e *smallEngine) change(ctx context.Context, do func() error) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	defer e.mu.Unlock()
	dies := false
	if e.fuse > 0 {
		e.fuse--
		dies = e.fuse == 0
	}
	if dies && !e.fuseAfter {
		e.set(engineDown)
		return fmt.Errorf("read: connection reset: %w", container.ErrUnavailable)
	}
	err := do()
	if dies {
		e.set(engineDown)
		return fmt.Errorf("read: EOF: %w", container.ErrUnavailable)
	}
	return err
}

// set changes the mode. e.mu is held.
func (e *smallEngine) set(m engineMode) {
	if e.mode == m {
		return
	}
	e.mode = m
	close(e.changed)
	e.changed = make(chan struct{})
	if m == engineDown {
		for s := range e.streams {
			close(s.lost)
			delete(e.streams, s)
		}
	}
}

// goDown, hang and comeUp are what happens to an engine. One that was down ends
// its containers when it comes back, unless it restores them alive.
func (e *smallEngine) goDown() { e.mu.Lock(); e.set(engineDown); e.fuse = 0; e.mu.Unlock() }

func (e *smallEngine) hang() {
	e.mu.Lock()
	if e.mode == engineUp {
		e.set(engineHung)
	}
	e.mu.Unlock()
}

func (e *smallEngine) comeUp(alive bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.mode == engineDown && !alive {
		for _, c := range e.containers {
			if c.Status == container.StatusRunning || c.Status == container.StatusPaused {
				e.die(c, 255)
			}
		}
	}
	e.fuse = 0
	e.set(engineUp)
}

func (e *smallEngine) note(format string, args ...any) {
	e.journal = append(e.journal, fmt.Sprintf(format, args...))
}

func (e *smallEngine) emit(c *smallContainer, action string, change func(*container.Event)) {
	if e.deaf > 0 {
		e.deaf--
		return
	}
	ev := container.Event{Action: action, ID: c.ID, Name: c.Name, Labels: maps.Clone(c.Labels), Time: time.Now()}
	if change != nil {
		change(&ev)
	}
	for s := range e.streams {
		select {
		case s.queue <- ev:
		default: // as an engine does with a reader that is too slow
		}
	}
}

// find gives the container with this id or exactly this name.
func (e *smallEngine) find(idOrName string) *smallContainer {
	for _, c := range e.containers {
		if c.ID == idOrName || c.Name == idOrName {
			return c
		}
	}
	return nil
}

func (e *smallEngine) need(idOrName string) (*smallContainer, error) {
	if c := e.find(idOrName); c != nil {
		return c, nil
	}
	return nil, fmt.Errorf("no such container: %s: %w", idOrName, container.ErrNotFound)
}

// create makes a container.
func (e *smallEngine) create(spec container.Spec, foreign bool) (*smallContainer, error) {
	if e.find(spec.Name) != nil {
		return nil, fmt.Errorf("create %s: %w", spec.Name, container.ErrConflict)
	}
	image, ok := e.images[spec.Image]
	if !ok {
		return nil, fmt.Errorf("no such image: %s: %w", spec.Image, container.ErrNotFound)
	}
	e.made++
	id := idOf(fmt.Sprintf("container %d", e.made))
	c := &smallContainer{spec: spec, foreign: foreign, Container: container.Container{
		ID: id, Name: spec.Name, Image: spec.Image, ImageID: image, Labels: maps.Clone(spec.Labels), Env: slices.Clone(spec.Env),
		Privileged: spec.Privileged, NetworkMode: cmp.Or(spec.NetworkMode, "bridge"), Ports: slices.Clone(spec.Ports), Mounts: slices.Clone(spec.Mounts),
		Status: container.StatusCreated, Created: time.Now(),
	}}
	e.containers = append(e.containers, c)
	e.emit(c, "create", nil)
	return c, nil
}

func (e *smallEngine) start(c *smallContainer) error {
	switch c.Status {
	case container.StatusRunning:
		return nil
	case container.StatusPaused:
		return errors.New("cannot start a paused container, try unpause instead")
	}
	for _, p := range c.Ports {
		if e.busy(p) {
			c.Error = fmt.Sprintf("Bind for 0.0.0.0:%d failed: port is already allocated", p.Host)
			return &container.PortError{Ports: []uint16{p.Host}, Err: errors.New(c.Error)}
		}
	}
	print := e.does[c.ImageID]
	if print.refused != "" {
		c.Error = print.refused
		return errors.New(print.refused)
	}
	c.run++
	c.told = false
	run := c.run
	c.Status, c.Error, c.ExitCode = container.StatusRunning, "", 0
	c.Started, c.Health = time.Now(), container.HealthNone
	e.emit(c, "start", nil)
	alive := func(do func()) func() {
		return func() {
			e.mu.Lock()
			defer e.mu.Unlock()
			if c.run == run && c.Status == container.StatusRunning {
				do()
			}
		}
	}
	if print.ends > 0 {
		time.AfterFunc(print.ends, alive(func() { e.die(c, print.exit) }))
	}
	if print.health != container.HealthNone {
		c.Health = container.HealthStarting
		time.AfterFunc(print.decides, alive(func() {
			c.Health = print.health
			e.emit(c, "health_status: "+string(print.health), nil)
		}))
	}
	return nil
}

// busy tells whether somebody has a host port. The ports of a container that
// does not run are free.
func (e *smallEngine) busy(p container.Port) bool {
	if e.taken[portKey(p.Protocol, p.Host)] {
		return true
	}
	return slices.ContainsFunc(e.containers, func(c *smallContainer) bool {
		running := c.Status == container.StatusRunning || c.Status == container.StatusPaused
		return running && slices.ContainsFunc(c.Ports, func(q container.Port) bool { return q.Host == p.Host && q.Protocol == p.Protocol })
	})
}

// die ends a container that runs.
func (e *smallEngine) die(c *smallContainer, exit int) {
	c.Status, c.ExitCode, c.Finished = container.StatusExited, exit, time.Now()
	if c.Health == container.HealthStarting {
		c.Health = container.HealthUnhealthy
	}
	e.emit(c, "die", func(ev *container.Event) { ev.ExitCode = exit })
}

func (e *smallEngine) destroy(c *smallContainer) {
	if c.Status == container.StatusRunning || c.Status == container.StatusPaused {
		e.die(c, 137)
	}
	e.containers = slices.DeleteFunc(e.containers, func(o *smallContainer) bool { return o == c })
	e.emit(c, "destroy", nil)
}

// The agent's interface.

// Create and StartNew are the two halves of Run.
func (e *smallEngine) Create(ctx context.Context, spec container.Spec) (id string, err error) {
	err = e.change(ctx, func() error {
		c, err := e.create(spec, false)
		if err == nil {
			id = c.ID
			e.note("create %s (%.6s) from %s", spec.Name, c.ID, versionOf(spec.Image))
		}
		return err
	})
	return id, err
}

func (e *smallEngine) Start(ctx context.Context, id string) error {
	return e.change(ctx, func() error {
		c, err := e.need(id)
		if err != nil {
			return err
		}
		e.guard("start", c)
		e.note("start %s (%.6s)", c.Name, c.ID)
		return e.start(c)
	})
}

func (e *smallEngine) Stop(ctx context.Context, id string, grace time.Duration) error {
	var c *smallContainer
	var run int
	var stopping bool
	takes, exit := stopTime, 0
	err := e.change(ctx, func() (err error) {
		if c, err = e.need(id); err != nil {
			return err
		}
		e.guard("stop", c)
		e.note("stop %s (%.6s)", c.Name, c.ID)
		run, c.told = c.run, true
		stopping = c.Status == container.StatusRunning || c.Status == container.StatusPaused
		if e.does[c.ImageID].stubborn || c.Status == container.StatusPaused {
			takes, exit = grace, 137
		}
		return nil
	})
	if err != nil || !stopping {
		return err
	}
	ended := make(chan struct{})
	time.AfterFunc(takes, func() { // whoever asked may be gone by then
		e.mu.Lock()
		defer e.mu.Unlock()
		if c.run == run && (c.Status == container.StatusRunning || c.Status == container.StatusPaused) {
			e.die(c, exit)
		}
		close(ended)
	})
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-ended:
	}
	if err := e.enter(ctx); err != nil { // the answer, too, needs an engine
		return err
	}
	e.mu.Unlock()
	return nil
}

func (e *smallEngine) Remove(ctx context.Context, id string) error {
	return e.change(ctx, func() error {
		c := e.find(id)
		if c == nil {
			return nil
		}
		e.guard("remove", c)
		e.note("remove %s (%.6s)", c.Name, c.ID)
		e.destroy(c)
		return nil
	})
}

func (e *smallEngine) Rename(ctx context.Context, id, name string) error {
	return e.change(ctx, func() error {
		c, err := e.need(id)
		if err != nil {
			return err
		}
		e.guard("rename", c)
		if other := e.find(name); other != nil && other != c {
			return fmt.Errorf("rename %s: %w", c.Name, container.ErrConflict)
		}
		if c.Name == name {
			return errors.New("renaming a container with the same name as its current name")
		}
		e.note("rename %s (%.6s) to %s", c.Name, c.ID, name)
		old := c.Name
		c.Name = name
		e.emit(c, "rename", func(ev *container.Event) { ev.OldName = old })
		return nil
	})
}

func (e *smallEngine) Inspect(ctx context.Context, idOrName string) (container.Container, error) {
	if err := e.enter(ctx); err != nil {
		return container.Container{}, err
	}
	defer e.mu.Unlock()
	c, err := e.need(idOrName)
	if err != nil {
		return container.Container{}, err
	}
	return c.shown(), nil
}

func (c *smallContainer) shown() container.Container {
	out := c.Container
	out.Labels, out.Env, out.Ports, out.Mounts = maps.Clone(c.Labels), slices.Clone(c.Env), slices.Clone(c.Ports), slices.Clone(c.Mounts)
	return out
}

func (e *smallEngine) List(ctx context.Context, labels map[string]string) ([]container.Summary, error) {
	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	list := []container.Summary{}
	for _, c := range e.containers {
		wanted := true
		for name, value := range labels {
			have, ok := c.Labels[name]
			wanted = wanted && ok && (value == "" || have == value)
		}
		if wanted {
			list = append(list, container.Summary{ID: c.ID, Name: c.Name, Image: c.Image, ImageID: c.ImageID, Labels: maps.Clone(c.Labels), Status: c.Status, Created: c.Created})
		}
	}
	return list, nil
}

func (e *smallEngine) Events(ctx context.Context, up func(), event func(container.Event)) error {
	if err := e.enter(ctx); err != nil {
		return err
	}
	s := &eventStream{queue: make(chan container.Event, 1000), lost: make(chan struct{})}
	e.streams[s] = true
	e.mu.Unlock()
	defer func() { e.mu.Lock(); delete(e.streams, s); e.mu.Unlock() }()
	up()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.lost:
			return fmt.Errorf("follow container events: EOF: %w", container.ErrUnavailable)
		case ev := <-s.queue:
			event(ev)
		}
	}
}

// What else happens in the world.

// foreign makes a container that is not the agent's business.
func (e *smallEngine) stranger(spec container.Spec, run bool) *smallContainer {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.images[spec.Image] = idOf(spec.Image)
	c, err := e.create(spec, true)
	if err == nil && run {
		_ = e.start(c) // its port may be taken; then it is a container that does not run
	}
	return c
}

// with performs something on the containers that match.
func (e *smallEngine) with(match func(*smallContainer) bool, do func(*smallContainer)) (hit bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range slices.Clone(e.containers) {
		if match(c) {
			do(c)
			hit = true
		}
	}
	return hit
}

// forget removes a reference as somebody with a shell would.
func (e *smallEngine) forget(ref string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.images, ref)
}

// all shows every container that matches.
func (e *smallEngine) all(match func(*smallContainer) bool) (list []container.Container) {
	e.with(match, func(c *smallContainer) { list = append(list, c.shown()) })
	return list
}

func (e *smallEngine) has(ref string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, ok := e.images[ref]
	return ok
}

func (e *smallEngine) references(prefix string) (list []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for ref := range e.images {
		if strings.HasPrefix(ref, prefix) {
			list = append(list, ref)
		}
	}
	slices.Sort(list)
	return list
}
