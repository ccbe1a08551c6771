package messenger

import (
	"context"
	"sync"
	"testing"

	"github.com/gammazero/nexus/v3/transport"
	"github.com/gammazero/nexus/v3/wamp"
)

// A fakeRouter is the far end of a connection that a test plays itself, message
// by message, to be as wrong as no real router is.
type fakeRouter struct {
	peer wamp.Peer
	next wamp.ID
}

// routerOf makes a Config.Dial whose connections are played by play, each on its
// own goroutine. What a session sends after play has returned is swallowed.
func routerOf(t testing.TB, play func(*fakeRouter)) func(context.Context) (wamp.Peer, error) {
	var far sync.WaitGroup
	t.Cleanup(far.Wait) // a connection that is never closed hangs the test
	return func(context.Context) (wamp.Peer, error) {
		device, router := transport.LinkedPeersQSize(4096)
		far.Go(func() {
			defer router.Close()
			play(&fakeRouter{peer: router})
			for range router.Recv() {
			}
		})
		return device, nil
	}
}

func (f *fakeRouter) send(msg wamp.Message) { f.peer.Send() <- msg }

func (f *fakeRouter) welcome() {
	f.send(&wamp.Welcome{ID: 77, Details: wamp.Dict{"roles": wamp.Dict{"broker": wamp.Dict{}, "dealer": wamp.Dict{}}}})
}

// join takes the HELLO of an anonymous client and lets it in.
func (f *fakeRouter) join() {
	<-f.peer.Recv()
	f.welcome()
}

func (f *fakeRouter) id() wamp.ID { f.next++; return f.next }

// serve answers each question as a decent router would, unless special has dealt
// with it, until the session says goodbye.
func (f *fakeRouter) serve(special func(wamp.Message) bool) {
	for msg := range f.peer.Recv() {
		if special != nil && special(msg) {
			continue
		}
		switch m := msg.(type) {
		case *wamp.Register:
			f.send(&wamp.Registered{Request: m.Request, Registration: f.id()})
		case *wamp.Subscribe:
			f.send(&wamp.Subscribed{Request: m.Request, Subscription: f.id()})
		case *wamp.Unregister:
			f.send(&wamp.Unregistered{Request: m.Request})
		case *wamp.Unsubscribe:
			f.send(&wamp.Unsubscribed{Request: m.Request})
		case *wamp.Call:
			f.send(&wamp.Result{Request: m.Request, Details: wamp.Dict{}, Arguments: m.Arguments, ArgumentsKw: m.ArgumentsKw})
		case *wamp.Goodbye:
			f.send(&wamp.Goodbye{Reason: wamp.CloseGoodbyeAndOut, Details: wamp.Dict{}})
			return
		}
	}
}
