package apps

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// errCut is what everything answers to an agent that was killed. It reaches
// nobody: whoever receives it is dead.
var errCut = errors.New("the agent was killed")

// A life is one run of the agent, from its start to its end. kill -9 is a cut
// between two calls: from then on no call that the agent makes to the engine,
// the store or the studio has an effect, or an answer. fuse counts the calls
// until the cut, which comes before or after the last one's effect.
type life struct {
	apps  *Apps
	store *device.Store

	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}

	mu     sync.Mutex
	dead   bool
	fuse   int // 0 = none
	after  bool
	doomed bool // the last call is under way

	looks int // at wishes in one instant
	now   time.Time
}

// tooBusy is how many looks at wishes in one instant are no work but a loop.
const tooBusy = 5000

// look counts a look at a wish. A life that does nothing else is ended.
func (l *life) look(w *world) {
	l.mu.Lock()
	if now := time.Now(); now.Equal(l.now) {
		l.looks++
	} else {
		l.looks, l.now = 0, now
	}
	spins := l.looks == tooBusy
	l.mu.Unlock()
	if spins {
		w.complain("the agent is in a loop")
		l.die()
	}
}

func (l *life) killAfter(calls int, after bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fuse, l.after, l.doomed = calls, after, false
}

// die ends the life on the spot.
func (l *life) die() {
	l.mu.Lock()
	l.dead = true
	l.mu.Unlock()
	l.cancel()
}

// call performs one call of the agent.
func (l *life) call(do func() error) error {
	l.mu.Lock()
	last := false
	if l.fuse > 0 {
		l.fuse--
		last = l.fuse == 0
	}
	l.doomed = l.doomed || last && l.after
	before, dead := last && !l.after, l.dead
	l.mu.Unlock()
	if before {
		l.die()
	}
	if before || dead {
		return errCut
	}
	err := do()
	l.mu.Lock()
	cut := last && l.doomed
	dead = l.dead
	l.mu.Unlock()
	if cut {
		l.die()
	}
	if cut || dead {
		return errCut
	}
	return err
}

func lived[T any](l *life, do func() (T, error)) (v T, err error) {
	err = l.call(func() (e error) { v, e = do(); return e })
	return v, err
}

// A mortalEngine is the engine as one life reaches it.
type mortalEngine struct {
	l *life
	e *smallEngine
}

// Run has the two calls of the real one, and its tidying up.
func (m *mortalEngine) Run(ctx context.Context, s container.Spec) (id, note string, err error) {
	id, err = lived(m.l, func() (string, error) { return m.e.Create(ctx, s) })
	if err != nil {
		return "", "", err
	}
	if err = m.l.call(func() error { return m.e.Start(ctx, id) }); err != nil {
		_ = m.l.call(func() error { return m.e.Remove(context.WithoutCancel(ctx), id) })
		return "", "", err
	}
	return id, "", nil
}

func (m *mortalEngine) Start(ctx context.Context, id string) error {
	return m.l.call(func() error { return m.e.Start(ctx, id) })
}

func (m *mortalEngine) Stop(ctx context.Context, id string, grace time.Duration) error {
	return m.l.call(func() error { return m.e.Stop(ctx, id, grace) })
}

func (m *mortalEngine) Remove(ctx context.Context, id string) error {
	return m.l.call(func() error { return m.e.Remove(ctx, id) })
}

func (m *mortalEngine) Rename(ctx context.Context, id, name string) error {
	return m.l.call(func() error { return m.e.Rename(ctx, id, name) })
}

func (m *mortalEngine) Inspect(ctx context.Context, id string) (container.Container, error) {
	return lived(m.l, func() (container.Container, error) { return m.e.Inspect(ctx, id) })
}

func (m *mortalEngine) List(ctx context.Context, labels map[string]string) ([]container.Summary, error) {
	return lived(m.l, func() ([]container.Summary, error) { return m.e.List(ctx, labels) })
}

func (m *mortalEngine) Events(ctx context.Context, up func(), event func(container.Event)) error {
	return m.e.Events(ctx, up, event)
}

func (m *mortalEngine) Image(ctx context.Context, ref string) (container.Image, error) {
	return lived(m.l, func() (container.Image, error) { return m.e.Image(ctx, ref) })
}

func (m *mortalEngine) Images(ctx context.Context) ([]container.Image, error) {
	return lived(m.l, func() ([]container.Image, error) { return m.e.Images(ctx) })
}

func (m *mortalEngine) Pull(ctx context.Context, ref string, c *container.Credential, progress func(container.PullProgress)) error {
	return m.l.call(func() error { return m.e.Pull(ctx, ref, c, progress) })
}

func (m *mortalEngine) DownloadSize(ctx context.Context, ref string, c *container.Credential) (int64, error) {
	return lived(m.l, func() (int64, error) { return m.e.DownloadSize(ctx, ref, c) })
}

func (m *mortalEngine) LogConfig(context.Context, container.LogLimit, []string) (string, map[string]string, error) {
	return "", nil, nil
}

func (m *mortalEngine) RemoveImage(ctx context.Context, ref string) error {
	return m.l.call(func() error { return m.e.RemoveImage(ctx, ref) })
}

func (m *mortalEngine) Build(ctx context.Context, s container.BuildSpec, record func([]byte)) error {
	return m.l.call(func() error { return m.e.Build(ctx, s, record) })
}

func (m *mortalEngine) Tag(ctx context.Context, ref, newRef string) error {
	return m.l.call(func() error { return m.e.Tag(ctx, ref, newRef) })
}

func (m *mortalEngine) Push(ctx context.Context, ref string, c *container.Credential, record func([]byte)) error {
	return m.l.call(func() error { return m.e.Push(ctx, ref, c, record) })
}

func (m *mortalEngine) Volumes(ctx context.Context, labels map[string]string) ([]container.Volume, error) {
	return lived(m.l, func() ([]container.Volume, error) { return m.e.Volumes(ctx, labels) })
}

func (m *mortalEngine) RemoveVolume(ctx context.Context, name string) error {
	return m.l.call(func() error { return m.e.RemoveVolume(ctx, name) })
}

func (m *mortalEngine) RemoveNetworks(ctx context.Context, labels map[string]string) error {
	return m.l.call(func() error { return m.e.RemoveNetworks(ctx, labels) })
}

// A mortalStore is the store as one life reaches it. Its disk can be full.
type mortalStore struct {
	*device.Store
	l *life
	w *world
}

func (m *mortalStore) write(do func() error) error {
	return m.l.call(func() error {
		if m.w.diskFull.Load() {
			return errors.New("write: no space left on device")
		}
		return do()
	})
}

func (m *mortalStore) Wanted(id protocol.AppID) (device.Wanted, bool, error) {
	m.l.look(m.w)
	return m.Store.Wanted(id)
}

func (m *mortalStore) Want(r protocol.AppRequest, direct bool) (w device.Wanted, changed bool, err error) {
	err = m.write(func() (e error) { w, changed, e = m.Store.Want(r, direct); return e })
	return w, changed, err
}

func (m *mortalStore) Save(a device.Actual, out ...device.Outgoing) error {
	return m.write(func() error {
		_, err := m.w.studio.accept(func() (bool, error) { return true, m.Store.Save(a, out...) }, out)
		return err
	})
}

func (m *mortalStore) Drop(id protocol.AppID, seq uint64, out ...device.Outgoing) (dropped bool, err error) {
	err = m.write(func() (e error) {
		dropped, e = m.w.studio.accept(func() (bool, error) { return m.Store.Drop(id, seq, out...) }, out)
		return e
	})
	return dropped, err
}

func (m *mortalStore) SavePorts(p protocol.PortsReport) error {
	return m.write(func() error { return m.Store.SavePorts(p) })
}

func (m *mortalStore) Confirm(id uint64) error {
	return m.write(func() error { return m.Store.Confirm(id) })
}

func (m *mortalStore) ConfirmPorts(id protocol.AppID, seq uint64) error {
	return m.write(func() error { return m.Store.ConfirmPorts(id, seq) })
}

// A modelStudio is the backend: what it was told, in order, and what it believes
// of each app because of that.
type modelStudio struct {
	mu       sync.Mutex
	online   bool
	mail     map[protocol.AppID]*mail
	problems []string
}

// A mail is the reports of one app.
type mail struct {
	accepted []letter // by the store, in order
	// at are the positions in accepted that the last report may have had: reports
	// look alike, and one whose answer was lost comes twice.
	at    map[int]bool
	state protocol.State // as the studio knows it
	ports []protocol.PortRule
}

type letter struct {
	wire map[string]any
	keep bool
}

func newModelStudio() *modelStudio {
	return &modelStudio{online: true, mail: map[protocol.AppID]*mail{}}
}

func (s *modelStudio) linked() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.online
}

func (s *modelStudio) link(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.online = on
}

func (s *modelStudio) of(id protocol.AppID) *mail {
	if s.mail[id] == nil {
		s.mail[id] = &mail{at: map[int]bool{-1: true}}
	}
	return s.mail[id]
}

// accept notes the reports that a write to the store carries.
func (s *modelStudio) accept(write func() (bool, error), out []device.Outgoing) (bool, error) {
	s.mu.Lock() // before the reporter sees them
	defer s.mu.Unlock()
	done, err := write()
	if err == nil && done {
		for _, o := range out {
			m := s.of(protocol.AppID{Key: o.Report.AppKey, Stage: o.Report.Stage})
			m.accepted = append(m.accepted, letter{protocol.Wire(o.Report), o.Keep})
		}
	}
	return done, err
}

// lost forgets what a lost database can no longer deliver.
func (s *modelStudio) lost() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.mail {
		m.accepted, m.at = nil, map[int]bool{-1: true}
	}
}

// full is how many reports of an app may wait before some that were to be kept
// make way, too.
const full = 64

// take notes a report that arrived. It is the next one of its app that the store
// accepted, or a later one that took the place of those before it, or the last
// one again, because the answer to it was lost.
func (s *modelStudio) take(report map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	state, ok := protocol.Text(report["state"])
	key, _ := protocol.Uint(report["app_key"])
	stage, _ := protocol.Text(report["stage"])
	id := protocol.AppID{Key: key, Stage: protocol.Stage(stage)}
	m := s.of(id)
	if !ok {
		m.ports, _ = protocol.ParsePortRules(report["ports"])
		return
	}
	m.state = protocol.State(state)
	next := map[int]bool{}
	for p := range m.at {
		for i := max(p, 0); i < len(m.accepted); i++ {
			if reflect.DeepEqual(m.accepted[i].wire, report) {
				next[i] = true
			}
			if i > p && m.accepted[i].keep && i-p < full {
				break // only that one may come now
			}
		}
	}
	if len(next) == 0 {
		s.problems = append(s.problems, fmt.Sprintf("report %s of %s came out of order", state, id))
		return
	}
	m.at = next
}

// A mortalStudio is the studio as one life reaches it, over a link.
type mortalStudio struct {
	l *life
	s *modelStudio
}

func (m *mortalStudio) Online() bool { return m.s.linked() }

const roundTrip = 20 * time.Millisecond

func (m *mortalStudio) Report(ctx context.Context, report map[string]any) error {
	return m.l.call(func() error {
		if !m.s.linked() {
			return errors.New("offline")
		}
		m.s.take(report)
		return m.answer(ctx)
	})
}

func (m *mortalStudio) RegistryToken(ctx context.Context, _ uint64) (string, error) {
	return lived(m.l, func() (string, error) { return "token", m.answer(ctx) })
}

// answer is the way back: it ends when the link does.
func (m *mortalStudio) answer(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(roundTrip):
	}
	if !m.s.linked() {
		return errors.New("offline")
	}
	return nil
}

// silent takes what apps say about themselves.
type silent struct{ AppLog }

func (silent) Agent(string, string)  {}
func (silent) Record(string, []byte) {}
func (silent) Output(string, string) {}
func (silent) Clear(string)          {}
func (silent) ClearHistory(string)   {}
func (silent) Attach(string, string) {}
func (silent) Detach(string)         {}
func (silent) Gone(string)           {}
func (silent) Drain(context.Context, string, container.Container) {
}

func (silent) Transfer(string, string, float64) {}

// begin starts the agent, on what the one before it left behind.
func (w *world) begin() error {
	store, err := device.Open(filepath.Join(w.dir, "state.bolt"), zerolog.Nop())
	if err != nil {
		return err
	}
	l := &life{store: store, ended: make(chan struct{})}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.apps, err = New(Config{
		AppsDir: filepath.Join(w.dir, "apps"), Arch: "amd64", Privileged: true, HostPaths: func() []string { return nil },
		Facts: w.known, LANIP: func() string { return "" }, GPU: func() bool { return false },
		Store: &mortalStore{store, l, w}, Engine: &mortalEngine{l: l, e: w.engine}, Compose: smallCompose{l, w.engine}, Studio: &mortalStudio{l, w.studio},
		AppLog: silent{}, Log: w.log, Waits: ProductWaits(),
	})
	if err != nil {
		return errors.Join(err, store.Close())
	}
	l.apps.ports.free = func(wire string, port uint16) bool {
		w.engine.mu.Lock()
		defer w.engine.mu.Unlock()
		return !w.engine.busy(container.Port{Host: port, Protocol: wire})
	}
	w.life = l
	go func() { defer close(l.ended); _ = l.apps.Run(l.ctx) }()
	return nil
}

// known is what the agent knows.
func (w *world) known() Facts {
	f := w.facts
	if learnt := w.base.Load(); learnt != nil {
		f.BaseURL, f.CredentialKey = "https://studio/"+*learnt, *learnt
	}
	return f
}

// end waits for a life that was killed, or kills it.
func (w *world) end() error {
	l := w.life
	if l == nil {
		return nil
	}
	w.life = nil
	l.die()
	<-l.ended
	return l.store.Close()
}
