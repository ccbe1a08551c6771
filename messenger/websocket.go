package messenger

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/gammazero/nexus/v3/wamp"
	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"
)

// A websocketWire is a wire over a WebSocket.
type websocketWire struct {
	format
	line *lineConn
	conn *websocket.Conn
	most int64 // longest message that is sent
	kind int
	log  zerolog.Logger
	bad  int // messages that did not decode
}

const subprotocolPrefix = "wamp.2."

// dialWebSocket connects to a router at a ws or wss URL, through the proxy of
// the environment if there is one.
func dialWebSocket(ctx context.Context, url string, cfg *Config) (w *websocketWire, err error) {
	// The library trips over some answers of a proxy (a status line without a
	// reason). What strangers send is decoded here, so panics end here.
	defer func() {
		if p := recover(); p != nil {
			w, err = nil, fmt.Errorf("the router's or proxy's answer cannot be read: %v", p)
		}
	}()
	var (
		line    *lineConn
		release func() error
	)
	dialer := websocket.Dialer{
		Proxy:           http.ProxyFromEnvironment,
		TLSClientConfig: cfg.TLS,
		NetDialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			var err error
			line, release, err = dialLine(ctx, network, address, cfg.WriteTimeout)
			if err != nil {
				return nil, err
			}
			return line, nil
		},
	}
	for _, name := range cfg.Serializations {
		dialer.Subprotocols = append(dialer.Subprotocols, subprotocolPrefix+name)
	}
	conn, answer, err := dialer.DialContext(ctx, url, nil)
	if release != nil {
		if late := release(); late != nil {
			if conn != nil {
				_ = conn.Close()
			}
			return nil, late
		}
	}
	switch {
	case errors.Is(err, websocket.ErrBadHandshake) && answer != nil:
		return nil, fmt.Errorf("the router answered HTTP %s instead of opening a WebSocket", clip(answer.Status))
	case err != nil:
		return nil, err
	}
	f, ok := formats[strings.TrimPrefix(conn.Subprotocol(), subprotocolPrefix)]
	if !ok {
		_ = conn.Close()
		return nil, fmt.Errorf("the server speaks none of %s; is this the URL of a WAMP router?", strings.Join(dialer.Subprotocols, ", "))
	}
	conn.SetReadLimit(cfg.MaxMessage)
	w = &websocketWire{format: f, line: line, conn: conn, most: cfg.MaxSend, kind: websocket.TextMessage, log: cfg.Log}
	if f.binary {
		w.kind = websocket.BinaryMessage
	}
	return w, nil
}

func (w *websocketWire) read() (wamp.Message, error) {
	for {
		_, raw, err := w.conn.ReadMessage()
		if err != nil {
			return nil, readError(err)
		}
		msg, err := w.decode(raw)
		if err == nil {
			return msg, nil
		}
		// As every other client, go on: whoever waits for it has a deadline.
		if w.bad++; w.bad == 1 {
			w.log.Warn().Err(err).Int("bytes", len(raw)).Msg("message of the router skipped; more of them are not logged")
		}
	}
}

// readError words the end of a WebSocket.
func readError(err error) error {
	var closed *websocket.CloseError
	switch {
	case errors.Is(err, websocket.ErrReadLimit):
		return fmt.Errorf("the router sent a message over the limit: %w", err)
	case errors.As(err, &closed) && closed.Code == websocket.CloseMessageTooBig:
		return fmt.Errorf("the router takes no message of that length: %w", err)
	}
	return err
}

func (w *websocketWire) write(msg wamp.Message) error {
	raw, err := w.encode(msg, w.most)
	if err != nil {
		return err
	}
	err = w.conn.WriteMessage(w.kind, raw)
	if errors.Is(err, websocket.ErrCloseSent) {
		return nil // by whom it was sent reads, and is about to say why
	}
	return err
}

// ping goes between the parts of a message that is being written.
func (w *websocketWire) ping(within time.Duration) bool {
	_ = w.conn.WriteControl(websocket.PingMessage, []byte("keepalive"), time.Now().Add(within))
	return true
}

func (w *websocketWire) heard() uint64 { return w.line.heard() }

func (w *websocketWire) close(polite bool) {
	if polite {
		late := time.AfterFunc(leaveTime, func() { _ = w.line.Close() })
		bye := websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		_ = w.conn.WriteControl(websocket.CloseMessage, bye, time.Now().Add(leaveTime))
		late.Stop()
	}
	// The line itself: closing TLS would first write, and wait, on a dead link.
	_ = w.line.Close()
}

// leaveTime bounds the last message on a wire.
const leaveTime = 250 * time.Millisecond
