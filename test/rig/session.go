package rig

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/messenger"
	"reagent/protocol"
)

// A Login says where and as whom a session joins.
type Login struct {
	URL, Realm, AuthID, Secret string
	Formats                    []string // serialisations; nil = the product's order
	Details                    map[string]any
	MaxSend                    int64 // longest message that may be sent; 0 = the product's
}

// Open keeps a session open until the test ends and waits until it is online.
// When the router goes away it comes back as fast as it can.
func Open(t testing.TB, in Login) *messenger.Session {
	t.Helper()
	s, online := Join(t, in)
	select {
	case <-online:
	case <-time.After(20 * time.Second):
		t.Fatalf("no session at %s as %s", in.URL, in.AuthID)
	}
	return s
}

// Join keeps a session open like Open, but waits for nothing; online receives
// each time that it came about.
func Join(t testing.TB, in Login) (s *messenger.Session, online <-chan struct{}) {
	t.Helper()
	if in.Realm == "" {
		in.Realm = protocol.RealmDevices
	}
	up := make(chan struct{}, 1024)
	s, err := messenger.New(messenger.Config{
		URL: in.URL, Realm: in.Realm, Details: in.Details, Serializations: in.Formats, MaxSend: in.MaxSend,
		Identity:       func() (string, string) { return in.AuthID, in.Secret },
		PingInterval:   2 * time.Second,
		ConnectTimeout: 2 * time.Second,
		MinRetry:       100 * time.Millisecond, MaxRetry: 300 * time.Millisecond, UnauthorizedRetry: 300 * time.Millisecond,
		Changed: func(s messenger.Status) {
			if s.State == messenger.Online {
				up <- struct{}{}
			}
		},
		Log: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Run(ctx, func(ctx context.Context, link *messenger.Link) error { return link.Apply(ctx) })
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return s, up
}

// webSocket is the address of a studio's router, given the studio's own.
func webSocket(studio string) string {
	return "ws" + strings.TrimPrefix(strings.TrimSuffix(studio, "/"), "http") + "/ws"
}
