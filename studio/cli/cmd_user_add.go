package cli

import (
	"context"
	"flag"
	"fmt"
	"io"

	"reagent/protocol"
)

func userAdd() Command {
	var out string
	return Command{
		Words: "user add", Args: "NAME [--out FILE]", Min: 1, Max: 1,
		About: "Make an account and write its profile, with which the user logs in",
		More: `The file holds the account's secret and is shown this once. The user says
--profile FILE, or puts it into REAGENT_STUDIO_PROFILE. See also "$0 grant".`,
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&out, "out", "", "`FILE` to write, - for stdout (default: NAME.profile.json)")
		},
		Hints: map[protocol.Code]string{protocol.CodeConflict: hintUsers},
		Run: func(ctx context.Context, c *Call) error {
			if out == "" {
				out = c.Args[0] + ".profile.json"
			}
			if err := checkNew(out); err != nil {
				return err
			}
			added, err := ask[protocol.UserAdded](ctx, c, protocol.StudioAddUser, protocol.AddUser{Name: c.Args[0]})
			if err != nil {
				return err
			}
			if err := c.writeSecret(out, added.Profile); err != nil {
				return fmt.Errorf("the account was made, its profile was not written: %w; remove the account with %q and begin again", err, c.Name+" user rm "+c.Args[0])
			}
			if out == "-" {
				return nil
			}
			return c.show(struct {
				Account protocol.AccountRow `json:"account"`
				File    string              `json:"file"`
			}{added.Account, out}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "account %d made for %s\nwrote %s: it is used with\n  %s device ls --profile %s\n",
					added.Account.AccountKey, printable(added.Account.Name), out, c.Name, out)
				return err
			})
		},
	}
}
