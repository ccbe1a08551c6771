// Reagent runs the apps of one device and keeps the device in reach of its
// studio. Without a command it is the agent:
//
//	reagent -config device.reswarm
//
// See reagent -help. This package parses, connects signals, wires and chooses the
// exit code; what the agent does is in package agent. Nothing else of the
// program ends the process.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"reagent/config"
)

func main() {
	os.Exit(execute(os.Args[1:], startAgent))
}

// execute is main as a function of what an agent is.
func execute(args []string, start starter) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills
	p := program{getenv: os.Getenv, stdout: os.Stdout, stderr: os.Stderr, now: time.Now, start: start}
	err := p.run(ctx, args)
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, flag.ErrHelp):
		return exitAsked
	default:
		fmt.Fprintf(os.Stderr, "reagent: %v\n", err)
		return exitCode(err)
	}
}

// A starter runs an agent until ctx ends.
type starter func(ctx context.Context, cfg *config.Config, log zerolog.Logger) error

// A program is what the commands see of the world.
type program struct {
	getenv         func(string) string
	stdout, stderr io.Writer
	now            func() time.Time
	start          starter
}

// run is the whole program but for signals and exit code; tests call it.
func (p *program) run(ctx context.Context, args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return p.agent(ctx, args)
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(p, args[1:])
		}
	}
	return usage("there is no command %q; the agent itself is started by \"reagent -config FILE\" (see: reagent -help)", args[0])
}

// A command is a word that may stand first on the command line.
type command struct {
	name, args, about string
	run               func(*program, []string) error
}

func commands() []command {
	return []command{
		{"status", "[-agentDir DIR] [--output json]", "what the agent of this machine does at this moment", (*program).status},
		{"version", "[--output json]", "version of this program", (*program).version},
		{"help", "", "this text", (*program).help},
		{"service", "VERB", "the Windows service: install, uninstall, start, stop, status", (*program).service},
	}
}

// The exit codes (design S9).
const (
	exitAsked   = 0 // it was asked to end
	exitFailure = 1
	exitUsage   = 2 // command line or configuration
	exitRunning = 3 // another instance runs
)

func exitCode(err error) int {
	var (
		settings *config.Error
		words    *usageError
		running  *config.RunningError
	)
	switch {
	case errors.As(err, &settings), errors.As(err, &words):
		return exitUsage
	case errors.As(err, &running):
		return exitRunning
	}
	return exitFailure
}

// A usageError is a command line that cannot be understood.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usage(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// parse reads the flags of a command, which takes no other arguments.
func (p *program) parse(set *flag.FlagSet, args []string) error {
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	err := set.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		for _, c := range commands() {
			if c.name == set.Name() {
				fmt.Fprintf(p.stdout, "reagent %s %s\n\n%s.\n", c.name, c.args, strings.ToUpper(c.about[:1])+c.about[1:])
			}
		}
		return err
	case err != nil:
		return usage("%s: %v", set.Name(), err)
	case set.NArg() > 0:
		return usage("%s: unexpected %q", set.Name(), set.Arg(0))
	}
	return nil
}

// outputFlag adds --output to a command.
func outputFlag(set *flag.FlagSet) (json *bool) {
	json = new(bool)
	set.Func("output", "table or json", func(text string) error {
		if text != "json" && text != "table" {
			return fmt.Errorf("%q is neither table nor json", text)
		}
		*json = text == "json"
		return nil
	})
	return json
}
