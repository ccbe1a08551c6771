package main

import (
	"errors"
	"flag"
	"runtime"
	"slices"
	"strings"
)

var serviceVerbs = []string{"install", "uninstall", "start", "stop", "status"}

// service is for Windows, where no unit file starts the agent.
func (p *program) service(args []string) error {
	if len(args) > 0 && strings.TrimLeft(args[0], "-") == "help" {
		return p.parse(flag.NewFlagSet("service", flag.ContinueOnError), args)
	}
	return serviceOn(runtime.GOOS, args)
}

func serviceOn(system string, args []string) error {
	if system != "windows" {
		return errors.New("service is for Windows only; here a unit of systemd or launchd starts \"reagent -config FILE\"")
	}
	if len(args) == 0 || !slices.Contains(serviceVerbs, args[0]) {
		return usage("service needs one of %q", serviceVerbs)
	}
	return errors.New("service is not supported by this version: start \"reagent -config FILE\" with the Task Scheduler")
}
