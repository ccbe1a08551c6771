package protocol

import (
	"fmt"
	"strconv"
	"strings"
)

// RealmDevices is the realm that devices, users and the backend share.
const RealmDevices = "realm1"

// Roles of a session (wire Appendix A, design S14, S20 and S23).
const (
	RoleSystem = "system"
	RoleUser   = "user"
	RoleDevice = "device"
	RoleApp    = "app"
	// AuthIDSystem is the authid of the backend.
	AuthIDSystem = "system"
)

// IsSystem reports whether the backend is who calls or publishes. A role that the
// router discloses decides alone: a name can be anybody's.
func IsSystem(authid, role string) bool {
	if role != "" {
		return role == RoleSystem
	}
	return authid == AuthIDSystem
}

// An AppID names an app on one device.
type AppID struct {
	Key   uint64
	Stage Stage
}

func (id AppID) String() string { return fmt.Sprintf("%s/%d", id.Stage, id.Key) }

// DeviceAuthID is the authid of a device (wire §3).
func DeviceAuthID(swarmKey, deviceKey uint64) string {
	return fmt.Sprintf("%d-%d", swarmKey, deviceKey)
}

// ParseDeviceAuthID takes a device's authid apart.
func ParseDeviceAuthID(authid string) (swarmKey, deviceKey uint64, ok bool) {
	s, d, found := strings.Cut(authid, "-")
	if !found {
		return 0, 0, false
	}
	swarmKey, errS := strconv.ParseUint(s, 10, 64)
	deviceKey, errD := strconv.ParseUint(d, 10, 64)
	return swarmKey, deviceKey, errS == nil && errD == nil
}

// ContainerName is the name of an app's container (life §3.1), and of its log topic.
func ContainerName(stage Stage, appKey uint64, appName string) string {
	return strings.ToLower(fmt.Sprintf("%s_%d_%s", stage, appKey, appName))
}

// PublishLogName is the name under which an app's publication is logged (life
// §3.1); there is no container of that name.
func PublishLogName(appKey uint64, appName string) string {
	return strings.ToLower(fmt.Sprintf("pub_%d_%s", appKey, appName))
}

// ComposeProject is the project name of a compose app (life §3.1).
func ComposeProject(stage Stage, appKey uint64, appName string) string {
	return ContainerName(stage, appKey, appName) + "_compose"
}

// ParseContainerName takes a container name apart. The publish log of a DEV app
// ("pub_…") counts as DEV. ok is false for any name that is not of the
// contract's form.
func ParseContainerName(name string) (stage Stage, appKey uint64, appName string, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(name, "/"), "_", 3)
	if len(parts) != 3 || parts[2] == "" {
		return "", 0, "", false
	}
	switch parts[0] {
	case "dev", "pub":
		stage = Dev
	case "prod":
		stage = Prod
	default:
		return "", 0, "", false
	}
	appKey, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil || parts[1] != strconv.FormatUint(appKey, 10) {
		return "", 0, "", false
	}
	return stage, appKey, parts[2], true
}

// ImageName is the name of an app's image below a registry (life §3.1). arch is
// the architecture with the ARM variant glued on, such as "amd64" or "armv7".
func ImageName(stage Stage, arch string, appKey uint64, appName string) string {
	return strings.ToLower(fmt.Sprintf("%s_%s_%d_%s", stage, arch, appKey, appName))
}

// RegistryImage is the name of an app's image with registry and repository in
// front (both settings normally end in a slash) and without a tag.
func RegistryImage(registry, repository string, stage Stage, arch string, appKey uint64, appName string) string {
	return strings.ToLower(registry+repository) + ImageName(stage, arch, appKey, appName)
}

// CheckAppName refuses a name that could not be part of a container name, an
// image name or a folder name. It is the one place that decides; the studio and
// the device ask the same question.
func CheckAppName(name string) error {
	if name == "" {
		return fmt.Errorf("the app name is empty")
	}
	if len(name) > 128 {
		return fmt.Errorf("the app name is longer than 128 characters")
	}
	for i, r := range name {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && (i == 0 || r != '-' && r != '_' && r != '.') {
			return fmt.Errorf("app name %q: only letters, digits, '-', '_' and '.', beginning with a letter or digit", name)
		}
	}
	if strings.Contains(name, "..") || strings.HasSuffix(name, ".") || strings.HasSuffix(name, "-") || strings.HasSuffix(name, "_") {
		return fmt.Errorf("app name %q: no \"..\", and no '.', '-' or '_' at its end", name)
	}
	return nil
}

// CheckSerial refuses a serial number that could not be part of a URI (design S19).
func CheckSerial(serial string) error {
	switch {
	case serial == "":
		return fmt.Errorf("serial_number is empty")
	case strings.ContainsAny(serial, ".# \t\r\n\v\f"):
		return fmt.Errorf("serial_number %q: '.', '#' and white space cannot be part of a procedure's name", serial)
	}
	return nil
}
