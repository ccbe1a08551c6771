package apps

import (
	"context"
	"fmt"
	"testing"

	"reagent/container"
	"reagent/protocol"
)

// stubborn does not start one container, for what it asks.
type stubborn struct {
	engine
	id string
}

func (s stubborn) Start(ctx context.Context, id string) error {
	if id == s.id {
		return fmt.Errorf("unable to apply caps: operation not permitted: %w", container.ErrDemand)
	}
	return s.engine.Start(ctx, id)
}

func TestContainerThatDoesNotStartIsMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
	r.settled(protocol.Running)
	id := r.running("1")
	r.settled(protocol.Running)
	r.stop()
	if err := r.engine.Stop(t.Context(), id, 0); err != nil {
		t.Fatal(err)
	}
	r.engine = stubborn{r.engine, id}
	r.start()
	if again := r.running("1"); again == id {
		t.Errorf("container %s started, which does not start", id)
	}
	r.settled(protocol.Running)
}

// The defaults and ports of a version that failed its probation are not for the
// one that came back.
func TestVersionThatComesBackIsTheOneThatWasThere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(func(q *protocol.AppRequest) {
		q.EnvironmentTemplate = map[string]any{"GREETING": map[string]any{"defaultValue": "hello"}}
	})
	id := r.running("1")
	r.settled(protocol.Running)
	r.request(func(q *protocol.AppRequest) {
		toVersion("crash", 13)(q)
		q.EnvironmentTemplate = map[string]any{"OTHER": map[string]any{"defaultValue": "x"}}
		q.Ports = []protocol.PortRule{{Port: 81}}
	})
	r.eventually("the version is rolled back", func() bool { s := r.states(); return len(s) > 0 && s[len(s)-1] == "RUNNING(canceled)" })
	r.settled(protocol.Running)
	for range 2 {
		if got := r.running("1"); got != id {
			t.Errorf("container %s came back as %s", id, got)
		}
		r.stop()
		if err := r.engine.Stop(t.Context(), id, 0); err != nil {
			t.Fatal(err)
		}
		r.start() // after a reboot, too
	}
}
