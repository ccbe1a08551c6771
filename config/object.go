package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// An object is a JSON object whose members keep their order and their exact
// text, so that it can be written again without loss.
type object []member

type member struct {
	key string
	raw json.RawMessage
	at  int // where raw begins in the file
}

// A damage is a place in a file that cannot be read.
type damage struct {
	at  int
	why string
}

func (d *damage) Error() string { return d.why }

// parseObject takes an object apart; base is where data lies in the file.
func parseObject(data []byte, base int) (object, error) {
	var whole json.RawMessage
	if err := json.Unmarshal(data, &whole); err != nil {
		var syntax *json.SyntaxError
		if !errors.As(err, &syntax) {
			return nil, &damage{base, err.Error()}
		}
		at := int(syntax.Offset) - 1 // the offset counts the offending byte
		if strings.Contains(syntax.Error(), "unexpected end") {
			return nil, &damage{base + len(data), "the file ends in the middle of a value"}
		}
		return nil, &damage{base + max(at, 0), syntax.Error()}
	}
	in := json.NewDecoder(bytes.NewReader(data))
	if open, _ := in.Token(); open != json.Delim('{') {
		return nil, &damage{base + len(data) - len(bytes.TrimLeft(data, " \t\r\n")), fmt.Sprintf("%s where an object is needed", kind(whole))}
	}
	var o object
	for in.More() {
		key, err := in.Token()
		if err != nil {
			return nil, &damage{base + int(in.InputOffset()), err.Error()}
		}
		m := member{key: key.(string)} // an object's keys are strings, or Unmarshal had refused it
		if err := in.Decode(&m.raw); err != nil {
			return nil, &damage{base + int(in.InputOffset()), err.Error()}
		}
		m.at = base + int(in.InputOffset()) - len(m.raw)
		o = append(o, m)
	}
	return o, nil
}

// find looks a dotted path up, such as "policy.commands". A missing key and a
// null are the same: absent. Of a repeated key the last one counts, as
// elsewhere. Something else than an object on the way is an error.
func (o object) find(path string) (m member, there bool, err error) {
	first, rest, nested := strings.Cut(path, ".")
	for _, candidate := range slices.Backward(o) {
		if candidate.key != first {
			continue
		}
		if string(candidate.raw) == "null" {
			return member{}, false, nil
		}
		if !nested {
			return candidate, true, nil
		}
		inner, err := parseObject(candidate.raw, candidate.at)
		if err != nil {
			return candidate, false, fmt.Errorf("%s is %w", first, err)
		}
		return inner.find(rest)
	}
	return member{}, false, nil
}

// set gives a key of the outermost object another value, in its old place.
func (o *object) set(key string, raw json.RawMessage) {
	for i := range slices.Backward(*o) {
		if (*o)[i].key == key {
			(*o)[i].raw = raw
			return
		}
	}
	*o = append(*o, member{key: key, raw: raw})
}

// encode writes the object with the contract's indent of one space.
func (o object) encode() ([]byte, error) {
	var flat bytes.Buffer
	flat.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			flat.WriteByte(',')
		}
		flat.Write(plainJSON(m.key))
		flat.WriteByte(':')
		flat.Write(m.raw)
	}
	flat.WriteByte('}')
	var out bytes.Buffer
	if err := json.Indent(&out, flat.Bytes(), "", " "); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// plainJSON encodes a value without the escapes that only HTML needs, because
// shell scripts read the file, too.
func plainJSON(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(err) // only strings and numbers come here
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// kind names what a JSON value is, without repeating it: it may be a secret.
func kind(raw json.RawMessage) string {
	raw = bytes.TrimLeft(raw, " \t\r\n")
	if len(raw) == 0 {
		return "nothing"
	}
	switch raw[0] {
	case '{':
		return "an object"
	case '[':
		return "a list"
	case '"':
		return "a string"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

// position turns an offset into a line and a column, both from 1, the column in
// characters as an editor counts them.
func position(data []byte, at int) (line, column int) {
	before := data[:min(at, len(data))]
	lineStart := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[lineStart:]) + 1
}
