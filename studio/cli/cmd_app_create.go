package cli

import (
	"context"
	"fmt"
	"io"

	"reagent/protocol"
)

func appCreate() Command {
	return Command{
		Words: "app create", Args: "NAME", Min: 1, Max: 1,
		About: "Make an app, so that versions of it can be pushed",
		Hints: map[protocol.Code]string{protocol.CodeConflict: hintApps},
		Run: func(ctx context.Context, c *Call) error {
			if err := protocol.CheckAppName(c.Args[0]); err != nil {
				return &UsageError{err.Error()}
			}
			row, err := ask[protocol.AppRow](ctx, c, protocol.StudioCreateApp, protocol.CreateApp{Name: c.Args[0]})
			if err != nil {
				return err
			}
			return c.show(row, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "app %s created, its key is %d; push an image with\n  %s app push %s 1.0.0 IMAGE\n", row.Name, row.AppKey, c.Name, row.Name)
				return err
			})
		},
	}
}
