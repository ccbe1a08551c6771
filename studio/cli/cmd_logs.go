package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"

	"reagent/messenger"
	"reagent/protocol"
)

const logsMore = `The log comes from the device, which keeps it over restarts and updates of the
app; of an app with several services each line names its own. Without --tail and
--since it is the newest 200 lines. TIME is the device's clock.

With -f it goes on until Ctrl-C, and no line is missing or there twice, whatever
becomes of the connection, the device or this studio in between: what a device
had to drop itself is told. A device that is away is waited for.

  $0 logs hello press-07 -f
  $0 logs hello press-07 --since 2h --timestamps
  $0 logs hello press-07 --tail all --output json

Where the app is there twice, installed and as a DEV copy, --dev means the copy.
What the app did not print itself but the agent said about it is dim on a
terminal, what came on stderr yellow, unless NO_COLOR is set.`

func logs() Command {
	var (
		follow, dev, timestamps bool
		from                    = beginning{tail: defaultTail}
	)
	return Command{
		Words: "logs", Args: "APP DEVICE [-f] [--since TIME] [--tail N]", Min: 2, Max: 2,
		About: "Show an app's log, or follow it",
		More:  logsMore,
		Flags: func(f *flag.FlagSet) {
			f.BoolVar(&follow, "f", false, "go on until Ctrl-C")
			f.BoolVar(&dev, "dev", false, `the log of the DEV copy, see "dev push"`)
			f.BoolVar(&timestamps, "timestamps", false, "begin each line with its time (UTC)")
			addBound(f, "since", "begin then", &from.since)
			f.Func("tail", fmt.Sprintf("begin with the newest `N` lines at most, or \"all\" (default: %d; with --since: all)", defaultTail), from.setTail)
		},
		Hints: hintsAppOnDevice,
		Run: func(ctx context.Context, c *Call) error {
			row, err := findAppAnyOrder(ctx, c, c.Args[0], c.Args[1], dev)
			if err != nil {
				return err
			}
			f := newFollower(c, row, follow, timestamps)
			switch err := f.run(ctx, from); {
			case errors.Is(err, errNoFollow):
				return contractLog(ctx, f, from, timestamps)
			default:
				return err
			}
		},
	}
}

// defaultTail is how many lines a log shows where nobody says; a device may be
// at the end of a thin link.
const defaultTail = 200

// A beginning says where the log is to begin.
type beginning struct {
	since string // "" = anywhere
	tail  int    // lines, the newest; all = every one
	said  bool   // the tail was asked for
}

// all is a tail that leaves nothing out.
const all = -1

// setTail reads the flag.
func (b *beginning) setTail(text string) error {
	if b.said = true; text == "all" {
		b.tail = all
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil || n > protocol.MaxLogTail {
		return fmt.Errorf(`%q is neither "all" nor a number up to %d`, text, protocol.MaxLogTail)
	}
	b.tail = int(n)
	return nil
}

// lines is how many of the newest lines are wanted, or all.
func (b *beginning) lines() int {
	if b.since != "" && !b.said {
		return all
	}
	return b.tail
}

// findAppAnyOrder looks up an app on a device, in the documented order or, where
// that names nothing, in the other.
func findAppAnyOrder(ctx context.Context, c *Call, app, device string, dev bool) (protocol.AppOnDeviceRow, error) {
	row, err := findApp(ctx, c, device, app, dev)
	if err == nil || ctx.Err() != nil {
		return row, err
	}
	if other, swapped := findApp(ctx, c, app, device, dev); swapped == nil {
		return other, nil
	}
	return row, err
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

// contractLog shows the log of a device whose agent has no follow_app_logs, the
// way that all agents have: a topic, and what is kept of it. It cannot tell what
// is missing.
func contractLog(ctx context.Context, f *follower, from beginning, timestamps bool) error {
	c, row := f.c, f.app
	session, err := c.studio(ctx)
	if err != nil {
		return err
	}
	if !f.forever {
		lines, err := f.contractTail(ctx, from, timestamps)
		if err != nil {
			return err
		}
		return f.out.texts(lines)
	}
	c.say("the agent of %s cannot say which lines are missing: it only has the log's topic", f.device.name)
	c.tellLosses(session, "; what happened in between may be missing above")
	live := make(chan []string, 1024) // before the history, so that no line falls in between
	err = session.Follow(ctx, protocol.LogTopic(row.SerialNumber, row.ContainerName), func(e messenger.Event) {
		select {
		case live <- logLines(e.Args):
		case <-ctx.Done():
		}
	})
	if err != nil {
		return err
	}
	history, err := logHistory(ctx, session, row)
	if err != nil {
		return f.device.explain(ctx, c, protocol.GetAppLogHistory, err)
	}
	shown := history
	if n := from.lines(); n != all && len(shown) > n {
		shown = shown[len(shown)-n:]
	}
	if err := f.out.texts(shown); err != nil {
		return err
	}
	return f.out.live(ctx, history, live)
}

// contractTail is the end of the log as the contract's query gives it or, where
// the agent does not have that either, its history.
func (f *follower) contractTail(ctx context.Context, from beginning, timestamps bool) ([]string, error) {
	session, err := f.c.studio(ctx)
	if err != nil {
		return nil, err
	}
	n := from.lines()
	if n == all {
		n = protocol.MaxLogTail
	}
	result, err := session.Call(ctx, protocol.Procedure(f.device.serial, protocol.QueryAppLogs),
		[]any{present(map[string]any{"containerName": f.app.ContainerName, "tail": n, "since": from.since, "timestamps": timestamps})}, nil)
	if isAbsent(err) {
		lines, err := logHistory(ctx, session, f.app)
		if err != nil {
			return nil, f.device.explain(ctx, f.c, protocol.GetAppLogHistory, err)
		}
		return lines[max(0, len(lines)-n):], nil
	}
	if err != nil {
		return nil, f.device.explain(ctx, f.c, protocol.QueryAppLogs, err)
	}
	var answer protocol.AppLogsAnswer
	if err := protocol.Decode(protocol.Arg(result.Args, 0), &answer); err != nil {
		return nil, fmt.Errorf("the answer of %s cannot be read: %w", f.device.name, err)
	}
	return answer.Lines, nil
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
