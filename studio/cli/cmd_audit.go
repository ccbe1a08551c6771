package cli

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"reagent/protocol"
)

func audit() Command {
	var (
		tail                       uint
		before                     uint64
		since, until, user, suffix string
	)
	return Command{
		Words: "audit", Args: "DEVICE [--tail N] [--since TIME] [--until TIME] [--user ID] [--procedure NAME]", Min: 1, Max: 1,
		About: "Show who changed what on a device, or was not let",
		More: `The device writes down every call that changes something or opens a shell, the
refused ones too: who called (USER is the account, as in "user ls"; system is the
studio itself), for whom, when, with what result. Secrets are not in it. Seeing
it needs MAINTAIN.

  $0 audit press-07 --since 24h --user 4
  $0 audit press-07 --procedure run_command --output json`,
		Flags: func(f *flag.FlagSet) {
			addTail(f, &tail, protocol.AuditTail)
			f.Uint64Var(&before, "before", 0, "only what is older than entry `SEQ`")
			addBound(f, "since", "only from then on", &since)
			addBound(f, "until", "only until then", &until)
			f.StringVar(&user, "user", "", "only calls of `ID`, an account or \"system\"")
			f.StringVar(&suffix, "procedure", "", "only calls of `NAME`, such as run_command")
		},
		Hints: map[protocol.Code]string{protocol.CodeRefused: `somebody who may says "$0 grant USER $1 MAINTAIN"`},
		Run: func(ctx context.Context, c *Call) error {
			d, err := findReachable(ctx, c, c.Args[0])
			if err != nil {
				return err
			}
			answer, err := askDevice[protocol.AuditAnswer](ctx, c, d, protocol.QueryAudit, present(map[string]any{
				"tail": int(tail), "before_seq": before, "since": since, "until": until, "authid": user, "procedure": suffix,
			}))
			if err != nil {
				return err
			}
			return c.show(answer, func(out io.Writer) error {
				err := table(out, "SEQ TIME USER CALL TARGET WITH RESULT TOOK", answer.Entries, "no entries in this window",
					func(e protocol.AuditEntry) []string { return auditRow(e, c.Now().Location()) })
				if err == nil && answer.Truncated && len(answer.Entries) > 0 {
					c.say("older entries were left out: see them with --before %d", answer.Entries[0].Seq)
				}
				return err
			})
		},
	}
}

func auditRow(e protocol.AuditEntry, here *time.Location) []string {
	when := e.Time
	if t, err := time.Parse(time.RFC3339, e.Time); err == nil {
		when = t.In(here).Format(time.DateTime)
	}
	who := cmp.Or(e.AuthID, "undisclosed")
	if e.ForAccount != nil {
		who += fmt.Sprintf(" for %d", *e.ForAccount)
	}
	result := e.Result
	if e.Error != "" {
		result += ": " + clip(e.Error, 60)
	}
	took := ""
	if e.Result != protocol.AuditStarted && e.Result != protocol.AuditRefused {
		took = (time.Duration(min(e.DurationMS, 1<<40)) * time.Millisecond).String()
	}
	return []string{fmt.Sprint(e.Seq), when, who, e.Procedure, e.Target, clip(arguments(e.Args), 60), result, took}
}

// telling are the arguments that say most of a call, without their names.
var telling = []string{"shell", "argv", "cmd", "args"}

// arguments are those of a call in one line.
func arguments(args map[string]any) string {
	var words []string
	for _, name := range telling {
		if v, there := args[name]; there {
			words = append(words, plainly(v))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if text := plainly(args[name]); text != "" && !slices.Contains(telling, name) {
			words = append(words, name+"="+text)
		}
	}
	return strings.Join(words, " ")
}

// plainly is a value without the signs of JSON; of an object the names.
func plainly(v any) string {
	if d, ok := protocol.AsDict(v); ok {
		return strings.Join(slices.Sorted(maps.Keys(d)), ",")
	}
	if list, ok := protocol.AsList(v); ok {
		var words []string
		for _, v := range list {
			words = append(words, plainly(v))
		}
		return strings.Join(words, " ")
	}
	switch v := v.(type) {
	case nil:
		return ""
	case float64: // as numbers are read from an answer
		return strconv.FormatFloat(v, 'f', -1, 64)
	}
	return fmt.Sprint(v)
}

// clip keeps a text from spreading a table. Programs get all of it.
func clip(text string, most int) string {
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}
