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
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// A measurement is one part of the table.
type measurement struct {
	name, about string
	run         func(*lab, *stage) []figure
}

// measurements are everything that there is, in the order of the table.
var measurements = []measurement{
	{"size", "the binary", (*lab).size},
	{"start", "process start to registered and to CONNECTED, near and far", (*lab).startUp},
	{"calls", "latency and rate of device_handshake, beside a bare client's echo", (*lab).calling},
	{"reconnect", "router killed and back; link cut with the router still there", (*lab).reconnect},
	{"apps", "request RUNNING to container runs and to RUNNING reported, beside docker run", (*lab).transitions},
	{"terminals", "echo of a key, a page of output and the opening of shells, beside a bare call", (*lab).terminals},
	{"twenty", "twenty apps wanted at once: until all run, and the agent's memory meanwhile", (*lab).twenty},
	{"logs", "lines that an app prints, by its topic and by follow_app_logs: rate, loss, memory, and a call meanwhile", (*lab).logs},
	{"idle", "memory and CPU without apps", (*lab).idleAlone},
	{"idle-five", "memory and CPU with five apps", (*lab).idleWithApps},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal kills
	os.Exit(exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr)))
}

func exit(err error) int {
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted; what was started is gone")
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	return 1
}

// run is the program but for signals and exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var s settings
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.SetOutput(stderr)
	set.IntVar(&s.starts, "starts", 7, "starts of each kind")
	set.IntVar(&s.cuts, "cuts", 20, "cuts of the link, and deaths of the router")
	set.IntVar(&s.runs, "runs", 9, "transitions of each kind")
	set.IntVar(&s.calls, "calls", 2000, "calls of each kind, one after another")
	set.DurationVar(&s.load, "load", 3*time.Second, "how long 64 callers call at once, of each kind")
	set.DurationVar(&s.idle, "idle", time.Minute, "how long the agent idles before it is looked at")
	set.StringVar(&s.agent, "agent", "", "measure this `binary` instead of building one")
	out := set.String("o", "", "write the report to this `file` (default "+wholeReport+" for a whole run, nowhere for parts)")
	older := set.String("compare", "", "print the ratios to the report in this `file`")
	only := set.String("only", "", "`names` of the measurements to make, with commas; empty: all")
	list := set.Bool("list", false, "print the measurements and end")
	if err := set.Parse(args); err != nil {
		return err
	}
	if *list {
		return listMeasurements(stdout)
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	var old *report
	if *older != "" {
		if old, err = loadReport(*older); err != nil {
			return err
		}
	}
	if *out == "" && *only == "" {
		*out = wholeReport
	}
	r, err := measure(ctx, chosen, s, newProgress(stderr))
	if ctx.Err() != nil {
		return ctx.Err() // half a report would be taken for a whole one
	}
	if len(r.Figures)+len(r.Left) == 0 {
		return err
	}
	if err := r.table(stdout, old); err != nil {
		return err
	}
	if *out != "" {
		if err := r.save(*out); err != nil {
			return fmt.Errorf("save the report: %w", err)
		}
	}
	return err
}

const wholeReport = "build/bench.json"

// choose takes a list of names apart.
func choose(names string) ([]measurement, error) {
	if names == "" {
		return measurements, nil
	}
	var chosen []measurement
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(measurements, func(m measurement) bool { return m.name == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("there is no measurement %q; -list prints them", name)
		}
		chosen = append(chosen, measurements[i])
	}
	return chosen, nil
}

func listMeasurements(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, m := range measurements {
		fmt.Fprintf(w, "%s\t%s\n", m.name, m.about)
	}
	return w.Flush()
}

// measure makes the chosen measurements. One that breaks does not keep the
// others from being made.
func measure(ctx context.Context, chosen []measurement, s settings, p progress) (*report, error) {
	defer p.clear()
	r := &report{Taken: time.Now().Truncate(time.Second)}
	var broken []error
	err := perform(ctx, "set up", func(t *stage) {
		r.Machine = thisMachine(t) // before the build makes it busy
		l := openLab(t, s, p)
		r.Agent = l.version(t)
		for _, m := range chosen {
			p.say("%s", m.name)
			err := perform(ctx, m.name, func(t *stage) { r.add(m.run(l, t)...) })
			switch {
			case ctx.Err() != nil:
				return
			case errors.Is(err, errSkipped):
				r.Left = append(r.Left, m.name+": "+err.Error())
			case err != nil:
				broken = append(broken, fmt.Errorf("%s: %w", m.name, err))
			}
		}
	})
	return r, cmp.Or(err, errors.Join(broken...))
}
