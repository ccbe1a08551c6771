package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"

	"reagent/messenger"
	"reagent/protocol"
)

func logs() Command {
	var follow, dev bool
	return Command{
		Words: "logs", Args: "[-f] DEVICE APP", Min: 2, Max: 2,
		About: "Show the last lines of an app's log, or follow it",
		More: `The log comes from the device, which has to be on-line. Where the app is there
twice, installed and as a DEV copy, --dev means the copy.

  $0 logs -f press-07 hello`,
		Flags: func(f *flag.FlagSet) {
			f.BoolVar(&follow, "f", false, "go on until Ctrl-C")
			f.BoolVar(&dev, "dev", false, `the log of the DEV copy, see "dev push"`)
		},
		Hints: hintsAppOnDevice,
		Run: func(ctx context.Context, c *Call) error {
			row, err := findApp(ctx, c, c.Args[0], c.Args[1], dev)
			if err != nil {
				return err
			}
			session, err := c.studio(ctx)
			if err != nil {
				return err
			}
			var live chan []string
			if follow { // before the history, so that no line falls in between
				live = make(chan []string, 1024)
				err := session.Follow(ctx, protocol.LogTopic(row.SerialNumber, row.ContainerName), func(e messenger.Event) {
					select {
					case live <- logLines(e.Args):
					case <-ctx.Done():
					}
				})
				if err != nil {
					return err
				}
			}
			history, err := logHistory(ctx, session, row)
			var answer *messenger.CallError
			switch {
			case errors.As(err, &answer) && answer.URI == protocol.ErrorNoSuchProcedure && follow:
				c.say("%s is not on-line: its log goes on when it is back", printable(row.DeviceName))
			case errors.As(err, &answer) && answer.URI == protocol.ErrorNoSuchProcedure:
				return fmt.Errorf("%s is not on-line: its log is there again when it is back", printable(row.DeviceName))
			case err != nil:
				return err
			}
			if err := c.printLog(history); err != nil || !follow {
				return err
			}
			return c.followLog(ctx, history, live)
		},
	}
}

// findApp looks up one app on one device: the DEV copy where that is asked for,
// or is the only one.
func findApp(ctx context.Context, c *Call, device, app string, dev bool) (protocol.AppOnDeviceRow, error) {
	list, err := ask[protocol.StateList](ctx, c, protocol.StudioListStates, protocol.ListStates{Device: device, App: app})
	if err != nil {
		return protocol.AppOnDeviceRow{}, err
	}
	var found protocol.AppOnDeviceRow
	for _, row := range list.States {
		isDev := row.Stage == protocol.Dev
		if isDev == dev {
			found = row
			break
		}
		if isDev {
			found = row
		}
	}
	switch {
	case found.AppKey == 0 && dev:
		return found, fmt.Errorf("there is no DEV copy of %s on %s: make one with %q", app, device, c.Name+" dev push DIR "+device)
	case found.AppKey == 0:
		return found, fmt.Errorf("%s is not on %s: see %q", app, device, c.Name+" states")
	}
	return found, nil
}

func logHistory(ctx context.Context, session Session, row protocol.AppOnDeviceRow) ([]string, error) {
	result, err := session.Call(ctx, protocol.Procedure(row.SerialNumber, protocol.GetAppLogHistory),
		[]any{map[string]any{"containerName": row.ContainerName}}, nil)
	if err != nil {
		return nil, err
	}
	list, _ := protocol.AsList(protocol.Arg(result.Args, 0)) // null when empty
	return logLines(list), nil
}

// followLog prints what comes until ctx ends. What is in the history already is
// not printed again.
func (c *Call) followLog(ctx context.Context, history []string, live <-chan []string) error {
	var begun []string
	for len(live) > 0 {
		begun = append(begun, <-live...)
	}
	for lines := begun[overlap(history, begun):]; ; {
		if err := c.printLog(lines); err != nil {
			return err
		}
		select {
		case lines = <-live:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// overlap is how many lines at the beginning of b are the end of a.
func overlap(a, b []string) int {
	for n := min(len(a), len(b)); n > 0; n-- {
		if slices.Equal(a[len(a)-n:], b[:n]) {
			return n
		}
	}
	return 0
}
