package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

var update = flag.Bool("update", false, "write the golden files anew")

// noon is the time at which all tests of output happen.
var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

// A fake is a studio: answers by procedure, and a way to publish.
type fake struct {
	mu        sync.Mutex
	answers   map[string]func(in map[string]any) (any, error)
	positions map[string]func(args []any) error                                                         // procedures that take more than one argument
	streams   map[string]func(ctx context.Context, in map[string]any, send func(part any)) (any, error) // that answer in parts
	asked     map[string][]map[string]any
	followers map[string]func(messenger.Event)
	published func(topic string, args []any, kwargs map[string]any) error
	changed   func(online bool, reason string)
	closed    bool
}

func (f *fake) Call(ctx context.Context, uri string, args []any, kwargs map[string]any) (messenger.Result, error) {
	return f.CallProgress(ctx, uri, args, kwargs, func(messenger.Result) {})
}

func (f *fake) CallProgress(ctx context.Context, uri string, args []any, _ map[string]any, progress func(messenger.Result)) (messenger.Result, error) {
	in, _ := protocol.AsDict(protocol.Arg(args, 0))
	f.mu.Lock()
	f.asked[uri] = append(f.asked[uri], in)
	answer, positional, stream := f.answers[uri], f.positions[uri], f.streams[uri]
	f.mu.Unlock()
	if positional != nil {
		return messenger.Result{}, positional(args)
	}
	if stream != nil {
		answer = func(in map[string]any) (any, error) {
			return stream(ctx, in, func(part any) { progress(messenger.Result{Args: []any{wired(part)}}) })
		}
	}
	if answer == nil {
		return messenger.Result{}, &messenger.CallError{URI: protocol.ErrorNoSuchProcedure}
	}
	out, err := answer(in)
	if err != nil {
		return messenger.Result{}, err
	}
	if list, ok := out.([]any); ok {
		return messenger.Result{Args: []any{list}}, nil
	}
	return messenger.Result{Args: []any{wired(out)}}, nil
}

// wired is a value as it comes out of a session.
func wired(v any) any {
	out, err := protocol.WireValue(v)
	if err != nil {
		return nil
	}
	return out
}

// answer changes what a procedure answers from now on.
func (f *fake) answer(uri string, answer func(map[string]any) (any, error)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answers[uri] = answer
}

func (f *fake) Follow(_ context.Context, topic string, event func(messenger.Event)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.followers[topic] = event
	return nil
}

func (f *fake) Publish(_ context.Context, topic string, args []any, kwargs map[string]any) error {
	f.mu.Lock()
	published := f.published
	f.mu.Unlock()
	if published == nil {
		return nil
	}
	return published(topic, args, kwargs)
}

func (f *fake) Watch(changed func(online bool, reason string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.changed = changed
}

func (f *fake) Close() { f.closed = true }

func (f *fake) publish(t *testing.T, topic string, args ...any) {
	t.Helper()
	f.mu.Lock()
	event := f.followers[topic]
	f.mu.Unlock()
	if event == nil {
		t.Fatalf("nobody follows %s", topic)
	}
	event(messenger.Event{Topic: topic, Args: args})
}

func (f *fake) question(t *testing.T, uri string) map[string]any {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.asked[uri]) != 1 {
		t.Fatalf("%s was asked %d times, want once", uri, len(f.asked[uri]))
	}
	return f.asked[uri][0]
}

// refuse is an answer of the studio that is an error.
func refuse(code protocol.Code, text string) func(map[string]any) (any, error) {
	return func(map[string]any) (any, error) {
		return nil, &messenger.CallError{URI: protocol.ErrorPrefix + string(code), Args: []any{map[string]any{"error": text, "code": string(code)}}}
	}
}

func give(out any) func(map[string]any) (any, error) {
	return func(map[string]any) (any, error) { return out, nil }
}

// A desk is a program in a test: a profile, a fake studio, what it printed.
type desk struct {
	Program
	studio         *fake
	stdout, stderr *lockedBuffer
	env            map[string]string
	dialled        []protocol.StudioProfile
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{
		studio: &fake{answers: map[string]func(map[string]any) (any, error){}, positions: map[string]func([]any) error{}, streams: map[string]func(context.Context, map[string]any, func(any)) (any, error){}, asked: map[string][]map[string]any{}, followers: map[string]func(messenger.Event){}},
		stdout: &lockedBuffer{}, stderr: &lockedBuffer{}, env: map[string]string{},
	}
	d.Program = Program{
		Name:   "reagent-studio",
		Getenv: func(name string) string { return d.env[name] },
		Stdout: d.stdout, Stderr: d.stderr,
		Now: func() time.Time { return noon },
		Dial: func(_ context.Context, p protocol.StudioProfile) (Session, error) {
			d.dialled = append(d.dialled, p)
			return d.studio, nil
		},
		DataFolder: t.TempDir(),
		Extra:      []Command{{Words: "serve", Local: true, About: "Run a studio", Run: func(context.Context, *Call) error { return nil }}},
	}
	d.profile(t, filepath.Join(d.DataFolder, profileFile), protocol.StudioProfile{URL: "http://127.0.0.1:8020", Realm: "realm1", AuthID: "1", Secret: "s3cret"})
	return d
}

func (d *desk) profile(t *testing.T, path string, p protocol.StudioProfile) {
	t.Helper()
	data, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (d *desk) run(t *testing.T, args ...string) error {
	t.Helper()
	return d.Run(t.Context(), args)
}

// lockedBuffer is written to while the test reads it.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *lockedBuffer) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}

// waitFor polls until the output holds text.
func (l *lockedBuffer) waitFor(t *testing.T, text string) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(l.String(), text) {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("the output never held %q:\n%s", text, l.String())
		}
	}
}

// golden compares with a file below testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("output differs from %s (write it anew with -update):\ngot\n%s\nwant\n%s", path, got, want)
	}
}

var _ io.Writer = (*lockedBuffer)(nil)
