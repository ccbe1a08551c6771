package protocol

import (
	"fmt"
	"math"
	"strings"
)

// AppRequest is what somebody wants of one app: the keyword arguments of
// request_app_state and, with other spellings, a row of the wish list
// (life §1.3). Its JSON form is also how the device keeps a wish;
// DockerCredentials are never part of it.
type AppRequest struct {
	AppKey                uint64         `json:"app_key"`
	AppName               string         `json:"app_name"`
	Stage                 Stage          `json:"stage"`
	Target                State          `json:"target_state"`
	Current               State          `json:"current_state,omitempty"` // the sender's view; "" = none
	RequestorAccountKey   uint64         `json:"requestor_account_key,omitempty"`
	DeviceOwnerAccountKey uint64         `json:"device_owner_account_key,omitempty"`
	ReleaseKey            uint64         `json:"release_key,omitempty"`
	NewReleaseKey         uint64         `json:"new_release_key,omitempty"`
	Version               string         `json:"version,omitempty"` // to publish as
	PresentVersion        string         `json:"present_version,omitempty"`
	NewestVersion         string         `json:"newest_version,omitempty"`
	RequestUpdate         bool           `json:"request_update,omitempty"`
	CancelTransition      bool           `json:"cancel_transition,omitempty"`
	Environment           map[string]any `json:"environment,omitempty"`          // NAME -> {"value": …}
	EnvironmentTemplate   map[string]any `json:"environment_template,omitempty"` // NAME -> {"defaultValue": …}
	Ports                 []PortRule     `json:"ports,omitempty"`
	DockerCompose         map[string]any `json:"docker_compose,omitempty"`
	NewDockerCompose      map[string]any `json:"new_docker_compose,omitempty"`
	InstanceKey           uint64         `json:"instance_key,omitempty"`
	AppCredEpoch          uint64         `json:"app_cred_epoch,omitempty"`

	DockerCredentials map[string]RegistryCredential `json:"-"`
}

// ID is the local identity of the app.
func (r AppRequest) ID() AppID { return AppID{r.AppKey, r.Stage} }

// Compose reports whether this is a compose app.
func (r AppRequest) Compose() bool { return r.DockerCompose != nil || r.NewDockerCompose != nil }

// RegistryCredential is a login to a registry that came with a request.
type RegistryCredential struct {
	Username string `json:"username"`
	Password string `json:"password"`
}

// PortRule is one element of ports (life §7.1).
type PortRule struct {
	Main                  bool   `json:"main"`
	Name                  string `json:"name"`
	Active                bool   `json:"active"`
	Public                bool   `json:"public"`
	Port                  uint16 `json:"port"`
	Protocol              string `json:"protocol"` // http (also when empty), https, tcp, udp
	LocalIP               string `json:"local_ip"`
	RemotePortEnvironment string `json:"remote_port_environment"`
	RemotePort            uint16 `json:"remote_port"`
	HostPort              uint16 `json:"host_port,omitempty"`
	CloudRemotePort       uint16 `json:"cloud_remote_port,omitempty"`
}

// Wire is "udp" or "tcp", what the rule's traffic travels over.
func (r PortRule) Wire() string {
	if strings.EqualFold(r.Protocol, "udp") {
		return "udp"
	}
	return "tcp"
}

// A field reads one key into a request; the name is the one that the contract's
// error texts carry.
type field struct {
	key  string
	name string
	read func(r *AppRequest, v any) error
}

// callFields are the keyword arguments of request_app_state in the order in
// which they are checked. Where two keys mean the same, the second counts when
// the first is empty.
var callFields = []field{
	{"app_key", "app_key", func(r *AppRequest, v any) error { return whole(&r.AppKey, v) }},
	{"app_name", "appName", func(r *AppRequest, v any) error { return text(&r.AppName, v) }},
	{"stage", "stage", func(r *AppRequest, v any) error { return text(&r.Stage, v) }},
	{"target_state", "requestedState", func(r *AppRequest, v any) error { return state(&r.Target, v) }},
	{"manually_requested_state", "manuallyRequestedState", func(r *AppRequest, v any) error { return stateIfEmpty(&r.Target, v) }},
	{"current_state", "currentState", func(r *AppRequest, v any) error { return state(&r.Current, v) }},
	{"state", "currentState2", func(r *AppRequest, v any) error { return stateIfEmpty(&r.Current, v) }},
	{"requestor_account_key", "requestorAccountKey", func(r *AppRequest, v any) error { return lenient(&r.RequestorAccountKey, v) }},
	{"account_id", "requestorAccountKey2", func(r *AppRequest, v any) error {
		var second uint64
		err := lenient(&second, v)
		if r.RequestorAccountKey == 0 {
			r.RequestorAccountKey = second
		}
		return err
	}},
	{"device_owner_account_key", "deviceOwnerAccountKey", func(r *AppRequest, v any) error { return lenient(&r.DeviceOwnerAccountKey, v) }},
	{"release_key", "releaseKeyString", func(r *AppRequest, v any) error { return lenient(&r.ReleaseKey, v) }},
	{"new_release_key", "newReleaseKey", func(r *AppRequest, v any) error { return whole(&r.NewReleaseKey, v) }},
	{"version", "version", func(r *AppRequest, v any) error { return text(&r.Version, v) }},
	{"newest_version", "newestVersion", func(r *AppRequest, v any) error { return text(&r.NewestVersion, v) }},
	{"present_version", "presentVersion", func(r *AppRequest, v any) error { return text(&r.PresentVersion, v) }},
	{"request_update", "requestUpdate", func(r *AppRequest, v any) error { return boolean(&r.RequestUpdate, v) }},
	{"cancel_transition", "cancelTransition", func(r *AppRequest, v any) error { return boolean(&r.CancelTransition, v) }},
	{"environment", "environment", func(r *AppRequest, v any) error { return dictOfDicts(&r.Environment, v) }},
	{"environment_template", "environment template", func(r *AppRequest, v any) error { return dictOfDicts(&r.EnvironmentTemplate, v) }},
	{"ports", "ports", func(r *AppRequest, v any) (err error) { r.Ports, err = ParsePortRules(v); return err }},
	{"docker_compose", "docker compose", func(r *AppRequest, v any) error { return dict(&r.DockerCompose, v) }},
	{"new_docker_compose", "new docker compose", func(r *AppRequest, v any) error { return dict(&r.NewDockerCompose, v) }},
	{"docker_credentials", "docker credentials", credentials},
	{"instance_key", "instanceKey", func(r *AppRequest, v any) error { r.InstanceKey, _ = Uint(v); return nil }},
	{"app_cred_epoch", "appCredEpoch", func(r *AppRequest, v any) error { r.AppCredEpoch, _ = Uint(v); return nil }},
}

// rowOnly are the keys whose meaning differs in a row of the wish list: what
// request_app_state offers as a second spelling is not read there, and
// present_version is also taken as the version (wire §6.2).
var rowSkips = map[string]bool{
	"manually_requested_state": true, "state": true, "account_id": true, "version": true,
	"cancel_transition": true, "docker_credentials": true, "instance_key": true,
}

// ParseAppRequest reads the keyword arguments of request_app_state. Its errors
// carry the contract's texts, with the reason behind them.
func ParseAppRequest(kwargs map[string]any) (AppRequest, error) {
	r, err := parseRequest(kwargs, nil)
	if err != nil {
		return AppRequest{}, err
	}
	return r, nil
}

// ParseRequestedApp reads one row of the wish list.
func ParseRequestedApp(row map[string]any) (AppRequest, error) {
	r, err := parseRequest(row, rowSkips)
	if err != nil {
		return AppRequest{}, err
	}
	r.Version = r.PresentVersion
	return r, nil
}

func parseRequest(in map[string]any, skip map[string]bool) (AppRequest, error) {
	var r AppRequest
	for _, f := range callFields {
		v, there := in[f.key]
		if !there || v == nil || skip[f.key] {
			continue
		}
		if err := f.read(&r, v); err != nil {
			return r, invalid("failed to parse %s: %v", f.name, err)
		}
	}
	switch {
	case r.AppKey == 0:
		return r, invalid("missing from payload app_key")
	case r.AppName == "":
		return r, invalid("failed to parse appName: it is empty")
	case r.Stage == "":
		return r, invalid("missing from payload stage")
	case !r.Stage.Valid():
		return r, invalid("failed to parse stage: %q is neither DEV nor PROD", r.Stage)
	case r.Target == "":
		return r, invalid("failed to parse requestedState: it is missing")
	}
	if err := CheckAppName(r.AppName); err != nil {
		return r, invalid("failed to parse appName: %v", err)
	}
	for _, v := range []struct{ name, version string }{{"version", r.Version}, {"presentVersion", r.PresentVersion}, {"newestVersion", r.NewestVersion}} {
		if err := CheckVersion(v.version); err != nil {
			return r, invalid("failed to parse %s: %v", v.name, err)
		}
	}
	return r, nil
}

// CheckVersion refuses a version that could not be an image tag. Empty is none.
func CheckVersion(v string) error {
	if len(v) > 128 {
		return fmt.Errorf("the version is longer than 128 characters")
	}
	for i, c := range v {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_'
		if !letter && (i == 0 || c != '.' && c != '-') {
			return fmt.Errorf("version %q: only letters, digits, '_', '.' and '-'", v)
		}
	}
	return nil
}

// ParsePortRules reads a list of port rules. Numbers may be of any type; a port
// beyond 65535 is an error, as is an element that is no object.
func ParsePortRules(v any) ([]PortRule, error) {
	list, ok := AsList(v)
	if !ok {
		return nil, fmt.Errorf("%s is not a list", kind(v))
	}
	rules := make([]PortRule, 0, len(list))
	for i, e := range list {
		d, ok := AsDict(e)
		if !ok {
			return nil, fmt.Errorf("element %d is %s, not an object", i, kind(e))
		}
		var r PortRule
		for _, f := range []struct {
			key  string
			read func(v any) error
		}{
			{"main", func(v any) error { return boolean(&r.Main, v) }},
			{"name", func(v any) error { return text(&r.Name, v) }},
			{"active", func(v any) error { return boolean(&r.Active, v) }},
			{"public", func(v any) error { return boolean(&r.Public, v) }},
			{"port", func(v any) error { return port(&r.Port, v) }},
			{"protocol", func(v any) error { return text(&r.Protocol, v) }},
			{"local_ip", func(v any) error { return text(&r.LocalIP, v) }},
			{"remote_port_environment", func(v any) error { return text(&r.RemotePortEnvironment, v) }},
			{"remote_port", func(v any) error { return port(&r.RemotePort, v) }},
			{"host_port", func(v any) error { return port(&r.HostPort, v) }},
			{"cloud_remote_port", func(v any) error { return port(&r.CloudRemotePort, v) }},
		} {
			if v := d[f.key]; v != nil {
				if err := f.read(v); err != nil {
					return nil, fmt.Errorf("element %d, %s: %w", i, f.key, err)
				}
			}
		}
		switch strings.ToLower(r.Protocol) {
		case "", "http", "https", "tcp", "udp":
		default:
			return nil, fmt.Errorf("element %d: protocol %q is none of http, https, tcp, udp", i, r.Protocol)
		}
		if r.Port == 0 {
			return nil, fmt.Errorf("element %d: port is missing", i)
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func credentials(r *AppRequest, v any) error {
	d, ok := AsDict(v)
	if !ok {
		return fmt.Errorf("%s is not an object", kind(v))
	}
	r.DockerCredentials = make(map[string]RegistryCredential, len(d))
	for host, e := range d {
		entry, ok := AsDict(e)
		user, okUser := Text(entry["username"])
		password, okPassword := Text(entry["password"])
		if !ok || !okUser || !okPassword {
			return fmt.Errorf("%q needs the strings username and password", host)
		}
		r.DockerCredentials[host] = RegistryCredential{user, password}
	}
	return nil
}

func whole(out *uint64, v any) error {
	if _, isText := v.(string); isText {
		return fmt.Errorf("%s is not a number", kind(v))
	}
	return lenient(out, v)
}

func lenient(out *uint64, v any) error {
	n, ok := Uint(v)
	if !ok {
		return fmt.Errorf("%s is not a whole, non-negative number", kind(v))
	}
	*out = n
	return nil
}

func port(out *uint16, v any) error {
	n, ok := Uint(v)
	if !ok || n > math.MaxUint16 {
		return fmt.Errorf("%s is not a port", kind(v))
	}
	*out = uint16(n)
	return nil
}

func text[T ~string](out *T, v any) error {
	s, ok := Text(v)
	if !ok {
		return fmt.Errorf("%s is not a string", kind(v))
	}
	*out = T(s)
	return nil
}

func state(out *State, v any) error {
	if err := text(out, v); err != nil {
		return err
	}
	// STOPPED is a word that no agent ever reached: the reference's database
	// refuses it, and so do we.
	if *out != "" && (!out.Valid() || *out == Stopped) {
		return fmt.Errorf("unknown state %q", *out)
	}
	return nil
}

func stateIfEmpty(out *State, v any) error {
	var second State
	if err := state(&second, v); err != nil {
		return err
	}
	if *out == "" {
		*out = second
	}
	return nil
}

func boolean(out *bool, v any) error {
	b, ok := v.(bool)
	if !ok {
		return fmt.Errorf("%s is not a boolean", kind(v))
	}
	*out = b
	return nil
}

func dict(out *map[string]any, v any) error {
	d, ok := AsDict(v)
	if !ok {
		return fmt.Errorf("%s is not an object", kind(v))
	}
	*out, _ = storable(d).(map[string]any)
	return nil
}

// storable makes a value read the same after it was written as JSON and read
// again: a wish that came back from the disk must equal the one that went there.
// Integers beyond the reach of a float and numbers that JSON does not know
// become text.
func storable(v any) any {
	switch t := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(t))
		for k, e := range t {
			out[k] = storable(e)
		}
		return out
	case []any:
		out := make([]any, len(t))
		for i, e := range t {
			out[i] = storable(e)
		}
		return out
	case float64:
		if math.IsNaN(t) || math.IsInf(t, 0) {
			return fmt.Sprint(t)
		}
		return t
	case float32:
		return storable(float64(t))
	case int64:
		if t > 1<<53 || t < -(1<<53) {
			return fmt.Sprint(t)
		}
		return float64(t)
	case nil, string, bool, []byte:
		return t
	}
	if n, ok := Uint(v); ok {
		if n > 1<<53 {
			return fmt.Sprint(n)
		}
		return float64(n)
	}
	if d, ok := AsDict(v); ok {
		return storable(d)
	}
	if l, ok := AsList(v); ok {
		return storable(l)
	}
	return fmt.Sprint(v)
}

func dictOfDicts(out *map[string]any, v any) error {
	if err := dict(out, v); err != nil {
		return err
	}
	for name, e := range *out {
		if _, ok := AsDict(e); !ok {
			return fmt.Errorf("%q is %s, not an object", name, kind(e))
		}
	}
	return nil
}

// kind names a value in an error without repeating it: it may be a secret, or
// a megabyte.
func kind(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case string:
		if len(v) <= 40 {
			return fmt.Sprintf("the string %q", v)
		}
		return "a string"
	case bool:
		return fmt.Sprintf("%t", v)
	case float32, float64:
		return fmt.Sprintf("%v", v)
	case []byte:
		return "binary data"
	}
	if n, ok := Uint(v); ok {
		return fmt.Sprintf("%d", n)
	}
	if _, ok := AsList(v); ok {
		return "a list"
	}
	if _, ok := AsDict(v); ok {
		return "an object"
	}
	return fmt.Sprintf("%v", v)
}

func invalid(format string, args ...any) *Error {
	return &Error{CodeInvalid, fmt.Sprintf(format, args...)}
}

// StateReport is the first form of the argument of UpdateAppOnDevice (wire §6.3).
// Error and Probation are ours: what went wrong when State is FAILED, and that an
// update may still be taken back, because its new version is watched (design S16).
type StateReport struct {
	AppKey              uint64       `json:"app_key"`
	DeviceKey           uint64       `json:"device_key"`
	SwarmKey            uint64       `json:"swarm_key"`
	SerialNumber        string       `json:"serial_number"`
	Stage               Stage        `json:"stage"`
	State               State        `json:"state"`
	DeviceToAppKey      uint64       `json:"device_to_app_key"`
	RequestorAccountKey uint64       `json:"requestor_account_key"`
	ReleaseKey          uint64       `json:"release_key"`
	RequestUpdate       bool         `json:"request_update"`
	ReleaseBuild        bool         `json:"release_build"`
	UpdateStatus        UpdateStatus `json:"updateStatus"`
	Error               string       `json:"error,omitempty"`
	Probation           bool         `json:"probation,omitempty"`
}

// PortsReport is the second form: the rules with the ports that the device assigned.
type PortsReport struct {
	AppKey    uint64     `json:"app_key"`
	DeviceKey uint64     `json:"device_key"`
	SwarmKey  uint64     `json:"swarm_key"`
	Stage     Stage      `json:"stage"`
	Ports     []PortRule `json:"ports"`
}

// Wire is the report as it is sent: every number inside ports is a float there,
// as the contract's backend has always got them (wire, encoding facts).
func (r PortsReport) Wire() map[string]any {
	d := Wire(r)
	list, _ := d["ports"].([]any)
	if list == nil {
		list = []any{}
		d["ports"] = list
	}
	for _, e := range list {
		rule, _ := e.(map[string]any)
		for k, v := range rule {
			if n, ok := v.(int64); ok {
				rule[k] = float64(n)
			}
		}
	}
	return d
}
