package router

import (
	"strings"

	"reagent/protocol"
)

// A verb is what a session does with a URI.
type verb string

const (
	call      verb = "call"
	register  verb = "register"
	publish   verb = "publish"
	subscribe verb = "subscribe"
	bequeath  verb = "bequeath" // leave a testament that is published there
)

// A rule allows one thing. In its URI
//
//	{own}  is the serial number of the session's device
//	{sn}   is any device's serial number; needs is asked of the session's account on it
//	*      at the end is any rest, the empty one too
//
// A * alone stands for everything but what begins with "wamp.", which is the
// router's own.
type rule struct {
	verb  verb
	uri   string
	needs []protocol.Privilege // one of them; none = any
	// patterns allows prefixes and wildcards too, as long as everything in front
	// of the * is spelt out.
	patterns bool
}

// realmRules says who may do what in the realm of the devices, and appRules in
// an app's. Whatever is not listed is refused.
var (
	realmRules = map[string][]rule{
		protocol.RoleSystem: {
			{verb: call, uri: "*"}, {verb: call, uri: "wamp.*"},
			{verb: register, uri: "*", patterns: true},
			{verb: publish, uri: "*"}, {verb: bequeath, uri: "*"},
			{verb: subscribe, uri: "*", patterns: true}, {verb: subscribe, uri: "wamp.*"},
		},
		protocol.RoleDevice: {
			{verb: register, uri: "re.mgmt.{own}.*"},
			{verb: publish, uri: "re.mgmt.{own}.*"},
			{verb: publish, uri: "reswarm.logs.{own}.*"},
			{verb: bequeath, uri: protocol.TestamentDevice}, // with its own keys: see testament
			{verb: subscribe, uri: "re.mgmt.{own}.*"},
			{verb: subscribe, uri: "reswarm.device.%d.list/ondestroy"}, // what the reference asks for, never filled in
			{verb: subscribe, uri: protocol.SubscriptionOnCreate},      // of those that concern it: see gate.event
			{verb: subscribe, uri: protocol.SubscriptionOnDelete},
			{verb: subscribe, uri: "wamp.registration.on_unregister"},
			{verb: call, uri: protocol.AddTestament},
			{verb: call, uri: "wamp.session.flush_testaments"},
			{verb: call, uri: protocol.SubscriptionMatch},
			{verb: call, uri: "wamp.subscription.lookup"},
			{verb: call, uri: protocol.UpdateDeviceStatus},
			{verb: call, uri: protocol.ReadDeviceMetadata},
			{verb: call, uri: protocol.GetAppCredKey},
			{verb: call, uri: protocol.UpdateDeviceArchitecture},
			{verb: call, uri: protocol.CheckPrivilege},
			{verb: call, uri: protocol.GetRequestedAppStates},
			{verb: call, uri: protocol.UpdateAppOnDevice},
			{verb: call, uri: protocol.GetRegistryToken},
			{verb: call, uri: "re.tunnel.expose_port"},
			{verb: call, uri: "re.tunnel.close_port"},
			{verb: call, uri: "reswarm.registry.run_gc"},
		},
		protocol.RoleUser: {
			{verb: call, uri: "re.studio.*"},
			{verb: call, uri: "re.mgmt.{sn}.*"}, // the device asks for the right privilege
			{verb: subscribe, uri: "re.studio.*"},
			{verb: subscribe, uri: "reswarm.logs.{sn}.*", needs: []protocol.Privilege{protocol.Read}, patterns: true},
			{verb: subscribe, uri: "re.mgmt.{sn}.term_data.*", needs: []protocol.Privilege{protocol.Develop, protocol.Maintain}},
			{verb: subscribe, uri: "re.mgmt.{sn}.data.*", needs: []protocol.Privilege{protocol.Develop, protocol.Maintain}},
			{verb: subscribe, uri: "re.mgmt.{sn}.cmd_output_*", needs: []protocol.Privilege{protocol.Maintain}},
			{verb: subscribe, uri: "re.mgmt.{sn}.agent_update_progress", needs: []protocol.Privilege{protocol.Read}},
			{verb: subscribe, uri: "re.mgmt.{sn}.download_os_update_progress", needs: []protocol.Privilege{protocol.Read}},
			{verb: subscribe, uri: "re.mgmt.{sn}.install_os_update_progress", needs: []protocol.Privilege{protocol.Read}},
			{verb: subscribe, uri: "re.mgmt.{sn}.tunnel_state_update/onreload", needs: []protocol.Privilege{protocol.Read}},
			{verb: publish, uri: "re.mgmt.{sn}.term_write.*", needs: []protocol.Privilege{protocol.Develop, protocol.Maintain}},
		},
	}

	// In its own realm an app and its users are among themselves.
	fellows = []rule{
		{verb: call, uri: "*"},
		{verb: register, uri: "*", patterns: true},
		{verb: publish, uri: "*"},
		{verb: subscribe, uri: "*", patterns: true},
		{verb: bequeath, uri: "*"},
		{verb: subscribe, uri: "wamp.*"},
		{verb: call, uri: protocol.AddTestament},
		{verb: call, uri: "wamp.session.flush_testaments"},
		{verb: call, uri: "wamp.session.count"},
		{verb: call, uri: "wamp.session.list"},
		{verb: call, uri: "wamp.session.get"},
		{verb: call, uri: "wamp.registration.list"},
		{verb: call, uri: "wamp.registration.lookup"},
		{verb: call, uri: "wamp.registration.match"},
		{verb: call, uri: "wamp.registration.get"},
		{verb: call, uri: "wamp.registration.list_callees"},
		{verb: call, uri: "wamp.registration.count_callees"},
		{verb: call, uri: "wamp.subscription.list"},
		{verb: call, uri: "wamp.subscription.lookup"},
		{verb: call, uri: "wamp.subscription.match"},
		{verb: call, uri: "wamp.subscription.get"},
		{verb: call, uri: "wamp.subscription.list_subscribers"},
		{verb: call, uri: "wamp.subscription.count_subscribers"},
	}
	appRules = map[string][]rule{
		protocol.RoleApp:    fellows,
		protocol.RoleUser:   fellows,
		protocol.RoleSystem: fellows,
	}
)

// rulesOf returns the rules for a role in a realm.
func rulesOf(realm, role string) []rule {
	if realm == protocol.RealmDevices {
		return realmRules[role]
	}
	return appRules[role]
}

// matches reports whether the rule is about a URI, and the serial number that
// stands at {sn}. pattern is true for a prefix or wildcard.
func (r rule) matches(uri, own string, pattern bool) (serial string, ok bool) {
	if pattern && !r.patterns {
		return "", false
	}
	if r.uri == "*" {
		return "", !strings.HasPrefix(uri, "wamp.")
	}
	if strings.Contains(r.uri, "{own}") {
		if own == "" {
			return "", false
		}
		return "", matchesRest(strings.Replace(r.uri, "{own}", own, 1), uri)
	}
	before, after, anyDevice := strings.Cut(r.uri, "{sn}")
	if !anyDevice {
		return "", matchesRest(r.uri, uri)
	}
	rest, ok := strings.CutPrefix(uri, before)
	if !ok {
		return "", false
	}
	serial, _, _ = strings.Cut(rest, ".")
	if rest == "" && pattern { // a prefix over all devices
		return "", true
	}
	return serial, serial != "" && matchesRest(after, rest[len(serial):])
}

func matchesRest(pattern, uri string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(uri, prefix)
	}
	return pattern == uri
}

// allows decides by the rules.
func (g *gate) allows(v verb, uri string, pattern bool) bool {
	for _, r := range g.rules {
		if r.verb != v {
			continue
		}
		serial, ok := r.matches(uri, g.who.Serial, pattern)
		if !ok {
			continue
		}
		if !strings.Contains(r.uri, "{sn}") || g.directory.May(g.who.Account, serial, r.needs...) {
			return true
		}
	}
	return false
}
