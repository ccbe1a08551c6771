package cli

import (
	"flag"
	"fmt"
	"strings"
	"text/tabwriter"
)

const helpHead = `Reagent Studio looks after devices that run the Reagent agent: it lets them log
in, keeps the images of their apps, and tells them what to run.

Usage:
  %[1]s COMMAND [ARGUMENTS] [FLAGS]

From nothing to an app on a device:
  %[1]s serve                  (stays; go on in another terminal)
  %[1]s device add press-07 --out press-07.reswarm
  reagent -config press-07.reswarm      (on the device)
  %[1]s dev push hello press-07         (builds the folder there and runs it)
  %[1]s publish hello press-07 1.0.0
  %[1]s deploy hello@1.0.0 press-08 --wait
  %[1]s logs hello press-08 -f

Commands:
`

const helpTail = `
Every command explains itself: %[1]s help COMMAND.
With --output json it prints for programs.

Which studio: the one on this machine, or that of --profile FILE, or of
`

const helpEnd = `
Exit codes: 0 done, 1 failed, 2 not understood; "run" has its own.
`

// help explains the program, or one command.
func (p *Program) help(args []string) error {
	if len(args) > 1 {
		cmd, rest, err := p.find(args[1:])
		if err == nil && len(rest) == 0 {
			return p.explain(cmd)
		}
		return p.helpGroup(args[1])
	}
	fmt.Fprintf(p.Stdout, helpHead, p.Name)
	p.list(p.commands())
	fmt.Fprintf(p.Stdout, helpTail, p.Name)
	w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	for _, v := range profileVariables {
		fmt.Fprintf(w, "  %s\t%s\n", v.name, v.about)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprint(p.Stdout, helpEnd)
	return err
}

// helpGroup lists the commands that begin with a word.
func (p *Program) helpGroup(word string) error {
	var group []Command
	for _, cmd := range p.commands() {
		if strings.HasPrefix(cmd.Words, word+" ") {
			group = append(group, cmd)
		}
	}
	if group == nil {
		return usage("there is no command %q: see %q", word, p.Name+" help")
	}
	p.list(group)
	return flag.ErrHelp
}

func (p *Program) list(commands []Command) {
	w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	for _, cmd := range commands {
		fmt.Fprintf(w, "  %s\t%s\n", strings.TrimSpace(cmd.Words+" "+brief(cmd.Args)), cmd.About)
	}
	_ = w.Flush() // an error shows at the next line
}

// brief is the arguments without the flags, which help COMMAND lists.
func brief(args string) string {
	_, command, runs := strings.Cut(args, " -- ")
	args, _, _ = strings.Cut(args, "[--")
	if args = strings.TrimSpace(args); runs {
		args += " -- " + command
	}
	return args
}

// explain is the help of one command.
func (p *Program) explain(cmd Command) error {
	fmt.Fprintf(p.Stdout, "%s\n\n%s.\n", strings.TrimSpace(p.Name+" "+cmd.Words+" "+cmd.Args), cmd.About)
	if cmd.More != "" {
		fmt.Fprintf(p.Stdout, "\n%s\n", strings.TrimSpace(strings.ReplaceAll(cmd.More, "$0", p.Name)))
	}
	fmt.Fprintln(p.Stdout, "\nFlags:")
	w := tabwriter.NewWriter(p.Stdout, 0, 0, 2, ' ', 0)
	(&Call{Program: p}).flags(cmd).VisitAll(func(f *flag.Flag) {
		value, about := flag.UnquoteUsage(f)
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0s" && f.DefValue != "0" {
			about += fmt.Sprintf(" (default: %s)", f.DefValue)
		}
		fmt.Fprintf(w, "  %s\t%s\n", strings.TrimSpace(dashes(f.Name)+" "+value), about)
	})
	return w.Flush()
}

func dashes(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}
