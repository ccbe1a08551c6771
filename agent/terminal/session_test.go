package terminal

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/messenger"
	"reagent/protocol"
)

func TestASessionIsItsOwnersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, link, shells, stop := fakes(t, nil)
		defer stop()
		synctest.Wait()
		names := open(t, m, anna, "prod_6_web")
		acting := Caller{AuthID: "system", Role: protocol.RoleSystem, Account: 3}
		for _, by := range []Caller{bert, cloud, {AuthID: "system", Role: protocol.RoleSystem, Account: 4}, {}} {
			if err := m.Start(t.Context(), by, names.SessionID); err != errNotYours {
				t.Errorf("start by %+v: %v", by, err)
			}
			if err := m.Stop(by, names.SessionID); err != errNotYours {
				t.Errorf("stop by %+v: %v", by, err)
			}
			if err := link.offers(names).Handle(t.Context(), by, []any{size(1, 1)}); err != errNotYours {
				t.Errorf("resize by %+v: %v", by, err)
			}
		}
		if len(shells.last().sizes) != 0 {
			t.Error("somebody else's size counts")
		}
		for _, e := range []struct{ by, role, text string }{
			{"4", "", "<somebody else>"}, {"7-42", "", "<another device>"}, {"system", "user", "<of that name>"},
			{"", "", "<undisclosed>"}, {"3", "", "<before the start>"}, {"", "", "<undisclosed, but not before>"},
			{"system", "", "<a bridge>"}, {"bridge", "system", "<another>"}, {"3", "user", "<anna>"}, {"", "system", "<nobody>"},
		} {
			link.keys(names, messenger.Event{PublisherAuthID: e.by, PublisherRole: e.role, Args: []any{e.text}})
			synctest.Wait()
		}
		if got := link.output(names); got != "" {
			t.Errorf("before the start: %q", got)
		}
		for _, by := range []Caller{acting, anna} { // twice
			if err := m.Start(t.Context(), by, names.SessionID); err != nil {
				t.Errorf("start by %+v: %v", by, err)
			}
		}
		synctest.Wait()
		if got, want := link.output(names), "<undisclosed><before the start><a bridge><another><anna>"; got != want {
			t.Errorf("output %q, want %q", got, want)
		}
		if err := link.offers(names).Handle(t.Context(), anna, []any{size(40.0, 120)}); err != nil || <-shells.last().sizes != [2]uint16{40, 120} {
			t.Errorf("resize: %v", err)
		}
		if err := m.Start(t.Context(), anna, "unknown"); err != errUnknown {
			t.Errorf("start of none: %v", err)
		}
		if err := m.Stop(anna, names.SessionID); err != nil {
			t.Errorf("stop: %v", err)
		}
		<-time.After(time.Second)
		synctest.Wait()
		if err := m.Stop(anna, names.SessionID); err != errUnknown {
			t.Errorf("stop after the end: %v", err)
		}
		if topics, procedures := link.left(); topics != 0 || procedures != 0 || m.count() != 0 {
			t.Errorf("%d topics, %d procedures, %d sessions are left", topics, procedures, m.count())
		}
	})
}

// The options of a publication are what keeps others from reading.
func TestOutputIsForItsOwnerAndTheSystem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, link, _, stop := fakes(t, nil)
		defer stop()
		synctest.Wait()
		for _, c := range []struct {
			by       Caller
			eligible []string
			bridge   string
		}{
			{anna, []string{"3", "system"}, "3"},
			{cloud, []string{"system"}, ""},
			{Caller{AuthID: "system", Role: "system", Account: 9}, []string{"9", "system"}, "9"},
		} {
			names := open(t, m, c.by, "")
			link.keys(names, typed("system", "x"))
			synctest.Wait()
			link.keys(names, messenger.Event{PublisherAuthID: "system", Args: []any{"y"}, Kwargs: map[string]any{"received": 0}})
			synctest.Wait()
			_ = m.Stop(c.by, names.SessionID)
			<-time.After(time.Second)
			n := 0
			for _, p := range link.events(names) {
				n++
				eligible, _ := p.options["eligible_authid"].([]any)
				if len(eligible) != len(c.eligible) || eligible[0] != c.eligible[0] || eligible[len(eligible)-1] != "system" {
					t.Errorf("%+v: for %v, want %v", c.by, eligible, c.eligible)
				}
				bridge, _ := p.kwargs[protocol.TerminalBridge].([]any)
				if (c.bridge == "") != (bridge == nil) || c.bridge != "" && (len(bridge) != 1 || bridge[0] != c.bridge) {
					t.Errorf("%+v: bridges are told %v, want %q", c.by, p.kwargs, c.bridge)
				}
				_, flowing := p.kwargs[protocol.TerminalOffset]
				if _, text := p.args[0].(string); !text || !flowing && p.options["acknowledge"] != true {
					t.Errorf("%+v: published %v with %v", c.by, p.args, p.options)
				}
			}
			if n < 3 {
				t.Errorf("%+v: %d events, want x, y and the end", c.by, n)
			}
		}
	})
}

func TestTheEndIsPublishedOnceAndLast(t *testing.T) {
	for name, end := range map[string]func(m *Manager, names protocol.TerminalSession, f *fakeShell){
		"the shell exits": func(_ *Manager, _ protocol.TerminalSession, f *fakeShell) { f.print.Write([]byte("bye")); f.exit() },
		"the terminal is closed": func(_ *Manager, _ protocol.TerminalSession, f *fakeShell) {
			f.print.Write([]byte("bye"))
			f.print.Close()
		},
		"stop": func(m *Manager, names protocol.TerminalSession, f *fakeShell) {
			f.print.Write([]byte("bye"))
			_ = m.Stop(anna, names.SessionID)
		},
		"stop of a shell that does not heed it": func(m *Manager, names protocol.TerminalSession, f *fakeShell) {
			f.deaf = true
			_ = m.Stop(anna, names.SessionID)
			_ = m.Stop(anna, names.SessionID)
			<-time.After(time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, container := range []string{"", "prod_6_web"} {
				synctest.Test(t, func(t *testing.T) {
					m, link, shells, stop := fakes(t, nil)
					defer stop()
					synctest.Wait()
					names := open(t, m, anna, container)
					_ = m.Start(t.Context(), anna, names.SessionID)
					end(m, names, shells.last())
					<-time.After(time.Minute)
					synctest.Wait()
					got := link.output(names)
					if strings.Count(got, "[eof]") != 1 || !strings.HasSuffix(got, "[eof]") || !shells.last().deaf && !strings.HasPrefix(got, "bye") {
						t.Errorf("%q: output %q, want what was printed and one end", container, got)
					}
					if m.count() != 0 {
						t.Error("the session is there")
					}
					if again, err := m.Device(t.Context(), anna); err != nil || again == names {
						t.Errorf("the next shell is %+v, %v", again, err)
					}
				})
			}
		})
	}
}

func TestTheEndWaitsForAConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, link, shells, stop := fakes(t, nil)
		defer stop()
		synctest.Wait()
		names := open(t, m, anna, "")
		link.set(func(l *fakeLink) { l.fails = messenger.ErrOffline })
		shells.last().print.Write([]byte("last words"))
		shells.last().exit()
		<-time.After(5 * time.Minute)
		link.set(func(l *fakeLink) { l.fails = nil })
		m.Online()
		synctest.Wait()
		if got := link.output(names); got != "last words[eof]" {
			t.Errorf("output %q", got)
		}
		// Not for ever.
		open(t, m, anna, "")
		link.set(func(l *fakeLink) { l.fails = messenger.ErrOffline })
		shells.last().exit()
		<-time.After(11 * time.Minute)
		synctest.Wait()
		if m.count() != 0 {
			t.Error("a session waits for ever")
		}
	})
}

func TestAClientThatWasAwayLearnsOfTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, link, shells, stop := fakes(t, nil)
		defer stop()
		synctest.Wait()
		flow := func(names protocol.TerminalSession, f protocol.TerminalFlow) bool {
			return link.keys(names, messenger.Event{PublisherAuthID: "3", Args: []any{""}, Kwargs: f.Kwargs()})
		}
		names := open(t, m, anna, "")
		flow(names, protocol.TerminalFlow{})
		shells.last().print.Write([]byte("0123456789"))
		shells.last().exit()
		<-time.After(50 * time.Second)
		if !flow(names, protocol.TerminalFlow{Received: 7, Resume: true}) {
			t.Fatal("nobody listens any more")
		}
		<-time.After(50 * time.Second)
		if got := link.output(names); got != "0123456789[eof]789[eof]" {
			t.Errorf("output %q", got)
		}
		events := link.events(names)
		last := events[len(events)-1]
		if last.kwargs[protocol.TerminalOffset] != uint64(10) {
			t.Errorf("the end stands at %v, want 10", last.kwargs)
		}
		<-time.After(20 * time.Second)
		synctest.Wait()
		if m.count() != 0 || flow(names, protocol.TerminalFlow{Received: 7, Resume: true}) {
			t.Error("it is waited for longer than a minute")
		}

		names = open(t, m, anna, "")
		flow(names, protocol.TerminalFlow{})
		shells.last().exit()
		synctest.Wait()
		flow(names, protocol.TerminalFlow{Release: true})
		synctest.Wait()
		if m.count() != 0 {
			t.Error("a client that went is waited for")
		}
	})
}

func TestAShellThatEndsAtOnceIsSeenByTheClientThatComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, link, shells, stop := fakes(t, nil)
		defer stop()
		synctest.Wait()
		names := open(t, m, anna, "")
		shells.last().print.Write([]byte("nobody may log in"))
		shells.last().exit()
		<-time.After(3 * time.Second) // and only now somebody subscribes
		if got := link.output(names); got != "nobody may log in[eof]" {
			t.Errorf("at first: %q", got)
		}
		link.keys(names, messenger.Event{PublisherAuthID: "3", Args: []any{""}, Kwargs: protocol.TerminalFlow{Resume: true}.Kwargs()})
		synctest.Wait()
		if got := link.output(names); got != "nobody may log in[eof]nobody may log in[eof]" {
			t.Errorf("for who came late: %q", got)
		}
		again := open(t, m, anna, "")
		shells.last().exit()
		<-time.After(5 * time.Second)
		synctest.Wait()
		if link.keys(again, typed("3", "x")) {
			t.Error("it is kept although nobody came")
		}
	})
}

func TestTheEndOfTheAgentWaitsForNoClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, link, shells, stop := fakes(t, nil)
		synctest.Wait()
		names := open(t, m, anna, "")
		link.keys(names, messenger.Event{PublisherAuthID: "3", Kwargs: protocol.TerminalFlow{}.Kwargs()})
		shells.last().print.Write([]byte("last words"))
		begun := time.Now()
		stop()
		if took := time.Since(begun); took > time.Second {
			t.Errorf("it takes %v", took)
		}
		if got := link.output(names); got != "last words[eof]" {
			t.Errorf("output %q", got)
		}
	})
}

func TestKeystrokesThatNobodyReadsAreBounded(t *testing.T) {
	in := newInput()
	piece := strings.Repeat("x", 1000)
	n := 0
	for in.add(piece) {
		n++
	}
	if got := n * 1000; got > mostTyped || got < mostTyped-1000 {
		t.Errorf("%d bytes are kept, want %d", got, mostTyped)
	}
	in.close()
	in.pass(nil) // and a shell that has ended gets nothing
}

func TestARefusedPublicationIsNotRepeatedForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, link, shells, stop := fakes(t, nil)
		defer stop()
		synctest.Wait()
		names := open(t, m, anna, "")
		link.set(func(l *fakeLink) { l.fails = &messenger.CallError{URI: protocol.ErrorNotAuthorized} })
		shells.last().print.Write([]byte("refused"))
		synctest.Wait()
		link.set(func(l *fakeLink) { l.fails = errors.New("the router does not answer") })
		shells.last().print.Write([]byte("repeated"))
		<-time.After(3 * time.Second)
		link.set(func(l *fakeLink) { l.fails = nil })
		<-time.After(3 * time.Second)
		if got := link.output(names); got != "repeated" {
			t.Errorf("output %q", got)
		}
	})
}

// Whatever is published on a write topic ends nothing.
func FuzzKeystrokes(f *testing.F) {
	f.Add("ls\n", "received", uint64(5), true)
	f.Add("\x00\xff\x04", "resume", uint64(1<<63), false)
	f.Add(strings.Repeat("x", 5000), "tail", uint64(0), true)
	f.Fuzz(func(t *testing.T, text, key string, n uint64, flag bool) {
		synctest.Test(t, func(t *testing.T) {
			m, link, _, stop := fakes(t, nil)
			defer stop()
			synctest.Wait()
			names := open(t, m, anna, "")
			for _, args := range [][]any{nil, {}, {nil}, {n}, {[]any{text}}, {map[string]any{text: n}}, {[]byte(text)}, {text}, {text, text}} {
				for _, kwargs := range []map[string]any{nil, {key: n}, {key: text}, {key: nil}, {"received": n, key: flag}, {"received": n, "resume": flag, "tail": n / 2}, {"received": text, "release": flag}} {
					link.keys(names, messenger.Event{PublisherAuthID: "3", Args: args, Kwargs: kwargs})
				}
			}
			synctest.Wait()
			link.keys(names, messenger.Event{PublisherAuthID: "3", Args: []any{"still there"}, Kwargs: protocol.TerminalFlow{Release: true}.Kwargs()})
			synctest.Wait()
			if got := link.output(names); !strings.HasSuffix(text, "\x04") && !strings.Contains(got, "still there") {
				t.Errorf("the session does not go on; %d bytes", len(got))
			}
		})
	})
}

// Whatever a size looks like, it is told or refused.
func FuzzResize(f *testing.F) {
	f.Add("x", 40.0, int64(-1))
	f.Add("height", 1e300, int64(1<<40))
	f.Fuzz(func(t *testing.T, key string, float float64, n int64) {
		shell := newFakeShell()
		defer shell.Close()
		shell.sizes = make(chan [2]uint16, 100)
		for _, container := range []string{"", "prod_6_web"} {
			s := &session{owner: "3", container: container, shell: shell}
			for _, args := range [][]any{nil, {}, {nil}, {key}, {[]any{}}, {size(float, n)}, {size(n, key)}, {map[string]any{key: n}}, {size(nil, []byte(key))}, {map[any]any{n: key}}} {
				_ = s.resize(t.Context(), anna, args)
			}
		}
		for len(shell.sizes) > 0 {
			if got := <-shell.sizes; got[0] == 0 || got[1] == 0 || got[0] > protocol.MaxTerminalSize || got[1] > protocol.MaxTerminalSize {
				t.Errorf("size %v", got)
			}
		}
	})
}

func TestTheSystemsOwnSessionIsNobodysOfThatName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, link, _, stop := fakes(t, nil)
		defer stop()
		synctest.Wait()
		names := open(t, m, cloud, "")
		for _, e := range []struct{ by, role, text string }{{"system", "user", "<a user>"}, {"system", "system", "<the system>"}} {
			link.keys(names, messenger.Event{PublisherAuthID: e.by, PublisherRole: e.role, Args: []any{e.text}})
			synctest.Wait()
		}
		if got := link.output(names); got != "<the system>" {
			t.Errorf("output %q", got)
		}
	})
}

// Whoever may read the log may not type into the sessions.
func TestTheLogHasNoSessionID(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		m, link, _, stop := fakes(t, func(c *Config, _ *fakeShells) { c.Log = zerolog.New(zerolog.SyncWriter(&log)) })
		var all []protocol.TerminalSession
		synctest.Wait()
		for _, container := range []string{"", "prod_6_web"} {
			names := open(t, m, anna, container)
			_ = m.Start(t.Context(), anna, names.SessionID)
			link.keys(names, typed("4", "x"))
			link.set(func(l *fakeLink) {
				l.fails = &messenger.CallError{URI: "x", Args: []any{"not on " + names.DataTopic}}
			})
			link.keys(names, typed("3", "x"))
			synctest.Wait()
			all = append(all, names)
		}
		stop()
		for _, names := range all {
			if id := names.SessionID; strings.Contains(log.String(), id) || strings.Count(log.String(), id[:8]) < 5 {
				t.Errorf("want %s of %s, and no more:\n%s", id[:8], id, &log)
			}
		}
	})
}
