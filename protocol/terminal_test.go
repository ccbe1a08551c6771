package protocol

import (
	"testing"
)

func TestTheFlowOfATerminalComesBackAsItWasSaid(t *testing.T) {
	for _, want := range []TerminalFlow{{}, {Received: 7}, {Received: 1 << 40, Resume: true}, {Resume: true, Tail: 65536}} {
		if got, ok := ReadTerminalFlow(want.Kwargs()); !ok || got != want {
			t.Errorf("%+v came back as %+v (%v)", want, got, ok)
		}
	}
	for _, kwargs := range []map[string]any{nil, {}, {"resume": true}, {"received": -1}, {"received": "x"}, {"received": nil}, {"received": 1.5}} {
		if got, ok := ReadTerminalFlow(kwargs); ok || got != (TerminalFlow{}) {
			t.Errorf("%v was read as %+v, want nothing", kwargs, got)
		}
	}
	if got, ok := ReadTerminalFlow(map[string]any{"received": 12.0, "resume": "yes", "tail": -3}); !ok || got != (TerminalFlow{Received: 12}) {
		t.Errorf("odd values were read as %+v (%v), want 12 received", got, ok)
	}
}

func TestOutputOfATerminalIsReadInEveryForm(t *testing.T) {
	for _, c := range []struct {
		arg       any
		container bool
		want      string
		ok        bool
	}{
		{[]byte{0xff, 'a'}, true, "\xffa", true},
		{[]byte("ab"), false, "ab", true},
		{"/2E=", true, "\xffa", true},
		{"\x00/2E=", true, "\xffa", true},
		{"/2E=", false, "/2E=", true},
		{TerminalEOF, true, TerminalEOF, true},
		{"VEVSTUlOQUxfRU9G", true, TerminalEOF, true},
		{"", true, "", true},
		{nil, true, "", false},
		{7, false, "", false},
		{[]any{1, 2}, true, "", false},
	} {
		if got, ok := TerminalBytes(c.arg, c.container); string(got) != c.want || ok != c.ok {
			t.Errorf("%q from a container %v: %q, %v; want %q, %v", c.arg, c.container, got, ok, c.want, c.ok)
		}
	}
}
