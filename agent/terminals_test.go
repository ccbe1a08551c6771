package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"reagent/agent/terminal"
	"reagent/messenger"
	"reagent/protocol"
)

// offered keeps the handlers that are declared.
type offered map[string]messenger.Handler

func (o offered) Declare(uri string, _ map[string]any, h messenger.Handler) (withdraw func()) {
	o[uri] = h
	return func() { delete(o, uri) }
}

// The procedure of a session is none of the table's, and asks all the same.
func TestTheSizeOfATerminalIsToldByThoseWhoMay(t *testing.T) {
	for _, c := range []struct {
		device bool
		needs  protocol.Privilege
	}{{true, protocol.Maintain}, {false, protocol.Develop}} {
		studio := &asked{answer: true}
		d, session := dispatching(t, studio), offered{}
		d.serial = serial
		var callers []terminal.Caller
		names := protocol.DeviceTerminal(serial, "x")
		withdraw := offerResize(session, d)(terminal.Resize{
			URI: names.ResizeTopic, Device: c.device,
			Handle: func(_ context.Context, who terminal.Caller, _ []any) error {
				callers = append(callers, who)
				return nil
			},
		})
		call := func(inv messenger.Invocation) string {
			got, _ := text(t, session[names.ResizeTopic](t.Context(), inv))
			return got
		}
		forUser := messenger.Invocation{Disclosed: true, Caller: "system", CallerRole: "system", Kwargs: map[string]any{"requestor_account_key": 5}}
		for _, inv := range []messenger.Invocation{by("3", "user"), forUser, by("system", "system")} {
			if got := call(inv); got != "" {
				t.Errorf("%+v: %s", inv, got)
			}
		}
		if studio.last.Privilege != c.needs || studio.times != 2 {
			t.Errorf("asked %d times for %q, want twice for %q", studio.times, studio.last.Privilege, c.needs)
		}
		if want := "[{3 user 0} {system system 5} {system system 0}]"; fmt.Sprint(callers) != want {
			t.Errorf("callers %v, want %s", callers, want)
		}
		for _, inv := range []messenger.Invocation{{}, by("7-43", "device"), by("app-prod-6-1@sn-1", "app")} {
			if got := call(inv); !strings.HasPrefix(got, "insufficient privileges") {
				t.Errorf("%+v: %q", inv, got)
			}
		}
		studio.answer = false
		if got := call(by("3", "user")); got != toStartATerminal {
			t.Errorf("without the privilege: %q", got)
		}
		if len(callers) != 3 {
			t.Errorf("%d calls went through", len(callers))
		}
		if withdraw(); len(session) != 0 {
			t.Error("it is offered after its end")
		}
	}
}

func TestTheLogOfCallsHasNoSessionID(t *testing.T) {
	const id = "01234567-89ab-4cde-8f01-23456789abcd"
	var log bytes.Buffer
	d, session := dispatching(t, &asked{answer: true}), offered{}
	d.serial, d.log = serial, zerolog.New(&log)
	names := protocol.DeviceTerminal(serial, id)
	offerResize(session, d)(terminal.Resize{
		URI: names.ResizeTopic, Device: true,
		Handle: func(context.Context, terminal.Caller, []any) error { return errors.New("not on " + names.DataTopic) },
	})
	session[names.ResizeTopic](t.Context(), by("3", "user"))
	if strings.Contains(log.String(), id) || strings.Count(log.String(), "01234567…") != 2 || !strings.Contains(log.String(), "term_resize") {
		t.Errorf("the log says %s", &log)
	}
}

func TestWhoHasAShellIsAskedForAgain(t *testing.T) {
	studio := &asked{answer: true}
	may := mayHave(dispatching(t, studio))
	for _, c := range []struct {
		by      terminal.Caller
		device  bool
		account uint64 // 0 = nobody is asked
		needs   protocol.Privilege
	}{
		{terminal.Caller{AuthID: "3", Role: "user"}, true, 3, protocol.Maintain},
		{terminal.Caller{AuthID: "3", Role: "user"}, false, 3, protocol.Develop},
		{terminal.Caller{AuthID: "system", Role: "system", Account: 5}, true, 5, protocol.Maintain},
		{terminal.Caller{AuthID: "system", Role: "system"}, true, 0, ""},
		{terminal.Caller{AuthID: "7", Role: "system"}, true, 0, ""},
	} {
		studio.times, studio.answer = 0, c.account == 0
		yes, err := may(t.Context(), c.by, c.device)
		if err != nil || yes != studio.answer || (studio.times == 1) != (c.account != 0) {
			t.Errorf("%+v: %v, %v, asked %d times", c.by, yes, err, studio.times)
		}
		if c.account != 0 && (studio.last.RequestorAccountKey != c.account || studio.last.Privilege != c.needs) {
			t.Errorf("%+v: asked for %+v", c.by, studio.last)
		}
	}
}

func TestShellsAreWrittenDownFromBeginToEnd(t *testing.T) {
	w := &entries{}
	note := noteShells(w)
	bridge := terminal.Caller{AuthID: "system", Role: "system", Account: 5}
	note(terminal.Notice{Session: "a", By: bridge, Container: "prod_6_web"})
	note(terminal.Notice{Session: "a", By: bridge, Container: "prod_6_web", Ended: true, Why: "stopped", Lasted: 1500e6})
	note(terminal.Notice{Session: "b", By: terminal.Caller{AuthID: "3", Role: "user"}})
	if len(w.list) != 3 || !w.synced[0] || w.synced[1] || !w.synced[2] {
		t.Fatalf("%+v, synced %v", w.list, w.synced)
	}
	begin, end, other := w.list[0], w.list[1], w.list[2]
	if begin.Procedure != "request_terminal_session" || begin.Target != "prod_6_web" || begin.Result != "started" || begin.SessionID != "a" ||
		begin.AuthID != "system" || begin.ForAccount == nil || *begin.ForAccount != 5 {
		t.Errorf("begin %+v", begin)
	}
	if end.Result != "ended" || end.DurationMS != 1500 || end.Args["why"] != "stopped" || end.SessionID != "a" {
		t.Errorf("end %+v", end)
	}
	if other.Procedure != "init_device_terminal" || other.ForAccount != nil || other.AuthID != "3" || other.AuthRole != "user" {
		t.Errorf("the device's %+v", other)
	}
}
