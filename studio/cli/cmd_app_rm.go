package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"reagent/protocol"
)

func appRemove() Command {
	return Command{
		Words: "app rm", Args: "APP[@VERSION]", Min: 1, Max: 1,
		About: "Remove a version of an app from the studio, or the whole app",
		More: `What a device has, or is to have, is not removed: take it from the devices first,
see "remove". The images go with the next collection of garbage, see "gc".

  $0 app rm hello@1.0.0
  $0 app rm hello`,
		Hints: map[protocol.Code]string{protocol.CodeNotFound: hintApps, protocol.CodeConflict: `see "$0 states --app $1"`},
		Run: func(ctx context.Context, c *Call) error {
			app, version, one := strings.Cut(c.Args[0], "@")
			if one {
				if err := checkVersion(version); err != nil {
					return err
				}
				c.Args[0] = app // of the hints
				row, err := ask[protocol.AppRow](ctx, c, protocol.StudioDeleteRelease, protocol.DeleteRelease{App: app, Version: version})
				if err != nil {
					return err
				}
				return c.show(row, func(out io.Writer) error {
					_, err := fmt.Fprintf(out, "%s %s removed\n", printable(row.Name), version)
					return err
				})
			}
			row, err := ask[protocol.AppRow](ctx, c, protocol.StudioDeleteApp, protocol.AppArgs{App: app})
			if err != nil {
				return err
			}
			return c.show(row, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "app %s removed\n", printable(row.Name))
				return err
			})
		},
	}
}
