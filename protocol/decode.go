package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
)

// Uint reads a lenient number (the contract's n*): any whole, non-negative
// number in any numeric type, or a decimal string. Everything else is 0, so that
// a caller who ignores ok has no number that nobody sent.
func Uint(v any) (u uint64, ok bool) {
	switch n := v.(type) {
	case uint64:
		return n, true
	case int64:
		if n < 0 {
			return 0, false
		}
		return uint64(n), true
	case int:
		return Uint(int64(n))
	case uint:
		return uint64(n), true
	case int32:
		return Uint(int64(n))
	case uint32:
		return uint64(n), true
	case int16:
		return Uint(int64(n))
	case uint16:
		return uint64(n), true
	case int8:
		return Uint(int64(n))
	case uint8:
		return uint64(n), true
	case float64:
		if n < 0 || n >= 1<<64 || n != math.Trunc(n) {
			return 0, false
		}
		return uint64(n), true
	case float32:
		return Uint(float64(n))
	case json.Number:
		return Uint(string(n))
	case string:
		u, err := strconv.ParseUint(n, 10, 64)
		if err != nil {
			return 0, false // of a range error, u is the greatest number
		}
		return u, true
	}
	return 0, false
}

// Text reads a string; any other type, null included, is not one.
func Text(v any) (string, bool) { s, ok := v.(string); return s, ok }

// AsDict reads an object whatever map type the serialisation made of it.
func AsDict(v any) (map[string]any, bool) {
	switch d := v.(type) {
	case map[string]any:
		return d, d != nil
	case map[any]any: // MessagePack and CBOR without string keys
		out := make(map[string]any, len(d))
		for k, v := range d {
			s, ok := k.(string)
			if !ok {
				return nil, false
			}
			out[s] = v
		}
		return out, true
	case nil:
		return nil, false
	}
	// Named map types of a library, such as wamp.Dict, and structs over an
	// in-process transport.
	out, err := ToDict(v)
	return out, err == nil && out != nil
}

// AsList reads a list. Null is not a list.
func AsList(v any) ([]any, bool) {
	switch l := v.(type) {
	case []any:
		return l, l != nil
	case nil, string, []byte:
		return nil, false
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, false
	}
	out, ok := plain(raw).([]any)
	return out, ok
}

// Arg returns the i-th argument, nil where there is none.
func Arg(args []any, i int) any {
	if i < 0 || i >= len(args) {
		return nil
	}
	return args[i]
}

// ToDict turns a struct with json tags into what goes over the wire: plain maps,
// lists, strings, int64/uint64/float64, so that every serialisation and the
// in-process transport carry the same.
func ToDict(v any) (map[string]any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	d, ok := plain(raw).(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%T is not an object on the wire", v)
	}
	return d, nil
}

// Wire is ToDict for values of this package, which always are objects.
func Wire(v any) map[string]any {
	d, err := ToDict(v)
	if err != nil {
		return map[string]any{}
	}
	return d
}

func plain(raw []byte) any {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if dec.Decode(&v) != nil {
		return nil
	}
	return plainNumbers(v)
}

func plainNumbers(v any) any {
	switch t := v.(type) {
	case json.Number:
		if i, err := strconv.ParseInt(string(t), 10, 64); err == nil {
			return i
		}
		if u, err := strconv.ParseUint(string(t), 10, 64); err == nil {
			return u
		}
		f, err := t.Float64()
		if err != nil {
			return string(t)
		}
		return f
	case map[string]any:
		for k, e := range t {
			t[k] = plainNumbers(e)
		}
	case []any:
		for i, e := range t {
			t[i] = plainNumbers(e)
		}
	}
	return v
}

// Decode reads a value that came over the wire into a struct with json tags.
// Fields that take lenient numbers have the type Number. A value of the wrong
// shape gives an *Error with CodeInvalid that names the key.
func Decode(in, out any) error {
	raw, err := json.Marshal(in)
	if err != nil {
		return &Error{CodeInvalid, "the value cannot be read: " + err.Error()}
	}
	if err := json.Unmarshal(raw, out); err != nil {
		var t *json.UnmarshalTypeError
		if errors.As(err, &t) && t.Field != "" {
			return &Error{CodeInvalid, fmt.Sprintf("%s: %s is not allowed there", t.Field, t.Value)}
		}
		return &Error{CodeInvalid, "the value is of the wrong form: " + err.Error()}
	}
	return nil
}

// A Number is a lenient number (see Uint) inside a struct that Decode reads.
type Number uint64

// UnmarshalJSON accepts whole numbers in any spelling and decimal strings; null
// leaves the value alone.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	text := string(b)
	if s, err := strconv.Unquote(text); err == nil {
		text = s
	}
	if u, err := strconv.ParseUint(text, 10, 64); err == nil {
		*n = Number(u)
		return nil
	}
	f, err := strconv.ParseFloat(string(b), 64)
	if err == nil {
		if u, ok := Uint(f); ok {
			*n = Number(u)
			return nil
		}
	}
	return fmt.Errorf("%s is not a whole, non-negative number", b)
}
