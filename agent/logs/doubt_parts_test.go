//go:build linux

package logs

import (
	"context"
	"io"
	stdlog "log"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/router"
	"github.com/gammazero/nexus/v3/router/auth"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
)

// withholds is a router's rule that devices get nothing of the meta API.
type withholds struct{}

func (withholds) Authorize(who *wamp.Session, msg wamp.Message) (bool, error) {
	uri := ""
	switch m := msg.(type) {
	case *wamp.Call:
		uri = string(m.Procedure)
	case *wamp.Subscribe:
		uri = string(m.Topic)
	}
	return !strings.HasPrefix(uri, "wamp."), nil
}

func (withholds) AuthKey(string, string) ([]byte, error)   { return []byte("secret"), nil }
func (withholds) PasswordInfo(string) (string, int, int)   { return "", 0, 0 }
func (withholds) Provider() string                         { return "test" }
func (withholds) AuthRole(string) (role string, err error) { return "device", nil }

func TestRouterThatWithholdsTheMetaAPISilencesNoLog(t *testing.T) {
	r, err := router.NewRouter(&router.Config{RealmConfigs: []*router.RealmConfig{{
		URI: protocol.RealmDevices, Authorizer: withholds{}, RequireLocalAuthz: true,
		Authenticators: []auth.Authenticator{auth.NewCRAuthenticator(withholds{}, 10*time.Second)},
	}}}, stdlog.New(io.Discard, "", 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	url := "ws://" + testenv.Serve(t, nil, router.NewWebsocketServer(r)) + "/ws"

	v := &viewer{}
	join(t, url, "3", func(s *messenger.Session) { s.DeclareTopic(webTopic, "", v.event) }, nil)
	e := newFakeEngine("c1")
	l := (*Logs)(nil)
	up := make(chan struct{}, 1)
	device, err := messenger.New(messenger.Config{
		URL: url, Realm: protocol.RealmDevices, MinRetry: 10 * time.Millisecond,
		Identity: func() (string, string) { return "7-42", "secret" },
	})
	if err != nil {
		t.Fatal(err)
	}
	device.DeclareTopic(protocol.SubscriptionOnCreate, "", func(context.Context, messenger.Event) {})
	device.DeclareTopic(protocol.SubscriptionOnDelete, "", func(context.Context, messenger.Event) {})
	l = running(t, e, nil, func(c *Config) { c.Session = device })
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- device.Run(ctx, func(ctx context.Context, link *messenger.Link) error {
			_ = link.Apply(ctx) // which the router refuses
			l.Online(ctx)
			up <- struct{}{}
			return nil
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	select {
	case <-up:
	case <-time.After(20 * time.Second):
		t.Fatal("the device does not join")
	}
	l.Attach(web, "c1")
	e.print("c1", "nobody knows that you listen")
	v.waitFor(t, "the viewer gets the line", func(lines []string) bool { return slices.Contains(lines, "nobody knows that you listen") })
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.deaf || !l.topics[web].doubt {
		t.Errorf("deaf %v, in doubt %v; want that the router told neither who is there nor who comes", l.deaf, l.topics[web].doubt)
	}
}
