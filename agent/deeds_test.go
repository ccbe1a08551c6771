package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"reagent/agent/audit"
	"reagent/messenger"
	"reagent/persistence/journal"
	"reagent/protocol"
)

// entries is an audit that keeps what it is told.
type entries struct {
	mu     sync.Mutex
	list   []protocol.AuditEntry
	synced []bool
}

func (e *entries) Record(entry protocol.AuditEntry, synced bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list, e.synced = append(e.list, entry), append(e.synced, synced)
}

// reading are the procedures that change nothing. Whoever adds a procedure gives
// it a deed, or a line here.
var reading = map[string]bool{
	"wamp_connection_established": true,
	"device_handshake":            true,
	"check_host_port":             true,
	"list_containers":             true,
	"get_images":                  true,
	"get_app_log_history":         true,
	"query_app_logs":              true,
	"query_device_logs":           true,
	"get_agent_metadata":          true,
	"get_storage_data":            true,
	"get_network_metadata":        true,
	"get_ipv4_addresses":          true,
	"query_audit":                 true,
	"follow_app_logs":             true,
}

func TestEachProcedureIsWrittenDownOrOnlyReads(t *testing.T) {
	for _, p := range procedures(deps{}) {
		if (p.deed != nil) == reading[p.name] {
			t.Errorf("%s: has a deed: %v, only reads: %v; want one of them", p.name, p.deed != nil, reading[p.name])
		}
		for _, result := range []struct {
			err  error
			want string
		}{
			{&protocol.Error{Code: protocol.CodeRefused, Text: denied}, protocol.AuditRefused},
			{errors.New("it broke"), protocol.AuditError},
		} {
			kept := &entries{}
			d := dispatching(t, &asked{answer: true})
			d.audit = kept
			p.handle = func(context.Context, Call) (Result, error) { return Result{}, result.err }
			inv := by("system", "system")
			inv.Args = []any{"BEGIN"}
			d.handler(p)(t.Context(), inv)
			d.handler(p)(t.Context(), by("anybody", "app")) // refused by the table itself
			want := []string{result.want, protocol.AuditRefused}
			if p.deed == nil {
				want = nil
			}
			var got []string
			for _, e := range kept.list {
				if e.Procedure != p.name || e.Error == "" || e.Args == nil {
					t.Errorf("%s: entry %+v", p.name, e)
				}
				got = append(got, e.Result)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s: entries %q; want %q", p.name, got, want)
			}
		}
	}
}

func TestAnEntrySaysWhoDidWhatForWhomAndHowItWent(t *testing.T) {
	three, five := uint64(3), uint64(5)
	for name, c := range map[string]struct {
		procedure string
		inv       messenger.Invocation
		err       error
		want      *protocol.AuditEntry // nil = none
		synced    bool
	}{
		"a wish": {"request_app_state", messenger.Invocation{Disclosed: true, Caller: "system", CallerRole: "system", Kwargs: map[string]any{
			"app_key": 6, "app_name": "Web", "stage": "PROD", "target_state": "RUNNING", "requestor_account_key": 3,
			"environment":        map[string]any{"PASSPHRASE": map[string]any{"value": "x"}, "PORT": map[string]any{"value": 1}},
			"docker_credentials": map[string]any{"reg": map[string]any{"password": "x"}}, "anything": "x",
		}}, nil, &protocol.AuditEntry{AuthID: "system", AuthRole: "system", ForAccount: &three, Procedure: "request_app_state", Target: "prod_6_web", Result: "ok", Args: map[string]any{
			"app_key": 6, "app_name": "Web", "stage": "PROD", "target_state": "RUNNING",
			"environment": map[string]any{"PASSPHRASE": "***", "PORT": "***"},
		}}, false},
		"a wish of a stranger": {"request_app_state", by("3", "user"), nil,
			&protocol.AuditEntry{AuthID: "3", AuthRole: "user", Procedure: "request_app_state", Result: "refused", Error: "insufficient privileges", Args: map[string]any{}}, false},
		"by nobody": {"prune_images", messenger.Invocation{Caller: "x", CallerRole: "y"}, nil,
			&protocol.AuditEntry{Procedure: "prune_images", Result: "refused", Error: "insufficient privileges to prune images: the router does not tell who calls", Args: map[string]any{}}, false},
		"for somebody": {"prune_images", messenger.Invocation{Disclosed: true, Caller: "system", CallerRole: "system",
			Args: []any{map[string]any{"all": true, "requestor_account_key": 5}}}, nil,
			&protocol.AuditEntry{AuthID: "system", AuthRole: "system", ForAccount: &five, Procedure: "prune_images", Result: "ok", Args: map[string]any{"all": true}}, true},
		"in vain": {"prune_images", by("3", "user"), errors.New("the engine is away"),
			&protocol.AuditEntry{AuthID: "3", AuthRole: "user", Procedure: "prune_images", Result: "error", Error: "the engine is away", Args: map[string]any{}}, true},
		"against the policy": {"prune_images", by("3", "user"), &protocol.Error{Code: protocol.CodeDisabled, Text: "policy.x"},
			&protocol.AuditEntry{AuthID: "3", AuthRole: "user", Procedure: "prune_images", Result: "refused", Error: "policy.x", Args: map[string]any{}}, false},
		"an upload": {"write_data", messenger.Invocation{Disclosed: true, Caller: "3", CallerRole: "user", Args: []any{"BEGIN", "a.tgz", "dev_6_web", 3, "t"}}, nil,
			&protocol.AuditEntry{AuthID: "3", AuthRole: "user", Procedure: "write_data", Target: "dev_6_web", Result: "ok",
				Args: map[string]any{"phase": "BEGIN", "name": "a.tgz", "total": 3, "id": "t"}}, false},
		"a piece of it": {"write_data", messenger.Invocation{Disclosed: true, Caller: "3", CallerRole: "user", Args: []any{"00ff", "a.tgz", "dev_6_web", 3, "t"}}, nil, nil, false},
		"a piece that is refused": {"write_data", messenger.Invocation{Disclosed: true, Caller: "app", CallerRole: "app", Args: []any{"00ff", "a.tgz"}}, nil,
			&protocol.AuditEntry{AuthID: "app", AuthRole: "app", Procedure: "write_data", Result: "refused", Error: `insufficient privileges write data to device: the caller "app" is no account`,
				Args: map[string]any{"phase": "data", "name": "a.tgz", "total": nil, "id": nil}}, false},
	} {
		for _, p := range procedures(deps{}) {
			if p.name != c.procedure {
				continue
			}
			kept := &entries{}
			d := dispatching(t, &asked{answer: true})
			d.audit = kept
			p.handle = func(context.Context, Call) (Result, error) { return Result{}, c.err }
			d.handler(p)(t.Context(), c.inv)
			for i := range kept.list {
				kept.list[i].DurationMS = 0 // a busy machine takes its time
			}
			switch {
			case c.want == nil && len(kept.list) == 0:
			case c.want == nil || len(kept.list) != 1 || !reflect.DeepEqual(kept.list[0], *c.want):
				t.Errorf("%s: entries %+v; want %+v", name, kept.list, c.want)
			case kept.synced[0] != c.synced:
				t.Errorf("%s: synced %v; want %v", name, kept.synced[0], c.synced)
			}
		}
	}
}

func TestADeedThatMayEndTheAgentIsAnnounced(t *testing.T) {
	kept := &entries{}
	d := dispatching(t, &asked{answer: true})
	d.audit = kept
	p := procedure{name: "x", needs: protocol.Maintain, denial: denied, deed: &deed{announced: true, synced: true, shows: []string{"argv"}}}
	p.handle = func(_ context.Context, c Call) (Result, error) {
		c.Begins()
		if len(kept.list) != 1 || kept.list[0].Result != protocol.AuditStarted || !kept.synced[0] {
			t.Errorf("while it is done: entries %+v; want its start on the disk", kept.list)
		}
		return Result{}, nil
	}
	d.handler(p)(t.Context(), by("3", "user"))
	if len(kept.list) != 2 || kept.list[1].Result != protocol.AuditOK {
		t.Errorf("afterwards: entries %+v; want a second one", kept.list)
	}
	d.handler(p)(t.Context(), by("app", "app"))
	if len(kept.list) != 3 || kept.list[2].Result != protocol.AuditRefused {
		t.Errorf("refused: entries %+v; want the refusal alone", kept.list)
	}
}

func TestWhoTellsItsOwnEntriesIsNotToldTwice(t *testing.T) {
	kept := &entries{}
	d := dispatching(t, &asked{answer: true})
	d.audit = kept
	var fails error
	p := procedure{name: "x", needs: protocol.Develop, denial: denied, deed: &deed{told: true}}
	p.handle = func(context.Context, Call) (Result, error) { return Result{}, fails }
	d.handler(p)(t.Context(), by("3", "user"))
	if len(kept.list) != 0 {
		t.Errorf("entries %+v; want none for what went well", kept.list)
	}
	fails = errors.New("no shell")
	d.handler(p)(t.Context(), by("3", "user"))
	if len(kept.list) != 1 || kept.list[0].Result != protocol.AuditError {
		t.Errorf("entries %+v; want the error", kept.list)
	}
}

// A real device over a real router: what was done is read back, the caller who
// may not read it gets nothing, and no secret is in a file.
func TestTheAuditIsAnsweredToThoseWhoMay(t *testing.T) {
	const secret = "s3cr3t-of-the-wish"
	for _, serialization := range serializations {
		t.Run(serialization, func(t *testing.T) {
			f := &fixed{}
			system, url := serving(t, serialization, f.deps())
			user := session(t, url, "3", serialization, nil)
			if _, err := system.Call(t.Context(), protocol.Procedure(serial, "request_app_state"), nil, map[string]any{
				"app_key": 6, "app_name": "web", "stage": "PROD", "target_state": "RUNNING",
				"environment":        map[string]any{"DB_PASSWORD": map[string]any{"value": secret}},
				"docker_credentials": map[string]any{"registry.example": map[string]any{"username": "u", "password": secret}},
			}); err != nil {
				t.Fatal(err)
			}
			if _, err := user.Call(t.Context(), protocol.Procedure(serial, "prune_images"), []any{map[string]any{"all": true}}, nil); err == nil {
				t.Fatal("a user without the privilege prunes")
			}
			_, err := user.Call(t.Context(), protocol.Procedure(serial, "query_audit"), nil, nil)
			var refused *messenger.CallError
			if !errors.As(err, &refused) || refused.URI != "re.error.not_authorized" {
				t.Errorf("a user without the privilege: %v; want a refusal", err)
			}
			for _, args := range [][]any{nil, {nil}, {map[string]any{}}, {map[string]any{"tail": 5, "since": "1h", "before_seq": "100"}}} {
				r, err := system.Call(t.Context(), protocol.Procedure(serial, "query_audit"), args, nil)
				if err != nil {
					t.Fatalf("%v: %v", args, err)
				}
				var got protocol.AuditAnswer
				if err := protocol.Decode(protocol.Arg(r.Args, 0), &got); err != nil {
					t.Fatal(err)
				}
				if got.Returned != 2 || got.Truncated || len(got.Entries) != 2 || got.OldestAvailable != got.Entries[0].Time || got.DeviceTime == "" {
					t.Fatalf("%v: answer %+v; want two entries", args, got)
				}
				first, second := got.Entries[0], got.Entries[1]
				if first.Seq != 1 || first.Target != "prod_6_web" || first.Result != "ok" || first.AuthID != "system" ||
					second.Seq != 2 || second.Procedure != "prune_images" || second.Result != "refused" || second.AuthID != "3" || second.ForAccount != nil {
					t.Errorf("%v: entries %+v", args, got.Entries)
				}
				if text, _ := json.Marshal(r.Args); strings.Contains(string(text), secret) || !strings.Contains(string(text), `"DB_PASSWORD":"***"`) {
					t.Errorf("the answer shows a secret, or not its name: %s", text)
				}
			}
			for _, bad := range []any{"x", []any{}, map[string]any{"tail": -1}, map[string]any{"since": 5}, map[string]any{"authid": 5}, map[string]any{"before_seq": "x"}} {
				_, err := system.Call(t.Context(), protocol.Procedure(serial, "query_audit"), []any{bad}, nil)
				if !errors.As(err, &refused) || refused.URI != "re.error.invalid_argument" {
					t.Errorf("%v: %v; want an error of ours", bad, err)
				}
			}
		})
	}
}

func FuzzQueryAudit(f *testing.F) {
	for _, seed := range []string{`{}`, `{"tail":5,"before_seq":"7","since":"1h","until":1,"authid":"system","procedure":"x"}`, `[]`, `{"tail":1e300}`, `{"since":null,"until":"2026-11-21T10:00:00.5Z"}`} {
		f.Add([]byte(seed))
	}
	log := newTrail(f, f.TempDir())
	for n := range 20 {
		log.Record(protocol.AuditEntry{AuthID: fmt.Sprint(n % 3), Procedure: "x", Result: "ok"}, false)
	}
	handle := typed(queryAudit(log))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var arg any
		if json.Unmarshal(raw, &arg) != nil {
			t.Skip()
		}
		r, err := handle(t.Context(), Call{Args: []any{arg}})
		var told *protocol.Error
		if err != nil {
			if !errors.As(err, &told) || told.Code != protocol.CodeInvalid {
				t.Errorf("%s: %v; want an error that names the argument", raw, err)
			}
			return
		}
		answer, _ := protocol.AsDict(r.Args[0])
		if list, ok := protocol.AsList(answer["entries"]); !ok || len(list) > 20 {
			t.Errorf("%s: answer %v", raw, answer)
		}
	})
}

func TestNoSecretOfACallIsInTheAuditsFiles(t *testing.T) {
	const secret = "s3cr3t"
	dir := t.TempDir()
	d := dispatching(t, &asked{answer: true})
	d.audit = newTrail(t, dir)
	for _, p := range procedures(deps{}) {
		p.handle = func(context.Context, Call) (Result, error) {
			return Result{}, errors.New("login with password=" + secret + " failed")
		}
		inv := by("system", "system")
		inv.Kwargs = map[string]any{
			"app_key": 6, "app_name": "web", "stage": "PROD", "target_state": "RUNNING",
			"environment": map[string]any{"A": map[string]any{"value": secret}}, "docker_credentials": map[string]any{"r": map[string]any{"password": secret}},
			"password": secret, "token": secret,
		}
		inv.Args = []any{map[string]any{
			"id": "x", "env": map[string]any{"A": secret}, "password": secret, "argv": []any{"mysql", "--password", secret, "--token=" + secret},
			"shell": "DB_PASSWORD='" + secret + "' curl https://me:" + secret + "@example.com", "cmd": "x", "args": []any{"--secret", secret},
			"environment": map[string]any{"A": secret}, "containerName": "prod_6_web",
		}}
		d.handler(p)(t.Context(), inv)
	}
	found := 0
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		found++
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), secret) {
			t.Errorf("%s shows a secret: %q", path, content)
		}
		return err
	})
	if err != nil || found == 0 {
		t.Errorf("%d files, %v; want the audit's", found, err)
	}
}

func newTrail(t testing.TB, dir string) *audit.Log {
	return audit.New(audit.Config{
		Journal: journal.Open(journal.Config{Dir: dir, Log: zerolog.New(zerolog.NewTestWriter(t))}),
		Log:     zerolog.New(zerolog.NewTestWriter(t)),
	})
}
