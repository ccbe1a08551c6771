package testenv

import (
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// Serve answers with h on l, which may be nil for a free port of 127.0.0.1, until
// the test ends, and returns where. Its end waits for all handlers, also for those
// that took their connection over: a router behind it must not be closed while it
// lets somebody in.
func Serve(t testing.TB, l net.Listener, h http.Handler) (addr string) {
	t.Helper()
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatalf("listen: %v", err)
		}
	}
	var open sync.RWMutex // held by who is being served
	closed, done := false, make(chan struct{})
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, ErrorLog: log.New(io.Discard, "", 0)}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		open.RLock()
		defer open.RUnlock()
		if !closed {
			h.ServeHTTP(w, q)
		}
	})
	go func() { defer close(done); _ = server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
		open.Lock()
		defer open.Unlock()
		closed = true
	})
	return l.Addr().String()
}
