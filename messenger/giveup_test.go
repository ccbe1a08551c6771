package messenger

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gammazero/nexus/v3/transport"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/rs/zerolog"
)

// The client cancelled a call by itself once, and then waited for an ERROR that
// could no longer come: a link that was given up in that instant never ended,
// and the session never dialled again.
func TestLinkThatIsLostAsACallRunsOutOfTimeIsDialledAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tries = 20
		links := 0
		s, err := New(Config{Realm: "realm1", Log: zerolog.Nop(), Dial: func(context.Context) (wamp.Peer, error) {
			device, router := transport.LinkedPeers()
			go func() { // a router that welcomes everybody and answers nothing
				for msg := range router.Recv() {
					if _, hello := msg.(*wamp.Hello); hello {
						router.Send() <- &wamp.Welcome{ID: 1, Details: wamp.Dict{"roles": wamp.Dict{"dealer": wamp.Dict{}, "broker": wamp.Dict{}}}}
					}
				}
			}()
			return device, nil
		}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- s.Run(ctx, func(ctx context.Context, link *Link) error {
				if links++; links == tries {
					cancel()
				}
				limited, end := context.WithTimeout(ctx, time.Second)
				defer end()
				if _, err := link.Call(limited, "x", nil, nil); !errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
					t.Errorf("call = %v, want its deadline", err)
				}
				link.Lost(errors.New("nobody answers"))
				return nil
			})
		}()
		select {
		case <-done:
		case <-time.After(time.Hour):
			t.Fatalf("%d links in an hour, want %d", links, tries)
		}
	})
}
