package container_test

import (
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"reagent/container"
	"reagent/internal/testenv"
)

func TestSizeOfADownloadIsKnownBeforeItsFirstByte(t *testing.T) {
	docker := testenv.Docker(t)
	e := newEngine(t, docker.Host)
	reg := testenv.NewRegistry(t)
	ballast := append([]byte(docker.Prefix), noise(3<<20)...) // nobody else's
	ref := func(version string) string { return reg.Host + "/" + docker.Prefix + "/app:" + version }
	testenv.PushImage(t, ref("1"), "", "", testenv.App{Env: []string{"V=1"}, Ballast: ballast})
	testenv.PushImage(t, ref("2"), "", "", testenv.App{Env: []string{"V=2"}, Ballast: ballast})
	// The program's layer is kept here: another test's image would come and go with it.
	testenv.PushImage(t, ref("base"), "", "", testenv.App{})
	if err := e.Pull(t.Context(), ref("base"), nil, nil); err != nil {
		t.Fatal(err)
	}
	login := &container.Credential{Username: "token", Password: "secret"}
	reg.Require(login.Username, login.Password)
	var blobs atomic.Int64
	reg.Fault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			blobs.Add(1)
		}
		next.ServeHTTP(w, r)
	})

	size, err := e.DownloadSize(t.Context(), ref("1"), login)
	if err != nil || size < 3<<20 || size > 4<<20 {
		t.Fatalf("size = %d, %v, want that of the ballast", size, err)
	}
	if n := blobs.Load(); n != 1 {
		t.Errorf("%d blobs were fetched to find out, want the configuration alone", n)
	}
	var last container.PullProgress
	if err := e.Pull(t.Context(), ref("1"), login, func(p container.PullProgress) { last = p }); err != nil {
		t.Fatal(err)
	}
	if last.Total != size {
		t.Errorf("the pull fetched %d bytes, %d were foretold", last.Total, size)
	}
	if size, err := e.DownloadSize(t.Context(), ref("2"), login); err != nil || size != 0 {
		t.Errorf("size of what shares all layers = %d, %v, want 0", size, err)
	}

	for what, test := range map[string]struct {
		ref  string
		cred *container.Credential
		want error
	}{
		"no login":      {ref("1"), nil, container.ErrUnauthorized},
		"a wrong login": {ref("1"), &container.Credential{Username: "token", Password: "x"}, container.ErrUnauthorized},
		"no image":      {ref("3"), login, container.ErrNotFound},
		"no registry":   {"127.0.0.1:1/x:1", login, container.ErrNetwork},
		"nonsense":      {"../x y", login, nil},
	} {
		size, err := e.DownloadSize(t.Context(), test.ref, test.cred)
		if err == nil || size != 0 || test.want != nil && !errors.Is(err, test.want) {
			t.Errorf("%s: %d, %v, want %v", what, size, err, test.want)
		}
	}
}

func TestNoRegistryIsAskedWithoutTLSThatTheEngineWouldNotAsk(t *testing.T) {
	docker := testenv.Docker(t)
	wire := tap(t, docker.Host)
	reg := testenv.NewRegistry(t)
	testenv.PushImage(t, reg.Host+"/app:1", "", "", testenv.App{})
	var asked atomic.Int32
	reg.Fault(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		asked.Add(1)
		next.ServeHTTP(w, r)
	})
	e := newEngine(t, wire.host)
	wire.setFault(func(w http.ResponseWriter, r *http.Request) bool { // an engine that asks nobody without TLS
		if !strings.HasSuffix(r.URL.Path, "/info") {
			return false
		}
		w.Header().Set("Content-Type", "application/json")
		_, err := w.Write([]byte(`{"RegistryConfig": {"InsecureRegistryCIDRs": ["10.0.0.0/8"], "IndexConfigs": {}}}`))
		return err == nil
	})
	if _, err := e.DownloadSize(t.Context(), reg.Host+"/app:1", nil); err == nil {
		t.Error("the size is known, want an error")
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the registry was asked %d times without TLS", n)
	}
}
