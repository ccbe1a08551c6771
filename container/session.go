package container

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
)

// cancelTimeout bounds the word to the engine that a build is not wanted any more.
const cancelTimeout = 5 * time.Second

// errNoSession means that the engine offers no line to ask back by.
var errNoSession = errors.New("the engine opens no session for a build")

// A session is the line by which BuildKit asks back while it builds. It is gRPC
// over a connection that the engine's API hands over; of all that could be asked
// there, ours answers the two questions without which no base image is fetched:
// are you there, and what is the login to this registry. BuildKit's own client
// for it would cost the agent more than all the rest of Docker's (see
// docs/benchmarks.md).
type session struct {
	id     string
	server *http.Server
	conn   net.Conn
	over   chan struct{} // closed by ended when the connection is served no more
	ended  func()
}

// What BuildKit may ask.
const (
	askHealth      = "/grpc.health.v1.Health/Check"
	askCredentials = "/moby.filesync.v1.Auth/Credentials"
)

// openSession begins a session, served by a goroutine of its own until close.
func (p *peer) openSession(ctx context.Context, logins map[string]Credential) (*session, error) {
	id := rand.Text()
	conn, err := p.DialHijack(ctx, "/session", "h2c", map[string][]string{
		"X-Docker-Expose-Session-Uuid":        {id},
		"X-Docker-Expose-Session-Name":        {"reagent"},
		"X-Docker-Expose-Session-Grpc-Method": {askHealth, askCredentials},
	})
	if err != nil {
		if isDisconnect(err) || ctx.Err() != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", errNoSession, err)
	}
	s := newSession(id, conn, logins)
	go s.serve() // ends with close, as the connection does
	return s, nil
}

// newSession is a session that somebody has yet to serve.
func newSession(id string, conn net.Conn, logins map[string]Credential) *session {
	byHost := make(map[string]Credential, len(logins))
	for host, c := range logins {
		byHost[loginHost(host)] = c
	}
	s := &session{id: id, conn: conn, over: make(chan struct{})}
	s.ended = sync.OnceFunc(func() { close(s.over) })
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	s.server = &http.Server{
		Handler:   answers(byHost),
		Protocols: protocols,
		ErrorLog:  log.New(io.Discard, "", 0),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				s.ended()
			}
		},
	}
	return s
}

func (s *session) serve() {
	one := &oneConn{conn: make(chan net.Conn, 1), addr: s.conn.LocalAddr(), done: make(chan struct{})}
	one.conn <- s.conn
	_ = s.server.Serve(one)
	select {
	case <-one.conn: // closed before it was accepted: the server tells nothing about it
		s.ended()
	default:
	}
}

// close ends the session and returns when nothing of it is left.
func (s *session) close() {
	_ = s.server.Close()
	_ = s.conn.Close()
	<-s.over
}

// oneConn is a listener of one connection.
type oneConn struct {
	conn chan net.Conn
	addr net.Addr
	once sync.Once
	done chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *oneConn) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *oneConn) Addr() net.Addr { return l.addr }

// answers answers what BuildKit asks, as unary calls of gRPC: one message each
// way, with five bytes before it, and the outcome in the trailer.
func answers(logins map[string]Credential) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		question, err := readMessage(r.Body)
		var answer []byte
		switch {
		case err != nil:
			fail(w, "3", err.Error())
			return
		case r.URL.Path == askHealth:
			answer = protowire.AppendTag(answer, 1, protowire.VarintType) // status
			answer = protowire.AppendVarint(answer, 1)                    // SERVING
		case r.URL.Path == askCredentials:
			c := logins[loginHost(firstString(question, 1))] // none: anonymously
			answer = protowire.AppendTag(answer, 1, protowire.BytesType)
			answer = protowire.AppendString(answer, c.Username)
			answer = protowire.AppendTag(answer, 2, protowire.BytesType)
			answer = protowire.AppendString(answer, c.Password)
		default:
			fail(w, "12", "not implemented") // it asks for what was not offered, too
			return
		}
		head := binary.BigEndian.AppendUint32([]byte{0}, uint32(len(answer)))
		_, _ = w.Write(append(head, answer...))
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}
}

func fail(w http.ResponseWriter, code, text string) {
	w.Header().Set("Grpc-Status", code)
	w.Header().Set("Grpc-Message", text)
}

// maxMessage bounds a question; the name of a host is in it.
const maxMessage = 64 << 10

func readMessage(r io.Reader) ([]byte, error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, errors.New("no message")
	}
	n := binary.BigEndian.Uint32(head[1:])
	if head[0] != 0 || n > maxMessage {
		return nil, errors.New("the message is compressed or too long")
	}
	message := make([]byte, n)
	if _, err := io.ReadFull(r, message); err != nil {
		return nil, errors.New("the message is cut off")
	}
	return message, nil
}

// firstString is the value of a field of a message.
func firstString(message []byte, number protowire.Number) (found string) {
	_ = eachField(message, func(n protowire.Number, value []byte, _ uint64) error {
		if n == number && found == "" {
			found = string(value)
		}
		return nil
	})
	return found
}

// loginHost is the name under which a login to a registry is kept, whatever form
// its name came in. Docker Hub has a name of its own for that.
func loginHost(name string) string {
	name = strings.TrimPrefix(strings.TrimPrefix(name, "https://"), "http://")
	host, _, _ := strings.Cut(strings.ToLower(name), "/")
	switch host {
	case "docker.io", "index.docker.io", "registry-1.docker.io":
		return "https://index.docker.io/v1/"
	}
	return host
}
