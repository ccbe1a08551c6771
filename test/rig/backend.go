package rig

import (
	"context"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/studio"
	"reagent/studio/backend"
	"reagent/studio/registry"
	"reagent/studio/store"
)

// A Backend is the studio without its router: store, image registry, and the
// procedures, attached to a router of somebody else. The router may be named
// after devices were added, as it has to know their secrets.
type Backend struct {
	t       testing.TB
	router  *testenv.Relay
	backend *backend.Backend
	session *studio.Session
	run     []func(context.Context) error
}

// NewBackend opens a backend that ends with the test.
func NewBackend(t testing.TB) *Backend {
	t.Helper()
	data, log := t.TempDir(), zerolog.Nop()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	kept, err := store.Open(data, log)
	must(err)
	t.Cleanup(func() { _ = kept.Close() })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	url := "http://" + l.Addr().String()
	images, err := registry.New(registry.Config{Folder: filepath.Join(data, "registry"), Principals: kept, Releases: kept, PublicURL: url, Log: log})
	must(err)
	server, served := &http.Server{Handler: images, ReadHeaderTimeout: 10 * time.Second}, make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-served
		_ = images.Close()
	})

	b := &Backend{t: t, router: testenv.NewRelay(t, "127.0.0.1:1")}
	b.session, err = studio.NewSession(messenger.Config{
		URL: b.URL(), Realm: protocol.RealmDevices, Identity: func() (string, string) { return protocol.AuthIDSystem, SystemSecret },
		MinRetry: 100 * time.Millisecond, MaxRetry: 300 * time.Millisecond, Log: log,
	})
	must(err)
	b.backend = backend.New(backend.Config{
		Store: kept, Session: b.session, Images: images, Address: backend.Address{URL: url}, Revoked: func() {}, Log: log,
	})
	b.session.Attach(b.backend, nil)
	b.run = []func(context.Context) error{
		func(ctx context.Context) error { return b.session.Run(ctx, b.backend.Online) }, b.backend.Run, kept.Run, images.Run,
	}
	return b
}

// URL is how everybody reaches the router, once it is there.
func (b *Backend) URL() string { return "ws://" + b.router.Addr() + "/ws" }

// Join attaches the backend to the router at host:port, where it logs in as
// system with SystemSecret.
func (b *Backend) Join(router string) {
	b.t.Helper()
	b.router.SetTarget(router)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	for _, run := range b.run {
		go func() {
			_ = run(ctx)
			done <- struct{}{}
		}()
	}
	b.t.Cleanup(func() {
		cancel()
		for range b.run {
			<-done
		}
	})
}

// AddDevice makes a device that dials the router.
func (b *Backend) AddDevice(name string) protocol.DeviceFileContent {
	b.t.Helper()
	reply := b.backend.Procedures()[protocol.StudioAddDevice](b.t.Context(), backend.Request{
		Disclosed: true, AuthID: protocol.AuthIDSystem, Role: protocol.RoleSystem, Args: []any{protocol.Wire(protocol.AddDevice{Name: name})},
	})
	var added protocol.DeviceAdded
	if err := protocol.Decode(protocol.Arg(reply.Args, 0), &added); err != nil || reply.Error != "" {
		b.t.Fatalf("add a device: %v, %v", reply, err)
	}
	added.File.DeviceEndpointURL = b.URL()
	return added.File
}

// Administrator is the account that may do everything.
var Administrator = strconv.FormatUint(protocol.AccountAdministrator, 10)
