package config

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A device file as a studio makes it, with keys that the agent does not know.
const sample = `{
 "name": "press-07",
 "secret": "bm90LWEtcmVhbC1zZWNyZXQ=",
 "board": {"cpu": "cortex-a72", "model": "raspberrypi4-64", "reflasher": false},
 "wlanssid": "hall b", "password": "<wifi> & \"more\"",
 "swarm_key": 41, "device_key": 1207, "swarm_name": "hall_b", "description": null,
 "serial_number": "0b0f3f0e-7a7e-4a0c-9a55-2f6f0c1d9e77",
 "authentication": {"key": "", "certificate": ""},
 "insecure-registries": "[\"10.0.0.1:5000\"]",
 "device_endpoint_url": "wss://router.example.test/ws-re-dev", "environment": "production",
 "docker_registry_url": "registry.example.test/", "docker_main_repository": "apps/",
 "later": {"of": [1.0, 1e3, 18446744073709551616]}
}
`

// writeFile makes a device file and gives its path.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "device.reswarm")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// machine is an ordinary user's machine with all its folders below one.
func machine(dir string) Machine {
	return Machine{OS: "linux", Home: dir, StateHome: filepath.Join(dir, "state"), RunDir: filepath.Join(dir, "run"), ForeignLock: filepath.Join(dir, "foreign.lock")}
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func mustLoad(t *testing.T, text string, getenv func(string) string, args ...string) *Config {
	t.Helper()
	cfg, err := load(append([]string{"-config", writeFile(t, text)}, args...), getenv, machine(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// with is the sample with one more line at its beginning.
func with(line string) string { return strings.Replace(sample, "{\n", "{\n "+line+",\n", 1) }

func TestSourcesWinInTheirOrder(t *testing.T) {
	get := func(name string) func(*Config) string {
		return func(c *Config) string {
			for _, e := range c.Explain() {
				if e.Name == name {
					return e.Value
				}
			}
			return "no such setting"
		}
	}
	for _, row := range []struct {
		about  string
		file   string
		env    []string
		args   []string
		get    func(*Config) string
		name   string
		want   string
		origin string
	}{
		{"default", sample, nil, nil, get("ppTimeout"), "ppTimeout", "5000", "default"},
		{"variable over default", sample, []string{"REAGENT_PP_TIMEOUT", "10"}, nil, get("ppTimeout"), "ppTimeout", "10", "variable REAGENT_PP_TIMEOUT"},
		{"flag over variable", sample, []string{"REAGENT_PP_TIMEOUT", "10"}, []string{"-ppTimeout", "20"}, get("ppTimeout"), "ppTimeout", "20", "flag -ppTimeout"},
		{"flag with two dashes", sample, nil, []string{"--ppTimeout=20"}, get("ppTimeout"), "ppTimeout", "20", "flag -ppTimeout"},
		{"empty flag is none", sample, []string{"REAGENT_PP_TIMEOUT", "10"}, []string{"-ppTimeout="}, get("ppTimeout"), "ppTimeout", "10", "variable REAGENT_PP_TIMEOUT"},
		{"boolean switched off", sample, nil, []string{"-debug=false"}, get("debug"), "debug", "false", "flag -debug"},
		{"bare boolean", sample, []string{"REAGENT_DEBUG", "false"}, []string{"-debug"}, get("debug"), "debug", "true", "flag -debug"},
		{"file over default", with(`"policy": {"commands": true}`), nil, nil, get("policyCommands"), "policyCommands", "true", "device file, line 2"},
		{"null is absent", with(`"policy": {"terminals": null}`), nil, nil, get("policyTerminals"), "policyTerminals", "true", "default"},
		{"variable over file", with(`"policy": {"commands": true}`), []string{"REAGENT_POLICY_COMMANDS", "0"}, nil, get("policyCommands"), "policyCommands", "false", "variable REAGENT_POLICY_COMMANDS"},
		{"flag over all", with(`"policy": {"tunnel_ports": [1]}`), []string{"REAGENT_POLICY_TUNNEL_PORTS", "2"}, []string{"-policyTunnelPorts", "3,4"}, get("policyTunnelPorts"), "policyTunnelPorts", "3,4", "flag -policyTunnelPorts"},
		{"empty list is none", with(`"policy": {"tunnel_ports": []}`), nil, nil, get("policyTunnelPorts"), "policyTunnelPorts", "none", "device file, line 2"},
		{"flag says none", sample, nil, []string{"-policyTunnelPorts", "none"}, get("policyTunnelPorts"), "policyTunnelPorts", "none", "flag -policyTunnelPorts"},
		{"the file's update_url wins", with(`"update_url": "https://mirror.example.test"`), []string{"REAGENT_REMOTE_UPDATE_URL", "https://b.example.test"}, []string{"-remoteUpdateURL", "https://a.example.test"}, get("remoteUpdateURL"), "remoteUpdateURL", "https://mirror.example.test", "device file, line 2"},
		{"without it the flag does", with(`"update_url": ""`), nil, []string{"-remoteUpdateURL", "https://a.example.test"}, get("remoteUpdateURL"), "remoteUpdateURL", "https://a.example.test", "flag -remoteUpdateURL"},
		{"engine from DOCKER_HOST", sample, []string{"DOCKER_HOST", "tcp://10.0.0.2:2375"}, nil, get("dockerHost"), "dockerHost", "tcp://10.0.0.2:2375", "variable DOCKER_HOST"},
		{"ours before DOCKER_HOST", sample, []string{"DOCKER_HOST", "tcp://10.0.0.2:2375", "REAGENT_DOCKER_HOST", "unix:///x"}, nil, get("dockerHost"), "dockerHost", "unix:///x", "variable REAGENT_DOCKER_HOST"},
		{"identity", sample, nil, nil, get("device_key"), "device_key", "1207", "device file, line 6"},
		{"secrets are not shown", sample, nil, nil, get("secret"), "secret", "(secret)", "device file, line 3"},
		{"the platform's old registry", strings.Replace(sample, "registry.example.test/", "registry.reswarm.io/", 1), nil, nil, get("docker_registry_url"), "docker_registry_url", "registry.ironflock.com/", "device file, line 11 (it has moved)"},
		{"the platform's old router", strings.Replace(sample, "wss://router.example.test/ws-re-dev", "wss://cbw.record-evolution.com/ws-re-dev", 1), nil, nil, get("device_endpoint_url"), "device_endpoint_url", "wss://cbw.ironflock.com/ws-re-dev", "device file, line 10 (it has moved)"},
	} {
		t.Run(row.about, func(t *testing.T) {
			cfg := mustLoad(t, row.file, env(row.env...), row.args...)
			if got := row.get(cfg); got != row.want {
				t.Errorf("%s = %q, want %q", row.name, got, row.want)
			}
			if got := cfg.Origin(row.name); got != row.origin {
				t.Errorf("origin of %s = %q, want %q", row.name, got, row.origin)
			}
		})
	}
}

// The line that flashed images start the agent with, word for word.
func TestFlashedImagesCommandLineWorks(t *testing.T) {
	path := writeFile(t, sample)
	cfg, err := load(strings.Fields("-config "+path+" -appsDir /apps -debug"), env(), Machine{OS: "linux", Root: true})
	if err != nil {
		t.Fatal(err)
	}
	id := cfg.DeviceFile.Identity()
	if cfg.AppsDir != "/apps" || !cfg.Log.Debug || cfg.AgentDir != "/opt/reagent" || cfg.Log.File != "/var/log/reagent.log" || cfg.Database != "/apps/.reagent/state.bolt" {
		t.Errorf("places = %+v", *cfg)
	}
	if id.AuthID() != "41-1207" || id.Name != "press-07" || id.BoardModel != "raspberrypi4-64" || id.RegistryURL != "registry.example.test/" || id.MainRepository != "apps/" {
		t.Errorf("identity = %+v", id)
	}
	if cfg.Link.ConnectTimeout != 1250*time.Millisecond || cfg.Link.PingInterval != 5*time.Second || cfg.Link.ResponseTimeout != 7*time.Second {
		t.Errorf("timings = %+v", cfg.Link)
	}
	if p := cfg.Policy; p.Commands || !p.Terminals || !p.PrivilegedApps || p.ManageHost || p.UnsignedUpdates || p.TerminalUser != "" || fmt.Sprint(p.TunnelPorts) != "[22]" {
		t.Errorf("policy = %+v", p)
	}
}

func TestProblemsNameTheirPlace(t *testing.T) {
	swap := func(old, now string) string { return strings.Replace(sample, old, now, 1) }
	for _, row := range []struct {
		about, file string
		env, args   []string
		want        []string
	}{
		{"no secret", swap(`"secret"`, `"sekret"`), nil, nil, []string{"secret is missing"}},
		{"empty secret", swap(`"bm90LWEtcmVhbC1zZWNyZXQ="`, `""`), nil, nil, []string{"secret is missing"}},
		{"several at once", `{"swarm_key": 1}`, nil, nil, []string{"serial_number is missing", "secret is missing", "device_key is missing", "device_endpoint_url is missing"}},
		{"a key of zero", swap(`"swarm_key": 41`, `"swarm_key": 0`), nil, nil, []string{"swarm_key is missing"}},
		{"a number as text", swap(`"swarm_key": 41`, `"swarm_key": "41"`), nil, nil, []string{"device.reswarm:6:15: swarm_key: a string where a whole, non-negative number is needed"}},
		{"half a number", swap(`"device_key": 1207`, `"device_key": 12.7`), nil, nil, []string{":6:33: device_key: a number where a whole"}},
		{"a negative one", swap(`"device_key": 1207`, `"device_key": -1`), nil, nil, []string{"device_key: a number where a whole, non-negative"}},
		{"a text as number", swap(`"bm90LWEtcmVhbC1zZWNyZXQ="`, `7`), nil, nil, []string{":3:12: secret: a number where a string is needed"}},
		{"serial with dots", swap(`"0b0f3f0e-`, `"0b0f.3f0e-`), nil, nil, []string{`serial_number: "0b0f.3f0e-7a7e`, "white space"}},
		{"odd endpoint", swap("wss://router", "ftp://router"), nil, nil, []string{`device_endpoint_url: scheme "ftp"`}},
		{"policy of another kind", with(`"policy": ["commands"]`), nil, nil, []string{"policy is a list where an object is needed"}},
		{"policy value of another kind", with(`"policy": {"terminals": "false"}`), nil, nil, []string{":2:26: policy.terminals: a string where true or false is needed"}},
		{"port out of range", with(`"policy": {"tunnel_ports": [22, 70000]}`), nil, nil, []string{"policy.tunnel_ports: element 1"}},
		{"flag", sample, nil, []string{"-ppTimeout", "soon"}, []string{`flag -ppTimeout: "soon" is not a number of milliseconds`}},
		{"huge time", sample, nil, []string{"-ppTimeout", "18446744073709551615"}, []string{"flag -ppTimeout:"}},
		{"variable", sample, []string{"REAGENT_OFFLINE", "perhaps"}, nil, []string{`variable REAGENT_OFFLINE: "perhaps" is neither true nor false`}},
		{"unknown flag", sample, nil, []string{"-frobnicate"}, []string{"-frobnicate", "reagent -help"}},
		{"engine", sample, nil, []string{"-dockerHost", "localhost"}, []string{"flag -dockerHost:", "unix:///var/run/docker.sock"}},
		{"extension", sample, nil, []string{"-compressedBuildExtension", "../x"}, []string{"flag -compressedBuildExtension:"}},
		{"no room for logs", sample, nil, []string{"-appLogSize", "0"}, []string{`flag -appLogSize: "0" is not a number of megabytes from 1 to 1048576`}},
		{"no pulls", sample, nil, []string{"-maxPulls", "0"}, []string{`flag -maxPulls: "0" is not a number from 1 to 1000`}},
		{"CA that is not there", sample, nil, []string{"-caFile", "/nonexistent/ca.pem"}, []string{"-caFile: open /nonexistent/ca.pem"}},
		{"all of them", swap(`"swarm_key": 41`, `"swarm_key": "41"`), nil, []string{"-ppTimeout", "x", "-profilingPort", "0"}, []string{"swarm_key", "-ppTimeout", "-profilingPort"}},
	} {
		t.Run(row.about, func(t *testing.T) {
			path := writeFile(t, row.file)
			_, err := load(append([]string{"-config", path}, row.args...), env(row.env...), machine(t.TempDir()))
			var wrong *Error
			if !errors.As(err, &wrong) {
				t.Fatalf("load = %v, want an *Error", err)
			}
			for _, want := range row.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
			if strings.Contains(err.Error(), "bm90LWEt") {
				t.Errorf("error %q holds the secret", err)
			}
			if got, _ := os.ReadFile(path); string(got) != row.file {
				t.Error("the device file was changed")
			}
		})
	}
}

func TestOddButUsableContentIsAWarning(t *testing.T) {
	for _, row := range []struct{ about, file, want string }{
		{"name", strings.Replace(sample, `"press-07"`, `7`, 1), ":2:10: name: a number where a string is needed"},
		{"registry without slash", strings.Replace(sample, "registry.example.test/", "registry.example.test", 1), "docker_registry_url: \"registry.example.test\" does not end in a slash"},
		{"board", strings.Replace(sample, `{"cpu": "cortex-a72", "model": "raspberrypi4-64", "reflasher": false}`, `[]`, 1), "board.model: board is a list where an object is needed"},
		{"update_url", with(`"update_url": 7`), "update_url: a number"},
		{"leftover arguments", "", "ignored on the command line: true -offline"},
	} {
		t.Run(row.about, func(t *testing.T) {
			var cfg *Config
			if row.file == "" {
				cfg = mustLoad(t, sample, env(), "-debug", "true", "-offline")
			} else {
				cfg = mustLoad(t, row.file, env())
			}
			if len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], row.want) {
				t.Errorf("warnings = %q, want one with %q", cfg.Warnings, row.want)
			}
		})
	}
	path := writeFile(t, sample)
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	cfg, err := load([]string{"-config", path}, env(), machine(t.TempDir()))
	if err != nil || len(cfg.Warnings) != 1 || !strings.Contains(cfg.Warnings[0], "chmod 600") {
		t.Errorf("a file that everybody may read: %v, %v", cfg, err)
	}
}

func TestQuestionsAreAnsweredBesideAnythingElse(t *testing.T) {
	broken := env("REAGENT_PP_TIMEOUT", "rubbish", "REAGENT_CONFIG", "/nonexistent")
	for _, row := range []struct {
		args string
		want error
	}{
		{"-version", ErrVersion}, {"--version", ErrVersion}, {"-version=true", ErrVersion},
		{"-config /nonexistent --version", ErrVersion}, {"--version -config /nonexistent -debug", ErrVersion},
		{"-version -frobnicate", ErrVersion}, {"-ppTimeout x -version", ErrVersion}, {"-version extra", ErrVersion},
		{"-arch", ErrArch}, {"-debug -arch", ErrArch}, {"-help", flag.ErrHelp}, {"-h", flag.ErrHelp}, {"-debug --help", flag.ErrHelp},
	} {
		if _, err := load(strings.Fields(row.args), broken, machine(t.TempDir())); !errors.Is(err, row.want) {
			t.Errorf("reagent %s: %v, want %v", row.args, err, row.want)
		}
	}
	var wrong *Error
	if _, err := load([]string{"-version=false"}, env(), machine(t.TempDir())); !errors.As(err, &wrong) {
		t.Errorf("-version=false: %v, want that -config is missing", err)
	}
}

func TestVariablesAreUpperSnakeCase(t *testing.T) {
	for name, want := range map[string]string{
		"agentDir": "REAGENT_AGENT_DIR", "dbFileName": "REAGENT_DB_FILE_NAME", "remoteUpdateURL": "REAGENT_REMOTE_UPDATE_URL",
		"ppTimeout": "REAGENT_PP_TIMEOUT", "nmw": "REAGENT_NMW", "compressedBuildExtension": "REAGENT_COMPRESSED_BUILD_EXTENSION",
		"caFile": "REAGENT_CA_FILE", "config": "REAGENT_CONFIG", "policyTunnelPorts": "REAGENT_POLICY_TUNNEL_PORTS",
	} {
		if got := (setting{flag: name}).variable(); got != want {
			t.Errorf("variable of -%s = %s, want %s", name, got, want)
		}
	}
}

// The contract's flags with their defaults on Linux (wire §2), and ours.
func TestEveryFlagOfTheContractIsThere(t *testing.T) {
	m := Machine{OS: "linux", Root: true}
	want := map[string]string{
		"config": "", "agentDir": "/opt/reagent", "appsDir": "/opt/reagent/apps", "dbFileName": "", "logFile": "/var/log/reagent.log",
		"debug": "true", "debugMessaging": "false", "prettyLogging": "false", "update": "true", "remoteUpdateURL": "https://storage.googleapis.com",
		"env": "production", "nmw": "true", "compressedBuildExtension": "tgz", "ppTimeout": "5000", "respTimeout": "7000", "connTimeout": "1250",
		"offline": "false", "profiling": "false", "profilingPort": "80", "version": "false", "arch": "false",
		"caFile": "", "dockerHost": "", "policyCommands": "false", "policyTerminals": "true", "policyTerminalUser": "",
		"policyPrivilegedApps": "true", "policyManageHost": "false", "policyUnsignedUpdates": "false", "policyTunnelPorts": "22",
		"composeHelper": "", "maxPulls": "2", "appLogSize": "64",
	}
	for _, s := range settings() {
		if s.flag == "" {
			continue
		}
		if d, ok := want[s.flag]; !ok || d != s.defaultOn(m) {
			t.Errorf("-%s has the default %q, want %q (known: %v)", s.flag, s.defaultOn(m), d, ok)
		}
		delete(want, s.flag)
	}
	if len(want) > 0 {
		t.Errorf("missing flags: %v", want)
	}
}

func TestEveryRowIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range settings() {
		for _, name := range []string{s.flag, s.key, s.variable()} {
			if name != "" && seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		if s.help == "" || !strings.HasSuffix(s.help, ".") {
			t.Errorf("%s: help %q is no sentence", s.name(), s.help)
		}
		if s.boolean() != (s.arg == "") && s.flag != "" {
			t.Errorf("%s: only a boolean has no argument", s.name())
		}
		if s.fixed != "" {
			d := &draft{}
			if err := s.bind(d).setText(s.fixed); err != nil || s.bind(d).String() != s.fixed {
				t.Errorf("%s: default %q becomes %q, %v", s.name(), s.fixed, s.bind(d), err)
			}
		}
	}
}

func TestPlacesDependOnMachineAndUser(t *testing.T) {
	for _, row := range []struct {
		about            string
		m                Machine
		agent, apps, log string
	}{
		{"root on Linux", Machine{OS: "linux", Root: true, Home: "/root"}, "/opt/reagent", "/opt/reagent/apps", "/var/log/reagent.log"},
		{"user", Machine{OS: "linux", Home: "/home/u", StateHome: "/home/u/.local/state"}, "/home/u/.local/state/reagent", "/home/u/.local/state/reagent/apps", "/home/u/.local/state/reagent/reagent.log"},
		{"root on macOS", Machine{OS: "darwin", Root: true, Home: "/var/root"}, "/var/root/reagent", "/var/root/reagent/apps", "/var/root/reagent/reagent.log"},
	} {
		cfg, err := load([]string{"-config", writeFile(t, sample)}, env(), row.m)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.AgentDir != row.agent || cfg.AppsDir != row.apps || cfg.Log.File != row.log || cfg.Database != row.apps+"/.reagent/state.bolt" {
			t.Errorf("%s: %s, %s, %s, %s", row.about, cfg.AgentDir, cfg.AppsDir, cfg.Log.File, cfg.Database)
		}
	}
	// Neither apps nor database follow -agentDir.
	cfg, err := load([]string{"-config", writeFile(t, sample), "-agentDir", "/srv/x"}, env(), Machine{OS: "linux", Root: true})
	if err != nil || cfg.AppsDir != "/opt/reagent/apps" || cfg.StatusFile() != "/srv/x/status.json" {
		t.Errorf("with -agentDir: %+v, %v", cfg, err)
	}
	if _, err := load([]string{"-config", writeFile(t, sample)}, env(), Machine{OS: "linux"}); err == nil || !strings.Contains(err.Error(), "-agentDir: no home folder") {
		t.Errorf("without a home: %v", err)
	}
	if m := Here(env("HOME", "/home/u", "XDG_STATE_HOME", "relative")); m.StateHome != "/home/u/.local/state" {
		t.Errorf("a relative XDG_STATE_HOME gave %s, want it ignored", m.StateHome)
	}
}

func TestReferenceDatabaseIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "reagent.db")
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want := func(about, file string) {
		t.Helper()
		if got := database(path, "/apps"); got != file {
			t.Errorf("%s: %s, want %s", about, got, file)
		}
	}
	want("nothing there", path)
	put("reagent.db", "SQLite format 3\x00 and so on")
	want("SQLite there", path+".bolt")
	put("reagent.db.bolt", "ours")
	want("SQLite and ours", path+".bolt")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want("SQLite removed later", path+".bolt")
	put("reagent.db", "ours, too")
	want("ours at the path", path)
	put("reagent.db", "SQL")
	want("a short file", path)
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs from the table of settings: run go test ./config -update\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}

func TestHelpIsMadeFromTheTable(t *testing.T) {
	var b strings.Builder
	if err := help(&b, Machine{OS: "linux", Root: true, Home: "/root"}); err != nil {
		t.Fatal(err)
	}
	golden(t, filepath.Join("testdata", "help.golden"), b.String())
	for line := range strings.Lines(b.String()) {
		if len([]rune(line)) > helpWidth+1 {
			t.Errorf("line of %d characters: %s", len([]rune(line)), line)
		}
	}
	golden(t, filepath.Join("..", "docs", "configuration.md"), markdown())
}
