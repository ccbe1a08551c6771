// Package studio is a whole studio: a router that devices and people connect to,
// the procedures that they call, an image registry, and the store under all of
// it.
//
//	            ┌── /ws /ws-re-dev /ws-ua-usr ── router ── session ── backend ──┐
//	listeners ──┼── /v2/ /auth/token ─────────── registry ──────────────────────┼── store
//	            └── /healthz                                                    ┘
//
// Promises: everything that it keeps is below one folder that nobody else may
// read (0700), and one studio runs on a folder at a time. It is reached without
// encryption from this machine only, unless it was told otherwise, and then it
// says so at each start. It ends within five seconds.
package studio

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/filesystem"
	"reagent/protocol"
	"reagent/release"
	"reagent/studio/backend"
	"reagent/studio/registry"
	"reagent/studio/router"
	"reagent/studio/store"
)

// DefaultListen is where a studio listens that was told nothing.
const DefaultListen = "127.0.0.1:8020"

// ProfileFile is the name of the file, in the data folder, with which the
// commands on this machine reach the studio.
const ProfileFile = "cli.json"

// The paths at which sessions are opened: ours, and those that existing devices,
// users and apps dial. They differ in nothing.
const (
	pathSessions = "/ws"
	pathDevices  = "/ws-re-dev"
	pathUsers    = "/ws-ua-usr"
	pathHealth   = "/healthz"
)

// Config says how a studio runs. Data is needed.
type Config struct {
	Data      string   // folder; made where it is missing
	Listen    []string // host:port; default DefaultListen
	PublicURL string   // how devices reach it; default: the first listener
	TLSCert   string   // PEM files; both or none
	TLSKey    string
	Insecure  bool // without TLS on addresses that others can reach

	Router  router.Config   // limits; its Log is not used
	Backend BackendSettings // timings

	Log zerolog.Logger
}

// BackendSettings are timings of the backend; a zero value stands for the
// product's.
type BackendSettings struct{ DeliverLimit, ReconcileEvery time.Duration }

// A Studio is a studio. Make one with [New], and run it or close it.
type Studio struct {
	cfg       Config
	listeners []net.Listener
	url       string // as devices reach it
	store     *store.Store
	registry  *registry.Registry
	router    *router.Router
	backend   *backend.Backend
	session   *Session
	profile   protocol.StudioProfile
	closing   func() error
}

// New opens everything that a studio needs, its listeners too. Nothing is
// answered before Run.
func New(cfg Config) (_ *Studio, err error) {
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{DefaultListen}
	}
	tlsConfig, certificate, err := loadTLS(cfg)
	if err != nil {
		return nil, err
	}
	if err := checkListen(cfg, tlsConfig != nil); err != nil {
		return nil, err
	}
	s := &Studio{cfg: cfg}
	s.closing = sync.OnceValue(s.close)
	defer func() {
		if err != nil {
			_ = s.Close()
		}
	}()
	if err := filesystem.MakePrivateDir(cfg.Data); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if s.store, err = store.Open(cfg.Data, cfg.Log.With().Str("part", "store").Logger()); err != nil {
		return nil, err
	}
	if err := s.listen(tlsConfig); err != nil {
		return nil, err
	}
	if s.url, err = publicURL(cfg.PublicURL, s.listeners[0].Addr(), tlsConfig != nil); err != nil {
		return nil, err
	}
	if s.registry, err = registry.New(registry.Config{
		Folder: filepath.Join(cfg.Data, "registry"), Principals: s.store, Releases: s.store, PublicURL: s.url,
		Log: cfg.Log.With().Str("part", "registry").Logger(),
	}); err != nil {
		return nil, err
	}
	cfg.Router.Log = cfg.Log.With().Str("part", "router").Logger()
	if s.router, err = router.New(cfg.Router, directory{s.store}); err != nil {
		return nil, err
	}
	if s.session, err = NewSession(local(s.router, cfg.Log.With().Str("part", "session").Logger())); err != nil {
		return nil, err
	}
	s.backend = backend.New(backend.Config{
		Store: s.store, Session: s.session, Images: s.registry, Address: backend.Address{URL: s.url, CA: certificate},
		Revoked: s.router.Recheck, DeliverLimit: cfg.Backend.DeliverLimit, ReconcileEvery: cfg.Backend.ReconcileEvery,
		Log: cfg.Log.With().Str("part", "backend").Logger(),
	})
	s.session.Attach(s.backend, nil)
	return s, s.writeProfile()
}

// URL is how devices and people reach the studio.
func (s *Studio) URL() string { return s.url }

// Addresses are what the studio listens on.
func (s *Studio) Addresses() []string {
	all := make([]string, 0, len(s.listeners))
	for _, l := range s.listeners {
		all = append(all, l.Addr().String())
	}
	return all
}

// Profile is the administrator's: the content of ProfileFile.
func (s *Studio) Profile() protocol.StudioProfile { return s.profile }

// writeProfile writes with what the commands on this machine reach the studio.
func (s *Studio) writeProfile() error {
	admin, err := s.store.Account(fmt.Sprint(protocol.AccountAdministrator))
	if err != nil {
		return fmt.Errorf("the administrator's account: %w", err)
	}
	s.profile = s.backend.Profile(admin)
	if s.profile.CA == "" {
		for _, l := range s.listeners { // nearer than the public address, and certainly there
			if host, _, err := net.SplitHostPort(l.Addr().String()); err == nil && net.ParseIP(host).IsLoopback() {
				s.profile.URL = "http://" + l.Addr().String()
				break
			}
		}
	}
	raw, err := json.MarshalIndent(s.profile, "", " ")
	if err != nil {
		return err
	}
	if _, err := filesystem.WriteIfChanged(filepath.Join(s.cfg.Data, ProfileFile), append(raw, '\n'), filesystem.PrivateFile); err != nil {
		return fmt.Errorf("write the profile of the commands: %w", err)
	}
	return nil
}

// Run serves until ctx ends or a listener fails, and closes the studio.
func (s *Studio) Run(ctx context.Context) error {
	inner, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var work sync.WaitGroup
	defer func() {
		s.router.Close() // tells everybody
		stop(nil)
		work.Wait()
		_ = s.Close()
	}()
	attached := make(chan struct{})
	var once sync.Once
	work.Go(func() {
		_ = s.session.Run(inner, func(ctx context.Context) error {
			defer once.Do(func() { close(attached) })
			return s.backend.Online(ctx)
		})
	})
	for _, part := range []func(context.Context) error{s.backend.Run, s.store.Run, s.registry.Run} {
		work.Go(func() { _ = part(inner) }) // ends with inner only
	}
	// A device that came before its procedures are there would be refused.
	select {
	case <-attached:
	case <-ctx.Done():
		return ctx.Err()
	}
	server := s.server()
	for _, l := range s.listeners {
		work.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				stop(fmt.Errorf("listen on %s: %w", l.Addr(), err))
			}
		})
	}
	s.announce()
	select {
	case <-ctx.Done():
		s.shutdown(server)
		return ctx.Err()
	case <-inner.Done():
		s.shutdown(server)
		return context.Cause(inner)
	}
}

// shutdown ends the server; requests get a moment to finish. Sessions are the
// router's to end.
func (s *Studio) shutdown(server *http.Server) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) // outlives Run's
	defer cancel()
	if server.Shutdown(ctx) != nil {
		_ = server.Close()
	}
}

// announce says where the studio is, and what is dangerous about it.
func (s *Studio) announce() {
	for _, l := range s.listeners {
		if s.cfg.TLSCert == "" && !trusted(l.Addr()) {
			s.cfg.Log.Warn().Str("address", l.Addr().String()).Msg("!!! NOT ENCRYPTED (--insecure): whoever sees this network reads what devices say and can take them over; use --tls-cert and --tls-key")
		}
	}
	s.cfg.Log.Info().Strs("listen", s.Addresses()).Str("url", s.url).Str("data", s.cfg.Data).Str("version", release.Version).Msg("studio is ready")
}

// Close lets go of everything. Run does it at its end.
func (s *Studio) Close() error { return s.closing() }

func (s *Studio) close() error {
	var errs []error
	for _, l := range s.listeners {
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	if s.router != nil {
		s.router.Close()
	}
	if s.registry != nil {
		errs = append(errs, s.registry.Close())
	}
	if s.store != nil {
		errs = append(errs, s.store.Close())
	}
	return errors.Join(errs...)
}

func (s *Studio) server() *http.Server {
	mux := http.NewServeMux()
	for _, path := range []string{pathSessions, pathDevices, pathUsers} {
		mux.Handle(path, s.router)
	}
	mux.Handle(registry.PathImages, s.registry)
	mux.Handle(registry.PathToken, s.registry)
	mux.HandleFunc(pathHealth, s.health)
	return &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          libraryLog(s.cfg.Log),
	}
}

// health tells whoever asks whether the studio works, and nothing else.
func (s *Studio) health(w http.ResponseWriter, _ *http.Request) {
	online := map[uint64]bool{}
	for _, device := range s.store.Sessions() {
		online[device] = true
	}
	ok := s.session.Online()
	w.Header().Set("Content-Type", "application/json")
	if !ok {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	_ = json.NewEncoder(w).Encode(struct {
		OK            bool   `json:"ok"`
		DevicesOnline int    `json:"devices_online"`
		Version       string `json:"version"`
	}{ok, len(online), release.Version})
}

func (s *Studio) listen(tlsConfig *tls.Config) error {
	for _, address := range s.cfg.Listen {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return fmt.Errorf("listen on %s: %w; another port goes with --listen", address, err)
		}
		if tlsConfig != nil {
			l = tls.NewListener(l, tlsConfig)
		}
		s.listeners = append(s.listeners, l)
	}
	return nil
}

// loadTLS reads the certificate; its PEM is handed to clients as what to verify
// it with, for it may be signed by nobody they know.
func loadTLS(cfg Config) (*tls.Config, string, error) {
	switch {
	case cfg.TLSCert == "" && cfg.TLSKey == "":
		return nil, "", nil
	case cfg.TLSCert == "" || cfg.TLSKey == "":
		return nil, "", errors.New("--tls-cert and --tls-key go together")
	}
	pair, err := tls.LoadX509KeyPair(cfg.TLSCert, cfg.TLSKey)
	if err != nil {
		return nil, "", fmt.Errorf("TLS certificate: %w", err)
	}
	certificate, err := os.ReadFile(cfg.TLSCert)
	if err != nil {
		return nil, "", fmt.Errorf("TLS certificate: %w", err)
	}
	// HTTP/2 has no WebSockets that clients use.
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}, string(certificate), nil
}

// checkListen refuses addresses that others can reach without encryption.
func checkListen(cfg Config, encrypted bool) error {
	for _, address := range cfg.Listen {
		resolved, err := net.ResolveTCPAddr("tcp", address)
		if err != nil {
			return fmt.Errorf("--listen %s: %w", address, err)
		}
		if !encrypted && !cfg.Insecure && !trusted(resolved) {
			return fmt.Errorf("--listen %s can be reached by others: give --tls-cert and --tls-key, or --insecure if nothing but TLS in front of it can reach it", address)
		}
	}
	return nil
}

// bridges begin the names of the interfaces over which a local engine's
// containers reach this machine, and nobody else.
var bridges = []string{"docker", "br-", "podman", "cni"}

// trusted reports whether an address can be reached from this machine and its
// containers only.
func trusted(address net.Addr) bool {
	tcp, ok := address.(*net.TCPAddr)
	if !ok || tcp.IP == nil || tcp.IP.IsUnspecified() {
		return false
	}
	if tcp.IP.IsLoopback() {
		return true
	}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if !slices.ContainsFunc(bridges, func(prefix string) bool { return strings.HasPrefix(i.Name, prefix) }) {
			continue
		}
		addresses, _ := i.Addrs()
		for _, a := range addresses {
			if network, ok := a.(*net.IPNet); ok && network.IP.Equal(tcp.IP) {
				return true
			}
		}
	}
	return false
}

// publicURL is how devices reach the studio.
func publicURL(given string, first net.Addr, encrypted bool) (string, error) {
	if given == "" {
		host, _, _ := net.SplitHostPort(first.String())
		if ip := net.ParseIP(host); ip == nil || ip.IsUnspecified() {
			return "", errors.New("say with --public-url how devices reach the studio, for it listens on every address")
		}
		scheme := "http"
		if encrypted {
			scheme = "https"
		}
		return scheme + "://" + first.String(), nil
	}
	u, err := url.Parse(given)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "" {
		return "", fmt.Errorf("--public-url %q: it has the form https://host:port, without a path", given)
	}
	return u.Scheme + "://" + u.Host, nil
}
