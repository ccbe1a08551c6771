package cli

import (
	"context"
	"flag"
	"fmt"
	"io"

	"reagent/protocol"
)

func appPorts() Command {
	var none bool
	return Command{
		Words: "app ports", Args: "APP [[NAME=]PORT[/udp]]… [--none]", Min: 1, Max: 200,
		About: "Show or set the ports on which an app listens",
		More: `Those given take the place of all that were there; the first is the main one. A
device gives each a port of its own that stays the same, see "states". They count
for DEV copies, and for each version that is published or pushed from now on
without ports of its own.

  $0 app ports hello web=8080 dns=53/udp
  $0 app ports hello`,
		Flags: func(f *flag.FlagSet) { f.BoolVar(&none, "none", false, "the app listens nowhere any more") },
		Hints: map[protocol.Code]string{protocol.CodeNotFound: hintApps},
		Run: func(ctx context.Context, c *Call) error {
			rules := []protocol.PortRule{}
			for _, arg := range c.Args[1:] {
				rule, err := parsePort(arg)
				if err != nil {
					return &UsageError{err.Error()}
				}
				rule.Main = len(rules) == 0
				rules = append(rules, rule)
			}
			if none && len(rules) > 0 {
				return usage("--none and ports exclude each other")
			}
			var row protocol.AppRow
			var err error
			if len(rules) == 0 && !none {
				row, err = ownApp(ctx, c, c.Args[0])
			} else {
				row, err = ask[protocol.AppRow](ctx, c, protocol.StudioSetAppPorts, protocol.SetAppPorts{App: c.Args[0], Ports: rules})
			}
			if err != nil {
				return err
			}
			return c.show(row, func(out io.Writer) error {
				return table(out, "NAME PORT PROTOCOL", row.Ports,
					fmt.Sprintf("%s listens nowhere: say where with %q", printable(row.Name), c.Name+" app ports "+row.Name+" PORT"),
					func(r protocol.PortRule) []string { return []string{r.Name, fmt.Sprint(r.Port), r.Protocol} })
			})
		},
	}
}
