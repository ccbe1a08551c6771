package release

import (
	_ "embed"
	"runtime"
	"runtime/debug"
	"strings"
)

//go:embed VERSION
var next string // the version that the source tree leads to

// Version is the version of this binary without a "v". A release build stamps it:
//
//	go build -ldflags "-X reagent/release.Version=1.2.3"
//
// Any other build is a development build of the version that the tree leads to,
// which sorts before it.
var Version string

func init() {
	if Version == "" {
		Version = strings.TrimSpace(next) + "-dev"
	}
}

// Arch is the architecture that this binary was built for, with the ARM variant
// glued on, such as "amd64" or "armv7". Images and downloads are named by it.
func Arch() string {
	if v := Variant(); v != "" {
		return runtime.GOARCH + v
	}
	return runtime.GOARCH
}

// Variant is the ARM variant that this binary was built for, "v5" to "v7", and
// empty on other architectures. It is read from what the Go tool-chain recorded
// in the binary, so that no build can stamp a wrong one.
func Variant() string {
	if runtime.GOARCH != "arm" {
		return ""
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "GOARM" {
				return variant(s.Value)
			}
		}
	}
	return variant("")
}

// variant reads GOARM, for example "6" or "7,softfloat". A build without it has
// the tool-chain's default.
func variant(goarm string) string {
	digit, _, _ := strings.Cut(goarm, ",")
	if digit == "" {
		digit = "7"
	}
	return "v" + digit
}
