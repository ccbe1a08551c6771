package cli

import (
	"context"
	"flag"
	"io"

	"reagent/protocol"
)

func devRemove() Command {
	target := protocol.Removed
	return Command{
		Words: "dev remove", Args: "APP DEVICE [--uninstall]", Min: 2, Max: 2,
		About: "Take the DEV copy of an app from a device; its data stays",
		Flags: func(f *flag.FlagSet) {
			f.BoolFunc("uninstall", "remove its data too; there is no way back", func(string) error {
				target = protocol.Uninstalled
				return nil
			})
		},
		Hints: hintsAppOnDevice,
		Run: func(ctx context.Context, c *Call) error {
			w, err := ask[protocol.Wished](ctx, c, protocol.StudioDevelopApp, protocol.DevelopApp{App: c.Args[0], Device: c.Args[1], Target: target})
			if err != nil {
				return err
			}
			return c.show(w, func(out io.Writer) error { return c.wished(out, "goes", w) })
		},
	}
}
