package router

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gammazero/nexus/v3/transport/serialize"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/gorilla/websocket"
)

// A format is how messages are written down.
type format struct {
	serialize.Serializer
	kind int // of WebSocket message
}

// formats by sub-protocol.
var formats = map[string]format{
	"wamp.2.json":    {&serialize.JSONSerializer{}, websocket.TextMessage},
	"wamp.2.msgpack": {&serialize.MessagePackSerializer{}, websocket.BinaryMessage},
	"wamp.2.cbor":    {&serialize.CBORSerializer{}, websocket.BinaryMessage},
}

// encode writes a message down. What a stranger sent is in it, so a panic in the
// library is an error of this message.
func (f format) encode(msg wamp.Message) (raw []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			raw, err = nil, fmt.Errorf("encode %v: %v", msg.MessageType(), p)
		}
	}()
	return f.Serialize(msg)
}

func (f format) decode(raw []byte) (msg wamp.Message, err error) {
	defer func() {
		if p := recover(); p != nil {
			msg, err = nil, fmt.Errorf("%w: %v", errUnreadable, p)
		}
	}()
	msg, err = f.Deserialize(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUnreadable, err)
	}
	return msg, nil
}

// errUnreadable is about bytes that are no WAMP message.
var errUnreadable = errors.New("message cannot be decoded")

// websocketWire is a wire over a WebSocket.
type websocketWire struct {
	format
	conn *websocket.Conn
	line *line
	most int64 // bytes of a message after WELCOME
}

// writeBuffers are shared: most sessions write little and seldom.
var writeBuffers sync.Pool

// upgrade answers a request with a WebSocket. The sub-protocol is the first of
// the client's that we know: the order is its preference.
func upgrade(w http.ResponseWriter, req *http.Request, cfg Config) (*websocketWire, error) {
	var chosen string
	for _, name := range websocket.Subprotocols(req) {
		if _, ok := formats[name]; ok {
			chosen = name
			break
		}
	}
	if chosen == "" {
		http.Error(w, "this is a WAMP router: connect with a WebSocket of sub-protocol wamp.2.json, wamp.2.msgpack or wamp.2.cbor", http.StatusBadRequest)
		return nil, errors.New("no sub-protocol of WAMP offered")
	}
	hijacked := &lineWriter{ResponseWriter: w, stall: cfg.WriteTimeout}
	up := websocket.Upgrader{
		HandshakeTimeout: cfg.LoginTimeout,
		ReadBufferSize:   4096,
		WriteBufferSize:  4096,
		WriteBufferPool:  &writeBuffers,
		// A login is proved with a secret that no browser adds by itself, so
		// pages of other origins can do no more than any other client.
		CheckOrigin: func(*http.Request) bool { return true },
	}
	conn, err := up.Upgrade(hijacked, req, http.Header{"Sec-Websocket-Protocol": {chosen}})
	if err != nil {
		return nil, err
	}
	conn.SetReadLimit(cfg.MaxHello)
	return &websocketWire{format: formats[chosen], conn: conn, line: hijacked.line, most: cfg.MaxMessage}, nil
}

// welcome lifts the limit for strangers.
func (w *websocketWire) welcome() { w.conn.SetReadLimit(w.most) }

// deadline bounds reading; the zero time lifts it.
func (w *websocketWire) deadline(t time.Time) { _ = w.conn.SetReadDeadline(t) }

func (w *websocketWire) read() (wamp.Message, error) {
	kind, raw, err := w.conn.ReadMessage()
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return nil, fmt.Errorf("message over the limit: %w", err)
	case err != nil:
		return nil, err
	case kind != w.kind:
		return nil, errors.New("text and binary messages mixed up")
	}
	return w.decode(raw)
}

func (w *websocketWire) write(frame []byte) error { return w.conn.WriteMessage(w.kind, frame) }

func (w *websocketWire) ping() bool {
	return w.conn.WriteControl(websocket.PingMessage, []byte("keepalive"), time.Now().Add(controlTime)) == nil
}

func (w *websocketWire) heard() uint64 { return w.line.seen.Load() }

func (w *websocketWire) bye() {
	_ = w.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(controlTime))
}

// close closes the line itself: TLS would first write, and wait, on a dead link.
func (w *websocketWire) close() { _ = w.line.close() }

// controlTime bounds a ping or a farewell.
const controlTime = 250 * time.Millisecond

// A line is a network connection whose writes must make progress and whose reads
// are noticed.
type line struct {
	net.Conn
	stall time.Duration
	seen  atomic.Uint64
}

// chunk is what must get through within the stall limit. A limit for a whole
// message would have to fit the slowest link and the longest message.
const chunk = 16 << 10

func (l *line) Read(p []byte) (int, error) {
	n, err := l.Conn.Read(p)
	if n > 0 {
		l.seen.Add(1)
	}
	return n, err
}

func (l *line) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if err := l.Conn.SetWriteDeadline(time.Now().Add(l.stall)); err != nil {
			return n, err
		}
		m, err := l.Conn.Write(p[n:min(n+chunk, len(p))])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// SetWriteDeadline is ours; the WebSocket library's would be in its place.
func (l *line) SetWriteDeadline(time.Time) error { return nil }

func (l *line) close() error {
	if secure, ok := l.Conn.(interface{ NetConn() net.Conn }); ok {
		return secure.NetConn().Close()
	}
	return l.Conn.Close()
}

// lineWriter is a ResponseWriter whose connection is a line.
type lineWriter struct {
	http.ResponseWriter
	stall time.Duration
	line  *line
}

func (w *lineWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	w.line = &line{Conn: conn, stall: w.stall}
	return w.line, buffered, nil
}
