package cli

import (
	"context"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"reagent/protocol"
)

// logLevels are those that the agent's log knows, the mildest first.
var logLevels = []string{"trace", "debug", "info", "warn", "error", "fatal", "panic"}

func deviceLogs() Command {
	var (
		tail                uint
		since, until, level string
	)
	return Command{
		Words: "device logs", Args: "DEVICE [--tail N] [--since TIME] [--until TIME] [--level LEVEL]", Min: 1, Max: 1,
		About: "Show the log of the agent on a device",
		More: `That is what the agent itself writes. For what an app prints see "$0 logs".

  $0 device logs press-07 --since 1h --level warn`,
		Flags: func(f *flag.FlagSet) {
			addTail(f, &tail, protocol.DeviceLogTail)
			addBound(f, "since", "only from then on", &since)
			addBound(f, "until", "only until then", &until)
			f.Func("level", "only what is as bad as that, or worse: `LEVEL` of "+strings.Join(logLevels, ", ")+" (default: info)", func(text string) error {
				if level = strings.ToLower(text); !slices.Contains(logLevels, level) {
					return fmt.Errorf("%q is none of %s", text, strings.Join(logLevels, ", "))
				}
				return nil
			})
		},
		Run: func(ctx context.Context, c *Call) error {
			d, err := findReachable(ctx, c, c.Args[0])
			if err != nil {
				return err
			}
			answer, err := askDevice[protocol.DeviceLogsAnswer](ctx, c, d, protocol.QueryDeviceLogs,
				present(map[string]any{"tail": int(tail), "since": since, "until": until, "level": level}))
			if err != nil {
				return err
			}
			return c.show(answer, func(out io.Writer) error {
				for _, line := range answer.Lines {
					if _, err := fmt.Fprintln(out, harmless(line)); err != nil {
						return err
					}
				}
				switch {
				case len(answer.Lines) == 0:
					c.say("no lines: a wider window or a lower --level may show some")
				case answer.Truncated:
					c.say("older lines were left out: see more with --tail, or earlier ones with --until")
				}
				return nil
			})
		},
	}
}

// addTail declares how many of the newest there shall be.
func addTail(f *flag.FlagSet, to *uint, otherwise int) {
	f.UintVar(to, "tail", 0, fmt.Sprintf("the newest `N` at most (default: %d, most: %d)", otherwise, protocol.MaxLogTail))
}
