package main

import (
	"context"
	"encoding/json"
	"fmt"

	"reagent/release"
	"reagent/studio/cli"
)

func version() cli.Command {
	return cli.Command{
		Words: "version", Local: true,
		About: "Show the version of this program",
		Run: func(_ context.Context, c *cli.Call) error {
			if c.JSON {
				return json.NewEncoder(c.Stdout).Encode(map[string]string{"version": release.Version, "arch": release.Arch()})
			}
			_, err := fmt.Fprintln(c.Stdout, release.Version)
			return err
		},
	}
}
