package cli

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"reagent/messenger"
	"reagent/protocol"
)

const (
	historyOfPress = "re.mgmt.s1.get_app_log_history"
	topicOfPress   = "reswarm.logs.s1.prod_1_hello"
)

func TestLogsPrintsTheHistory(t *testing.T) {
	d := newDesk(t)
	d.studio.answers[protocol.StudioListStates] = give(someStates())
	d.studio.answers[historyOfPress] = give([]any{"one", "two"})
	if err := d.run(t, "logs", "press-07", "hello"); err != nil {
		t.Fatal(err)
	}
	if got := d.stdout.String(); got != "one\ntwo\n" {
		t.Errorf("got %q", got)
	}
	if in := d.studio.question(t, historyOfPress); in["containerName"] != "prod_1_hello" {
		t.Errorf("asked %v", in)
	}
	d = newDesk(t)
	d.studio.answers[protocol.StudioListStates] = give(someStates())
	d.studio.answers[historyOfPress] = give([]any{"one"})
	if err := d.run(t, "logs", "press-07", "hello", "--output", "json"); err != nil || d.stdout.String() != `{"line":"one"}`+"\n" {
		t.Errorf("json: %v %q", err, d.stdout.String())
	}
}

func TestLogsFollowsWithoutALineTwiceOrMissing(t *testing.T) {
	d := newDesk(t)
	d.studio.answers[protocol.StudioListStates] = give(someStates())
	d.studio.answers[historyOfPress] = func(map[string]any) (any, error) {
		// These come while the history is asked for, and the first two are in it.
		d.studio.followers[topicOfPress](messenger.Event{Args: []any{"two\nthree"}})
		d.studio.followers[topicOfPress](messenger.Event{Args: []any{"four"}})
		return []any{"one", "two", "three"}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- d.Run(ctx, []string{"logs", "-f", "press-07", "hello"}) }()
	d.stdout.waitFor(t, "four\n")
	d.studio.publish(t, topicOfPress, "five\nsix")
	d.stdout.waitFor(t, "six\n")
	cancel()
	if err := <-end; !errors.Is(err, context.Canceled) {
		t.Errorf("logs -f = %v, want context.Canceled", err)
	}
	if got, want := d.stdout.String(), "one\ntwo\nthree\nfour\nfive\nsix\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestLogsOfWhatIsNotThere(t *testing.T) {
	d := newDesk(t)
	d.studio.answers[protocol.StudioListStates] = give(protocol.StateList{})
	if err := d.run(t, "logs", "press-07", "hello"); err == nil || !strings.Contains(err.Error(), "hello is not on press-07") {
		t.Errorf("no such app = %v", err)
	}
	d = newDesk(t)
	d.studio.answers[protocol.StudioListStates] = give(someStates())
	if err := d.run(t, "logs", "press-07", "hello"); err == nil || !strings.Contains(err.Error(), "press-07 is not on-line") {
		t.Errorf("device off-line = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- d.Run(ctx, []string{"logs", "-f", "press-07", "hello"}) }()
	d.stderr.waitFor(t, "goes on when it is back")
	d.studio.publish(t, topicOfPress, "back")
	d.stdout.waitFor(t, "back\n")
	cancel()
	<-end
}

func TestLinesOfALog(t *testing.T) {
	for _, c := range []struct {
		claim string
		args  []any
		want  []string
	}{
		{"lines", []any{"a\nb\n"}, []string{"a", "b"}},
		{"an empty line", []any{"a\n\nb"}, []string{"a", "", "b"}},
		{"a message of the agent", []any{map[string]any{"type": "build", "chunk": "Starting hello..."}}, []string{"Starting hello..."}},
		{"the request to clear", []any{map[string]any{"type": "build", "chunk": "LOGGER_CLEAR"}}, nil},
		{"a transfer", []any{map[string]any{"id": "a.tgz", "status": "Transfer Progress:", "progress": "12.345%"}}, []string{"a.tgz Transfer Progress: 12.345%"}},
		{"a pull", []any{`{"status":"Pulling from apps/x","id":"1.0.0"}` + "\n" + `{"status":"Downloading","progressDetail":{"current":1,"total":2},"progress":"[=> ]","id":"abc"}` + "\n" + `{"status":"Digest: sha256:00"}`},
			[]string{"1.0.0: Pulling from apps/x", "Digest: sha256:00"}},
		{"a push", []any{`{"status":"The push refers to repository [r/apps/x]"}` + "\n" + `{"status":"1.0.0: digest: sha256:00 size: 527"}`},
			[]string{"The push refers to repository [r/apps/x]", "1.0.0: digest: sha256:00 size: 527"}},
		{"a failed pull", []any{`{"errorDetail":{"message":"no space"},"error":"no space"}`}, []string{"no space"}},
		{"a build", []any{`{"stream":"Step 1/2 : FROM scratch\n"}`}, []string{"Step 1/2 : FROM scratch"}},
		{"an app that logs JSON", []any{`{"status":"ok","level":"info"}` + "\n" + `{"status":"ok"}`}, []string{`{"status":"ok","level":"info"}`, `{"status":"ok"}`}},
		{"rubbish", []any{7, nil, []any{}}, nil},
	} {
		if got := logLines(c.args); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.claim, got, c.want)
		}
	}
}

func FuzzLogLines(f *testing.F) {
	f.Add(`{"status":"x","id":"y","progressDetail":{"current":1}}`)
	f.Add("a\nb")
	f.Fuzz(func(_ *testing.T, text string) { logLines([]any{text, map[string]any{"chunk": text, "status": 7}}) })
}
