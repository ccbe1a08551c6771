package messenger_test

import (
	"context"
	"errors"
	"testing"

	. "reagent/messenger"
)

// A handler whose work is to outlive a lost link, but not a caller who changes
// their mind, has to know which of the two it was.
func TestAHandlerIsToldWhyItsCallEnded(t *testing.T) {
	for what, want := range map[string]error{"the caller cancels": context.Canceled, "the link is cut": ErrOffline} {
		t.Run(what, func(t *testing.T) {
			tr := startRouter(t, nil)
			caller := tr.peer()
			began, causes := make(chan struct{}, 1), make(chan error, 1)
			online(t, tr, nil, func(s *Session) {
				s.Declare("test.wait", nil, func(ctx context.Context, _ Invocation) Outcome {
					began <- struct{}{}
					<-ctx.Done()
					causes <- context.Cause(ctx)
					return Outcome{}
				})
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = caller.Call(ctx, "test.wait", nil, nil, nil, nil)
			}()
			<-began
			if want == ErrOffline {
				tr.relay.Cut()
			} else {
				cancel()
			}
			if got := <-causes; !errors.Is(got, want) {
				t.Errorf("cause = %v, want %v", got, want)
			}
			cancel()
			<-ended
		})
	}
}
