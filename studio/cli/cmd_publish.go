package cli

import (
	"context"
	"flag"
	"fmt"
	"io"

	"reagent/protocol"
)

const publishMore = `The device builds the folder as it does for "dev push" and pushes the result into
the registry of the studio; the version is then there for the architecture of
this device. Publish the same version from a device of another architecture to
add that one. Its ports and the values of its variables are those of the app, see
"app ports" and "app env".

  $0 publish . bench-1 1.0.0
  $0 deploy hello@1.0.0 press-07 --wait`

func publish() Command {
	var (
		project projectFlags
		logins  []string
		replace bool
	)
	return Command{
		Words: "publish", Args: "DIR DEVICE VERSION [--app NAME]", Min: 3, Max: 3,
		About: "Build a folder on a device and publish the result as a version",
		More:  publishMore,
		Flags: func(f *flag.FlagSet) {
			project.add(f)
			f.BoolVar(&replace, "replace", false, "take the place of a version that is there for this architecture; devices that have it do not notice")
			addLogins(f, &logins)
		},
		Hints: map[protocol.Code]string{protocol.CodeConflict: "take another version, or say --replace", protocol.CodeNotFound: hintDevices},
		Run: func(ctx context.Context, c *Call) error {
			version := c.Args[2]
			if err := checkVersion(version); err != nil {
				return err
			}
			p, err := openProject(c.Args[0], project)
			if err != nil {
				return err
			}
			credentials, err := registryLogins(logins)
			if err != nil {
				return err
			}
			w, err := openWorkbench(ctx, c, c.Args[1], p.app, publishLog)
			if err != nil {
				return err
			}
			if !replace && published(w.app, version, w.device.Architecture) {
				return fmt.Errorf("%s %s is there for %s already: take another version, or say --replace", printable(w.app.Name), version, w.device.Architecture)
			}
			if err := w.send(ctx, p); err != nil {
				return err
			}
			wished, err := w.wish(ctx, protocol.StudioPublishApp, protocol.PublishApp{
				App: w.ref(), Device: w.device.SerialNumber, Version: version, Replace: replace, Compose: p.compose, Credentials: credentials,
			})
			if err == nil {
				_, err = w.follow(ctx, wished, w.untilState(protocol.Published))
			}
			if err != nil {
				return w.cancelAfter(ctx, err)
			}
			return w.release(ctx, version)
		},
	}
}

// release shows the version that was published.
func (w *workbench) release(ctx context.Context, version string) error {
	app, _, err := findOwnApp(ctx, w.c, w.app.Name)
	if err != nil {
		return err
	}
	for _, r := range app.Releases {
		if r.Version == version {
			return w.finish("release", r, func(out io.Writer) error { return released(out, w.c, "published", app, version, r.Architectures) })
		}
	}
	return fmt.Errorf("%s says that %s %s is published, and the studio does not know it: see %q", printable(w.device.Name), printable(w.app.Name), version, w.c.Name+" app ls")
}

// published tells whether a version is there for an architecture.
func published(app protocol.AppRow, version, arch string) bool {
	for _, r := range app.Releases {
		for _, a := range r.Architectures {
			if r.Version == version && a == arch {
				return true
			}
		}
	}
	return false
}

// publishLog is the log of a build that is to be published.
func publishLog(app protocol.AppRow) string {
	return protocol.PublishLogName(app.AppKey, app.Name)
}
