package release

import (
	"regexp"
	"runtime"
	"testing"
)

func TestVersionIsBareAndSemantic(t *testing.T) {
	if !regexp.MustCompile(`^\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`).MatchString(Version) {
		t.Errorf("Version = %q", Version)
	}
}

func TestArchCarriesTheARMVariant(t *testing.T) {
	for goarm, want := range map[string]string{"5": "v5", "6": "v6", "7": "v7", "7,softfloat": "v7", "": "v7"} {
		if got := variant(goarm); got != want {
			t.Errorf("variant(%q) = %q, want %q", goarm, got, want)
		}
	}
	if runtime.GOARCH != "arm" && (Arch() != runtime.GOARCH || Variant() != "") {
		t.Errorf("Arch = %q, Variant = %q on %s", Arch(), Variant(), runtime.GOARCH)
	}
}
