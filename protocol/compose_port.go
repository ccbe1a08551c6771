package protocol

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// A ComposePort is an element of the ports of a compose app's service.
type ComposePort struct {
	Container uint16
	Host      uint16 // 0 = the author left it open
	Wire      string // "tcp" or "udp"
}

// Declared is the number by which port rules and variables name it (life §3.7).
func (p ComposePort) Declared() uint16 {
	if p.Host != 0 {
		return p.Host
	}
	return p.Container
}

// ParseComposePort reads an element in any of compose's forms. Ranges, variables
// and protocols other than TCP and UDP are not read: they are left to compose.
func ParseComposePort(entry any) (ComposePort, bool) {
	switch e := entry.(type) {
	case string:
		return parseShortPort(e)
	case map[string]any:
		wire, ok := e["protocol"].(string)
		if !ok && e["protocol"] != nil {
			return ComposePort{}, false
		}
		return composePort(portNumber(e["published"]), portNumber(e["target"]), wire)
	}
	return composePort("", portNumber(entry), "")
}

// portNumber is a number as text; what is none stays unreadable.
func portNumber(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	if n, ok := Uint(v); ok {
		return strconv.FormatUint(n, 10)
	}
	if v == nil {
		return ""
	}
	return "?"
}

func parseShortPort(s string) (ComposePort, bool) {
	rest, wire, _ := strings.Cut(s, "/")
	before, container, ok := cutLastColon(rest)
	if !ok {
		return composePort("", rest, wire)
	}
	_, host, ok := cutLastColon(before) // an address in front is replaced
	if !ok {
		host = before
	}
	return composePort(host, container, wire)
}

func cutLastColon(s string) (before, after string, found bool) {
	if i := strings.LastIndexByte(s, ':'); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return "", s, false
}

func composePort(host, container, wire string) (ComposePort, bool) {
	p := ComposePort{Wire: strings.ToLower(wire)}
	if p.Wire == "" {
		p.Wire = "tcp"
	}
	c, err := strconv.ParseUint(container, 10, 16)
	if err != nil || c == 0 || p.Wire != "tcp" && p.Wire != "udp" {
		return p, false
	}
	p.Container = uint16(c)
	if host != "" {
		h, err := strconv.ParseUint(host, 10, 16)
		if err != nil {
			return p, false
		}
		p.Host = uint16(h)
	}
	return p, true
}

// ComposePortRules are the rules of an app for which nobody wrote any: one for
// each port that its services publish, named after the service.
func ComposePortRules(definition map[string]any) []PortRule {
	services, _ := AsDict(definition["services"])
	var rules []PortRule
	for _, name := range slices.Sorted(maps.Keys(services)) {
		service, _ := AsDict(services[name])
		entries, _ := AsList(service["ports"])
		for _, entry := range entries {
			p, ok := ParseComposePort(entry)
			rule := PortRule{Name: name, Port: p.Declared(), Protocol: p.Wire}
			if ok && !slices.ContainsFunc(rules, func(r PortRule) bool { return r.Port == rule.Port && r.Wire() == rule.Wire() }) {
				rules = append(rules, rule)
			}
		}
	}
	return rules
}
