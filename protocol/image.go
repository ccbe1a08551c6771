package protocol

import (
	"strconv"
	"strings"
)

// MainRepository is where a studio of our own keeps the images of apps in its
// registry; a device file carries it as docker_main_repository.
const MainRepository = "apps/"

// Architecture is an image's architecture as it is glued into names (life
// §3.1): "amd64", "arm64", "armv7". An ARM image that names no variant counts as
// v7, as it does to the engine; the variant of other architectures is dropped.
func Architecture(architecture, variant string) string {
	if architecture != "arm" {
		return architecture
	}
	if variant == "" {
		variant = "v7"
	}
	return architecture + variant
}

// ParseImageName takes an image's name below a registry apart (see ImageName).
// ok is false for any name that is not of the contract's form.
func ParseImageName(name string) (stage Stage, arch string, appKey uint64, appName string, ok bool) {
	parts := strings.SplitN(name, "_", 4)
	if len(parts) != 4 || parts[1] == "" || parts[3] == "" {
		return "", "", 0, "", false
	}
	stage = Stage(strings.ToUpper(parts[0]))
	appKey, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil || !stage.Valid() || CheckAppName(parts[3]) != nil || name != ImageName(stage, parts[1], appKey, parts[3]) {
		return "", "", 0, "", false
	}
	return stage, parts[1], appKey, parts[3], true
}
