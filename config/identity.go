package config

import (
	"fmt"

	"reagent/protocol"
)

// Identity is who this device is: the part of the device file that the agent
// reads.
type Identity struct {
	Learned

	Secret       string // WAMP-CRA secret, registry password
	DeviceKey    uint64
	SerialNumber string // verbatim in URIs

	EndpointURL     string // the router
	Environment     string // production, test or local; "" = none
	ApplianceDomain string
	BoardModel      string

	RegistryURL    string // with its trailing slash, prefixed to image names
	MainRepository string

	ClientKey         string // PEM; for legacy endpoints only
	ClientCertificate string
}

// Learned is the part of the identity that the backend may change while the
// agent runs. Nothing else in the device file ever follows the wire.
type Learned struct {
	Name           string
	SwarmKey       uint64 // another one means another authid
	SwarmName      string
	SwarmOwnerName string
}

// AuthID is the name under which the device logs in.
func (i Identity) AuthID() string { return protocol.DeviceAuthID(i.SwarmKey, i.DeviceKey) }

// String and GoString keep the secrets out of whatever prints an Identity.
func (i Identity) String() string   { return fmt.Sprintf("%s (%s)", i.Name, i.SerialNumber) }
func (i Identity) GoString() string { return "config.Identity{" + i.String() + "}" }

// ApplianceModel is the board model of the appliance's own agent.
const ApplianceModel = "appliance"

// moved are addresses that device files in the field still carry, by key, and
// where the platform went. The file keeps the old one: an older agent that is
// put back must find its file as it was.
var moved = map[string]map[string]string{
	"docker_registry_url": {"registry.reswarm.io/": "registry.ironflock.com/"},
	"device_endpoint_url": {"wss://cbw.record-evolution.com/ws-re-dev": "wss://cbw.ironflock.com/ws-re-dev"},
}
