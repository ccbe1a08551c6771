package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"reagent/protocol"
)

func deviceList() Command {
	return Command{
		Words: "device ls", About: "List the devices: which are on-line, and which were refused at the door",
		More: `REFUSED counts logins under the device's name that the studio did not accept
since the last good one: an old device file, or somebody who guesses.`,
		Run: func(ctx context.Context, c *Call) error {
			list, err := ask[protocol.DeviceList](ctx, c, protocol.StudioListDevices, nil)
			if err != nil {
				return err
			}
			return c.show(list, func(out io.Writer) error {
				return table(out, "KEY NAME SERIAL PRESENCE STATUS VERSION ARCH REFUSED", list.Devices,
					fmt.Sprintf("no devices: add one with %q", c.Name+" device add NAME"),
					func(d protocol.DeviceRow) []string {
						return []string{fmt.Sprint(d.DeviceKey), d.Name, d.SerialNumber, presence(c.Now(), d), string(d.Status),
							d.AgentVersion, d.Architecture, refused(c.Now(), d.RefusedLogins)}
					})
			})
		},
	}
}

func presence(now time.Time, d protocol.DeviceRow) string {
	switch {
	case d.Online:
		return "online"
	case d.LastSeen.IsZero():
		return "never seen"
	}
	return "left " + ago(now, d.LastSeen)
}

func refused(now time.Time, r protocol.RefusedLogins) string {
	if r.Count == 0 {
		return ""
	}
	text := fmt.Sprintf("%dx, last %s", r.Count, ago(now, r.Last))
	if r.Reason != "" {
		text += ": " + r.Reason
	}
	return text
}
