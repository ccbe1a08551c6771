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

// oneWord and header are in the names of what is secret: one word as a rule, or
// several, of which the first may say how to read the rest. What is around them may
// be anything: DB_PASSWORD, --registry-token.
var (
	oneWord = []string{
		"password", "passwd", "passphrase", "secret", "token", "credential",
		"api_key", "api-key", "apikey", "private_key", "private-key", "privatekey", "bearer",
	}
	header      = "authorization"
	secretNames = append(slices.Clone(oneWord), header)
)

// shortNames are names of secrets that stand alone in other words: compass.
const shortNames = `(?:[\w-]*[_-])?(?:pass|pwd|psk)`

const (
	// quoted, escaped, cut off within its quotes, or what the shell puts in its place
	piece = `"(?:[^"\\]|\\.)*"|'[^']*'|["'][^"'\f]*$|\\.|\$\([^)]*\)|` + "`[^`]*`"
	// … or plain, and any of it glued together as a shell does
	value = `((?:` + piece + `|[^\s"'\\]+)(?:` + piece + `|[^\s"'\\,;&|)}\]]+)*)`
	// word is one that is no option.
	word = `("(?:[^"\\]|\\.)*"|'[^']*'|[^\s"'-][^\s"']*)`
)

// A form is a way in which people write secrets.
type form struct {
	hints []string       // it is in no text that has none of these, whatever their case
	is    *regexp.Regexp // the last group is the secret
}

var forms = func() (all []form) {
	name := `(?:[\w-]*(?:` + strings.Join(oneWord, "|") + `)[\w-]*|` + shortNames + `)`
	names := append([]string{"pass", "pwd", "psk"}, secretNames...)
	for _, f := range []struct {
		hints []string
		is    string
	}{
		{[]string{header}, `((?:^|[^\w-])[\w-]*` + header + `[\w-]*["']?\s*[=:]\s*["']?(?:[\w-]+\s+)?)([^"'\n\f]+)`},
		{names, `((?:^|[^\w-])` + name + `["']?\s*[=:]\s*(?:(?:bearer|basic)\s+)?)` + value},
		{names, `((?:^|\s)--?` + name + `\s+)` + word},
		{names, `(\b(?:password|passwd|passphrase|psk)\s+)` + word},
		{[]string{"-u", "-user"}, `((?:^|\s)(?:-u|--user|--proxy-user)[\s=]*["']?[^\s:"']+:)([^\s"']+)`},
		{[]string{"sshpass"}, `(\bsshpass\s+-p\s*)` + value},
		{[]string{"mysql", "mariadb"}, `(\b(?:mysql|mysqldump|mysqladmin|mariadb)\b[^|;&]*\s-p)([^\s]+)`},
		{[]string{"passwd"}, `(\b(?:ch)?passwd\b[^|;&\n]*<<<\s*)` + value},
		{[]string{"wpa_passphrase"}, `(\bwpa_passphrase\s+` + value + `\s+)` + value},
		{[]string{"://"}, `(://[^/\s:@]*:)([^/\s"']+)@`},
		{[]string{"://"}, `(://)([^/\s:@]+)@`},
	} {
		all = append(all, form{f.hints, regexp.MustCompile(`(?i)` + f.is)})
	}
	return all
}()

// piped is what a program is given that sets passwords.
var piped = regexp.MustCompile(`[^|;&\n]*(\|\s*(?:sudo\s+)?(?:/\S*/)?(?:chpasswd|passwd)\b)`)

// isSecret tells whether a text is the name of a secret, or has one in it.
func isSecret(text string) bool {
	text = strings.ToLower(text)
	return slices.ContainsFunc(secretNames, func(name string) bool { return strings.Contains(text, name) }) || shortName.MatchString(text)
}

var shortName = regexp.MustCompile(`^-*` + shortNames + `$`)

// mask hides the secrets that a text shows by how they are written. Whoever hides
// one otherwise, in a file's name or a language of his own, is not found out.
func mask(text string) string {
	lower := strings.ToLower(text)
	has := func(hint string) bool { return strings.Contains(lower, hint) }
	for _, f := range forms {
		if !slices.ContainsFunc(f.hints, has) {
			continue
		}
		text = f.is.ReplaceAllStringFunc(text, func(found string) string {
			at := f.is.FindStringSubmatchIndex(found)
			first, last := at[len(at)-2], at[len(at)-1]
			return found[:first] + Masked + found[last:]
		})
	}
	if has("passwd") {
		text = piped.ReplaceAllString(text, Masked+" ${1}")
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

// fitList masks texts as the command line that they are as a rule: what one word
// says of the next counts.
func fitList(list []any, room *int) []any {
	list = maskLine(list)
	out := []any{}
	for _, v := range list {
		if *room -= 2; *room <= 0 {
			return append(out, "…")
		}
		out = append(out, fit(v, room))
	}
	return out
}

// Bounds of a list that is looked at as a line; of longer ones the rest is hidden.
const (
	maxWords = 256
	maxLine  = 16 << 10
)

// maskLine hides the secrets of a list of words. A list in which other things are
// is left to the masks of its parts.
func maskLine(list []any) []any {
	const between = "\f" // white space to the masks, and seen in no word
	var words []string
	size := 0
	for _, v := range list {
		text, ok := v.(string)
		if !ok {
			return list
		}
		text = strings.ReplaceAll(cut(text, 2*maxArg), between, " ")
		if size += len(text); len(words) >= maxWords || size > maxLine {
			words = append(words, "…")
			break
		}
		words = append(words, text)
	}
	if len(words) == 0 {
		return list
	}
	masked := strings.Split(mask(strings.Join(words, between)), between)
	if len(masked) != len(words) { // a secret over several words: which, nobody knows
		masked = []string{words[0], Masked}
	}
	out := make([]any, len(masked))
	for i, text := range masked {
		out[i] = text
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
