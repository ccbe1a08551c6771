package terminal

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/messenger"
	"reagent/protocol"
)

// A link is the connection as far as terminals go; messenger.Session is one.
type link interface {
	Publish(ctx context.Context, topic string, options map[string]any, args []any, kwargs map[string]any) error
	Call(ctx context.Context, uri string, args []any, kwargs map[string]any) (messenger.Result, error)
	DeclareTopic(uri, match string, h messenger.EventHandler) (withdraw func())
	Settle(ctx context.Context, uris ...string) error
}

// A Resize is the procedure of one session that tells the size of its window.
type Resize struct {
	URI    string
	Device bool // of the device's shell, else of a container's
	Handle func(ctx context.Context, by Caller, args []any) error
}

// A Caller is who wants something of a session.
type Caller struct {
	AuthID, Role string
	Account      uint64 // for whom the system calls; 0 = for itself
}

// owner is the name under which sessions belong to somebody.
func (c Caller) owner() string {
	if c.Account != 0 {
		return strconv.FormatUint(c.Account, 10)
	}
	return c.AuthID
}

// A Notice is that a session began or, with Ended, is over.
type Notice struct {
	Session   string
	By        Caller // who asked for it
	Container string // "" = the device's shell
	Ended     bool
	Why       string        // it ended
	Lasted    time.Duration // until then
}

// Limits of sessions. A zero stands for the product's value.
type Limits struct {
	MaxSessions int           // of the device; 16
	MaxPerOwner int           // 4
	NotStarted  time.Duration // a session that was asked for and not started ends; 2 min
	Look        time.Duration // between two looks at who watches, and still may; 30 s
	Unwatched   time.Duration // a session that nobody watches ends, and the last output waits no longer for a connection; 10 min
	Idle        time.Duration // a session without keystroke and output ends; 2 h
	Farewell    time.Duration // a shell that was asked to exit may take so long; 250 ms
	Drain       time.Duration // the last output of a shell may take so long; 2 s
	Linger      time.Duration // a session that ended answers a client with flow control; 1 min
	Young       time.Duration // a shell of the device that ends within that is kept so long, for a client with flow control that is about to come; 5 s
	Retry       time.Duration // pause after a publication failed; 1 s
	CallLimit   time.Duration // of one question to the router; 10 s
}

// Config says whose terminals these are.
type Config struct {
	Serial string
	Link   link
	Engine engine // of the containers

	// Owns tells whether a container is one of this device's apps: no other has a
	// shell. nil for none.
	Owns func(container.Container) bool
	// Offer offers the procedure of a session, until withdraw.
	Offer func(Resize) (withdraw func())
	// Allowed asks whether a session's owner may still have one; nil for always. No
	// answer leaves things as they are.
	Allowed func(ctx context.Context, by Caller, device bool) (bool, error)
	// Notify is told of each session: of its begin before its caller is, and of its
	// end. nil for nobody.
	Notify func(Notice)

	DeviceShell bool   // the device has a shell for its maintainers (policy.terminals)
	User        string // of that shell (policy.terminal_user); "" = the agent's own

	Limits

	Log zerolog.Logger
}

func (l Limits) withDefaults() Limits {
	for field, value := range map[*time.Duration]time.Duration{
		&l.NotStarted: 2 * time.Minute,
		&l.Look:       30 * time.Second,
		&l.Unwatched:  10 * time.Minute,
		&l.Idle:       2 * time.Hour,
		&l.Farewell:   250 * time.Millisecond,
		&l.Drain:      2 * time.Second,
		&l.Linger:     time.Minute,
		&l.Young:      5 * time.Second,
		&l.Retry:      time.Second,
		&l.CallLimit:  10 * time.Second,
	} {
		if *field == 0 {
			*field = value
		}
	}
	if l.MaxSessions == 0 {
		l.MaxSessions = 16
	}
	if l.MaxPerOwner == 0 {
		l.MaxPerOwner = 4
	}
	return l
}

// A Manager has the terminals of a device. Make it with New.
type Manager struct {
	cfg    Config
	shells shells

	mu       sync.Mutex      // guards what follows
	ctx      context.Context // of Run; nil while it does not run
	group    sync.WaitGroup  // the sessions; added to only while ctx is set
	sessions map[string]*session
	opening  map[string]int           // shells that are being started, by owner
	devices  map[string]chan struct{} // owners whose device shell is being started; closed when it was
}

// New makes the terminals of a device. There are none before Run.
func New(cfg Config) *Manager { return newManager(cfg, newSystem(cfg)) }

func newManager(cfg Config, s shells) *Manager {
	cfg.Limits = cfg.Limits.withDefaults()
	if cfg.Allowed == nil {
		cfg.Allowed = func(context.Context, Caller, bool) (bool, error) { return true, nil }
	}
	if cfg.Notify == nil {
		cfg.Notify = func(Notice) {}
	}
	return &Manager{
		cfg: cfg, shells: s,
		sessions: map[string]*session{}, opening: map[string]int{}, devices: map[string]chan struct{}{},
	}
}

// Run is the time in which there are sessions. It ends them all before it
// returns.
func (m *Manager) Run(ctx context.Context) error {
	m.mu.Lock()
	m.ctx = ctx
	m.mu.Unlock()
	<-ctx.Done()
	m.mu.Lock()
	m.ctx = nil // nobody starts anything from here on
	m.mu.Unlock()
	m.group.Wait()
	return ctx.Err()
}

// Online says that there is a new connection, on which everything is declared.
func (m *Manager) Online() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.sessions {
		s.out.connected()
	}
}

var (
	errDisabled = &protocol.Error{Code: protocol.CodeDisabled, Text: "terminals are disabled on this device: policy.terminals in its device file is false"}
	errMany     = &protocol.Error{Code: protocol.CodeUnavailable, Text: "too many terminal sessions: end one first"}
	errNotYours = &protocol.Error{Code: protocol.CodeRefused, Text: "insufficient privileges to use this terminal session"}
	errUnknown  = &protocol.Error{Code: protocol.CodeNotFound, Text: "session was not found"}
	errEnded    = &protocol.Error{Code: protocol.CodeNotFound, Text: "the terminal session has ended"}
	errStopping = &protocol.Error{Code: protocol.CodeUnavailable, Text: "the agent is starting or stopping: try again in a moment"}
)

// Device gives an owner's shell of the device: the one that there is, else a new
// one. It is started.
func (m *Manager) Device(ctx context.Context, by Caller) (protocol.TerminalSession, error) {
	owner := by.owner()
	if !m.cfg.DeviceShell {
		return protocol.TerminalSession{}, errDisabled
	}
	for {
		m.mu.Lock()
		if s := m.deviceShell(owner); s != nil {
			m.mu.Unlock()
			s.out.release()
			return s.names, s.wired(ctx)
		}
		wait := m.devices[owner]
		if wait == nil {
			break
		}
		m.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return protocol.TerminalSession{}, ctx.Err()
		}
	}
	done := make(chan struct{})
	m.devices[owner] = done
	m.mu.Unlock()
	s, err := m.open(ctx, by, "", m.shells.device)
	m.mu.Lock()
	delete(m.devices, owner)
	m.mu.Unlock()
	close(done)
	if err != nil {
		return protocol.TerminalSession{}, err
	}
	return s.names, s.wired(ctx)
}

// deviceShell finds an owner's shell of the device. m.mu is held.
func (m *Manager) deviceShell(owner string) *session {
	for _, s := range m.sessions {
		if s.container == "" && s.owner == owner && !s.ended() {
			return s
		}
	}
	return nil
}

// Container opens a shell in the running container of exactly this name, for an
// owner who has to start it.
func (m *Manager) Container(ctx context.Context, by Caller, name string) (protocol.TerminalSession, error) {
	s, err := m.open(ctx, by, name, func(ctx context.Context) (shell, error) { return m.shells.container(ctx, name) })
	if err != nil {
		return protocol.TerminalSession{}, err
	}
	return s.names, s.wired(ctx)
}

// Start lets the output of an owner's session out. To start one again changes
// nothing, but for the client: the last one to start gets what the contract says.
func (m *Manager) Start(ctx context.Context, by Caller, id string) error {
	s, err := m.session(by.owner(), id)
	if err != nil {
		return err
	}
	if err := s.wired(ctx); err != nil {
		return err
	}
	s.start()
	return nil
}

// Stop ends an owner's session. It does not wait for the end.
func (m *Manager) Stop(by Caller, id string) error {
	s, err := m.session(by.owner(), id)
	if err != nil {
		return err
	}
	s.stop("stopped")
	return nil
}

func (m *Manager) session(owner, id string) (*session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sessions[id]
	switch {
	case s == nil || s.ended():
		return nil, errUnknown
	case s.owner != owner:
		return nil, errNotYours
	}
	return s, nil
}

// open starts a shell, and a session around it.
func (m *Manager) open(ctx context.Context, by Caller, container string, start func(context.Context) (shell, error)) (*session, error) {
	m.mu.Lock()
	err := m.reserve(by.owner())
	m.mu.Unlock()
	if err != nil {
		return nil, err
	}
	sh, err := start(ctx)
	s := m.adopt(by, container, sh, err)
	switch {
	case s != nil:
		m.cfg.Notify(s.notice())
		close(s.told)
	case err == nil: // Run has ended meanwhile
		_ = sh.End(context.WithoutCancel(ctx))
		_ = sh.Close()
		err = errStopping
	}
	return s, err
}

// adopt makes a session of a shell that was started, or was not.
func (m *Manager) adopt(by Caller, container string, sh shell, err error) *session {
	m.mu.Lock()
	defer m.mu.Unlock()
	if owner := by.owner(); m.opening[owner] > 1 {
		m.opening[owner]--
	} else {
		delete(m.opening, owner)
	}
	if err != nil || m.ctx == nil {
		return nil
	}
	ctx, s := m.ctx, newSession(m.cfg, by, container, sh)
	m.sessions[s.names.SessionID] = s
	m.group.Go(func() {
		s.run(ctx)
		m.mu.Lock()
		delete(m.sessions, s.names.SessionID)
		m.mu.Unlock()
	})
	return s
}

// reserve finds room for one more session of an owner. Those that have ended and
// only wait for their client give way; those whose end is still to be told do not,
// but take no live one's place with their owner. m.mu is held.
func (m *Manager) reserve(owner string) error {
	if m.ctx == nil {
		return errStopping
	}
	all, own, leaving := 0, m.opening[owner], 0
	for _, n := range m.opening {
		all += n
	}
	var waiting []*session
	for _, s := range m.sessions {
		ended := s.ended()
		if ended && s.out.told() {
			waiting = append(waiting, s)
			continue
		}
		all++
		switch {
		case s.owner != owner:
		case ended:
			leaving++
		default:
			own++
		}
	}
	if all >= m.cfg.MaxSessions || own >= m.cfg.MaxPerOwner || leaving >= m.cfg.MaxPerOwner {
		return errMany
	}
	if all+len(waiting) >= m.cfg.MaxSessions {
		for _, s := range waiting {
			s.out.close()
		}
	}
	m.opening[owner]++
	return nil
}

// newID makes a UUID of version 4. Who knows it may not use the session; it has
// to be one of its kind only.
func newID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
