package cli

import (
	"context"
	"flag"
	"io"

	"reagent/protocol"
)

func remove() Command {
	var uninstall bool
	return Command{
		Words: "remove", Args: "APP DEVICE [--uninstall]", Min: 2, Max: 2,
		About: "Take an app and its image from a device; its data stays",
		Flags: func(f *flag.FlagSet) {
			f.BoolVar(&uninstall, "uninstall", false, "remove its data too; there is no way back")
		},
		Hints: hintsAppOnDevice,
		Run: func(ctx context.Context, c *Call) error {
			w, err := ask[protocol.Wished](ctx, c, protocol.StudioRemoveApp,
				protocol.RemoveApp{App: c.Args[0], Device: c.Args[1], Uninstall: uninstall})
			if err != nil {
				return err
			}
			return c.show(w, func(out io.Writer) error { return c.wished(out, "goes", w) })
		},
	}
}
