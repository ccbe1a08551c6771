package cli

import (
	"context"
	"flag"
	"fmt"
	"math"
	"time"

	"github.com/google/uuid"

	"reagent/protocol"
)

const runMore = `Without --app it runs on the device itself, as the user of the agent and without a
terminal or input. That needs MAINTAIN, and somebody must have allowed it in the
device's own file: "policy": {"commands": true}. With --app it runs inside the
app's container, which needs DEVELOP and nothing else.

  $0 run press-07 -- df -h /
  $0 run press-07 --shell 'dmesg | tail -20'
  $0 run press-07 --app hello -- /bin/sh -c 'ls -l /data'

Output comes as it is printed, byte for byte, at most 16 MiB of it. Ctrl-C stops
the command with all that it has started; a second one does not wait for that. A
lost connection ends nothing: this goes on where it was when the device is back,
and --id, with the id that is said then, asks again within an hour.

The exit code is that of the command; 128+N if signal N ended it, 124 if its time
was up, 126 or 127 if it cannot be run, 130 if it was stopped, 125 if the device
refuses or does not answer.`

// runFlags say what is to be run, where, and how.
type runFlags struct {
	app, service, cwd, shell, id string
	dev                          bool
	timeout                      time.Duration
	env                          map[string]any // null = as it is here
}

func run() Command {
	r := runFlags{timeout: protocol.CommandTimeout, env: map[string]any{}}
	return Command{
		Words: "run", Args: "DEVICE [--app APP] [--timeout TIME] [--cwd FOLDER] [--env NAME=VALUE]… -- CMD [ARG]…", Min: 1, Max: math.MaxInt,
		About: "Run a command on a device, or inside an app",
		More:  runMore,
		Flags: func(f *flag.FlagSet) {
			f.StringVar(&r.app, "app", "", "run inside `APP`, a name or key")
			f.BoolVar(&r.dev, "dev", false, `inside its DEV copy, see "dev push"`)
			f.StringVar(&r.service, "service", "", "inside this `SERVICE` of an app that has several")
			f.DurationVar(&r.timeout, "timeout", r.timeout, fmt.Sprintf("end it after `TIME`, at most %v", protocol.MaxCommandTimeout))
			f.StringVar(&r.cwd, "cwd", "", "run it in this `FOLDER`")
			f.Var(envFlag(r.env), "env", "give it a variable: `NAME=VALUE`; NAME alone has the value that it has here (repeatable)")
			f.StringVar(&r.shell, "shell", "", "run a `LINE` of the shell instead of CMD")
			f.StringVar(&r.id, "id", "", "run nothing: what became of the command with this `ID`")
		},
		Hints: map[protocol.Code]string{
			protocol.CodeDisabled: `whoever has the device file of $1 allows it there with "policy": {"commands": true} and restarts the agent; --app needs no such thing`,
			protocol.CodeRefused:  `somebody who may says "$0 grant USER $1 MAINTAIN" (DEVELOP for --app)`,
		},
		Fail: exitNotRun,
		Run: func(ctx context.Context, c *Call) error {
			question, err := r.question(c)
			if err != nil {
				return err
			}
			d, err := findReachable(ctx, c, c.Args[0])
			if err != nil {
				return err
			}
			if r.app != "" {
				row, err := findApp(ctx, c, c.Args[0], r.app, r.dev)
				if err != nil {
					return err
				}
				if question["container_name"], err = containerOf(ctx, c, row, r.service); err != nil {
					return err
				}
			}
			return (&runner{c: c, device: d, question: question, where: r.where(), timeout: r.timeout}).run(ctx)
		},
	}
}

// where are the flags that say inside which app.
func (r runFlags) where() (flags string) {
	for _, f := range []struct {
		given bool
		text  string
	}{{r.app != "", " --app " + r.app}, {r.dev, " --dev"}, {r.service != "", " --service " + r.service}} {
		if f.given {
			flags += f.text
		}
	}
	return flags
}

// question is the argument of run_command, but for the container.
func (r runFlags) question(c *Call) (map[string]any, error) {
	argv := c.Args[1:]
	switch {
	case r.id != "" && (len(argv) > 0 || r.shell != ""):
		return nil, usage("--id asks for what was begun: leave CMD and --shell away")
	case r.id != "":
		return map[string]any{"id": r.id, "encoding": "base64", "detach": true}, nil
	case len(argv) > 0 && r.shell != "":
		return nil, usage("a command or --shell, not both")
	case len(argv) == 0 && r.shell == "":
		return nil, usage("say what to run: %s run %s -- CMD", c.Name, c.Args[0])
	case r.timeout < time.Millisecond || r.timeout > protocol.MaxCommandTimeout:
		return nil, usage("--timeout is between 1ms and %v", protocol.MaxCommandTimeout)
	case r.app == "" && (r.service != "" || r.dev):
		return nil, usage("--service and --dev are about an app: name it with --app")
	}
	question := present(map[string]any{
		"id": uuid.NewString(), "encoding": "base64", "shell": r.shell, "cwd": r.cwd,
		"timeout_ms": r.timeout.Milliseconds(), "max_output": protocol.MaxCommandOutput, "detach": true,
	})
	if len(argv) > 0 {
		question["argv"] = argv
	}
	if len(r.env) > 0 {
		env := map[string]any{}
		for name, value := range r.env {
			if env[name] = value; value == nil {
				env[name] = c.Getenv(name)
			}
		}
		question["env"] = env
	}
	return question, nil
}
