package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/agent/logs"
	"reagent/container"
	"reagent/messenger"
	"reagent/persistence/journal"
	"reagent/protocol"
)

// noContainers is an engine of which nothing is wanted.
type noContainers struct{}

func (noContainers) Sources(context.Context, string) ([]container.LogSource, error) {
	return nil, container.ErrNotFound
}

func (noContainers) Logs(context.Context, string, container.LogOptions, func(string, []byte)) error {
	return container.ErrNotFound
}

// followable are logs of one app, of which the agent has said something.
func followable(t testing.TB, said ...string) *logs.Logs {
	t.Helper()
	l := logs.New(logs.Config{
		Serial: serial, Engine: noContainers{}, Journal: journal.Open(journal.Config{Dir: t.TempDir()}), Log: zerolog.Nop(),
		Installed: func(cn string) bool { return cn == "prod_6_web" },
	})
	for _, text := range said {
		l.Agent("prod_6_web", text)
	}
	return l
}

// What goes over a real router, in each form.
func TestALogIsFollowedByThoseWhoMay(t *testing.T) {
	for _, serialization := range serializations {
		t.Run(serialization, func(t *testing.T) {
			d := (&fixed{}).deps()
			d.follow = followable(t, "Starting web...", "bad \xff\x00 bytes")
			system, url := serving(t, serialization, d)
			uri := protocol.Procedure(serial, protocol.FollowAppLogs)
			args := map[string]any{"container_name": "prod_6_web", "from": "oldest", "wait_ms": 0}
			var records []protocol.LogRecord
			take := func(r messenger.Result) {
				var one protocol.LogRecord
				if err := protocol.Decode(protocol.Arg(r.Args, 0), &one); err != nil {
					t.Error(err)
				}
				records = append(records, one)
			}
			r, err := system.CallProgress(t.Context(), uri, []any{args}, nil, take)
			if err != nil {
				t.Fatal(err)
			}
			var end, whole protocol.LogRecord
			if err := protocol.Decode(protocol.Arg(r.Args, 0), &end); err != nil {
				t.Fatal(err)
			}
			if end.Type != "end" || end.Reason != "wait" || end.DeviceTime == "" || end.Records != nil {
				t.Errorf("it ends with %+v", end)
			}
			if r, err = system.Call(t.Context(), uri, []any{args}, nil); err != nil {
				t.Fatal(err)
			}
			if err := protocol.Decode(protocol.Arg(r.Args, 0), &whole); err != nil {
				t.Fatal(err)
			}
			for how, got := range map[string][]protocol.LogRecord{"ahead": records, "in the answer": whole.Records} {
				if len(got) != 1 || got[0].Cursor != end.Cursor || len(got[0].Lines) != 2 {
					t.Fatalf("%s: %+v, want two lines up to %s", how, got, end.Cursor)
				}
				for i, want := range []string{"Starting web...", "bad \ufffd\x00 bytes"} {
					line := got[0].Lines[i]
					if line.Seq != uint64(i+1) || line.Text != want || line.Stream != "agent" || line.Service != "" {
						t.Errorf("%s: line %+v, want %d %q", how, line, i+1, want)
					}
					if at, err := time.Parse(time.RFC3339Nano, line.Time); err != nil || time.Since(at) > time.Hour {
						t.Errorf("%s: at %q", how, line.Time)
					}
				}
			}

			user := session(t, url, "3", serialization, nil)
			if _, err := user.Call(t.Context(), uri, []any{args}, nil); err != nil {
				t.Errorf("a user who may read: %v", err)
			}
			_, err = system.CallProgress(t.Context(), uri, []any{args}, map[string]any{"requestor_account_key": 4}, func(r messenger.Result) {
				t.Errorf("a user without the privilege gets %v", r)
			})
			for _, c := range []struct {
				err  error
				code string
				text string
			}{
				{err, "re.error.not_authorized", ""},
				{callError(t, system, uri, map[string]any{"container_name": "prod_7_other"}), "re.error.not_found", "container not found"},
				{callError(t, system, uri, map[string]any{"container_name": "prod_6_web", "cursor": "a b"}), "re.error.invalid_argument", "invalid cursor"},
				{callError(t, system, uri, map[string]any{"container_name": "../etc"}), "re.error.invalid_argument", ""},
			} {
				var told *messenger.CallError
				if !errors.As(c.err, &told) || told.URI != c.code {
					t.Errorf("%v, want %s", c.err, c.code)
					continue
				}
				d, _ := protocol.AsDict(protocol.Arg(told.Args, 0))
				if text, _ := protocol.Text(d["error"]); c.text != "" && text != c.text {
					t.Errorf("the text is %q, want %q", text, c.text)
				}
			}
		})
	}
}

func callError(t *testing.T, s *messenger.Session, uri string, args map[string]any) error {
	t.Helper()
	r, err := s.Call(t.Context(), uri, []any{args}, nil)
	if err == nil {
		t.Errorf("%v is answered %v", args, r)
	}
	return err
}

func FuzzFollowAppLogs(f *testing.F) {
	for _, seed := range []string{
		`{"container_name":"prod_6_web"}`, `{"container_name":"prod_6_web","from":"oldest","max_bytes":1}`, `[]`, `"x"`, `{}`,
		`{"container_name":"prod_6_web","cursor":"a.1","from":5}`, `{"container_name":"prod_6_web","from":"1h","max_bytes":"7"}`,
		`{"container_name":"prod_6_web","cursor":"0123456789ab.18446744073709551615.x","max_bytes":1e300}`,
		`{"container_name":"/prod_6_web","from":null,"wait_ms":-1}`,
	} {
		f.Add([]byte(seed))
	}
	handle := followAppLogs(followable(f, "one", "two", "three"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var arg any
		if json.Unmarshal(raw, &arg) != nil {
			t.Skip()
		}
		if d, ok := protocol.AsDict(arg); ok && arg != nil && d != nil {
			if n, ok := protocol.Uint(d["wait_ms"]); ok && n > 0 || d["wait_ms"] == nil {
				d["wait_ms"] = 0 // it would wait
			}
		}
		for _, progress := range []func(context.Context, ...any) error{nil, func(context.Context, ...any) error { return nil }} {
			r, err := handle(t.Context(), Call{Args: []any{arg}, Progress: progress})
			var told *protocol.Error
			switch {
			case err == nil:
				if d, _ := protocol.AsDict(r.Args[0]); d["type"] != "end" || fmt.Sprint(d["cursor"]) == "" {
					t.Errorf("%s: answer %v", raw, d)
				}
			case !errors.As(err, &told):
				t.Errorf("%s: %v; want an error with a code", raw, err)
			}
		}
	})
}
