package messenger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gammazero/nexus/v3/transport/serialize"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
)

// A wire carries whole WAMP messages. read and write are each used by one
// goroutine; close may come from a third one, at any time, and ends both.
type wire interface {
	read() (wamp.Message, error)
	// write returns an *unsendable where only the message is at fault.
	write(wamp.Message) error
	// close closes the wire. If polite, the other side is told, without
	// waiting for it for long.
	close(polite bool)
}

// A pinger is a wire that can ask whether the other side is there.
type pinger interface {
	// ping sends a keepalive and reports whether an answer may be expected.
	ping(within time.Duration) bool
	// heard changes whenever anything arrived.
	heard() uint64
}

// unsendable says that one message cannot be sent, while others can.
type unsendable struct {
	code protocol.Code
	err  error
}

func (u *unsendable) Error() string { return u.err.Error() }
func (u *unsendable) Unwrap() error { return u.err }

// A format is how messages are written down.
type format struct {
	name   string
	binary bool
	raw    byte // its number in a raw socket's handshake
	serialize.Serializer
}

var formats = map[string]format{
	"json":    {"json", false, 1, &serialize.JSONSerializer{}},
	"msgpack": {"msgpack", true, 2, &serialize.MessagePackSerializer{}},
	"cbor":    {"cbor", true, 3, &serialize.CBORSerializer{}},
}

func (f format) encode(msg wamp.Message, most int64) (raw []byte, err error) {
	if f.binary {
		msg = validMessage(msg)
	}
	raw, err = f.Serialize(msg)
	if err != nil {
		return nil, &unsendable{protocol.CodeInternal, fmt.Errorf("encode %v: %w", msg.MessageType(), err)}
	}
	if int64(len(raw)) > most {
		return nil, &unsendable{protocol.CodeTooLarge, fmt.Errorf("%v of %d bytes: %w (%d)", msg.MessageType(), len(raw), ErrTooLarge, most)}
	}
	return raw, nil
}

// errUnreadable is about one message that does not decode; the next may.
var errUnreadable = errors.New("message cannot be decoded")

// decode reads what the other side wrote. The library indexes and converts by
// reflection what a stranger sent, so a panic in there is one of the edges at
// which panics end.
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

// A lineConn is a network connection whose writes must make progress and whose
// reads are noticed.
type lineConn struct {
	net.Conn
	stall time.Duration
	seen  atomic.Uint64
}

const (
	// chunk is what must get through within the stall limit. A limit for a whole
	// message would have to fit the slowest link and the longest message.
	chunk = 16 << 10
	// sendBuffer bounds what waits in the kernel. On a slow link a larger one
	// would keep the keepalive behind minutes of data, and a link that works
	// would be taken for a dead one.
	sendBuffer = 128 << 10
)

func (c *lineConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.seen.Add(1)
	}
	return n, err
}

func (c *lineConn) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if err := c.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
			return n, err
		}
		m, err := c.Conn.Write(p[n:min(n+chunk, len(p))])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (c *lineConn) heard() uint64 { return c.seen.Load() }

// dialLine connects. Until release is called, the end of ctx closes the
// connection, so that nothing the other side does (or leaves undone) in a
// handshake outlasts ctx.
func dialLine(ctx context.Context, network, address string, stall time.Duration) (c *lineConn, release func() error, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, nil, err
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetWriteBuffer(sendBuffer) // a wish; the kernel has the last word
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	release = func() error {
		if !stop() {
			return context.Cause(ctx)
		}
		return nil
	}
	return &lineConn{Conn: conn, stall: stall}, release, nil
}

// A peerWire is a wire over a nexus peer: a router in this process.
type peerWire struct {
	peer   wamp.Peer
	stall  time.Duration
	closed chan struct{}
	once   sync.Once
	writer sync.Mutex // held while the peer's channel may be sent to
}

func newPeerWire(peer wamp.Peer, stall time.Duration) *peerWire {
	return &peerWire{peer: peer, stall: stall, closed: make(chan struct{})}
}

func (w *peerWire) read() (wamp.Message, error) {
	select {
	case msg, ok := <-w.peer.Recv():
		if !ok || msg == nil {
			return nil, io.EOF
		}
		return msg, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

func (w *peerWire) write(msg wamp.Message) error {
	w.writer.Lock()
	defer w.writer.Unlock()
	if isClosed(w.closed) {
		return net.ErrClosed
	}
	select {
	case w.peer.Send() <- msg: // mostly there is somebody
		return nil
	default:
	}
	late := time.NewTimer(w.stall)
	defer late.Stop()
	select {
	case w.peer.Send() <- msg:
		return nil
	case <-w.closed:
		return net.ErrClosed
	case <-late.C:
		return fmt.Errorf("the router took nothing for %v", w.stall)
	}
}

func (w *peerWire) close(bool) {
	w.once.Do(func() {
		close(w.closed)
		w.writer.Lock()
		defer w.writer.Unlock()
		w.peer.Close()
	})
}
