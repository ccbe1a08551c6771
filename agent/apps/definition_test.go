package apps

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"reagent/persistence/device"
	"reagent/protocol"
)

// object reads a definition as the wire brings it.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var out map[string]any
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out
}

func TestDefinitionsAreRewrittenAsTheContractHasIt(t *testing.T) {
	authored := `{"name": "mine", "services": {
		"web": {"image": "web:1", "env_file": "secret.env", "extra_hosts": ["db:10.0.0.7"], "volumes": ["state:/state"],
			"ports": ["80", "8080:80", "127.0.0.1:53:53/udp", "9000-9010:9000-9010", "${PORT}:80", "70:70/sctp", 443,
				{"target": 90, "published": "9090", "protocol": "tcp", "mode": "host"}],
			"labels": ["a=b", "reagent.app_key=99"]},
		"db": {"image": "db:1", "extra_hosts": {"host.docker.internal": "10.0.0.1"}, "volumes": [{"type": "bind", "source": "./e", "target": "/data/env/mine"}],
			"labels": {"x": 1, "real": "no"}, "build": "."},
		"side": {"image": "side:1", "network_mode": "service:web", "logging": {"driver": "journald"}}
	}, "volumes": {"state": null}}`
	definition := object(t, authored)
	rules := []protocol.PortRule{{Port: 443}}
	needs, err := projectPorts(definition, rules, protocol.Prod, func(string, string, uint16) uint16 { return 0 })
	if err != nil {
		t.Fatal(err)
	}
	var slots []string
	ports := map[string]uint16{}
	for i, n := range needs {
		slots = append(slots, n.slot)
		ports[n.slot] = uint16(40000 + i)
	}
	if want := []string{"web/tcp/8080", "web/udp/53", "web/tcp/443", "web/tcp/9090"}; !slices.Equal(slots, want) {
		t.Fatalf("managed ports %q, want %q: one that the author left open needs a rule, and what cannot be read is compose's", slots, want)
	}
	got, err := rewriting{
		project: "prod_6_web_compose", envFolder: "/apps/$x/env", labels: map[string]string{labelKey: "6", labelReal: "True"}, ports: ports, rules: rules,
		logDriver: "json-file", logLimit: map[string]string{"max-file": "3"},
	}.rewrite(definition)
	if err != nil {
		t.Fatal(err)
	}
	env := `{"type": "bind", "source": "/apps/$$x/env", "target": "/data/env", "read_only": true}`
	logging := `"logging": {"driver": "json-file", "options": {"max-file": "3"}}`
	want := object(t, `{"name": "prod_6_web_compose", "services": {
		"web": {"image": "web:1", "env_file": ".env-compose", "extra_hosts": ["db:10.0.0.7", "host.docker.internal:host-gateway"], "volumes": ["state:/state", `+env+`],
			"ports": ["0.0.0.0:40000:80", "0.0.0.0:40001:53/udp", "9000-9010:9000-9010", "${PORT}:80", "70:70/sctp", "0.0.0.0:40002:443",
				{"target": 90, "published": "40003", "host_ip": "0.0.0.0", "protocol": "tcp", "mode": "host"}],
			"labels": {"a": "b", "reagent.app_key": "6", "real": "True"}, `+logging+`},
		"db": {"image": "db:1", "env_file": ".env-compose", "extra_hosts": {"host.docker.internal": "10.0.0.1"}, "volumes": [{"type": "bind", "source": "./e", "target": "/data/env/mine"}],
			"labels": {"x": 1, "reagent.app_key": "6", "real": "True"}, `+logging+`},
		"side": {"image": "side:1", "env_file": ".env-compose", "network_mode": "service:web", "logging": {"driver": "journald"}, "volumes": [`+env+`], "labels": {"reagent.app_key": "6", "real": "True"}}
	}, "volumes": {"state": null}}`)
	if !reflect.DeepEqual(normal(t, got), want) {
		a, _ := json.MarshalIndent(got, "", " ")
		t.Errorf("rewritten:\n%s", a)
	}
	if !reflect.DeepEqual(definition, object(t, authored)) {
		t.Error("the author's definition was changed")
	}
}

// normal is a value as its JSON reads.
func normal(t testing.TB, v map[string]any) map[string]any {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return object(t, string(text))
}

func TestBadDefinitionsAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                         "no services",
		`{"services": []}`:                           "no services",
		`{"services": {}}`:                           "no services",
		`{"services": {"web": "x"}}`:                 "service web",
		`{"services": {"web": {}}}`:                  "service web has no image",
		`{"services": {"web": {"image": ""}}}`:       "service web has no image",
		`{"services": {"web": {"image": "x:$TAG"}}}`: "service web: image",
	} {
		_, err := projectImages(object(t, text), false)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error about %q", text, err, want)
		}
	}
	for part, text := range map[string]string{
		"extra_hosts": `"x"`, "volumes": `{}`, "ports": `"80"`, "labels": `"x"`,
	} {
		definition := object(t, fmt.Sprintf(`{"services": {"web": {"image": "x", %q: %s}}}`, part, text))
		_, err := rewriting{envFolder: "/e"}.rewrite(definition)
		if err == nil || !strings.Contains(err.Error(), "service web: "+part) {
			t.Errorf("%s %s: %v, want an error that names service and key", part, text, err)
		}
	}
}

func TestImagesOfAProject(t *testing.T) {
	definition := object(t, `{"services": {
		"a": {"image": "x:1"}, "b": {"image": "x:1"}, "c": {"image": "y:${TAG:-2}"}, "d": {"image": "z", "build": "."},
		"debug": {"image": "never", "profiles": ["debug"]}}}`)
	for built, want := range map[bool][]string{false: {"x:1", "y:2", "z"}, true: {"x:1", "y:2"}} {
		got, err := projectImages(definition, built)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("images with built %v: %q (%v), want %q", built, got, err, want)
		}
	}
}

func TestVariablesWithoutValuesAreReplaced(t *testing.T) {
	for text, want := range map[string]string{"a": "a", "a$$b": "a$b", "${X:-d}": "d", "${X-d}/${Y:-e-f}": "d/e-f", "$X": "", "${X}": "", "${X:?no}": "", "${X:-${Y}}": ""} {
		got, ok := withoutVariables(text)
		if got != want || ok != (want != "") {
			t.Errorf("withoutVariables(%q) = %q, %v, want %q", text, got, ok, want)
		}
	}
}

func TestEnvironmentOfAProjectKeepsEveryValue(t *testing.T) {
	vars := []variable{
		{"PLAIN", "a-b/c:1"}, {"SPACES", " x # y "}, {"DOLLAR", "$HOME ${X}"}, {"QUOTES", `a"b'c`}, {"BACKSLASH", `\n\`},
		{"", "x"}, {"#C", "x"}, {"A B", "x"}, {"LONG", strings.Repeat("x", longestVariable)},
	}
	file, refused := composeEnvironment(vars)
	want := "PLAIN=a-b/c:1\n" + `SPACES=" x # y "` + "\n" + `DOLLAR="\$HOME \${X}"` + "\n" + `QUOTES="a\"b'c"` + "\n" + `BACKSLASH="\\n\\"` + "\n"
	if string(file) != want {
		t.Errorf("file:\n%swant:\n%s", file, want)
	}
	if want := []string{"", "#C", "A B"}; !slices.Equal(refused, want) {
		t.Errorf("refused %q, want %q", refused, want)
	}
}

func TestProjectsAreNamedAsComposeTakesIt(t *testing.T) {
	id := protocol.AppID{Key: 6, Stage: protocol.Prod}
	for name, want := range map[string]string{"My-App_2": "prod_6_my-app_2_compose", "a.b": "prod_6_ab_compose"} {
		if got := projectName(id, name); got != want {
			t.Errorf("projectName(%q) = %q, want %q", name, got, want)
		}
	}
}

// Whatever a stranger sends is refused or rewritten, and never makes more of its
// author's definition than there was.
func FuzzRewrite(f *testing.F) {
	f.Add(`{"services": {"web": {"image": "x", "ports": ["80:80"], "labels": ["a=b"]}}}`)
	f.Add(`{"services": {"web": {"extra_hosts": {"a": 1}, "volumes": [1, null, {"target": 1}], "ports": [1e9, {"published": {}}, ":", "[::1]:1:2"]}}}`)
	f.Add(`{"include": ["/etc/passwd"], "services": {"<<": {}, "a": {"extends": {"file": "/x"}}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		var definition map[string]any
		if json.Unmarshal([]byte(text), &definition) != nil {
			return
		}
		before, err := json.Marshal(definition)
		if err != nil {
			return
		}
		for _, privileged := range []bool{true, false} {
			policy := projectPolicy{privileged: privileged, folder: t.TempDir()}
			allowed := policy.check(definition) == nil
			needs, err := projectPorts(definition, nil, protocol.Prod, func(string, string, uint16) uint16 { return 0 })
			if err == nil {
				for _, n := range needs {
					if _, _, _, ok := parseSlot(n.slot); !ok && !strings.Contains(n.slot, "//") {
						t.Errorf("slot %q cannot be read", n.slot)
					}
				}
			}
			out, err := rewriting{project: "p", envFolder: "/env", labels: map[string]string{labelKey: "6"}}.rewrite(definition)
			if err == nil && allowed {
				listed, err := services(out)
				if err != nil {
					t.Fatalf("rewritten without services: %v", err)
				}
				for name, s := range listed {
					labels, _ := s["labels"].(map[string]any)
					if s["env_file"] != environmentFile || labels[labelKey] != "6" {
						t.Errorf("service %q lacks what every service gets: %v", name, s)
					}
				}
			}
		}
		if after, err := json.Marshal(definition); err != nil || string(after) != string(before) {
			t.Errorf("the definition became\n%s\nfrom\n%s", after, before)
		}
	})
}

func TestServicesGetTheTimeToEndThatTheirAuthorWants(t *testing.T) {
	f := composed{&worker{a: &Apps{cfg: Config{Waits: ProductWaits()}}}}
	for period, want := range map[string]time.Duration{`"1s"`: 10 * time.Second, `"1m30s"`: 90 * time.Second, `"24h"`: maxGrace, `7`: 10 * time.Second} {
		j := &job{have: device.Actual{Made: &device.Made{Compose: object(t, `{"services": {"a": {"stop_grace_period": `+period+`}, "b": {}}}`)}}}
		if got := f.grace(j); got != want {
			t.Errorf("stop_grace_period %s: %s, want %s", period, got, want)
		}
	}
	if got := f.grace(&job{}); got != 10*time.Second {
		t.Errorf("of an unknown definition: %s, want 10s", got)
	}
}
