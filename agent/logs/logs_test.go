package logs

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reagent/container"
	"reagent/messenger"
	"reagent/protocol"
)

const (
	web      = "prod_6_web"
	webTopic = "reswarm.logs.sn-1.prod_6_web"
)

func TestAgentMessagesArePublishedWithoutListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSession{}
		l := running(t, newFakeEngine(), s)
		l.Online(t.Context())
		l.Clear(web)
		l.Agent(web, "Initialising download for the app: web...")
		synctest.Wait()
		expect(t, "events", s.texts(web), []string{">LOGGER_CLEAR", ">Initialising download for the app: web..."})
		if p := s.published[1].args; len(p) != 1 || fmt.Sprint(p[0]) != "map[chunk:Initialising download for the app: web... type:build]" {
			t.Errorf("args = %v, want one {type: build, chunk}", p)
		}
	})
}

func TestUploadsTellHowFarTheyCame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSession{}
		l := running(t, newFakeEngine(), s)
		l.Online(t.Context())
		l.Transfer("dev_6_web", "web.tgz", 100.0/3)
		synctest.Wait()
		if len(s.published) != 1 || len(s.published[0].args) != 1 || fmt.Sprint(s.published[0].args[0]) != "map[id:web.tgz progress:33.333% status:Transfer Progress:]" {
			t.Fatalf("published %+v, want the contract's progress", s.published)
		}
		if past, err := l.History(t.Context(), "dev_6_web"); err != nil || len(past) != 0 {
			t.Errorf("history %q (%v), want none of it", past, err)
		}
	})
}

func TestAgentSpeaksBeforeItIsKnownWhoListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSession{err: messenger.ErrOffline}
		l := running(t, newFakeEngine(), s)
		l.Agent(web, "nobody there")
		synctest.Wait()
		s.set(func(s *fakeSession) { s.err = nil })
		l.Agent(web, "Starting web...")
		l.Record(web, []byte("{}"))
		time.Sleep(time.Minute)
		expect(t, "events", s.texts(web), []string{">Starting web..."})
		if n := s.questions(); n != 0 {
			t.Errorf("%d questions before Online, want none", n)
		}
	})
}

func TestNothingIsPublishedWhileNobodyListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, s := newFakeEngine("c1"), &fakeSession{}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		e.print("c1", "hello")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{})

		l.Created(created(9, webTopic, "exact"))
		synctest.Wait()
		e.print("c1", "from now on")
		time.Sleep(time.Second)
		expect(t, "events after somebody came", s.texts(web), []string{"from now on"})

		l.Deleted(deleted(9))
		synctest.Wait()
		e.print("c1", "alone again")
		time.Sleep(time.Second)
		expect(t, "events after it left", s.texts(web), []string{"from now on"})
		expect(t, "history", history(t, l), []string{"hello", "from now on", "alone again"})
		if n := e.followers(); n != 1 {
			t.Errorf("%d follow the container, want 1 at all times", n)
		}
	})
}

func TestAllKindsOfSubscriptionCount(t *testing.T) {
	for name, c := range map[string]struct{ uri, match string }{
		"exact":    {webTopic, "exact"},
		"unnamed":  {webTopic, ""},
		"bridge":   {"reswarm.logs.", "prefix"},
		"device":   {"reswarm.logs.sn-1.", "prefix"},
		"wildcard": {"reswarm.logs..prod_6_web", "wildcard"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, s := newFakeEngine("c1"), &fakeSession{}
				l := running(t, e, s)
				l.Online(t.Context())
				l.Attach(web, "c1")
				synctest.Wait()
				l.Created(created(1, "reswarm.logs.sn-2.prod_6_web", "exact")) // another device
				l.Created(created(2, c.uri, c.match))
				synctest.Wait()
				e.print("c1", "hello")
				time.Sleep(time.Second)
				expect(t, "events", s.texts(web), []string{"hello"})
			})
		})
	}
}

func TestOneListenerWhoLeavesSilencesNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: []any{uint64(5)}}} // a bridge that was there before
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		l.Created(created(6, webTopic, "exact"))
		l.Created(created(7, "reswarm.logs.", "prefix"))
		l.Deleted(deleted(6))
		l.Deleted(deleted(7))
		synctest.Wait()
		e.print("c1", "the bridge still listens")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"the bridge still listens"})
		l.Deleted(deleted(5))
		synctest.Wait()
		e.print("c1", "nobody does")
		time.Sleep(time.Second)
		expect(t, "events after the last listener left", s.texts(web), []string{"the bridge still listens"})
	})
}

func TestAnswersOfAnyShapeTellWhoListens(t *testing.T) {
	for name, c := range map[string]struct {
		answer any
		want   int
	}{
		"null": {nil, 0}, "empty": {[]any{}, 0}, "list": {[]any{uint64(1)}, 1}, "bare id": {int64(7), 1}, "float": {7.0, 1},
		"text": {"nobody", 0}, "lists of lists": {[]any{[]any{}, nil, "x", map[string]any{}}, 0}, "object": {map[string]any{"a": 1}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newFakeEngine("c1")
				s := &fakeSession{listeners: map[string]any{webTopic: c.answer}}
				l := running(t, e, s)
				l.Online(t.Context())
				l.Attach(web, "c1")
				synctest.Wait()
				e.print("c1", "hello")
				time.Sleep(time.Second)
				if n := len(s.texts(web)); n != c.want {
					t.Errorf("%d events, want %d", n, c.want)
				}
			})
		})
	}
}

func TestMetaEventsOfAnyShapeAreHarmless(t *testing.T) {
	l := idle(t)
	l.Online(t.Context())
	l.Agent(web, "x")
	for _, args := range [][]any{
		nil, {}, {1}, {1, nil}, {nil, "x"}, {1, []any{}}, {1, map[string]any{}}, {1, map[string]any{"id": -1, "uri": webTopic}},
		{1, map[string]any{"id": 1, "uri": 5}}, {1, map[string]any{"id": 1, "uri": webTopic, "match": 9}}, {1, 1e300}, {map[string]any{}, map[any]any{1: 2}},
	} {
		l.Created(args)
		l.Deleted(args)
	}
}

func TestLinesAreSentTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: []any{uint64(5)}}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		begun := time.Now()
		e.print("c1", "one")
		time.Sleep(150 * time.Millisecond)
		e.print("c1", "", "two\rthree", "bad \xff\xfe bytes")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"one\n\ntwo\rthree\nbad \ufffd\ufffd bytes"})
		if wait := s.published[0].at.Sub(begun); wait != 200*time.Millisecond {
			t.Errorf("sent after %v, want 200ms", wait)
		}
	})
}

func TestFloodIsCutAndSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: []any{uint64(5)}}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		line := strings.Repeat("x", 99)
		for range 30 {
			e.print("c1", slicesOf(line, 100)...)
		}
		time.Sleep(time.Second)
		got := s.texts(web)
		if len(got) != 1 {
			t.Fatalf("%d events, want 1", len(got))
		}
		lines := strings.Split(got[0], "\n")
		const fit = 256 << 10 / 100
		if len(lines) != fit+1 || lines[fit] != fmt.Sprintf("… %d log line(s) dropped (rate limit)", 3000-fit) {
			t.Errorf("%d lines, the last %q; want %d and the number of those dropped", len(lines), lines[len(lines)-1], fit+1)
		}

		// The next window begins anew.
		e.print("c1", "calm")
		time.Sleep(time.Second)
		expect(t, "after it", s.texts(web)[1:], []string{"calm"})
	})
}

func TestLinesOfAnyLengthAndBytesPass(t *testing.T) {
	for name, line := range map[string]string{
		"characters":      strings.Repeat("é", 200<<10),
		"no characters":   strings.Repeat("\xff", 256<<10),
		"control":         strings.Repeat("\x1b", 300<<10),
		"as long as goes": strings.Repeat("x", 256<<10),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newFakeEngine("c1")
				s := &fakeSession{listeners: map[string]any{webTopic: []any{uint64(5)}}}
				l := running(t, e, s)
				l.Online(t.Context())
				l.Attach(web, "c1")
				synctest.Wait()
				before := strings.Repeat("b", 100)
				e.print("c1", before, line, "after")
				time.Sleep(time.Second)
				got := s.texts(web)
				if len(got) != 2 || got[0] != before {
					t.Fatalf("%d events, the first %.20q; want the long line in one of its own", len(got), got[0])
				}
				long, rest, _ := strings.Cut(got[1], "\n")
				var missing int
				at := strings.LastIndex(long, "…")
				if at >= 0 {
					if _, err := fmt.Sscanf(long[at:], "… %d byte(s) cut", &missing); err != nil {
						t.Errorf("the line ends in %q", long[at:])
					}
				} else {
					at = len(long)
				}
				if whole := strings.ToValidUTF8(line, "\ufffd"); !strings.HasPrefix(line, "\xff") && (at+missing != len(whole) || !strings.HasPrefix(whole, long[:at])) {
					t.Errorf("%d bytes came and %d are missing of %d", at, missing, len(whole))
				}
				if len(long) > 256<<10 || len(long) < 255<<10 || protocol.EncodedText(got[1]) > 2<<20 {
					t.Errorf("the line has %d bytes, the event %d on the wire", len(long), protocol.EncodedText(got[1]))
				}
				if rest != "… 1 log line(s) dropped (rate limit)" {
					t.Errorf("after it comes %q, want that there was no room left", rest)
				}
			})
		})
	}
}

func slicesOf(s string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = s
	}
	return out
}

func TestSlowConnectionHoldsNobodyUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: []any{uint64(5)}}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		s.set(func(s *fakeSession) { s.hold = make(chan struct{}) })
		begun := time.Now()
		for i := range 150 {
			l.Agent(web, fmt.Sprint("message ", i))
			l.Record(web, []byte(`{"status":"`+strings.Repeat("x", 200<<10)+`"}`))
		}
		if took := time.Since(begun); took != 0 {
			t.Errorf("callers waited %v for a connection that does not move", took)
		}
		l.mu.Lock()
		queued, text := len(l.topics[web].events), len(l.topics[web].window.text)
		for _, e := range l.topics[web].events {
			text += len(fmt.Sprint(e.args...))
		}
		l.mu.Unlock()
		if queued > maxEvents || text > maxQueued+512<<10 {
			t.Errorf("%d events and %d bytes pile up, want at most %d and %d", queued, text, maxEvents, maxQueued+512<<10)
		}
		s.set(func(s *fakeSession) { close(s.hold); s.hold = nil })
		synctest.Wait()
	})
}

func TestProgressRecordsAreSentUntouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, newFakeEngine(), s)
		l.Online(t.Context())
		l.Clear(web)
		l.Record(web, []byte(`{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"a"}`))
		l.Record(web, []byte(`{"status":"Pull complete","id":"a"}`))
		time.Sleep(time.Second)
		l.Record("prod_7_other", []byte(`{"status":"nobody sees that"}`))
		l.Agent(web, "Succesfully installed the app: web (Version: 1)")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{
			">LOGGER_CLEAR",
			`{"status":"Downloading","progressDetail":{"current":1,"total":2},"id":"a"}` + "\n" + `{"status":"Pull complete","id":"a"}`,
			">Succesfully installed the app: web (Version: 1)",
		})
		expect(t, "events of the other", s.texts("prod_7_other"), []string{})
	})
}

func TestWhatProgramsSayIsPlainTextAndKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, newFakeEngine(), s)
		l.Online(t.Context())
		l.Agent(web, "Starting web...")
		synctest.Wait()
		l.Output(web, " Container web-1  Creating")
		l.Agent(web, "Now running app web (1)")
		l.Output("prod_7_other", "nobody sees that")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{">Starting web...", " Container web-1  Creating", ">Now running app web (1)"})
		expect(t, "events of the other", s.texts("prod_7_other"), []string{})
		expect(t, "history", history(t, l), []string{"Starting web...", " Container web-1  Creating", "Now running app web (1)"})
	})
}

func TestLinesOfAProjectBeginAsComposeHasThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alpha, db := web+"_compose-alpha-1", web+"_compose-db-1"
		e := newFakeEngine(alpha, db)
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, container.ProjectLog(web+"_compose"))
		synctest.Wait()
		e.print(db, "ready", "")
		time.Sleep(time.Second)
		e.print(alpha, "a | b")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"db-1     | ready\ndb-1     | ", "alpha-1  | a | b"})
	})
}

func TestMessagesKeepTheirPlaceAmongLines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		e.print("c1", "bye")
		synctest.Wait()
		l.Agent(web, "Successfully stopped web")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"bye", ">Successfully stopped web"})
	})
}

func TestFirstLinesOfAStartedContainerAreSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.ClearHistory(web)
		l.Agent(web, "Starting web...")
		time.Sleep(time.Second)
		e.print("c1", "first line") // before anybody says that it runs
		time.Sleep(time.Second)
		l.Attach(web, "c1")
		l.Attach(web, "c1") // idempotent
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{">Starting web...", "first line"})
		if n := e.followers(); n != 1 {
			t.Errorf("%d follow, want 1", n)
		}
	})
}

func TestContainerThatRanBeforeTheAgentIsNotReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		e.print("c1", "old", "older")
		time.Sleep(time.Hour)
		l := running(t, e, s)
		l.Attach(web, "c1")
		l.Online(t.Context())
		synctest.Wait()
		e.print("c1", "new")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"new"})
	})
}

func TestEngineThatBreaksOffIsFollowedAgainWithoutLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		e.print("c1", "before")
		time.Sleep(time.Second)
		e.fail(container.ErrUnavailable)
		e.breakOff("c1")
		time.Sleep(20 * time.Second)
		e.startAgain("c1")
		e.print("c1", "meanwhile")
		e.fail(nil)
		time.Sleep(time.Minute)
		e.print("c1", "after")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"before", "meanwhile", "after"})
	})
}

func TestContainerThatWasStartedAgainIsFollowedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		e.print("c1", "first run")
		e.end("c1")
		time.Sleep(time.Minute)
		l.Agent(web, "Entered a crashloop (first attempt), retrying in 5s")
		e.startAgain("c1")
		e.print("c1", "second run")
		l.Attach(web, "c1")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"first run", ">Entered a crashloop (first attempt), retrying in 5s", "second run"})
	})
}

func TestLastLinesOfAStoppedContainerAreSentAndKept(t *testing.T) {
	for _, listened := range []bool{true, false} {
		t.Run(fmt.Sprintf("listened %v", listened), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e, s := newFakeEngine("c1"), &fakeSession{}
				if listened {
					s.listeners = map[string]any{webTopic: uint64(5)}
				}
				l := running(t, e, s)
				l.Online(t.Context())
				l.Attach(web, "c1")
				synctest.Wait()
				e.print("c1", "at work")
				time.Sleep(time.Second)
				l.Agent(web, "Received stop signal for web")
				l.Detach(web)
				time.Sleep(time.Second)
				e.print("c1", "shutting down")
				e.remove("c1")
				time.Sleep(time.Second)
				l.Agent(web, "Successfully stopped web")
				time.Sleep(time.Second)
				want := []string{"at work", ">Received stop signal for web", "shutting down", ">Successfully stopped web"}
				if !listened {
					want = []string{want[1], want[3]}
				}
				expect(t, "events", s.texts(web), want)
				got, err := l.History(t.Context(), web)
				if err != nil {
					t.Fatal(err)
				}
				expect(t, "history", got, []string{"at work", "Received stop signal for web", "shutting down", "Successfully stopped web"})
				if n := e.followers(); n != 0 {
					t.Errorf("%d follow a container that is gone", n)
				}
			})
		})
	}
}

func TestContainerThatDoesNotEndIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		l.Detach(web)
		time.Sleep(2 * time.Minute)
		if n := e.followers(); n != 0 {
			t.Errorf("%d follow a container that was given up, want none", n)
		}
		// The stop did not work: the app's worker takes the container back.
		e.print("c1", "unheard")
		l.Attach(web, "c1")
		time.Sleep(time.Second)
		l.Detach(web)
		l.Attach(web, "c1")
		time.Sleep(2 * time.Minute)
		e.print("c1", "still here")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"unheard", "still here"})
	})
}

func TestNewContainerTakesTheOldOnesPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1", "c2")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		l.Attach(web, "c2")
		synctest.Wait()
		e.print("c1", "last words")
		synctest.Wait()
		e.print("c2", "new version")
		time.Sleep(2 * time.Minute) // it does not end
		e.print("c1", "unheard")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"last words\nnew version"})
		if n := e.followers(); n != 1 {
			t.Errorf("%d follow, want 1", n)
		}
	})
}

func TestLinesOfALostConnectionAreSentAfterIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		e.print("c1", "one")
		time.Sleep(time.Second)
		s.set(func(s *fakeSession) { s.err = fmt.Errorf("publish: %w", messenger.ErrOffline) })
		e.print("c1", "two")
		time.Sleep(time.Second)
		l.Agent(web, "said to nobody")
		e.print("c1", "three")
		time.Sleep(time.Second)
		s.set(func(s *fakeSession) { s.err = nil })
		l.Online(t.Context())
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"one", "two\nthree"})
	})
}

func TestLongLossOfTheConnectionIsNotSentLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		e.print("c1", "one")
		s.set(func(s *fakeSession) { s.err = messenger.ErrOffline })
		time.Sleep(time.Hour)
		e.print("c1", "two")
		s.set(func(s *fakeSession) { s.err = nil })
		l.Online(t.Context())
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"two"})
	})
}

func TestListenerWhoCameMeanwhileGetsNoReplay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e, s := newFakeEngine("c1"), &fakeSession{}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		synctest.Wait()
		e.print("c1", "before")
		time.Sleep(time.Second)
		s.set(func(s *fakeSession) { s.listeners = map[string]any{webTopic: uint64(5)} })
		l.Online(t.Context())
		synctest.Wait()
		e.print("c1", "after")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"after"})
	})
}

func TestListenerWhoLeftDuringTheQuestionDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}, hold: make(chan struct{})}
		l := running(t, e, s)
		l.Attach(web, "c1")
		var asked sync.WaitGroup
		asked.Go(func() { l.Online(t.Context()) })
		synctest.Wait()
		l.Deleted(deleted(5))
		close(s.hold)
		asked.Wait()
		synctest.Wait()
		e.print("c1", "nobody is there")
		time.Sleep(time.Second)
		expect(t, "events for a subscription that has ended", s.texts(web), []string{})
	})
}

func TestRecordsWaitForTheAnswerWhoListens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}}
		l := running(t, newFakeEngine(), s)
		l.Online(t.Context())
		s.set(func(s *fakeSession) { s.hold = make(chan struct{}) })
		l.Record(web, []byte(`{"status":"Pulling"}`))
		time.Sleep(time.Second)
		s.set(func(s *fakeSession) { close(s.hold); s.hold = nil })
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{`{"status":"Pulling"}`})
	})
}

func TestQuestionThatFailedIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		s := &fakeSession{listeners: map[string]any{webTopic: uint64(5)}, callErr: errors.New("not now")}
		l := running(t, e, s)
		l.Online(t.Context())
		l.Attach(web, "c1")
		time.Sleep(time.Minute)
		if n := s.questions(); n < 3 || n > 12 {
			t.Errorf("%d questions in a minute, want a few, at growing pauses", n)
		}
		s.set(func(s *fakeSession) { s.callErr = nil })
		time.Sleep(time.Minute)
		n := s.questions()
		time.Sleep(time.Hour)
		if more := s.questions() - n; more != 0 {
			t.Errorf("%d questions after the answer, want none", more)
		}
		e.print("c1", "hello")
		time.Sleep(time.Second)
		expect(t, "events", s.texts(web), []string{"hello"})
	})
}

func TestAppsThatAreForgottenMakeRoom(t *testing.T) {
	l := idle(t)
	l.Attach(web, "c1")
	for i := range 3 * maxTopics {
		l.Agent(fmt.Sprintf("prod_%d_x", i), "hello")
	}
	if n := len(l.topics); n > maxTopics || l.topics[web] == nil {
		t.Errorf("%d apps are remembered (the attached one: %v), want at most %d", n, l.topics[web] != nil, maxTopics)
	}
}

func TestManyCallersAtOnce(t *testing.T) {
	e := newFakeEngine("c0", "c1", "c2", "c3")
	s := &fakeSession{listeners: map[string]any{}}
	l := running(t, e, s, func(c *Config) { c.FlushEvery = time.Millisecond })
	var all sync.WaitGroup
	for i := range 4 {
		cn, id := fmt.Sprintf("prod_%d_x", i), fmt.Sprint("c", i)
		for range 2 {
			all.Go(func() {
				for n := range uint64(200) {
					switch n % 8 {
					case 0:
						l.Attach(cn, id)
					case 1:
						e.print(id, "line")
					case 2:
						l.Created(created(n, "reswarm.logs.", "prefix"))
					case 3:
						l.Agent(cn, "message")
					case 4:
						l.History(t.Context(), cn)
					case 5:
						l.Deleted(deleted(n - 3))
					case 6:
						l.Detach(cn)
					case 7:
						l.Online(t.Context())
						l.ClearHistory(cn)
					}
				}
			})
		}
	}
	all.Wait()
}
