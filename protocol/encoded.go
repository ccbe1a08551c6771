package protocol

import "unicode/utf8"

// EncodedText is how many bytes a text takes on the wire, at most: in JSON, its
// quotes included, with all that encoders may escape. The other serialisations
// never need more. A byte that is part of no character counts as U+FFFD.
func EncodedText(text string) int {
	size := 2
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			size += escaped[c]
			i++
			continue
		}
		r, width := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\u2028' || r == '\u2029' || r == utf8.RuneError && width == 1:
			size += 6
		default:
			size += width
		}
		i += width
	}
	return size
}

// escaped is how many bytes JSON takes for a character of one byte.
var escaped = func() (size [utf8.RuneSelf]int) {
	for c := range size {
		switch {
		case c < ' ' || c == 0x7f || c == '<' || c == '>' || c == '&':
			size[c] = 6
		case c == '"' || c == '\\':
			size[c] = 2
		default:
			size[c] = 1
		}
	}
	return size
}()
