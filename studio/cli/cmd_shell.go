package cli

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"reagent/protocol"
)

func openShell() Command {
	var dev bool
	var service string
	detach := key{name: "ctrl-]", code: 0x1d}
	return Command{
		Words: "shell", Args: "DEVICE [APP] [--service NAME] [--dev] [--detach-key KEY]", Min: 1, Max: 2,
		About: "Open a shell on a device, or in the container of an app",
		More: `Without an app it is the shell of the device, which needs the privilege MAINTAIN;
in an app's container it needs DEVELOP. An app of several services asks for one of
them, --dev for the DEV copy.

  $0 shell press-07
  $0 shell press-07 hello --service web

Ctrl-] leaves a shell that still runs; --detach-key names another key: ctrl- and a
letter or one of @[\]^_, or none. A shell of the device goes on, and the next
"shell" of the same account comes back to it; where nobody does, it ends after ten
minutes. One in a container ends.

Over a lost connection, of this command or of the device, the shell goes on and no
output is missing afterwards. What is typed meanwhile is sent then.

Where the input is a file or a pipe it is typed for you, and the shell ends behind
it. For a single command there is "run", which has its exit code and only its
output:

  echo 'uname -a; exit' | $0 shell press-07`,
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&service, "service", "", "the `NAME` of a service of the app (default: the only one that runs)")
			f.BoolVar(&dev, "dev", false, `in the DEV copy, see "dev push"`)
			f.Var(&detach, "detach-key", "the `KEY` that leaves the shell")
		},
		Hints: map[protocol.Code]string{
			protocol.CodeNotFound: `see "$0 states"`,
			protocol.CodeRefused:  `the owner of the device can give you the right: see "$0 help grant"`,
			protocol.CodeDisabled: "only its device file can allow it",
		},
		Run: func(ctx context.Context, c *Call) error {
			if len(c.Args) == 1 && (dev || service != "") {
				return usage("--dev and --service are about an app: say which")
			}
			s := &shell{c: c, detach: detach}
			row, err := findDevice(ctx, c, c.Args[0])
			if err != nil {
				return err
			}
			s.device, s.windows = deviceOf(row), strings.Contains(strings.ToLower(row.OS), "windows")
			if !row.Online {
				return awayError(s.device, c)
			}
			s.what = "the shell on " + s.device.name
			if len(c.Args) > 1 {
				app, err := findApp(ctx, c, c.Args[0], c.Args[1], dev)
				if err != nil {
					return err
				}
				if s.container, err = containerOf(ctx, c, app, service); err != nil {
					return err
				}
				s.what = fmt.Sprintf("the shell in %s on %s", printable(app.AppName), s.device.name)
			}
			return s.run(ctx)
		},
	}
}
