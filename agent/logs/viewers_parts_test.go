//go:build linux

package logs

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
)

// listened tells whether the router told that somebody listens to web.
func listened(l *Logs) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.topics[web]
	return t != nil && t.known && len(t.listeners) > 0
}

func TestViewersOfEveryKindAreNoticedByTheRoutersThatThereAre(t *testing.T) {
	routers := map[string]func(t *testing.T) (url string){
		"studio": func(t *testing.T) string {
			url, _ := testenv.Router(t, map[string]string{"system": "secret", "7-42/sn-1": "secret"})
			return url
		},
		"Crossbar.io": func(t *testing.T) string {
			return testenv.Crossbar(t, map[string]testenv.Login{
				"system": {Secret: "secret", Role: protocol.RoleSystem}, "7-42": {Secret: "secret", Role: protocol.RoleDevice},
			}).URL
		},
	}
	for name, start := range routers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, e := start(t), newFakeEngine("c1")
			viewers := join(t, url, "system", nil, nil)
			early := &viewer{} // which comes before the device
			leave := viewers.DeclareTopic(protocol.LogTopicPrefix, "prefix", early.event)
			var l *Logs
			join(t, url, "7-42", func(s *messenger.Session) {
				l = running(t, e, nil, func(c *Config) { c.Session = s })
				s.DeclareTopic(protocol.SubscriptionOnCreate, "", func(_ context.Context, e messenger.Event) { l.Created(e.Args) })
				s.DeclareTopic(protocol.SubscriptionOnDelete, "", func(_ context.Context, e messenger.Event) { l.Deleted(e.Args) })
			}, func(ctx context.Context, _ *messenger.Link) error { l.Online(ctx); return nil })
			l.Attach(web, "c1")
			seen := func(v *viewer, line string) {
				t.Helper()
				testenv.WaitFor(t, "the device hears that somebody listens", func() bool { return listened(l) })
				e.print("c1", line)
				v.waitFor(t, "the viewer gets "+line, func(lines []string) bool { return slices.Contains(lines, line) })
			}
			unseen := func() {
				t.Helper()
				testenv.WaitFor(t, "the device hears that nobody listens", func() bool { return !listened(l) })
			}
			seen(early, "for who was there before")
			leave()
			unseen()
			for i, kind := range []struct{ uri, match string }{
				{webTopic, ""}, {"reswarm.logs.sn-1.", "prefix"}, {"reswarm.logs.", "prefix"}, {"reswarm.logs..prod_6_web", "wildcard"}, {"reswarm.logs..", "wildcard"},
			} {
				v := &viewer{}
				leave := viewers.DeclareTopic(kind.uri, kind.match, v.event)
				seen(v, fmt.Sprint("for kind ", i))
				leave()
				unseen()
			}
		})
	}
}
