package apps

import (
	"context"
	"errors"
	"testing"

	"reagent/protocol"
)

// stubborn does not start one container.
type stubborn struct {
	engine
	id string
}

func (s stubborn) Start(ctx context.Context, id string) error {
	if id == s.id {
		return errors.New("unable to apply caps: operation not permitted")
	}
	return s.engine.Start(ctx, id)
}

func TestContainerThatDoesNotStartIsMadeAnew(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.request(nil)
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
