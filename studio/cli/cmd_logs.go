package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"reagent/messenger"
	"reagent/protocol"
)

func logs() Command {
	var follow bool
	return Command{
		Words: "logs", Args: "[-f] DEVICE APP", Min: 2, Max: 2,
		About: "Show the last lines of an app's log, or follow it",
		More: `The log comes from the device, which has to be on-line.

  $0 logs -f press-07 hello`,
		Flags: func(f *flag.FlagSet) { f.BoolVar(&follow, "f", false, "go on until Ctrl-C") },
		Hints: hintsAppOnDevice,
		Run: func(ctx context.Context, c *Call) error {
			row, err := findApp(ctx, c, c.Args[0], c.Args[1])
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

// findApp looks up one app on one device.
func findApp(ctx context.Context, c *Call, device, app string) (protocol.AppOnDeviceRow, error) {
	list, err := ask[protocol.StateList](ctx, c, protocol.StudioListStates, protocol.ListStates{Device: device, App: app})
	if err != nil {
		return protocol.AppOnDeviceRow{}, err
	}
	if len(list.States) == 0 {
		return protocol.AppOnDeviceRow{}, fmt.Errorf("%s is not on %s: see %q", app, device, c.Name+" states")
	}
	return list.States[0], nil
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

func (c *Call) printLog(lines []string) error {
	for _, line := range lines {
		var err error
		if c.JSON {
			err = json.NewEncoder(c.Stdout).Encode(map[string]string{"line": line})
		} else {
			_, err = io.WriteString(c.Stdout, line+"\n")
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// logLines are the lines in an event of a log topic (wire §8): text, messages of
// the agent, progress of a transfer, Docker's progress records.
func logLines(args []any) (lines []string) {
	for _, arg := range args {
		if d, ok := protocol.AsDict(arg); ok {
			if text := message(d); text != "" {
				lines = append(lines, text)
			}
			continue
		}
		text, ok := protocol.Text(arg)
		if !ok {
			continue
		}
		for line := range strings.SplitSeq(strings.TrimSuffix(text, "\n"), "\n") {
			if record, ok := dockerRecord(line); ok {
				line = record
				if line == "" {
					continue
				}
			}
			lines = append(lines, line)
		}
	}
	return lines
}

// clearLog is the agent's request to wipe the view. A terminal keeps what it shows.
const clearLog = "LOGGER_CLEAR"

func message(d map[string]any) string {
	if text, ok := protocol.Text(d["chunk"]); ok {
		if text == clearLog {
			return ""
		}
		return strings.TrimSuffix(text, "\n")
	}
	status, _ := protocol.Text(d["status"])
	progress, _ := protocol.Text(d["progress"])
	id, _ := protocol.Text(d["id"])
	return strings.Join(strings.Fields(id+" "+status+" "+progress), " ")
}

// dockerRecord makes a line of a progress record. Those that say how far a layer
// is come several a second, and are left out. A line that an app could have
// written itself is none.
func dockerRecord(line string) (text string, ok bool) {
	if !strings.HasPrefix(line, `{"`) {
		return "", false
	}
	var r struct {
		Stream, Status, ID, Error, Progress string
		ProgressDetail                      *struct{ Current, Total, Start, HideCounts any }
		ErrorDetail                         *struct{ Code, Message any }
		Aux                                 json.RawMessage
	}
	dec := json.NewDecoder(strings.NewReader(line))
	dec.DisallowUnknownFields()
	if dec.Decode(&r) != nil {
		return "", false
	}
	switch {
	case r.Error != "" && r.ErrorDetail != nil:
		return r.Error, true
	case r.Progress != "", r.Aux != nil:
		return "", true
	case r.Stream != "" && r.Status == "":
		return strings.TrimRight(r.Stream, "\r\n"), true
	case r.Status != "" && r.ID != "":
		return r.ID + ": " + r.Status, true
	case strings.HasPrefix(r.Status, "Digest: "), strings.HasPrefix(r.Status, "Status: "):
		return r.Status, true
	}
	return "", false
}
