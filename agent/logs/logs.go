package logs

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/messenger"
	"reagent/persistence/journal"
	"reagent/protocol"
)

// A session is the connection as far as logs go; messenger.Session is one.
type session interface {
	Publish(ctx context.Context, topic string, options map[string]any, args []any, kwargs map[string]any) error
	Call(ctx context.Context, uri string, args []any, kwargs map[string]any) (messenger.Result, error)
	// Settle waits until the router has what is declared, or says why not.
	Settle(ctx context.Context, uris ...string) error
}

// An engine keeps what containers print; container.AppLogs is one.
type engine interface {
	// Sources are the containers of which a log is made.
	Sources(ctx context.Context, idOrName string) ([]container.LogSource, error)
	Logs(ctx context.Context, idOrName string, o container.LogOptions, line func(stream string, line []byte)) error
}

// Config says whose logs these are. Serial, Session, Engine and Journal are
// needed; a zero elsewhere stands for the product's value.
type Config struct {
	Serial  string
	Session session
	Engine  engine
	Journal *journal.Journal // a stream for each app, with Carry; whoever made it runs and closes it
	Log     zerolog.Logger

	Installed func(cn string) bool // an app of that name is on this device; nil = any may be

	FlushEvery  time.Duration // an app's lines are sent together, so often; 200 ms
	MaxFlush    int           // and so much of them, in bytes; 256 KiB
	CallLimit   time.Duration // of one question or publication; 10 s
	EngineLimit time.Duration // of reading the past; 5 s
	QueryLimit  time.Duration // of reading a log for whoever asks; 30 s
	MinRetry    time.Duration // pause after the engine or the router failed, doubling; 1 s
	MaxRetry    time.Duration // to at most; 30 s
	AskRefused  time.Duration // who listens is asked again so much after the router refused to tell; 10 min
	AskAgain    time.Duration // and so often while the router does not tell who comes and goes; 1 min
	Linger      time.Duration // a container that was told to end is followed so long; 1 min
	CatchUp     time.Duration // lines older than that are not sent late; 5 min
	DrainLimit  time.Duration // a container that is to be removed waits for its log so long; 5 s
	Rescan      time.Duration // a project is asked for new containers so often; 30 s
	ClockLook   time.Duration // the clock is looked at so often; 10 s
	SilenceLook time.Duration // a log that is followed and shows nothing is asked for its last line about so often; 5 min
	SyncEvery   time.Duration // lines that somebody follows are brought to the disk at most so often; 100 ms

	MaxFollowers int // at once; 32

	Wall func() time.Time // the time of day; the system's
}

func (c Config) withDefaults() Config {
	for field, value := range map[*time.Duration]time.Duration{
		&c.FlushEvery:  200 * time.Millisecond,
		&c.CallLimit:   10 * time.Second,
		&c.EngineLimit: 5 * time.Second,
		&c.QueryLimit:  30 * time.Second,
		&c.MinRetry:    time.Second,
		&c.MaxRetry:    30 * time.Second,
		&c.AskRefused:  10 * time.Minute,
		&c.AskAgain:    time.Minute,
		&c.Linger:      time.Minute,
		&c.CatchUp:     5 * time.Minute,
		&c.DrainLimit:  5 * time.Second,
		&c.Rescan:      30 * time.Second,
		&c.ClockLook:   10 * time.Second,
		&c.SilenceLook: 5 * time.Minute,
		&c.SyncEvery:   100 * time.Millisecond,
	} {
		if *field == 0 {
			*field = value
		}
	}
	if c.MaxFlush == 0 {
		c.MaxFlush = 256 << 10
	}
	if c.MaxFollowers == 0 {
		c.MaxFollowers = 32
	}
	if c.Installed == nil {
		c.Installed = func(string) bool { return true }
	}
	if c.Wall == nil {
		c.Wall = func() time.Time { return time.Now().Round(0) } // without its monotonic clock
	}
	return c
}

// Bounds of what is kept.
const (
	maxTopics  = 1024     // apps; those of which the least is known are forgotten first
	maxMessage = 64 << 10 // bytes of one message of the agent
	maxEvents  = 64       // … and so many of an app wait for the publisher …
	maxQueued  = 1 << 20  // … or so many bytes of lines
)

// Logs is the logs of all apps of a device. Make it with New.
type Logs struct {
	cfg    Config
	run    string        // tells this run of the agent from others
	wake   chan struct{} // capacity 1; tells the publisher to look again
	unsafe chan struct{} // capacity 1; tells the writer that the agent said something

	querying chan struct{} // has as many elements as logs are being read back

	mu         sync.Mutex // guards what follows, and all topics
	topics     map[string]*topic
	passes     map[*pass]struct{} // those that follow
	ctx        context.Context    // of Run; nil while it does not run
	group      sync.WaitGroup     // what Run waits for; added to only while ctx is set
	online     bool
	connection int                 // counts them, to tell late answers from fresh ones
	asking     int                 // questions under way …
	gone       map[uint64]struct{} // … and the subscriptions that ended meanwhile
	deaf       bool                // the router does not tell who comes and goes
	allowance  allowance           // of all apps that are in doubt
	saidDoubt  bool
	followers  int // calls of Follow …
	held       int // … and the bytes that they may hold
}

// New makes the logs of a device. Nothing happens before Run.
func New(cfg Config) *Logs {
	return &Logs{
		cfg:    cfg.withDefaults(),
		run:    rand.Text()[:8],
		wake:   make(chan struct{}, 1),
		unsafe: make(chan struct{}, 1),

		querying: make(chan struct{}, queries),

		topics: map[string]*topic{},
		passes: map[*pass]struct{}{},
		gone:   map[uint64]struct{}{},

		allowance: allowance{rate: doubtAll, most: doubtAllMost},
	}
}

// Run collects and publishes until ctx ends.
func (l *Logs) Run(ctx context.Context) error {
	l.mu.Lock()
	l.ctx = ctx
	for _, t := range l.topics {
		l.collect(t)
	}
	l.group.Go(func() { l.watchClock(ctx) })
	l.group.Go(func() { l.watchSilence(ctx) })
	l.group.Go(func() { l.write(ctx) })
	l.mu.Unlock()
	l.publish(ctx)
	l.mu.Lock()
	l.ctx = nil // nobody starts anything from here on
	l.mu.Unlock()
	l.group.Wait()
	return ctx.Err()
}

// write brings what the agent said into its files: the engine has no copy of it.
func (l *Logs) write(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-l.unsafe:
		}
		var tapes []*tape
		l.mu.Lock()
		for _, t := range l.topics {
			if t.unwritten {
				t.unwritten = false
				tapes = append(tapes, t.tape)
			}
		}
		l.mu.Unlock()
		for _, t := range tapes {
			_ = t.stream.Flush(false) // the journal has logged it, and tries again
		}
	}
}

// Agent says something about an app: published at once, and kept.
func (l *Logs) Agent(cn, text string) {
	t, text := l.keep(cn, text)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say(t, text)
}

// Output is what a program said on the agent's behalf, such as compose: kept like
// the agent's messages, and published as it is while somebody listens.
func (l *Logs) Output(cn, text string) {
	t, text := l.keep(cn, text)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell(t, text)
}

// keep takes down what the agent says; the engine has no copy of it.
func (l *Logs) keep(cn, text string) (*topic, string) {
	text = cut(clean([]byte(text), len(text)), maxMessage)
	l.mu.Lock()
	t := l.topic(cn)
	l.mu.Unlock()
	l.take(t, line{at: l.cfg.Wall(), kind: said, text: text})
	l.mu.Lock()
	defer l.mu.Unlock()
	t.unwritten = true
	select {
	case l.unsafe <- struct{}{}:
	default:
	}
	return t, text
}

// Transfer tells how far the upload of a file came; nobody asks for that later,
// so it is not kept.
func (l *Logs) Transfer(cn, file string, percent float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topic(cn)
	l.queue(t, event{args: []any{protocol.TransferProgress(file, percent)}})
}

// Clear tells viewers to clear what they show. What is kept stays.
func (l *Logs) Clear(cn string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.say(l.topic(cn), protocol.LoggerClear)
}

// ClearHistory begins the recent past anew. What is kept stays for queries and
// followers.
func (l *Logs) ClearHistory(cn string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topic(cn)
	t.cleared, t.clearedAt = t.tape.next(), l.cfg.Wall()
}

// Record publishes one of the engine's progress records, while somebody listens.
func (l *Logs) Record(cn string, raw []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tell(l.topic(cn), clean(raw, len(raw)))
}

// tell publishes a line that no container printed, while somebody listens.
func (l *Logs) tell(t *topic, text string) {
	if l.online && (!t.known || l.heard(t)) {
		l.print(t, text, 0)
	}
}

// Attach says which container an app runs in now. Its output is kept, and
// published while somebody listens, until it ends or Detach. For the same
// container it may be repeated, and has to be when it was started again.
func (l *Logs) Attach(cn, containerID string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topic(cn)
	if t.of != containerID {
		// A container that was just made is published from its beginning; one
		// that ran before the agent did, from now on.
		t.of, t.from = containerID, t.clearedAt
		if t.from.IsZero() {
			t.from = l.cfg.Wall()
		}
		if !t.known && !l.heard(t) {
			t.late = true
		}
	}
	t.container = containerID
	c := t.collection
	if c != nil && c.of == containerID {
		c.keep()
		t.again = true
		select {
		case c.look <- struct{}{}:
		default:
		}
		return
	}
	if c != nil { // it may still be told something by its own container
		c.end(l.cfg.Linger)
		t.collection = nil
	}
	l.collect(t)
}

// Detach says that an app's container is about to end. What it still prints is
// kept and published, and then it is followed no more.
func (l *Logs) Detach(cn string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[cn]
	if t == nil || t.container == "" {
		return
	}
	if t.collection != nil {
		t.collection.end(l.cfg.Linger)
	}
	t.container, t.again = "", false
}

// topic gives an app's topic, a new one where there is none. l.mu is held, as it
// is in all that follows.
func (l *Logs) topic(cn string) *topic {
	t := l.topics[cn]
	if t == nil {
		if len(l.topics) >= maxTopics {
			l.forgetOne()
		}
		t = &topic{
			cn: cn, uri: protocol.LogTopic(l.cfg.Serial, cn),
			tape:      &tape{stream: l.cfg.Journal.Stream(cn)},
			allowance: allowance{rate: doubtApp, most: doubtAppMost},
		}
		t.sent = t.tape.next() - 1
		l.topics[cn] = t
		l.poke() // somebody has to ask who listens
	}
	t.used = time.Now()
	return t
}

// forgetOne makes room: of the apps that have no container, the one that was
// heard of the longest ago.
func (l *Logs) forgetOne() {
	var oldest *topic
	for _, t := range l.topics {
		if t.container == "" && t.collection == nil && (oldest == nil || t.used.Before(oldest.used)) {
			oldest = t
		}
	}
	if oldest != nil {
		delete(l.topics, oldest.cn)
	}
}

func (l *Logs) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}
