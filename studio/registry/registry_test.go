package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// distribution keeps one of these for each registry, and never ends it.
		goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"),
	)
}

// people are Principals of a test: secrets by authid, and who may do what with
// which app.
type people struct {
	mu      sync.Mutex
	secrets map[string]string
	pull    map[string][]uint64
	push    map[string][]uint64
	publish map[string]string // authid of a device to the version of app 6, for amd64
}

func (p *people) Secret(authid string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.secrets[authid]
	return s, ok
}

func (p *people) DeviceWithSecret(secret string) (string, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for authid, s := range p.secrets {
		if s == secret && strings.Contains(authid, "-") {
			return authid, true
		}
	}
	return "", false
}

func (p *people) MayPull(authid string, app uint64) bool { return p.may(p.pull, authid, app) }
func (p *people) MayPush(authid string, app uint64) bool { return p.may(p.push, authid, app) }

func (p *people) MayPublish(authid string, app uint64) (arch, version string, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	version, ok = p.publish[authid]
	return "amd64", version, ok && version != "" && app == 6
}

func (p *people) may(rights map[string][]uint64, authid string, app uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, a := range rights[authid] {
		if a == app {
			return true
		}
	}
	return false
}

func (p *people) remove(authid string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.secrets, authid)
	delete(p.pull, authid)
}

// Two projects' devices and two users: 1-1 and user 1 have app 6, 2-2 and user 2 app 7.
func someone() *people {
	return &people{
		secrets: map[string]string{"1-1": "device one", "2-2": "device two", "1": "user one", "2": "user two"},
		pull:    map[string][]uint64{"1-1": {6}, "2-2": {7}, "1": {6}, "2": {7}},
		push:    map[string][]uint64{"1": {6}, "2": {7}},
	}
}

const repository = "apps/prod_amd64_6_hello"

// A site is a registry behind a real listener.
type site struct {
	*Registry
	host string
	who  *people
}

func start(t *testing.T, folder string, change func(*Config)) *site {
	t.Helper()
	who := someone()
	cfg := Config{Folder: folder, Principals: who, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel)}
	if change != nil {
		change(&cfg)
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	server := httptest.NewServer(r)
	t.Cleanup(func() {
		server.Close()
		if err := r.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	u, _ := url.Parse(server.URL)
	return &site{Registry: r, host: u.Host, who: who}
}

func (s *site) ref(t *testing.T, repository string) name.Tag {
	t.Helper()
	ref, err := name.NewTag(s.host+"/"+repository+":1.0.0", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func (s *site) push(t *testing.T, repository string, login authn.AuthConfig) error {
	t.Helper()
	return remote.Write(s.ref(t, repository), image(t, 64<<10+rand.IntN(64<<10)), remote.WithAuth(authn.FromConfig(login)), remote.WithTransport(transportOf(t)))
}

func (s *site) pull(t *testing.T, repository string, login authn.AuthConfig) error {
	t.Helper()
	img, err := remote.Image(s.ref(t, repository), remote.WithAuth(authn.FromConfig(login)), remote.WithTransport(transportOf(t)))
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	for _, l := range layers {
		body, err := l.Compressed()
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, body)
		body.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// transportOf is a transport whose idle connections end with the test.
func transportOf(t *testing.T) http.RoundTripper {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	t.Cleanup(tr.CloseIdleConnections)
	return tr
}

// image makes an image with one layer of random bytes.
func image(t *testing.T, size int) v1.Image {
	t.Helper()
	data := make([]byte, size)
	random := rand.NewChaCha8([32]byte{byte(size), byte(size >> 8), byte(size >> 16)})
	_, _ = random.Read(data)
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(data, types.DockerLayer))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func basic(username, password string) authn.AuthConfig {
	return authn.AuthConfig{Username: username, Password: password}
}

// refused tells whether the registry said no, rather than something else going wrong.
func refused(err error) bool {
	var e *transport.Error
	return errors.As(err, &e) && (e.StatusCode == http.StatusUnauthorized || e.StatusCode == http.StatusForbidden)
}

func TestLoginsThatPull(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	if err := s.push(t, repository, basic("1", "user one")); err != nil {
		t.Fatalf("push: %v", err)
	}
	expired := s.signer.sign(claims{Use: usePull, Subject: "1-1", Expires: time.Now().Unix() - 1})
	foreign := signer{make([]byte, keyBytes)}.sign(claims{Use: usePull, Subject: "1-1", Expires: time.Now().Unix() + 100})
	for _, c := range []struct {
		claim              string
		username, password string
		good               bool
	}{
		{"token of get_registry_token and the device's secret", s.PullToken(1, "1-1"), "device one", true},
		{"the token as a password", "token", s.PullToken(1, "1-1"), true},
		{"authid and secret of the device", "1-1", "device one", true},
		{"any name and the device's secret", "press-07", "device one", true},
		{"an expired token and the device's secret", expired, "device one", true},
		{"authid and secret of the user", "1", "user one", true},
		{"the token with another device's secret", s.PullToken(1, "1-1"), "device two", false},
		{"the token with no secret", s.PullToken(1, "1-1"), "x", false},
		{"an expired token as a password", "token", expired, false},
		{"a token of another registry", "token", foreign, false},
		{"a wrong secret", "1-1", "device two?", false},
		{"a user's secret under any name", "press-07", "user one", false},
		{"an unknown name", "9-9", "x", false},
		{"a device of another project", "2-2", "device two", false},
		{"a user who has other apps", "2", "user two", false},
		{"a bearer token as a password", "token", s.signer.sign(claims{Use: useBearer, Subject: "1-1", Expires: time.Now().Unix() + 100}), false},
	} {
		err := s.pull(t, repository, basic(c.username, c.password))
		if c.good && err != nil {
			t.Errorf("%s: pull = %v, want it to work", c.claim, err)
		}
		if !c.good && !refused(err) {
			t.Errorf("%s: pull = %v, want a refusal", c.claim, err)
		}
	}
	if err := s.pull(t, repository, authn.AuthConfig{}); !refused(err) {
		t.Errorf("without a login: pull = %v, want a refusal", err)
	}
}

func TestWhoMayPushWhat(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	user, password := s.PushLogin(1, 6)
	_, other := s.PushLogin(1, 8)
	for _, c := range []struct {
		claim      string
		repository string
		login      authn.AuthConfig
		good       bool
	}{
		{"the login for a push", repository, basic(user, password), true},
		{"the same again", repository, basic(user, password), true},
		{"a user's secret", repository, basic("1", "user one"), true},
		{"another architecture", "apps/prod_armv7_6_hello", basic(user, password), true},
		{"another app than the login is for", "apps/prod_amd64_7_hello", basic(user, password), false},
		{"a login for another app", repository, basic(user, other), false},
		{"an app of somebody else", repository, basic("2", "user two"), false},
		{"a device", repository, basic("1-1", "device one"), false},
		{"a device with its token", repository, basic(s.PullToken(1, "1-1"), "device one"), false},
		{"a name that is no app's", "apps/hello", basic("1", "user one"), false},
		{"a folder that is no app's", "prod_amd64_6_hello", basic("1", "user one"), false},
		{"a name below an app's", repository + "/x", basic("1", "user one"), false},
	} {
		err := s.push(t, c.repository, c.login)
		if c.good && err != nil {
			t.Errorf("%s: push = %v, want it to work", c.claim, err)
		}
		if !c.good && !refused(err) {
			t.Errorf("%s: push = %v, want a refusal", c.claim, err)
		}
	}
}

func TestARemovedDeviceIsOutAtOnce(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	if err := s.push(t, repository, basic("1", "user one")); err != nil {
		t.Fatal(err)
	}
	token := s.bearer(t, "1-1", "device one", "repository:"+repository+":pull")
	if got := s.get(t, "/v2/"+repository+"/manifests/1.0.0", token); got.StatusCode != http.StatusOK {
		t.Fatalf("with a token: %s, want 200", got.Status)
	}
	s.who.remove("1-1")
	if got := s.get(t, "/v2/"+repository+"/manifests/1.0.0", token); got.StatusCode != http.StatusUnauthorized {
		t.Errorf("after the device was removed: %s, want 401", got.Status)
	}
}

func TestATokenHoldsWhatWasAskedForOnly(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	if err := s.push(t, repository, basic("1", "user one")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ scope, path, claim string }{
		{"repository:" + repository + ":pull", "/v2/apps/prod_armv7_6_hello/tags/list", "another repository"},
		{"", "/v2/" + repository + "/tags/list", "no scope"},
		{"registry:catalog:*", "/v2/_catalog", "the catalogue"},
	} {
		token := s.bearer(t, "1", "user one", c.scope)
		if got := s.get(t, c.path, token); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: %s, want 401", c.claim, got.Status)
		}
		if got := s.get(t, "/v2/", token); got.StatusCode != http.StatusOK {
			t.Errorf("the base with any token: %s, want 200", got.Status)
		}
	}
	both := s.bearer(t, "1", "user one", "repository:"+repository+":pull repository:"+repository+":push,pull")
	if got := s.get(t, "/v2/"+repository+"/tags/list", both); got.StatusCode != http.StatusOK {
		t.Errorf("two scopes in one parameter: %s, want 200", got.Status)
	}
}

func TestTheChallengeNamesTheAddressThatWasUsed(t *testing.T) {
	s := start(t, t.TempDir(), func(c *Config) { c.PublicURL = "https://studio.example.test" })
	for _, c := range []struct {
		host, forwarded, want string
	}{
		{"127.0.0.1:8020", "", "http://127.0.0.1:8020/auth/token"},
		{"172.17.0.1:8020", "", "http://172.17.0.1:8020/auth/token"},
		{"studio.example.test", "", "https://studio.example.test/auth/token"},
		{"127.0.0.1:8020", "https", "https://127.0.0.1:8020/auth/token"},
	} {
		req := httptest.NewRequest("GET", "/v2/", nil)
		req.Host = c.host
		if c.forwarded != "" {
			req.Header.Set("X-Forwarded-Proto", c.forwarded)
		}
		rec := httptest.NewRecorder()
		s.ServeHTTP(rec, req)
		if got := rec.Header().Get("WWW-Authenticate"); rec.Code != 401 || !strings.Contains(got, `realm="`+c.want+`"`) {
			t.Errorf("%s: %d, challenge %q, want realm %s", c.host, rec.Code, got, c.want)
		}
	}
}

func TestTheOAuthFormOfALoginWorks(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	form := url.Values{"grant_type": {"password"}, "service": {service}, "username": {"1-1"}, "password": {"device one"}, "scope": {"repository:" + repository + ":pull"}}
	resp, err := http.PostForm("http://"+s.host+PathToken, form)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got tokenAnswer
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.AccessToken == "" || got.Token != got.AccessToken {
		t.Errorf("POST = %s %v %+v, want a token", resp.Status, err, got)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("Cache-Control = %q, want no-store", resp.Header.Get("Cache-Control"))
	}
}

func TestTokensAndImagesSurviveARestart(t *testing.T) {
	folder := t.TempDir()
	first := start(t, folder, nil)
	if err := first.push(t, repository, basic("1", "user one")); err != nil {
		t.Fatal(err)
	}
	token := first.bearer(t, "1-1", "device one", "repository:"+repository+":pull")
	second := start(t, folder, nil)
	if got := second.get(t, "/v2/"+repository+"/manifests/1.0.0", token); got.StatusCode != http.StatusOK {
		t.Errorf("after a restart: %s, want 200", got.Status)
	}
}

func TestTheKeyIsPrivateAndADamagedOneIsNamed(t *testing.T) {
	folder := t.TempDir()
	start(t, folder, nil)
	path := filepath.Join(folder, "token.key")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("key: %v %v, want mode 0600", info, err)
	}
	if err := os.WriteFile(path, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = New(Config{Folder: folder, Principals: someone(), Log: zerolog.Nop()})
	if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("New with a damaged key = %v, want the file's name and the way out", err)
	}
}

func TestAForgedTokenIsNothing(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	good := s.signer.sign(claims{Use: useBearer, Subject: "1-1", Expires: time.Now().Unix() + 100})
	text, mac, _ := strings.Cut(good, ".")
	for _, token := range []string{
		"", ".", text, text + ".", "." + mac, text + "." + mac[1:], "A" + good, good + "A", strings.Repeat("a", 9<<10) + "." + mac,
		signer{make([]byte, keyBytes)}.sign(claims{Use: useBearer, Subject: "1-1", Expires: time.Now().Unix() + 100}),
		s.signer.sign(claims{Use: usePull, Subject: "1-1", Expires: time.Now().Unix() + 100}),
		s.signer.sign(claims{Use: useBearer, Subject: "1-1", Expires: time.Now().Unix()}),
	} {
		if got := s.get(t, "/v2/", token); got.StatusCode != http.StatusUnauthorized {
			t.Errorf("token %.40q: %s, want 401", token, got.Status)
		}
	}
	if got := s.get(t, "/v2/", good); got.StatusCode != http.StatusOK {
		t.Errorf("the good token: %s, want 200", got.Status)
	}
}

func FuzzTokens(f *testing.F) {
	s := signer{make([]byte, keyBytes)}
	good := s.sign(claims{Use: useBearer, Subject: "1-1", Expires: 100})
	f.Add(good)
	f.Add("a.b")
	f.Fuzz(func(t *testing.T, token string) {
		if c, ok := s.read(token, useBearer, time.Unix(50, 0)); ok && token != good {
			t.Errorf("read(%q) = %+v, want nothing but what was signed", token, c)
		}
	})
}

func TestNoNameLeavesTheFolder(t *testing.T) {
	folder := t.TempDir()
	s := start(t, folder, nil)
	token := s.bearer(t, "1", "user one", "repository:"+repository+":pull,push")
	for _, path := range []string{
		"/v2/../../token.key", "/v2/%2e%2e/%2e%2e/token.key", "/v2/apps/../../../token.key/manifests/1", "/v2/" + repository + "/manifests/..%2f..%2ftoken.key",
		"/v2/" + repository + "/blobs/uploads/..%2f..", "/v2/..%2f" + repository + "/tags/list",
	} {
		got := s.get(t, path, token)
		if got.StatusCode < 300 {
			t.Errorf("GET %s = %s, want a refusal", path, got.Status)
		}
	}
	files := maps.Collect(func(yield func(string, bool) bool) {
		entries, _ := os.ReadDir(folder)
		for _, e := range entries {
			if !yield(e.Name(), true) {
				return
			}
		}
	})
	if len(files) != 2 || !files["token.key"] || !files["images"] {
		t.Errorf("the folder holds %v, want the key and the images only", files)
	}
}

func TestAnUploadLeavesRoomOnTheDisk(t *testing.T) {
	s := start(t, t.TempDir(), func(c *Config) { c.MinFree = 1 << 62 })
	err := s.push(t, repository, basic("1", "user one"))
	var e *transport.Error
	if !errors.As(err, &e) || e.StatusCode != http.StatusInsufficientStorage || !strings.Contains(err.Error(), "nearly full") {
		t.Errorf("push to a full disk = %v, want 507 and why", err)
	}
}

func TestAnUploadThatStandsStillEnds(t *testing.T) {
	s := start(t, t.TempDir(), func(c *Config) { c.Idle = 100 * time.Millisecond })
	token := s.bearer(t, "1", "user one", "repository:"+repository+":pull,push")
	begin, err := http.NewRequest("POST", "http://"+s.host+"/v2/"+repository+"/blobs/uploads/", nil)
	if err != nil {
		t.Fatal(err)
	}
	begin.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(begin)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	where := resp.Header.Get("Location")
	if resp.StatusCode != http.StatusAccepted || !strings.HasPrefix(where, "/v2/") {
		t.Fatalf("POST = %s, Location %q, want 202 and a path", resp.Status, where)
	}
	conn, err := net.Dial("tcp", s.host)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, "PATCH "+where+" HTTP/1.1\r\nHost: "+s.host+"\r\nAuthorization: Bearer "+token+"\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000\r\n\r\nhello"); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		t.Fatalf("the connection is still open; so far %q", answer)
	}
}

func TestALongDownloadThatMovesIsNotCut(t *testing.T) {
	s := start(t, t.TempDir(), func(c *Config) { c.Idle = 300 * time.Millisecond })
	img := image(t, 24<<20)
	if err := remote.Write(s.ref(t, repository), img, remote.WithAuth(authn.FromConfig(basic("1", "user one"))), remote.WithTransport(transportOf(t))); err != nil {
		t.Fatal(err)
	}
	layers, _ := img.Layers()
	digest, _ := layers[0].Digest()
	token := s.bearer(t, "1", "user one", "repository:"+repository+":pull")
	req, _ := http.NewRequest("GET", "http://"+s.host+"/v2/"+repository+"/blobs/"+digest.String(), nil)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	// Slower than Idle on the whole, faster in each part.
	total, buf, begun := 0, make([]byte, 2<<20), time.Now()
	tick := time.NewTicker(60 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := io.ReadFull(resp.Body, buf)
		total += n
		if err != nil {
			break
		}
		<-tick.C
	}
	if total != 24<<20 || time.Since(begun) < 2*300*time.Millisecond {
		t.Errorf("%d bytes in %v, want %d in more than twice the idle time", total, time.Since(begun), 24<<20)
	}
}

func TestUnfinishedUploadsAreRemovedFinishedOnesStay(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	if err := s.push(t, repository, basic("1", "user one")); err != nil {
		t.Fatal(err)
	}
	token := s.bearer(t, "1", "user one", "repository:"+repository+":pull,push")
	req, _ := http.NewRequest("POST", "http://"+s.host+"/v2/"+repository+"/blobs/uploads/", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if n := s.purge(t.Context(), time.Now().Add(-time.Hour)); n != 0 {
		t.Errorf("%d young uploads removed, want 0", n)
	}
	if n := s.purge(t.Context(), time.Now().Add(time.Minute)); n != 1 {
		t.Errorf("%d old uploads removed, want 1", n)
	}
	if err := s.pull(t, repository, basic("1-1", "device one")); err != nil {
		t.Errorf("pull afterwards: %v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	s := start(t, t.TempDir(), nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want context.Canceled", err)
	}
}

func TestNoSecretIsLogged(t *testing.T) {
	var log bytes.Buffer
	s := start(t, t.TempDir(), func(c *Config) { c.Log = zerolog.New(zerolog.SyncWriter(&log)) })
	_ = s.push(t, repository, basic("1", "user one"))
	_ = s.pull(t, repository, basic("1-1", "device one"))
	_ = s.pull(t, repository, basic("1-1", "device wrong"))
	_ = s.pull(t, repository, basic("secret as name", "x"))
	for _, secret := range []string{"user one", "device one", "device wrong", "secret as name", "eyJ", "Bearer"} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("the log holds %q:\n%s", secret, log.String())
		}
	}
	if !strings.Contains(log.String(), "registry login refused") {
		t.Errorf("the refused login is not in the log:\n%s", log.String())
	}
}

// bearer logs in at the token end point.
func (s *site) bearer(t *testing.T, username, password, scope string) string {
	t.Helper()
	req, _ := http.NewRequest("GET", "http://"+s.host+PathToken+"?service="+service+"&scope="+url.QueryEscape(scope), nil)
	req.SetBasicAuth(username, password)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var got tokenAnswer
	if err := json.NewDecoder(resp.Body).Decode(&got); err != nil || got.Token == "" {
		t.Fatalf("token: %s %v", resp.Status, err)
	}
	return got.Token
}

func (s *site) get(t *testing.T, path, token string) *http.Response {
	t.Helper()
	req, err := http.NewRequest("GET", "http://"+s.host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp
}
