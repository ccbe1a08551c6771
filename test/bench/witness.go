package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// The kinds of sightings.
const (
	joined      = "joined"     // a device's session; Name is its authid
	registered  = "registered" // a procedure; Name is its URI
	status      = "status"     // the device's report of itself; Name is the state
	appState    = "app state"  // the device's report of an app; Name is the state
	engineEvent = "engine"     // about a container; Name is the action
)

// A sighting is something that was seen of the agent, and when.
type sighting struct {
	At    time.Time
	Kind  string
	Name  string
	About string // the serial number, or the container's name
	App   uint64
}

// A witness keeps sightings in the order in which they came. Its methods may be
// called from any goroutine.
type witness struct {
	mu    sync.Mutex // guards what follows
	seen  []sighting
	fresh chan struct{} // closed by the next sighting
}

func newWitness() *witness { return &witness{fresh: make(chan struct{})} }

func (w *witness) note(s sighting) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, s)
	close(w.fresh)
	w.fresh = make(chan struct{})
}

// mark is where the sightings stand now, to look from there on later.
func (w *witness) mark() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.seen)
}

// since returns what was seen after mark, and what tells of more.
func (w *witness) since(mark int) ([]sighting, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[mark:len(w.seen):len(w.seen)], w.fresh
}

// await returns the nth sighting after mark that is like the wanted one: of its
// kind, and equal in what wanted says besides.
func (w *witness) await(ctx context.Context, mark, n int, wanted sighting, limit time.Duration) (sighting, error) {
	late := time.NewTimer(limit)
	defer late.Stop()
	for {
		seen, more := w.since(mark)
		mark += len(seen)
		for _, s := range seen {
			if !s.like(wanted) {
				continue
			}
			if n--; n == 0 {
				return s, nil
			}
		}
		select {
		case <-more:
		case <-late.C:
			return sighting{}, fmt.Errorf("not seen within %v: %s %s", limit, wanted.Kind, wanted.Name)
		case <-ctx.Done():
			return sighting{}, ctx.Err()
		}
	}
}

func (s sighting) like(wanted sighting) bool {
	return s.Kind == wanted.Kind &&
		(wanted.Name == "" || s.Name == wanted.Name) &&
		(wanted.About == "" || s.About == wanted.About) &&
		(wanted.App == 0 || s.App == wanted.App)
}
