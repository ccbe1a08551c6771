package messenger

import (
	"strings"
	"unicode/utf8"

	"github.com/gammazero/nexus/v3/wamp"
)

// The JSON serialisation writes U+FFFD for what is not UTF-8; the binary ones
// write it as it is, and a strict router ends the session of who sends that. A
// line of a container's output must not do so, hence the same there.

// validMessage returns msg with valid texts in its payload. Payloads belong to
// the caller, so what is changed is a copy.
func validMessage(msg wamp.Message) wamp.Message {
	switch m := msg.(type) {
	case *wamp.Yield:
		c := *m
		c.Arguments, c.ArgumentsKw = validPayload(m.Arguments, m.ArgumentsKw)
		return &c
	case *wamp.Error:
		c := *m
		c.Arguments, c.ArgumentsKw = validPayload(m.Arguments, m.ArgumentsKw)
		return &c
	case *wamp.Publish:
		c := *m
		c.Arguments, c.ArgumentsKw = validPayload(m.Arguments, m.ArgumentsKw)
		return &c
	case *wamp.Call:
		c := *m
		c.Arguments, c.ArgumentsKw = validPayload(m.Arguments, m.ArgumentsKw)
		return &c
	}
	return msg
}

func validPayload(args wamp.List, kwargs wamp.Dict) (wamp.List, wamp.Dict) {
	a, _ := validList(args)
	k, _ := validDict(kwargs)
	return a, k
}

// valid replaces invalid texts in v and reports whether there were any.
func valid(v any) (any, bool) {
	switch v := v.(type) {
	case string:
		if utf8.ValidString(v) {
			return v, false
		}
		return strings.ToValidUTF8(v, "\uFFFD"), true
	case []any:
		return validList(v)
	case wamp.List:
		return validList(v)
	case map[string]any:
		return validDict(v)
	case wamp.Dict:
		return validDict(v)
	}
	return v, false
}

func validList(list []any) ([]any, bool) {
	out, changed := list, false
	for i, v := range list {
		w, bad := valid(v)
		if !bad {
			continue
		}
		if !changed {
			out, changed = append([]any(nil), list...), true
		}
		out[i] = w
	}
	return out, changed
}

func validDict(dict map[string]any) (map[string]any, bool) {
	out, changed := dict, false
	for k, v := range dict {
		w, bad := valid(v)
		name, _ := valid(k)
		if !bad && name == k {
			continue
		}
		if !changed {
			changed = true
			out = make(map[string]any, len(dict))
			for k, v := range dict {
				out[k] = v
			}
		}
		if name != k {
			delete(out, k)
		}
		out[name.(string)] = w
	}
	return out, changed
}
