package cli

import (
	"context"
	"fmt"
	"io"

	"reagent/protocol"
)

func userRemove() Command {
	return Command{
		Words: "user rm", Args: "USER", Min: 1, Max: 1,
		About: "Remove an account: it may not log in any more",
		More:  `USER is a name or an account key.`,
		Hints: map[protocol.Code]string{protocol.CodeNotFound: hintUsers},
		Run: func(ctx context.Context, c *Call) error {
			row, err := ask[protocol.AccountRow](ctx, c, protocol.StudioRemoveUser, protocol.RemoveUser{User: c.Args[0]})
			if err != nil {
				return err
			}
			return c.show(row, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "account %d of %s removed\n", row.AccountKey, printable(row.Name))
				return err
			})
		},
	}
}
