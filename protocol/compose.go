package protocol

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// The image of a compose app's service has the app's image name with the service
// behind it, so that whose image it is shows in the same way (ParseImageName):
//
//	apps/prod_armv7_6_hello         the app 6, "hello", as one container
//	apps/prod_armv7_6_hello_web     its service "web"
//
// An app "hello_web" has another key, and so another name.

// ServiceImageName is the name of the image of a compose app's service below a
// registry.
func ServiceImageName(stage Stage, arch string, appKey uint64, appName, service string) string {
	return ImageName(stage, arch, appKey, appName) + "_" + strings.ToLower(service)
}

// RegistryServiceImage is ServiceImageName with registry and repository in front,
// without a tag.
func RegistryServiceImage(registry, repository string, stage Stage, arch string, appKey uint64, appName, service string) string {
	return strings.ToLower(registry+repository) + ServiceImageName(stage, arch, appKey, appName, service)
}

const mostServices = 100

// ComposeServices reads the services of a compose definition. It refuses what
// could not be an app: no services, one that is no object, and names that no
// image could have or that differ in case only.
func ComposeServices(appName string, definition map[string]any) (map[string]map[string]any, error) {
	raw, ok := AsDict(definition["services"])
	switch {
	case !ok || len(raw) == 0:
		return nil, fmt.Errorf("the compose definition has no services")
	case len(raw) > mostServices:
		return nil, fmt.Errorf("the compose definition has more than %d services", mostServices)
	}
	services := make(map[string]map[string]any, len(raw))
	images := make(map[string]string, len(raw))
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		if err := checkService(appName, name); err != nil {
			return nil, err
		}
		if other, taken := images[strings.ToLower(name)]; taken {
			return nil, fmt.Errorf("the services %q and %q differ in case only, and image names have none", other, name)
		}
		images[strings.ToLower(name)] = name
		if services[name], ok = AsDict(raw[name]); !ok {
			return nil, fmt.Errorf("the service %q is no object", name)
		}
		for _, key := range []string{"image", "x-source-image"} {
			if v := services[name][key]; v != nil {
				if text, ok := Text(v); !ok || text == "" {
					return nil, fmt.Errorf("%s of the service %q is no text", key, name)
				}
			}
		}
	}
	return services, nil
}

// checkService refuses a service whose name could not end the name of an image.
// Between letters and digits registries take one '.', one or two '_', or any
// number of '-'.
func checkService(appName, name string) error {
	gap := ""
	good := name != ""
	for i, r := range strings.ToLower(name) {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			gap = ""
			continue
		}
		gap += string(r)
		good = good && i > 0 && (gap == "." || gap == "_" || gap == "__" || strings.Trim(gap, "-") == "")
	}
	switch {
	case !good || gap != "":
		return fmt.Errorf("service name %.60q: letters and digits, between them one of '.', '_' and '-'", name)
	case len(appName)+1+len(name) > 128:
		return fmt.Errorf("the names of app and service are together longer than 128 characters")
	}
	return nil
}
