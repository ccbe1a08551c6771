package commands

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/protocol"
)

// A Config says what may be run, where, and what is kept of it. Zero limits are
// the product's.
type Config struct {
	Dir     string // for results; made when it is needed
	Allowed bool   // the policy of this device: commands outside of containers
	Serial  string // of the device

	Engine engine                         // runs programs in containers
	Owns   func(container.Container) bool // is it one of this device's apps?
	// Canceled tells whether the context of a call has ended by its caller's wish,
	// and not with the link; nil = always.
	Canceled func(context.Context) bool
	// Publish publishes what programs in the background print.
	Publish func(ctx context.Context, topic string, options map[string]any, args []any, kwargs map[string]any) error

	// Bounds, of all callers and of each one: nobody shuts the others out.
	Running, RunningOfOne int // commands at once; 20, half
	Kept, KeptOfOne       int // results; 1000, half
	Calls, CallsOfOne     int // of Do at once; 64, half
	Followers             int // calls for one command; 4

	Answers     int           // with output, on their way at once; 2
	KeptBytes   int64         // outputs all together; 64 MiB
	KeepAtLeast time.Duration // results; 1 h
	KeepAtMost  time.Duration // 24 h
	Grace       time.Duration // between SIGTERM and SIGKILL; 2 s
	// The output of a program that has ended is read until nothing comes for Drain
	// (2 s), and for DrainMost (10 s); in the background, for PublishMost (5 min).
	Drain, DrainMost, PublishMost time.Duration
	EndLimit                      time.Duration // beyond Grace, for a program that was killed and its engine; 30 s
	EndSeen                       time.Duration // the end of one that was ended is waited for so long; 10 s
	Sweep                         time.Duration // between two looks for results that are too old; 10 min
	Ready                         time.Duration // a call waits so long for Run; 5 s
	// An engine that was away is asked again after this time, for an hour, to end
	// what a killed agent has left in a container; 30 s.
	AskAgain time.Duration

	Log zerolog.Logger
}

// An engine runs programs in containers; container.Engine is one.
type engine interface {
	Inspect(ctx context.Context, idOrName string) (container.Container, error)
	Exec(ctx context.Context, idOrName string, s container.ExecSpec) (*container.Exec, error)
	EndMarked(ctx context.Context, idOrName, mark string) error
	EndExec(ctx context.Context, id string) error
}

// Commands runs commands. Make it with New.
type Commands struct {
	cfg     Config
	store   *store
	answers chan struct{} // has an element for each answer with output

	mu      sync.Mutex // guards what follows
	life    context.Context
	ready   chan struct{} // closed while Run runs; another one after
	running map[string]*run
	others  map[string]int // of ExecuteInBackground and Execute, by caller
	calls   map[string]int // of Do, by caller
	work    *sync.WaitGroup
}

// New makes Commands. Nothing is read or run before Run.
func New(cfg Config) *Commands {
	for field, value := range map[*time.Duration]time.Duration{
		&cfg.KeepAtLeast: time.Hour,
		&cfg.KeepAtMost:  24 * time.Hour,
		&cfg.Grace:       2 * time.Second,
		&cfg.Drain:       2 * time.Second,
		&cfg.DrainMost:   10 * time.Second,
		&cfg.PublishMost: 5 * time.Minute,
		&cfg.EndLimit:    30 * time.Second,
		&cfg.EndSeen:     10 * time.Second,
		&cfg.Sweep:       10 * time.Minute,
		&cfg.Ready:       5 * time.Second,
		&cfg.AskAgain:    30 * time.Second,
	} {
		if *field == 0 {
			*field = value
		}
	}
	for bound, most := range map[*int]int{
		&cfg.Running: 20, &cfg.Kept: 1000, &cfg.Calls: 64, &cfg.Followers: 4, &cfg.Answers: 2,
	} {
		if *bound == 0 {
			*bound = most
		}
	}
	for share, all := range map[*int]int{
		&cfg.RunningOfOne: cfg.Running, &cfg.KeptOfOne: cfg.Kept, &cfg.CallsOfOne: cfg.Calls,
	} {
		if *share == 0 {
			*share = (all + 1) / 2
		}
	}
	if cfg.KeptBytes == 0 {
		cfg.KeptBytes = 64 << 20
	}
	if cfg.Canceled == nil {
		cfg.Canceled = func(context.Context) bool { return true }
	}
	return &Commands{
		cfg: cfg, answers: make(chan struct{}, cfg.Answers),
		ready: make(chan struct{}), running: map[string]*run{},
		others: map[string]int{}, calls: map[string]int{},
	}
}

// Errors as callers are told them.
var (
	errDisabled  = &protocol.Error{Code: protocol.CodeDisabled, Text: "command execution is disabled on this device (policy.commands)"}
	errUsed      = &protocol.Error{Code: protocol.CodeConflict, Text: "execution id already used"}
	errNotFound  = &protocol.Error{Code: protocol.CodeNotFound, Text: "execution not found"}
	errTooMany   = &protocol.Error{Code: protocol.CodeUnavailable, Text: "too many commands"}
	errFollowers = &protocol.Error{Code: protocol.CodeUnavailable, Text: "too many followers"}
	errEnding    = &protocol.Error{Code: protocol.CodeUnavailable, Text: "the agent is not ready for commands; try again later"}
	errOutside   = &protocol.Error{Code: protocol.CodeNotFound, Text: "container not found"}
)

// Run looks after what an earlier life has left, then keeps commands running until
// ctx ends; all that still run are interrupted then, and have ended when it
// returns.
func (c *Commands) Run(ctx context.Context) error {
	store, cutOff, err := openStore(c.cfg)
	if err != nil {
		return fmt.Errorf("commands: %w", err)
	}
	work := new(sync.WaitGroup)
	for _, left := range cutOff {
		work.Go(func() { c.endLeftover(ctx, left) })
	}
	c.mu.Lock()
	c.store, c.life, c.work = store, ctx, work
	close(c.ready)
	c.mu.Unlock()

	sweep := time.NewTicker(c.cfg.Sweep)
	defer sweep.Stop()
	for ctx.Err() == nil {
		select {
		case <-sweep.C:
			store.sweep()
		case <-ctx.Done():
		}
	}
	c.mu.Lock() // nobody begins any more
	c.ready = make(chan struct{})
	c.life = nil
	c.mu.Unlock()
	work.Wait()
	return ctx.Err()
}

// A Question is a call of run_command.
type Question struct {
	protocol.RunCommandArgs
	Caller string // whose the command is
	// Progress takes output as it comes; nil = all of it is in the answer. It may
	// wait as long as ctx.
	Progress func(ctx context.Context, chunk protocol.CommandChunk) error
	// Begins is told before a program starts, and only if one does; nil = nobody is.
	Begins func()
	// Large is told of an answer with output in it, before that is made, and what to
	// call once it is gone: few are there at once. nil = it is gone when Do returns.
	Large func(gone func())
}

// Do runs a command, attaches to one that runs, or answers what became of it, and
// returns when it has ended. A caller who cancels ends the command, too, unless
// they said otherwise (Detach) or others wait for it; a link that is lost ends the
// wait only.
func (c *Commands) Do(ctx context.Context, q Question) (protocol.CommandEnd, error) {
	if err := c.enter(q.Caller); err != nil {
		return protocol.CommandEnd{}, err
	}
	defer c.exit(q.Caller)
	store, err := c.await(ctx)
	if err != nil {
		return protocol.CommandEnd{}, err
	}
	q.Shell, q.Argv = orShell(q.Shell, q.Argv, q.Container != "")
	if !q.Fetches() && q.Container == "" && !c.cfg.Allowed {
		return protocol.CommandEnd{}, errDisabled
	}
	// What is known needs no container any more, and no engine.
	r, number, kept, err := c.claim(q, q.Container == "")
	if errors.Is(err, errUnknown) {
		if err = c.admits(ctx, q.Container); err == nil {
			r, number, kept, err = c.claim(q, true)
		}
	}
	switch {
	case err != nil:
		return protocol.CommandEnd{}, err
	case kept != nil:
		gone, err := c.large(ctx, q)
		if err != nil {
			return protocol.CommandEnd{}, err
		}
		defer gone()
		return store.answer(*kept, q.Base64), nil
	}
	end, err := c.follow(ctx, r, q)
	c.leave(r, number, err != nil && ctx.Err() != nil && !q.Detach && c.cfg.Canceled(ctx))
	return end, err
}

// enter counts a call, unless there are too many of this caller or of all.
func (c *Commands) enter(caller string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := 0
	for _, n := range c.calls {
		all += n
	}
	if all >= c.cfg.Calls || c.calls[caller] >= c.cfg.CallsOfOne {
		return errFollowers
	}
	c.calls[caller]++
	return nil
}

func (c *Commands) exit(caller string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.calls[caller]--; c.calls[caller] == 0 {
		delete(c.calls, caller)
	}
}

// leave is for one who does not follow a run any more. The last one may end it, but
// nobody as long as others wait: the call of a session that vanished is canceled
// after its caller has come back, or is still there when that caller cancels. So
// the newest one's wish is kept until the others have left, too.
func (c *Commands) leave(r *run, follower int, end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r.followers--
	r.unwanted = r.unwanted || end && (r.followers == 0 || follower == r.newest)
	if r.followers == 0 && r.unwanted {
		r.cancel()
	}
}

// large waits until an answer with output may be made: each takes tens of megabytes
// from its making until it was sent.
func (c *Commands) large(ctx context.Context, q Question) (made func(), err error) {
	select {
	case c.answers <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	gone := sync.OnceFunc(func() { <-c.answers })
	if q.Large == nil {
		return gone, nil
	}
	q.Large(gone)
	return func() {}, nil
}

// await waits until Run runs: a call may come while an earlier life is looked
// after.
func (c *Commands) await(ctx context.Context) (*store, error) {
	c.mu.Lock()
	ready := c.ready
	c.mu.Unlock()
	late := time.NewTimer(c.cfg.Ready)
	defer late.Stop()
	select {
	case <-ready:
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-late.C:
		return nil, errEnding
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.store, nil
}

// admits tells whether commands may run in a container.
func (c *Commands) admits(ctx context.Context, name string) error {
	found, err := c.cfg.Engine.Inspect(ctx, name)
	if errors.Is(err, container.ErrNotFound) || err == nil && (found.Name != name || !c.cfg.Owns(found)) {
		return errOutside
	}
	return err
}

// errUnknown means that a command would have to begin, and may not yet.
var errUnknown = errors.New("no such command was begun")

// claim finds the command of a question: one that runs, a kept result, or a new
// one, which it begins if it may.
func (c *Commands) claim(q Question, mayBegin bool) (r *run, follower int, kept *record, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life == nil {
		return nil, 0, nil, errEnding
	}
	digest := digestOf(q.RunCommandArgs)
	known, there := c.store.get(q.ID)
	if r = c.running[q.ID]; r != nil {
		known, there = r.claimed, true
	}
	switch {
	case q.Fetches() && !c.cfg.Allowed && q.Container == "" && (!there || known.Container == ""):
		return nil, 0, nil, errDisabled
	case q.Fetches() && (!there || q.Container != "" && q.Container != known.Container):
		return nil, 0, nil, errNotFound
	case there && (known.Caller != q.Caller || !q.Fetches() && known.Digest != digest):
		return nil, 0, nil, errUsed
	case r != nil && r.followers >= c.cfg.Followers:
		return nil, 0, nil, errFollowers
	case r != nil:
		r.followers++
		r.newest++
		r.unwanted = false
		return r, r.newest, nil, nil
	case there:
		return nil, 0, &known, nil
	case !mayBegin:
		return nil, 0, nil, errUnknown
	case c.full(q.Caller):
		return nil, 0, nil, errTooMany
	}
	if err := c.store.admit(q.Caller); err != nil {
		return nil, 0, nil, err
	}
	claimed := record{ID: q.ID, Caller: q.Caller, Digest: digest, Container: q.Container, Started: time.Now().UTC()}
	r = &run{
		claimed: claimed, record: claimed, followers: 1,
		output: newOutput(q.MaxOutput, c.store, q.ID),
		stop:   make(chan struct{}), done: make(chan struct{}),
	}
	c.running[q.ID] = r
	life := c.life
	c.work.Go(func() { c.perform(life, r, q) })
	return r, 0, nil, nil
}

// full tells whether no command of this caller may begin. The caller holds mu.
func (c *Commands) full(caller string) bool {
	all, theirs := len(c.running), c.others[caller]
	for _, n := range c.others {
		all += n
	}
	for _, r := range c.running {
		if r.claimed.Caller == caller {
			theirs++
		}
	}
	return all >= c.cfg.Running || theirs >= c.cfg.RunningOfOne
}

// digestOf tells arguments from others without keeping them.
func digestOf(a protocol.RunCommandArgs) string {
	text, err := json.Marshal(a) // keys of maps are in order
	if err != nil {
		return "" // texts and numbers always can be written
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// Stop ends a command and returns when it has ended, with what became of it but
// its output. One that has ended already is no error. The container has to be the
// one in which it runs, where one is given.
func (c *Commands) Stop(ctx context.Context, id, inside string) (protocol.CommandEnd, error) {
	store, err := c.await(ctx)
	if err != nil {
		return protocol.CommandEnd{}, err
	}
	c.mu.Lock()
	r := c.running[id]
	known, there := store.get(id)
	c.mu.Unlock()
	if r != nil {
		known, there = r.claimed, true
	}
	switch {
	case !there || inside != "" && inside != known.Container:
		return protocol.CommandEnd{}, errNotFound
	case r == nil:
		return known.end(), nil
	}
	r.cancel()
	select {
	case <-r.done:
		return r.record.end(), r.err
	case <-ctx.Done():
		return protocol.CommandEnd{}, ctx.Err()
	}
}
