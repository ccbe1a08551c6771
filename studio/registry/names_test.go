package registry

import (
	"encoding/json"
	"testing"

	"github.com/distribution/reference"

	"reagent/protocol"
)

// What the studio takes as a compose definition has images that registries take,
// and that are seen to be the app's.
func FuzzServicesHaveImages(f *testing.F) {
	for _, seed := range []string{
		`{"services":{"web":{"image":"nginx"},"Job_2":{"build":"."}}}`, `{"services":{"a.b":{},"c__d":{},"e--f":{}}}`,
		`{"services":{"-":{},"ä":null}}`, `{"services":[]}`, `{"services":{"a":{"image":7}}}`, `null`, `{}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var definition map[string]any
		if json.Unmarshal([]byte(text), &definition) != nil {
			return
		}
		services, err := protocol.ComposeServices("hello", definition)
		if (err == nil) != (len(services) > 0) {
			t.Fatalf("%d services and the error %v", len(services), err)
		}
		seen := map[string]bool{}
		for name := range services {
			image := protocol.ServiceImageName(protocol.Prod, "armv7", 6, "hello", name)
			if _, err := reference.WithName("r.test:1/" + protocol.MainRepository + image); err != nil {
				t.Errorf("service %q: image %q: %v", name, image, err)
			}
			stage, arch, key, _, ok := protocol.ParseImageName(image)
			if !ok || stage != protocol.Prod || arch != "armv7" || key != 6 {
				t.Errorf("service %q: image %q is that of %s %s %d, %v", name, image, stage, arch, key, ok)
			}
			if seen[image] {
				t.Errorf("two services have the image %q", image)
			}
			seen[image] = true
		}
	})
}
