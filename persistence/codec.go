package persistence

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// versionKey is the key of a record's version.
const versionKey = "v"

// A codec turns values of one struct type into records and back.
type codec struct {
	version int
	shape   *shape
}

// A shape is what JSON sees of a struct: its keys, and the shapes of the structs
// that are part of it.
type shape struct {
	keys  []string
	parts map[string]*shape
}

func newCodec[T any](version int) *codec {
	t := reflect.TypeFor[T]()
	if !plainStruct(t) {
		panic(fmt.Sprintf("persistence: %s is not a struct that JSON writes field by field", t))
	}
	s := shapeOf(t)
	if s.has(versionKey) {
		panic(fmt.Sprintf("persistence: %s has a field %q", t, versionKey))
	}
	s.keys = append(s.keys, versionKey)
	return &codec{version, s}
}

func plainStruct(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return t.Kind() == reflect.Struct &&
		!p.Implements(reflect.TypeFor[json.Marshaler]()) && !p.Implements(reflect.TypeFor[encoding.TextMarshaler]())
}

func shapeOf(t reflect.Type) *shape {
	s := &shape{parts: map[string]*shape{}}
	for _, f := range reflect.VisibleFields(t) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Tag.Get("json") == "-", !f.IsExported():
			continue
		case f.Anonymous && name == "" && f.Type.Kind() == reflect.Struct:
			continue // its fields are listed themselves
		case name == "":
			name = f.Name
		}
		s.keys = append(s.keys, name)
		if plainStruct(f.Type) {
			s.parts[name] = shapeOf(f.Type)
		}
	}
	return s
}

// has compares as encoding/json does when it reads: without regard to case.
func (s *shape) has(key string) bool {
	for _, k := range s.keys {
		if strings.EqualFold(k, key) {
			return true
		}
	}
	return false
}

// keep adds to a new object what an old one has and the shape does not know, and
// reports whether there was something.
func (s *shape) keep(fresh, old map[string]json.RawMessage) (kept bool) {
	for key, value := range old {
		if !s.has(key) {
			fresh[key], kept = value, true
		}
	}
	for key, part := range s.parts {
		var freshPart, oldPart map[string]json.RawMessage
		if json.Unmarshal(fresh[key], &freshPart) != nil || json.Unmarshal(old[key], &oldPart) != nil || freshPart == nil {
			continue
		}
		if part.keep(freshPart, oldPart) {
			fresh[key], _ = json.Marshal(freshPart) // it was JSON a moment ago
			kept = true
		}
	}
	return kept
}

// encode makes the record of v that takes the place of old (nil: of nothing).
func (c *codec) encode(v any, old []byte) ([]byte, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	var fresh, before map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fresh); err != nil {
		return nil, err
	}
	if json.Unmarshal(old, &before) == nil {
		c.shape.keep(fresh, before)
	}
	fresh[versionKey] = fmt.Append(nil, c.version)
	return json.Marshal(fresh) // sorted keys: the same value is the same record
}

// decode reads a record.
func (c *codec) decode(raw []byte, v any) error {
	var head struct {
		V *int `json:"v"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return err
	}
	switch {
	case head.V == nil:
		return errors.New("the record has no version")
	case *head.V != c.version:
		return fmt.Errorf("the record has version %d, known is %d", *head.V, c.version)
	}
	return json.Unmarshal(raw, v)
}
