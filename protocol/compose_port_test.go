package protocol

import (
	"fmt"
	"slices"
	"testing"
)

func TestPortsOfServicesAreReadInEveryForm(t *testing.T) {
	for _, c := range []struct {
		entry any
		want  ComposePort // zero = left to compose
	}{
		{"8080", ComposePort{8080, 0, "tcp"}},
		{float64(8080), ComposePort{8080, 0, "tcp"}},
		{int64(8080), ComposePort{8080, 0, "tcp"}},
		{"80:8080", ComposePort{8080, 80, "tcp"}},
		{"53:53/udp", ComposePort{53, 53, "udp"}},
		{"127.0.0.1:80:8080/TCP", ComposePort{8080, 80, "tcp"}},
		{"[::1]:80:8080", ComposePort{8080, 80, "tcp"}},
		{"127.0.0.1::8080", ComposePort{8080, 0, "tcp"}},
		{map[string]any{"target": float64(8080), "published": "80", "protocol": "udp"}, ComposePort{8080, 80, "udp"}},
		{map[string]any{"target": 8080}, ComposePort{8080, 0, "tcp"}},
		{"8000-8010:8000-8010", ComposePort{}},
		{"${PORT}:80", ComposePort{}},
		{"80:80/sctp", ComposePort{}},
		{"0", ComposePort{}},
		{"70000", ComposePort{}},
		{"", ComposePort{}},
		{nil, ComposePort{}},
		{8080.5, ComposePort{}},
		{[]any{"80"}, ComposePort{}},
		{map[string]any{"target": 80, "protocol": 6}, ComposePort{}},
		{map[string]any{"published": "80"}, ComposePort{}},
		{map[string]any{"target": []any{80}}, ComposePort{}},
	} {
		got, ok := ParseComposePort(c.entry)
		if want := c.want != (ComposePort{}); ok != want || ok && got != c.want {
			t.Errorf("%v is read as %+v, %t; want %+v, %t", c.entry, got, ok, c.want, want)
		}
	}
}

func TestServicesWithoutRulesHaveOneForEachPort(t *testing.T) {
	rules := ComposePortRules(map[string]any{"services": map[string]any{
		"web":   map[string]any{"ports": []any{"80:8080", "9000", "90-91:90-91"}},
		"dns":   map[string]any{"ports": []any{"53:53/udp", map[string]any{"target": 53, "published": 53}}},
		"other": map[string]any{"ports": []any{"80:3000"}}, // the same declared port: one rule
		"none":  map[string]any{},
		"odd":   "no object",
	}})
	var got []string
	for _, r := range rules {
		got = append(got, fmt.Sprintf("%s=%d/%s", r.Name, r.Port, r.Wire()))
	}
	want := []string{"dns=53/udp", "dns=53/tcp", "other=80/tcp", "web=9000/tcp"}
	if !slices.Equal(got, want) {
		t.Errorf("rules %q, want %q", got, want)
	}
	for _, none := range []map[string]any{nil, {"services": 5}, {"services": map[string]any{"web": map[string]any{"ports": "80"}}}} {
		if rules := ComposePortRules(none); len(rules) != 0 {
			t.Errorf("%v has rules %v, want none", none, rules)
		}
	}
}
