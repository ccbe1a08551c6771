package protocol

import (
	"math"
	"testing"
)

func TestSizesOfTerminalsAreReadFromAnyNumber(t *testing.T) {
	for _, c := range []struct {
		height      any
		want        uint16
		ofDevice    string
		ofContainer bool
	}{
		{uint64(40), 40, "", true},
		{int8(40), 40, "", true},
		{40.0, 40, "", true},
		{float32(40), 40, "", true},
		{0, 0, "", true},
		{32767, 32767, "", true},
		{32768, 0, "failed to parse height: out of range: 32768", false},
		{uint64(100000), 0, "failed to parse height: out of range: 100000", false},
		{uint64(math.MaxUint64), 0, "failed to parse height: out of range: 18446744073709551615", false},
		{-1, 0, "failed to parse height: out of range: -1", false},
		{-0.5, 0, "failed to parse height: out of range: -0.5", false},
		{1e300, 0, "failed to parse height: out of range: 1e+300", false},
		{math.NaN(), 0, "failed to parse height: out of range: NaN", false},
		{40.5, 0, "failed to parse height: not a whole number: 40.5", false},
		{"40", 0, "failed to parse height: unexpected type string", false},
		{true, 0, "failed to parse height: unexpected type bool", false},
		{nil, 0, "failed to parse height: unexpected type <nil>", false},
	} {
		args := []any{map[string]any{"height": c.height, "width": 7}}
		var device, container TerminalSize
		got, want := "", ""
		if err := device.ReadDeviceArgs(args); err != nil {
			got = err.Error()
		}
		if got != c.ofDevice || got == "" && device != (TerminalSize{c.want, 7}) {
			t.Errorf("%v (%T): %+v, %q, want %d, %q", c.height, c.height, device, got, c.want, c.ofDevice)
		}
		if got = ""; !c.ofContainer {
			want = "failed to parse height"
		}
		if err := container.ReadContainerArgs(args); err != nil {
			got = err.Error()
		}
		if got != want || got == "" && container != device {
			t.Errorf("%v (%T), of a container: %+v, %q, want %+v, %q", c.height, c.height, container, got, device, want)
		}
	}
}

func TestArgumentsOfTerminalsAreRefusedWithTheContractsTexts(t *testing.T) {
	type read func([]any) error
	request := func(a []any) error { return new(RequestTerminalArgs).ReadArgs(a) }
	start := func(a []any) error { return new(StartTerminalArgs).ReadArgs(a) }
	stop := func(a []any) error { return new(StopTerminalArgs).ReadArgs(a) }
	container := func(a []any) error { return new(TerminalSize).ReadContainerArgs(a) }
	device := func(a []any) error { return new(TerminalSize).ReadDeviceArgs(a) }
	one := func(d map[string]any) []any { return []any{d} }
	for _, c := range []struct {
		read read
		args []any
		want string
	}{
		{request, nil, "no args found"},
		{request, []any{"x"}, "failed to parse payload"},
		{request, []any{nil}, "failed to parse payload"},
		{request, one(map[string]any{"containerName": 5}), "failed to parse containerName"},
		{request, one(map[string]any{"containerName": "prod_6_web"}), ""},
		{start, nil, "failed to parse args, payload is missing"},
		{start, []any{[]any{}}, "failed to parse payload"},
		{start, one(map[string]any{"registrationID": 5}), "failed to parse sessionID"},
		{start, one(map[string]any{"sessionID": "x"}), "failed to parse registrationID"},
		{start, one(map[string]any{"sessionID": "x", "registrationID": -5}), "failed to parse registrationID"},
		{start, one(map[string]any{"sessionID": "x", "registrationID": 5.0}), ""},
		{stop, nil, "failed to parse args, payload is missing"},
		{stop, []any{5}, "failed to parse payload"},
		{stop, one(map[string]any{"sessionID": nil}), "failed to parse sessionID"},
		{stop, one(map[string]any{"sessionID": "x"}), ""},
		{container, nil, "failed to parse args"},
		{container, []any{40, 80}, "failed to parse args"},
		{container, one(map[string]any{"height": 5}), "failed to parse width"},
		{device, nil, "failed to parse args, payload is missing"},
		{device, []any{40, 80}, "failed to parse args"},
		{device, one(map[string]any{"height": 5}), "failed to parse width: unexpected type <nil>"},
	} {
		got := ""
		if err := c.read(c.args); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: %q, want %q", c.args, got, c.want)
		}
	}
}
