package protocol

import "time"

// Procedures of the studio that people call (design S22). Each takes one object
// as its argument, an empty one or none where it needs nothing, and answers one
// object. Errors are ErrorPrefix + code with [{"error": text, "code": code}].
//
//	who may call it          administrator  another user                device, app
//	read_account             yes            yes                         no
//	add/list/remove user     yes            no                          no
//	grant/revoke             yes            no                          no
//	add/remove device        yes            no                          no
//	list_devices             all            devices he may READ         no
//	create_app               yes            yes, it is his then         no
//	list_apps                yes            yes                         no
//	create_release, push     every app      his apps                    no
//	deploy, stop, remove     every device   devices he may DEVELOP      no
//	list_states              all            devices he may READ         no
//
// The administrator is account 1 (AccountAdministrator); a session of role
// system may what he may. Whoever may not see a thing is told that it is not
// there.
const (
	StudioReadAccount         = "re.studio.read_account"          // – → AccountRow
	StudioAddUser             = "re.studio.add_user"              // AddUser → UserAdded
	StudioListUsers           = "re.studio.list_users"            // – → UserList
	StudioRemoveUser          = "re.studio.remove_user"           // RemoveUser → AccountRow
	StudioGrantPrivilege      = "re.studio.grant_privilege"       // GrantArgs → AccountRow
	StudioRevokePrivilege     = "re.studio.revoke_privilege"      // GrantArgs → AccountRow
	StudioAddDevice           = "re.studio.add_device"            // AddDevice → DeviceAdded
	StudioListDevices         = "re.studio.list_devices"          // – → DeviceList
	StudioRemoveDevice        = "re.studio.remove_device"         // DeviceArgs → DeviceRow
	StudioCreateApp           = "re.studio.create_app"            // CreateApp → AppRow
	StudioListApps            = "re.studio.list_apps"             // – → AppList
	StudioCreateRegistryToken = "re.studio.create_registry_token" // AppArgs → RegistryLogin
	StudioCreateRelease       = "re.studio.create_release"        // CreateRelease → AppRow
	StudioDeployApp           = "re.studio.deploy_app"            // DeployApp → Wished
	StudioStopApp             = "re.studio.stop_app"              // AppOnDevice → Wished
	StudioRemoveApp           = "re.studio.remove_app"            // RemoveApp → Wished
	StudioListStates          = "re.studio.list_states"           // ListStates → StateList
)

// Topics of the studio, one object each. An event reaches only those who may
// READ the device that it is about.
const (
	// StudioAppState carries an AppOnDeviceRow each time a device reported a
	// state or ports, and when a wish changed.
	StudioAppState = "re.studio.app_state"
	// StudioDeviceState carries a DeviceRow when a device comes, goes, or says
	// another status.
	StudioDeviceState = "re.studio.device_state"
)

// AccountAdministrator is the account that the first start of a studio makes.
const AccountAdministrator uint64 = 1

// A StudioProfile is what a client needs to reach a studio: the content of
// cli.json, and of any other profile.
type StudioProfile struct {
	URL    string `json:"url"` // http(s)://host:port; the session is at its /ws
	Realm  string `json:"realm"`
	AuthID string `json:"authid"`
	Secret string `json:"secret"`
	CA     string `json:"ca,omitempty"` // PEM; "" = the system's roots suffice
}

// AccountRow is an account without its secret.
type AccountRow struct {
	AccountKey    uint64     `json:"account_key"`
	AuthID        string     `json:"authid"`
	Name          string     `json:"name"`
	Role          string     `json:"role"`
	Administrator bool       `json:"administrator"`
	Grants        []GrantRow `json:"grants"`
	Created       time.Time  `json:"created,omitzero"`
}

// GrantRow is one right of an account.
type GrantRow struct {
	DeviceKey  uint64    `json:"device_key"`
	DeviceName string    `json:"device_name"`
	Privilege  Privilege `json:"privilege"`
}

// AddUser makes an account.
type AddUser struct {
	Name string `json:"name"`
}

// UserAdded hands out the new account's profile; its secret is shown this once.
type UserAdded struct {
	Account AccountRow    `json:"account"`
	Profile StudioProfile `json:"profile"`
}

// UserList is the answer of StudioListUsers.
type UserList struct {
	Users []AccountRow `json:"users"`
}

// RemoveUser names an account, by name or key.
type RemoveUser struct {
	User string `json:"user"`
}

// GrantArgs gives or takes a privilege on a device.
type GrantArgs struct {
	User      string    `json:"user"`   // name or account key
	Device    string    `json:"device"` // name, serial number or device key
	Privilege Privilege `json:"privilege"`
}

// AddDevice makes a device. Without a serial number it gets a new UUID.
type AddDevice struct {
	Name         string `json:"name"`
	SerialNumber string `json:"serial_number,omitempty"`
	Architecture string `json:"architecture,omitempty"` // informational
}

// DeviceAdded hands out the device file; the secret in it is shown this once.
type DeviceAdded struct {
	Device DeviceRow         `json:"device"`
	File   DeviceFileContent `json:"device_file"`
}

// DeviceFileContent is a device file (.reswarm, wire §1) as the studio makes it.
type DeviceFileContent struct {
	Name                 string            `json:"name"`
	Secret               string            `json:"secret"`
	Board                map[string]any    `json:"board"`
	Status               string            `json:"status"`
	Password             string            `json:"password"`
	WLANSSID             string            `json:"wlanssid"`
	SwarmKey             uint64            `json:"swarm_key"`
	DeviceKey            uint64            `json:"device_key"`
	SwarmName            string            `json:"swarm_name"`
	Description          any               `json:"description"`
	Architecture         string            `json:"architecture"`
	SerialNumber         string            `json:"serial_number"`
	Authentication       map[string]string `json:"authentication"`
	SwarmOwnerName       string            `json:"swarm_owner_name"`
	ConfigPassphrase     string            `json:"config_passphrase"`
	DeviceEndpointURL    string            `json:"device_endpoint_url"`
	Environment          string            `json:"environment"`
	DockerRegistryURL    string            `json:"docker_registry_url"`    // ends in a slash
	DockerMainRepository string            `json:"docker_main_repository"` // ends in a slash
}

// DeviceArgs names a device, by name, serial number or key.
type DeviceArgs struct {
	Device string `json:"device"`
}

// DeviceRow is a device as the studio knows it, without its secret.
type DeviceRow struct {
	DeviceKey     uint64        `json:"device_key"`
	SwarmKey      uint64        `json:"swarm_key"`
	SerialNumber  string        `json:"serial_number"`
	Name          string        `json:"name"`
	Online        bool          `json:"online"` // has a session now
	Status        DeviceState   `json:"status"` // as reported; DISCONNECTED while it has no session
	Since         time.Time     `json:"since,omitzero"`
	LastSeen      time.Time     `json:"last_seen,omitzero"`
	AgentVersion  string        `json:"agent_version"`
	Architecture  string        `json:"architecture"`
	OS            string        `json:"os"`
	RefusedLogins RefusedLogins `json:"refused_logins"`
	Created       time.Time     `json:"created,omitzero"`
}

// RefusedLogins counts the logins under a name that the studio refused since
// the last that was good.
type RefusedLogins struct {
	Count  uint64    `json:"count"`
	Last   time.Time `json:"last,omitzero"`
	Reason string    `json:"reason,omitempty"`
}

// DeviceList is the answer of StudioListDevices.
type DeviceList struct {
	Devices []DeviceRow `json:"devices"`
}

// CreateApp makes an app without releases.
type CreateApp struct {
	Name string `json:"name"`
}

// AppArgs names an app, by name or key.
type AppArgs struct {
	App string `json:"app"`
}

// AppRow is an app with its releases, oldest first. Ports and
// EnvironmentTemplate are the app's own: its DEV copies have them, and new
// releases inherit them.
type AppRow struct {
	AppKey              uint64         `json:"app_key"`
	Name                string         `json:"name"`
	Owner               string         `json:"owner"` // the account's name
	Created             time.Time      `json:"created,omitzero"`
	Ports               []PortRule     `json:"ports"`
	EnvironmentTemplate map[string]any `json:"environment_template"` // NAME -> {"defaultValue": …}
	Releases            []ReleaseRow   `json:"releases"`
}

// ReleaseRow is one version of an app.
type ReleaseRow struct {
	ReleaseKey          uint64         `json:"release_key"`
	Version             string         `json:"version"`
	Kind                Kind           `json:"kind"`
	Services            []string       `json:"services,omitempty"` // of a compose app, sorted
	Architectures       []string       `json:"architectures"`      // as in the image's name, such as "armv7"
	Ports               []PortRule     `json:"ports"`
	EnvironmentTemplate map[string]any `json:"environment_template"` // NAME -> {"defaultValue": …}
	Created             time.Time      `json:"created,omitzero"`
}

// AppList is the answer of StudioListApps.
type AppList struct {
	Apps []AppRow `json:"apps"`
}

// RegistryLogin is with what and where the images of an app are pushed: the
// image of an architecture is RegistryImage(Registry, Repository, Prod, arch,
// AppKey, AppName), that of a compose app's service RegistryServiceImage; the tag
// is the version.
type RegistryLogin struct {
	AppKey     uint64 `json:"app_key"`
	AppName    string `json:"app_name"`
	Registry   string `json:"registry"`   // host:port/
	Repository string `json:"repository"` // apps/
	Insecure   bool   `json:"insecure"`   // the registry speaks plain HTTP
	Username   string `json:"username"`
	Password   string `json:"password"` // good for a short time
}

// CreateRelease enters a version whose images were pushed. The same version
// again adds its architectures; ports and defaults replace those that were there
// unless they are null. In a new version null stands for the app's own. An image
// that the registry does not have is refused.
//
// Compose is the definition of a compose app. A service without "image" gets the
// one that was pushed for it (RegistryServiceImage), for the device's
// architecture; an image that is named is pulled from where it says, and must
// suit every architecture.
type CreateRelease struct {
	App                 string         `json:"app"` // name or key
	Version             string         `json:"version"`
	Architectures       []string       `json:"architectures"`
	Compose             map[string]any `json:"compose,omitempty"` // null: one container
	Ports               []PortRule     `json:"ports"`
	EnvironmentTemplate map[string]any `json:"environment_template"` // NAME -> {"defaultValue": …}
}

// DeployApp wishes that an app runs on a device. Without a version it is the
// one that is there or, where the app is not installed, the newest. Values of
// Environment are added to those that were set; null takes one away.
type DeployApp struct {
	App         string         `json:"app"`    // name or key
	Device      string         `json:"device"` // name, serial number or key
	Version     string         `json:"version,omitempty"`
	Environment map[string]any `json:"environment,omitempty"` // NAME -> value
}

// AppOnDevice names an app on a device.
type AppOnDevice struct {
	App    string `json:"app"`
	Device string `json:"device"`
}

// RemoveApp takes an app from a device; Uninstall also removes its data.
type RemoveApp struct {
	App       string `json:"app"`
	Device    string `json:"device"`
	Uninstall bool   `json:"uninstall,omitempty"`
}

// Wished says what was written down. Delivered is true when the device took the
// wish at once; otherwise it is asked for when the device comes, and Reason says
// why. Refused is true when the device said that it will not do it: it would say
// the same again.
type Wished struct {
	App       AppOnDeviceRow `json:"app"`
	Delivered bool           `json:"delivered"`
	Refused   bool           `json:"refused,omitempty"`
	Reason    string         `json:"reason,omitempty"`
}

// ListStates asks for the apps on devices, all that the caller may READ or those
// of one device or one app. History asks for so many earlier states of each.
type ListStates struct {
	Device  string `json:"device,omitempty"`
	App     string `json:"app,omitempty"`
	History Number `json:"history,omitempty"`
}

// StateList is the answer of StudioListStates.
type StateList struct {
	States []AppOnDeviceRow `json:"states"`
}

// AppOnDeviceRow is an app on a device: what is wished, and what the device
// reported last.
type AppOnDeviceRow struct {
	DeviceKey     uint64       `json:"device_key"`
	DeviceName    string       `json:"device_name"`
	SerialNumber  string       `json:"serial_number"`
	Online        bool         `json:"online"`
	AppKey        uint64       `json:"app_key"`
	AppName       string       `json:"app_name"`
	Stage         Stage        `json:"stage"`
	Kind          Kind         `json:"kind"`
	ContainerName string       `json:"container_name"` // names its log too
	Target        State        `json:"target_state"`
	State         State        `json:"state"`
	Version       string       `json:"version"` // installed, "" = none
	ReleaseKey    uint64       `json:"release_key"`
	TargetVersion string       `json:"target_version"`
	UpdateStatus  UpdateStatus `json:"update_status"`
	LastUpdate    *UpdateRow   `json:"last_update,omitempty"`
	Publishing    string       `json:"publishing,omitempty"` // version that the device is to push, DEV only
	Error         string       `json:"error,omitempty"`      // of the last report
	Ports         []PortRule   `json:"ports"`                // with the host ports that the device assigned
	Wished        time.Time    `json:"wished,omitzero"`
	Reported      time.Time    `json:"reported,omitzero"`
	History       []PastState  `json:"history,omitempty"` // oldest first
}

// PastState is a state that a device reported.
type PastState struct {
	State        State        `json:"state"`
	ReleaseKey   uint64       `json:"release_key"`
	Version      string       `json:"version,omitempty"` // of the release
	UpdateStatus UpdateStatus `json:"update_status,omitempty"`
	Error        string       `json:"error,omitempty"`
	Time         time.Time    `json:"time"`
}
