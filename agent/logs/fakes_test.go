package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/container"
	"reagent/messenger"
	"reagent/persistence/journal"
	"reagent/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeEngine keeps what containers print, and lets tests break it.
type fakeEngine struct {
	mu         sync.Mutex
	containers map[string]*fakeContainer
	err        error // of the next requests
	following  int
	asked      []container.LogOptions
}

type fakeContainer struct {
	lines   []string // with their times; on stderr those that begin with "!"
	ended   bool
	started time.Time     // of one of a project
	broken  error         // ends those who follow
	rewind  bool          // those who follow get all of it once more …
	skip    int           // … or miss so many lines
	changed chan struct{} // closed at each change
}

// glue stands between what was printed without an end and what the next run of
// the container printed behind it. The engine does not show it.
const glue = "\x00"

func newFakeEngine(ids ...string) *fakeEngine {
	e := &fakeEngine{containers: map[string]*fakeContainer{}}
	for _, id := range ids {
		e.containers[id] = &fakeContainer{changed: make(chan struct{})}
	}
	return e
}

func (e *fakeEngine) change(id string, how func(*fakeContainer)) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.containers[id]
	how(c)
	close(c.changed)
	c.changed = make(chan struct{})
}

func stamp(t time.Time, text string) string {
	return t.UTC().Format("2006-01-02T15:04:05.000000000Z07:00") + " " + text
}

func (e *fakeEngine) print(id string, lines ...string) {
	e.change(id, func(c *fakeContainer) {
		for _, line := range lines {
			c.lines = append(c.lines, stamp(time.Now(), line))
		}
	})
}

func (e *fakeEngine) end(id string) { e.change(id, func(c *fakeContainer) { c.ended = true }) }
func (e *fakeEngine) startAgain(id string) {
	e.change(id, func(c *fakeContainer) { c.ended, c.broken = false, nil })
}
func (e *fakeEngine) breakOff(id string) {
	e.change(id, func(c *fakeContainer) { c.broken = errors.New("engine went away") })
}
func (e *fakeEngine) remove(id string) {
	e.end(id)
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.containers, id)
}

func (e *fakeEngine) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.err = err
}

// questions counts the requests for logs.
func (e *fakeEngine) questions() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.asked)
}

func (e *fakeEngine) followers() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.following
}

// Sources knows a project by the containers whose names begin with its own.
func (e *fakeEngine) Sources(_ context.Context, id string) ([]container.LogSource, error) {
	project, is := strings.CutPrefix(id, container.ProjectLog(""))
	if !is {
		return []container.LogSource{{ID: id}}, nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	var names []string
	for name := range e.containers {
		if strings.HasPrefix(name, project+"-") {
			names = append(names, strings.TrimPrefix(name, project+"-"))
		}
	}
	slices.Sort(names)
	if e.err != nil || len(names) == 0 {
		return nil, cmp.Or(e.err, fmt.Errorf("logs of %s: %w", id, container.ErrNotFound))
	}
	var sources []container.LogSource
	for i, prefix := range container.LogPrefixes(names) {
		service, _, _ := strings.Cut(names[i], "-")
		id := project + "-" + names[i]
		sources = append(sources, container.LogSource{
			ID: id, Name: names[i], Service: service, Prefix: prefix, Running: !e.containers[id].ended, Started: e.containers[id].started,
		})
	}
	return sources, nil
}

func (e *fakeEngine) Logs(ctx context.Context, id string, o container.LogOptions, line func(string, []byte)) error {
	e.mu.Lock()
	c, err := e.containers[id], e.err
	e.asked = append(e.asked, o)
	if err != nil || c == nil {
		e.mu.Unlock()
		if err == nil {
			err = fmt.Errorf("logs of %s: %w", id, container.ErrNotFound)
		}
		return err
	}
	if o.Follow {
		e.following++
		defer func() { e.mu.Lock(); e.following--; e.mu.Unlock() }()
	}
	sent := 0
	if o.Tail > 0 {
		sent = max(0, len(c.lines)-o.Tail)
	}
	for {
		if o.Follow && c.rewind {
			c.rewind, sent = false, 0
		}
		if o.Follow {
			sent, c.skip = min(sent+c.skip, len(c.lines)), 0
		}
		lines := slices.Clone(c.lines[sent:])
		sent = len(c.lines)
		if n := len(lines) - 1; o.Running && n >= 0 {
			if _, text := split([]byte(lines[n])); len(text) > 0 && len(text)%(16<<10) == 0 {
				lines = lines[:n]
			}
		}
		ended, broken, changed := c.ended, c.broken, c.changed
		e.mu.Unlock()
		for _, l := range lines {
			stream := "stdout"
			if text, is := strings.CutPrefix(l, "!"); is {
				stream, l = "stderr", text
			}
			parts := slices.DeleteFunc(strings.Split(l, glue), func(part string) bool {
				at, _ := split([]byte(part))
				return at.Before(o.Since)
			})
			if len(parts) > 0 {
				line(stream, []byte(strings.TrimSuffix(strings.Join(parts, ""), "\r"))) // container.Logs cuts one as well
			}
		}
		switch {
		case !o.Follow || ended:
			return ctx.Err()
		case broken != nil:
			return broken
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
		e.mu.Lock()
	}
}

// fakeSession is a router to publish on and to ask.
type fakeSession struct {
	mu        sync.Mutex
	listeners map[string]any // by topic: the answer of wamp.subscription.match
	callErr   error
	noMeta    error // refuses to tell who comes and goes
	asked     []string
	err       error         // of publications
	hold      chan struct{} // not nil: publications, and questions, wait for it
	published []publication
}

type publication struct {
	topic string
	args  []any
	at    time.Time
}

func (s *fakeSession) set(change func(*fakeSession)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *fakeSession) wait(ctx context.Context) error {
	s.mu.Lock()
	hold := s.hold
	s.mu.Unlock()
	if hold == nil {
		return nil
	}
	select {
	case <-hold:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *fakeSession) Publish(ctx context.Context, topic string, options map[string]any, args []any, kwargs map[string]any) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if len(options) != 0 || len(kwargs) != 0 {
		return fmt.Errorf("options %v, kwargs %v: the contract has none", options, kwargs)
	}
	s.published = append(s.published, publication{topic, args, time.Now()})
	return nil
}

func (s *fakeSession) Call(ctx context.Context, uri string, args []any, kwargs map[string]any) (messenger.Result, error) {
	s.mu.Lock()
	topic, _ := protocol.Text(protocol.Arg(args, 0))
	s.asked = append(s.asked, topic)
	answer, err := s.listeners[topic], s.callErr
	s.mu.Unlock()
	if e := s.wait(ctx); e != nil {
		return messenger.Result{}, e
	}
	if err != nil {
		return messenger.Result{}, err
	}
	return messenger.Result{Args: []any{answer}}, nil
}

func (s *fakeSession) Settle(context.Context, ...string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.noMeta
}

func (s *fakeSession) questions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// texts are the events of an app in order: lines as they were sent, messages of
// the agent with a ">" before them.
func (s *fakeSession) texts(cn string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := []string{}
	for _, p := range s.published {
		if p.topic != protocol.LogTopic("sn-1", cn) {
			continue
		}
		switch arg := p.args[0].(type) {
		case string:
			out = append(out, arg)
		case map[string]any:
			out = append(out, ">"+arg["chunk"].(string))
		}
	}
	return out
}

// running makes logs that run until the test ends.
func running(t *testing.T, e *fakeEngine, s *fakeSession, change ...func(*Config)) *Logs {
	t.Helper()
	cfg := Config{Serial: "sn-1", Session: s, Engine: e, Log: zerolog.New(zerolog.NewTestWriter(t))}
	for _, c := range change {
		c(&cfg)
	}
	if cfg.Journal == nil {
		cfg.Journal = journal.Open(journal.Config{Dir: t.TempDir(), Log: cfg.Log})
	}
	l := New(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v, want context.Canceled", err)
		}
	})
	return l
}

// idle makes logs that do not run.
func idle(t *testing.T) *Logs {
	t.Helper()
	return New(Config{
		Serial: "sn-1", Session: &fakeSession{}, Engine: newFakeEngine(),
		Journal: journal.Open(journal.Config{Dir: t.TempDir()}),
	})
}

func created(id uint64, uri, match string) []any {
	return []any{uint64(77), map[string]any{"id": id, "uri": uri, "match": match, "created": "now"}}
}

func deleted(id uint64) []any { return []any{uint64(77), id} }

func expect(t *testing.T, claim string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %s, want %s", claim, quote(got), quote(want))
	}
}

func quote(list []string) string {
	for i, s := range list {
		if len(s) > 80 {
			list[i] = fmt.Sprintf("%s… (%d bytes)", s[:80], len(s))
		}
	}
	return "[" + strings.Join(strings.Split(fmt.Sprintf("%q", list), "\n"), " ") + "]"
}
