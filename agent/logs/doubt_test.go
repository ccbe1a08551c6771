package logs

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/messenger"
	"reagent/protocol"
)

var denied = &messenger.CallError{URI: "wamp.error.not_authorized"}

// silent are routers that do not tell who listens.
var silent = map[string]func(*fakeSession){
	"no questions":           func(s *fakeSession) { s.callErr = denied },
	"no events":              func(s *fakeSession) { s.noMeta = denied },
	"neither":                func(s *fakeSession) { s.callErr, s.noMeta = denied, denied },
	"no such procedure":      func(s *fakeSession) { s.callErr = &messenger.CallError{URI: protocol.ErrorNoSuchProcedure} },
	"no answer to questions": func(s *fakeSession) { s.callErr = errors.New("timeout") },
}

func TestRoutersThatDoNotTellWhoListensGetALittleOfEverything(t *testing.T) {
	for name, makeSilent := range silent {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, s := newFakeEngine("c1", "c2"), &fakeSession{}
				makeSilent(s)
				var said bytes.Buffer
				l := running(t, e, s, func(c *Config) { c.Log = zerolog.New(&said).Level(zerolog.WarnLevel) })
				e.print("c1", "before the agent")
				time.Sleep(time.Second)
				l.Attach(web, "c1")
				l.Online(t.Context())
				synctest.Wait()
				e.print("c1", "hello", "world")
				synctest.Wait()
				l.Record(web, []byte(`{"status":"Pulling"}`))
				time.Sleep(5 * time.Second)
				expect(t, "events", s.texts(web), []string{"hello\nworld\n" + `{"status":"Pulling"}`})

				// A new app, and a connection that was lost.
				l.ClearHistory("prod_8_new")
				l.Agent("prod_8_new", "Starting new...")
				time.Sleep(5 * time.Second)
				e.print("c2", "first words")
				l.Attach("prod_8_new", "c2")
				synctest.Wait()
				e.print("c2", "and more")
				time.Sleep(5 * time.Second)
				expect(t, "events of the new one", s.texts("prod_8_new"), []string{">Starting new...", "first words\nand more"})
				l.Record("prod_7_other", []byte(`{"status":"Pulling"}`))
				time.Sleep(5 * time.Second)
				expect(t, "events of the other", s.texts("prod_7_other"), []string{`{"status":"Pulling"}`})
				s.set(func(s *fakeSession) { s.err = messenger.ErrOffline })
				e.print("c1", "unheard")
				time.Sleep(5 * time.Second)
				s.set(func(s *fakeSession) { s.err = nil })
				l.Online(t.Context())
				time.Sleep(5 * time.Second)
				expect(t, "events after a cut", s.texts(web)[1:], []string{"unheard"})
				if name != "no answer to questions" {
					if n := strings.Count(said.String(), "published unasked"); n != 1 || strings.Count(said.String(), "\n") != 1 {
						t.Errorf("said %d times:\n%s\nwant once, and nothing else", n, said.String())
					}
				}
			})
		})
	}
}

func TestWhatIsPublishedUnaskedIsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const apps = 10
		var names []string
		for i := range apps {
			names = append(names, fmt.Sprintf("prod_%d_x", i))
		}
		e, s := newFakeEngine(names...), &fakeSession{callErr: denied}
		l := running(t, e, s)
		for _, name := range names {
			l.Attach(name, name)
		}
		l.Online(t.Context())
		synctest.Wait()
		sent := func(name string) (bytes int) {
			for _, text := range s.texts(name) {
				bytes += len(text) + doubtEvent
			}
			return bytes
		}
		line := strings.Repeat("x", 99)
		e.print(names[0], slicesOf(line, 3000)...)
		time.Sleep(2 * time.Second)
		if n := sent(names[0]); n < doubtAppMost*9/10 || n > doubtAppMost*11/10 {
			t.Errorf("the last words of one app: %d bytes, want about %d", n, doubtAppMost)
		}
		if got := s.texts(names[0]); !strings.HasSuffix(got[len(got)-1], "log line(s) dropped (rate limit)") {
			t.Errorf("it ends in %.80q, want how much was dropped", got[len(got)-1])
		}
		time.Sleep(10 * time.Minute)
		e.print(names[0], "much later")
		time.Sleep(2 * time.Second)
		if got := s.texts(names[0]); got[len(got)-1] != "much later" {
			t.Errorf("a line much later: %.80q", got[len(got)-1])
		}

		begun := time.Now()
		for range 60 {
			for _, name := range names {
				e.print(name, slicesOf(line, 30)...)
			}
			time.Sleep(time.Second)
		}
		all := 0
		for _, name := range names {
			all += sent(name)
		}
		most := int(doubtAllMost + doubtAll*time.Since(begun).Seconds())
		if all -= sent(names[0]); all > most || all < most/2 {
			t.Errorf("%d chatty apps sent %d bytes in a minute, want at most %d, and not much less", apps, all, most)
		}

		// Who says that he listens gets all of it.
		synctest.Wait() // the last window is closed
		l.Created(created(9, protocol.LogTopic("sn-1", names[0]), "exact"))
		before := sent(names[0])
		e.print(names[0], slicesOf(line, 2000)...)
		time.Sleep(time.Second)
		if n := sent(names[0]) - before; n < 200_000 {
			t.Errorf("a listener gets %d bytes, want 200 kB", n)
		}
	})
}

func TestRouterThatRefusesIsAskedAgainButSeldom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, s := newFakeEngine("c1"), &fakeSession{callErr: denied}
		l := running(t, e, s)
		l.Attach(web, "c1")
		l.Online(t.Context())
		time.Sleep(time.Hour)
		if n := s.questions(); n < 5 || n > 14 {
			t.Errorf("%d questions in an hour, want a few", n)
		}
		s.set(func(s *fakeSession) { s.callErr = nil })
		time.Sleep(10 * time.Minute)
		e.print("c1", "nobody listens, and that is known now")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{})
	})
}

func TestListenersWhoLeaveUntoldAreMissedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{noMeta: denied, listeners: map[string]any{webTopic: []any{uint64(5)}}}
		l := running(t, e, s)
		l.Attach(web, "c1")
		l.Online(t.Context())
		time.Sleep(time.Second)
		sent := func() (bytes int) {
			before := len(strings.Join(s.texts(web), ""))
			e.print("c1", slicesOf(strings.Repeat("x", 99), 2000)...)
			time.Sleep(2 * time.Second)
			return len(strings.Join(s.texts(web), "")) - before
		}
		if n := sent(); n < 150_000 {
			t.Errorf("a listener whom the router names gets %d bytes, want all", n)
		}
		s.set(func(s *fakeSession) { s.listeners = nil })
		time.Sleep(time.Minute)
		if n := sent(); n > doubtAppMost*11/10 || n < doubtAppMost/2 {
			t.Errorf("%d bytes were sent when nobody was known to listen, want a little", n)
		}
		s.set(func(s *fakeSession) { s.listeners = map[string]any{webTopic: []any{uint64(6)}} })
		time.Sleep(time.Minute)
		if n := sent(); n < 150_000 {
			t.Errorf("a new listener gets %d bytes, want all", n)
		}
		asked := s.questions()
		time.Sleep(time.Hour)
		if n := s.questions() - asked; n < 40 || n > 130 {
			t.Errorf("%d questions in an hour, want about one a minute", n)
		}
	})
}
