package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

const shellSerial = "sn-7"

// A terminal is the agent's side of a shell, behind the fake studio: what it
// prints is a script, and what happens on the way is the test's.
type terminal struct {
	t         *testing.T
	f         *fake
	at        protocol.TerminalSession
	container bool              // output is bytes
	plain     bool              // it knows the contract only
	typing    func(text string) // called with what was typed
	dropped   func(at int) bool // whether an event is lost on its way
	work      sync.WaitGroup

	mu       sync.Mutex // guards what follows
	printed  []byte
	sent     int // position behind what was published
	received int
	ended    bool
	typed    string
	flows    []protocol.TerminalFlow
	sizes    []string
	started  bool // prints nothing before
	stopped  bool
	pumping  bool
	again    bool
}

func newTerminal(t *testing.T, d *desk, container string) *terminal {
	t.Helper()
	term := &terminal{t: t, f: d.studio, container: container != "", at: protocol.DeviceTerminal(shellSerial, "id-1"), typing: func(string) {}, dropped: func(int) bool { return false }}
	d.Hold, d.Probe, d.LookFor, d.Again, d.Linger = 50*time.Millisecond, 50*time.Millisecond, 100*time.Millisecond, 20*time.Millisecond, 50*time.Millisecond
	uri := func(suffix string) string { return protocol.Procedure(shellSerial, suffix) }
	d.studio.answers[protocol.StudioListDevices] = give(protocol.DeviceList{Devices: []protocol.DeviceRow{
		{DeviceKey: 7, SerialNumber: shellSerial, Name: "press-07", Online: true, Status: protocol.Connected}}})
	d.studio.answers[protocol.StudioListStates] = give(protocol.StateList{States: []protocol.AppOnDeviceRow{
		{DeviceKey: 7, DeviceName: "press-07", SerialNumber: shellSerial, AppKey: 6, AppName: "hello", Stage: protocol.Prod, Kind: protocol.KindSingle, ContainerName: "prod_6_hello"}}})
	d.studio.answers[uri(protocol.InitDeviceTerminal)] = give(term.at)
	term.started = container == ""
	if container != "" {
		term.at = protocol.ContainerTerminal(shellSerial, container, "id-1")
		d.studio.answers[uri(protocol.RequestTerminal)] = give(term.at)
		d.studio.answers[uri(protocol.StartTerminal)] = func(map[string]any) (any, error) {
			term.see(func() { term.started = true })
			term.pump()
			return nil, nil
		}
		d.studio.answers[uri(protocol.StopTerminal)] = func(map[string]any) (any, error) {
			term.mu.Lock()
			defer term.mu.Unlock()
			term.stopped = true
			return nil, nil
		}
	}
	d.studio.answers[term.at.ResizeTopic] = func(in map[string]any) (any, error) {
		term.mu.Lock()
		defer term.mu.Unlock()
		term.sizes = append(term.sizes, fmt.Sprintf("%vx%v", in["width"], in["height"]))
		return nil, nil
	}
	d.studio.published = term.take
	t.Cleanup(term.work.Wait)
	return term
}

// take is what comes in on the write topic.
func (m *terminal) take(topic string, args []any, kwargs map[string]any) error {
	if topic != m.at.WriteTopic {
		m.t.Errorf("published on %s, want %s", topic, m.at.WriteTopic)
	}
	text, ok := protocol.Text(protocol.Arg(args, 0))
	if !ok {
		m.t.Errorf("published %v, want a text", args)
	}
	m.mu.Lock()
	m.typed += text
	if flow, ok := protocol.ReadTerminalFlow(kwargs); ok && !m.plain {
		m.flows = append(m.flows, flow)
		m.received = max(m.received, int(flow.Received))
		if flow.Resume {
			m.sent = int(flow.Received)
		}
	}
	m.mu.Unlock()
	if text != "" {
		m.typing(text)
	}
	m.pump()
	return nil
}

// prints puts something out.
func (m *terminal) prints(text string) {
	m.mu.Lock()
	m.printed = append(m.printed, text...)
	m.mu.Unlock()
	m.pump()
}

// exits ends the shell.
func (m *terminal) exits() {
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.pump()
}

// pump publishes what may be, like the agent one event after the other.
func (m *terminal) pump() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.again = true; m.pumping || !m.started {
		return
	}
	m.pumping = true
	m.work.Go(func() {
		for {
			e, at, more := m.event()
			if !more {
				return
			}
			m.f.mu.Lock()
			follower := m.f.followers[m.at.DataTopic]
			m.f.mu.Unlock()
			if follower != nil && !m.dropped(at) {
				follower(e)
			}
		}
	})
}

func (m *terminal) event() (e messenger.Event, at int, more bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	window := m.received + protocol.TerminalWindow
	if m.plain {
		window = 1 << 40
	}
	n := min(4<<10, len(m.printed)-m.sent, window-m.sent)
	data := protocol.TerminalEOF
	switch {
	case n > 0:
		data = string(m.printed[m.sent : m.sent+n])
	case !m.again || !m.ended || m.sent < len(m.printed):
		m.pumping = false
		return e, 0, false
	default:
		n, m.again = 0, false
	}
	e.Args = []any{data}
	if m.container {
		e.Args[0] = base64.StdEncoding.EncodeToString([]byte(data))
	}
	if at = m.sent; len(m.flows) > 0 {
		e.Kwargs = map[string]any{protocol.TerminalOffset: at}
	}
	m.sent += n
	return e, at, true
}

func (m *terminal) see(look func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	look()
}

func TestAPipeIsTypedAndTheShellEndsBehindIt(t *testing.T) {
	for _, c := range []struct {
		claim, input, want string
		plain, container   bool
	}{
		{"a device's shell", "uname\n", "uname\n\x04", false, false},
		{"a last line without its end", "ls", "ls\n\x04", false, false},
		{"nothing at all", "", "\x04", false, false},
		{"an agent that knows the contract only", "uname\n", "uname\n\x04", true, false},
		{"a container's shell", "uname\n", "uname\n\x04", false, true},
		{"… of an agent that knows the contract only", "uname\n", "uname\n\x04", true, true},
	} {
		t.Run(c.claim, func(t *testing.T) {
			d, args, cn := newDesk(t), []string{"shell", "press-07"}, ""
			if c.container {
				args, cn = append(args, "hello"), "prod_6_hello"
			}
			m := newTerminal(t, d, cn)
			m.plain = c.plain
			m.prints("$ ")
			m.typing = func(text string) {
				if strings.HasSuffix(text, endOfFile) {
					m.prints("Linüx\r\n")
					m.exits()
				}
			}
			d.Stdin = strings.NewReader(c.input)
			if err := d.run(t, args...); err != nil {
				t.Fatal(err)
			}
			want := "$ Linüx\r\n"
			if c.plain && !c.container { // what it printed before anybody listened is lost
				want = "Linüx\r\n"
			}
			if got := d.stdout.String(); got != want {
				t.Errorf("printed %q, want %q", got, want)
			}
			m.see(func() {
				if m.typed != c.want {
					t.Errorf("typed %q, want %q", m.typed, c.want)
				}
				if m.stopped {
					t.Error("a shell that has ended was stopped")
				}
				if last := len(m.flows) - 1; !c.plain && (m.flows[last] != protocol.TerminalFlow{Received: uint64(len(m.printed))}) {
					t.Errorf("the last word is %+v, want that all was received", m.flows[last])
				}
			})
		})
	}
}

func TestTheEndOfAFileIsSaidUntilItIsHeard(t *testing.T) {
	d := newDesk(t)
	m := newTerminal(t, d, "")
	times := 0
	m.typing = func(text string) { // a program runs, and then the shell reads again
		if times += strings.Count(text, endOfFile); times == 3 {
			m.exits()
		}
	}
	d.Stdin = strings.NewReader("sleep 1\n")
	if err := d.run(t, "shell", "press-07"); err != nil || times != 3 {
		t.Errorf("shell = %v after %d times", err, times)
	}
}

// slowWriter takes a little at a time.
type slowWriter struct {
	bytes.Buffer
	pause time.Duration
}

func (s *slowWriter) Write(p []byte) (int, error) {
	<-time.After(s.pause)
	return s.Buffer.Write(p)
}

func TestASlowReaderBehindABadWayLosesNothing(t *testing.T) {
	d := newDesk(t)
	d.Hold = time.Minute // a busy machine is no agent without positions
	m := newTerminal(t, d, "prod_6_hello")
	random := rand.New(rand.NewPCG(1, 2))
	m.dropped = func(int) bool { return random.IntN(100) < 3 }
	var want bytes.Buffer
	for i := range 150_000 {
		fmt.Fprintf(&want, "line %d\r\n", i)
	}
	m.prints(want.String())
	m.exits()
	out := &slowWriter{pause: 100 * time.Microsecond}
	d.Stdin, d.Stdout = hang{t}, out
	if err := d.run(t, "shell", "press-07", "hello"); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), want.Bytes()) {
		t.Errorf("got %d bytes, want all %d", out.Len(), want.Len())
	}
	m.see(func() {
		if m.sent > m.received+protocol.TerminalWindow {
			t.Errorf("%d bytes were sent beyond what was received", m.sent-m.received)
		}
	})
}

// hang is an input from which nothing comes before the end of the test.
type hang struct{ t *testing.T }

func (h hang) Read([]byte) (int, error) { <-h.t.Context().Done(); return 0, io.EOF }

func TestAShellGoesOnAfterACutOfEitherSide(t *testing.T) {
	d := newDesk(t)
	m := newTerminal(t, d, "")
	typed, types := io.Pipe()
	d.Stdin = typed
	done := make(chan error, 1)
	go func() { done <- d.run(t, "shell", "press-07") }()
	m.prints("first ")
	d.stdout.waitFor(t, "first ")

	// Of this side: what is printed meanwhile is lost, and asked for.
	var away sync.Mutex
	cut := false
	m.dropped = func(int) bool { away.Lock(); defer away.Unlock(); return cut }
	set := func(to bool) { away.Lock(); defer away.Unlock(); cut = to }
	set(true)
	d.studio.changed(false, "cable pulled")
	m.prints("second ")
	if _, err := types.Write([]byte("held\n")); err != nil {
		t.Fatal(err)
	}
	d.stderr.waitFor(t, "cable pulled")
	m.see(func() {
		if m.typed != "" {
			t.Errorf("%q was sent while there was no connection", m.typed)
		}
	})
	set(false)
	d.studio.changed(true, "")
	d.stdout.waitFor(t, "first second ")
	d.stderr.waitFor(t, "the studio is back")

	// Of the device's.
	row := protocol.DeviceRow{SerialNumber: shellSerial, Name: "press-07"}
	d.studio.publish(t, protocol.StudioDeviceState, protocol.Wire(protocol.DeviceRow{SerialNumber: "another"}))
	d.studio.publish(t, protocol.StudioDeviceState, protocol.Wire(row))
	d.stderr.waitFor(t, "press-07 is off-line; the shell on press-07 waits for it")
	row.Online = true
	d.studio.publish(t, protocol.StudioDeviceState, protocol.Wire(row))
	d.stderr.waitFor(t, "press-07 is back")
	m.prints("third")
	d.stdout.waitFor(t, "first second third")
	m.exits()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	m.see(func() {
		if m.typed != "held\n" {
			t.Errorf("typed %q, want what was typed during the cut, once", m.typed)
		}
	})
	_ = types.Close()
}

func TestAShellThatIsGoneIsNotWaitedFor(t *testing.T) {
	d := newDesk(t)
	m := newTerminal(t, d, "")
	m.prints("$ ")
	d.Stdin = hang{t}
	done := make(chan error, 1)
	go func() { done <- d.run(t, "shell", "press-07") }()
	d.stdout.waitFor(t, "$ ")
	d.studio.mu.Lock()
	delete(d.studio.answers, m.at.ResizeTopic) // the agent was started anew
	d.studio.mu.Unlock()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "has ended meanwhile") {
			t.Errorf("shell = %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("it is waited for")
	}
}

func TestWhoIsAskedToEndLeavesNothingBehind(t *testing.T) {
	for container, app := range map[string]string{"": "", "prod_6_hello": "hello"} {
		d, args := newDesk(t), []string{"shell", "press-07"}
		if app != "" {
			args = append(args, app)
		}
		m := newTerminal(t, d, container)
		m.prints("$ ")
		d.Stdin = hang{t}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- d.Run(ctx, args) }()
		d.stdout.waitFor(t, "$ ")
		cancel()
		if err := <-done; !errors.Is(err, ctx.Err()) {
			t.Errorf("shell = %v, want that it was asked to", err)
		}
		m.see(func() {
			last := m.flows[len(m.flows)-1]
			if !last.Release || last.Received != 2 {
				t.Errorf("the last word is %+v, want that nobody reads on", last)
			}
			if m.stopped != (app != "") {
				t.Errorf("stopped = %v of %q", m.stopped, container)
			}
		})
	}
}

func TestWhyThereIsNoShell(t *testing.T) {
	uri := func(suffix string) string { return protocol.Procedure(shellSerial, suffix) }
	contract := func(code protocol.Code, text string) func(map[string]any) (any, error) {
		return func(map[string]any) (any, error) {
			return nil, &messenger.CallError{URI: protocol.ErrorContract, Args: []any{map[string]any{"error": text, "code": string(code)}}}
		}
	}
	for _, c := range []struct {
		claim, line, want string
		change            func(f *fake)
	}{
		{"an unknown device", "shell nowhere", `see "reagent-studio device ls"`, nil},
		{"one that is away", "shell press-07", "not on-line", func(f *fake) {
			f.answers[protocol.StudioListDevices] = give(protocol.DeviceList{Devices: []protocol.DeviceRow{{SerialNumber: shellSerial, Name: "press-07"}}})
		}},
		{"policy", "shell press-07", "only its device file can allow it", func(f *fake) {
			f.answers[uri(protocol.InitDeviceTerminal)] = contract(protocol.CodeDisabled, "terminals are disabled on this device (policy.terminals)")
		}},
		{"privilege", "shell press-07", "help grant", func(f *fake) {
			f.answers[uri(protocol.InitDeviceTerminal)] = contract(protocol.CodeRefused, "insufficient privileges")
		}},
		{"an agent without terminals", "shell press-07", "older than this program", func(f *fake) {
			delete(f.answers, uri(protocol.InitDeviceTerminal))
		}},
		{"an answer of nothing", "shell press-07", "names no terminal", func(f *fake) {
			f.answers[uri(protocol.InitDeviceTerminal)] = give(map[string]any{"dataTopic": "x"})
		}},
		{"no shell in the container", "shell press-07 hello", "has no shell", func(f *fake) {
			f.answers[uri(protocol.RequestTerminal)] = contract(protocol.CodeUnsupported, "the container has no shell")
		}},
		{"a start that fails", "shell press-07 hello", "terminal session", func(f *fake) {
			f.answers[uri(protocol.StartTerminal)] = contract(protocol.CodeRefused, "insufficient privileges to use this terminal session")
		}},
		{"a service of an app without", "shell press-07 hello --service web", "no services", nil},
		{"a service of no app", "shell press-07 --service web", "say which", nil},
		{"a key that is none", "shell press-07 --detach-key nonsense", "is no key", nil},
	} {
		d := newDesk(t)
		newTerminal(t, d, "prod_6_hello")
		d.Stdin = hang{t}
		if c.change != nil {
			c.change(d.studio)
		}
		if err := d.run(t, strings.Fields(c.line)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.claim, err, c.want)
		}
	}
}
