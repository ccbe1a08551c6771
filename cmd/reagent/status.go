package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"reagent/config"
)

// status prints what the agent wrote about itself; it does not talk to the agent,
// so that it answers also when the agent hangs.
func (p *program) status(args []string) error {
	set := flag.NewFlagSet("status", flag.ContinueOnError)
	dir := set.String("agentDir", config.AgentDir(p.getenv), "home of the agent")
	asJSON := outputFlag(set)
	if err := p.parse(set, args); err != nil {
		return err
	}
	s, err := config.ReadStatus(*dir)
	if err != nil {
		return err
	}
	if *asJSON {
		out := json.NewEncoder(p.stdout)
		out.SetIndent("", " ")
		err = out.Encode(s)
	} else {
		err = printStatus(p.stdout, s, p.now())
	}
	if err == nil && !s.Running {
		err = fmt.Errorf("the agent of %s does not run; this is what it wrote last", *dir)
	}
	return err
}

func printStatus(out io.Writer, s config.LiveStatus, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%s\t%s\n", name, printable(fmt.Sprintf(format, args...)))
	}
	if s.Running {
		line("agent", "%s, process %d, runs%s", s.Version, s.PID, since(now, s.Started))
	} else {
		line("agent", "does not run; process %d of version %s wrote this %s ago", s.PID, s.Version, span(now.Sub(s.Updated)))
	}
	line("device", "%s (%s)", s.Name, s.Serial)
	if s.Running {
		line("router", "%s%s, %s", s.State, since(now, s.Since), s.Router)
	} else {
		line("router", "was %s, %s", s.State, s.Router)
	}
	if s.Reason != "" {
		line("reason", "%s", s.Reason)
	}
	if s.Running && s.NextTry.After(now) {
		line("next try", "in %s", span(s.NextTry.Sub(now)))
	}
	if s.Engine.Reachable {
		line("engine", "answers, version %s", s.Engine.Version)
	} else {
		line("engine", "does not answer: %s", s.Engine.Reason)
	}
	if s.Compose != "" {
		line("compose", "%s", s.Compose)
	} else {
		line("compose", "not installed; apps of several containers cannot run")
	}
	for _, d := range s.Disks {
		line("disk", "%s, %.1f of %.1f GB free: %s, %s", d.Level, float64(d.Free)/1e9, float64(d.Total)/1e9, d.Name, d.Path)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if len(s.Apps) == 0 {
		_, err := fmt.Fprintln(out, "no apps")
		return err
	}
	fmt.Fprintln(out)
	fmt.Fprintln(w, "STAGE\tKEY\tAPP\tVERSION\tSTATE\tERROR")
	for _, a := range s.Apps {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", a.Stage, a.AppKey, printable(a.Name), printable(a.Version), a.State, printable(a.Error))
	}
	return w.Flush()
}

// printable keeps what came over the network from steering the terminal.
func printable(text string) string {
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text))
}

func since(now, t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return " for " + span(now.Sub(t))
}

// span is a duration as people say it, in one unit.
func span(d time.Duration) string {
	for _, u := range []struct {
		unit time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "min"}} {
		if d >= 2*u.unit {
			return fmt.Sprintf("%d %s", d/u.unit, u.name)
		}
	}
	return fmt.Sprintf("%d s", max(d, 0).Round(time.Second)/time.Second)
}
