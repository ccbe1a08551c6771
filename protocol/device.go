package protocol

// DeviceStatus is the argument of UpdateDeviceStatus (wire §6.1).
type DeviceStatus struct {
	SwarmKey      uint64      `json:"swarm_key"`
	DeviceKey     uint64      `json:"device_key"`
	Status        DeviceState `json:"status"`
	WAMPSessionID uint64      `json:"wamp_session_id"`
	TunnelCapable bool        `json:"tunnel_capable"`
	Stats         Stats       `json:"stats"`
}

// Stats are the host's figures in a heartbeat and in get_storage_data: sizes in
// bytes, CPUUsage in percent since the last look, a reading that failed is 0.
type Stats struct {
	CPUCount          int     `json:"cpu_count"`
	CPUUsage          float64 `json:"cpu_usage"`
	MemoryTotal       uint64  `json:"memory_total"`
	MemoryUsed        uint64  `json:"memory_used"`
	MemoryAvailable   uint64  `json:"memory_available"`
	StorageTotal      uint64  `json:"storage_total"`
	StorageUsed       uint64  `json:"storage_used"`
	StorageFree       uint64  `json:"storage_free"`
	DockerAppsTotal   uint64  `json:"docker_apps_total"`
	DockerAppsUsed    uint64  `json:"docker_apps_used"`
	DockerAppsFree    uint64  `json:"docker_apps_free"`
	DockerAppsMounted bool    `json:"docker_apps_mounted"`
}

// Testament is the one argument of the event that the router publishes when a
// device's session ends (wire §6).
type Testament struct {
	SwarmKey      uint64 `json:"swarm_key"`
	DeviceKey     uint64 `json:"device_key"`
	SerialNumber  string `json:"serial_number"`
	WAMPSessionID uint64 `json:"wamp_session_id"`
}

// DeviceArchitecture is the argument of UpdateDeviceArchitecture.
type DeviceArchitecture struct {
	SwarmKey     uint64 `json:"swarm_key"`
	DeviceKey    uint64 `json:"device_key"`
	Architecture string `json:"architecture"` // with variant, such as "armv7"
	OS           string `json:"os"`           // long form: OS, platform, its version, kernel
	Arch         string `json:"arch"`
	Variant      string `json:"variant"`
	AgentVersion string `json:"agent_version"`
}

// PrivilegeQuestion is the argument of CheckPrivilege; the answer is a bool.
type PrivilegeQuestion struct {
	Privilege           Privilege `json:"privilege"`
	Entity              string    `json:"entity"` // always "DEVICE"
	EntityKey           uint64    `json:"entity_key"`
	RequestorAccountKey uint64    `json:"requestor_account_key"`
	SwarmKey            uint64    `json:"swarm_key"`
}

// AgentMetadata is the answer of get_agent_metadata (wire §5.3). The last four
// keys are there only when the update server answered.
type AgentMetadata struct {
	OS                  string  `json:"os"`
	OSVersion           string  `json:"OSVersion"`
	Arch                string  `json:"arch"`
	Variant             string  `json:"variant"`
	Version             string  `json:"version"`
	SerialNumber        string  `json:"serialNumber"`
	CanUpdate           bool    `json:"canUpdate"`
	TunnelCapable       bool    `json:"tunnelCapable"`
	LatestVersion       *string `json:"latestVersion,omitempty"`
	LatestAgentVersion  *string `json:"latestAgentVersion,omitempty"`
	LatestTunnelVersion *string `json:"latestTunnelVersion,omitempty"`
	HasLatest           *bool   `json:"hasLatest,omitempty"`
}

// InterfaceAddress is one element of the answer of get_ipv4_addresses.
type InterfaceAddress struct {
	InterfaceName string `json:"interfaceName"`
	IP            string `json:"ip"`
}

// NetworkAddress is one positional result of get_network_metadata. Mask is the
// address mask's bytes.
type NetworkAddress struct {
	IP   string `json:"IP"`
	Mask []byte `json:"Mask"`
}
