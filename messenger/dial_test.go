package messenger_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/router"
	"github.com/gorilla/websocket"
	"github.com/rs/zerolog"

	. "reagent/messenger"
)

// authority is a certificate authority for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.key, a.cert = a.make(template, nil, nil)
	a.pool = x509.NewCertPool()
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) make(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) (*ecdsa.PrivateKey, *x509.Certificate) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if parent == nil {
		parent, signer = template, key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(raw)
	if err != nil {
		a.t.Fatal(err)
	}
	return key, cert
}

// issue makes a certificate for both sides of TLS.
func (a *authority) issue(change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if change != nil {
		change(template)
	}
	key, cert := a.make(template, a.cert, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

func TestTLSIsAlwaysVerified(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	ours, foreign := newAuthority(t), newAuthority(t)
	good := ours.issue(nil)
	device := ours.issue(nil)
	for name, c := range map[string]struct {
		server *tls.Config
		client *tls.Config
		reason string // "" = it connects
	}{
		"system roots do not know our CA": {&tls.Config{Certificates: []tls.Certificate{good}}, nil, "unknown authority"},
		"an extra CA is accepted":         {&tls.Config{Certificates: []tls.Certificate{good}}, &tls.Config{RootCAs: ours.pool}, ""},
		"another CA is not":               {&tls.Config{Certificates: []tls.Certificate{good}}, &tls.Config{RootCAs: foreign.pool}, "unknown authority"},
		"another host's certificate is not": {&tls.Config{Certificates: []tls.Certificate{ours.issue(func(c *x509.Certificate) { c.IPAddresses = nil; c.DNSNames = []string{"other.example"} })}},
			&tls.Config{RootCAs: ours.pool}, "not valid for any names, but wanted to match 127.0.0.1|cannot validate certificate for 127.0.0.1"},
		"an expired certificate is not": {&tls.Config{Certificates: []tls.Certificate{ours.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}},
			&tls.Config{RootCAs: ours.pool}, "expired"},
		"a client certificate is shown": {&tls.Config{Certificates: []tls.Certificate{good}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ours.pool},
			&tls.Config{RootCAs: ours.pool, Certificates: []tls.Certificate{device}}, ""},
		"… and verification stays on with it": {&tls.Config{Certificates: []tls.Certificate{good}}, &tls.Config{RootCAs: foreign.pool, Certificates: []tls.Certificate{device}}, "unknown authority"},
	} {
		t.Run(name, func(t *testing.T) {
			ws := tr.serve(c.server)
			raw, err := router.NewRawSocketServer(tr.r).ListenAndServeTLS("tcp", "127.0.0.1:0", c.server, "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			for _, url := range []string{"wss://" + ws + "/ws", "https://" + ws + "/ws", "tcps://" + raw.(net.Listener).Addr().String()} {
				cfg := tr.config("41-7", "s")
				cfg.URL, cfg.TLS = url, c.client
				s := Start(t, cfg, nil, nil)
				if c.reason == "" {
					s.Wait(Online)
					continue
				}
				got, ok := s.Wait(Offline).Reason, false
				for _, want := range strings.Split(c.reason, "|") {
					ok = ok || strings.Contains(got, want)
				}
				if !ok {
					t.Errorf("%s: reason %q, want %q", url, got, c.reason)
				}
			}
		})
	}
}

func TestMistakesInTheConfigurationAreSaidAtTheStart(t *testing.T) {
	for want, cfg := range map[string]Config{
		"needs a realm":              {URL: "ws://h/"},
		"begins with ws, wss":        {Realm: "r", URL: "ftp://h/"},
		"names no host":              {Realm: "r", URL: "ws:///ws"},
		"needs a port":               {Realm: "r", URL: "tcp://h"},
		"names no socket":            {Realm: "r", URL: "unix://"},
		"has no user and password":   {Realm: "r", URL: "ws://u:geheim@h/"},
		"switches verification off":  {Realm: "r", URL: "wss://h/", TLS: &tls.Config{InsecureSkipVerify: true}},
		`serialization "protobuf"`:   {Realm: "r", URL: "ws://h/", Serializations: []string{"protobuf"}},
		"missing protocol scheme":    {Realm: "r", URL: ":geheim"},
		"invalid port":               {Realm: "r", URL: "ws://u:geheim@h:port/"},
		"the router's URL \"\": it ": {Realm: "r"},
	} {
		_, err := New(cfg)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("New(%q) = %v, want %q and no password", cfg.URL, err, want)
		}
	}
}

func TestRawSocketsWorkLikeWebSockets(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	server := router.NewRawSocketServer(tr.r)
	tcp, err := server.ListenAndServe("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	file := filepath.Join(t.TempDir(), "router.sock")
	unix, err := server.ListenAndServe("unix", file)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close()
	caller := tr.peer()
	for _, url := range []string{"tcp://" + tcp.(net.Listener).Addr().String(), "unix://" + file} {
		for _, format := range []string{"json", "cbor", "msgpack"} {
			cfg := tr.config("41-7", "s")
			cfg.URL, cfg.Serializations = url, []string{format}
			cfg.PingInterval = 200 * time.Millisecond
			uri := "test." + format
			s := Start(t, cfg, func(s *Session) { s.Declare(uri, nil, Echo) }, nil)
			s.Wait(Online)
			long := strings.Repeat("x", 1<<20)
			got, err := call(t, caller, uri, long)
			if err != nil || got.Arguments[0] != long {
				t.Errorf("%s, %s: 1 MiB and back: %v", url, format, err)
			}
			<-time.After(450 * time.Millisecond) // some pings and their answers
			if _, err := call(t, caller, uri, "x"); err != nil {
				t.Errorf("%s, %s: after some pings: %v", url, format, err)
			}
			s.Stop()
		}
	}
}

func TestHalfOpenRawSocketIsNoticed(t *testing.T) {
	tr := startRouter(t, map[string]string{"41-7": "s"})
	raw, err := router.NewRawSocketServer(tr.r).ListenAndServe("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	tr.relay.SetTarget(raw.(net.Listener).Addr().String())
	cfg := tr.config("41-7", "s")
	cfg.URL, cfg.PingInterval = "tcp://"+tr.relay.Addr(), 30*time.Millisecond
	s := Start(t, cfg, nil, nil)
	s.Wait(Online)
	tr.relay.Freeze()
	if got := s.Wait(Offline); !strings.Contains(got.Reason, "keepalive") {
		t.Errorf("reason = %q, want the keepalive", got.Reason)
	}
	tr.relay.Thaw()
	s.Wait(Online)
}

// Servers that are not what the URL says are failures with a reason, and none
// may hold the dial up or end the process.
func TestStrangeServersAreFailuresWithAReason(t *testing.T) {
	upgrade := func(protocol string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ACCEPT\r\n" + protocol + "\r\n"
	}
	for name, c := range map[string]struct{ scheme, answer, reason string }{
		"web page":          {"ws", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", "HTTP 200 OK"},
		"not found":         {"ws", "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "HTTP 404"},
		"no reason":         {"ws", "HTTP/1.1 503\r\nContent-Length: 0\r\n\r\n", "503"},
		"no subprotocol":    {"ws", upgrade(""), "speaks none of wamp.2.json"},
		"other subprotocol": {"ws", upgrade("Sec-WebSocket-Protocol: chat\r\n"), "speaks none of"},
		"noise":             {"ws", "\x00\xff\x00\xff\r\n\r\n", "malformed HTTP"},
		"silence":           {"ws", "", "no connection within"},
		"TLS to plain":      {"wss", "HTTP/1.1 400 Bad Request\r\n\r\n", "TLS"},
		"raw: web page":     {"tcp", "HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak WAMP over raw sockets"},
		"raw: refusal":      {"tcp", "\x7f\x10\x00\x00", "does not know the serialization"},
		"raw: odd refusal":  {"tcp", "\x7f\xe0\x00\x00", "not in the protocol"},
		"raw: other format": {"tcp", "\x7f\xf2\x00\x00", "another serialization"},
		"raw: silence":      {"tcp", "", "no connection within"},
		"raw: TLS silence":  {"tcps", "", "no connection within"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Quick()
			cfg.URL = c.scheme + "://" + answering(t, c.answer) + "/ws"
			cfg.MinRetry, cfg.MaxRetry = time.Hour, time.Hour
			cfg.ConnectTimeout = 10 * time.Second
			if c.answer == "" {
				cfg.ConnectTimeout = 50 * time.Millisecond
			}
			s := Start(t, cfg, nil, nil)
			if got := s.Wait(Offline); !strings.Contains(got.Reason, c.reason) {
				t.Errorf("reason = %q, want %q", got.Reason, c.reason)
			}
		})
	}
}

// answering is a server that says one thing to whoever asks, whatever they ask.
func answering(t *testing.T, answer string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer c.Close()
				buf := make([]byte, 4096)
				n, _ := c.Read(buf)
				key, accept := "", answer
				for line := range strings.SplitSeq(string(buf[:n]), "\r\n") {
					if name, value, _ := strings.Cut(line, ": "); strings.EqualFold(name, "Sec-WebSocket-Key") {
						key = value
					}
				}
				sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
				accept = strings.ReplaceAll(accept, "ACCEPT", base64.StdEncoding.EncodeToString(sum[:]))
				io.WriteString(c, accept)
				io.Copy(io.Discard, c) // until the other side closes
			})
		}
	})
	t.Cleanup(func() { l.Close(); served.Wait() })
	return l.Addr().String()
}

// A frame of a WebSocket that claims to be endless must not be waited for, nor
// may a message in pieces grow without bound.
func TestEndlessMessageEndsTheLinkAtTheLimit(t *testing.T) {
	upgrader := websocket.Upgrader{Subprotocols: []string{"wamp.2.json"}}
	sent := make(chan int64, 100)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		body, err := c.NextWriter(websocket.TextMessage)
		var n int64
		for piece := make([]byte, 64<<10); err == nil; n += int64(len(piece)) {
			_, err = body.Write(piece)
		}
		select {
		case sent <- n:
		default:
		}
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); server.Serve(l) }()
	defer func() { server.Close(); <-done }()
	cfg := Quick()
	cfg.URL = "ws://" + l.Addr().String()
	cfg.MaxMessage = 1 << 20
	s := Start(t, cfg, nil, nil)
	if got := s.Wait(Offline); !strings.Contains(got.Reason, "limit") {
		t.Errorf("reason = %q, want the limit", got.Reason)
	}
	s.Stop()
	if n := <-sent; n > 32<<20 {
		t.Errorf("the server got rid of %d bytes", n)
	}
}

// proxyChild is the part of the next test that runs in a process of its own,
// because the proxy of the environment is read once per process.
const proxyChild = "REAGENT_TEST_PROXY_CHILD"

func TestProxyOfTheEnvironmentIsUsed(t *testing.T) {
	if url := os.Getenv(proxyChild); url != "" {
		cfg := Quick()
		cfg.URL, cfg.MinRetry, cfg.MaxRetry = url, time.Hour, time.Hour
		cfg.Identity = func() (string, string) { return "41-7", "s" }
		cfg.Log = zerolog.Nop()
		s := Start(t, cfg, nil, nil)
		for st := range s.States {
			if st.State != Connecting {
				fmt.Printf("outcome: %s %s\n", st.State, st.Reason)
				return
			}
		}
	}
	tr := startRouter(t, map[string]string{"41-7": "s"})
	asked := make(chan string, 10)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte("user:geheim"))
	go connectProxy(l, want, tr.relay.Addr(), asked)
	for name, c := range map[string]struct{ variable, proxy, no, outcome string }{
		"with credentials":   {"HTTP_PROXY", "http://user:geheim@" + l.Addr().String(), "", "outcome: online"},
		"wrong credentials":  {"HTTP_PROXY", "http://user:falsch@" + l.Addr().String(), "", "outcome: offline"},
		"exception":          {"HTTP_PROXY", "http://user:geheim@" + l.Addr().String(), "router.test", "outcome: offline"},
		"lower case":         {"http_proxy", "http://user:geheim@" + l.Addr().String(), "", "outcome: online"},
		"answer without end": {"HTTP_PROXY", "http://" + answering(t, "HTTP/1.1 407\r\n\r\n"), "", "outcome: offline connect: "},
	} {
		t.Run(name, func(t *testing.T) {
			for len(asked) > 0 {
				<-asked
			}
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestProxyOfTheEnvironmentIsUsed$", "-test.v")
			for _, v := range os.Environ() {
				if name, _, _ := strings.Cut(v, "="); !strings.HasSuffix(strings.ToLower(name), "_proxy") {
					cmd.Env = append(cmd.Env, v)
				}
			}
			cmd.Env = append(cmd.Env, proxyChild+"=ws://router.test:8020/ws", c.variable+"="+c.proxy, "NO_PROXY="+c.no, "GORACE=atexit_sleep_ms=0")
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), c.outcome) {
				t.Errorf("%v, want %q:\n%s", err, c.outcome, out)
			}
			if strings.Contains(string(out), "geheim") || strings.Contains(string(out), "falsch") {
				t.Errorf("the proxy's password is in the reason:\n%s", out)
			}
			if c.no == "" && strings.HasSuffix(c.proxy, l.Addr().String()) {
				if got := <-asked; got != "router.test:8020" {
					t.Errorf("the proxy was asked for %q", got)
				}
			}
		})
	}
}

// connectProxy is a small HTTP proxy that leads everywhere to one address.
func connectProxy(l net.Listener, authorization, target string, asked chan<- string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			r := bufio.NewReader(c)
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			asked <- req.Host
			if req.Method != http.MethodConnect || req.Header.Get("Proxy-Authorization") != authorization {
				io.WriteString(c, "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				return
			}
			defer far.Close()
			io.WriteString(c, "HTTP/1.1 200 Connection established\r\n\r\n")
			back := make(chan struct{})
			go func() { defer close(back); io.Copy(c, far); c.Close() }()
			io.Copy(far, r)
			far.Close()
			<-back
		}()
	}
}
