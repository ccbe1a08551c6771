package messenger_test

import (
	"context"
	"io"
	stdlog "log"
	"testing"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/gammazero/nexus/v3/wamp/crsign"

	. "reagent/messenger"
)

// BenchmarkAnswer is a call of our procedure beside one of a bare client's, over
// the same router.
func BenchmarkAnswer(b *testing.B) {
	tr := startRouter(b, map[string]string{"41-7": "s"})
	cfg := tr.config("41-7", "s")
	cfg.URL = "ws://" + tr.serve(nil) + "/ws"
	s := Start(b, cfg, func(s *Session) { s.Declare("test.ours", nil, Echo) }, nil)
	s.Wait(Online)
	bare, err := client.ConnectNet(b.Context(), cfg.URL, client.Config{
		Realm: TestRealm, Logger: stdlog.New(io.Discard, "", 0), HelloDetails: wamp.Dict{"authid": "41-7"},
		AuthHandlers: map[string]client.AuthFunc{"wampcra": func(c *wamp.Challenge) (string, wamp.Dict) { return crsign.RespondChallenge("s", c, nil), nil }},
	})
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	if err := bare.Register("test.bare", func(_ context.Context, inv *wamp.Invocation) client.InvokeResult {
		return client.InvokeResult{Args: inv.Arguments}
	}, nil); err != nil {
		b.Fatal(err)
	}
	caller := tr.peer()
	for _, whose := range []string{"bare", "ours"} {
		b.Run(whose, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := call(b, caller, "test."+whose, 1); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
