package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"

	"reagent/protocol"
)

const devPushMore = `DIR holds a Dockerfile, or a compose.yaml whose services have their "build" in
it. The folder is packed without what .dockerignore names, sent to the device,
built there and run. The log is followed until Ctrl-C, which leaves the app
running; during the build Ctrl-C cancels it.

The app is called like the folder, and is made where it is not known yet. Its
DEV copy stands beside an installed version and has its own data. A device that
needs another Dockerfile finds it as Dockerfile.armv7, Dockerfile.arm64 and so on.

  $0 dev push . bench-1
  $0 dev push ./hello bench-1 --env COLOR=green --detach
  $0 dev push . bench-1 --no-run --login registry.example.com`

func devPush() Command {
	var (
		project       projectFlags
		logins        []string
		env           = map[string]any{}
		noRun, detach bool
	)
	return Command{
		Words: "dev push", Args: "DIR DEVICE [--app NAME] [--env NAME=VALUE]… [--no-run] [--detach]", Min: 2, Max: 2,
		About: "Build a folder on a device, run it there and follow its log",
		More:  devPushMore,
		Flags: func(f *flag.FlagSet) {
			project.add(f)
			f.Var(envFlag(env), "env", "set a variable of the app on this device: `NAME=VALUE`; NAME alone takes it away (repeatable)")
			f.BoolVar(&noRun, "no-run", false, "build only")
			f.BoolVar(&detach, "detach", false, "end as soon as the app runs")
			addLogins(f, &logins)
		},
		Hints: hintsAppOnDevice,
		Run: func(ctx context.Context, c *Call) error {
			p, err := openProject(c.Args[0], project)
			if err != nil {
				return err
			}
			credentials, err := registryLogins(logins)
			if err != nil {
				return err
			}
			w, err := openWorkbench(ctx, c, c.Args[1], p.app, devLog)
			if err != nil {
				return err
			}
			if err := w.send(ctx, p); err != nil {
				return err
			}
			build, err := w.wish(ctx, protocol.StudioDevelopApp, protocol.DevelopApp{
				App: w.ref(), Device: w.device.SerialNumber, Target: protocol.Built, Compose: p.compose, Environment: env, Credentials: credentials,
			})
			if err != nil {
				return w.cancelAfter(ctx, err)
			}
			built, err := w.follow(ctx, build, w.untilState(protocol.Built))
			if err != nil {
				return w.cancelAfter(ctx, err)
			}
			if noRun {
				return w.finish("app", built, func(out io.Writer) error {
					_, err := fmt.Fprintf(out, "%s is built on %s; run it with\n  %s dev push %s %s\n", printable(w.app.Name), printable(w.device.Name), c.Name, c.Args[0], c.Args[1])
					return err
				})
			}
			return w.run(ctx, detach)
		},
	}
}

// run starts what was built and follows it.
func (w *workbench) run(ctx context.Context, detach bool) error {
	wished, err := w.wish(ctx, protocol.StudioDevelopApp, protocol.DevelopApp{App: w.ref(), Device: w.device.SerialNumber, Target: protocol.Running})
	if err != nil {
		return err
	}
	row, err := w.follow(ctx, wished, w.untilState(protocol.Running))
	if err == nil {
		row, err = w.awaitPorts(ctx, row)
	}
	if err == nil {
		err = w.finish("app", row, func(out io.Writer) error { return w.runs(out, row) })
	}
	if err == nil && !detach {
		_, err = w.follow(ctx, wished, w.untilItEnds())
	}
	if err == nil || errors.Is(err, context.Canceled) {
		c, app, device := w.c, printable(w.app.Name), printable(w.device.Name)
		c.say("\n%s goes on without you: see its log with %q, stop it with %q", app,
			fmt.Sprintf("%s logs -f --dev %s %s", c.Name, app, device), fmt.Sprintf("%s dev stop %s %s", c.Name, app, device))
	}
	return err
}

// runs says where an app is reached.
func (w *workbench) runs(out io.Writer, row protocol.AppOnDeviceRow) error {
	text := fmt.Sprintf("%s runs on %s", printable(w.app.Name), printable(w.device.Name))
	if p := ports(row.Ports); p != "" {
		text += ", ports " + printable(p)
	}
	_, err := fmt.Fprintln(out, text)
	return err
}

// untilItEnds judges an app that runs: it is followed until it does no more.
func (w *workbench) untilItEnds() judge {
	return func(since []protocol.PastState) (bool, error) {
		ran := slices.IndexFunc(since, func(s protocol.PastState) bool { return s.State == protocol.Running })
		if ran < 0 {
			return false, nil // of before what is looked at
		}
		switch last := since[len(since)-1]; last.State {
		case protocol.Failed:
			return true, fmt.Errorf("%s failed on %s: %s", printable(w.app.Name), printable(w.device.Name), orUnknown(printable(last.Error)))
		case protocol.Present, protocol.Removed, protocol.Uninstalled:
			return true, fmt.Errorf("%s was stopped on %s", printable(w.app.Name), printable(w.device.Name))
		}
		return false, nil
	}
}

// devLog is the log of a DEV copy.
func devLog(app protocol.AppRow) string {
	return protocol.ContainerName(protocol.Dev, app.AppKey, app.Name)
}
