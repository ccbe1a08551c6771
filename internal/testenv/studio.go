package testenv

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/messenger"
	"reagent/protocol"
	"reagent/studio"
)

// A StudioRig is a whole studio in this process.
type StudioRig struct {
	t      testing.TB
	cfg    studio.Config
	stop   context.CancelFunc
	ended  chan error
	studio *studio.Studio
}

// Studio starts a studio on a free port of the loopback, with its data in a
// folder of the test. change may be nil; it gets the configuration before the
// first start.
func Studio(t testing.TB, change ...func(*studio.Config)) *StudioRig {
	t.Helper()
	s := &StudioRig{t: t, cfg: studio.Config{
		Data: filepath.Join(t.TempDir(), "studio"), Listen: []string{"127.0.0.1:0"},
		Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.InfoLevel),
	}}
	for _, f := range change {
		f(&s.cfg)
	}
	s.Start()
	t.Cleanup(s.Stop)
	return s
}

// Start starts a stopped studio again, at the address and with the data that it
// had.
func (s *StudioRig) Start() {
	s.t.Helper()
	if s.stop != nil {
		s.t.Fatal("the studio runs already")
	}
	var err error
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		s.studio, err = studio.New(s.cfg)
		if err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil {
		s.t.Fatalf("start the studio: %v", err)
	}
	s.cfg.Listen = s.studio.Addresses()
	ctx, stop := context.WithCancel(context.Background()) // Stop ends it
	s.stop, s.ended = stop, make(chan error, 1)
	go func() { s.ended <- s.studio.Run(ctx) }()
	s.waitHealthy()
}

func (s *StudioRig) waitHealthy() {
	s.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		answer, err := http.Get("http://" + s.cfg.Listen[0] + "/healthz")
		if err != nil {
			continue
		}
		_ = answer.Body.Close()
		if answer.StatusCode == http.StatusOK {
			return
		}
	}
	s.t.Fatal("the studio does not become healthy")
}

// Stop ends the studio and keeps its data.
func (s *StudioRig) Stop() {
	s.t.Helper()
	if s.stop == nil {
		return
	}
	s.stop()
	s.stop = nil
	select {
	case err := <-s.ended:
		if err != nil && !errors.Is(err, context.Canceled) {
			s.t.Errorf("studio: %v", err)
		}
	case <-time.After(10 * time.Second):
		s.t.Error("the studio does not end")
	}
}

// Restart is Stop and Start.
func (s *StudioRig) Restart() { s.t.Helper(); s.Stop(); s.Start() }

// URL is the studio's, http://host:port.
func (s *StudioRig) URL() string { return s.studio.URL() }

// Endpoint is the URL that devices dial.
func (s *StudioRig) Endpoint() string {
	return "ws" + strings.TrimPrefix(s.URL(), "http") + "/ws-re-dev"
}

// Address is host:port.
func (s *StudioRig) Address() string { return s.cfg.Listen[0] }

// Profile is the administrator's.
func (s *StudioRig) Profile() protocol.StudioProfile { return s.studio.Profile() }

// Data is the studio's folder.
func (s *StudioRig) Data() string { return s.cfg.Data }

// AddDevice makes a device and writes its device file into a folder of the test.
func (s *StudioRig) AddDevice(name string) (path string, file protocol.DeviceFileContent) {
	s.t.Helper()
	var added protocol.DeviceAdded
	s.Admin().Ask(protocol.StudioAddDevice, protocol.AddDevice{Name: name}, &added)
	raw, err := json.MarshalIndent(added.File, "", " ")
	if err != nil {
		s.t.Fatal(err)
	}
	path = filepath.Join(s.t.TempDir(), "device.reswarm")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path, added.File
}

// Admin is a session of the administrator.
func (s *StudioRig) Admin() *SessionRig { s.t.Helper(); return s.Join(s.Profile()) }

// Join is a session with a profile, of a person or a device.
func (s *StudioRig) Join(p protocol.StudioProfile) *SessionRig {
	s.t.Helper()
	return Join(s.t, messenger.Config{
		URL: p.URL + "/ws", Realm: p.Realm, Identity: func() (string, string) { return p.AuthID, p.Secret },
	})
}

// As is a session of a device that was added.
func (s *StudioRig) As(file protocol.DeviceFileContent) *SessionRig {
	s.t.Helper()
	return s.Join(protocol.StudioProfile{
		URL: s.URL(), Realm: protocol.RealmDevices, AuthID: protocol.DeviceAuthID(file.SwarmKey, file.DeviceKey), Secret: file.Secret,
	})
}

// A SessionRig is a session of somebody that ends with the test.
type SessionRig struct {
	t testing.TB
	*messenger.Session
	stop  context.CancelFunc
	ended chan struct{}
}

// Join opens a session and waits until it is there.
func Join(t testing.TB, cfg messenger.Config) *SessionRig {
	t.Helper()
	up := make(chan struct{}, 1)
	session, err := messenger.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background()) // Leave ends it
	s := &SessionRig{t: t, Session: session, stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		_ = session.Run(ctx, func(ctx context.Context, link *messenger.Link) error {
			if err := link.Apply(ctx); err != nil {
				return err
			}
			select {
			case up <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	t.Cleanup(s.Leave)
	select {
	case <-up:
	case <-time.After(10 * time.Second):
		t.Fatalf("no session with %s", cfg.URL)
	}
	// Run says that it is online right after the function has returned.
	for deadline := time.Now().Add(5 * time.Second); !session.Online() && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
	}
	return s
}

// Leave ends the session.
func (s *SessionRig) Leave() { s.stop(); <-s.ended }

// Ask calls a procedure of the studio with one object and reads the one that it
// answers; an error ends the test.
func (s *SessionRig) Ask(uri string, in, out any) {
	s.t.Helper()
	if err := s.Try(uri, in, out); err != nil {
		s.t.Fatalf("%s: %v", uri, err)
	}
}

// Try is Ask that returns the error.
func (s *SessionRig) Try(uri string, in, out any) error {
	var args []any
	if in != nil {
		d, err := protocol.ToDict(in)
		if err != nil {
			return err
		}
		args = []any{d}
	}
	answer, err := s.Call(s.t.Context(), uri, args, nil)
	if err != nil || out == nil {
		return err
	}
	return protocol.Decode(protocol.Arg(answer.Args, 0), out)
}

// FreePort is a port of the loopback on which nobody listens at this moment.
func FreePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
