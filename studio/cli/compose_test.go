package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestComposeFilesBecomeObjects(t *testing.T) {
	for _, c := range []struct{ claim, yaml, want string }{
		{"text, numbers, booleans, null", "services:\n  web:\n    image: a\n    x: [1, 1.5, true, ~, 'yes']\n", `{"services":{"web":{"image":"a","x":[1,1.5,true,null,"yes"]}}}`},
		{"words that old YAML took for booleans, and ports for times", "services: {web: {image: a, restart: no, on: off, ports: ['22:22', 22:22]}}", `{"services":{"web":{"image":"a","on":"off","ports":["22:22","22:22"],"restart":"no"}}}`},
		{"dates stay text", "services: {web: {image: a, d: 2024-01-02}}", `{"services":{"web":{"d":"2024-01-02","image":"a"}}}`},
		{"names that are numbers", "services: {web: {image: a, environment: {1: 2, true: 3}}}", `{"services":{"web":{"environment":{"1":2,"true":3},"image":"a"}}}`},
		{"anchors and merges", "x-base: &b {image: a, tty: true}\nservices:\n  web: {<<: *b, tty: false}\n  db: *b\n",
			`{"services":{"db":{"image":"a","tty":true},"web":{"image":"a","tty":false}},"x-base":{"image":"a","tty":true}}`},
		{"what is filled in on the device stays", "services: {web: {image: 'a:${TAG:-1}'}}", `{"services":{"web":{"image":"a:${TAG:-1}"}}}`},
		{"JSON is YAML", `{"services": {"web": {"image": "a"}}}`, `{"services":{"web":{"image":"a"}}}`},
	} {
		got, err := parseCompose([]byte(c.yaml))
		text, _ := json.Marshal(got)
		if err != nil || string(text) != c.want {
			t.Errorf("%s: %s, %v; want %s", c.claim, text, err, c.want)
		}
	}
}

func TestComposeFilesThatCannotBeAnAppAreRefused(t *testing.T) {
	bomb := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c < 'k'; c++ {
		bomb += string(c) + ": &" + string(c) + " [" + strings.TrimSuffix(strings.Repeat("*"+string(c-1)+",", 10), ",") + "]\n"
	}
	for _, c := range []struct{ claim, yaml, want string }{
		{"no YAML", "a: b: c", "mapping values"},
		{"empty", "", "empty"},
		{"a list", "- a", "cannot unmarshal"},
		{"two documents", "services: {a: {image: b}}\n---\nservices: {}\n", "more than one document"},
		{"no services", "version: '3'", "no services"},
		{"a service of text", "services: {web: hello}", `"web" is no object`},
		{"nothing to run", "services: {web: {command: x}}", `"web" has neither image nor build`},
		{"a part in another file", "include: [other.yaml]\nservices: {web: {image: a}}", "docker compose config"},
		{"a service of another file", "services: {web: {extends: {file: o.yaml, service: a}}}", "docker compose config"},
		{"a number beyond numbers", "services: {web: {image: a, x: .inf}}", "JSON cannot say"},
		{"an alias of itself", "a: &a [*a]\nservices: {web: {image: a}}", "contains itself"},
		{"aliases of aliases", bomb, ""},
		{"too long", "services: {web: {image: a, x: '" + strings.Repeat("x", longestDefinition) + "'}}", "longer than"},
	} {
		file := filepath.Join(t.TempDir(), "compose.yaml")
		if err := os.WriteFile(file, []byte(c.yaml), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := readCompose(file, "shop"); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v, want an error of %s with %q", c.claim, err, file, c.want)
		}
	}
}

func TestWhatAFolderIs(t *testing.T) {
	const app = "services: {web: {build: .}, db: {build: {context: ./db, dockerfile: ../x}}, proxy: {image: nginx}, far: {build: 'https://example.com/x.git'}}"
	for _, c := range []struct {
		claim    string
		files    map[string]string
		flags    projectFlags
		what     string
		contexts []buildContext
		err      string
	}{
		{"a Dockerfile", map[string]string{"Dockerfile": ""}, projectFlags{}, "Dockerfile", []buildContext{{root: "."}}, ""},
		{"one for an architecture", map[string]string{"Dockerfile.armv7": ""}, projectFlags{}, "Dockerfile", []buildContext{{root: "."}}, ""},
		{"a compose app", map[string]string{"compose.yaml": app, "db/Dockerfile": ""}, projectFlags{}, "compose.yaml", []buildContext{{"db", "../x"}, {root: "."}}, ""},
		{"by its old name", map[string]string{"docker-compose.yml": "services: {web: {image: a}}"}, projectFlags{}, "docker-compose.yml", nil, ""},
		{"compose goes before Dockerfile", map[string]string{"compose.yml": "services: {web: {image: a}}", "Dockerfile": ""}, projectFlags{}, "compose.yml", nil, ""},
		{"unless the other is said", map[string]string{"compose.yml": "services: {web: {image: a}}", "Dockerfile": ""}, projectFlags{file: "Dockerfile"}, "Dockerfile", []buildContext{{root: "."}}, ""},
		{"another compose file", map[string]string{"device.yaml": "services: {web: {image: a}}", "Dockerfile": ""}, projectFlags{file: "device.yaml"}, "device.yaml", nil, ""},
		{"one that is not there", map[string]string{"Dockerfile": ""}, projectFlags{file: "device.yaml"}, "", nil, "no such file"},
		{"one outside", map[string]string{"Dockerfile": ""}, projectFlags{file: "../device.yaml"}, "", nil, "not below"},
		{"nothing to build", map[string]string{"README": ""}, projectFlags{}, "", nil, "neither a Dockerfile nor a compose.yaml"},
		{"a build outside", map[string]string{"compose.yaml": "services: {web: {build: ../x}}"}, projectFlags{}, "", nil, "not below the folder"},
		{"a build of nothing", map[string]string{"compose.yaml": "services: {web: {build: x}}"}, projectFlags{}, "", nil, "no such folder"},
		{"a build of a number", map[string]string{"compose.yaml": "services: {web: {build: 7}}"}, projectFlags{}, "", nil, "neither a folder nor an object"},
		{"a name that cannot be", map[string]string{"Dockerfile": ""}, projectFlags{app: "-x"}, "", nil, "--app"},
	} {
		p, err := openProject(folder(t, c.files), c.flags)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want an error with %q", c.claim, err, c.err)
			}
		case err != nil || p.what != c.what || !slices.Equal(p.contexts, c.contexts) || (p.compose != nil) != (c.what != "Dockerfile"):
			t.Errorf("%s: %+v, %v; want it to be built from %s in %v", c.claim, p, err, c.what, c.contexts)
		}
	}
}

func TestAnAppIsCalledLikeItsFolder(t *testing.T) {
	for name, want := range map[string]string{"Hello World": "hello-world", "shop_2": "shop_2"} {
		dir := filepath.Join(folder(t, map[string]string{name + "/Dockerfile": ""}), name)
		if p, err := openProject(dir, projectFlags{}); err != nil || p.app != want {
			t.Errorf("the app of %q is %+v, %v; want it called %s", name, p, err, want)
		}
	}
	dir := filepath.Join(folder(t, map[string]string{"ünï/Dockerfile": ""}), "ünï")
	if _, err := openProject(dir, projectFlags{}); err == nil || !strings.Contains(err.Error(), "--app") {
		t.Errorf("a folder whose name no app can have = %v, want a hint at --app", err)
	}
}

func FuzzParseCompose(f *testing.F) {
	f.Add([]byte("services: {web: {image: a, <<: {b: c}}}"))
	f.Add([]byte("a: &a [*a]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		definition, err := parseCompose(raw)
		if err != nil {
			return
		}
		if _, err := json.Marshal(definition); err != nil {
			t.Errorf("an object that JSON cannot write: %v", err)
		}
	})
}
