package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

// A watch follows what devices report about apps.
type watch struct {
	c      *Call
	news   chan protocol.AppOnDeviceRow
	settle time.Duration // how long the app has to run; 0 = as long as is sensible

	watched bool // the device said that it watches the new version, and so will say when that is over
}

// watchStates begins to follow; what is published from then on is not missed.
func (c *Call) watchStates(ctx context.Context) (*watch, error) {
	session, err := c.studio(ctx)
	if err != nil {
		return nil, err
	}
	w := &watch{c: c, news: make(chan protocol.AppOnDeviceRow, 256)}
	return w, session.Follow(ctx, protocol.StudioAppState, func(e messenger.Event) {
		var row protocol.AppOnDeviceRow
		if protocol.Decode(protocol.Arg(e.Args, 0), &row) != nil {
			return
		}
		select {
		case w.news <- row:
		default: // the next look at the list finds it
		}
	})
}

// untilRunning shows each state that the device reports, and returns when the
// app runs as it was wished, for long enough to be believed, or failed. Events
// tell what happens; a look at the list from time to time makes up for one that
// was lost.
func (w *watch) untilRunning(ctx context.Context, wished protocol.AppOnDeviceRow) (protocol.AppOnDeviceRow, error) {
	var (
		shown  string
		since  time.Time        // the app runs, as far as is known
		ends   <-chan time.Time // when the latest report is the end
		result error            // of that end
		latest = wished
	)
	look := time.NewTicker(w.c.poll())
	defer look.Stop()
	for row := wished; ; {
		if !row.Reported.IsZero() && !row.Reported.Before(wished.Wished) && !row.Reported.Before(latest.Reported) {
			latest = row
			if text := stateLine(row); text != shown {
				shown = text
				if !w.c.JSON {
					fmt.Fprintf(w.c.Stdout, "%s  %s\n", row.Reported.Local().Format(time.TimeOnly), text)
				}
			}
			end, err := w.verdict(row)
			switch {
			case err != nil && row.State == protocol.Failed && updating(row):
				// What follows tells whether the old version is back.
				if result = err; ends == nil || since != (time.Time{}) {
					ends = time.After(w.c.toReturn())
				}
				since = time.Time{}
			case err != nil:
				return row, err
			case !end:
				since, ends, result = time.Time{}, nil, nil
			default:
				if since.IsZero() {
					since = time.Now()
				}
				ends, result = w.ends(row, since), nil
			}
		}
		select {
		case row = <-w.news:
			if row.DeviceKey != wished.DeviceKey || row.AppKey != wished.AppKey || row.Stage != wished.Stage {
				row = protocol.AppOnDeviceRow{}
			}
		case <-look.C:
			row = w.look(ctx, wished)
		case <-ends:
			return latest, result
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.Canceled) {
				return latest, ctx.Err()
			}
			return latest, context.Cause(ctx)
		}
	}
}

// ends is when an app that runs since then is believed to: one that fails at once
// had its time to, another version its probation where the device does not say
// when that is over, and its ports are reported, unless they never are.
func (w *watch) ends(row protocol.AppOnDeviceRow, since time.Time) <-chan time.Time {
	long := w.settle
	switch {
	case long > 0:
	case updating(row) && !w.watched:
		long = w.c.probation()
	default:
		long = w.c.settle()
	}
	if w.settle == 0 && !portsAssigned(row) {
		long = max(long, w.c.portsGrace())
	}
	return time.After(time.Until(since.Add(long)))
}

// look asks for the state. A studio that does not answer now is asked again.
func (w *watch) look(ctx context.Context, wished protocol.AppOnDeviceRow) protocol.AppOnDeviceRow {
	list, err := ask[protocol.StateList](ctx, w.c, protocol.StudioListStates,
		protocol.ListStates{Device: fmt.Sprint(wished.DeviceKey), App: fmt.Sprint(wished.AppKey)})
	if err == nil {
		for _, row := range list.States {
			if row.DeviceKey == wished.DeviceKey && row.AppKey == wished.AppKey && row.Stage == wished.Stage {
				return row
			}
		}
	}
	return protocol.AppOnDeviceRow{}
}

// verdict tells whether a reported state is the end of a deployment.
func (w *watch) verdict(row protocol.AppOnDeviceRow) (end bool, err error) {
	app, device := printable(row.AppName), printable(row.DeviceName)
	asWished := row.TargetVersion == "" || row.Version == row.TargetVersion
	switch {
	case row.State == protocol.Failed:
		return true, fmt.Errorf("%s failed on %s: %s", app, device, orUnknown(printable(row.Error)))
	case row.Target != protocol.Running:
		return true, fmt.Errorf("somebody else wants %s %s on %s now", app, row.Target, device)
	case row.State == protocol.Running && !asWished:
		return notUpdated(row)
	}
	if row.State != protocol.Running || !asWished {
		return false, nil
	}
	probation := updated(row, protocol.UpdateRuns)
	w.watched = w.watched || probation
	return !probation || w.settle > 0, nil
}

// notUpdated judges an app that runs in another version than was wished: on its
// way there, or as the end of an update that came to nothing.
func notUpdated(row protocol.AppOnDeviceRow) (end bool, err error) {
	why := ""
	if u := row.LastUpdate; u != nil && u.Reason != "" {
		why = " (" + printable(u.Reason) + ")"
	}
	to, device, from := printable(row.AppName+" "+row.TargetVersion), printable(row.DeviceName), printable(row.Version)
	switch {
	case updated(row, protocol.UpdateFailed):
		return true, fmt.Errorf("%s could not be installed on %s%s: %s runs on", to, device, why, from)
	case updated(row, protocol.UpdateStopped):
		return true, fmt.Errorf("the update to %s on %s was canceled: %s runs on", to, device, from)
	case updated(row, protocol.UpdateRolledBack), row.UpdateStatus == protocol.UpdateCanceled:
		return true, fmt.Errorf("%s did not stay up on %s%s: %s is back", to, device, why, from)
	}
	return false, nil
}

// updating tells whether a wish was for another version than was there.
func updating(row protocol.AppOnDeviceRow) bool {
	u := row.LastUpdate
	return u != nil && u.From != "" && u.From != u.To && !u.Time.Before(row.Wished)
}

// updated tells whether the update that was wished has come to this.
func updated(row protocol.AppOnDeviceRow, outcome protocol.UpdateOutcome) bool {
	u := row.LastUpdate
	return u != nil && u.Outcome == outcome && u.To == row.TargetVersion && !u.Time.Before(row.Wished)
}

func orUnknown(text string) string {
	if text == "" {
		return "the device does not say why; see its log"
	}
	return text
}

func portsAssigned(row protocol.AppOnDeviceRow) bool {
	for _, r := range row.Ports {
		if r.LocalIP == "" && r.HostPort == 0 {
			return false
		}
	}
	return true
}

func stateLine(row protocol.AppOnDeviceRow) string {
	text := string(row.State)
	if row.State == protocol.Running && row.Version != "" {
		text += " " + printable(row.Version)
	}
	if row.Error != "" {
		text += ": " + printable(row.Error)
	}
	return text
}
