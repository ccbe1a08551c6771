package protocol

import "strings"

// Procedure is the URI of a procedure that a device exposes (wire §4).
func Procedure(serial, suffix string) string { return "re.mgmt." + serial + "." + suffix }

// LogTopic is the topic of an app's log (wire §8).
func LogTopic(serial, containerName string) string {
	return LogTopicPrefix + serial + "." + containerName
}

// LogTopicPrefix is what every log topic begins with.
const LogTopicPrefix = "reswarm.logs."

// ParseLogTopic takes a log topic apart. For a prefix such as "reswarm.logs."
// the missing parts are empty.
func ParseLogTopic(uri string) (serial, containerName string, ok bool) {
	rest, ok := strings.CutPrefix(uri, LogTopicPrefix)
	if !ok {
		return "", "", false
	}
	serial, containerName, _ = strings.Cut(rest, ".")
	return serial, containerName, true
}

// Suffixes of the procedures that a device exposes (wire §5).
const (
	ConnectionEstablished = "wamp_connection_established"
	DeviceHandshake       = "device_handshake"
	RequestAppState       = "request_app_state"
	WriteData             = "write_data"
	CheckHostPort         = "check_host_port" // a later revision's (wire Appendix A)
	ListContainers        = "list_containers"
	GetImages             = "get_images"
	PruneImages           = "prune_images"
	GetAppLogHistory      = "get_app_log_history"
	QueryAppLogs          = "query_app_logs"
	QueryDeviceLogs       = "query_device_logs"
	InitDeviceTerminal    = "init_device_terminal"
	RequestTerminal       = "request_terminal_session"
	StartTerminal         = "start_terminal_session"
	StopTerminal          = "stop_terminal_session"
	ExecuteCmd            = "execute_cmd"
	GetAgentMetadata      = "get_agent_metadata"
	GetStorageData        = "get_storage_data"
	GetNetworkMetadata    = "get_network_metadata"
	GetIPv4Addresses      = "get_ipv4_addresses"
)

// Suffixes of procedures that the contract does not have. They answer errors
// with ErrorPrefix.
const (
	FollowAppLogs = "follow_app_logs"
	RunCommand    = "run_command"
	StopCommand   = "stop_command"
	QueryAudit    = "query_audit"
)

// Procedures of the backend that a device calls (wire §6).
const (
	AddTestament             = "wamp.session.add_testament"
	UpdateDeviceStatus       = "reswarm.devices.update_device_status"
	ReadDeviceMetadata       = "reswarm.devices.read_device_metadata"
	GetAppCredKey            = "reswarm.devices.get_app_cred_key"
	UpdateDeviceArchitecture = "reswarm.devices.update_device_architecture"
	CheckPrivilege           = "reswarm.devices.check_privilege"
	GetRequestedAppStates    = "reswarm.containers.get_requested_app_states"
	UpdateAppOnDevice        = "reswarm.containers.update_app_on_device"
	GetRegistryToken         = "reswarm.containers.get_registry_token"
	RunRegistryGC            = "reswarm.registry.run_gc"
	SubscriptionMatch        = "wamp.subscription.match"
)

// Topics of the router and of the testament.
const (
	SubscriptionOnCreate = "wamp.subscription.on_create"
	SubscriptionOnDelete = "wamp.subscription.on_delete"
	SessionOnJoin        = "wamp.session.on_join"
	SessionOnLeave       = "wamp.session.on_leave"
	TestamentDevice      = "reswarm.api.testament_device"
)

// Error URIs (design S13). Procedures of the contract answer every error with
// ErrorContract and args [{"error": text, "code": code}]; procedures of our own
// with ErrorPrefix + code and the same args.
const (
	ErrorContract           = "wamp.error.canceled"
	ErrorPrefix             = "re.error."
	ErrorProcedureExists    = "wamp.error.procedure_already_exists"
	ErrorNoSuchProcedure    = "wamp.error.no_such_procedure"
	ErrorNotAuthorized      = "wamp.error.not_authorized"
	ErrorNoSuchSubscription = "wamp.error.no_such_subscription"
)

// A Code tells a program what kind of error it got; the text is for people.
type Code string

// The codes of errors.
const (
	CodeInvalid      Code = "invalid_argument" // the call's arguments; repeating it is no use
	CodeRefused      Code = "not_authorized"   // the caller may not do that
	CodeNotFound     Code = "not_found"
	CodeConflict     Code = "conflict" // exists already, or is in use
	CodeUnsupported  Code = "not_supported"
	CodeUnavailable  Code = "unavailable" // the engine, the backend or the device does not answer now
	CodeTimeout      Code = "timeout"
	CodeInternal     Code = "internal"
	CodeDisabled     Code = "disabled_by_policy"
	CodeTooLarge     Code = "too_large"
	CodeDiskFull     Code = "disk_full" // nothing may grow now; it may later
	CodeUnauthorized Code = "unauthorized"
)

// An Error is an error that a remote caller is shown: a code for programs and a
// sentence for people. Errors without one are reported as CodeInternal.
type Error struct {
	Code Code
	Text string
}

func (e *Error) Error() string { return e.Text }
