package config

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"reagent/protocol"
)

// A setting is one row of the table: where a field of the configuration can
// come from and what it means.
type setting struct {
	flag  string // without its dash; "" = none
	key   string // in the device file, dotted; "" = none
	arg   string // what stands for the value in -help; "" for a boolean
	help  string
	bind  func(*draft) value
	fixed string               // the default …
	place func(Machine) string // … or the default that depends on the machine
	note  string               // shown as the default where the value says nothing
	check func(string) error
	also  string // a variable that other programs read, too, after ours
	marks mark
}

type mark uint8

const (
	needed     mark = 1 << iota // the device file must have it
	secret                      // never shown
	fileFirst                   // the device file wins over flag and variable
	idle                        // its feature is not there yet (design S18)
	flagOnly                    // no variable: it asks for an answer and ends
	keepsGoing                  // odd content is a warning, not an error
)

func (s setting) is(m mark) bool { return s.marks&m != 0 }

// name is how messages and [Config.Explain] call the setting.
func (s setting) name() string {
	if s.flag != "" {
		return s.flag
	}
	return s.key
}

// variable is REAGENT_ and the flag in upper snake case: agentDir becomes
// REAGENT_AGENT_DIR, remoteUpdateURL becomes REAGENT_REMOTE_UPDATE_URL.
func (s setting) variable() string {
	if s.flag == "" || s.is(flagOnly) {
		return ""
	}
	var b strings.Builder
	b.WriteString("REAGENT_")
	upper := func(c byte) bool { return c >= 'A' && c <= 'Z' }
	for i := range len(s.flag) {
		if c := s.flag[i]; upper(c) && !upper(s.flag[i-1]) {
			b.WriteByte('_')
		}
		b.WriteByte(s.flag[i])
	}
	return strings.ToUpper(b.String())
}

func (s setting) defaultOn(m Machine) string {
	if s.place != nil {
		return s.place(m)
	}
	return s.fixed
}

func (s setting) boolean() bool {
	_, ok := s.bind(new(draft)).(*boolValue)
	return ok
}

// A group is a heading of -help and its rows.
type group struct {
	title string
	rows  []setting
}

// flags are the settings of the agent.
var flags = []group{
	{"Files", []setting{
		{flag: "config", arg: "FILE", help: "Device file (.reswarm or .flock) that the studio made for this device. Needed. Links are followed.",
			bind: func(d *draft) value { return (*textValue)(&d.file) }},
		{flag: "agentDir", arg: "DIR", help: "Home of the agent: live status, lock, downloads.",
			bind:  func(d *draft) value { return (*textValue)(&d.AgentDir) },
			place: func(m Machine) string { return m.place("/opt/reagent", "") }, check: present},
		{flag: "appsDir", arg: "DIR", help: "Home of the apps' data. Does not follow -agentDir.",
			bind:  func(d *draft) value { return (*textValue)(&d.AppsDir) },
			place: func(m Machine) string { return m.place("/opt/reagent", "apps") }, check: present},
		{flag: "dbFileName", arg: "FILE", help: "Database of the agent. Where a database of the reference agent lies there, it is left untouched and FILE.bolt is used.",
			bind: func(d *draft) value { return (*textValue)(&d.Database) },
			note: "<appsDir>/.reagent/state.bolt"},
	}},
	{"Connection", []setting{
		{flag: "connTimeout", arg: "MS", help: "Limit of the first dial, in milliseconds; doubles to 30 s while dials run out of time. 0 = none.",
			bind: func(d *draft) value { return (*millisValue)(&d.Link.ConnectTimeout) }, fixed: "1250"},
		{flag: "ppTimeout", arg: "MS", help: "Time between pings; two without an answer end the connection. 0 = no pings.",
			bind: func(d *draft) value { return (*millisValue)(&d.Link.PingInterval) }, fixed: "5000"},
		{flag: "respTimeout", arg: "MS", help: "How long the router may take to confirm, for example a registration. 0 = 5000.",
			bind: func(d *draft) value { return (*millisValue)(&d.Link.ResponseTimeout) }, fixed: "7000"},
		{flag: "caFile", arg: "FILE", help: "Certificates (PEM) to trust besides those of the system, for a studio with a certificate of its own.",
			bind: func(d *draft) value { return (*textValue)(&d.Link.CAFile) }},
		{flag: "offline", help: "Never dial: keep the apps running as they were last wanted.",
			bind: func(d *draft) value { return (*boolValue)(&d.Offline) }, fixed: "false"},
	}},
	{"Apps", []setting{
		{flag: "dockerHost", arg: "URL", help: "Container engine.", also: "DOCKER_HOST", note: "the engine's own, such as unix:///var/run/docker.sock",
			bind: func(d *draft) value { return (*textValue)(&d.DockerHost) }, check: engineURL},
		{flag: "composeHelper", arg: "FILE", help: "Program that runs compose apps where Docker's plugin for them is not installed.",
			bind: func(d *draft) value { return (*textValue)(&d.ComposeHelper) }, note: "reagent-compose beside the agent"},
		{flag: "maxPulls", arg: "N", help: "How many images are downloaded at once.",
			bind: func(d *draft) value { return (*countValue)(&d.MaxPulls) }, fixed: "2"},
		{flag: "appLogSize", key: "app_log_size", arg: "MB", help: "What is kept of the logs of all apps together, in megabytes; the oldest lines of the longest log go first.",
			bind: func(d *draft) value { return (*megabytesValue)(&d.AppLogSize) }, fixed: "64"},
		{flag: "compressedBuildExtension", arg: "EXT", help: "Extension of uploaded build archives.",
			bind: func(d *draft) value { return (*textValue)(&d.BuildExtension) }, fixed: "tgz", check: extension},
	}},
	{"Log", []setting{
		{flag: "logFile", arg: "FILE", help: "Log, a JSON object a line; rotated at 100 MB, two old ones are kept. Where it cannot be written, the log goes to the console.",
			bind:  func(d *draft) value { return (*textValue)(&d.Log.File) },
			place: func(m Machine) string { return m.place("/var/log", "reagent.log") }},
		{flag: "debug", help: "Log details; -debug=false logs what matters only.",
			bind: func(d *draft) value { return (*boolValue)(&d.Log.Debug) }, fixed: "true"},
		{flag: "debugMessaging", help: "Log the messages to and from the router.",
			bind: func(d *draft) value { return (*boolValue)(&d.Log.Messages) }, fixed: "false"},
		{flag: "prettyLogging", help: "Copy the log to the console, readable. On a terminal that is always so.",
			bind: func(d *draft) value { return (*boolValue)(&d.Log.Console) }, fixed: "false"},
	}},
	{"Updates", []setting{
		{flag: "update", help: "Look for a newer agent at the start.",
			bind: func(d *draft) value { return (*boolValue)(&d.Update.AtStart) }, fixed: "true", marks: idle},
		{flag: "remoteUpdateURL", key: "update_url", arg: "URL", help: "Where newer agents are. Here the device file wins.",
			bind: func(d *draft) value { return (*textValue)(&d.Update.URL) }, fixed: "https://storage.googleapis.com", check: webURL, marks: idle | fileFirst | keepsGoing},
		{flag: "env", arg: "NAME", help: "Accepted for old command lines; environment of the device file picks the channel.",
			bind: func(d *draft) value { return (*textValue)(&d.Env) }, fixed: "production", marks: idle},
	}},
	{"Policy: what this device allows; nothing on the network changes it", []setting{
		{flag: "policyCommands", key: "policy.commands", help: "Remote commands may run.",
			bind: func(d *draft) value { return (*boolValue)(&d.Policy.Commands) }, fixed: "false"},
		{flag: "policyTerminals", key: "policy.terminals", help: "Shells of this machine may be opened; those in containers may be anyway.",
			bind: func(d *draft) value { return (*boolValue)(&d.Policy.Terminals) }, fixed: "true"},
		{flag: "policyTerminalUser", key: "policy.terminal_user", arg: "NAME", help: "User of such terminals.", note: "the agent's own user",
			bind: func(d *draft) value { return (*textValue)(&d.Policy.TerminalUser) }},
		{flag: "policyPrivilegedApps", key: "policy.privileged_apps", help: "Apps run privileged, with the machine's devices.",
			bind: func(d *draft) value { return (*boolValue)(&d.Policy.PrivilegedApps) }, fixed: "true"},
		{flag: "policyManageHost", key: "policy.manage_host", help: "The agent may bound the logs of the engine (daemon.json) and of the journal, and, when the disk runs low, clear old journal and downloaded packages.",
			bind: func(d *draft) value { return (*boolValue)(&d.Policy.ManageHost) }, fixed: "false"},
		{flag: "policyUnsignedUpdates", key: "policy.unsigned_updates", help: "An agent without a valid signature may replace this one.",
			bind: func(d *draft) value { return (*boolValue)(&d.Policy.UnsignedUpdates) }, fixed: "false", marks: idle},
		{flag: "policyTunnelPorts", key: "policy.tunnel_ports", arg: "PORTS", help: "Ports of this machine that tunnels may reach without a rule of an app, such as 22,8080, or none.",
			bind: func(d *draft) value { return (*portsValue)(&d.Policy.TunnelPorts) }, fixed: "22", marks: idle},
	}},
	{"System", []setting{
		{flag: "nmw", help: "Use NetworkManager (Linux).",
			bind: func(d *draft) value { return (*boolValue)(&d.NetworkManager) }, fixed: "true", marks: idle},
		{flag: "profiling", help: "Serve profiles of the agent over HTTP.",
			bind: func(d *draft) value { return (*boolValue)(&d.Profiling.On) }, fixed: "false", marks: idle},
		{flag: "profilingPort", arg: "PORT", help: "Port of -profiling.",
			bind: func(d *draft) value { return (*portValue)(&d.Profiling.Port) }, fixed: "80", marks: idle},
	}},
	{"Questions", []setting{
		{flag: "version", help: "Print the version and end, whatever else is given.",
			bind: func(d *draft) value { return (*boolValue)(&d.version) }, fixed: "false", marks: flagOnly},
		{flag: "arch", help: "Print the architecture that this program was built for and end.",
			bind: func(d *draft) value { return (*boolValue)(&d.arch) }, fixed: "false", marks: flagOnly},
	}},
}

// keys are what the agent reads from the device file besides the settings above.
var keys = group{"Device file", []setting{
	{key: "serial_number", help: "Names this device on the network.", marks: needed, check: serial,
		bind: func(d *draft) value { return (*textValue)(&d.id.SerialNumber) }},
	{key: "secret", help: "Password of this device.", marks: needed | secret,
		bind: func(d *draft) value { return (*textValue)(&d.id.Secret) }},
	{key: "swarm_key", help: "Number of the project; follows the studio.", marks: needed,
		bind: func(d *draft) value { return (*wholeValue)(&d.id.SwarmKey) }},
	{key: "device_key", help: "Number of the device.", marks: needed,
		bind: func(d *draft) value { return (*wholeValue)(&d.id.DeviceKey) }},
	{key: "device_endpoint_url", help: "Address of the router: ws, wss, http, https, tcp, tcps or unix.", marks: needed, check: routerURL,
		bind: func(d *draft) value { return (*textValue)(&d.id.EndpointURL) }},
	{key: "name", help: "Name of the device; follows the studio.", marks: keepsGoing,
		bind: func(d *draft) value { return (*textValue)(&d.id.Name) }},
	{key: "swarm_name", help: "Name of the project; follows the studio.", marks: keepsGoing,
		bind: func(d *draft) value { return (*textValue)(&d.id.SwarmName) }},
	{key: "swarm_owner_name", help: "Owner of the project; follows the studio.", marks: keepsGoing,
		bind: func(d *draft) value { return (*textValue)(&d.id.SwarmOwnerName) }},
	{key: "docker_registry_url", help: "Image registry, with its trailing slash.", marks: keepsGoing, check: trailingSlash,
		bind: func(d *draft) value { return (*textValue)(&d.id.RegistryURL) }},
	{key: "docker_main_repository", help: "Repository of the apps in the registry, such as apps/.", marks: keepsGoing,
		bind: func(d *draft) value { return (*textValue)(&d.id.MainRepository) }},
	{key: "environment", help: "production, test or local.", marks: keepsGoing,
		bind: func(d *draft) value { return (*textValue)(&d.id.Environment) }},
	{key: "appliance_domain", help: "Tunnel server of an appliance.", marks: keepsGoing,
		bind: func(d *draft) value { return (*textValue)(&d.id.ApplianceDomain) }},
	{key: "board.model", help: "The model appliance is the appliance's own agent.", marks: keepsGoing,
		bind: func(d *draft) value { return (*textValue)(&d.id.BoardModel) }},
	{key: "authentication.key", help: "Client key (PEM) for legacy routers.", marks: secret | keepsGoing,
		bind: func(d *draft) value { return (*textValue)(&d.id.ClientKey) }},
	{key: "authentication.certificate", help: "Client certificate (PEM) for legacy routers.", marks: keepsGoing,
		bind: func(d *draft) value { return (*textValue)(&d.id.ClientCertificate) }},
}}

// settings are all rows in their order.
func settings() []setting {
	var all []setting
	for _, g := range flags {
		all = append(all, g.rows...)
	}
	return append(all, keys.rows...)
}

func present(text string) error {
	if text == "" {
		return errors.New("no home folder is known on this machine, so there is no default: name a folder")
	}
	return nil
}

func serial(text string) error {
	if err := protocol.CheckSerial(text); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "serial_number "))
	}
	return nil
}

func routerURL(text string) error {
	u, err := url.Parse(text)
	if err != nil {
		return errors.New("it is not a URL") // the reason would repeat it, with its password
	}
	if !slices.Contains([]string{"ws", "wss", "http", "https", "tcp", "tcps", "unix"}, u.Scheme) {
		return fmt.Errorf("scheme %q is none of ws, wss, http, https, tcp, tcps, unix", u.Scheme)
	}
	if u.Scheme == "unix" && u.Path == "" && u.Host == "" || u.Scheme != "unix" && u.Hostname() == "" {
		return errors.New("the URL names no host")
	}
	return nil
}

func webURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
		return errors.New("it is not an http or https URL")
	}
	return nil
}

func engineURL(text string) error {
	if scheme, _, ok := strings.Cut(text, "://"); text != "" && (!ok || !slices.Contains([]string{"unix", "tcp", "npipe", "http", "https"}, scheme)) {
		return fmt.Errorf("%q is no address of an engine, such as unix:///var/run/docker.sock or tcp://10.0.0.2:2376", text)
	}
	return nil
}

func extension(text string) error {
	if text == "" || strings.ContainsAny(text, "/\\ \x00") || strings.Contains(text, "..") {
		return fmt.Errorf("%q is no extension of a file name", text)
	}
	return nil
}

func trailingSlash(text string) error {
	if text != "" && !strings.HasSuffix(text, "/") {
		return fmt.Errorf("%q does not end in a slash, so image names are glued to it", text)
	}
	return nil
}

// draft is a configuration in the making.
type draft struct {
	Config
	id            Identity
	file          string // path of the device file
	version, arch bool
}

// The rest of the contract's timings has no flag: 0 of -respTimeout means this.
const defaultResponseTimeout = 5 * time.Second
