package apps

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// CrashPolicy says how long an app that failed waits for its next attempt
// (life §2.6): min(Step·n², Max), spread by ±Spread. A run of StableAfter
// forgets the failures before it.
type CrashPolicy struct {
	Step        time.Duration
	Max         time.Duration
	Spread      float64
	StableAfter time.Duration
}

// A crashLoop is what an app's failures add up to. It decides and does nothing;
// its owner tells it what happened. The zero value has seen no failure.
type crashLoop struct {
	failures int
	next     time.Time
	held     bool // next is no consequence of a failure
}

// failed counts a failure at now and returns how many there were and the pause
// that now begins.
func (c *crashLoop) failed(p CrashPolicy, now time.Time, ranFor time.Duration) (nth int, pause time.Duration) {
	if ranFor >= p.StableAfter {
		c.failures = 0
	}
	c.failures = min(c.failures+1, 100) // beyond, only the cap counts
	pause = min(p.Step*time.Duration(c.failures*c.failures), p.Max)
	pause = time.Duration(float64(pause) * (1 - p.Spread + 2*p.Spread*rand.Float64()))
	c.next, c.held = now.Add(pause), false
	return c.failures, pause
}

// wait is how long the next attempt has to wait at now.
func (c *crashLoop) wait(now time.Time) time.Duration { return max(0, c.next.Sub(now)) }

// hold makes the next attempt wait for something that is not the app's fault, and
// release ends that before its time.
func (c *crashLoop) hold(d time.Duration) { c.next, c.held = time.Now().Add(d), true }

func (c *crashLoop) release() {
	if c.held {
		c.next, c.held = time.Time{}, false
	}
}

// reset forgets everything: a newer wish, or a success that counts.
func (c *crashLoop) reset() { *c = crashLoop{} }

// ordinal is 1st, 2nd, 3rd, … for the line in the app's log.
func ordinal(n int) string {
	suffix := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			suffix = "st"
		case 2:
			suffix = "nd"
		case 3:
			suffix = "rd"
		}
	}
	return fmt.Sprintf("%d%s", n, suffix)
}
