// Reagent-studio is a studio for people who host it themselves, and the commands
// with which they use it:
//
//	reagent-studio serve
//	reagent-studio device add press-07
//
// See reagent-studio help. This package parses, connects signals, wires and
// chooses the exit code; what a studio does is in package studio, what the
// commands do in studio/cli. Nothing else of the program ends the process.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"reagent/studio"
	"reagent/studio/cli"
)

const name = "reagent-studio"

func main() {
	os.Exit(execute(os.Args[1:]))
}

// execute is main with an exit code.
func execute(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills
	err := run(ctx, args, os.Getenv, os.Stdout, os.Stderr)
	var exit *cli.ExitError
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, flag.ErrHelp):
	case errors.As(err, &exit) && exit.Err == nil: // all was said
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	}
	return exitCode(err)
}

// The exit codes, but for those of commands that have their own.
const (
	exitDone   = 0 // done, or asked to end
	exitFailed = 1
	exitUsage  = 2 // the command line was not understood
)

func exitCode(err error) int {
	var (
		usage *cli.UsageError
		exit  *cli.ExitError
	)
	switch {
	case errors.As(err, &exit):
		return exit.Code
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, flag.ErrHelp):
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	}
	return exitFailed
}

// run is the whole program but for signals and exit code; tests call it.
func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) error {
	if len(args) > 0 && (args[0] == "-version" || args[0] == "--version") {
		args = append([]string{"version"}, args[1:]...)
	}
	data := dataFolder(getenv)
	program := &cli.Program{
		Name: name, Getenv: getenv, Stdin: os.Stdin, Stdout: stdout, Stderr: stderr, Now: time.Now,
		Dial: studio.Dialer(stderr), Engine: studio.LocalEngine{}, DataFolder: data,
		Extra: []cli.Command{serve(data), version()},
	}
	return program.Run(ctx, args)
}

// dataFolder is where a studio of this user keeps its state (design S20).
func dataFolder(getenv func(string) string) string {
	if folder := getenv("REAGENT_STUDIO_DATA"); folder != "" {
		return folder
	}
	if os.Geteuid() == 0 {
		return "/var/lib/reagent-studio"
	}
	state := getenv("XDG_STATE_HOME")
	if state == "" {
		state = filepath.Join(cmp.Or(getenv("HOME"), getenv("USERPROFILE")), ".local", "state")
	}
	return filepath.Join(state, "reagent-studio")
}
