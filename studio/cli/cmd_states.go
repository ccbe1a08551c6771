package cli

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"

	"reagent/protocol"
)

func states() Command {
	var question protocol.ListStates
	return Command{
		Words: "states", Args: "[--device DEVICE] [--app APP]",
		About: "Show which app is in which state where, and on which ports it is reached",
		More: `PORTS: the port on the device -> the app's own. STATE is what the device
reported last, WANTED what was asked for, UPDATE what became of the last change of
its version: a version that does not stay up is rolled back. A DEV copy has its
stage behind its name. Why an app failed, or went back, stands below the table.`,
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&question.Device, "device", "", "only this `DEVICE`")
			f.StringVar(&question.App, "app", "", "only this `APP`")
			f.Func("history", "`COUNT` of earlier states to show of each", func(text string) error {
				n, ok := protocol.Uint(text)
				if !ok {
					return fmt.Errorf("%q is not a number", text)
				}
				question.History = protocol.Number(n)
				return nil
			})
		},
		Hints: hintsAppOnDevice,
		Run: func(ctx context.Context, c *Call) error {
			list, err := ask[protocol.StateList](ctx, c, protocol.StudioListStates, question)
			if err != nil {
				return err
			}
			return c.show(list, func(out io.Writer) error {
				if question.History > 0 {
					return pastStates(out, c, list.States)
				}
				err := table(out, "DEVICE APP VERSION STATE WANTED PORTS REPORTED UPDATE", list.States,
					fmt.Sprintf("no apps on devices: deploy one with %q", c.Name+" deploy APP DEVICE"),
					func(r protocol.AppOnDeviceRow) []string {
						return []string{r.DeviceName, appStage(r), r.Version, state(r), wanted(r), ports(r.Ports), ago(c.Now(), r.Reported), lastUpdate(c, r.LastUpdate)}
					})
				return errors.Join(err, reasons(out, list.States))
			})
		},
	}
}

// state is what is known of an app; of a device that is gone it is old news.
func state(r protocol.AppOnDeviceRow) string {
	text := string(r.State)
	if !r.Online {
		text += " (offline)"
	}
	return text
}

func wanted(r protocol.AppOnDeviceRow) string {
	if r.TargetVersion != "" && r.TargetVersion != r.Version && !r.Target.Gone() {
		return fmt.Sprintf("%s %s", r.Target, r.TargetVersion)
	}
	return string(r.Target)
}

// appStage is an app's name, and that it is a DEV copy.
func appStage(r protocol.AppOnDeviceRow) string {
	if r.Stage == protocol.Dev {
		return r.AppName + " (dev)"
	}
	return r.AppName
}

// outcomes are what became of an update, for people.
var outcomes = map[protocol.UpdateOutcome]string{
	protocol.UpdateRuns: "under way", protocol.UpdateDone: "done", protocol.UpdateRolledBack: "rolled back",
	protocol.UpdateStopped: "canceled", protocol.UpdateFailed: "failed",
}

// lastUpdate tells the story of an update.
func lastUpdate(c *Call, u *protocol.UpdateRow) string {
	if u == nil {
		return ""
	}
	outcome := outcomes[u.Outcome]
	if outcome == "" {
		outcome = string(u.Outcome) // of a newer studio
	}
	text := fmt.Sprintf("%s -> %s %s", cmp.Or(u.From, "?"), cmp.Or(u.To, "?"), outcome)
	if u.Outcome != protocol.UpdateRuns {
		text += " " + ago(c.Now(), u.Time)
	}
	return text
}

// reasons are why apps failed or went back to an earlier version. They are too
// long for a table.
func reasons(out io.Writer, rows []protocol.AppOnDeviceRow) error {
	var told error
	for _, r := range rows {
		why := r.Error
		if why == "" && r.LastUpdate != nil {
			why = r.LastUpdate.Reason
		}
		if why != "" && told == nil {
			_, told = fmt.Fprintf(out, "\n%s on %s: %s\n", printable(appStage(r)), printable(r.DeviceName), printable(why))
		}
	}
	return told
}

// A past is a line of the history of states.
type past struct {
	app protocol.AppOnDeviceRow
	was protocol.PastState
}

func pastStates(out io.Writer, c *Call, rows []protocol.AppOnDeviceRow) error {
	var lines []past
	for _, app := range rows {
		for _, was := range app.History {
			lines = append(lines, past{app, was})
		}
	}
	return table(out, "DEVICE APP VERSION STATE UPDATE REPORTED ERROR", lines, "no states were reported yet", func(p past) []string {
		return []string{p.app.DeviceName, appStage(p.app), p.was.Version, string(p.was.State), string(p.was.UpdateStatus), ago(c.Now(), p.was.Time), p.was.Error}
	})
}
