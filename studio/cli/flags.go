package cli

import (
	"flag"
	"fmt"
	"strings"
	"time"

	"reagent/protocol"
)

// add declares the flags that choose what a folder is.
func (p *projectFlags) add(f *flag.FlagSet) {
	f.StringVar(&p.app, "app", "", "`NAME` or key of the app (default: the folder's name)")
	f.StringVar(&p.file, "f", "", "the compose `FILE` in the folder, or Dockerfile where there is also one (default: compose.yaml, docker-compose.yml, Dockerfile)")
}

// addLogins declares the flag by which the builder gets into private registries.
func addLogins(f *flag.FlagSet, hosts *[]string) {
	f.Func("login", "lend the device your \"docker login\" of `HOST` for this build (repeatable)", func(host string) error {
		*hosts = append(*hosts, host)
		return nil
	})
}

// An envFlag gathers NAME=VALUE; NAME alone is null.
type envFlag map[string]any

func (e envFlag) String() string { return "" }

func (e envFlag) Set(text string) error {
	name, value, set := strings.Cut(text, "=")
	if name == "" {
		return fmt.Errorf("%q has no name", text)
	}
	if e[name] = value; !set {
		e[name] = nil
	}
	return nil
}

// checkVersion refuses an argument that cannot be a version.
func checkVersion(version string) error {
	if version == "" {
		return usage("the version is empty")
	}
	if err := protocol.CheckVersion(version); err != nil {
		return &UsageError{err.Error()}
	}
	return nil
}

// addBound declares a flag that bounds a question in time. The text goes to the
// device as it is: how long ago is meant by the device's clock.
func addBound(f *flag.FlagSet, name, about string, to *string) {
	f.Func(name, about+": `TIME` as 2026-05-04T12:00:00Z, or how long ago as 90s, 30m, 24h", func(text string) error {
		if _, err := protocol.ParseTimeBound(name, text, time.Now()); err != nil {
			return fmt.Errorf("%q is neither a time such as 2026-05-04T12:00:00Z nor a duration such as 30m", text)
		}
		*to = text
		return nil
	})
}

// present are the entries of a question that were given.
func present(in map[string]any) map[string]any {
	for name, v := range in {
		if v == "" || v == 0 || v == uint64(0) {
			delete(in, name)
		}
	}
	return in
}
