package apps

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"reagent/filesystem"
	"reagent/protocol"
)

// Facts are what the rest of the agent knows and an app is told or made with.
// They may change while the agent runs; they are asked for when they are used.
type Facts struct {
	Serial          string
	DeviceKey       uint64
	SwarmKey        uint64
	DeviceName      string
	SwarmName       string
	SwarmOwner      string
	EndpointURL     string
	ApplianceDomain string
	Environment     string // production, test, local
	Registry        string // with a trailing slash
	Repository      string
	Secret          string // of the device: password at its registry
	BaseURL         string // of the studio's pages, learnt from the heartbeat; "" = unknown
	CredentialKey   string // of which the apps' credentials are derived; "" = unknown
	Boot            string // a name for this start of the system; "" = unknown
}

// A line longer than this is given to the app as a file only (life §3.4).
const longestVariable = 20 * 1024

// reservedVariables may not be set by a user.
var reservedVariables = map[string]bool{"APP_AUTH_ID": true, "APP_AUTH_SECRET": true}

// environment makes the variables of an app in the contract's order (life §3.4),
// and names those that cannot be passed on. ports are the managed host ports.
func environment(f Facts, lanIP string, r protocol.AppRequest, ports map[string]uint16) (lines []variable, refused []string) {
	var vars []variable
	set := map[string]int{}
	add := func(name, value string) {
		if i, twice := set[name]; twice {
			vars = slices.Delete(vars, i, i+1)
			for n, at := range set {
				if at > i {
					set[n] = at - 1
				}
			}
		}
		set[name] = len(vars)
		vars = append(vars, variable{name, value})
	}

	add("DEVICE_SERIAL_NUMBER", f.Serial)
	add("ENV", string(r.Stage))
	add("DEVICE_KEY", strconv.FormatUint(f.DeviceKey, 10))
	add("SWARM_KEY", strconv.FormatUint(f.SwarmKey, 10))
	add("APP_KEY", strconv.FormatUint(r.AppKey, 10))
	add("APP_NAME", r.AppName)
	add("DEVICE_NAME", f.DeviceName)
	add("DEVICE_ENDPOINT_URL", endpointForApps(f.EndpointURL))
	add("TUNNEL_DOMAIN", tunnelDomain(f))
	if f.CredentialKey != "" && f.Serial != "" && r.AppKey != 0 {
		add("APP_AUTH_ID", protocol.AppAuthID(r.Stage, r.AppKey, r.AppCredEpoch, f.Serial))
		add("APP_AUTH_SECRET", protocol.AppSecret(f.CredentialKey, r.Stage, r.AppKey, r.AppCredEpoch, f.Serial))
	}
	if lanIP != "" {
		add("DEVICE_LAN_IP", lanIP)
	}
	if r.InstanceKey > 0 {
		add("INSTANCE_KEY", strconv.FormatUint(r.InstanceKey, 10))
	}
	if f.BaseURL != "" {
		add("RESWARM_URL", f.BaseURL)
		add("DEVICE_URL", fmt.Sprintf("%s/%s/swarms/%s/settings/devices/%s", f.BaseURL, f.SwarmOwner, f.SwarmName, f.DeviceName))
	}

	user := func(from map[string]any, key string, skip func(name string) bool) {
		for _, name := range slices.Sorted(maps.Keys(from)) {
			entry, _ := protocol.AsDict(from[name])
			value := entry[key]
			switch {
			case skip(name):
			case !validVariable(name):
				refused = append(refused, name)
			default:
				add(name, oneLine(asText(value)))
			}
		}
	}
	isSet := func(name string) bool { _, ok := set[name]; return ok }
	if r.Stage == protocol.Prod {
		user(r.Environment, "value", func(name string) bool { return reservedVariables[name] })
		for _, p := range r.Ports {
			if p.CloudRemotePort == 0 {
				continue
			}
			value := strconv.Itoa(int(p.CloudRemotePort))
			add(fmt.Sprintf("REMOTE_PORT_FOR_%d_CLOUD", p.Port), value)
			if name := p.RemotePortEnvironment; name != "" && validVariable(name) {
				add(name+"_CLOUD", value)
			}
		}
	}
	user(r.EnvironmentTemplate, "defaultValue", func(name string) bool {
		entry, _ := protocol.AsDict(r.EnvironmentTemplate[name])
		return entry["defaultValue"] == nil || reservedVariables[name] || r.Stage == protocol.Prod && isSet(name)
	})

	declared := map[uint16]uint16{}
	for _, of := range []string{"tcp", "udp"} { // of two the first counts
		for _, slot := range slices.Sorted(maps.Keys(ports)) {
			_, wire, port, ok := parseSlot(slot)
			if _, twice := declared[port]; ok && wire == of && !twice {
				declared[port] = ports[slot]
			}
		}
	}
	for _, port := range slices.Sorted(maps.Keys(declared)) {
		add(fmt.Sprintf("DEVICE_PORT_FOR_%d", port), strconv.Itoa(int(declared[port])))
	}
	return vars, refused
}

type variable struct{ name, value string }

func (v variable) line() string { return v.name + "=" + v.value }

func validVariable(name string) bool {
	return name != "" && len(name) <= 200 && !strings.ContainsAny(name, "=\x00\n\r\t /\\") && name != "." && name != ".."
}

var oneLineReplacer = strings.NewReplacer("\n", `\n`, "\t", `\t`, "\r", `\r`, "\x00", "")

// oneLine writes line breaks and tabs as two characters, as the contract does.
func oneLine(s string) string { return oneLineReplacer.Replace(s) }

// asText renders a value of any JSON type.
func asText(v any) string {
	switch v := v.(type) {
	case nil:
		return ""
	case string:
		return v
	case bool:
		return strconv.FormatBool(v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprint(v)
	}
	return string(raw)
}

// endpointForApps is the router's URL as it is reached from inside a container.
func endpointForApps(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return endpoint
	}
	host := u.Hostname()
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return endpoint
	}
	u.Host = "host.docker.internal"
	if port := portOf(endpoint); port != "" {
		u.Host = net.JoinHostPort(u.Host, port)
	}
	return u.String()
}

func portOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.Port()
}

func tunnelDomain(f Facts) string {
	switch {
	case f.ApplianceDomain != "":
		return f.ApplianceDomain
	case f.Environment == "test":
		return "app.ironflock.dev"
	case f.Environment == "local":
		return "localhost"
	}
	return "app.ironflock.com"
}

// writeEnvironment mirrors the variables into /data/env of the app, one file
// each, which is how a running app learns of changes. Files of variables that
// are gone stay (life §3.4), but the cloud ports' do not.
func writeEnvironment(dataFolder string, vars []variable) error {
	files := make(map[string][]byte, len(vars))
	for _, v := range vars {
		files[v.name+".txt"] = []byte(v.value)
	}
	if err := filesystem.WriteDerived(dataFolder, "env", files, filesystem.PrivateFile); err != nil {
		return err
	}
	return filesystem.RemoveBelow(dataFolder, "env", func(name string) bool {
		_, current := files[name]
		return name == "DEVICE_SECRET.txt" || strings.HasSuffix(name, "_CLOUD.txt") && !current
	})
}
