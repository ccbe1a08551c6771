package cli

import (
	"context"
	"flag"
	"fmt"
	"io"

	"reagent/protocol"
)

func deviceAdd() Command {
	var serial, arch, out string
	return Command{
		Words: "device add", Args: "NAME [--serial S] [--arch A] [--out FILE]", Min: 1, Max: 1,
		About: "Make a device and write its device file, which the agent is started with",
		More: `The file holds the device's secret and is shown this once. It belongs on the
device and nowhere else.

  $0 device add press-07 --out press-07.reswarm`,
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&serial, "serial", "", "`SERIAL` number of the device (default: a new UUID)")
			f.StringVar(&arch, "arch", "", "`ARCH`itecture, for information; the agent reports it")
			f.StringVar(&out, "out", "", "`FILE` to write, - for stdout (default: NAME.reswarm)")
		},
		Hints: map[protocol.Code]string{protocol.CodeConflict: hintDevices},
		Run: func(ctx context.Context, c *Call) error {
			if serial != "" {
				if err := protocol.CheckSerial(serial); err != nil {
					return &UsageError{err.Error()}
				}
			}
			if out == "" {
				out = c.Args[0] + ".reswarm"
			}
			if err := checkNew(out); err != nil {
				return err
			}
			added, err := ask[protocol.DeviceAdded](ctx, c, protocol.StudioAddDevice,
				protocol.AddDevice{Name: c.Args[0], SerialNumber: serial, Architecture: arch})
			if err != nil {
				return err
			}
			if err := c.writeSecret(out, added.File); err != nil {
				return fmt.Errorf("the device was made, its file was not: %w; remove the device with %q and begin again", err, c.Name+" device rm "+c.Args[0])
			}
			if out == "-" {
				return nil
			}
			return c.show(struct {
				Device protocol.DeviceRow `json:"device"`
				File   string             `json:"file"`
			}{added.Device, out}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "device %s added, serial number %s\nwrote %s: start its agent with\n  reagent -config %s\n",
					printable(added.Device.Name), printable(added.Device.SerialNumber), out, out)
				return err
			})
		},
	}
}
