// Package proctree ends a program with everything that it has started.
//
// A program is told by its Root: the process that leads a session of its own
// (Setsid), and when that process started, so that a number which the system has
// given to somebody else meanwhile is never mistaken for it. To the root belong
// the processes of its session, and their descendants in other sessions as far
// as the chain of parents shows them; one whose parents have all ended after it
// made a session of its own is a daemon and belongs to nobody. Only an entry in its
// environment, a mark, may still tell whose it is: EndAll and EndMarked look for it.
//
// Nothing is remembered between two calls and nothing is started. A Root is a
// value: written down, it finds the same program again in another process, until
// the next boot. Where there is no /proc (systems other than Linux), what
// belongs to a root is its process group.
package proctree

import (
	"errors"
	"time"
)

// A Root is the first process of a program, and the leader of its session.
type Root struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in the kernel's ticks since boot; 0 where it does not tell
}

// ErrLeft means that processes are left which do not end, not even when they are
// killed: the kernel is at work for them.
var ErrLeft = errors.New("processes are left that cannot be ended")

// killed is how long processes may take to be gone once they were killed.
const killed = 5 * time.Second

// Pauses between two looks at what is left.
const (
	firstLook = 2 * time.Millisecond
	lastLook  = 100 * time.Millisecond
)
