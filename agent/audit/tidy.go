package audit

import (
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"reagent/protocol"
)

// Masked stands for a value that nobody is to read.
const Masked = "***"

// Sizes of an entry.
const (
	maxArgs   = 2 << 10 // bytes of its arguments, about as they are encoded
	maxArg    = 512     // of one text in them
	maxText   = 300     // of an error
	maxName   = 200     // of a target
	maxCaller = 100
)

// tidy cuts an entry to its sizes and masks what is secret.
func tidy(e *protocol.AuditEntry) {
	e.AuthID, e.AuthRole = cut(e.AuthID, maxCaller), cut(e.AuthRole, maxCaller)
	e.Procedure, e.SessionID = cut(e.Procedure, maxCaller), cut(e.SessionID, maxCaller)
	e.Target, e.Error = cut(mask(cut(e.Target, 2*maxArg)), maxName), cut(mask(cut(e.Error, 2*maxArg)), maxText)
	room := maxArgs
	args, _ := fit(e.Args, &room).(map[string]any)
	if args == nil {
		args = map[string]any{}
	}
	e.Args = args
}

// secretNames are in the names of what is secret. What is around them may be
// anything: DB_PASSWORD, --registry-token.
var secretNames = []string{
	"password", "passwd", "passphrase", "secret", "token", "credential",
	"api_key", "api-key", "apikey", "private_key", "private-key", "privatekey", "authorization", "bearer",
}

var (
	anyName = `[\w-]*(?:` + strings.Join(secretNames, "|") + `)[\w-]*`
	value   = `("[^"]*"|'[^']*'|[^\s"']+)`
	// named is a secret behind its name and a sign …
	named = regexp.MustCompile(`(?i)(` + anyName + `["']?\s*[=:]\s*(?:(?:bearer|basic)\s+)?)` + value)
	// … or behind an option's name …
	option = regexp.MustCompile(`(?i)((?:^|\s)--?` + anyName + `\s+)("[^"]*"|'[^']*'|[^\s"'-][^\s"']*)`)
	// … and a password in front of a host.
	inURL = regexp.MustCompile(`(://[^/\s:@]*:)[^/\s@]+@`)
)

// isSecret tells whether a text has the name of a secret in it.
func isSecret(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(secretNames, func(name string) bool { return strings.Contains(text, name) })
}

// mask hides the secrets that a text shows by their names.
func mask(text string) string {
	if isSecret(text) {
		text = named.ReplaceAllString(text, "${1}"+Masked)
		text = option.ReplaceAllString(text, "${1}"+Masked)
	}
	if strings.Contains(text, "://") {
		text = inURL.ReplaceAllString(text, "${1}"+Masked+"@")
	}
	return text
}

// fit copies a value as far as the room goes, with its secrets masked. What is
// left out is told by "…".
func fit(v any, room *int) any {
	switch v := v.(type) {
	case string:
		text := cut(mask(cut(v, 2*maxArg)), maxArg)
		for protocol.EncodedText(text) > max(*room, 0) && text != "…" {
			text = cut(text, len(text)/2-1)
		}
		*room -= protocol.EncodedText(text)
		return text
	case float64:
		*room -= 24
		if math.IsNaN(v) || math.IsInf(v, 0) { // JSON knows none
			return fmt.Sprint(v)
		}
		return v
	case float32:
		return fit(float64(v), room)
	case nil, bool, int, int64, int32, int16, int8, uint, uint64, uint32, uint16, uint8:
		*room -= 20
		return v
	}
	switch reflect.ValueOf(v).Kind() {
	case reflect.Map:
		if d, ok := protocol.AsDict(v); ok {
			return fitDict(d, room)
		}
	case reflect.Slice:
		if l, ok := protocol.AsList(v); ok {
			return fitList(l, room)
		}
	}
	*room -= 5
	return "…"
}

// maxKeys is how many keys of a dict are shown, or else only how many there are.
const maxKeys = 256

func fitDict(d map[string]any, room *int) map[string]any {
	out := map[string]any{}
	if len(d) > maxKeys {
		out["…"] = len(d)
		return out
	}
	for _, key := range slices.Sorted(maps.Keys(d)) {
		if *room -= protocol.EncodedText(cut(key, maxName)) + 2; *room <= 0 {
			out["…"] = len(d) - len(out)
			return out
		}
		if isSecret(cut(key, maxArg)) && d[key] != nil {
			*room -= len(Masked) + 2
			out[cut(key, maxName)] = Masked
			continue
		}
		out[cut(key, maxName)] = fit(d[key], room)
	}
	return out
}

// fitList also hides what follows the name of a secret, as in --password x.
func fitList(list []any, room *int) []any {
	out := []any{}
	secret := false
	for _, v := range list {
		if *room -= 2; *room <= 0 {
			return append(out, "…")
		}
		text, isText := v.(string)
		if secret && isText {
			v, isText = Masked, false
		}
		out = append(out, fit(v, room))
		secret = isText && strings.HasPrefix(text, "-") && !strings.Contains(text, "=") && isSecret(cut(text, maxArg))
	}
	return out
}

// cut shortens a text to a number of bytes, at the border of a character.
func cut(text string, most int) string {
	if len(text) <= most {
		return text
	}
	most = max(most, 0)
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most] + "…"
}
