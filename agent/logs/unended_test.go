package logs

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"reagent/container"
	"reagent/protocol"
)

// The container was started again; the engine goes on in the same line.
func TestLineWithoutAnEndDoesNotSwallowTheNext(t *testing.T) {
	long := strings.Repeat("x", protocol.MaxLogLine+1000)
	for _, c := range []struct{ what, last, kept string }{
		{"plain", "half", "half"},
		{"a return", "100%\r", "100%"},
		{"two returns", "100%\r\r", "100%\r"},
		{"bytes that are no text", "Gr\xf6\xdfe: ", "Gr\ufffd\ufffde: "},
		{"such bytes and a return", "\xff\r", "\ufffd"},
		{"a line that is cut", long, long[:protocol.MaxLogLine]},
		{"a line that its clean text cuts", strings.Repeat("\xff", 100_000), strings.Repeat("\ufffd", protocol.MaxLogLine/3)},
	} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, restart %v", c.what, restart), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					d := newDevice(t, "c1")
					var runs []func(*Logs)
					printed := func(claim string, print func(), want ...string) {
						runs = append(runs, func(l *Logs) {
							print()
							l.Attach(web, "c1")
							expect(t, claim, shortened(kept(t, l)), shortened(want))
							d.engine.end("c1")
							synctest.Wait()
							time.Sleep(time.Minute)
							d.engine.startAgain("c1")
						})
					}
					goOn := func(line int, text string) {
						d.engine.change("c1", func(c *fakeContainer) { c.lines[line] += glue + stamp(d.now(), text) })
					}
					printed("first run", func() { d.print("c1", "whole", c.last) }, "whole", c.kept)
					printed("second run", func() { goOn(1, "next run"); d.print("c1", "and on") },
						"whole", c.kept, "next run", "and on")
					// That line may be the last one for a while.
					printed("third run", func() { goOn(2, "third run") }, "whole", c.kept, "next run", "and on", "third run")
					printed("no run", func() {}, "whole", c.kept, "next run", "and on", "third run")
					if restart {
						for _, run := range runs {
							d.life(true, run)
						}
						return
					}
					d.life(true, func(l *Logs) {
						for _, run := range runs {
							run(l)
						}
					})
				})
			})
		}
	}
}

// shortened are the beginnings of lines: of very long ones a follower gets no more.
func shortened(lines []string) []string {
	for i, line := range lines {
		lines[i] = line[:min(len(line), 60)]
	}
	return lines
}

// The engine keeps a part of 16 KiB when it is full, and the rest of the line later.
func TestHalfPrintedLongLineIsTakenWhole(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1")
		half, rest := strings.Repeat("a", 16<<10), strings.Repeat("b", 1000)
		d.print("c1", "one", half)
		life := func(want ...string) {
			d.life(true, func(l *Logs) {
				l.cfg.Engine = &rotatingEngine{fakeEngine: d.engine, before: 2, rotate: func() { // between two reads
					d.engine.change("c1", func(c *fakeContainer) { c.lines[1] = strings.TrimSuffix(c.lines[1], rest) + rest })
				}}
				l.Attach(web, "c1")
				synctest.Wait()
				expect(t, "lines", kept(t, l), want)
			})
		}
		life("one", half+rest)
		d.print("c1", "two")
		life("one", half+rest, "two")
	})
}

func TestFullLineThatAContainerEndedWithIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDevice(t, "c1", "c2")
		full := strings.Repeat("a", 16<<10)
		d.print("c1", full)
		d.print("c2", full)
		d.engine.end("c1")
		d.life(true, func(l *Logs) {
			l.Attach(web, "c1")
			synctest.Wait()
			l.Drain(t.Context(), web, container.Container{ID: "c2"})
			expect(t, "lines", kept(t, l), []string{full, full})
		})
	})
}
