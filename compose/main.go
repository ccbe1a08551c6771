// Reagent-compose runs compose projects where the "docker compose" plugin is not
// installed. The agent starts it for one operation at a time; nothing of it
// stays. It is a module and a program of its own, because compose is several
// times the size of the agent and brings some hundred modules along, and
// because a crash in there must not be one of the agent (design D9). Builds go by
// BuildKit without the plugin that compose itself wants for it, so that the agent
// starts it for builds also where the other plugin runs the projects.
//
// The engine and the logins to registries are found as Docker's own tools do,
// by DOCKER_HOST and DOCKER_CONFIG: the agent names a place of its own there, so
// that the configuration of the user that runs it is neither read nor written.
//
// Exit codes: 0 done, 1 failed, 2 wrong arguments, 130 ended by a signal. What
// happens is printed as plain lines, and the reason of a failure is the last.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// Version is that of the agent it is released with.
var Version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	err := run(ctx, os.Args[1:], os.Stdout)
	var wrong usageError
	switch {
	case err == nil:
	case errors.As(err, &wrong):
		fmt.Fprintf(os.Stderr, "reagent-compose: %v\n%s", err, usage)
		os.Exit(2)
	case ctx.Err() != nil:
		os.Exit(130)
	default:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

const usage = `
reagent-compose up    -project NAME -dir DIR -file FILE   make what runs equal to the definition
reagent-compose stop  -project NAME -grace SECONDS        stop and remove the containers
reagent-compose down  -project NAME [-volumes]            remove containers and networks, and volumes
reagent-compose build -project NAME -dir DIR -file FILE   build the images of services that say how
reagent-compose check -project NAME -dir DIR -file FILE   tell whether the definition can be loaded
reagent-compose version [--short]                         tell the version (of compose)

The agent starts it where the plugin "docker compose" is not installed; to
run it by hand is of no use.
`

// A usageError is for who wrote the command line.
type usageError struct{ error }

// An order is what the command line asks for.
type order struct {
	verb               string
	project, dir, file string
	grace              time.Duration
	volumes, short     bool
}

func run(ctx context.Context, args []string, out io.Writer) error {
	o, err := parse(args)
	switch {
	case err != nil:
		return usageError{err}
	case o.verb == "version" && o.short:
		_, err := fmt.Fprintln(out, composeVersion())
		return err
	case o.verb == "version":
		_, err := fmt.Fprintf(out, "reagent-compose %s, compose %s\n", Version, composeVersion())
		return err
	}
	return perform(ctx, o, out)
}

// parse takes the command line apart. All of it is named, nothing is guessed.
func parse(args []string) (o order, err error) {
	if len(args) == 0 {
		return o, errors.New("what shall be done?")
	}
	o.verb = strings.TrimLeft(args[0], "-")
	flags := flag.NewFlagSet(o.verb, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the caller prints the error
	needed := []string{"project"}
	flags.StringVar(&o.project, "project", "", "")
	switch o.verb {
	case "up", "build", "check":
		flags.StringVar(&o.dir, "dir", "", "")
		flags.StringVar(&o.file, "file", "", "")
		needed = append(needed, "dir", "file")
	case "stop":
		flags.Func("grace", "", func(s string) error {
			o.grace, err = time.ParseDuration(s + "s")
			return err
		})
		needed = append(needed, "grace")
	case "down":
		flags.BoolVar(&o.volumes, "volumes", false, "")
	case "version":
		flags.BoolVar(&o.short, "short", false, "")
		needed = nil
	default:
		return o, fmt.Errorf("%q is nothing that it does", args[0])
	}
	if err := flags.Parse(args[1:]); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("%q is too much", flags.Arg(0))
	}
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	for _, name := range needed {
		if !given[name] {
			return o, fmt.Errorf("%s needs -%s", o.verb, name)
		}
	}
	return o, nil
}

// composeVersion is that of the library.
func composeVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "github.com/docker/compose/v5" {
				return strings.TrimPrefix(m.Version, "v")
			}
		}
	}
	return "unknown"
}
