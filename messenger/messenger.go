package messenger

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gammazero/nexus/v3/wamp"
	"github.com/rs/zerolog"
)

// Config says where a Session connects to, as whom, and at what pace. Only
// Realm and one of URL and Dial are needed.
type Config struct {
	// URL of the router: ws, wss, http or https for a WebSocket; tcp, tcps or
	// unix for a raw socket.
	URL   string
	Realm string

	// Dial is used instead of URL where it is set: a router in this process,
	// or a test.
	Dial func(ctx context.Context) (Peer, error)

	// Identity is asked at each dial, so that a device that was moved to
	// another project comes back under its new name. Without one (or with an
	// empty authid) the session is anonymous.
	Identity func() (authid, secret string)

	// Details are added to those of HELLO. A device sends none.
	Details map[string]any

	// TLS is the client's side of wss, https and tcps: extra roots, a client
	// certificate. nil means the system's roots. A configuration that switches
	// verification off is refused by New.
	TLS *tls.Config

	// Serializations to offer, in order of preference: of "json", "cbor" and
	// "msgpack". Default: these three in this order. A raw socket uses the first.
	Serializations []string

	PingInterval    time.Duration // the keepalive; 0 = none. The link is given up at the tick that finds two pings unanswered
	ConnectTimeout  time.Duration // of the first dial (TCP, TLS, upgrade); 0 = none. Doubles with each dial that runs out of it
	ResponseTimeout time.Duration // WELCOME, REGISTERED, SUBSCRIBED, PUBLISHED…; default 5 s. Not of calls
	CallTimeout     time.Duration // of a call whose context has no deadline; default 30 s
	WriteTimeout    time.Duration // a send that makes no progress for so long ends the link; default 10 s
	GoodbyeTimeout  time.Duration // how long the end of Run waits for the router, and for handlers; default 1 s

	MaxMessage int64 // longest message that is read; default 64 MiB. A longer one ends the link
	MaxSend    int64 // longest message that is sent; default 16 MiB. A longer one is refused here, the link stays

	MinRetry          time.Duration // longest first pause between two dials; default 0.5 s
	MaxRetry          time.Duration // … and of those after many failures; default 30 s
	UnauthorizedRetry time.Duration // longest pause after a refused login; default 5 min
	GoodAfter         time.Duration // a session that lasted so long makes the next pause a first one again; default 60 s

	EventQueue     int // events that wait for one topic's handler; default 1024
	MaxInvocations int // procedures that run at once; a call above is refused; default 256

	// Changed is told each change of the status, one at a time, in order. It
	// should be quick: Run waits for it.
	Changed func(Status)

	Log   zerolog.Logger
	Debug bool // the WAMP library tells the log what it does
}

// A Peer is one end of a connection inside this process: how a router that is
// embedded in it is reached.
type Peer = wamp.Peer

// withDefaults fills in the product's values where cfg says nothing.
func (cfg Config) withDefaults() Config {
	for field, def := range map[*time.Duration]time.Duration{
		&cfg.ResponseTimeout:   5 * time.Second,
		&cfg.CallTimeout:       30 * time.Second,
		&cfg.WriteTimeout:      10 * time.Second,
		&cfg.GoodbyeTimeout:    time.Second,
		&cfg.MinRetry:          500 * time.Millisecond,
		&cfg.MaxRetry:          30 * time.Second,
		&cfg.UnauthorizedRetry: 5 * time.Minute,
		&cfg.GoodAfter:         time.Minute,
	} {
		if *field == 0 {
			*field = def
		}
	}
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = 64 << 20
	}
	if cfg.MaxSend == 0 {
		cfg.MaxSend = 16 << 20
	}
	if cfg.EventQueue == 0 {
		cfg.EventQueue = 1024
	}
	if cfg.MaxInvocations == 0 {
		cfg.MaxInvocations = 256
	}
	if len(cfg.Serializations) == 0 {
		cfg.Serializations = []string{"json", "cbor", "msgpack"}
	}
	if cfg.Changed == nil {
		cfg.Changed = func(Status) {}
	}
	return cfg
}

// A State is where a session stands.
type State string

// The states. A state lasts until a try has another outcome: the tries in
// between do not make it flicker.
const (
	Connecting   State = "connecting"   // nothing is known yet
	Online       State = "online"       // joined, and the function given to Run is content
	Offline      State = "offline"      // no connection; the next try is at NextTry
	Unauthorized State = "unauthorized" // the router refuses the credentials; retried slowly
	Duplicate    State = "duplicate"    // another session has this device's procedures; retried slowly
)

// Status is what a session knows about itself.
type Status struct {
	State   State
	Since   time.Time // when State began
	NextTry time.Time // zero while online
	Reason  string    // why it is not online, for people
	Router  string    // its URL
}

// Errors that callers may ask for with errors.Is.
var (
	ErrOffline  = errors.New("not connected to the router")
	ErrTooLarge = errors.New("the message is longer than routers accept")

	// ErrRejoin and ErrDuplicate are for the function given to Run.
	ErrRejoin    = errors.New("the session starts anew")
	ErrDuplicate = errors.New("another session has this device's procedures")
)

// A CallError is the answer of a router or a procedure that is an error.
type CallError struct {
	URI    string
	Args   []any
	Kwargs map[string]any
}

// Error is the URI and, where there is one, the text for people: the first
// argument, or its "error" where it is an object.
func (e *CallError) Error() string {
	text := e.Text()
	if text == "" {
		return e.URI
	}
	return e.URI + ": " + text
}

// Text is the text for people in the arguments, "" where there is none.
func (e *CallError) Text() string {
	if len(e.Args) == 0 {
		return ""
	}
	switch first := e.Args[0].(type) {
	case string:
		return clip(first)
	case map[string]any:
		text, _ := first["error"].(string)
		return clip(text)
	}
	return ""
}

// clip keeps a stranger's text from filling a log or a status file.
func clip(text string) string {
	const most = 300
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// Result is the answer to a call, or a part of it that came ahead.
type Result struct {
	Args   []any
	Kwargs map[string]any
}

// A Handler answers the calls of one procedure, each on its own goroutine. ctx
// ends when the caller cancels or runs out of time, or with the connection: then
// its cause (context.Cause) is ErrOffline.
type Handler func(ctx context.Context, inv Invocation) Outcome

// Invocation is one call of a procedure.
type Invocation struct {
	Args   []any
	Kwargs map[string]any

	Disclosed  bool   // the router says who calls
	Caller     string // authid; numbers as decimal text
	CallerRole string

	// Progress sends a part of the answer ahead. It is nil where the caller
	// wants none, and of no use after the handler has returned.
	Progress func(ctx context.Context, args ...any) error
}

// Outcome is the answer of a procedure: a result or, where Error is an error's
// URI, that error.
type Outcome struct {
	Args   []any
	Kwargs map[string]any
	Error  string

	// Sent is called once the answer is on its way, or is not sent at all: until
	// then it takes memory. It may be nil.
	Sent func()
}

// An EventHandler is told the events of one topic, one at a time. ctx ends with
// the connection.
type EventHandler func(ctx context.Context, event Event)

// Event is something that was published.
type Event struct {
	Topic           string // of a pattern's event: the topic it was published on
	Args            []any
	Kwargs          map[string]any
	Publisher       uint64 // session, 0 if unknown
	PublisherAuthID string // "" if undisclosed
	PublisherRole   string
}

// uriError says which of many declarations an error is about.
func uriError(verb, uri string, err error) error {
	return fmt.Errorf("%s %s: %w", verb, uri, err)
}
