//go:build linux

package terminal

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
)

// withContainers lets a device open shells in the containers of an engine.
func withContainers(t *testing.T, docker *testenv.Engine) func(*Config) {
	t.Helper()
	e := dockerEngine(t, docker)
	return func(c *Config) {
		c.Engine, c.Owns = e, func(c container.Container) bool { return strings.HasPrefix(c.Name, "prod_") }
	}
}

func dockerEngine(t *testing.T, docker *testenv.Engine) *container.Engine {
	t.Helper()
	e, err := container.New(container.Config{Host: docker.Host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

// busybox runs a container with a shell and gives its name.
func busybox(t *testing.T, docker *testenv.Engine, app testenv.App) string {
	t.Helper()
	image := docker.Prefix + "/app:1"
	testenv.BuildImage(t, docker, image, app)
	name := "prod_6_" + docker.Prefix
	if _, _, err := dockerEngine(t, docker).Run(t.Context(), container.Spec{Name: name, Image: image}); err != nil {
		t.Fatal(err)
	}
	return name
}

// inContainer opens a shell in a container and starts it.
func inContainer(t *testing.T, m *Manager, by *messenger.Session, authid, name string) *screen {
	t.Helper()
	names, err := m.Container(t.Context(), Caller{AuthID: authid}, name)
	if err != nil {
		t.Fatalf("open a shell: %v", err)
	}
	s := look(t, by, names)
	if err := m.Start(t.Context(), Caller{AuthID: authid}, names.SessionID); err != nil {
		t.Fatalf("start it: %v", err)
	}
	return s
}

func TestAShellInAContainer(t *testing.T) {
	t.Parallel()
	docker := testenv.Docker(t)
	name := busybox(t, docker, testenv.App{Shell: true})
	url, _ := testenv.Router(t, logins)
	m, _ := startDevice(t, url, "json", withContainers(t, docker))
	user := join(t, url, "3", "json", nil, nil)

	names, err := m.Container(t.Context(), Caller{AuthID: "3"}, name)
	if err != nil {
		t.Fatal(err)
	}
	if want := "re.mgmt." + serial + ".term_data." + name + "." + names.SessionID; names.DataTopic != want {
		t.Errorf("output on %s, want %s", names.DataTopic, want)
	}
	write(t, user, names, "echo typed be''fore the start\n", nil)
	s := look(t, user, names)
	if err := m.Start(t.Context(), Caller{AuthID: "3"}, names.SessionID); err != nil {
		t.Fatal(err)
	}
	s.wait("typed before the start")
	s.write("echo grüße; echo term=$TERM.\n")
	s.wait("grüße\r\n")
	s.wait("term=xterm-256color.")
	if got := resize(t, user, names, size(33, 101)); got != "" {
		t.Errorf("resize: %s", got)
	}
	s.write("stty size\n")
	s.wait("33 101")
	if got := resize(t, user, names, size(33, "x")); got != "failed to parse width" {
		t.Errorf("resize: %s", got)
	}
	s.write("printf 'a\\377b\\n'\n")
	s.wait("a\xffb")
	s.write("sleep 29123 & echo $!; (trap '' HUP TERM; sleep 29123) & echo run''ning\n")
	s.wait("running")
	testenv.WaitFor(t, "the jobs run", func() bool { return processes(t, "sleep\x0029123") == 2 })
	s.write("exit\n")
	s.waitEOF()
	if n := processes(t, "sleep\x0029123"); n != 0 {
		t.Errorf("%d background jobs are left", n)
	}
	for _, e := range s.events {
		if len(e.Args) != 1 || e.Kwargs[protocol.TerminalBridge] == nil {
			t.Errorf("event %v %v", e.Args, e.Kwargs)
		}
	}
	t.Run("only in an app's", func(t *testing.T) {
		engine, others := dockerEngine(t, docker), "others-"+docker.Prefix
		own, err := engine.Inspect(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := engine.Run(t.Context(), container.Spec{Name: others, Image: own.Image}); err != nil {
			t.Fatal(err)
		}
		for what, idOrName := range map[string]string{"somebody else's": others, "by its ID": own.ID, "by the beginning of its ID": own.ID[:12]} {
			if _, err := m.Container(t.Context(), Caller{AuthID: "3"}, idOrName); err != errNoContainer {
				t.Errorf("%s: %v, want container not found", what, err)
			}
		}
	})
	t.Run("stopped", func(t *testing.T) {
		s := inContainer(t, m, user, "3", name)
		s.write("sleep 29124; echo never\n")
		testenv.WaitFor(t, "it runs", func() bool { return processes(t, "sleep\x0029124") == 1 })
		if err := m.Stop(Caller{AuthID: "3"}, s.names.SessionID); err != nil {
			t.Fatal(err)
		}
		s.waitEOF()
		if n := processes(t, "sleep\x0029124"); n != 0 {
			t.Errorf("%d programs are left", n)
		}
	})
	t.Run("killed with its container", func(t *testing.T) {
		s := inContainer(t, m, user, "3", name)
		s.write("echo he''re\n")
		s.wait("here")
		if err := docker.API.ContainerKill(t.Context(), name, "KILL"); err != nil {
			t.Fatal(err)
		}
		s.waitEOF()
		if s.eofs != 1 {
			t.Errorf("%d ends", s.eofs)
		}
		if _, err := m.Container(t.Context(), Caller{AuthID: "3"}, name); err == nil || !strings.Contains(err.Error(), "does not run") {
			t.Errorf("a shell in a dead container: %v", err)
		}
	})
	t.Run("not there", func(t *testing.T) {
		for _, other := range []string{"", ".", "no-such", name[:len(name)-1], "../" + name, strings.Repeat("x", 1<<16)} {
			if _, err := m.Container(t.Context(), Caller{AuthID: "3"}, other); err != errNoContainer {
				t.Errorf("%.20q: %v, want container not found", other, err)
			}
		}
	})
}

func TestAContainerWithoutAShellSaysSo(t *testing.T) {
	t.Parallel()
	docker := testenv.Docker(t)
	name := busybox(t, docker, testenv.App{})
	url, _ := testenv.Router(t, logins)
	m, _ := startDevice(t, url, "json", withContainers(t, docker))
	if _, err := m.Container(t.Context(), Caller{AuthID: "3"}, name); err == nil || !strings.Contains(err.Error(), "there is no shell in this container") {
		t.Errorf("%v", err)
	}
}

// Routers decide who gets an event; both must.
func TestNobodyElseGetsAByte(t *testing.T) {
	t.Parallel()
	routers := map[string]func(t *testing.T) string{
		"ours": func(t *testing.T) string { url, _ := testenv.Router(t, logins); return url },
		"Crossbar.io": func(t *testing.T) string {
			return testenv.Crossbar(t, map[string]testenv.Login{
				"system": {Secret: "secret", Role: protocol.RoleSystem}, "7-42": {Secret: "secret", Role: protocol.RoleDevice},
				"3": {Secret: "secret", Role: protocol.RoleUser}, "4": {Secret: "secret", Role: protocol.RoleUser},
			}).URL
		},
	}
	for name, start := range routers {
		t.Run(name, func(t *testing.T) {
			url := start(t)
			m, _ := startDevice(t, url, "json", nil)
			owner, other, system := join(t, url, "3", "json", nil, nil), join(t, url, "4", "cbor", nil, nil), join(t, url, "system", "json", nil, nil)
			s := onDevice(t, m, owner, "3")
			spy, bridge := look(t, other, s.names), look(t, system, s.names)
			write(t, other, s.names, "echo for''eign\n", nil)
			write(t, other, s.names, "", map[string]any{"received": 0, "release": true})
			s.write("echo my''own\n")
			s.wait("myown")
			bridge.wait("myown")
			if got := resize(t, other, s.names, size(5, 5)); got != "insufficient privileges to use this terminal session" {
				t.Errorf("resize by somebody else: %q", got)
			}
			s.write("stty size; exit\n")
			s.wait("24 80")
			s.waitEOF()
			bridge.waitEOF()
			if got := spy.text(); got != "" || len(spy.events) != 0 {
				t.Errorf("somebody else got %q", got)
			}
			if strings.Contains(s.text(), "foreign") {
				t.Error("somebody else's keystrokes were typed")
			}
		})
	}
}

func TestOutputWhileTheConnectionWasCutArrives(t *testing.T) {
	t.Parallel()
	for name, kwargs := range map[string]map[string]any{"as the contract has it": nil, "with flow control": protocol.TerminalFlow{}.Kwargs()} {
		t.Run(name, func(t *testing.T) {
			url, _ := testenv.Router(t, logins)
			relay := testenv.NewRelay(t, strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/ws"))
			m, _ := startDevice(t, "ws://"+relay.Addr()+"/ws", "json", nil)
			user := join(t, url, "3", "json", nil, nil)
			s := onDevice(t, m, user, "3")
			write(t, user, s.names, "stty -echo; for i in $(seq 1 60); do echo line $i.; sleep 0.02; done; echo fin''ished\n", kwargs)
			s.wait("line 5.")
			relay.Freeze()
			relay.Cut()
			<-time.After(500 * time.Millisecond) // the shell goes on
			relay.Thaw()
			s.wait("finished")
			if got := s.clean(t); !strings.Contains(got, numbered(60)) {
				t.Errorf("lines are missing or twice:\n%s", got)
			}
			s.write("echo type''d\n") // keystrokes and sizes arrive again
			s.wait("typed")
			if got := resize(t, user, s.names, size(9, 9)); got != "" {
				t.Errorf("resize: %s", got)
			}
		})
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %d.\r\n", i+1)
	}
	return b.String()
}

// clean is the output without what came twice: by its positions or, without flow
// control, the event that was not acknowledged.
func (s *screen) clean(t *testing.T) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	var last string
	for _, e := range s.events {
		text, _ := e.Args[0].(string)
		at, flowing := protocol.Uint(e.Kwargs[protocol.TerminalOffset])
		switch {
		case !flowing && strings.Contains(last, "line") && strings.HasPrefix(text, last):
			b.WriteString(strings.TrimPrefix(text, last))
			last = text
		case !flowing:
			b.WriteString(text)
			last = text
		case at > uint64(b.Len()):
			// what came before the flow control has no position
			if b.Len() < 200 {
				b.WriteString(strings.Repeat("?", int(at)-b.Len()))
				b.WriteString(text)
				continue
			}
			t.Errorf("a gap from %d to %d", b.Len(), at)
		default:
			b.WriteString(text[min(len(text), b.Len()-int(at)):])
		}
	}
	return b.String()
}

// A reader who takes his time loses nothing and makes nothing grow.
func TestASlowReaderWithFlowControlGetsEverything(t *testing.T) {
	t.Parallel()
	const size = 10 << 20
	docker := testenv.Docker(t)
	name := busybox(t, docker, testenv.App{Shell: true})
	url, _ := testenv.Router(t, logins)
	relay := testenv.NewRelay(t, strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/ws"))
	m, _ := startDevice(t, url, "cbor", withContainers(t, docker))
	for what, open := range map[string]func() protocol.TerminalSession{
		"on the device": func() protocol.TerminalSession {
			names, err := m.Device(t.Context(), anna)
			if err != nil {
				t.Fatal(err)
			}
			return names
		},
		"in a container": func() protocol.TerminalSession {
			names, err := m.Container(t.Context(), anna, name)
			if err != nil {
				t.Fatal(err)
			}
			return names
		},
	} {
		t.Run(what, func(t *testing.T) {
			r := &reader{wake: make(chan struct{}, 1)}
			names := open()
			withdraw := func() {}
			user := join(t, "ws://"+relay.Addr()+"/ws", "3", "cbor", func(s *messenger.Session) {
				withdraw = s.DeclareTopic(names.DataTopic, "", r.take)
			}, func() { r.poke(&r.again) })
			defer withdraw()
			write(t, user, names, "", protocol.TerminalFlow{}.Kwargs())
			if what == "in a container" {
				if err := m.Start(t.Context(), anna, names.SessionID); err != nil {
					t.Fatal(err)
				}
				write(t, user, names, "", protocol.TerminalFlow{}.Kwargs())
			}
			write(t, user, names, fmt.Sprintf("stty -echo -onlcr; echo beg''in; yes 0123456789abcde | head -c %d; echo; exit\n", size), nil)
			peak, cut := uint64(0), false
			late := time.After(2 * patience)
			for !r.over() {
				select {
				case <-r.wake:
				case <-time.After(5 * time.Second):
					r.poke(&r.again) // as a client does that hears nothing
				case <-late:
					t.Fatalf("%d bytes after %v", len(r.got), 2*patience)
				}
				flow := r.flow()
				if flow.Received > size/2 && !cut { // the reader's own connection
					cut = true
					relay.Cut()
				}
				_ = user.Publish(t.Context(), names.WriteTopic, nil, []any{""}, flow.Kwargs())
				m.mu.Lock()
				for _, s := range m.sessions {
					s.out.mu.Lock()
					peak = max(peak, uint64(len(s.out.kept.buf)))
					s.out.mu.Unlock()
				}
				m.mu.Unlock()
			}
			_ = user.Publish(t.Context(), names.WriteTopic, nil, []any{""}, protocol.TerminalFlow{Release: true}.Kwargs())
			_, rest, _ := strings.Cut(string(r.got), "begin\n")
			want := strings.Repeat("0123456789abcde\n", size/16)
			if !strings.HasPrefix(rest, want) {
				t.Errorf("of %d bytes %d arrive, or others", size, len(rest))
			}
			if peak > 2<<20 {
				t.Errorf("%d bytes were kept", peak)
			}
		})
	}
}

// A reader keeps what it got in order, and asks for what it missed.
type reader struct {
	wake chan struct{}

	mu    sync.Mutex
	got   []byte
	eof   bool
	again bool
	asked uint64 // the position from which on it was asked for, the last time
}

func (r *reader) take(_ context.Context, e messenger.Event) {
	p, _ := protocol.TerminalBytes(e.Args[0], strings.Contains(e.Topic, ".term_data."))
	at, flowing := protocol.Uint(e.Kwargs[protocol.TerminalOffset])
	if !flowing {
		return // from before
	}
	r.mu.Lock()
	switch have := uint64(len(r.got)); {
	case string(p) == protocol.TerminalEOF:
		r.eof = at == have
		r.again = r.again || !r.eof
	case at > have:
		r.again = r.again || r.asked != have // once: what is under way has the same gap
		r.asked = have
	case at+uint64(len(p)) > have:
		r.got = append(r.got, p[have-at:]...)
	}
	r.mu.Unlock()
	r.poke(nil)
}

func (r *reader) poke(what *bool) {
	if what != nil {
		r.mu.Lock()
		*what = true
		r.mu.Unlock()
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *reader) over() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.eof }

func (r *reader) flow() protocol.TerminalFlow {
	r.mu.Lock()
	defer r.mu.Unlock()
	f := protocol.TerminalFlow{Received: uint64(len(r.got)), Resume: r.again}
	r.again = false
	return f
}

// Without flow control the router may drop; the agent must neither block nor grow.
func TestASlowReaderWithoutFlowControlHoldsNothingUp(t *testing.T) {
	t.Parallel()
	url, _ := testenv.Router(t, logins)
	relay := testenv.NewRelay(t, strings.TrimSuffix(strings.TrimPrefix(url, "ws://"), "/ws"))
	m, _ := startDevice(t, url, "json", nil)
	slow := join(t, "ws://"+relay.Addr()+"/ws", "3", "json", nil, nil)
	user := join(t, url, "3", "json", nil, nil)
	s := onDevice(t, m, user, "3")
	look(t, slow, s.names)
	relay.SetRate(10_000)
	s.write("stty -echo; yes 0123456789abcdef0123456789abcdef | head -c 3000000; echo; echo en''d\n")
	s.wait("end")
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, session := range m.sessions {
		if n := len(session.out.kept.buf); n > 1<<20 {
			t.Errorf("%d bytes are kept", n)
		}
	}
	if n := bytes.Count([]byte(s.text()), []byte("0123456789abcdef0123456789abcdef\r\n")); n < 75_000 {
		t.Errorf("%d of the lines arrive at the one who is not slow", n)
	}
}
