package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/agent/commands"
	"reagent/container"
	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
)

// runner makes a device's commands that run until the test ends.
func runner(t testing.TB, allowed bool, change ...func(*commands.Config)) *commands.Commands {
	t.Helper()
	cfg := commands.Config{
		Dir: t.TempDir(), Allowed: allowed, Serial: serial, Canceled: byItsCaller,
		Grace: 200 * time.Millisecond, Log: zerolog.New(zerolog.NewTestWriter(t)).Level(zerolog.WarnLevel),
	}
	for _, c := range change {
		c(&cfg)
	}
	c := commands.New(cfg)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return c
}

// A commandLine is a device that runs commands, on a router with the system, user
// 3 who has all privileges, user 4 who has DEVELOP only, and user 5 who has none.
type commandLine struct {
	system, user, developer, nobody *messenger.Session
	cut                             func()
}

func commanding(t *testing.T, serialization string, allowed bool, change ...func(*commands.Config)) commandLine {
	t.Helper()
	secrets := map[string]string{"7-42/" + serial: "secret"}
	for _, name := range []string{"system", "3", "4", "5"} {
		secrets[name] = "secret"
	}
	url, cut := testenv.Router(t, secrets)
	var l commandLine
	l.cut = cut
	l.system = session(t, url, "system", serialization, func(s *messenger.Session) {
		s.Declare(protocol.CheckPrivilege, nil, func(_ context.Context, inv messenger.Invocation) messenger.Outcome {
			q, _ := protocol.AsDict(protocol.Arg(inv.Args, 0))
			account, _ := protocol.Uint(q["requestor_account_key"])
			return messenger.Outcome{Args: []any{account == 3 || account == 4 && q["privilege"] == "DEVELOP"}}
		})
	})
	trail := newTrail(t, t.TempDir())
	session(t, url, "7-42", serialization, func(s *messenger.Session) {
		with := func(c *commands.Config) { c.Publish = s.Publish }
		c := runner(t, allowed, append([]func(*commands.Config){with}, change...)...)
		d := deps{serial: serial, commands: c, programs: c, audit: trail}
		declare(s, &dispatcher{
			audit: trail, serial: serial, log: zerolog.Nop(),
			device: func() (uint64, uint64) { return 7, 42 }, may: backend{s}.may,
		}, procedures(d))
	})
	l.user = session(t, url, "3", serialization, nil)
	l.developer = session(t, url, "4", serialization, nil)
	l.nobody = session(t, url, "5", serialization, nil)
	return l
}

func ask(t *testing.T, s *messenger.Session, name string, arg map[string]any, progress func(messenger.Result)) (end protocol.CommandEnd, err error) {
	t.Helper()
	r, err := s.CallProgress(t.Context(), protocol.Procedure(serial, name), []any{arg}, nil, progress)
	if err != nil {
		return end, err
	}
	if err := protocol.Decode(protocol.Arg(r.Args, 0), &end); err != nil || len(r.Args) != 1 {
		t.Errorf("%s %v answers %v, %v", name, arg, r.Args, err)
	}
	return end, nil
}

var serialIDs atomic.Uint32

func someID() string { return fmt.Sprintf("00000000-0000-4000-8000-%012x", serialIDs.Add(1)) }

func TestCommandsRunOverEachSerialization(t *testing.T) {
	for _, serialization := range serializations {
		t.Run(serialization, func(t *testing.T) {
			l := commanding(t, serialization, true)
			id := someID()
			question := map[string]any{"id": strings.ToUpper(id), "argv": []any{"sh", "-c", `printf 'a\377'; echo b >&2; exit 3`}, "timeout_ms": "60000", "env": nil, "encoding": "base64"}
			var out, err []byte
			next := uint64(0)
			end, failed := ask(t, l.user, "run_command", question, func(r messenger.Result) {
				var c protocol.CommandChunk
				if e := protocol.Decode(r.Args[0], &c); e != nil || c.Type != "output" || c.Seq != next {
					t.Errorf("part %v, %v, want number %d", r.Args, e, next)
				}
				next++
				data, e := base64.StdEncoding.DecodeString(c.Data)
				if e != nil {
					t.Error(e)
				}
				if c.Stream == "stdout" {
					out = append(out, data...)
				} else {
					err = append(err, data...)
				}
			})
			if failed != nil || end.State != "exited" || end.ExitCode == nil || *end.ExitCode != 3 || end.ID != id || end.Stdout != nil || string(out) != "a\xff" || string(err) != "b\n" {
				t.Errorf("%+v, %v, %q, %q", end, failed, out, err)
			}
			for what, arg := range map[string]map[string]any{"again": question, "fetched": {"id": id, "encoding": "base64"}} {
				end, failed = ask(t, l.user, "run_command", arg, nil)
				if failed != nil || !end.Replayed || end.Stdout == nil || *end.Stdout != "Yf8=" || *end.Stderr != "Ygo=" {
					t.Errorf("%s: %+v, %v", what, end, failed)
				}
			}
			// What the system does for the user is the user's.
			end, failed = ask(t, l.system, "run_command", map[string]any{"id": id, "requestor_account_key": 3}, nil)
			if failed != nil || !end.Replayed {
				t.Errorf("for the user: %+v, %v", end, failed)
			}
			got, failed := l.user.Call(t.Context(), protocol.Procedure(serial, "execute_cmd"), []any{map[string]any{"cmd": "echo", "args": []any{"a", 1, true}, "blocking": true}}, nil)
			if failed != nil || len(got.Args) != 1 || got.Args[0] != "a 1 true\n" {
				t.Errorf("execute_cmd answers %v, %v", got.Args, failed)
			}
		})
	}
}

func TestErrorsOfCommandsAreThoseOfTheirForms(t *testing.T) {
	l := commanding(t, "json", true)
	id, used := someID(), someID()
	if _, err := ask(t, l.user, "run_command", map[string]any{"id": used, "shell": "true"}, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		by              *messenger.Session
		name            string
		arg             any
		uri, text, code string
	}{
		{l.user, "run_command", map[string]any{"id": used, "shell": "false"}, "re.error.conflict", "execution id already used", "conflict"},
		{l.system, "run_command", map[string]any{"id": used, "shell": "true"}, "re.error.conflict", "execution id already used", "conflict"},
		{l.user, "run_command", map[string]any{"id": id}, "re.error.not_found", "execution not found", "not_found"},
		{l.user, "stop_command", map[string]any{"id": id}, "re.error.not_found", "execution not found", "not_found"},
		{l.user, "run_command", map[string]any{"id": "x", "shell": "true"}, "re.error.invalid_argument", "id: ", "invalid_argument"},
		{l.user, "run_command", map[string]any{"id": id, "argv": []any{}}, "re.error.invalid_argument", "argv: ", "invalid_argument"},
		{l.user, "run_command", map[string]any{"id": id, "shell": "x", "argv": []any{"x"}}, "re.error.invalid_argument", "argv or shell", "invalid_argument"},
		{l.user, "run_command", "x", "re.error.invalid_argument", "first param", "invalid_argument"},
		{l.developer, "run_command", map[string]any{"id": id, "shell": "true"}, "re.error.not_authorized", "insufficient privileges to run commands", "not_authorized"},
		{l.developer, "stop_command", map[string]any{"id": used}, "re.error.not_authorized", "insufficient privileges to stop commands", "not_authorized"},
		{l.nobody, "run_command", map[string]any{"id": id, "shell": "true", "container_name": "prod_6_web"}, "re.error.not_authorized", "insufficient privileges to run commands", "not_authorized"},
		{l.nobody, "execute_cmd", map[string]any{"cmd": "true", "blocking": true}, "wamp.error.canceled", "insufficient privileges to execute commands", "not_authorized"},
		{l.developer, "execute_cmd", map[string]any{"cmd": "true", "blocking": true}, "wamp.error.canceled", "insufficient privileges to execute commands", "not_authorized"},
		{l.user, "execute_cmd", map[string]any{"cmd": 1}, "wamp.error.canceled", "cmd param should be a string", "invalid_argument"},
		{l.user, "execute_cmd", map[string]any{"cmd": "sh", "args": []any{"-c", "exit 4"}, "blocking": true}, "wamp.error.canceled", "exit status 4", "internal"},
		{l.user, "execute_cmd", map[string]any{"cmd": "", "blocking": true}, "wamp.error.canceled", "exec: no command", "invalid_argument"},
	} {
		_, err := c.by.Call(t.Context(), protocol.Procedure(serial, c.name), []any{c.arg}, nil)
		wantError(t, fmt.Sprint(c.name, c.arg), err, c.uri, c.text, c.code)
	}
}

func wantError(t *testing.T, what string, err error, uri, text, code string) {
	t.Helper()
	var refused *messenger.CallError
	if !errors.As(err, &refused) {
		t.Errorf("%s: %v, want %s", what, err, text)
		return
	}
	d, _ := protocol.AsDict(protocol.Arg(refused.Args, 0))
	if refused.URI != uri || !strings.HasPrefix(refused.Text(), text) || d["code"] != code {
		t.Errorf("%s: %v %v, want %s %q %s", what, err, d, uri, text, code)
	}
}

func TestNobodyGetsAByteAgainstThePolicy(t *testing.T) {
	l := commanding(t, "json", false)
	const text = "command execution is disabled on this device"
	for _, by := range []*messenger.Session{l.user, l.system} {
		_, err := ask(t, by, "run_command", map[string]any{"id": someID(), "shell": "echo secret"}, func(r messenger.Result) { t.Errorf("output %v", r.Args) })
		wantError(t, "run_command", err, "re.error.disabled_by_policy", text, "disabled_by_policy")
		for _, blocking := range []bool{true, false} {
			_, err = by.Call(t.Context(), protocol.Procedure(serial, "execute_cmd"), []any{map[string]any{"cmd": "echo", "blocking": blocking}}, nil)
			wantError(t, "execute_cmd", err, "wamp.error.canceled", text, "disabled_by_policy")
		}
	}
	_, err := ask(t, l.nobody, "run_command", map[string]any{"id": someID(), "shell": "true"}, nil) // learns nothing of it
	wantError(t, "without a privilege", err, "re.error.not_authorized", "insufficient privileges", "not_authorized")
}

func TestACommandOutlivesTheLinkAndEndsWithItsCallersWish(t *testing.T) {
	l := commanding(t, "json", true)
	dir := t.TempDir()
	gate, pidFile := filepath.Join(dir, "gate"), filepath.Join(dir, "pid")
	question := map[string]any{"id": someID(), "shell": "echo $$ >" + pidFile + "; echo begun; until [ -e " + gate + " ]; do sleep 0.02; done; echo ended"}
	begun := make(chan struct{})
	first := sync.OnceFunc(func() { close(begun); l.cut() })
	_, err := ask(t, l.user, "run_command", question, func(messenger.Result) { first() })
	<-begun
	if err == nil {
		t.Fatal("the call outlived its link")
	}
	// The next call attaches; its caller cancels.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	uri := protocol.Procedure(serial, protocol.RunCommand)
	testenv.WaitFor(t, "the device is back, and the command with it", func() bool {
		attached := false
		_, err = l.user.CallProgress(ctx, uri, []any{question}, nil, func(messenger.Result) { attached = true; cancel() })
		return attached
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the canceled call: %v", err)
	}
	testenv.WaitFor(t, "the command is gone", func() bool { // before: who asks for it goes on waiting for it
		pid, err := os.ReadFile(pidFile)
		if err != nil {
			t.Fatal(err)
		}
		_, err = os.Stat("/proc/" + strings.TrimSpace(string(pid)))
		return errors.Is(err, fs.ErrNotExist)
	})
	end, err := ask(t, l.user, "run_command", question, nil)
	if err != nil || end.State != protocol.CommandCanceled || end.Stdout == nil || *end.Stdout != "begun\n" {
		t.Errorf("%+v, %v, want it canceled", end, err)
	}
}

func TestStopCommandEndsACommand(t *testing.T) {
	l := commanding(t, "json", true)
	id := someID()
	ended := make(chan protocol.CommandEnd, 1)
	begun := make(chan struct{})
	first := sync.OnceFunc(func() { close(begun) }) // the shell may tell its end, too
	go func() {
		end, err := ask(t, l.user, "run_command", map[string]any{"id": id, "shell": "echo up; sleep 300", "detach": true}, func(messenger.Result) { first() })
		if err != nil {
			t.Error(err)
		}
		ended <- end
	}()
	<-begun
	if end, err := ask(t, l.system, "stop_command", map[string]any{"id": id}, nil); err != nil || end.State != "canceled" || end.Stdout != nil {
		t.Errorf("stop_command answers %+v, %v", end, err)
	}
	if end := <-ended; end.State != "canceled" || end.ExitCode != nil {
		t.Errorf("the command: %+v", end)
	}
}

func TestOnlyWhoMayReadsTheLinesOfAProgramInTheBackground(t *testing.T) {
	l := commanding(t, "json", true)
	r, err := l.user.Call(t.Context(), protocol.Procedure(serial, "execute_cmd"),
		[]any{map[string]any{"cmd": "sh", "args": []any{"-c", "while :; do echo tick; sleep 0.05; done"}, "blocking": false, "timeout": 0}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d, _ := protocol.AsDict(protocol.Arg(r.Args, 0))
	pid, ok := protocol.Uint(d["pid"])
	if !ok || pid == 0 || len(d) != 1 {
		t.Fatalf("answer %v", r.Args)
	}
	topic := protocol.CommandOutputTopic(serial, int(pid))
	own, others := make(chan string, 1000), make(chan string, 1000)
	for s, to := range map[*messenger.Session]chan string{l.user: own, l.system: own, l.developer: others} {
		s.DeclareTopic(topic, "", func(_ context.Context, e messenger.Event) {
			select {
			case to <- fmt.Sprint(e.Args...):
			default:
			}
		})
	}
	for range 20 {
		select {
		case line := <-own:
			if line != "tick" {
				t.Errorf("line %q", line)
			}
		case <-time.After(30 * time.Second):
			t.Fatal("no line comes")
		}
	}
	if len(others) > 0 {
		t.Error("somebody else reads along")
	}
}

func TestACommandInAContainerTakesDevelopOnly(t *testing.T) {
	docker := testenv.Docker(t)
	image, app := docker.Prefix+"/app:1", docker.Prefix+"-app"
	testenv.BuildImage(t, docker, image, testenv.App{Shell: true})
	engine, err := container.New(container.Config{Host: docker.Host, Log: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	if _, _, err := engine.Run(t.Context(), container.Spec{Name: app, Image: image}); err != nil {
		t.Fatal(err)
	}
	l := commanding(t, "json", false, func(c *commands.Config) {
		c.Engine, c.Owns = engine, func(c container.Container) bool { return c.Name == app }
	})
	id := someID()
	end, err := ask(t, l.developer, "run_command", map[string]any{"id": id, "shell": "echo inside", "container_name": app}, nil)
	if err != nil || end.State != "exited" || end.Stdout == nil || *end.Stdout != "inside\n" {
		t.Errorf("%+v, %v", end, err)
	}
	if end, err = ask(t, l.developer, "run_command", map[string]any{"id": id, "container_name": app}, nil); err != nil || !end.Replayed {
		t.Errorf("fetched: %+v, %v", end, err)
	}
	if end, err = ask(t, l.developer, "stop_command", map[string]any{"id": id, "container_name": app}, nil); err != nil || end.State != "exited" {
		t.Errorf("stopped: %+v, %v", end, err)
	}
	_, err = ask(t, l.developer, "run_command", map[string]any{"id": id}, nil) // as if on the device
	wantError(t, "without the container", err, "re.error.not_authorized", "insufficient privileges", "not_authorized")
}

func TestTheAuditTellsWhatWasRunAndByWhomButNoSecret(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		l := commanding(t, "json", allowed)
		question := map[string]any{"id": someID(), "argv": []any{"true", "-v"}, "env": map[string]any{"TOKEN": "s3cret"}}
		for range 2 { // the second is answered with the kept result
			_, _ = ask(t, l.user, "run_command", question, nil)
		}
		_, _ = ask(t, l.user, "run_command", map[string]any{"id": question["id"]}, nil)
		_, _ = ask(t, l.nobody, "run_command", question, nil)
		_, _ = l.user.Call(t.Context(), protocol.Procedure(serial, "execute_cmd"), []any{map[string]any{"cmd": "true", "blocking": true}}, nil)
		r, err := l.system.Call(t.Context(), protocol.Procedure(serial, "query_audit"), nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got protocol.AuditAnswer
		if err := protocol.Decode(r.Args[0], &got); err != nil {
			t.Fatal(err)
		}
		var said []string
		for _, e := range got.Entries {
			said = append(said, e.AuthID+" "+e.Procedure+" "+e.Result)
		}
		want := []string{"3 run_command started", "3 run_command ok", "3 run_command ok", "5 run_command refused", "3 execute_cmd started", "3 execute_cmd ok"}
		if !allowed {
			want = []string{"3 run_command refused", "3 run_command refused", "3 run_command refused", "5 run_command refused", "3 execute_cmd refused"}
		}
		text, _ := json.Marshal(r.Args)
		if fmt.Sprint(said) != fmt.Sprint(want) || strings.Contains(string(text), "s3cret") || !strings.Contains(string(text), `"argv":["true","-v"]`) || !strings.Contains(string(text), `"TOKEN":"***"`) {
			t.Errorf("allowed %t: %q, want %q; %s", allowed, said, want, text)
		}
	}
}

// FuzzCommands sends arguments of any shape to a device that runs no command: its
// policy forbids those of its own, and no container is its.
func FuzzCommands(f *testing.F) {
	for _, seed := range []string{
		`{}`, `[]`, `{"id":"00000000-0000-4000-8000-000000000001","shell":"true","timeout_ms":1e300,"max_output":-1}`,
		`{"id":"00000000-0000-4000-8000-000000000001","argv":["a",1],"env":{"A=":"x"},"cwd":5}`,
		`{"id":"00000000-0000-4000-8000-000000000001","container_name":"x","shell":"true","encoding":"utf16","detach":1}`,
		`{"cmd":"x","blocking":true,"args":[[],null],"timeout":-1}`, `{"cmd":"true","blocking":false}`,
	} {
		f.Add([]byte(seed))
	}
	c := runner(f, false, func(c *commands.Config) { c.Engine = noEngine{} })
	handlers := []handler{runCommand(c), typed(stopCommand(c)), executeCmd(c)}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var arg any
		if json.Unmarshal(raw, &arg) != nil {
			t.Skip()
		}
		for i, handle := range handlers {
			_, err := handle(t.Context(), Call{Args: []any{arg}, Caller: Caller{AuthID: "3", Account: 3}})
			var told *protocol.Error
			if err == nil || !errors.As(err, &told) || told.Code == protocol.CodeInternal {
				t.Errorf("%d %s: %v, want an error that says what is wrong", i, raw, err)
			}
		}
	})
}

// noEngine has no containers.
type noEngine struct{}

func (noEngine) Inspect(context.Context, string) (container.Container, error) {
	return container.Container{}, container.ErrNotFound
}
func (noEngine) Exec(context.Context, string, container.ExecSpec) (*container.Exec, error) {
	return nil, container.ErrNotFound
}
func (noEngine) EndMarked(context.Context, string, string) error { return nil }
func (noEngine) EndExec(context.Context, string) error           { return nil }
