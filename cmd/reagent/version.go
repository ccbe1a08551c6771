package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"runtime"

	"reagent/release"
)

// version prints the bare version: scripts on flashed images compare it.
func (p *program) version(args []string) error {
	set := flag.NewFlagSet("version", flag.ContinueOnError)
	asJSON := outputFlag(set)
	if err := p.parse(set, args); err != nil {
		return err
	}
	if !*asJSON {
		_, err := fmt.Fprintln(p.stdout, release.Version)
		return err
	}
	return json.NewEncoder(p.stdout).Encode(struct {
		Version string `json:"version"`
		OS      string `json:"os"`
		Arch    string `json:"arch"`
		Go      string `json:"go"`
	}{release.Version, runtime.GOOS, release.Arch(), runtime.Version()})
}
