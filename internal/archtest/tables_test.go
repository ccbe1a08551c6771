package archtest

// rows is the layout, lowest first. A package imports packages of lower rows
// only; exceptions are granted in alsoImports and further limits set in
// neverImports. A pattern is a package's path below the module, or a folder
// with "/*" for all directly in it. What is in no row is outside (see outside)
// or a mistake.
var rows = []struct {
	number   int
	what     string
	packages []string
}{
	{1, "words and files", []string{"protocol", "filesystem"}},
	{2, "what the features stand on", []string{
		"container", "messenger", "persistence", "persistence/device", "persistence/journal",
		"system", "system/network", "system/osupdate", "release", "config", "studio/store",
	}},
	{3, "features", []string{
		"agent/*",
		"studio/router", "studio/backend", "studio/registry", "studio/cli", "studio/web",
	}},
	{4, "composition roots", []string{"agent", "studio"}},
	{5, "programs", []string{"cmd/*"}},
}

// tools are open to every row and stand on the standard library alone: what
// would need more belongs into a row.
var tools = []string{"internal/backoff", "internal/proctree", "internal/ringbuf"}

// forTests may be imported by tests and by each other only.
var forTests = []string{"internal/testenv", "internal/testenv/*", "internal/archtest"}

// outside are folders that no row rules, with the reason. Nothing in a row may
// import them.
var outside = map[string]string{
	"test":     "whole-program tests and the bench may use everything",
	"examples": "what users copy",
}

// alsoImports are the imports within one row.
var alsoImports = []struct{ from, to, why string }{
	{"persistence/device", "persistence", "it is the device's use of it"},
	{"studio/store", "persistence", "it is the studio's use of it"},
}

// neverImports are limits beyond the rows. An empty to stands for everything of
// ours but the packages in except.
var neverImports = []struct {
	from, to string
	except   []string
	why      string
}{
	{from: "agent", to: "studio", why: "the device carries no studio code"},
	{from: "studio", to: "agent", why: "agent and studio meet on the wire only"},
	{from: "studio", to: "persistence/device", why: "these are the device's records"},
	{from: "studio", to: "persistence/journal", why: "the device writes journals"},
	{from: "agent", to: "config", except: []string{"agent"}, why: "features get values, not the configuration; only the composition root reads it"},
	{from: "cmd/reagent", except: []string{"agent", "config", "release"},
		why: "a program parses, connects signals, runs and chooses the exit code; the rest is its composition root's"},
	{from: "cmd/reagent-studio", except: []string{"studio", "studio/cli", "config", "release"},
		why: "a program parses, connects signals, runs and chooses the exit code; the rest is its composition root's"},
}

// homes says which packages may import a third-party module; the longest prefix
// counts. What is not listed may be imported nowhere.
var homes = []struct {
	prefix   string
	packages []string
	why      string
}{
	{"github.com/rs/zerolog", []string{"*"}, "the injected logger"},
	{"github.com/rs/zerolog/log", nil, "a global logger"},

	{"github.com/gammazero/nexus/v3", []string{"messenger", "studio/router"}, "the WAMP client is messenger's"},
	{"github.com/gammazero/nexus/v3/router", []string{"studio/router"}, "the WAMP router"},
	{"github.com/gorilla/websocket", []string{"messenger", "studio/router"}, "the socket below WAMP"},

	{"github.com/docker/docker", []string{"container"}, "Docker Engine"},
	{"github.com/docker/go-connections", []string{"container"}, "Docker Engine"},
	{"github.com/docker/go-units", []string{"container"}, "sizes as Docker writes them"},
	{"github.com/containerd/errdefs", []string{"container"}, "the kinds of Docker Engine's errors"},
	{"github.com/opencontainers", []string{"container"}, "words of Docker Engine"},
	{"google.golang.org/protobuf/encoding/protowire", []string{"container"}, "what BuildKit tells and asks"},
	{"github.com/distribution/reference", []string{"container", "studio/registry"}, "names of images"},

	{"go.etcd.io/bbolt", []string{"persistence"}, "the database file"},

	{"github.com/shirou/gopsutil/v4", []string{"system"}, "facts about the host"},
	{"github.com/godbus/dbus/v5", []string{"system", "system/network"}, "D-Bus"},
	{"github.com/Wifx/gonetworkmanager/v3", []string{"system/network"}, "NetworkManager"},
	{"github.com/coreos/go-systemd/v22", []string{"system"}, "systemd"},
	{"github.com/kardianos/service", []string{"system"}, "services of the operating system"},
	{"golang.org/x/sys", []string{"filesystem", "system", "config", "container", "agent/commands", "agent/terminal"}, "system calls that package syscall lacks"},

	{"github.com/peterbourgon/ff/v3", []string{"config"}, "flags and environment"},
	{"gopkg.in/natefinch/lumberjack.v2", []string{"agent", "cmd/*"}, "rotation of the log file"},

	{"github.com/Masterminds/semver/v3", []string{"release", "agent/apps", "studio/store"}, "versions in their order"},
	{"github.com/minio/selfupdate", []string{"release"}, "the swap of the agent's own binary"},
	{"aead.dev/minisign", []string{"release"}, "signatures of releases"},

	{"github.com/creack/pty", []string{"agent/terminal"}, "pseudo-terminals"},
	{"github.com/UserExistsError/conpty", []string{"agent/terminal"}, "pseudo-terminals on Windows"},
	{"github.com/fatedier/frp/client", []string{"agent/tunnel"}, "the tunnel client"},
	{"github.com/fatedier/frp", []string{"agent/tunnel", "studio"}, "the tunnel protocol"},
	{"github.com/prometheus/client_golang", []string{"agent/telemetry", "studio"}, "metrics"},

	{"github.com/distribution/distribution/v3", []string{"studio/registry"}, "the image registry"},
	{"github.com/opencontainers/go-digest", []string{"container", "studio/registry"}, "digests of images"},
	{"github.com/sirupsen/logrus", []string{"studio/registry"}, "what the image registry logs through; caught and passed on"},
	{"github.com/google/go-containerregistry", []string{"studio/cli", "container"}, "reading and pushing images; the size of one before it is pulled"},
	{"github.com/moby/patternmatcher", []string{"studio/cli"}, ".dockerignore as docker build reads it"},
	{"go.yaml.in/yaml/v3", []string{"studio/cli"}, "compose files, which people write in YAML"},
	{"github.com/google/uuid", []string{"studio/store", "studio/cli"}, "serial numbers of new devices, ids of commands"},
	{"github.com/schollz/progressbar/v3", []string{"studio/cli"}, "progress where a person waits"},
	{"golang.org/x/term", []string{"cmd/*", "studio/cli", "agent/terminal"}, "is somebody looking?"},
	{"golang.org/x/sync", []string{"*"}, "groups of goroutines, semaphores"},
}

// constructors of row 2 are called by composition roots, programs and tests: a
// feature is given what it needs and names the little that it uses of it.
const constructors = `^(New|Open|Load|Dial|Connect|Start)([A-Z].*)?$`

// starters may start other programs.
var starters = map[string]string{
	"container":      "the compose plugin and its stand-in",
	"system":         "reboot, services",
	"system/network": "tools of the distribution, where there is no NetworkManager",
	"release":        "the new binary is asked for its version before it takes over",
	"agent/terminal": "shells",
	"agent/commands": "commands that the owner of the device allowed",
}

// recoverers may catch a panic: the four edges of design S2, the same edges in
// the studio, and one library that panics where it means an error.
var recoverers = map[string]string{
	"messenger":      "procedures, event handlers and the decoding of replies",
	"agent":          "a part that Run supervises",
	"agent/apps":     "one step of an app's worker",
	"studio":         "a part that Run supervises",
	"studio/backend": "procedures",
	"studio/router":  "one session's messages",
	"persistence":    "bbolt panics on a damaged file",
}

// badNames are packages that would take anything.
var badNames = []string{"common", "util", "utils", "types", "helper", "helpers", "misc", "base", "shared"}

// notLinked must not be in the agent's binary.
var notLinked = map[string]string{
	"testing":                   "tests",
	"net/http/pprof":            "opens the process's memory to whoever reaches it",
	"expvar":                    "registers itself with the default HTTP server",
	"reagent/studio":            "the studio",
	"reagent/internal/testenv":  "tests",
	"reagent/internal/archtest": "tests",
}
