package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"reagent/protocol"
)

func collectGarbage() Command {
	return Command{
		Words: "gc", About: "Free what no version needs from the registry of the studio",
		More: `The studio does so by itself from time to time. An image that is being pushed, or
belongs to a version, stays.`,
		Run: func(ctx context.Context, c *Call) error {
			// As long as it takes: a large registry on a slow disk is walked for minutes.
			ctx, cancel := context.WithTimeout(ctx, time.Hour)
			defer cancel()
			got, err := ask[protocol.GarbageCollected](ctx, c, protocol.StudioCollectGarbage, nil)
			if err != nil {
				return err
			}
			return c.show(got, func(out io.Writer) error {
				if got.Reason != "" {
					c.say("nothing was collected now: %s; what follows is of the last time", printable(got.Reason))
				}
				_, err := fmt.Fprintf(out, "%d images and %d layers removed, %s freed in %v\n",
					got.Manifests, got.Layers, size(int64(got.Bytes)), time.Duration(got.TookMS)*time.Millisecond)
				return err
			})
		},
	}
}
