package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"reagent/protocol"
)

const grantMore = `USER is a name or an account key, DEVICE a name, serial number or key.

  READ      see the device, its apps and their logs
  DEVELOP   deploy, stop and remove apps
  MAINTAIN  look after the device itself
  NETWORK   change its network`

func grant() Command {
	return privilege("grant", "Let a user do something on a device", protocol.StudioGrantPrivilege)
}

// privilege is the command that gives a right, and the one that takes it.
func privilege(verb, about, procedure string) Command {
	return Command{
		Words: verb, Args: "USER DEVICE PRIVILEGE", Min: 3, Max: 3, About: about, More: grantMore,
		Hints: map[protocol.Code]string{protocol.CodeNotFound: `see "$0 user ls" and "$0 device ls"`},
		Run: func(ctx context.Context, c *Call) error {
			right := protocol.Privilege(strings.ToUpper(c.Args[2]))
			if all := protocol.Privileges(); !slices.Contains(all, right) {
				return usage("there is no privilege %q: say one of %v", c.Args[2], all)
			}
			row, err := ask[protocol.AccountRow](ctx, c, procedure, protocol.GrantArgs{User: c.Args[0], Device: c.Args[1], Privilege: right})
			if err != nil {
				return err
			}
			return c.show(row, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "%s may now: %s\n", printable(row.Name), orNothing(printable(rights(row))))
				return err
			})
		},
	}
}

func orNothing(text string) string {
	if text == "" {
		return "nothing"
	}
	return text
}
