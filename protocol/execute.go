package protocol

import (
	"fmt"
	"strconv"
	"time"
)

// ExecuteCmdArgs is the argument of execute_cmd (wire §5.9).
type ExecuteCmdArgs struct {
	Cmd      string
	Args     []string
	Blocking bool          // the answer is what it printed; else its number
	Delay    time.Duration // after its start, of what it prints; at most MaxCommandTimeout
}

// executeDelay is the contract's.
const executeDelay = time.Second

// ReadArgs reads the arguments of a call, with the contract's texts.
func (a *ExecuteCmdArgs) ReadArgs(args []any) error {
	if len(args) == 0 {
		return invalid("args array should not be empty")
	}
	d, ok := AsDict(args[0])
	if !ok {
		return invalid("first param should be a dict")
	}
	if a.Cmd, ok = Text(d["cmd"]); !ok {
		return invalid("cmd param should be a string")
	}
	if a.Blocking, ok = d["blocking"].(bool); !ok {
		return invalid("blocking param should be a boolean")
	}
	if v := d["args"]; v != nil {
		list, ok := AsList(v)
		if !ok {
			return invalid("args param should be an array of primitive values")
		}
		for _, v := range list {
			word, ok := primitive(v)
			if !ok {
				return invalid("args param should be an array of primitive values")
			}
			a.Args = append(a.Args, word)
		}
	}
	a.Delay = executeDelay
	if v := d["timeout"]; v != nil {
		ms, ok := Uint(v)
		if _, text := v.(string); !ok || text {
			return invalid("the timeout param should be an uint64")
		}
		a.Delay = time.Duration(min(ms, uint64(MaxCommandTimeout/time.Millisecond))) * time.Millisecond
	}
	return nil
}

// primitive writes a text, a number, true or false as a word.
func primitive(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		return strconv.FormatBool(v), true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case float32:
		return strconv.FormatFloat(float64(v), 'f', -1, 32), true
	case int, int8, int16, int32, int64, uint, uint8, uint16, uint32, uint64:
		return fmt.Sprint(v), true
	}
	return "", false
}

// CommandOutputTopic is where execute_cmd publishes what a command prints that
// nobody waits for (wire §7.2).
func CommandOutputTopic(serial string, pid int) string {
	return Procedure(serial, "cmd_output_"+strconv.Itoa(pid))
}
