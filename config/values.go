package config

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"reagent/protocol"
)

// A value is one field of the configuration that can be set from a flag or a
// variable (text) and from the device file (JSON).
type value interface {
	setText(string) error
	setJSON(json.RawMessage) error
	String() string
}

// unfit says that a JSON value is of the wrong kind.
func unfit(raw json.RawMessage, need string) error {
	return fmt.Errorf("%s where %s is needed", kind(raw), need)
}

type textValue string

func (v *textValue) setText(s string) error { *v = textValue(s); return nil }
func (v *textValue) String() string         { return string(*v) }
func (v *textValue) setJSON(raw json.RawMessage) error {
	if json.Unmarshal(raw, (*string)(v)) != nil {
		return unfit(raw, "a string")
	}
	return nil
}

type boolValue bool

func (v *boolValue) setText(s string) error {
	b, err := strconv.ParseBool(s)
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", s)
	}
	*v = boolValue(b)
	return nil
}
func (v *boolValue) String() string { return strconv.FormatBool(bool(*v)) }
func (v *boolValue) setJSON(raw json.RawMessage) error {
	if json.Unmarshal(raw, (*bool)(v)) != nil {
		return unfit(raw, "true or false")
	}
	return nil
}

type wholeValue uint64

func (v *wholeValue) setText(s string) error {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		return fmt.Errorf("%q is not a whole, non-negative number", s)
	}
	*v = wholeValue(n)
	return nil
}
func (v *wholeValue) String() string { return strconv.FormatUint(uint64(*v), 10) }

// setJSON takes 41 and 41.0, but not "41": the contract wants a number, and
// other readers of the file would take the text for 0.
func (v *wholeValue) setJSON(raw json.RawMessage) error {
	var n protocol.Number
	if kind(raw) != "a number" || n.UnmarshalJSON(raw) != nil {
		return unfit(raw, "a whole, non-negative number")
	}
	*v = wholeValue(n)
	return nil
}

// millisValue is a time that the contract counts in milliseconds.
type millisValue time.Duration

const maxMillis = uint64(24 * time.Hour / time.Millisecond)

func (v *millisValue) setText(s string) error {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil || n > maxMillis {
		return fmt.Errorf("%q is not a number of milliseconds up to %d", s, maxMillis)
	}
	*v = millisValue(time.Duration(n) * time.Millisecond)
	return nil
}
func (v *millisValue) String() string {
	return strconv.FormatInt(time.Duration(*v).Milliseconds(), 10)
}
func (v *millisValue) setJSON(raw json.RawMessage) error {
	if v.setText(string(raw)) != nil {
		return unfit(raw, "a number of milliseconds")
	}
	return nil
}

type portValue uint16

func (v *portValue) setText(s string) error {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return fmt.Errorf("%q is not a port from 1 to 65535", s)
	}
	*v = portValue(n)
	return nil
}
func (v *portValue) String() string { return strconv.Itoa(int(*v)) }
func (v *portValue) setJSON(raw json.RawMessage) error {
	if v.setText(string(raw)) != nil {
		return unfit(raw, "a port")
	}
	return nil
}

// countValue is how many of something there may be; one at least.
type countValue int

func (v *countValue) setText(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 1000 {
		return fmt.Errorf("%q is not a number from 1 to 1000", s)
	}
	*v = countValue(n)
	return nil
}
func (v *countValue) String() string { return strconv.Itoa(int(*v)) }
func (v *countValue) setJSON(raw json.RawMessage) error {
	if v.setText(string(raw)) != nil {
		return unfit(raw, "a number from 1 to 1000")
	}
	return nil
}

// megabytesValue is a size in bytes that is written in megabytes.
type megabytesValue int64

const maxMegabytes = 1 << 20

func (v *megabytesValue) setText(s string) error {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 1 || n > maxMegabytes {
		return fmt.Errorf("%q is not a number of megabytes from 1 to %d", s, maxMegabytes)
	}
	*v = megabytesValue(n << 20)
	return nil
}
func (v *megabytesValue) String() string { return strconv.FormatInt(int64(*v)>>20, 10) }
func (v *megabytesValue) setJSON(raw json.RawMessage) error {
	if v.setText(string(raw)) != nil {
		return unfit(raw, fmt.Sprintf("a number of megabytes from 1 to %d", maxMegabytes))
	}
	return nil
}

// noPorts is how a flag says "none"; an empty text means "not given".
const noPorts = "none"

type portsValue []uint16

func (v *portsValue) setText(s string) error {
	ports := portsValue{}
	if s != noPorts {
		for one := range strings.SplitSeq(s, ",") {
			var p portValue
			if err := p.setText(strings.TrimSpace(one)); err != nil {
				return err
			}
			ports = append(ports, uint16(p))
		}
	}
	*v = ports
	return nil
}

func (v *portsValue) String() string {
	if len(*v) == 0 {
		return noPorts
	}
	texts := make([]string, len(*v))
	for i, p := range *v {
		texts[i] = strconv.Itoa(int(p))
	}
	return strings.Join(texts, ",")
}

func (v *portsValue) setJSON(raw json.RawMessage) error {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return unfit(raw, "a list of ports")
	}
	ports := portsValue{}
	for i, one := range list {
		var p portValue
		if err := p.setJSON(one); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		ports = append(ports, uint16(p))
	}
	*v = ports
	return nil
}
