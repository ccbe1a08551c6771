package backend_test

import (
	"context"
	"errors"
	"testing"

	"github.com/rs/zerolog"

	"reagent/protocol"
	"reagent/studio/backend"
	"reagent/studio/store"
)

// line is a session with a router that answers from a table.
type line struct {
	answers   map[string][]any
	published []string
}

func (l *line) Call(_ context.Context, uri string, _ []any, _ map[string]any) ([]any, error) {
	if args, ok := l.answers[uri]; ok {
		return args, nil
	}
	return nil, &backend.CallError{URI: "wamp.error.no_such_procedure"}
}

func (l *line) Publish(_ context.Context, topic string, _ map[string]any, _ []any) error {
	l.published = append(l.published, topic)
	return errors.New("offline")
}

// broken is an image registry that panics.
type broken struct{}

func (broken) PullToken(uint64, string) string           { panic("no key") }
func (broken) PushLogin(uint64, uint64) (string, string) { panic("no key") }
func (broken) Has(context.Context, string, string) (bool, error) {
	return false, errors.New("the disk is gone")
}
func (broken) Collect(context.Context) (protocol.GarbageCollected, error) {
	return protocol.GarbageCollected{}, errors.New("the disk is gone")
}

func onLine(t *testing.T, l *line, roles ...string) (*backend.Backend, *store.Store, store.Device) {
	t.Helper()
	s, err := store.Open(t.TempDir(), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	d, err := s.AddDevice("press", "sn", "")
	if err != nil {
		t.Fatal(err)
	}
	return backend.New(backend.Config{
		Store: s, Session: l, Images: broken{}, Address: backend.Address{URL: "https://studio.test"}, DeviceRoles: roles, Log: zerolog.Nop(),
	}), s, d
}

func TestWhoIsNotDisclosedIsRefused(t *testing.T) {
	b, _, d := onLine(t, &line{})
	for uri, answer := range b.Procedures() {
		for name, r := range map[string]backend.Request{
			"undisclosed device": {AuthID: d.AuthID(), Role: protocol.RoleDevice},
			"undisclosed user":   {AuthID: "1", Role: protocol.RoleUser},
			"undisclosed system": {AuthID: "system", Role: protocol.RoleSystem},
			"no role":            {Disclosed: true, AuthID: "1"},
			"odd role":           {Disclosed: true, AuthID: "1", Role: "anonymous"},
			"unknown device":     {Disclosed: true, AuthID: "1-99", Role: protocol.RoleDevice},
			"unknown user":       {Disclosed: true, AuthID: "99", Role: protocol.RoleUser},
			"user by name":       {Disclosed: true, AuthID: "admin", Role: protocol.RoleUser},
			"device as user":     {Disclosed: true, AuthID: d.AuthID(), Role: protocol.RoleUser},
			"app":                {Disclosed: true, AuthID: "app-1-prod-e1@sn", Role: protocol.RoleApp},
		} {
			r.Args = []any{map[string]any{"callerID": 1, "name": "x"}}
			reply := answer(t.Context(), r)
			detail, _ := protocol.AsDict(protocol.Arg(reply.Args, 0))
			if reply.Error == "" || detail["code"] != string(protocol.CodeRefused) {
				t.Errorf("%s for %s: %+v", uri, name, reply)
			}
		}
	}
}

func TestOtherRoutersNameRolesAsTheyLike(t *testing.T) {
	b, s, d := onLine(t, &line{}, "swarm_device")
	reply := b.Procedures()[protocol.UpdateDeviceStatus](t.Context(), backend.Request{
		Disclosed: true, AuthID: d.AuthID(), Role: "swarm_device", Args: []any{map[string]any{"status": "CONNECTED"}},
	})
	if reply.Error != "" {
		t.Errorf("reply = %+v", reply)
	}
	topics := b.Topics()
	topics[protocol.SessionOnJoin](t.Context(), []any{map[string]any{"session": 7.0, "authid": d.AuthID(), "authrole": "swarm_device"}})
	if !s.Online(d.Key) {
		t.Error("not online after its session joined")
	}
	topics[protocol.SessionOnLeave](t.Context(), []any{uint64(7)}) // no more than the id
	if s.Online(d.Key) {
		t.Error("online after its session left")
	}
}

func TestATestamentCountsForItsOwnSessionOnly(t *testing.T) {
	b, s, d := onLine(t, &line{})
	topics := b.Topics()
	topics[protocol.SessionOnJoin](t.Context(), []any{map[string]any{"session": 7, "authid": d.AuthID(), "authrole": "device"}})
	for _, args := range [][]any{nil, {}, {nil}, {"x"}, {map[string]any{"device_key": d.Key}}, {map[string]any{"device_key": d.Key, "wamp_session_id": 8}}, {map[string]any{"device_key": 99, "wamp_session_id": 7}}} {
		topics[protocol.TestamentDevice](t.Context(), args)
		if !s.Online(d.Key) {
			t.Fatalf("offline after %v", args)
		}
	}
	topics[protocol.TestamentDevice](t.Context(), []any{map[string]any{"device_key": d.Key, "wamp_session_id": 7}})
	if s.Online(d.Key) {
		t.Error("online after its testament")
	}
	for uri, topic := range topics {
		for _, args := range [][]any{nil, {nil}, {[]any{}}, {map[string]any{"session": "x"}}, {-1}} {
			topic(t.Context(), args) // must not panic
		}
		_ = uri
	}
}

func TestWhoIsThereIsAskedAndNotGuessed(t *testing.T) {
	l := &line{answers: map[string][]any{}}
	b, s, d := onLine(t, l)
	s.Joined(d.Key, 5) // gone while nobody listened
	l.answers["wamp.session.list"] = []any{[]any{6.0, uint64(8), "x", nil}}
	l.answers["wamp.session.get"] = []any{map[string]any{"session": 6, "authid": d.AuthID(), "authrole": "device"}}
	if err := b.Online(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := s.Sessions(); len(got) != 1 || got[6] != d.Key {
		t.Errorf("sessions = %v, want 6", got)
	}
	for _, answer := range [][]any{nil, {nil}, {"x"}, {5}} {
		l.answers["wamp.session.list"] = answer
		if err := b.Online(t.Context()); err == nil {
			t.Errorf("an answer of %v is content", answer)
		}
	}
	if len(s.Sessions()) != 1 {
		t.Error("a wrong answer changed who is there")
	}
}

func TestAPanicIsAnAnswer(t *testing.T) {
	b, _, d := onLine(t, &line{})
	reply := b.Procedures()[protocol.GetRegistryToken](t.Context(), backend.Request{
		Disclosed: true, AuthID: d.AuthID(), Role: protocol.RoleDevice, Args: []any{map[string]any{"callerID": 1}},
	})
	detail, _ := protocol.AsDict(protocol.Arg(reply.Args, 0))
	if reply.Error != protocol.ErrorContract || detail["code"] != string(protocol.CodeInternal) {
		t.Errorf("reply = %+v", reply)
	}
}
