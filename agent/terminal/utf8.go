package terminal

import "unicode/utf8"

// A decoder makes text of bytes that come in pieces: what is no character
// becomes U+FFFD, and one whose rest is still to come is kept until then.
type decoder struct {
	rest []byte // the beginning of a character
	out  []byte
}

// decode returns the text that is complete with p. It is valid until the next
// call.
func (d *decoder) decode(p []byte) []byte {
	if len(d.rest) == 0 && utf8.Valid(p) {
		return p
	}
	p = append(d.rest, p...)
	d.rest, d.out = nil, d.out[:0]
	for len(p) > 0 {
		if !utf8.FullRune(p) {
			d.rest = p[:len(p):len(p)]
			break
		}
		r, n := utf8.DecodeRune(p)
		d.out = utf8.AppendRune(d.out, r)
		p = p[n:]
	}
	return d.out
}

// flush returns what there is of a character whose rest never came.
func (d *decoder) flush() []byte {
	out := d.out[:0]
	for range d.rest {
		out = utf8.AppendRune(out, utf8.RuneError)
	}
	d.rest = nil
	return out
}
