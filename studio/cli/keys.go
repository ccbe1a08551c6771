package cli

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// A key is one that means something to this program and not to what runs in a
// terminal: a control character, named as people press it, or none.
type key struct {
	name string
	code byte
	none bool
}

// ctrl are the control characters in the order of their codes, as they stand
// behind "ctrl-".
const ctrl = "@abcdefghijklmnopqrstuvwxyz[\\]^_"

func (k *key) String() string { return k.name }

// Set reads a name: ctrl-a to ctrl-z, ctrl- and one of @[\]^_, or none.
func (k *key) Set(name string) error {
	if name == "none" {
		*k = key{name: name, none: true}
		return nil
	}
	rest, ok := strings.CutPrefix(strings.ToLower(name), "ctrl-")
	code := strings.Index(ctrl, rest)
	if !ok || len(rest) != 1 || code < 0 {
		return fmt.Errorf(`%q is no key: say ctrl- and a letter or one of @[\]^_, or "none"`, name)
	}
	*k = key{name: "ctrl-" + rest, code: byte(code)}
	return nil
}

// cut finds the key among what was typed: what is before it, and whether it is
// there.
func (k *key) cut(typed []byte) (before []byte, pressed bool) {
	if !k.none {
		for i, b := range typed {
			if b == k.code { // in no other character, for those have the high bit set
				return typed[:i], true
			}
		}
	}
	return typed, false
}

// wholeText is how much of typed, up to most bytes, ends with a whole character.
// What is no text at all is not kept back.
func wholeText(typed []byte, most int) int {
	n := min(len(typed), most)
	for back := 1; back < utf8.UTFMax && back <= n; back++ {
		begins := utf8.RuneStart(typed[n-back])
		switch {
		case begins && utf8.FullRune(typed[n-back:n]):
			return n
		case begins:
			return n - back
		}
	}
	return n
}
