package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"reagent/protocol"
)

// A version is one line of the list of apps.
type version struct {
	app     protocol.AppRow
	release protocol.ReleaseRow
}

func appList() Command {
	return Command{
		Words: "app ls", About: "List the apps and their versions",
		Run: func(ctx context.Context, c *Call) error {
			list, err := ask[protocol.AppList](ctx, c, protocol.StudioListApps, nil)
			if err != nil {
				return err
			}
			return c.show(list, func(out io.Writer) error {
				var rows []version
				for _, app := range list.Apps {
					if len(app.Releases) == 0 {
						rows = append(rows, version{app: app})
					}
					for _, r := range app.Releases {
						rows = append(rows, version{app, r})
					}
				}
				return table(out, "KEY APP OWNER VERSION ARCH PORTS PUSHED", rows,
					fmt.Sprintf("no apps: make one with %q", c.Name+" app create NAME"),
					func(v version) []string {
						return []string{fmt.Sprint(v.app.AppKey), v.app.Name, v.app.Owner, v.release.Version,
							strings.Join(v.release.Architectures, ","), ports(v.release.Ports), ago(c.Now(), v.release.Created)}
					})
			})
		},
	}
}
