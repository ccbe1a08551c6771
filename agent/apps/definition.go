package apps

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"reagent/protocol"
)

// The names of the files that a compose project is run from (life §3.7).
const (
	definitionFile  = "docker-compose.json"
	environmentFile = ".env-compose"
)

// A rewriting is what of a definition is not its author's.
type rewriting struct {
	project   string            // its name
	envFolder string            // of the host, mounted at /data/env; "" = not
	labels    map[string]string // of each service's container
	keepBuild bool              // services may be built here
	ports     map[string]uint16 // managed host ports by slot
	rules     []protocol.PortRule
	logDriver string            // keeps what a service prints that says nothing about it; "" = the engine's
	logLimit  map[string]string // options of it
}

// services are those of a definition, by name.
func services(definition map[string]any) (map[string]map[string]any, error) {
	listed, ok := definition["services"].(map[string]any)
	if !ok || len(listed) == 0 {
		return nil, errors.New("the compose definition has no services: it needs an object \"services\" with at least one")
	}
	out := make(map[string]map[string]any, len(listed))
	for name, v := range listed {
		s, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("service %s of the compose definition is no object", name)
		}
		out[name] = s
	}
	return out, nil
}

// rewrite makes of an author's definition the one that is run. The author's
// stays as it is.
func (r rewriting) rewrite(definition map[string]any) (map[string]any, error) {
	out := deepCopy(definition).(map[string]any)
	listed, err := services(out)
	if err != nil {
		return nil, err
	}
	out["name"] = r.project
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		s := listed[name]
		s["env_file"] = environmentFile
		for _, part := range []func(string, map[string]any) error{r.hosts, r.volumes, r.publish, r.label, r.logging} {
			if err := part(name, s); err != nil {
				return nil, fmt.Errorf("service %s: %w", name, err)
			}
		}
		delete(s, "develop") // says what an author's editor does
		if !r.keepBuild {
			delete(s, "build")
		}
	}
	return out, nil
}

// hosts lets a service reach its host by name.
func (r rewriting) hosts(_ string, s map[string]any) error {
	const name, address = "host.docker.internal", "host-gateway"
	if mode, _ := s["network_mode"].(string); strings.HasPrefix(mode, "container:") || strings.HasPrefix(mode, "service:") {
		return nil // it has the names of the other one
	}
	switch hosts := s["extra_hosts"].(type) {
	case nil:
		s["extra_hosts"] = []any{name + ":" + address}
	case []any:
		for _, h := range hosts {
			line, _ := h.(string)
			if host, _, _ := strings.Cut(strings.ReplaceAll(line, "=", ":"), ":"); host == name {
				return nil
			}
		}
		s["extra_hosts"] = append(hosts, name+":"+address)
	case map[string]any:
		if _, mapped := hosts[name]; !mapped {
			hosts[name] = address
		}
	default:
		return errors.New("extra_hosts is neither a list nor an object")
	}
	return nil
}

// volumes shows a service its environment as files, which is how it learns of
// changes while it runs.
func (r rewriting) volumes(_ string, s map[string]any) error {
	if r.envFolder == "" {
		return nil
	}
	mounts, ok := s["volumes"].([]any)
	if !ok && s["volumes"] != nil {
		return errors.New("volumes is no list")
	}
	for _, m := range mounts {
		if at := path.Clean(mountTarget(m)); at == "/data/env" || strings.HasPrefix(at, "/data/env/") {
			return nil
		}
	}
	s["volumes"] = append(mounts, map[string]any{
		"type": "bind", "source": literal(r.envFolder), "target": "/data/env", "read_only": true,
	})
	return nil
}

// logging bounds what is kept of a service's output, unless its author says how.
func (r rewriting) logging(_ string, s map[string]any) error {
	if r.logDriver == "" || s["logging"] != nil || s["log_driver"] != nil {
		return nil
	}
	options := make(map[string]any, len(r.logLimit))
	for k, v := range r.logLimit {
		options[k] = v
	}
	s["logging"] = map[string]any{"driver": r.logDriver, "options": options}
	return nil
}

// mountTarget is where an entry of volumes is mounted in the container.
func mountTarget(entry any) string {
	switch m := entry.(type) {
	case string:
		parts := strings.Split(m, ":")
		if len(parts) == 1 {
			return parts[0]
		}
		return parts[1]
	case map[string]any:
		target, _ := m["target"].(string)
		return target
	}
	return ""
}

// label puts our labels on a service's container. One of the author's by the
// same name would claim what is not so.
func (r rewriting) label(_ string, s map[string]any) error {
	labels := map[string]any{}
	switch own := s["labels"].(type) {
	case nil:
	case map[string]any:
		maps.Copy(labels, own)
	case []any:
		for _, l := range own {
			line, ok := l.(string)
			if !ok {
				return errors.New("labels has an element that is no text")
			}
			name, value, _ := strings.Cut(line, "=")
			labels[name] = value
		}
	default:
		return errors.New("labels is neither a list nor an object")
	}
	for name, value := range r.labels {
		labels[name] = literal(value)
	}
	s["labels"] = labels
	return nil
}

// publish gives each port of a service its managed host port (life §3.7). What
// the agent does not understand stays as its author wrote it.
func (r rewriting) publish(name string, s map[string]any) error {
	entries, ok := s["ports"].([]any)
	if !ok {
		if s["ports"] != nil {
			return errors.New("ports is no list")
		}
		return nil
	}
	var out []any
	for _, entry := range entries {
		p, ok := protocol.ParseComposePort(entry)
		if !ok {
			out = append(out, entry)
			continue
		}
		host, managed := r.ports[slotOf(name, p.Wire, p.Declared())]
		switch {
		case managed:
			out = append(out, withHostPort(p, entry, host))
		case p.Host != 0:
			out = append(out, entry) // nobody gave it one: an adopted project's
		}
	}
	if len(out) == 0 {
		delete(s, "ports")
		return nil
	}
	s["ports"] = out
	return nil
}

// projectPorts are the host ports that the services of a definition need, with
// those that each would like.
func projectPorts(definition map[string]any, rules []protocol.PortRule, stage protocol.Stage, bound func(service, wire string, container uint16) uint16) ([]portNeed, error) {
	listed, err := services(definition)
	if err != nil {
		return nil, err
	}
	var out []portNeed
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		entries, _ := listed[name]["ports"].([]any)
		for _, entry := range entries {
			p, ok := protocol.ParseComposePort(entry)
			if !ok {
				continue
			}
			rule, ruled := ruleFor(rules, p)
			if p.Host == 0 && !ruled {
				continue
			}
			n := portNeed{slot: slotOf(name, p.Wire, p.Declared()), prefer: []uint16{bound(name, p.Wire, p.Container), rule.HostPort}}
			if stage == protocol.Dev {
				n.prefer = append(n.prefer, p.Declared())
			}
			out = append(out, n)
		}
	}
	return out, nil
}

// ruleFor finds the rule about a service's port. One that forwards to another
// host is about none.
func ruleFor(rules []protocol.PortRule, p protocol.ComposePort) (protocol.PortRule, bool) {
	for _, r := range rules {
		if r.LocalIP == "" && r.Port == p.Declared() && r.Wire() == p.Wire {
			return r, true
		}
	}
	return protocol.PortRule{}, false
}

// withHostPort is an element of a service's ports with a managed host port, in
// the form that it had.
func withHostPort(p protocol.ComposePort, entry any, host uint16) any {
	if long, ok := entry.(map[string]any); ok {
		long["published"], long["host_ip"] = strconv.Itoa(int(host)), "0.0.0.0"
		return long
	}
	s := fmt.Sprintf("0.0.0.0:%d:%d", host, p.Container)
	if p.Wire == "udp" {
		s += "/udp"
	}
	return s
}

// projectImages are the references that the services of a definition are made
// from, each once. A service that only starts when somebody names its profile
// needs none. built tells that what is built here is not asked for.
func projectImages(definition map[string]any, built bool) ([]string, error) {
	listed, err := services(definition)
	if err != nil {
		return nil, err
	}
	var refs []string
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		s := listed[name]
		if profiles, _ := s["profiles"].([]any); len(profiles) > 0 {
			continue
		}
		if s["build"] != nil && built {
			continue
		}
		image, _ := s["image"].(string)
		ref, ok := withoutVariables(image)
		switch {
		case image == "":
			return nil, fmt.Errorf("service %s has no image: an installed app is not built on the device", name)
		case !ok || ref == "":
			return nil, fmt.Errorf("service %s: image %q depends on variables that are not set on a device", name, image)
		}
		if !slices.Contains(refs, ref) {
			refs = append(refs, ref)
		}
	}
	return refs, nil
}

// literal is a text that compose takes as it is.
func literal(s string) string { return strings.ReplaceAll(s, "$", "$$") }

// withoutVariables is what compose makes of a text where no variable is set. ok
// is false for what needs one.
func withoutVariables(s string) (string, bool) {
	var out strings.Builder
	for {
		before, after, found := strings.Cut(s, "$")
		out.WriteString(before)
		switch {
		case !found:
			return out.String(), true
		case strings.HasPrefix(after, "$"):
			out.WriteByte('$')
			s = after[1:]
		case strings.HasPrefix(after, "{"):
			inner, rest, closed := strings.Cut(after[1:], "}")
			name, fallback, has := strings.Cut(inner, "-")
			if !closed || !has || strings.ContainsAny(strings.TrimSuffix(name, ":"), "?+:") || strings.Contains(fallback, "$") {
				return "", false
			}
			out.WriteString(fallback)
			s = rest
		default:
			return "", false
		}
	}
}

// composeEnvironment is the environment of a project's services as a file for
// compose, which takes every value as it is. A line that compose could not read
// would cost all others: it is refused.
func composeEnvironment(vars []variable) (file []byte, refused []string) {
	var out strings.Builder
	for _, v := range vars {
		switch {
		case len(v.line()) > longestVariable:
		case !composeVariable(v.name):
			refused = append(refused, v.name)
		default:
			out.WriteString(v.name + "=" + envValue(v.value) + "\n")
		}
	}
	return []byte(out.String()), refused
}

// composeVariable tells whether compose can read a variable of this name.
func composeVariable(name string) bool {
	for _, c := range name {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
		if !letter && !strings.ContainsRune("_.-[]", c) {
			return false
		}
	}
	return name != "" && name != "export"
}

// envValue writes a value so that compose reads the same one.
func envValue(value string) string {
	for _, c := range value {
		if c < ' ' || c > '~' || strings.ContainsRune(" #$\"'`\\", c) {
			return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`).Replace(value) + `"`
		}
	}
	return value
}

// deepCopy copies what JSON can hold.
func deepCopy(v any) any {
	switch t := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(t))
		for k, e := range t {
			out[k] = deepCopy(e)
		}
		return out
	case []any:
		out := make([]any, len(t))
		for i, e := range t {
			out[i] = deepCopy(e)
		}
		return out
	}
	return v
}
