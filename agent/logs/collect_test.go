package logs

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/persistence/journal"
	"reagent/protocol"
)

// A device keeps its log files over the lives of its agent.
type deviceLogs struct {
	t      *testing.T
	engine *fakeEngine
	dir    string
	size   int64        // of its log files; 0 = the journal's own
	wall   atomic.Int64 // what the time of day is off, in ns
	log    zerolog.Logger
}

func newDevice(t *testing.T, ids ...string) *deviceLogs {
	return &deviceLogs{t: t, engine: newFakeEngine(ids...), dir: t.TempDir()}
}

func (d *deviceLogs) now() time.Time { return time.Now().Add(time.Duration(d.wall.Load())).Round(0) }

// life runs an agent on the device while do does something. Without end it is
// killed: what it has not written is lost.
func (d *deviceLogs) life(end bool, do func(*Logs)) {
	d.t.Helper()
	j := journal.Open(journal.Config{Dir: d.dir, MaxBytes: d.size, Carry: Carry, Log: zerolog.Nop()})
	l := New(Config{Serial: "sn-1", Session: &fakeSession{}, Engine: d.engine, Journal: j, Log: d.log, Wall: d.now})
	ctx, cancel := context.WithCancel(d.t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	do(l)
	synctest.Wait()
	cancel()
	<-done
	if end {
		if err := j.Close(); err != nil {
			d.t.Fatal(err)
		}
	}
}

// print prints lines at the time of day, all at the same instant.
func (d *deviceLogs) print(id string, lines ...string) {
	d.engine.change(id, func(c *fakeContainer) {
		for _, line := range lines {
			mark, text := "", line
			if rest, is := strings.CutPrefix(line, "!"); is {
				mark, text = "!", rest
			}
			c.lines = append(c.lines, mark+stamp(d.now(), text))
		}
	})
}

// kept are the lines that the device has, by a follower from the oldest on.
func kept(t *testing.T, l *Logs) []string {
	t.Helper()
	got, _ := followed(t, l, protocol.FollowArgs{Oldest: true})
	for i, s := range got {
		if _, text, is := strings.Cut(s, " "); is && !strings.HasPrefix(s, "[") {
			got[i] = text
		}
	}
	return got
}

func TestRestartsNeitherLoseNorRepeatLines(t *testing.T) {
	for _, end := range []bool{true, false} {
		t.Run(fmt.Sprintf("in order %v", end), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDevice(t, "c1")
				var want []string
				print := func(lines ...string) {
					d.print("c1", lines...)
					for _, line := range lines {
						want = append(want, strings.TrimPrefix(line, "!"))
					}
				}
				for life := range 8 {
					d.life(end, func(l *Logs) {
						l.Attach(web, "c1")
						print(fmt.Sprint("a", life), fmt.Sprint("b", life)) // at one instant
						synctest.Wait()
						if life%2 == 0 {
							kept(t, l) // somebody has seen them
						}
						print(fmt.Sprint("!c", life), fmt.Sprint("d", life)) // at the same one
						if life%3 == 0 {
							time.Sleep(time.Duration(life) * time.Second)
						}
						print(fmt.Sprint("!e", life))
					})
					print(fmt.Sprint("alone ", life), fmt.Sprint("!alone ", life))
					if life%2 == 1 {
						time.Sleep(time.Minute)
					}
				}
				d.life(end, func(l *Logs) {
					l.Attach(web, "c1")
					expect(t, "lines", kept(t, l), want)
				})
			})
		})
	}
}

// A device that is given less room forgets lines which the engine still has.
func TestLinesThatWereForgottenAreNotTakenAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1")
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			d.print("c1", "a", "b", "!c", "d")
		})
		d.size = 1
		d.life(true, func(l *Logs) { l.Agent("prod_7_other", "said") })
		d.size = 0
		d.print("c1", "e")
		d.life(false, func(l *Logs) {
			l.Attach(web, "c1")
			expect(t, "lines", kept(t, l), []string{"e"})
		})
	})
}

func TestContainersOfOneAppHavePlacesOfTheirOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1", "c2")
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			d.print("c1", "old version")
		})
		d.print("c1", "its last words")
		d.life(true, func(l *Logs) {
			l.Drain(t.Context(), web, container.Container{ID: "c1"})
			d.engine.remove("c1")
			d.print("c2", "new version")
			l.Attach(web, "c2")
			expect(t, "lines", kept(t, l), []string{"old version", "its last words", "new version"})
		})
		d.life(true, func(l *Logs) {
			l.Attach(web, "c2")
			l.Drain(t.Context(), web, container.Container{ID: "c1"}) // gone already
			expect(t, "lines", kept(t, l), []string{"old version", "its last words", "new version"})
		})
	})
}

func TestLinesThatTheEngineDroppedAreAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1")
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			d.print("c1", "one", "two")
		})
		time.Sleep(time.Second)
		d.print("c1", "nobody ever reads this")
		time.Sleep(time.Second)
		d.print("c1", "three", "!four")
		d.engine.change("c1", func(c *fakeContainer) { c.lines = c.lines[3:] }) // rotated away
		want := []string{"one", "two", "[3-3 engine]", "three", "four"}
		for range 2 { // once is enough
			d.life(true, func(l *Logs) {
				l.Attach(web, "c1")
				expect(t, "lines", kept(t, l), want)
			})
		}
		// As long as the last line is there nothing can be missing.
		time.Sleep(time.Minute)
		d.print("c1", "five")
		d.engine.change("c1", func(c *fakeContainer) { c.lines = c.lines[1:] })
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			expect(t, "lines", kept(t, l), append(want, "five"))
		})
	})
}

// Engines do that where they rotate their files while somebody follows.
func TestRepetitionsOfTheEngineAreTakenOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1")
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			for i := range 5 {
				d.print("c1", fmt.Sprint("out ", i))
				time.Sleep(time.Millisecond)
				d.print("c1", fmt.Sprint("!err ", i))
				time.Sleep(time.Millisecond)
			}
			d.engine.change("c1", func(c *fakeContainer) { c.rewind = true })
			d.print("c1", "last")
			time.Sleep(time.Minute)
			got := kept(t, l)
			if len(got) != 11 || got[0] != "out 0" || got[10] != "last" {
				t.Errorf("got %q, want eleven lines, each once", got)
			}
		})
	})
}

func TestLinesThatTheEngineSkippedInAFloodAreFetched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1")
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			synctest.Wait()
			const batch = 100
			flood := func(batches int) {
				for range batches {
					d.print("c1", slicesOf(strings.Repeat("x", 10_000), batch)...)
					time.Sleep(100 * time.Millisecond)
				}
			}
			flood(12)
			time.Sleep(400 * time.Millisecond)
			d.engine.change("c1", func(c *fakeContainer) { // nobody hears of these
				for i := range 4 * batch {
					c.lines = append(c.lines, stamp(d.now().Add(time.Duration(i-4*batch)*time.Millisecond), "y"))
				}
				c.skip = 4 * batch
			})
			flood(1)
			want := 17 * batch
			time.Sleep(10 * time.Second)
			if got := int(l.topics[web].tape.next() - 1); got != want {
				t.Errorf("%d lines are kept, want %d", got, want)
			}
		})
	})
}

func TestSetClockNeitherSilencesNorRepeatsNorLoses(t *testing.T) {
	const century = 74 * 365 * 24 * time.Hour
	for name, offsets := range map[string][]time.Duration{
		"2100 at first":         {century, 0, 0},
		"1970 at first":         {-century / 2, 0, 0},
		"back and forth":        {0, century, 0, -century / 2, 0},
		"back a little":         {0, -3 * time.Second, -6 * time.Second},
		"back far":              {0, -time.Hour, 0, -2 * time.Hour, -2 * time.Hour},
		"a step within a while": {0, -100 * time.Millisecond, 0},
	} {
		for _, running := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/while it runs %v", name, running), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := newDevice(t, "c1")
					var want []string
					print := func(lines ...string) {
						d.print("c1", lines...)
						for _, line := range lines {
							want = append(want, strings.TrimPrefix(line, "!"))
						}
					}
					for i, offset := range offsets {
						if !running {
							d.wall.Store(int64(offset))
						}
						d.life(true, func(l *Logs) {
							l.Attach(web, "c1")
							synctest.Wait()
							print(fmt.Sprint("before ", i))
							synctest.Wait()
							time.Sleep(time.Millisecond)
							d.wall.Store(int64(offset))
							print(fmt.Sprint("a ", i), fmt.Sprint("!b ", i))
							time.Sleep(time.Minute)
							print(fmt.Sprint("c ", i))
							expect(t, fmt.Sprint("in life ", i), kept(t, l), slices.Clone(want))
						})
						print(fmt.Sprint("d ", i), fmt.Sprint("!e ", i))
					}
					d.life(true, func(l *Logs) {
						l.Attach(web, "c1")
						expect(t, "lines", kept(t, l), want)
					})
				})
			})
		}
	}
}

func TestAllContainersOfAProjectAreKeptEachLineOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const project = "prod_6_web_compose"
		d := newDevice(t, project+"-alpha-1", project+"-db-1")
		var seen []string
		follow := func(l *Logs) {
			synctest.Wait()
			records, _, err := call(t.Context(), l, protocol.FollowArgs{Oldest: true})
			if err != nil {
				t.Fatal(err)
			}
			seen = nil
			for _, r := range records {
				for _, n := range r.Lines {
					seen = append(seen, n.Service+": "+n.Text)
				}
			}
		}
		d.life(true, func(l *Logs) {
			l.Attach(web, container.ProjectLog(project))
			synctest.Wait()
			d.print(project+"-alpha-1", "one")
			synctest.Wait()
			d.print(project+"-db-1", "ready")
			synctest.Wait()
			expect(t, "history", history(t, l), []string{"alpha-1  | one", "db-1     | ready"})

			// One of them ends, and runs again, and has ended before anybody looks;
			// another one is new.
			d.engine.end(project + "-db-1")
			d.print(project+"-alpha-1", "two")
			time.Sleep(time.Minute)
			d.print(project+"-db-1", "ready again")
			d.engine.change(project+"-db-1", func(c *fakeContainer) { c.started = time.Now() })
			d.engine.mu.Lock()
			d.engine.containers[project+"-web-1"] = &fakeContainer{changed: make(chan struct{})}
			d.engine.mu.Unlock()
			d.print(project+"-web-1", "hello")
			l.Attach(web, container.ProjectLog(project))
			time.Sleep(time.Second)
			follow(l)
			want := []string{"alpha: one", "db: ready", "alpha: two", "db: ready again", "web: hello"}
			expect(t, "lines", sortedLast(seen), sortedLast(want))
		})
		d.engine.startAgain(project + "-db-1")
		d.print(project+"-db-1", "alone")
		d.life(true, func(l *Logs) {
			l.Attach(web, container.ProjectLog(project))
			follow(l)
			if len(seen) != 6 || seen[5] != "db: alone" {
				t.Errorf("after a restart of the agent: %q, want one more line", seen)
			}
			l.Detach(web)
			for id := range d.engine.containers {
				d.engine.end(id)
			}
			time.Sleep(time.Second)
			if n := l.following(); n != 0 {
				t.Errorf("%d apps are followed whose containers have ended", n)
			}
		})
	})
}

// sortedLast sorts the last two lines, which come at the same time.
func sortedLast(lines []string) []string {
	if n := len(lines); n > 2 {
		slices.Sort(lines[n-2:])
	}
	return lines
}

// An app that nobody looks at costs the disk nothing but the lazy writes of the
// journal: the engine has its lines.
func TestLinesThatNobodyFollowsAreNotWrittenOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newFakeEngine("c1")
		j := journal.Open(journal.Config{Dir: t.TempDir()})
		l := running(t, e, &fakeSession{}, func(c *Config) { c.Journal = j })
		l.Attach(web, "c1")
		for range 100 {
			e.print("c1", "tick")
			time.Sleep(time.Minute)
		}
		if s := j.Stats(); s.Pages != 0 {
			t.Errorf("%d pages were written for 100 lines, want none before the journal's time", s.Pages)
		}
		l.Agent(web, "said")
		synctest.Wait()
		if s := j.Stats(); s.Pages == 0 || s.Buffered != 0 {
			t.Errorf("%d pages were written, %d bytes wait; what the agent says is written at once", s.Pages, s.Buffered)
		}
	})
}

// Engines do that where another program rotates their files (copytruncate).
func TestFollowedLogThatFallsSilentIsReadOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1")
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			d.print("c1", "one")
			synctest.Wait()
			time.Sleep(time.Hour)
			idle := d.engine.questions()
			unheard := func(lines ...string) { // those who follow are not woken
				d.engine.mu.Lock()
				defer d.engine.mu.Unlock()
				c := d.engine.containers["c1"]
				for _, line := range lines {
					c.lines = append(c.lines, stamp(d.now(), line))
				}
			}
			unheard("two", "three")
			time.Sleep(15 * time.Minute)
			expect(t, "lines", kept(t, l), []string{"one", "two", "three"})
			unheard("four")
			time.Sleep(15 * time.Minute)
			expect(t, "lines", kept(t, l), []string{"one", "two", "three", "four"})
			if idle > 2+24 {
				t.Errorf("%d requests for a log that is silent for an hour, want two to follow it and one each few minutes", idle)
			}
			for range 600 { // while lines come there is nothing to ask for
				time.Sleep(time.Second)
				d.print("c1", "tick")
			}
			asked := d.engine.questions()
			for range 3600 {
				time.Sleep(time.Second)
				d.print("c1", "tick")
			}
			if got := d.engine.questions(); got != asked {
				t.Errorf("%d requests for a log that shows a line each second, want none", got-asked)
			}
		})
	})
}

// What the clock did while nobody looked is seen in the log alone.
func TestClockSetBackUnseenLosesNothing(t *testing.T) {
	for _, killed := range []bool{false, true} {
		t.Run(fmt.Sprintf("killed %v", killed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDevice(t, "c1")
				d.life(true, func(l *Logs) {
					l.Attach(web, "c1")
					d.print("c1", "first")
					time.Sleep(time.Minute)
					kept(t, l)
				})
				back := func() {
					time.Sleep(time.Minute)
					d.wall.Store(int64(-10 * time.Minute))
					d.print("c1", "past", "!past")
					time.Sleep(20 * time.Minute) // the clock is ahead of the first line again
					d.print("c1", "later")
				}
				if killed {
					d.life(false, func(l *Logs) {
						l.Attach(web, "c1")
						synctest.Wait()
						back()
					})
				} else {
					back()
				}
				for range 2 {
					d.life(true, func(l *Logs) {
						l.Attach(web, "c1")
						expect(t, "lines", kept(t, l), []string{"first", "past", "past", "later"})
					})
				}
			})
		})
	}
}

// A log is looked through for the last line that was taken, and then read: what
// the engine drops in between must not make all that comes look old.
func TestLogThatIsRotatedWhileItIsLookedThroughIsReadOn(t *testing.T) {
	for before, request := range map[int]string{2: "what there is is read", 4: "it is followed"} {
		t.Run("before "+request, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDevice(t, "c1")
				d.wall.Store(int64(time.Hour)) // times do not tell until then
				d.life(true, func(l *Logs) {
					l.Attach(web, "c1")
					d.print("c1", "one")
					synctest.Wait()
					d.wall.Store(0)
					d.print("c1", "!two")
					time.Sleep(time.Minute)
				})
				time.Sleep(time.Minute)
				d.life(true, func(l *Logs) {
					l.cfg.Engine = &rotatingEngine{fakeEngine: d.engine, before: before, rotate: func() {
						d.engine.change("c1", func(c *fakeContainer) { c.lines = c.lines[2:] })
						d.print("c1", "three", "four")
					}}
					l.Attach(web, "c1")
					time.Sleep(time.Minute)
					d.print("c1", "five")
					time.Sleep(time.Minute)
					expect(t, "lines", kept(t, l), []string{"one", "two", "[3-3 engine]", "three", "four", "five"})
				})
			})
		})
	}
}

// A rotatingEngine does something before one of the requests for a log.
type rotatingEngine struct {
	*fakeEngine
	before int
	rotate func()
}

func (e *rotatingEngine) Logs(ctx context.Context, id string, o container.LogOptions, line func(string, []byte)) error {
	if e.before--; e.before == 0 {
		e.rotate()
	}
	return e.fakeEngine.Logs(ctx, id, o, line)
}

func TestQuietContainerOfAProjectIsNotForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const project = "prod_6_web_compose"
		d := newDevice(t, project+"-db-1")
		db := 0
		for life := range 3 {
			d.life(life%2 == 0, func(l *Logs) {
				l.Attach(web, container.ProjectLog(project))
				synctest.Wait()
				if life == 0 {
					d.print(project+"-db-1", "up")
				}
				for i := range maxPlaces + 2 { // they come and go
					id := fmt.Sprintf("%s-web-%d", project, 1000*life+i)
					d.engine.mu.Lock()
					d.engine.containers[id] = &fakeContainer{changed: make(chan struct{})}
					d.engine.mu.Unlock()
					d.print(id, "hello")
					l.Attach(web, container.ProjectLog(project))
					synctest.Wait()
					d.engine.remove(id)
				}
				d.engine.breakOff(project + "-db-1")
				synctest.Wait()
				d.engine.startAgain(project + "-db-1")
				time.Sleep(time.Minute) // it is read on
				db = 0
				for _, s := range kept(t, l) {
					if strings.HasSuffix(s, "up") {
						db++
					}
				}
			})
		}
		if db != 1 {
			t.Errorf("the line of a quiet container is kept %d times, want once", db)
		}
	})
}
