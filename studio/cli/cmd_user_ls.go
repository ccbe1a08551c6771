package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"reagent/protocol"
)

func userList() Command {
	return Command{
		Words: "user ls", About: "List the accounts and what they may",
		Run: func(ctx context.Context, c *Call) error {
			list, err := ask[protocol.UserList](ctx, c, protocol.StudioListUsers, nil)
			if err != nil {
				return err
			}
			return c.show(list, func(out io.Writer) error { return accounts(out, c, list.Users) })
		},
	}
}

func accounts(out io.Writer, c *Call, rows []protocol.AccountRow) error {
	return table(out, "KEY NAME MAY MADE", rows, "no accounts", func(a protocol.AccountRow) []string {
		return []string{fmt.Sprint(a.AccountKey), a.Name, rights(a), ago(c.Now(), a.Created)}
	})
}

// rights is what an account may, device by device.
func rights(a protocol.AccountRow) string {
	if a.Administrator {
		return "everything"
	}
	var devices []string
	may := map[string][]string{}
	for _, g := range a.Grants {
		if may[g.DeviceName] == nil {
			devices = append(devices, g.DeviceName)
		}
		may[g.DeviceName] = append(may[g.DeviceName], string(g.Privilege))
	}
	for i, d := range devices {
		devices[i] = d + ": " + strings.Join(may[d], "+")
	}
	return strings.Join(devices, ", ")
}
