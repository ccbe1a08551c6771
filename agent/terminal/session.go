package terminal

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"reagent/messenger"
	"reagent/protocol"
)

// A session is one shell and its topics.
type session struct {
	cfg       Config
	by        Caller
	owner     string
	container string // "" = the device's shell
	names     protocol.TerminalSession
	log       zerolog.Logger
	shell     shell
	in        *input
	out       *output
	began     time.Time

	told      chan struct{} // closed when its begin was noticed
	started   chan struct{}
	stopping  chan struct{}
	lingers   chan struct{} // has room for one: a client with flow control was sent the end
	begin     func()        // closes started, once
	used      atomic.Int64  // when there was a keystroke or output, in ns since began
	over      atomic.Bool   // the shell has ended
	disclosed atomic.Bool   // the router has told who typed
	why       string        // it was stopped; set before stopping is closed
	once      sync.Once     // of stop
	deaf      sync.Once     // of the complaint about a program that does not read

	withdrawKeys, withdrawSize func()
}

func newSession(cfg Config, by Caller, container string, sh shell) *session {
	s := &session{
		cfg: cfg, by: by, owner: by.owner(), container: container, shell: sh,
		names: protocol.DeviceTerminal(cfg.Serial, newID()), began: time.Now(),
		in: newInput(), out: newOutput(container == "", container != ""),
		told: make(chan struct{}), started: make(chan struct{}), stopping: make(chan struct{}), lingers: make(chan struct{}, 1),
	}
	if container != "" {
		s.names = protocol.ContainerTerminal(cfg.Serial, container, s.names.SessionID)
	}
	s.log = cfg.Log.With().Str("session", protocol.Loggable(s.names.SessionID)).Str("owner", s.owner).Str("container", container).Logger()
	s.begin = sync.OnceFunc(func() { close(s.started); s.out.begin() })
	if container == "" { // it is started before its client subscribes
		s.out.young = true
		s.begin()
	}
	s.withdrawKeys = cfg.Link.DeclareTopic(s.names.WriteTopic, "", s.keys)
	s.withdrawSize = cfg.Offer(Resize{URI: s.names.ResizeTopic, Device: container == "", Handle: s.resize})
	return s
}

// wired waits until keystrokes and sizes reach the session.
func (s *session) wired(ctx context.Context) error {
	err := s.cfg.Link.Settle(ctx, s.names.WriteTopic, s.names.ResizeTopic)
	var refused *messenger.CallError
	if errors.As(err, &refused) {
		s.stop("the router refuses its topics")
	}
	return err
}

// start lets the output out. Whoever starts it again begins without flow control.
func (s *session) start() {
	s.begin()
	s.out.release()
}

// stop ends the session, for the first reason that is given.
func (s *session) stop(why string) {
	s.once.Do(func() {
		s.why = why
		close(s.stopping)
	})
}

func (s *session) ended() bool { return s.over.Load() }

func (s *session) use() { s.used.Store(int64(time.Since(s.began))) }

// keys takes an event of the write topic (wire §9.1 step 4; Appendix A).
func (s *session) keys(_ context.Context, e messenger.Event) {
	if !s.heeds(e) {
		by := e.PublisherAuthID
		s.log.Debug().Str("by", by[:min(len(by), 100)]).Msg("keystrokes of somebody else dropped")
		return
	}
	if flow, ok := protocol.ReadTerminalFlow(e.Kwargs); ok {
		s.out.hear(flow)
	}
	if text, _ := protocol.Text(protocol.Arg(e.Args, 0)); text != "" {
		s.use()
		if !s.in.add(text) {
			s.deaf.Do(func() { s.log.Warn().Msg("keystrokes are dropped: the program does not read them") })
		}
	}
}

// heeds tells whether an event comes from the owner or the system, or may: a
// router need not tell who publishes. One that has told it of these two does so
// always, or they asked it to, and whom it does not name is somebody else.
func (s *session) heeds(e messenger.Event) bool {
	by, role := e.PublisherAuthID, e.PublisherRole
	switch {
	case by == "":
		return !s.disclosed.Load()
	case protocol.IsSystem(by, role), by == s.owner && (role == "" || !s.systems()):
		s.disclosed.Store(true)
		return true
	}
	return false
}

// systems tells whether the session is the system's own: no name makes an owner of
// that one.
func (s *session) systems() bool {
	return s.by.Account == 0 && protocol.IsSystem(s.by.AuthID, s.by.Role)
}

// resize is the session's procedure.
func (s *session) resize(ctx context.Context, by Caller, args []any) error {
	if by.owner() != s.owner {
		return errNotYours
	}
	read, gone := (*protocol.TerminalSize).ReadContainerArgs, errUnknown
	if s.container == "" {
		read, gone = (*protocol.TerminalSize).ReadDeviceArgs, errEnded
	}
	var size protocol.TerminalSize
	if err := read(&size, args); err != nil {
		return err
	}
	if s.ended() {
		return gone
	}
	if size.Height == 0 || size.Width == 0 {
		return nil
	}
	return s.shell.Resize(ctx, size.Height, size.Width)
}

func (s *session) notice() Notice {
	return Notice{Session: s.names.SessionID, By: s.by, Container: s.container}
}

// run is the owner of the session: from the shell's start until its end was
// published. ctx is the agent's.
func (s *session) run(ctx context.Context) {
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	exited, read, published := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() { defer close(exited); _ = s.shell.Wait(life) })
	work.Go(func() { defer close(read); s.read() })
	work.Go(func() { defer close(published); s.publish(life) })
	work.Go(func() { s.in.pass(s.shell) })
	work.Go(func() { s.watch(life) })
	s.log.Info().Msg("terminal opened")
	young := time.AfterFunc(s.cfg.Young, s.out.age)
	defer young.Stop()

	why := s.live(ctx, exited, read)
	s.over.Store(true)
	s.withdrawSize()
	s.stop(why) // for whoever watches
	s.endShell(life, read)
	end := s.notice()
	end.Ended, end.Why, end.Lasted = true, why, time.Since(s.began)
	s.log.Info().Str("why", why).Dur("lasted", end.Lasted).Msg("terminal closed")
	<-s.told
	s.cfg.Notify(end)

	s.seeOff(ctx, published)
	s.withdrawKeys()
	s.out.close()
	cancel()
	work.Wait()
}

// live lasts as long as the session does, and tells why it is over.
func (s *session) live(ctx context.Context, exited, read <-chan struct{}) (why string) {
	select {
	case <-exited:
		return "the shell exited"
	case <-read:
		return "the terminal was closed"
	case <-ctx.Done():
		return "the agent ends"
	case <-s.stopping:
	}
	// First as its user would do it (wire Appendix A).
	for _, key := range []string{"\x03", "\x04"} { // one after the other: a shell that is interrupted may forget what was typed
		s.in.add(key)
		within(exited, s.cfg.Farewell/2)
	}
	return s.why
}

// within waits until something has happened, but not for long, and tells whether
// it has.
func within(happened <-chan struct{}, most time.Duration) bool {
	late := time.NewTimer(most)
	defer late.Stop()
	select {
	case <-happened:
		return true
	case <-late.C:
		return false
	}
}

// endShell ends everything that runs in the session, and reads what it printed
// last.
func (s *session) endShell(ctx context.Context, read <-chan struct{}) {
	s.out.drain()
	within(read, s.cfg.Farewell) // else somebody in the background has the terminal open
	if err := s.shell.End(ctx); err != nil {
		s.log.Warn().Err(err).Msg("not everything in the terminal has ended")
	}
	within(read, s.cfg.Drain) // else somebody who is not ours any more has it
	s.in.close()
	_ = s.shell.Close()
	<-read
	s.out.finish()
}

// seeOff waits until the end was published, and for clients that may ask again.
func (s *session) seeOff(ctx context.Context, published <-chan struct{}) {
	late := time.NewTimer(s.cfg.Unwatched)
	defer late.Stop()
	for ending := ctx.Done(); ; {
		select {
		case <-published:
			return
		case <-s.lingers: // it may ask again
			if ending != nil { // but the agent waits for nobody
				late.Reset(s.cfg.Linger)
			}
		case <-ending:
			late.Reset(s.cfg.Farewell)
			ending = nil
		case <-late.C:
			return
		}
	}
}

func (s *session) read() {
	buf := make([]byte, mostRead)
	var text decoder
	for {
		n, err := s.shell.Read(buf)
		if p := buf[:n]; n > 0 {
			s.use()
			if s.container == "" {
				p = text.decode(p)
			}
			s.out.write(p)
		}
		if err != nil {
			s.out.write(text.flush())
			return
		}
	}
}
