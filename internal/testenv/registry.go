package testenv

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
)

// A Registry is an image registry in memory, on 127.0.0.1, where engines pull
// without TLS. It asks nobody for a login unless it is told to.
type Registry struct {
	Host  string // host:port
	login atomic.Pointer[string]
	fault atomic.Pointer[func(w http.ResponseWriter, r *http.Request, next http.Handler)]
}

// NewRegistry starts a registry for this test.
func NewRegistry(t testing.TB) *Registry {
	t.Helper()
	reg := &Registry{}
	store := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if login := reg.login.Load(); login != nil {
			if user, password, _ := r.BasicAuth(); user+":"+password != *login {
				w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(http.StatusUnauthorized)
				io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
				return
			}
		}
		if fault := reg.fault.Load(); fault != nil {
			(*fault)(w, r, store)
			return
		}
		store.ServeHTTP(w, r)
	}))
	t.Cleanup(func() {
		server.CloseClientConnections() // a pull that hangs must not hold the end up
		server.Close()
	})
	reg.Host = strings.TrimPrefix(server.URL, "http://")
	return reg
}

// Require asks for a login from now on.
func (r *Registry) Require(user, password string) {
	login := user + ":" + password
	r.login.Store(&login)
}

// Fault puts f in front of all requests from now on; nil takes it away.
func (r *Registry) Fault(f func(w http.ResponseWriter, r *http.Request, next http.Handler)) {
	if f == nil {
		r.fault.Store(nil)
		return
	}
	r.fault.Store(&f)
}
