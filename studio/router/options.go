package router

import (
	"github.com/gammazero/nexus/v3/wamp"
)

// allowed lists the options that a kind of message may have, with the test of
// their values. All others are left out before nexus sees them: it converts some
// without looking, and a wrong type ends the process.
//
// Left out on purpose: timeout (nexus asks a realm that may be gone by then;
// clients cancel), progress of a CALL, and whatever is about disclosure.
type allowed map[string]func(any) bool

var (
	opaqueKeys = []string{wamp.OptPPTScheme, wamp.OptPPTSerializer, wamp.OptPPTCipher, wamp.OptPPTKeyId}

	publishOptions = opaque(allowed{
		wamp.OptAcknowledge: isBool, wamp.OptExcludeMe: isBool,
		"exclude": isList, "exclude_authid": isList, "exclude_authrole": isList,
		"eligible": isList, "eligible_authid": isList, "eligible_authrole": isList,
	})
	matchOptions    = allowed{wamp.OptMatch: isMatch}
	registerOptions = allowed{wamp.OptMatch: isMatch, wamp.OptInvoke: isText}
	callOptions     = opaque(allowed{wamp.OptReceiveProgress: isBool})
	cancelOptions   = allowed{wamp.OptMode: isText}
	yieldOptions    = opaque(allowed{wamp.OptProgress: isBool})
)

func opaque(a allowed) allowed {
	for _, key := range opaqueKeys {
		a[key] = isText
	}
	return a
}

// clean returns the options that are allowed, never nil.
func (a allowed) clean(options wamp.Dict) wamp.Dict {
	out := wamp.Dict{}
	for key, test := range a {
		if v, ok := options[key]; ok && test(v) {
			out[key] = v
		}
	}
	return out
}

func isBool(v any) bool { _, ok := v.(bool); return ok }
func isText(v any) bool { _, ok := v.(string); return ok }

func isList(v any) bool {
	switch v.(type) {
	case []any, wamp.List:
		return true
	}
	return false
}

func isMatch(v any) bool {
	return v == wamp.MatchExact || v == wamp.MatchPrefix || v == wamp.MatchWildcard
}
