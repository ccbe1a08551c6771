package cli

import (
	"context"
	"fmt"
	"io"

	"reagent/protocol"
)

func deviceRemove() Command {
	return Command{
		Words: "device rm", Args: "DEVICE", Min: 1, Max: 1,
		About: "Remove a device: it may not log in any more",
		More: `DEVICE is its name, serial number or key. Apps that run on the device go on
running; take them away before, with "$0 remove".`,
		Hints: map[protocol.Code]string{protocol.CodeNotFound: hintDevices},
		Run: func(ctx context.Context, c *Call) error {
			row, err := ask[protocol.DeviceRow](ctx, c, protocol.StudioRemoveDevice, protocol.DeviceArgs{Device: c.Args[0]})
			if err != nil {
				return err
			}
			return c.show(row, func(out io.Writer) error {
				_, err := fmt.Fprintf(out, "device %s removed, serial number %s\n", printable(row.Name), printable(row.SerialNumber))
				return err
			})
		},
	}
}
