package protocol

import (
	"fmt"
	"strings"
	"testing"
)

func TestServiceImagesBelongToTheirApp(t *testing.T) {
	for _, c := range []struct{ app, service, want string }{
		{"hello", "web", "r:1/apps/prod_armv7_6_hello_web"},
		{"My-App", "Redis", "r:1/apps/prod_armv7_6_my-app_redis"},
		{"a_b", "c__d.e", "r:1/apps/prod_armv7_6_a_b_c__d.e"},
	} {
		got := RegistryServiceImage("r:1/", "apps/", Prod, "armv7", 6, c.app, c.service)
		if got != c.want {
			t.Errorf("image of %s/%s = %q, want %q", c.app, c.service, got, c.want)
		}
		stage, arch, key, _, ok := ParseImageName(strings.TrimPrefix(got, "r:1/apps/"))
		if !ok || stage != Prod || arch != "armv7" || key != 6 {
			t.Errorf("ParseImageName(%q) = %s %s %d %v, want PROD armv7 6", got, stage, arch, key, ok)
		}
	}
}

func TestDefinitionsThatCannotBeAppsAreRefused(t *testing.T) {
	one := map[string]any{}
	many := map[string]any{}
	for i := range mostServices + 1 {
		many[fmt.Sprint("s", i)] = one
	}
	for claim, services := range map[string]any{
		"none":                      nil,
		"a list":                    []any{},
		"empty":                     map[string]any{},
		"too many":                  many,
		"a service that is a text":  map[string]any{"web": "nginx"},
		"an image that is a number": map[string]any{"web": map[string]any{"image": 1}},
		"names of the same image":   map[string]any{"web": one, "Web": one},
		"an empty name":             map[string]any{"": one},
		"a leading dash":            map[string]any{"-web": one},
		"a trailing dot":            map[string]any{"web.": one},
		"dot and dash":              map[string]any{"w.-b": one},
		"three underscores":         map[string]any{"w___b": one},
		"two dots":                  map[string]any{"w..b": one},
		"a slash":                   map[string]any{"w/b": one},
		"a colon":                   map[string]any{"w:b": one},
		"a long name":               map[string]any{strings.Repeat("a", 128): one},
	} {
		if got, err := ComposeServices("app", map[string]any{"services": services}); err == nil {
			t.Errorf("%s: services = %v, want an error", claim, got)
		}
	}
	got, err := ComposeServices("app", map[string]any{"services": map[string]any{"Web": map[string]any{"image": "x"}, "a-b_c": one}})
	if err != nil || len(got) != 2 || got["Web"]["image"] != "x" {
		t.Errorf("good services = %v, %v", got, err)
	}
}
