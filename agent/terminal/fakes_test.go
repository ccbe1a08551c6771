package terminal

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/messenger"
	"reagent/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const serial = "sn-1"

func size(height, width any) map[string]any { return map[string]any{"height": height, "width": width} }

// A fakeShell prints what it is told to.
type fakeShell struct {
	in, out *io.PipeReader
	type_   *io.PipeWriter // its input
	print   *io.PipeWriter
	exited  chan struct{}
	exit    func()
	sizes   chan [2]uint16
	deaf    bool // does not exit by ^D
}

func newFakeShell() *fakeShell {
	f := &fakeShell{exited: make(chan struct{}), sizes: make(chan [2]uint16, 10)}
	f.in, f.type_ = io.Pipe()
	f.out, f.print = io.Pipe()
	f.exit = sync.OnceFunc(func() { close(f.exited); f.print.Close() })
	return f
}

func (f *fakeShell) Read(p []byte) (int, error) { return f.out.Read(p) }

func (f *fakeShell) Write(p []byte) (int, error) {
	if strings.HasSuffix(string(p), "\x04") && !f.deaf {
		f.exit()
		return len(p), nil
	}
	return f.print.Write(p) // echo
}

func (f *fakeShell) Resize(_ context.Context, h, w uint16) error {
	f.sizes <- [2]uint16{h, w}
	return nil
}

func (f *fakeShell) Wait(ctx context.Context) error {
	select {
	case <-f.exited:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *fakeShell) End(context.Context) error { f.exit(); return nil }

func (f *fakeShell) Close() error {
	f.out.CloseWithError(io.ErrClosedPipe)
	f.in.CloseWithError(io.ErrClosedPipe)
	return nil
}

// fakeShells makes them.
type fakeShells struct {
	mu   sync.Mutex
	made []*fakeShell
	err  error
	deaf bool
}

func (f *fakeShells) device(context.Context) (shell, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return nil, f.err
	}
	s := newFakeShell()
	s.deaf = f.deaf
	f.made = append(f.made, s)
	return s, nil
}

func (f *fakeShells) container(ctx context.Context, _ string) (shell, error) { return f.device(ctx) }

func (f *fakeShells) fail(err error) { f.mu.Lock(); defer f.mu.Unlock(); f.err = err }

func (f *fakeShells) last() *fakeShell {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.made[len(f.made)-1]
}

// A fakeLink is a router without a network, for time that passes at once.
type fakeLink struct {
	mu        sync.Mutex
	handlers  map[string]messenger.EventHandler
	offered   map[string]Resize
	published []publication
	watchers  any   // the answer of wamp.subscription.match
	denied    error // … or its refusal
	fails     error // of publications
	asked     int
}

type publication struct {
	topic   string
	options map[string]any
	args    []any
	kwargs  map[string]any
}

func newFakeLink() *fakeLink {
	return &fakeLink{handlers: map[string]messenger.EventHandler{}, offered: map[string]Resize{}, watchers: []any{uint64(5)}}
}

func (l *fakeLink) Publish(_ context.Context, topic string, options map[string]any, args []any, kwargs map[string]any) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fails == nil {
		l.published = append(l.published, publication{topic, options, args, kwargs})
	}
	return l.fails
}

func (l *fakeLink) Call(context.Context, string, []any, map[string]any) (messenger.Result, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.asked++
	return messenger.Result{Args: []any{l.watchers}}, l.denied
}

func (l *fakeLink) DeclareTopic(uri, _ string, h messenger.EventHandler) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handlers[uri] = h
	return func() { l.mu.Lock(); defer l.mu.Unlock(); delete(l.handlers, uri) }
}

func (l *fakeLink) Settle(context.Context, ...string) error { return nil }

func (l *fakeLink) offer(r Resize) func() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.offered[r.URI] = r
	return func() { l.mu.Lock(); defer l.mu.Unlock(); delete(l.offered, r.URI) }
}

func (l *fakeLink) set(change func(*fakeLink)) { l.mu.Lock(); defer l.mu.Unlock(); change(l) }

// keys brings an event to a session, and reports whether somebody listens.
func (l *fakeLink) keys(names protocol.TerminalSession, e messenger.Event) bool {
	l.mu.Lock()
	h := l.handlers[names.WriteTopic]
	l.mu.Unlock()
	if h != nil {
		h(context.Background(), e)
	}
	return h != nil
}

// events are what was published on a session's data topic.
func (l *fakeLink) events(names protocol.TerminalSession) (some []publication) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.published {
		if p.topic == names.DataTopic {
			some = append(some, p)
		}
	}
	return some
}

// offers is the resize procedure of a session.
func (l *fakeLink) offers(names protocol.TerminalSession) Resize {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.offered[names.ResizeTopic]
}

// left is how many topics and procedures there are.
func (l *fakeLink) left() (topics, procedures int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.handlers), len(l.offered)
}

// output is all that was published on a topic, the end as [eof].
func (l *fakeLink) output(names protocol.TerminalSession) string {
	var b strings.Builder
	for _, p := range l.events(names) {
		switch v := p.args[0].(type) {
		case string:
			b.WriteString(v)
		case []byte:
			b.Write(v)
		}
	}
	return strings.ReplaceAll(b.String(), protocol.TerminalEOF, "[eof]")
}

// fakes runs terminals of fake shells on a fake link; for synctest.
func fakes(t *testing.T, configure func(*Config, *fakeShells)) (*Manager, *fakeLink, *fakeShells, func()) {
	link, shells := newFakeLink(), &fakeShells{}
	cfg := Config{Serial: serial, Link: link, Offer: link.offer, DeviceShell: true, Log: zerolog.Nop()}
	if configure != nil {
		configure(&cfg, shells)
	}
	m := newManager(cfg, shells)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return m, link, shells, func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
	}
}
