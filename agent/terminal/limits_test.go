package terminal

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

var (
	anna  = Caller{AuthID: "3", Role: protocol.RoleUser}
	bert  = Caller{AuthID: "4", Role: protocol.RoleUser}
	cloud = Caller{AuthID: "system", Role: protocol.RoleSystem}
)

// open opens one and waits until everybody is at work.
func open(t *testing.T, m *Manager, by Caller, container string) protocol.TerminalSession {
	t.Helper()
	var names protocol.TerminalSession
	var err error
	if container == "" {
		names, err = m.Device(t.Context(), by)
	} else {
		names, err = m.Container(t.Context(), by, container)
	}
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	synctest.Wait()
	return names
}

func typed(by, text string) messenger.Event {
	return messenger.Event{PublisherAuthID: by, Args: []any{text}}
}

// sessions is how many there are.
func (m *Manager) count() int { m.mu.Lock(); defer m.mu.Unlock(); return len(m.sessions) }

func TestSessionsThatNobodyUsesEnd(t *testing.T) {
	for name, c := range map[string]struct {
		container string
		prepare   func(*fakeLink)
		meanwhile func(m *Manager, l *fakeLink, names protocol.TerminalSession) // every minute
		lives     time.Duration                                                 // so long at least …
		ends      time.Duration                                                 // … and at most; 0 = it lives
		why       string
	}{
		"asked for and not started": {
			container: "prod_6_web", lives: 2*time.Minute - time.Second, ends: 2*time.Minute + 5*time.Second, why: "it was never started",
		},
		"started, and typed to": {
			container: "prod_6_web",
			meanwhile: func(m *Manager, l *fakeLink, names protocol.TerminalSession) {
				_ = m.Start(context.Background(), anna, names.SessionID)
				l.keys(names, typed("3", "x"))
			},
			lives: 5 * time.Hour,
		},
		"idle": {lives: 2*time.Hour - time.Second, ends: 2*time.Hour + time.Minute, why: "it was idle"},
		"nobody subscribes": {
			prepare: func(l *fakeLink) { l.watchers = nil },
			lives:   10 * time.Minute, ends: 11 * time.Minute, why: "nobody watches it",
		},
		"nobody subscribes, in another form": {
			prepare: func(l *fakeLink) { l.watchers = []any{} },
			lives:   10 * time.Minute, ends: 11 * time.Minute, why: "nobody watches it",
		},
		"watched by one, told as a bare number": {
			prepare: func(l *fakeLink) { l.watchers = uint64(7) },
			lives:   2*time.Hour - time.Second, ends: 2*time.Hour + time.Minute, why: "it was idle",
		},
		"nobody subscribes now and then": {
			meanwhile: func(_ *Manager, l *fakeLink, _ protocol.TerminalSession) {
				l.set(func(l *fakeLink) {
					if l.watchers = nil; l.asked%18 > 15 { // of ten minutes, the last one
						l.watchers = []any{uint64(5)}
					}
				})
			},
			lives: 2*time.Hour - time.Second, ends: 2*time.Hour + time.Minute, why: "it was idle",
		},
		"the router does not tell": {
			prepare: func(l *fakeLink) {
				l.watchers, l.denied = nil, &messenger.CallError{URI: protocol.ErrorNotAuthorized}
			},
			lives: 2*time.Hour - time.Second, ends: 2*time.Hour + time.Minute, why: "it was idle",
		},
		"the router tells something odd": {
			prepare: func(l *fakeLink) { l.watchers = map[string]any{} },
			lives:   2*time.Hour - time.Second, ends: 2*time.Hour + time.Minute, why: "it was idle",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := make(chan Notice, 10)
				m, link, _, stop := fakes(t, func(cfg *Config, _ *fakeShells) { cfg.Notify = func(n Notice) { told <- n } })
				defer stop()
				synctest.Wait()
				if c.prepare != nil {
					c.prepare(link)
				}
				begun := time.Now()
				names := open(t, m, anna, c.container)
				for time.Since(begun) < max(c.lives, c.ends) {
					if c.meanwhile != nil {
						c.meanwhile(m, link, names)
					}
					<-time.After(min(time.Minute, max(c.lives, c.ends)-time.Since(begun)))
					synctest.Wait()
					if len(told) > 1 {
						break
					}
					if took := time.Since(begun); c.ends != 0 && took >= c.ends {
						t.Fatalf("it lives after %v", took)
					}
				}
				if c.ends == 0 {
					if len(told) != 1 {
						t.Fatal("it has ended")
					}
					return
				}
				<-time.After(time.Minute)
				synctest.Wait()
				if first := <-told; first.Ended || first.Session != names.SessionID || first.By != anna {
					t.Errorf("%+v, want a begin", first)
				}
				if end := <-told; !end.Ended || end.Why != c.why || end.Session != names.SessionID || end.Lasted < c.lives || end.Lasted > c.ends {
					t.Fatalf("%+v, want an end after %v to %v because %s", end, c.lives, c.ends, c.why)
				}
				if c.container == "" && !strings.HasSuffix(link.output(names), "[eof]") {
					t.Errorf("output %q, want an end", link.output(names))
				}
			})
		})
	}
}

func TestARightThatIsWithdrawnEndsTheSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answers := make(chan error, 10)
		told := make(chan Notice, 10)
		m, link, _, stop := fakes(t, func(c *Config, _ *fakeShells) {
			c.Allowed = func(_ context.Context, by Caller, device bool) (bool, error) {
				if by != anna || !device {
					t.Errorf("asked for %+v, device %v", by, device)
				}
				select {
				case err := <-answers:
					return false, err
				default:
					return true, nil
				}
			}
			c.Notify = func(n Notice) { told <- n }
		})
		defer stop()
		synctest.Wait()
		names := open(t, m, anna, "")
		<-time.After(time.Hour)
		for range 5 {
			answers <- errors.New("the studio does not answer")
		}
		<-time.After(time.Hour / 2)
		link.keys(names, typed("3", "still there"))
		synctest.Wait()
		if got := link.output(names); got != "still there" {
			t.Fatalf("output %q", got)
		}
		answers <- nil
		<-time.After(time.Minute)
		synctest.Wait()
		<-told
		if end := <-told; end.Why != "its owner may not have it any more" {
			t.Errorf("%+v", end)
		}
	})
}

func TestSessionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, _, stop := fakes(t, func(c *Config, _ *fakeShells) { c.MaxSessions, c.MaxPerOwner = 5, 3 })
		defer stop()
		synctest.Wait()
		open(t, m, anna, "")
		second := open(t, m, anna, "prod_6_web")
		open(t, m, anna, "prod_6_web")
		if _, err := m.Container(t.Context(), anna, "prod_7_web"); !errors.Is(err, errMany) {
			t.Errorf("a fourth of one owner: %v", err)
		}
		if _, err := m.Device(t.Context(), anna); err != nil {
			t.Errorf("the one that there is: %v", err)
		}
		open(t, m, bert, "")
		open(t, m, bert, "prod_6_web")
		if _, err := m.Device(t.Context(), cloud); !errors.Is(err, errMany) {
			t.Errorf("a sixth of the device: %v", err)
		}
		if err := m.Stop(anna, second.SessionID); err != nil {
			t.Error(err)
		}
		<-time.After(time.Second)
		open(t, m, anna, "prod_7_web")
	})
}

func TestNoSessionGivesWayBeforeItsEndWasTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, link, _, stop := fakes(t, func(c *Config, _ *fakeShells) { c.MaxSessions, c.MaxPerOwner = 2, 2 })
		defer stop()
		synctest.Wait()
		first := open(t, m, anna, "")
		link.set(func(l *fakeLink) { l.fails = errors.New("slow") })
		if err := m.Stop(anna, first.SessionID); err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * time.Second)
		open(t, m, bert, "")
		if _, err := m.Container(t.Context(), bert, "prod_6_web"); !errors.Is(err, errMany) {
			t.Errorf("a third: %v", err)
		}
		link.set(func(l *fakeLink) { l.fails = nil })
		<-time.After(10 * time.Second)
		if got := link.output(first); strings.Count(got, "[eof]") != 1 {
			t.Errorf("output %q, want its end", got)
		}
		never := open(t, m, bert, "prod_6_web")
		if err := m.Stop(bert, never.SessionID); err != nil {
			t.Fatal(err)
		}
		<-time.After(5 * time.Second)
		open(t, m, anna, "prod_6_web") // nobody waits for what was never started
	})
}

func TestAShellThatDoesNotStartTakesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		none := errors.New("no more terminals")
		m, _, shells, stop := fakes(t, func(_ *Config, f *fakeShells) { f.err = none })
		defer stop()
		synctest.Wait()
		for range 20 {
			if _, err := m.Container(t.Context(), anna, "x"); !errors.Is(err, none) {
				t.Fatalf("a shell that does not start: %v", err)
			}
		}
		shells.fail(nil)
		open(t, m, anna, "x")
	})
}

func TestTerminalsMayBeForbidden(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, _, _, stop := fakes(t, func(c *Config, _ *fakeShells) { c.DeviceShell = false })
		defer stop()
		synctest.Wait()
		_, err := m.Device(t.Context(), anna)
		var refused *protocol.Error
		if !errors.As(err, &refused) || refused.Code != protocol.CodeDisabled || !strings.Contains(refused.Text, "policy.terminals") {
			t.Errorf("%v, want a refusal that names the policy", err)
		}
		open(t, m, anna, "prod_6_web") // is not the device's
	})
}

func TestTheLimitsOfTheProduct(t *testing.T) {
	want := Limits{
		MaxSessions: 16, MaxPerOwner: 4, NotStarted: 2 * time.Minute, Look: 30 * time.Second, Unwatched: 10 * time.Minute, Idle: 2 * time.Hour,
		Farewell: 250 * time.Millisecond, Drain: 2 * time.Second, Linger: time.Minute, Young: 5 * time.Second, Retry: time.Second, CallLimit: 10 * time.Second,
	}
	if got := (Limits{}).withDefaults(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := (Limits{Idle: time.Second}).withDefaults().Idle; got != time.Second {
		t.Errorf("a limit that was given is %v", got)
	}
}
