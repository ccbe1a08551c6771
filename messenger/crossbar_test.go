//go:build linux

package messenger_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gammazero/nexus/v3/wamp"

	"reagent/internal/testenv"
	. "reagent/messenger"
	"reagent/protocol"
)

// The same promises on the router that the platform runs.
func TestCrossbar(t *testing.T) {
	logins := map[string]testenv.Login{
		"41-7":   {Secret: "bm90LWE=", Role: protocol.RoleDevice},
		"41-8":   {Secret: "c2FsdA==", Role: protocol.RoleDevice, Salted: true},
		"system": {Secret: "root", Role: protocol.RoleSystem},
	}
	router := testenv.Crossbar(t, logins)
	config := func(url, authid, secret string) Config {
		cfg := Quick()
		cfg.URL = url
		cfg.Identity = func() (string, string) { return authid, secret }
		cfg.MaxRetry = 200 * time.Millisecond
		cfg.PingInterval = time.Second
		return cfg
	}
	system := Start(t, config(router.URL, "system", "root"), nil, nil)
	system.Wait(Online)

	t.Run("plain and salted secrets log in, in every format, over both transports", func(t *testing.T) {
		for _, authid := range []string{"41-7", "41-8"} {
			for _, format := range []string{"json", "cbor", "msgpack"} {
				for _, url := range []string{router.URL, router.Raw} {
					got := make(chan Invocation, 1)
					cfg := config(url, authid, logins[authid].Secret)
					cfg.Serializations = []string{format}
					s := Start(t, cfg, func(s *Session) {
						s.Declare("test.who", map[string]any{"force_reregister": true}, func(_ context.Context, inv Invocation) Outcome {
							got <- inv
							return Outcome{Args: inv.Args}
						})
					}, nil)
					s.Wait(Online)
					answer, err := system.Call(t.Context(), "test.who", []any{"a\xffb", 7}, nil)
					if err != nil || fmt.Sprint(answer.Args) != "[a\uFFFDb 7]" {
						t.Errorf("%s %s %s: answer %v, %v", authid, format, url, answer, err)
					}
					if inv := <-got; inv.Caller != "system" || inv.CallerRole != protocol.RoleSystem || !inv.Disclosed {
						t.Errorf("%s %s %s: caller = %+v, want system", authid, format, url, inv)
					}
					if err := s.Stop(); !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
				}
			}
		}
	})

	t.Run("a wrong secret and an unknown device are a state", func(t *testing.T) {
		for _, authid := range []string{"41-7", "41-8", "99-99"} {
			s := Start(t, config(router.URL, authid, "wrong"), nil, nil)
			for range 2 {
				if got := s.Wait(Unauthorized); !strings.Contains(got.Reason, "not_authorized") {
					t.Errorf("%s: reason = %q", authid, got.Reason)
				}
			}
		}
	})

	t.Run("force_reregister takes a ghost's procedures, and the ghost survives it", func(t *testing.T) {
		say := func(what string) Handler {
			return func(context.Context, Invocation) Outcome { return Outcome{Args: []any{what}} }
		}
		force := map[string]any{"force_reregister": true}
		ghost := Start(t, config(router.URL, "41-7", "bm90LWE="), func(s *Session) { s.Declare("test.taken", force, say("ghost")) }, nil)
		ghost.Wait(Online)
		device := Start(t, config(router.URL, "41-7", "bm90LWE="), func(s *Session) { s.Declare("test.taken", force, say("device")) }, nil)
		device.Wait(Online)
		if got, err := system.Call(t.Context(), "test.taken", nil, nil); err != nil || fmt.Sprint(got.Args) != "[device]" {
			t.Errorf("answer %v, %v, want the device's", got, err)
		}
		// The ghost was told by an UNREGISTERED with request id 0.
		if _, err := ghost.Call(t.Context(), "test.taken", nil, nil); err != nil {
			t.Errorf("the ghost's session: %v", err)
		}
		err := device.Link().Register(t.Context(), "test.taken", nil, Echo)
		var refused *CallError
		if !errors.As(err, &refused) || refused.URI != protocol.ErrorProcedureExists {
			t.Errorf("a second registration without force = %v, want %s", err, protocol.ErrorProcedureExists)
		}
	})

	t.Run("a late call is cancelled and its handler told", func(t *testing.T) {
		ended := make(chan struct{})
		device := Start(t, config(router.URL, "41-7", "bm90LWE="), func(s *Session) {
			s.Declare("test.hang", nil, func(ctx context.Context, _ Invocation) Outcome { <-ctx.Done(); close(ended); return Outcome{} })
		}, nil)
		device.Wait(Online)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := system.Call(ctx, "test.hang", nil, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("call = %v, want its deadline", err)
		}
		<-ended
		if _, err := system.Call(t.Context(), "test.hang", []any{strings.Repeat("x", 17<<20)}, nil); !errors.Is(err, ErrTooLarge) {
			t.Errorf("a call above the router's limit = %v, want ErrTooLarge and no lost session", err)
		}
	})

	t.Run("a testament is published when the link is cut", func(t *testing.T) {
		heard := make(chan Event, 1)
		withdraw := system.DeclareTopic("test.testament", "", func(_ context.Context, e Event) { heard <- e })
		defer withdraw()
		relay := testenv.NewRelay(t, router.Addr)
		Start(t, config("ws://"+relay.Addr()+"/ws", "41-7", "bm90LWE="), nil, func(ctx context.Context, l *Link) error {
			if _, err := l.Call(ctx, protocol.AddTestament, []any{"test.testament", []any{"gone"}, map[string]any{}}, nil); err != nil {
				t.Errorf("testament: %v", err)
			}
			relay.Cut()
			<-ctx.Done()
			return ctx.Err()
		})
		if e := <-heard; fmt.Sprint(e.Args) != "[gone]" {
			t.Errorf("testament = %+v", e)
		}
	})

	t.Run("a killed router is found again, with everything declared", func(t *testing.T) {
		events := make(chan Event, 1)
		device := Start(t, config(router.URL, "41-8", "c2FsdA=="), func(s *Session) {
			s.Declare("test.echo", map[string]any{"force_reregister": true}, Echo)
			s.DeclareTopic("test.topic", "prefix", func(_ context.Context, e Event) { events <- e })
		}, nil)
		device.Wait(Online)
		router.Kill()
		device.Wait(Offline)
		system.Wait(Offline)
		router.Start()
		device.Wait(Online)
		system.Wait(Online)
		if got, err := system.Call(t.Context(), "test.echo", []any{1}, nil); err != nil || fmt.Sprint(got.Args) != "[1]" {
			t.Errorf("call after the restart: %v, %v", got, err)
		}
		if err := system.Publish(t.Context(), "test.topic.a", map[string]any{wamp.OptAcknowledge: true}, nil, nil); err != nil {
			t.Errorf("publish after the restart: %v", err)
		}
		if e := <-events; e.Topic != "test.topic.a" || e.PublisherAuthID != "system" {
			t.Errorf("event = %+v", e)
		}
	})
}

func TestAutobahnCallsUs(t *testing.T) {
	script := testenv.Python(t, `
import sys
from autobahn.asyncio.component import Component, run
component = Component(transports=[{"url": sys.argv[1], "type": "websocket", "serializers": [sys.argv[2]], "max_retries": 0}], realm="realm1",
    authentication={"wampcra": {"authid": "42-1", "secret": "s"}})
@component.on_join
async def joined(session, details):
    print("answer", await session.call("test.echo", "ä", [1, None, {"k": 2.5}]))
    await session.leave()
run([component], log_level="error")
`)
	tr := startRouter(t, map[string]string{"41-7": "s", "42-1": "s"})
	s := Start(t, tr.config("41-7", "s"), func(s *Session) { s.Declare("test.echo", nil, Echo) }, nil)
	s.Wait(Online)
	script.Args = append(script.Args, tr.url, "msgpack")
	out, err := script.CombinedOutput()
	if want := "'ä', [1, None, {'k': 2.5}]"; err != nil || !strings.Contains(string(out), want) {
		t.Errorf("%v, want %s:\n%s", err, want, out)
	}
}
