package protocol

import (
	"encoding/json"
	"reflect"
)

// Wire gives the figures as they are sent: CPUUsage stays a float where it is a
// whole number, which the general way of ToDict would lose.
func (s Stats) Wire() map[string]any {
	d := Wire(s)
	d["cpu_usage"] = s.CPUUsage
	return d
}

// Wire gives the status as it is sent.
func (s DeviceStatus) Wire() map[string]any {
	d := Wire(s)
	d["stats"] = s.Stats.Wire()
	return d
}

// Wire gives the address as it is sent: the mask as bytes, which are a text of
// base64 under JSON and plain bytes elsewhere.
func (a NetworkAddress) Wire() map[string]any {
	return map[string]any{"IP": a.IP, "Mask": a.Mask}
}

// WireValue turns any value that can be written as JSON into what goes over the
// wire: structs into plain maps (their own Wire where they have one), typed
// lists into plain ones. An empty or nil list is an empty list, never null.
func WireValue(v any) (any, error) {
	switch t := v.(type) {
	case nil, string, bool, int64, uint64, float64, []byte:
		return t, nil
	case interface{ Wire() map[string]any }:
		return t.Wire(), nil
	case []map[string]any: // plain inside
		return listOf(t), nil
	case []string:
		return listOf(t), nil
	}
	if list := reflect.ValueOf(v); list.Kind() == reflect.Slice && list.Len() == 0 {
		return []any{}, nil
	}
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return plain(raw), nil
}

func listOf[T any](items []T) []any {
	list := make([]any, len(items))
	for i, item := range items {
		list[i] = item
	}
	return list
}

// PruneImagesArgs is the argument of prune_images (wire §5.6).
type PruneImagesArgs struct {
	All bool // also what installed apps do not need
}

// ReadDict reads the argument with the contract's texts for what is wrong.
func (a *PruneImagesArgs) ReadDict(d map[string]any) error {
	v, there := d["all"]
	if !there || v == nil {
		return nil
	}
	all, ok := v.(bool)
	if !ok {
		return invalid("all value for container prune is not a boolean")
	}
	a.All = all
	return nil
}
