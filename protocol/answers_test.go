package protocol

import (
	"reflect"
	"strings"
	"testing"
)

func TestStatsKeepTheirTypesOnTheWire(t *testing.T) {
	d := DeviceStatus{SwarmKey: 1, Status: Connected, Stats: Stats{CPUCount: 4, CPUUsage: 0, MemoryTotal: 1 << 40}}.Wire()
	stats, ok := d["stats"].(map[string]any)
	if !ok || len(stats) != 12 {
		t.Fatalf("stats = %#v, want the contract's 12 keys", d["stats"])
	}
	if _, ok := stats["cpu_usage"].(float64); !ok {
		t.Errorf("cpu_usage is %T, want a float also when it is whole", stats["cpu_usage"])
	}
	if stats["memory_total"] != int64(1<<40) || stats["docker_apps_mounted"] != false || d["status"] != "CONNECTED" {
		t.Errorf("status = %#v", d)
	}
}

func TestWireValuesArePlain(t *testing.T) {
	for name, c := range map[string]struct{ in, want any }{
		"nil list":  {[]InterfaceAddress(nil), []any{}},
		"no dicts":  {[]map[string]any(nil), []any{}},
		"no texts":  {[]string(nil), []any{}},
		"structs":   {[]InterfaceAddress{{"eth0", "10.0.0.1"}}, []any{map[string]any{"interfaceName": "eth0", "ip": "10.0.0.1"}}},
		"own form":  {NetworkAddress{"10.0.0.1", []byte{255, 0, 0, 0}}, map[string]any{"IP": "10.0.0.1", "Mask": []byte{255, 0, 0, 0}}},
		"text":      {"x", "x"},
		"bytes":     {[]byte{1}, []byte{1}},
		"dict list": {[]map[string]any{{"a": int64(1)}}, []any{map[string]any{"a": int64(1)}}},
	} {
		got, err := WireValue(c.in)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: WireValue = %#v, %v; want %#v", name, got, err, c.want)
		}
	}
}

func TestTopicMatchesAllThreeKindsOfSubscription(t *testing.T) {
	const topic = "reswarm.logs.sn-1.prod_6_my.app"
	for _, c := range []struct {
		uri, match string
		want       bool
	}{
		{topic, "exact", true},
		{topic, "", true},
		{"reswarm.logs.", "prefix", true},
		{"reswarm.logs.", "", true},
		{"reswarm.logs.sn-1.prod_6", "prefix", true},
		{"reswarm.logs.sn-1.prod_6", "exact", false},
		{"reswarm.logs.sn-1.prod_6", "", false},
		{"reswarm.logs..prod_6_my.app", "wildcard", true},
		{"reswarm.logs..prod_6_my.app", "", true},
		{"reswarm...", "wildcard", false}, // the name's dot makes five parts
		{"reswarm....", "wildcard", true},
		{"reswarm.logs.sn-2.", "prefix", false},
		{"", "prefix", true},
		{topic, "regex", false},
	} {
		if got := TopicMatches(topic, c.uri, c.match); got != c.want {
			t.Errorf("TopicMatches(%q, %q) = %v, want %v", c.uri, c.match, got, c.want)
		}
	}
}

func TestLogArgumentsLetOnlyContainerNamesPass(t *testing.T) {
	for in, want := range map[any]string{
		"prod_6_web":         "",
		"/dev_18_my.app":     "",
		"pub_6_web":          "",
		nil:                  "invalid value for containerName",
		5:                    "invalid value for containerName",
		"":                   "container name is empty",
		"/":                  "container name is empty",
		"web":                "invalid container name",
		"prod_6":             "invalid container name",
		"prod_6_":            "invalid container name",
		"test_6_web":         "invalid container name",
		"prod_06_web":        "invalid container name",
		"prod_6_../../x":     "invalid container name",
		"prod_6_a b":         "invalid container name",
		"prod_6_a?all=1":     "invalid container name",
		"prod_x_web":         `strconv.ParseUint: parsing "x": invalid syntax`,
		"prod_-1_web":        `strconv.ParseUint: parsing "-1": invalid syntax`,
		"prod_6_\x00\xff_ab": "invalid container name",
	} {
		var a AppLogArgs
		err := a.ReadDict(map[string]any{"containerName": in})
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", in, err)
		case want == "" && a.ContainerName != strings.TrimPrefix(in.(string), "/"):
			t.Errorf("%q is read as %q", in, a.ContainerName)
		case want != "" && (err == nil || err.Error() != want):
			t.Errorf("%q: error %v, want %q", in, err, want)
		}
	}
}

func TestPruneArgumentsNameAWrongType(t *testing.T) {
	for _, v := range []any{nil, false, true} {
		var a PruneImagesArgs
		if err := a.ReadDict(map[string]any{"all": v}); err != nil || a.All != (v == true) {
			t.Errorf("all %v: %+v, %v", v, a, err)
		}
	}
	for _, v := range []any{"true", 1, []any{}} {
		err := new(PruneImagesArgs).ReadDict(map[string]any{"all": v})
		if err == nil || err.Error() != "all value for container prune is not a boolean" {
			t.Errorf("all %v: error %v", v, err)
		}
	}
}
