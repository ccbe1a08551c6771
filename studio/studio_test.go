package studio_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/studio"
)

// The image registry leaves one goroutine behind, in its library, for as long as
// the process lives.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

func TestTheDataFolderIsForNobodyElse(t *testing.T) {
	s := testenv.Studio(t)
	for name, want := range map[string]os.FileMode{"": 0o700, studio.ProfileFile: 0o600, "studio.bolt": 0o600} {
		info, err := os.Stat(filepath.Join(s.Data(), name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%q: %v %v, want %v", name, info.Mode().Perm(), err, want)
		}
	}
	raw, err := os.ReadFile(filepath.Join(s.Data(), studio.ProfileFile))
	if err != nil {
		t.Fatal(err)
	}
	var p protocol.StudioProfile
	if err := json.Unmarshal(raw, &p); err != nil || p != s.Profile() || p.AuthID != "1" || p.URL != s.URL() || p.Secret == "" {
		t.Errorf("profile = %+v %v", p, err)
	}
}

func TestOneStudioRunsOnAFolder(t *testing.T) {
	s := testenv.Studio(t)
	second, err := studio.New(studio.Config{Data: s.Data(), Listen: []string{"127.0.0.1:0"}, Log: zerolog.Nop()})
	if err == nil {
		_ = second.Close()
		t.Fatal("a second studio started on the folder")
	}
	if !strings.Contains(err.Error(), "in use by another process") || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("error = %v, want one that names the other process", err)
	}
}

func TestHealth(t *testing.T) {
	s := testenv.Studio(t)
	_, file := s.AddDevice("press")
	s.As(file)
	testenv.WaitFor(t, "health tells of one device", func() bool {
		answer, err := http.Get(s.URL() + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := io.ReadAll(answer.Body)
		_ = answer.Body.Close()
		var h map[string]any
		if err := json.Unmarshal(raw, &h); err != nil || h["ok"] != true || h["version"] == "" || len(h) != 3 {
			t.Fatalf("health = %s", raw)
		}
		return h["devices_online"] == 1.0
	})
}

func TestAddressesThatOthersReachNeedEncryption(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0"} {
		s, err := studio.New(studio.Config{Data: t.TempDir(), Listen: []string{"127.0.0.1:0", address}, Log: zerolog.Nop()})
		if err == nil {
			_ = s.Close()
			t.Errorf("%s is taken without TLS", address)
			continue
		}
		if !strings.Contains(err.Error(), "--tls-cert") || !strings.Contains(err.Error(), "--insecure") {
			t.Errorf("%s: %v, want an error that offers both ways", address, err)
		}
	}
	for name, cfg := range map[string]studio.Config{
		"no public URL": {Listen: []string{"0.0.0.0:0"}, Insecure: true},
		"key only":      {TLSKey: "x"},
		"path":          {PublicURL: "https://example.test/studio"},
		"user":          {PublicURL: "https://u:p@example.test"},
		"scheme":        {PublicURL: "example.test:80"},
		"no address":    {Listen: []string{"127.0.0.1"}},
	} {
		cfg.Data, cfg.Log = t.TempDir(), zerolog.Nop()
		if cfg.Listen == nil {
			cfg.Listen = []string{"127.0.0.1:0"}
		}
		if s, err := studio.New(cfg); err == nil {
			_ = s.Close()
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestTheEnginesBridgeIsAsGoodAsTheLoopback(t *testing.T) {
	testenv.Docker(t)
	bridge, err := net.InterfaceByName("docker0")
	if err != nil {
		t.Skip("the engine has a bridge of another name")
	}
	addresses, err := bridge.Addrs()
	if err != nil || len(addresses) == 0 {
		t.Skip("the engine's bridge has no address")
	}
	host := addresses[0].(*net.IPNet).IP.String()
	s := testenv.Studio(t, func(cfg *studio.Config) { cfg.Listen = append(cfg.Listen, net.JoinHostPort(host, "0")) })
	if s.Profile().URL != s.URL() || !strings.Contains(s.URL(), "127.0.0.1") {
		t.Errorf("URL = %s, profile %s, want the loopback", s.URL(), s.Profile().URL)
	}
}

// lines is a writer that keeps the log.
type lines struct{ ch chan string }

func (l lines) Write(p []byte) (int, error) {
	select {
	case l.ch <- string(p):
	default:
	}
	return len(p), nil
}

func TestADangerousSettingIsSaidAtEachStart(t *testing.T) {
	log := lines{make(chan string, 256)}
	s := testenv.Studio(t, func(cfg *studio.Config) {
		cfg.Listen, cfg.PublicURL, cfg.Insecure = []string{"0.0.0.0:0"}, "http://studio.test", true
		cfg.Log = zerolog.New(log)
	})
	for range 2 {
		testenv.WaitFor(t, "it is warned of", func() bool {
			for len(log.ch) > 0 {
				if strings.Contains(<-log.ch, "NOT ENCRYPTED") {
					return true
				}
			}
			return false
		})
		s.Restart()
	}
	if s.URL() != "http://studio.test" {
		t.Errorf("URL = %s", s.URL())
	}
}

func TestOverTLSTheCertificateIsVerified(t *testing.T) {
	cert, key := certificate(t)
	data := t.TempDir()
	s, err := studio.New(studio.Config{Data: data, Listen: []string{"127.0.0.1:0"}, TLSCert: cert, TLSKey: key, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	p := s.Profile()
	if !strings.HasPrefix(p.URL, "https://127.0.0.1:") || p.CA == "" {
		t.Errorf("profile = %+v", p)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(p.CA)) {
		t.Fatal("the profile's CA cannot be read")
	}
	login := messenger.Config{
		URL: p.URL + "/ws", Realm: p.Realm, Identity: func() (string, string) { return p.AuthID, p.Secret },
		TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, MinRetry: 10 * time.Millisecond,
	}
	admin := testenv.Join(t, login)
	var added protocol.DeviceAdded
	admin.Ask(protocol.StudioAddDevice, protocol.AddDevice{Name: "press"}, &added)
	if !strings.HasPrefix(added.File.DeviceEndpointURL, "wss://127.0.0.1:") || !strings.HasSuffix(added.File.DeviceEndpointURL, "/ws-re-dev") {
		t.Errorf("endpoint = %s", added.File.DeviceEndpointURL)
	}
	if answer, err := http.Get(p.URL + "/healthz"); err == nil {
		_ = answer.Body.Close()
		t.Error("a client that does not know the CA is content")
	}
	admin.Leave()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
}

func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	pair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "studio"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &pair.PublicKey, pair)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(pair)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", raw)
}

func TestTheStudioEndsWithinFiveSeconds(t *testing.T) {
	s := testenv.Studio(t)
	for i := range 5 {
		_, file := s.AddDevice(fmt.Sprintf("d%d", i))
		s.As(file)
	}
	began := time.Now()
	s.Stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %v", took)
	}
}

// An app logs in with the credential that the agent derives, into its own realm,
// over the path and the serialisation that published SDKs use.
func TestAnAppLogsInWithItsDerivedCredential(t *testing.T) {
	s := testenv.Studio(t)
	admin := s.Admin()
	_, file := s.AddDevice("press")
	device := s.As(file)
	admin.Ask(protocol.StudioCreateApp, protocol.CreateApp{Name: "web"}, nil)
	admin.Release(protocol.CreateRelease{App: "web", Version: "1", Architectures: []string{"amd64"}})
	answer, err := device.Call(t.Context(), protocol.GetAppCredKey, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	key, _ := protocol.Text(protocol.Arg(answer.Args, 0))
	authid := protocol.AppAuthID(protocol.Prod, 1, 1, file.SerialNumber)
	secret := protocol.AppSecret(key, protocol.Prod, 1, 1, file.SerialNumber)
	login := messenger.Config{
		URL: "ws" + strings.TrimPrefix(s.URL(), "http") + "/ws-ua-usr", Realm: protocol.AppRealm(1, 1, protocol.Prod),
		Identity: func() (string, string) { return authid, secret }, Serializations: []string{"msgpack", "json"},
	}
	if state := outcome(t, login); state != messenger.Unauthorized {
		t.Errorf("before it is deployed: %s", state)
	}
	admin.Ask(protocol.StudioDeployApp, protocol.DeployApp{App: "web", Device: "press"}, nil)
	app := testenv.Join(t, login)
	app.Declare("com.example.add", nil, func(_ context.Context, inv messenger.Invocation) messenger.Outcome {
		return messenger.Outcome{Args: []any{"from " + inv.Caller}}
	})
	// Its user is among its like; nothing of the devices' realm is there.
	login.Identity = func() (string, string) { return s.Profile().AuthID, s.Profile().Secret }
	user := testenv.Join(t, login)
	var got any
	testenv.WaitFor(t, "the app answers", func() bool {
		answer, err := user.Call(t.Context(), "com.example.add", nil, nil)
		got = protocol.Arg(answer.Args, 0)
		return err == nil
	})
	if got != "from 1" {
		t.Errorf("the app answers %v", got)
	}
	for _, uri := range []string{protocol.StudioListDevices, protocol.GetAppCredKey, protocol.Procedure(file.SerialNumber, protocol.RequestAppState)} {
		if _, err := app.Call(t.Context(), uri, nil, nil); err == nil {
			t.Errorf("the app may call %s", uri)
		}
	}
	login.Realm, login.Identity = protocol.RealmDevices, func() (string, string) { return authid, secret }
	if state := outcome(t, login); state != messenger.Unauthorized {
		t.Errorf("in the devices' realm: %s", state)
	}
	// When the app is gone from the device, so is its session.
	admin.Ask(protocol.StudioRemoveApp, protocol.RemoveApp{App: "web", Device: "press"}, nil)
	report := protocol.Wire(protocol.StateReport{AppKey: 1, DeviceKey: file.DeviceKey, Stage: protocol.Prod, State: protocol.Removed})
	if _, err := device.Call(t.Context(), protocol.UpdateAppOnDevice, []any{report}, nil); err != nil {
		t.Fatal(err)
	}
	testenv.WaitFor(t, "the session of the removed app ends", func() bool { return !app.Online() })
}

// outcome is the first state of a session that tries once.
func outcome(t *testing.T, cfg messenger.Config) messenger.State {
	t.Helper()
	states := make(chan messenger.State, 16)
	cfg.Changed = func(s messenger.Status) {
		select {
		case states <- s.State:
		default:
		}
	}
	session, err := messenger.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = session.Run(ctx, func(context.Context, *messenger.Link) error { return nil })
	}()
	defer func() { cancel(); <-ended }()
	for {
		select {
		case s := <-states:
			if s != messenger.Connecting {
				return s
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no outcome")
		}
	}
}
