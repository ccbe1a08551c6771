package studio_test

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/studio"
	"reagent/studio/cli"
)

// notices is what a person is told.
type notices struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (n *notices) Write(p []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.Write(p)
}

func (n *notices) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.b.String()
}

func TestACommandIsToldAtOnceWhyThereIsNoSession(t *testing.T) {
	s := testenv.Studio(t)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	good := s.Profile()
	wrong, nobody, elsewhere := good, good, good
	wrong.Secret = "x"
	nobody.AuthID = "999"
	elsewhere.URL = "http://" + testenv.FreePort(t)
	for _, c := range []struct {
		claim   string
		profile protocol.StudioProfile
		refused bool
	}{
		{"a wrong secret", wrong, true},
		{"an unknown account", nobody, true},
		{"nobody listens", elsewhere, false},
	} {
		var told notices
		_, err := studio.Dialer(&told)(t.Context(), c.profile)
		var dial *cli.DialError
		if !errors.As(err, &dial) || dial.Refused != c.refused || dial.Reason == "" {
			t.Errorf("%s: %v, want a DialError with Refused %v and a reason", c.claim, err, c.refused)
		}
		if strings.Contains(dial.Error(), good.Secret) || told.String() != "" {
			t.Errorf("%s: error %v, notices %q", c.claim, dial, told.String())
		}
	}
	bad := good
	bad.CA = "rubbish"
	if _, err := studio.Dialer(new(notices))(t.Context(), bad); err == nil || !strings.Contains(err.Error(), "ca") {
		t.Errorf("certificates that are none = %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := studio.Dialer(new(notices))(ended, good); !errors.Is(err, context.Canceled) {
		t.Errorf("asked to end = %v, want context.Canceled", err)
	}
}

func TestACommandGoesOnAfterTheStudioWasAway(t *testing.T) {
	s := testenv.Studio(t)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	var told notices
	session, err := studio.Dialer(&told)(t.Context(), s.Profile())
	if err != nil {
		t.Fatal(err)
	}
	events := make(chan messenger.Event, 16)
	if err := session.Follow(t.Context(), protocol.StudioDeviceState, func(e messenger.Event) { events <- e }); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	await(t, func() bool { return strings.Contains(told.String(), "the studio is back") })
	if got := told.String(); strings.Count(got, "is lost") != 1 {
		t.Errorf("told %q, want the loss once", got)
	}
	_, file := s.AddDevice("press-07")
	device := s.As(file)
	select {
	case <-events:
	case <-time.After(10 * time.Second):
		t.Error("no event after the studio came back")
	}
	device.Leave()
	before := told.String()
	session.Close()
	if got := told.String(); got != before {
		t.Errorf("Close says %q", strings.TrimPrefix(got, before))
	}
	if _, err := session.Call(t.Context(), protocol.StudioReadAccount, nil, nil); err == nil {
		t.Error("a call after Close = nil, want an error")
	}
}

func TestACommandMayWatchItsConnectionItself(t *testing.T) {
	s := testenv.Studio(t)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	var told notices
	session, err := studio.Dialer(&told)(t.Context(), s.Profile())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	changes := make(chan string, 16)
	session.Watch(func(online bool, reason string) {
		if online != (reason == "") {
			t.Errorf("online %v with the reason %q", online, reason)
		}
		changes <- map[bool]string{true: "back", false: "lost"}[online]
	})
	_, file := s.AddDevice("press-07")
	events := make(chan messenger.Event, 16)
	if err := session.Follow(t.Context(), protocol.StudioDeviceState, func(e messenger.Event) { events <- e }); err != nil {
		t.Fatal(err)
	}
	s.Restart()
	for _, want := range []string{"lost", "back"} {
		select {
		case got := <-changes:
			if got != want {
				t.Fatalf("told %q, want %q", got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("never told %q", want)
		}
	}
	if got := told.String(); got != "" {
		t.Errorf("people are told %q too", got)
	}
	s.As(file) // who was told is subscribed again, and hears of it
	select {
	case <-events:
	case <-time.After(10 * time.Second):
		t.Error("no event after the connection was said to be back")
	}
	keys := protocol.DeviceTerminal(file.SerialNumber, "x").WriteTopic
	if err := session.Publish(t.Context(), keys, []any{"ls"}, map[string]any{"received": 0}); err != nil {
		t.Errorf("publishing keystrokes = %v", err)
	}
	var answer *messenger.CallError
	if err := session.Publish(t.Context(), "re.studio.test", []any{"x"}, nil); !errors.As(err, &answer) {
		t.Errorf("publishing where a person may not = %v, want the router's refusal", err)
	}
}

func TestACommandIsBackAlsoWhereItLostARight(t *testing.T) {
	s := testenv.Studio(t)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	admin := s.Admin()
	_, file := s.AddDevice("press-07")
	var eve protocol.UserAdded
	admin.Ask(protocol.StudioAddUser, protocol.AddUser{Name: "eve"}, &eve)
	right := protocol.GrantArgs{User: "eve", Device: "press-07", Privilege: protocol.Develop}
	admin.Ask(protocol.StudioGrantPrivilege, right, nil)
	eve.Profile.URL = s.URL()
	session, err := studio.Dialer(new(notices))(t.Context(), eve.Profile)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	changes := make(chan bool, 16)
	session.Watch(func(online bool, _ string) { changes <- online })
	at := protocol.ContainerTerminal(file.SerialNumber, "prod_6_hello", "x")
	if err := session.Follow(t.Context(), at.DataTopic, func(messenger.Event) {}); err != nil {
		t.Fatal(err)
	}
	admin.Ask(protocol.StudioRevokePrivilege, right, nil)
	for _, want := range []bool{false, true} {
		select {
		case online := <-changes:
			if online != want {
				t.Fatalf("told online %v, want %v", online, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("never told online %v", want)
		}
	}
	var answer *messenger.CallError
	if err := session.Publish(t.Context(), at.WriteTopic, []any{"ls"}, nil); !errors.As(err, &answer) {
		t.Errorf("typing without the right = %v, want the router's refusal", err)
	}
}

func await(t *testing.T, done func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatal("it did not happen within 20 s")
		}
	}
}

// Answers in parts, and their end at the caller's wish, pass the router both ways.
func TestPartsOfAnAnswerArriveAndACancelReachesTheDevice(t *testing.T) {
	s := testenv.Studio(t)
	t.Cleanup(http.DefaultTransport.(*http.Transport).CloseIdleConnections)
	_, file := s.AddDevice("press-07")
	device := s.As(file)
	canceled := make(chan error, 1)
	uri := protocol.Procedure(file.SerialNumber, protocol.RunCommand)
	device.Declare(uri, nil, func(ctx context.Context, inv messenger.Invocation) messenger.Outcome {
		if inv.Progress == nil {
			return messenger.Outcome{Error: "re.error.internal"}
		}
		for i := range 100 {
			if err := inv.Progress(ctx, map[string]any{"seq": i}); err != nil {
				return messenger.Outcome{Error: "re.error.internal", Args: []any{err.Error()}}
			}
		}
		<-ctx.Done()
		canceled <- context.Cause(ctx)
		return messenger.Outcome{Args: []any{"too late"}}
	})
	session, err := studio.Dialer(new(notices))(t.Context(), s.Profile())
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []uint64
	await(t, func() bool {
		_, err = session.CallProgress(ctx, uri, []any{map[string]any{}}, nil, func(r messenger.Result) {
			d, _ := protocol.AsDict(protocol.Arg(r.Args, 0))
			n, _ := protocol.Uint(d["seq"])
			if got = append(got, n); n == 99 {
				cancel()
			}
		})
		var answer *messenger.CallError
		return !errors.As(err, &answer) || answer.URI != protocol.ErrorNoSuchProcedure // it is being registered
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the canceled call = %v, want context.Canceled", err)
	}
	for i, n := range got {
		if n != uint64(i) || len(got) != 100 {
			t.Fatalf("got the parts %v, want 0 to 99", got)
		}
	}
	select {
	case cause := <-canceled:
		if errors.Is(cause, messenger.ErrOffline) {
			t.Errorf("the device takes the cancel for a lost link: %v", cause)
		}
	case <-time.After(10 * time.Second):
		t.Error("the device never learnt that the call was canceled")
	}
}
