package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"reagent/protocol"
)

func appEnv() Command {
	var unset []string
	return Command{
		Words: "app env", Args: "APP [NAME=VALUE]… [--unset NAME]…", Min: 1, Max: 200,
		About: "Show or change the values that an app's variables have by default",
		More: `They count where a device has no value of its own ("deploy --env"): for DEV
copies, and for each version that is published or pushed from now on without
values of its own. A version keeps those that it was entered with.

  $0 app env hello COLOR=blue GREETING="good morning"
  $0 app env hello --unset GREETING
  $0 app env hello`,
		Flags: func(f *flag.FlagSet) {
			f.Func("unset", "take a variable away: `NAME` (repeatable)", func(name string) error {
				unset = append(unset, name)
				return nil
			})
		},
		Hints: map[protocol.Code]string{protocol.CodeNotFound: hintApps},
		Run: func(ctx context.Context, c *Call) error {
			set := map[string]any{}
			for _, arg := range c.Args[1:] {
				name, value, ok := strings.Cut(arg, "=")
				if !ok || name == "" {
					return usage("%q is not NAME=VALUE", arg)
				}
				set[name] = value
			}
			var row protocol.AppRow
			var err error
			if len(set)+len(unset) == 0 {
				row, err = ownApp(ctx, c, c.Args[0])
			} else {
				row, err = ask[protocol.AppRow](ctx, c, protocol.StudioSetAppEnvironment, protocol.SetAppEnvironment{App: c.Args[0], Set: set, Unset: unset})
			}
			if err != nil {
				return err
			}
			return c.show(row, func(out io.Writer) error {
				names := slices.Sorted(maps.Keys(row.EnvironmentTemplate))
				return table(out, "NAME DEFAULT", names,
					fmt.Sprintf("%s has no variables: set one with %q", printable(row.Name), c.Name+" app env "+row.Name+" NAME=VALUE"),
					func(name string) []string {
						value, _ := protocol.AsDict(row.EnvironmentTemplate[name])
						if value["defaultValue"] == nil {
							return []string{name, ""}
						}
						return []string{name, fmt.Sprint(value["defaultValue"])}
					})
			})
		},
	}
}

// ownApp is an app of the studio's list.
func ownApp(ctx context.Context, c *Call, ref string) (protocol.AppRow, error) {
	row, ok, err := findOwnApp(ctx, c, ref)
	if err == nil && !ok {
		err = fmt.Errorf("there is no app %q: %s", ref, expand(hintApps, c))
	}
	return row, err
}
