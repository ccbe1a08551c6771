package messenger

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/gammazero/nexus/v3/wamp"
	"github.com/rs/zerolog"
)

// A rawWire is a wire over a raw socket: TCP, TCP with TLS, or Unix. It is
// written anew because nexus' own has no deadline in its handshake and lets
// keepalive answers and messages write over each other.
type rawWire struct {
	format
	line    *lineConn
	conn    io.ReadWriteCloser // line, or TLS over it
	most    int64              // longest message that is sent
	longest int64              // … that is read
	log     zerolog.Logger
	bad     int // messages that did not decode

	writing sync.Mutex // a frame is written in one piece
}

// The raw socket's frames: a kind, a length of three bytes, the content.
const (
	rawMagic   = 0x7f
	rawLongest = 1<<24 - 1
	rawMessage = 0
	rawPing    = 1
	rawPong    = 2
)

// dialRawSocket connects and shakes hands.
func dialRawSocket(ctx context.Context, network, address string, cfg *Config, tlsConfig *tls.Config) (*rawWire, error) {
	line, release, err := dialLine(ctx, network, address, cfg.WriteTimeout)
	if err != nil {
		return nil, err
	}
	w := &rawWire{
		format: formats[cfg.Serializations[0]], line: line, conn: line,
		most: min(cfg.MaxSend, rawLongest), longest: min(cfg.MaxMessage, rawLongest), log: cfg.Log,
	}
	if tlsConfig != nil {
		secured := tls.Client(line, tlsConfig)
		err = secured.HandshakeContext(ctx)
		w.conn = secured
	}
	if err == nil {
		err = w.shakeHands()
	}
	if late := release(); late != nil {
		err = late
	}
	if err != nil {
		_ = line.Close()
		return nil, err
	}
	return w, nil
}

// shakeHands agrees on serialisation and on how long messages may be: 2^(9+n)
// bytes each way.
func (w *rawWire) shakeHands() error {
	var n byte
	for n < 15 && int64(1)<<(9+n) < w.longest {
		n++
	}
	if _, err := w.conn.Write([]byte{rawMagic, n<<4 | w.raw, 0, 0}); err != nil {
		return err
	}
	var answer [4]byte
	if _, err := io.ReadFull(w.conn, answer[:]); err != nil {
		return fmt.Errorf("raw socket handshake: %w", err)
	}
	switch {
	case answer[0] != rawMagic:
		return errors.New("the server does not speak WAMP over raw sockets")
	case answer[1]&0xf == 0:
		reason, known := rawErrors[answer[1]>>4]
		if !known {
			reason = "for a reason that is not in the protocol"
		}
		return fmt.Errorf("the router refuses the raw socket: %s", reason)
	case answer[1]&0xf != w.raw:
		return errors.New("the router answered with another serialization")
	}
	w.most = min(w.most, int64(1)<<(9+answer[1]>>4))
	return nil
}

// rawErrors are the refusals of the protocol.
var rawErrors = map[byte]string{
	1: "it does not know the serialization",
	2: "it needs longer messages than this device reads",
	3: "it takes the reserved bits ill",
	4: "it has too many connections",
}

func (w *rawWire) read() (wamp.Message, error) {
	for {
		var header [4]byte
		if _, err := io.ReadFull(w.conn, header[:]); err != nil {
			return nil, err
		}
		kind := header[0] & 7
		header[0] = 0
		length := int64(binary.BigEndian.Uint32(header[:]))
		if length > w.longest {
			return nil, fmt.Errorf("the router sent a message over the limit of %d bytes", w.longest)
		}
		content := make([]byte, length)
		if _, err := io.ReadFull(w.conn, content); err != nil {
			return nil, err
		}
		switch kind {
		case rawMessage:
			msg, err := w.decode(content)
			if err == nil {
				return msg, nil
			}
			if w.bad++; w.bad == 1 {
				w.log.Warn().Err(err).Int64("bytes", length).Msg("message of the router skipped; more of them are not logged")
			}
		case rawPing:
			if err := w.frame(rawPong, content); err != nil {
				return nil, err
			}
		}
	}
}

func (w *rawWire) write(msg wamp.Message) error {
	raw, err := w.encode(msg, w.most)
	if err != nil {
		return err
	}
	return w.frame(rawMessage, raw)
}

func (w *rawWire) frame(kind byte, content []byte) error {
	w.writing.Lock()
	defer w.writing.Unlock()
	return w.frameLocked(kind, content)
}

func (w *rawWire) frameLocked(kind byte, content []byte) error {
	framed := make([]byte, 4+len(content))
	binary.BigEndian.PutUint32(framed, uint32(len(content)))
	framed[0] = kind
	copy(framed[4:], content)
	_, err := w.conn.Write(framed)
	return err
}

// ping cannot go between the parts of a message; while one is being written the
// stall limit watches the link.
func (w *rawWire) ping(time.Duration) bool {
	if !w.writing.TryLock() {
		return false
	}
	defer w.writing.Unlock()
	_ = w.frameLocked(rawPing, []byte("keepalive"))
	return true
}

func (w *rawWire) heard() uint64 { return w.line.heard() }

func (w *rawWire) close(bool) { _ = w.line.Close() }
