package cli

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"reagent/messenger"
	"reagent/protocol"
)

// A deviceQuestion is a command that asks a device.
type deviceQuestion struct {
	command, suffix string
	answer          any
	asked           string // its argument
	printed, told   string // printed may name a golden file
}

func (q deviceQuestion) check(t *testing.T) {
	t.Helper()
	d := logDesk(t)
	uri := protocol.Procedure("s1", q.suffix)
	d.studio.answers[uri] = give(q.answer)
	if err := d.run(t, strings.Fields(q.command)...); err != nil {
		t.Errorf("%s = %v", q.command, err)
		return
	}
	if in, _ := json.Marshal(d.studio.question(t, uri)); string(in) != q.asked {
		t.Errorf("%s asked %s, want %s", q.command, in, q.asked)
	}
	if strings.HasSuffix(q.printed, ".txt") {
		golden(t, q.printed, d.stdout.String())
	} else if got := d.stdout.String(); got != q.printed {
		t.Errorf("%s printed\n%s\nwant\n%s", q.command, got, q.printed)
	}
	if got := d.stderr.String(); !strings.Contains(got, q.told) || q.told == "" && got != "" {
		t.Errorf("%s told %q, want %q", q.command, got, q.told)
	}
	d = logDesk(t)
	d.studio.answers[uri] = give(q.answer)
	if err := d.run(t, append(strings.Fields(q.command), "--output", "json")...); err != nil {
		t.Errorf("%s --output json = %v", q.command, err)
	}
	var got, want any
	raw, _ := json.Marshal(q.answer)
	_ = json.Unmarshal(raw, &want)
	if err := json.Unmarshal([]byte(d.stdout.String()), &got); err != nil || !sameJSON(got, want) {
		t.Errorf("%s --output json = %s, want the device's answer %s", q.command, d.stdout.String(), raw)
	}
}

func sameJSON(a, b any) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

func TestTheLogOfADevice(t *testing.T) {
	lines := protocol.DeviceLogsAnswer{Lines: []string{"2026-05-04T11:00:00Z INFO  connected", "2026-05-04T11:00:01Z WARN \x1b[2Jsession lost: EOF"}, Returned: 2, FilesScanned: 1}
	cut := lines
	cut.Truncated = true
	const printed = "2026-05-04T11:00:00Z INFO  connected\n2026-05-04T11:00:01Z WARN  [2Jsession lost: EOF\n"
	for _, q := range []deviceQuestion{
		{"device logs press-07", protocol.QueryDeviceLogs, lines, `{}`, printed, ""},
		{"device logs press-07 --tail 2 --since 1h --until 2026-05-04T12:00:00Z --level WARN", protocol.QueryDeviceLogs, cut,
			`{"level":"warn","since":"1h","tail":2,"until":"2026-05-04T12:00:00Z"}`, printed, "older lines were left out"},
		{"device logs press-07 --level error", protocol.QueryDeviceLogs, protocol.DeviceLogsAnswer{Lines: []string{}}, `{"level":"error"}`, "", "no lines"},
	} {
		q.check(t)
	}
}

func TestTheAuditOfADevice(t *testing.T) {
	four := uint64(4)
	answer := protocol.AuditAnswer{Returned: 4, Truncated: true, Entries: []protocol.AuditEntry{
		{Seq: 7, Time: "2026-05-04T11:00:00Z", AuthID: "4", AuthRole: "user", Procedure: "run_command", Args: map[string]any{"argv": []any{"df", "-h"}, "detach": true, "timeout_ms": 3600000, "cwd": nil, "env": map[string]any{"B": "***", "A": "***"}, "id": "x"}, Result: protocol.AuditOK, DurationMS: 1200},
		{Seq: 8, Time: "then", AuthID: "", Procedure: "prune_images", Result: protocol.AuditRefused, Error: "insufficient privileges to prune\x1b images " + strings.Repeat("x", 100)},
		{Seq: 9, Time: "2026-05-04T11:00:00Z", AuthID: "system", AuthRole: "system", ForAccount: &four, Procedure: "request_app_state", Target: "prod_1_hello", Result: protocol.AuditOK},
		{Seq: 10, Time: "2026-05-04T11:00:00Z", AuthID: "4", AuthRole: "user", Procedure: "init_device_terminal", Result: protocol.AuditStarted, SessionID: "x"},
	}}
	for _, q := range []deviceQuestion{
		{"audit press-07", protocol.QueryAudit, answer, `{}`, "audit.txt", "older entries were left out: see them with --before 7"},
		{"audit press-07 --tail 3 --since 24h --until 1h --user 4 --procedure run_command --before 12", protocol.QueryAudit, protocol.AuditAnswer{Entries: []protocol.AuditEntry{}},
			`{"authid":"4","before_seq":12,"procedure":"run_command","since":"24h","tail":3,"until":"1h"}`, "no entries in this window\n", ""},
	} {
		q.check(t)
	}
}

func TestADeviceThatCannotAnswerIsExplained(t *testing.T) {
	const uri = "re.mgmt.s1.query_audit"
	for _, c := range []struct {
		claim  string
		change func(d *desk)
		want   string
	}{
		{"off-line", func(d *desk) { d.press(false) }, `press-07 is not on-line, and answers for itself when it is: see "reagent-studio device ls"`},
		{"gone since", func(d *desk) {
			d.studio.answers[uri] = func(map[string]any) (any, error) {
				d.press(false)
				return nil, &messenger.CallError{URI: protocol.ErrorNoSuchProcedure}
			}
		}, "press-07 is not on-line"},
		{"an agent without it", func(*desk) {}, "the agent of press-07 has no query_audit: it is older than this program, or another one"},
		{"gone meanwhile", func(d *desk) {
			d.studio.answers[uri] = func(map[string]any) (any, error) {
				return nil, &messenger.CallError{URI: protocol.ErrorContract, Args: []any{"callee gone"}}
			}
		}, "press-07 left before it had answered"},
		{"not allowed", func(d *desk) {
			d.studio.answers[uri] = refuse(protocol.CodeRefused, "insufficient privileges to query the audit")
		},
			`insufficient privileges to query the audit: somebody who may says "reagent-studio grant USER press-07 MAINTAIN"`},
		{"not allowed, in the contract's form", func(d *desk) {
			d.studio.answers[uri] = func(map[string]any) (any, error) {
				return nil, &messenger.CallError{URI: protocol.ErrorContract, Args: []any{map[string]any{"error": "insufficient privileges", "code": "not_authorized"}}}
			}
		}, `insufficient privileges: somebody who may says`},
		{"rubbish", func(d *desk) { d.studio.answers[uri] = give(map[string]any{"entries": 7}) }, "the answer of press-07 cannot be read"},
	} {
		d := logDesk(t)
		c.change(d)
		if err := d.run(t, "audit", "press-07"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.claim, err, c.want)
		}
	}
	for _, args := range []string{"audit press-07 --since yesterday", "device logs press-07 --level loud", "device logs press-07 --tail -1", "device logs"} {
		var usage *UsageError
		if err := logDesk(t).run(t, strings.Fields(args)...); !errors.As(err, &usage) {
			t.Errorf("%s = %v, want a UsageError", args, err)
		}
	}
}

func TestTheContainerOfAService(t *testing.T) {
	app := protocol.AppOnDeviceRow{DeviceName: "press-07", SerialNumber: "s1", AppKey: 4, AppName: "Shop", Stage: protocol.Prod, ContainerName: "prod_4_shop", Kind: protocol.KindCompose}
	one := func(name, project, service, state string) map[string]any {
		return map[string]any{"Names": []any{"/" + name}, "State": state, "Labels": map[string]any{labelProject: project, labelService: service}}
	}
	all := []any{
		one("prod_4_shop_compose-web-2", "prod_4_shop_compose", "web", "running"), one("prod_4_shop_compose-web-1", "prod_4_shop_compose", "web", "running"),
		one("prod_4_shop_compose-db-1", "prod_4_shop_compose", "db", "running"), one("prod_4_shop_compose-job-1", "prod_4_shop_compose", "job", "exited"),
		one("other-web-1", "other", "web", "running"), map[string]any{"Names": nil, "State": "running"},
	}
	single := app
	single.Kind = protocol.KindSingle
	for _, c := range []struct {
		claim, service string
		app            protocol.AppOnDeviceRow
		list           []any
		want, wrong    string
	}{
		{"an app of one", "", single, nil, "prod_4_shop", ""},
		{"a service of an app of one", "web", single, nil, "", "has no services"},
		{"a service", "web", app, all, "prod_4_shop_compose-web-1", ""},
		{"no service said", "", app, all, "", "choose one with --service (db, web)"},
		{"the only service", "", app, all[2:], "prod_4_shop_compose-db-1", ""},
		{"one that ended", "job", app, all, "", `no service "job"`},
		{"nothing runs", "web", app, all[3:], "", "Shop does not run on press-07"},
	} {
		d := newDesk(t)
		d.studio.answers["re.mgmt.s1.list_containers"] = give(c.list)
		call := &Call{Program: &d.Program, session: d.studio}
		got, err := containerOf(t.Context(), call, c.app, c.service)
		if got != c.want || (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("%s: %q, %v; want %q, %q", c.claim, got, err, c.want, c.wrong)
		}
	}
}
