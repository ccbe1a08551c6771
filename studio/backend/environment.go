package backend

import (
	"encoding/json"
	"strings"

	"reagent/protocol"
)

// mostEnvironment bounds the variables of one app, as JSON.
const mostEnvironment = 256 << 10

// checkEnvironment refuses variables that no container could get. Each value is
// an object that holds it under key.
func checkEnvironment(env map[string]any, key string) error {
	for name, v := range env {
		if err := checkVariable(name); err != nil {
			return err
		}
		d, ok := protocol.AsDict(v)
		if !ok {
			return invalid("the variable %s is not an object with %q", name, key)
		}
		switch value := d[key].(type) {
		case nil, bool, float64, int64, uint64:
		case string:
			if strings.ContainsRune(value, 0) {
				return invalid("the value of %s contains a NUL", name)
			}
		default:
			return invalid("the value of %s is not text, a number or a boolean", name)
		}
	}
	if raw, err := json.Marshal(env); err != nil || len(raw) > mostEnvironment {
		return invalid("the environment is larger than %d bytes", mostEnvironment)
	}
	return nil
}

func checkVariable(name string) error {
	valid := name != "" && len(name) <= 128
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		valid = valid && (letter || i > 0 && r >= '0' && r <= '9')
	}
	if !valid {
		return invalid("%q is no name of a variable: letters, digits and '_', not beginning with a digit", name)
	}
	return nil
}
