package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"reagent/config"
)

const helpHead = `Reagent runs the apps of this device, with or without a network, and keeps the
device in reach of its studio.

Usage:
  reagent -config FILE [FLAGS]   run the agent until SIGINT or SIGTERM
`

const helpExamples = `
Examples:
  reagent -config press-07.reswarm
      Run the agent with the device file that the studio made.
  reagent -config press-07.reswarm -appsDir /apps -debug=false
      Keep the apps' data on a partition of its own and log what matters only.
  REAGENT_CONFIG=press-07.reswarm reagent -offline
      Run the apps as they were last wanted and never dial.
  reagent status
      See whether it is online, and what its apps do.

Exit codes: 0 asked to end, 1 failure, 2 command line or configuration,
3 another agent runs here.

`

// help teaches what the program does; -help is the same.
func (p *program) help(args []string) error {
	if len(args) > 0 {
		for _, c := range commands() {
			if c.name == args[0] && c.name != "help" {
				return c.run(p, []string{"-help"})
			}
		}
	}
	if _, err := fmt.Fprint(p.stdout, helpHead, commandList(), helpExamples); err != nil {
		return err
	}
	return config.Help(p.stdout, p.getenv)
}

func commandList() string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 3, ' ', 0)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %s\t%s\n", strings.TrimSpace("reagent "+c.name+" "+c.args), c.about)
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}
