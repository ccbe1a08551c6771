package protocol

import (
	"math"
	"strings"
)

// Chunks of an upload that carry no data (wire §5.5).
const (
	TransferBegin = "BEGIN"
	TransferEnd   = "END"
)

// WriteDataArgs are the positional arguments of write_data: one chunk of an
// archive that an app is built from.
type WriteDataArgs struct {
	Chunk     string // TransferBegin, TransferEnd, or data as hexadecimal digits
	File      string // a plain name
	Container string // of the DEV app whose archive it is, lower-cased
	Total     int64  // bytes of the whole archive
	ID        string // of the transfer
}

// App is the app whose archive this is.
func (a WriteDataArgs) App() (id AppID, name string) {
	stage, key, name, _ := ParseContainerName(a.Container)
	return AppID{Key: key, Stage: stage}, name
}

// ReadArgs reads the arguments, of which all five are needed, with the
// contract's texts for what is wrong.
func (a *WriteDataArgs) ReadArgs(args []any) error {
	fields := []struct {
		name string
		read func(v any) bool
	}{
		{"chunk", func(v any) (ok bool) { a.Chunk, ok = Text(v); return ok }},
		{"name", func(v any) (ok bool) { a.File, ok = Text(v); return ok && fileName(a.File) }},
		{"containerName", func(v any) bool {
			name, ok := Text(v)
			a.Container = strings.ToLower(strings.TrimPrefix(name, "/"))
			stage, key, app, parsed := ParseContainerName(a.Container)
			return ok && parsed && stage == Dev && key != 0 && CheckAppName(app) == nil
		}},
		{"total", func(v any) bool {
			n, ok := Uint(v)
			a.Total = int64(min(n, math.MaxInt64))
			return ok
		}},
		{"id", func(v any) (ok bool) { a.ID, ok = Text(v); return ok && len(a.ID) <= 256 }},
	}
	for i, f := range fields {
		if !f.read(Arg(args, i)) {
			return invalid("failed to parse %s argument", f.name)
		}
	}
	return nil
}

// fileName tells whether a name is that of a file in a folder, and not of one
// that is hidden or kept for ourselves.
func fileName(name string) bool {
	if name == "" || len(name) > 200 || name[0] == '.' {
		return false
	}
	for _, r := range name {
		if r < ' ' || r == 0x7f || r == 0xfffd || strings.ContainsRune(`/\:*?"<>|`, r) {
			return false
		}
	}
	return true
}

// CheckHostPortArgs is the argument of check_host_port (wire Appendix A): may an
// app have this host port?
type CheckHostPortArgs struct {
	App      AppID
	Port     uint16 // declared by the app
	HostPort uint16 // 0 only asks whether this device can tell
	Protocol string // of the rule; "" = tcp
}

// ReadDict reads the argument.
func (a *CheckHostPortArgs) ReadDict(d map[string]any) error {
	key, ok := Uint(d["app_key"])
	if !ok || key == 0 {
		return invalid("failed to parse app_key")
	}
	a.App = AppID{Key: key, Stage: Prod}
	if v := d["stage"]; v != nil && v != "" {
		stage, ok := Text(v)
		if a.App.Stage = Stage(stage); !ok || !a.App.Stage.Valid() {
			return invalid("failed to parse stage")
		}
	}
	if err := port(&a.Port, d["port"]); err != nil || a.Port == 0 {
		return invalid("failed to parse port")
	}
	if err := port(&a.HostPort, d["host_port"]); err != nil {
		return invalid("failed to parse host_port")
	}
	if v := d["protocol"]; v != nil {
		if a.Protocol, ok = Text(v); !ok {
			return invalid("failed to parse protocol")
		}
	}
	return nil
}

// A PortReason says why a host port is not available.
type PortReason string

// The reasons (wire Appendix A).
const (
	PortAvailable      PortReason = ""
	PortTakenByApp     PortReason = "taken_by_app"
	PortTakenByProcess PortReason = "taken_by_process"
	PortAmbiguous      PortReason = "ambiguous_compose_rule"
	PortDenylisted     PortReason = "denylisted"
)

// HostPortAnswer is the answer of check_host_port.
type HostPortAnswer struct {
	Available bool       `json:"available"`
	Reason    PortReason `json:"reason"`
}
