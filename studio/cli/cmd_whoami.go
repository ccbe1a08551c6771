package cli

import (
	"context"
	"io"

	"reagent/protocol"
)

func whoami() Command {
	return Command{
		Words: "whoami", About: "Show the account that is logged in with, and what it may",
		Run: func(ctx context.Context, c *Call) error {
			row, err := ask[protocol.AccountRow](ctx, c, protocol.StudioReadAccount, nil)
			if err != nil {
				return err
			}
			return c.show(row, func(out io.Writer) error { return accounts(out, c, []protocol.AccountRow{row}) })
		},
	}
}
