package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"golang.org/x/term"

	"reagent/filesystem"
	"reagent/protocol"
)

// show prints an answer: as JSON for programs, or by people for people.
func (c *Call) show(answer any, people func(out io.Writer) error) error {
	if c.JSON {
		out := json.NewEncoder(c.Stdout)
		out.SetIndent("", "  ")
		return out.Encode(answer)
	}
	return people(c.Stdout)
}

// table prints rows below a head; nothing but a hint where there are none.
func table[Row any](out io.Writer, head string, rows []Row, none string, cells func(Row) []string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(out, none)
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, strings.ReplaceAll(head, " ", "\t"))
	for _, row := range rows {
		line := cells(row)
		for i, cell := range line {
			if line[i] = printable(cell); line[i] == "" {
				line[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(line, "\t"))
	}
	return w.Flush()
}

// printable keeps what came from elsewhere from steering the terminal.
func printable(text string) string { return strings.TrimSpace(harmless(text)) }

// harmless is printable for a line whose blanks mean something.
func harmless(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || !unicode.IsGraphic(r) {
			return ' '
		}
		return r
	}, line)
}

// ago is a time as people say it.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	d := now.Sub(t)
	if d < 0 && d > -time.Minute { // clocks differ
		d = 0
	}
	if d < 0 {
		return t.Local().Format(time.DateTime)
	}
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{365 * 24 * time.Hour, "years"}, {24 * time.Hour, "days"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if d >= 2*u.unit {
			return fmt.Sprintf("%d %s ago", d/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%d s ago", d/time.Second)
}

// ports is where the ports of an app are reached.
func ports(rules []protocol.PortRule) string {
	var out []string
	for _, r := range rules {
		text := fmt.Sprintf("%d", r.Port)
		if r.HostPort != 0 {
			text = fmt.Sprintf("%d->%d", r.HostPort, r.Port)
		}
		if strings.EqualFold(r.Protocol, "udp") {
			text += "/udp"
		}
		if r.Name != "" {
			text = r.Name + "=" + text
		}
		out = append(out, text)
	}
	return strings.Join(out, ",")
}

// writeSecret writes something that holds a secret to a file that must not be
// there yet, or to stdout.
func (c *Call) writeSecret(path string, content any) error {
	data, err := json.MarshalIndent(content, "", " ")
	if err != nil {
		return err
	}
	data = append(data, '\n')
	if path == "-" {
		_, err := c.Stdout.Write(data)
		return err
	}
	return filesystem.WritePrivate(path, data)
}

// checkNew refuses a file that is there: it may hold the only copy of a secret.
func checkNew(path string) error {
	if path == "-" {
		return nil
	}
	if _, err := os.Lstat(path); err == nil {
		return usage("%s is there already: remove it, or name another file with --out", path)
	}
	return nil
}

// interactive tells whether somebody watches what is written to w.
func interactive(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
