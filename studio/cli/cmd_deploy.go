package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"reagent/protocol"
)

func deploy() Command {
	var (
		wait  bool
		limit time.Duration
		long  time.Duration
		env   = map[string]any{}
	)
	return Command{
		Words: "deploy", Args: "APP[@VERSION] DEVICE [--env NAME=VALUE]… [--wait]", Min: 2, Max: 2,
		About: "Run an app on a device, or another version of it",
		More: `Without a version it is the one that is there or, where the app is not yet
installed, the newest. A device that is off-line takes the wish when it comes.

  $0 deploy hello press-07 --wait
  $0 deploy hello@1.1.0 press-07 --env COLOR=green --wait

With --wait each state is shown as the device reports it, and the exit code is 0
only if the app runs in the end. Another version than was there is watched for as
long as the device does, 30 s: one that does not stay up is rolled back, and the
exit code says so.`,
		Flags: func(f *flag.FlagSet) {
			f.Var(envFlag(env), "env", "set a variable of the app: `NAME=VALUE`; NAME alone takes it away (repeatable)")
			f.BoolVar(&wait, "wait", false, "wait until the app runs, or failed")
			f.DurationVar(&long, "settle", 0, "believe an app that runs for so long: `TIME` (default: 2s, and of another version as long as the device watches it)")
			f.DurationVar(&limit, "timeout", 30*time.Minute, "longest `TIME` to wait; 0 = for ever")
		},
		Hints: hintsAppOnDevice,
		Run: func(ctx context.Context, c *Call) error {
			app, version, _ := strings.Cut(c.Args[0], "@")
			if version != "" {
				if err := checkVersion(version); err != nil {
					return err
				}
			}
			wish := protocol.DeployApp{App: app, Device: c.Args[1], Version: version, Environment: env}
			if !wait {
				w, err := ask[protocol.Wished](ctx, c, protocol.StudioDeployApp, wish)
				if err != nil {
					return err
				}
				return c.show(w, func(out io.Writer) error { return c.wished(out, "starts", w) })
			}
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeoutCause(ctx, limit, fmt.Errorf("%s does not run on %s after %v; the wish stands, see %q", app, c.Args[1], limit, c.Name+" states"))
				defer cancel()
			}
			return deployAndWait(ctx, c, wish, long)
		},
	}
}

func deployAndWait(ctx context.Context, c *Call, wish protocol.DeployApp, settle time.Duration) error {
	watch, err := c.watchStates(ctx) // before the wish, so that nothing is missed
	if err != nil {
		return err
	}
	watch.settle = settle
	wished, err := ask[protocol.Wished](ctx, c, protocol.StudioDeployApp, wish)
	if err != nil {
		return err
	}
	if wished.Refused {
		return refusedBy(wished)
	}
	if !wished.Delivered {
		c.say("%s", strings.TrimSpace(fmt.Sprintf("waiting for %s to take the wish: %s", printable(wished.App.DeviceName), printable(wished.Reason))))
	}
	row, err := watch.untilRunning(ctx, wished.App)
	if err != nil {
		return err
	}
	wished.App, wished.Delivered, wished.Reason = row, true, ""
	return c.show(wished, func(out io.Writer) error {
		text := fmt.Sprintf("%s %s runs on %s", printable(row.AppName), printable(row.Version), printable(row.DeviceName))
		if p := ports(row.Ports); p != "" {
			text += ", ports " + printable(p)
		}
		_, err := fmt.Fprintln(out, text)
		return err
	})
}
