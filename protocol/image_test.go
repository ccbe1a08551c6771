package protocol

import "testing"

func TestImageNamesAreTakenApartAsTheyWereMade(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64", "armv7", "riscv64"} {
		for _, name := range []string{"hello", "my_app-2", "a.b"} {
			image := ImageName(Prod, arch, 6, name)
			stage, gotArch, key, gotName, ok := ParseImageName(image)
			if !ok || stage != Prod || gotArch != arch || key != 6 || gotName != name {
				t.Errorf("ParseImageName(%q) = %v %v %v %v %v", image, stage, gotArch, key, gotName, ok)
			}
		}
	}
	for _, name := range []string{
		"", "hello", "prod_amd64_6", "prod_amd64_6_", "prod__6_hello", "prod_amd64_06_hello", "prod_amd64_x_hello",
		"Prod_amd64_6_hello", "prod_amd64_6_Hello", "test_amd64_6_hello", "prod_amd64_-6_hello", "prod_amd64_6_hello/x", "prod_amd64_6_..",
	} {
		if _, _, _, _, ok := ParseImageName(name); ok {
			t.Errorf("ParseImageName(%q) is ok, want not", name)
		}
	}
}

func TestArchitectureCarriesTheVariantOfARMOnly(t *testing.T) {
	for _, c := range []struct{ arch, variant, want string }{
		{"amd64", "", "amd64"}, {"arm64", "v8", "arm64"}, {"arm", "v7", "armv7"}, {"arm", "v6", "armv6"}, {"arm", "", "armv7"},
		{"riscv64", "", "riscv64"},
	} {
		if got := Architecture(c.arch, c.variant); got != c.want {
			t.Errorf("Architecture(%q, %q) = %q, want %q", c.arch, c.variant, got, c.want)
		}
	}
}
