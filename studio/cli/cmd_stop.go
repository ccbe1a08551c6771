package cli

import (
	"context"
	"fmt"
	"io"

	"reagent/protocol"
)

var hintsAppOnDevice = map[protocol.Code]string{protocol.CodeNotFound: `see "$0 app ls", "$0 device ls" and "$0 states"`}

func stop() Command {
	return Command{
		Words: "stop", Args: "APP DEVICE", Min: 2, Max: 2,
		About: "Stop an app on a device; its image and data stay",
		Hints: hintsAppOnDevice,
		Run: func(ctx context.Context, c *Call) error {
			w, err := ask[protocol.Wished](ctx, c, protocol.StudioStopApp, protocol.AppOnDevice{App: c.Args[0], Device: c.Args[1]})
			if err != nil {
				return err
			}
			return c.show(w, func(out io.Writer) error { return c.wished(out, "stops", w) })
		},
	}
}

// wished says what comes of a wish that the studio wrote down.
func (c *Call) wished(out io.Writer, verb string, w protocol.Wished) error {
	app, device := printable(w.App.AppName), printable(w.App.DeviceName)
	if w.Delivered {
		_, err := fmt.Fprintf(out, "%s %s on %s; see %q\n", app, verb, device, c.Name+" states")
		return err
	}
	if w.Refused {
		return refusedBy(w)
	}
	why := printable(w.Reason)
	if why == "" {
		why = "it is not on-line"
	}
	_, err := fmt.Fprintf(out, "%s %s on %s as soon as the device takes the wish: %s\n", app, verb, device, why)
	return err
}

// refusedBy is the error of a wish that the device will not fulfil.
func refusedBy(w protocol.Wished) error {
	return fmt.Errorf("%s on %s: %s", printable(w.App.AppName), printable(w.App.DeviceName), orUnknown(printable(w.Reason)))
}
