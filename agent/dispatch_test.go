package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/messenger"
	"reagent/protocol"
)

// The contract's table of who may call what (wire §5.12), with the gates of its
// Appendix A.
var contractNeeds = map[string]protocol.Privilege{
	"wamp_connection_established": anybody,
	"device_handshake":            onlySystem,
	"request_app_state":           onlySystem,
	"check_host_port":             onlySystem,
	"write_data":                  protocol.Develop,
	"list_containers":             protocol.Read,
	"get_images":                  protocol.Read,
	"get_app_log_history":         protocol.Read,
	"query_app_logs":              protocol.Read,
	"query_device_logs":           protocol.Read,
	"get_agent_metadata":          protocol.Read,
	"get_storage_data":            protocol.Read,
	"get_network_metadata":        protocol.Read,
	"get_ipv4_addresses":          protocol.Read,
	"prune_images":                protocol.Maintain,
	"init_device_terminal":        protocol.Maintain,
	"request_terminal_session":    protocol.Develop,
	"start_terminal_session":      protocol.Develop,
	"stop_terminal_session":       protocol.Develop,
	"execute_cmd":                 protocol.Maintain,

	// extensions of ours
	"follow_app_logs": protocol.Read,
	"query_audit":     protocol.Maintain,
	"run_command":     protocol.Maintain,
	"stop_command":    protocol.Maintain,
}

func TestTableAsksForThePrivilegesOfTheContract(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range procedures(deps{}) {
		needs, known := contractNeeds[p.name]
		switch {
		case !known:
			t.Errorf("%s: not in the contract's table; add it there, or to extensions", p.name)
		case seen[p.name]:
			t.Errorf("%s: twice in the table", p.name)
		case p.needs != needs:
			t.Errorf("%s needs %q, want %q", p.name, p.needs, needs)
		case p.needs != anybody && !strings.HasPrefix(p.denial, "insufficient privileges"):
			t.Errorf("%s: denial %q, want the contract's words", p.name, p.denial)
		case p.handle == nil:
			t.Errorf("%s: nobody handles it", p.name)
		}
		seen[p.name] = true
	}
	if len(seen) != len(contractNeeds) {
		t.Errorf("%d procedures in the table, want %d", len(seen), len(contractNeeds))
	}
}

// asked is a studio that answers questions for privileges.
type asked struct {
	answer bool
	err    error
	hangs  bool
	last   protocol.PrivilegeQuestion
	times  int
}

func (a *asked) may(ctx context.Context, q protocol.PrivilegeQuestion) (bool, error) {
	a.last, a.times = q, a.times+1
	if a.hangs {
		<-ctx.Done()
		return false, ctx.Err()
	}
	return a.answer, a.err
}

func dispatching(t *testing.T, a *asked) *dispatcher {
	return &dispatcher{
		serial: "sn-1", log: zerolog.New(zerolog.NewTestWriter(t)),
		device: func() (uint64, uint64) { return 7, 42 }, may: a.may, audit: &entries{},
	}
}

func by(authid, role string) messenger.Invocation {
	return messenger.Invocation{Disclosed: authid != "", Caller: authid, CallerRole: role}
}

// text gives what a caller is told of an error, and its code; "" for a result.
func text(t *testing.T, o messenger.Outcome) (text, code string) {
	t.Helper()
	if o.Error == "" {
		return "", ""
	}
	d, ok := protocol.AsDict(protocol.Arg(o.Args, 0))
	text, _ = protocol.Text(d["error"])
	code, _ = protocol.Text(d["code"])
	if !ok || o.Error != "wamp.error.canceled" && o.Error != "re.error."+code || len(o.Args) != 1 {
		t.Fatalf("error %s %v, want the contract's or ours", o.Error, o.Args)
	}
	return text, code
}

func TestWhoMayCallWhat(t *testing.T) {
	const failing = "a user the studio fails for"
	yes := func() *asked { return &asked{answer: true} }
	acting := func(v any) messenger.Invocation {
		inv := by("system", "system")
		inv.Kwargs = map[string]any{"requestor_account_key": v}
		return inv
	}
	actingInArgs := func(v any) messenger.Invocation {
		inv := by("system", "system")
		inv.Args = []any{map[string]any{"requestor_account_key": v}}
		return inv
	}
	callers := []struct {
		name    string
		inv     messenger.Invocation
		studio  func() *asked
		account uint64 // for which the studio is asked; 0 = it is not
		// may call: what takes a privilege of users, what only the system may
		user, system bool
	}{
		{"the system", by("system", "system"), yes, 0, true, true},
		{"the system on a router without roles", by("system", ""), yes, 0, true, true},
		{"another backend of that role", by("backend-2", "system"), yes, 0, true, true},
		{"a user who calls himself system", by("system", "user"), yes, 0, false, false},
		{"a user with the privilege", by("3", "user"), yes, 3, true, false},
		{"a user without it", by("3", "user"), func() *asked { return &asked{} }, 3, false, false},
		{failing, by("3", "user"), func() *asked { return &asked{answer: true, err: errors.New("database is gone")} }, 3, false, false},
		{"nobody disclosed", by("", ""), yes, 0, false, false},
		{"undisclosed, with a role", messenger.Invocation{CallerRole: "system", Caller: "system"}, yes, 0, false, false},
		{"another device", by("7-43", "device"), yes, 0, false, false},
		{"an app", by("app-prod-6-1@sn-1", "app"), yes, 0, false, false},
		{"a name that is no number", by("<nil>", "user"), yes, 0, false, false},
		{"a negative number", by("-3", "user"), yes, 0, false, false},
		{"account 0", by("0", "user"), yes, 0, false, false},
		{"the system for a user", acting(5), yes, 5, true, false},
		{"the system for a user, as text", acting("5"), yes, 5, true, false},
		{"the system for a user, in args", actingInArgs(5.0), yes, 5, true, false},
		{"the system for a user without it", acting(5), func() *asked { return &asked{} }, 5, false, false},
		{"the system for account 0", acting(0), yes, 0, false, false},
		{"the system for text", acting("abc"), yes, 0, false, false},
		{"the system for empty text", acting(""), yes, 0, false, false},
		{"the system for a fraction", acting(1.5), yes, 0, false, false},
		{"the system for true", acting(true), yes, 0, false, false},
		{"the system for null", acting(nil), yes, 0, false, false},
		{"the system for a list", actingInArgs([]any{}), yes, 0, false, false},
	}
	for _, c := range callers {
		t.Run(c.name, func(t *testing.T) {
			for _, p := range procedures(deps{}) {
				called := false
				p.handle = func(_ context.Context, call Call) (Result, error) {
					called = true
					if call.Caller.Account != c.account && !p.itself && p.needs != anybody {
						t.Errorf("%s: called for account %d, want %d", p.name, call.Caller.Account, c.account)
					}
					return Result{}, nil
				}
				studio := c.studio()
				got, code := text(t, dispatching(t, studio).handler(p)(t.Context(), c.inv))

				want := p.needs == anybody || p.needs == onlySystem && c.system || p.needs != onlySystem && c.user
				if p.itself { // requestor_account_key is the wish's
					want = protocol.IsSystem(c.inv.Caller, c.inv.CallerRole) && c.inv.Disclosed
				}
				denial := p.denial
				if c.name == failing && strings.HasPrefix(p.name, "query_") && !p.ours {
					denial = "could not verify privileges: database is gone"
				}
				switch {
				case called != want:
					t.Errorf("%s: called %v, want %v (%s)", p.name, called, want, got)
				case !want && (!strings.HasPrefix(got, denial) || code != "not_authorized"):
					t.Errorf("%s: error %q (%s), want %q", p.name, got, code, denial)
				case want && got != "":
					t.Errorf("%s: allowed, and answered %q", p.name, got)
				}
				if p.needs == anybody || p.needs == onlySystem {
					if studio.times != 0 {
						t.Errorf("%s: the studio was asked for %q", p.name, studio.last.Privilege)
					}
					continue
				}
				if (studio.times == 1) != (c.account != 0) {
					t.Errorf("%s: the studio was asked %d times for account %d", p.name, studio.times, c.account)
				}
				if c.account == 0 {
					continue
				}
				q := protocol.PrivilegeQuestion{Privilege: p.needs, Entity: "DEVICE", EntityKey: 42, RequestorAccountKey: c.account, SwarmKey: 7}
				if studio.last != q {
					t.Errorf("%s: question %+v, want %+v", p.name, studio.last, q)
				}
			}
		})
	}
}

func TestStudioThatHangsIsANo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := procedure{name: "x", needs: protocol.Read, denial: "insufficient privileges to x", handle: func(context.Context, Call) (Result, error) {
			t.Error("called without an answer")
			return Result{}, nil
		}}
		begun := time.Now()
		got, code := text(t, dispatching(t, &asked{hangs: true}).handler(p)(t.Context(), by("3", "user")))
		if took := time.Since(begun); took != 10*time.Second {
			t.Errorf("refused after %v, want 10 s", took)
		}
		if got != "insufficient privileges to x: context deadline exceeded" || code != "not_authorized" {
			t.Errorf("error %q (%s)", got, code)
		}
	})
}

func TestErrorsHaveACodeAndAText(t *testing.T) {
	for _, c := range []struct {
		err        error
		text, code string
	}{
		{&protocol.Error{Code: protocol.CodeInvalid, Text: "missing from payload app_key"}, "missing from payload app_key", "invalid_argument"},
		{fmt.Errorf("request: %w", &protocol.Error{Code: protocol.CodeConflict, Text: "x"}), "request: x", "conflict"},
		{fmt.Errorf("list: %w", container.ErrUnavailable), "list: " + container.ErrUnavailable.Error(), "unavailable"},
		{fmt.Errorf("list: %w", container.ErrTimeout), "list: " + container.ErrTimeout.Error(), "timeout"},
		{fmt.Errorf("read: %w", container.ErrNotFound), "read: " + container.ErrNotFound.Error(), "not_found"},
		{fmt.Errorf("ask: %w", messenger.ErrOffline), "ask: " + messenger.ErrOffline.Error(), "unavailable"},
		{context.DeadlineExceeded, "context deadline exceeded", "timeout"},
		{errors.New("anything"), "anything", "internal"},
	} {
		p := procedure{name: "x", handle: func(context.Context, Call) (Result, error) { return Result{Args: []any{"partial"}}, c.err }}
		gotText, gotCode := text(t, dispatching(t, &asked{}).handler(p)(t.Context(), by("3", "user")))
		if gotText != c.text || gotCode != c.code {
			t.Errorf("%v: %q (%s), want %q (%s)", c.err, gotText, gotCode, c.text, c.code)
		}
	}
}

func TestErrorsOfOurOwnProceduresHaveTheirCodeAsURI(t *testing.T) {
	for _, c := range []struct {
		err       error
		uri, code string
	}{
		{&protocol.Error{Code: protocol.CodeDisabled, Text: "x"}, "re.error.disabled_by_policy", "disabled_by_policy"},
		{fmt.Errorf("run: %w", &protocol.Error{Code: protocol.CodeNotFound, Text: "x"}), "re.error.not_found", "not_found"},
		{errors.New("anything"), "re.error.internal", "internal"},
		{nil, "re.error.not_authorized", "not_authorized"}, // the handler is not reached
	} {
		p := procedure{name: "x", needs: protocol.Maintain, denial: denied + " to x", ours: true, handle: func(context.Context, Call) (Result, error) { return Result{}, c.err }}
		o := dispatching(t, &asked{answer: c.err != nil}).handler(p)(t.Context(), by("3", "user"))
		d, _ := protocol.AsDict(protocol.Arg(o.Args, 0))
		if o.Error != c.uri || d["code"] != c.code || d["error"] == "" {
			t.Errorf("%v: %s %v, want %s", c.err, o.Error, o.Args, c.uri)
		}
	}
}

func TestAPrivilegeMayDependOnAnArgument(t *testing.T) {
	p := procedure{
		name: "x", needs: protocol.Maintain, unless: exception{"container_name", protocol.Develop}, denial: denied,
		handle: func(context.Context, Call) (Result, error) { return Result{}, nil },
	}
	for name, c := range map[string]struct {
		args []any
		want protocol.Privilege
	}{
		"none":           {nil, protocol.Maintain},
		"empty dict":     {[]any{map[string]any{}}, protocol.Maintain},
		"empty text":     {[]any{map[string]any{"container_name": ""}}, protocol.Maintain},
		"null":           {[]any{map[string]any{"container_name": nil}}, protocol.Maintain},
		"a number":       {[]any{map[string]any{"container_name": 1}}, protocol.Maintain},
		"a list":         {[]any{map[string]any{"container_name": []any{"a"}}}, protocol.Maintain},
		"in the second":  {[]any{nil, map[string]any{"container_name": "a"}}, protocol.Maintain},
		"a text":         {[]any{map[string]any{"container_name": "a"}}, protocol.Develop},
		"in other's map": {[]any{map[any]any{"container_name": "a"}}, protocol.Develop},
		"a key in caps":  {[]any{map[string]any{"Container_Name": "a"}}, protocol.Maintain},
	} {
		studio := &asked{answer: true}
		inv := by("3", "user")
		inv.Args, inv.Kwargs = c.args, map[string]any{"container_name": "a"}
		dispatching(t, studio).handler(p)(t.Context(), inv)
		if studio.last.Privilege != c.want {
			t.Errorf("%s: the studio was asked for %q, want %q", name, studio.last.Privilege, c.want)
		}
	}
}

// maybe is an argument that may be missing.
type maybe struct {
	N protocol.Number `json:"n"`
}

func (*maybe) Optional() {}

func TestAnOptionalArgumentMayBeMissing(t *testing.T) {
	h := typed(func(_ context.Context, in maybe) (uint64, error) { return uint64(in.N), nil })
	for name, c := range map[string]struct {
		args []any
		want string
	}{
		"missing": {nil, "[0]"}, "null": {[]any{nil}, "[0]"}, "empty": {[]any{map[string]any{}}, "[0]"},
		"given": {[]any{map[string]any{"n": 7}}, "[7]"}, "a list": {[]any{[]any{}}, "first param should be a dict"}, "a text": {[]any{"x"}, "first param should be a dict"},
	} {
		r, err := h(t.Context(), Call{Args: c.args})
		got := fmt.Sprint(r.Args)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

func TestCancelledCallIsAnsweredWithoutArguments(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p := procedure{name: "x", handle: func(ctx context.Context, _ Call) (Result, error) {
		cancel()
		return Result{}, fmt.Errorf("wait: %w", ctx.Err())
	}}
	o := dispatching(t, &asked{}).handler(p)(ctx, by("3", "user"))
	if o.Error != "wamp.error.canceled" || len(o.Args) != 0 {
		t.Errorf("outcome %+v, want the bare error", o)
	}
}

func TestPanicIsAnAnswerAndTheNextCallWorks(t *testing.T) {
	var logged strings.Builder
	d := dispatching(t, &asked{})
	d.log = zerolog.New(&logged)
	angry := true
	h := d.handler(procedure{name: "x", handle: func(_ context.Context, c Call) (Result, error) {
		if angry {
			_ = c.Args[5]
		}
		return Result{Args: []any{"fine"}}, nil
	}})
	if got, code := text(t, h(t.Context(), by("3", "user"))); got != "internal error" || code != "internal" {
		t.Errorf("error %q (%s), want an internal one", got, code)
	}
	if !strings.Contains(logged.String(), "dispatch_test.go") {
		t.Errorf("the log has no stack: %s", logged.String())
	}
	angry = false
	if o := h(t.Context(), by("3", "user")); o.Error != "" || !slices.Equal(o.Args, []any{"fine"}) {
		t.Errorf("outcome %+v, want a result", o)
	}
}

func TestEachCallIsOneLogLine(t *testing.T) {
	var logged strings.Builder
	d := dispatching(t, &asked{answer: true})
	d.log = zerolog.New(&logged)
	p := procedure{name: "list_containers", needs: protocol.Read, denial: denied, handle: func(context.Context, Call) (Result, error) { return Result{}, nil }}
	d.handler(p)(t.Context(), by("3", "user"))
	d.handler(p)(t.Context(), by(strings.Repeat("x", 1<<20), "user"))
	lines := strings.Split(strings.TrimSpace(logged.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[0], `"procedure":"list_containers","caller":"3","role":"user","account":3`) {
		t.Errorf("%d lines, the first %s", len(lines), lines[0])
	}
	if len(logged.String()) > 2000 {
		t.Errorf("a caller's long name makes a log of %d bytes", len(logged.String()))
	}
}

func TestTypedReadsOneObject(t *testing.T) {
	type in struct {
		N protocol.Number `json:"n"`
		B bool            `json:"b"`
	}
	h := typed(func(_ context.Context, in in) (map[string]any, error) {
		return map[string]any{"n": uint64(in.N), "b": in.B}, nil
	})
	for name, c := range map[string]struct {
		args []any
		want string
	}{
		"missing":      {nil, "arguments are missing"},
		"empty":        {[]any{}, "arguments are missing"},
		"null":         {[]any{nil}, "first param should be a dict"},
		"text":         {[]any{"x"}, "first param should be a dict"},
		"list":         {[]any{[]any{1}}, "first param should be a dict"},
		"wrong type":   {[]any{map[string]any{"b": 1}}, "b: number is not allowed there"},
		"huge number":  {[]any{map[string]any{"n": 1e300}}, "the value is of the wrong form: 1e+300 is not a whole, non-negative number"},
		"good":         {[]any{map[string]any{"n": "7", "b": true}}, ""},
		"other's maps": {[]any{map[any]any{"n": int8(7), "b": true}}, ""},
	} {
		r, err := h(t.Context(), Call{Args: c.args, Kwargs: map[string]any{"x": 1}})
		switch {
		case c.want != "" && (err == nil || err.Error() != c.want):
			t.Errorf("%s: error %v, want %q", name, err, c.want)
		case c.want == "" && (err != nil || fmt.Sprint(r.Args) != "[map[b:true n:7]]"):
			t.Errorf("%s: %v, %v", name, r.Args, err)
		}
	}
}
