package cli

import (
	"context"
	"io"

	"reagent/protocol"
)

func devStop() Command {
	return Command{
		Words: "dev stop", Args: "APP DEVICE", Min: 2, Max: 2,
		About: "Stop the DEV copy of an app on a device, or end its build",
		Hints: hintsAppOnDevice,
		Run: func(ctx context.Context, c *Call) error {
			row, err := findApp(ctx, c, c.Args[1], c.Args[0], true)
			if err != nil {
				return err
			}
			wish, verb := protocol.DevelopApp{App: c.Args[0], Device: c.Args[1], Target: protocol.Present}, "stops"
			if row.State.Settled() == protocol.Present && row.State.Transient() && row.State != protocol.Stopping {
				wish.Target, wish.Cancel, verb = "", true, "is canceled"
			}
			w, err := ask[protocol.Wished](ctx, c, protocol.StudioDevelopApp, wish)
			if err != nil {
				return err
			}
			return c.show(w, func(out io.Writer) error { return c.wished(out, verb, w) })
		},
	}
}
