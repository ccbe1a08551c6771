package cli

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

// A Session is a login to a studio.
type Session interface {
	Call(ctx context.Context, uri string, args []any, kwargs map[string]any) (messenger.Result, error)
	// CallProgress is Call for answers that come in parts. progress is called one
	// at a time, in order, and not after CallProgress has returned.
	CallProgress(ctx context.Context, uri string, args []any, kwargs map[string]any, progress func(messenger.Result)) (messenger.Result, error)
	// Follow tells event what is published on topic, from its return on until
	// Close; after a lost connection it goes on with the next.
	Follow(ctx context.Context, topic string, event func(messenger.Event)) error
	// Publish publishes an event, and returns when the router has it.
	Publish(ctx context.Context, topic string, args []any, kwargs map[string]any) error
	// Watch tells changed, instead of people, each loss of the connection, with
	// the reason, and each return. It should be quick.
	Watch(changed func(online bool, reason string))
	Close()
}

// A DialError is why there is no session.
type DialError struct {
	Refused bool   // the studio answered, and does not want this login
	Reason  string // for people
}

func (e *DialError) Error() string { return e.Reason }

// An Exporter gives out an image of the local engine as "docker save" does.
type Exporter interface {
	SaveImage(ctx context.Context, ref string, to io.Writer) error
}

// A Program is what the commands see of the world.
type Program struct {
	Name           string // as people type it
	Getenv         func(string) string
	Stdin          io.Reader // what "shell" sends; as a terminal it is made to pass on every key
	Stdout, Stderr io.Writer
	Now            func() time.Time
	Dial           func(ctx context.Context, profile protocol.StudioProfile) (Session, error)
	Engine         Exporter
	DataFolder     string    // where a studio on this machine keeps its state
	Extra          []Command // of the program itself, such as serve; they come first

	Poll       time.Duration // how often a waiting command looks for itself; default 10 s
	Settle     time.Duration // how long an app has to run until deploy --wait believes it; default 2 s
	Probation  time.Duration // the same of another version where the device does not say how long it watches it; default 35 s
	PortsGrace time.Duration // how long it waits for the ports of an app that runs; default 5 s
	Return     time.Duration // how long it waits for the old version after the new one failed; default 15 s
	Retry      time.Duration // the first pause before an upload that broke off is begun anew; default 2 s
	FollowWait time.Duration // how long a device may keep a follower of a log waiting for lines; default 30 s
	Again      time.Duration // the pause before a device that is away is asked again; default 1 s
	Hold       time.Duration // how long the first output of a shell is kept back for its position; default 1 s
	Probe      time.Duration // how long a shell is quiet before it is asked whether anything is missing; default 5 s
	LookFor    time.Duration // how long a device may not know a shell before that counts as ended; default 5 s
	Linger     time.Duration // how long the end of a shell waits for who reads its output; default 500 ms
	Tail       time.Duration // how long the log of a build is awaited after its end; default 500 ms
}

func (p *Program) poll() time.Duration { return cmp.Or(p.Poll, 10*time.Second) }

func (p *Program) settle() time.Duration { return cmp.Or(p.Settle, 2*time.Second) }

func (p *Program) probation() time.Duration { return cmp.Or(p.Probation, 35*time.Second) }

func (p *Program) toReturn() time.Duration { return cmp.Or(p.Return, 15*time.Second) }

func (p *Program) portsGrace() time.Duration { return cmp.Or(p.PortsGrace, 5*time.Second) }

func (p *Program) retry() time.Duration { return cmp.Or(p.Retry, 2*time.Second) }

func (p *Program) hold() time.Duration { return cmp.Or(p.Hold, time.Second) }

func (p *Program) probe() time.Duration { return cmp.Or(p.Probe, 5*time.Second) }

func (p *Program) lookFor() time.Duration { return cmp.Or(p.LookFor, 5*time.Second) }

func (p *Program) linger() time.Duration { return cmp.Or(p.Linger, 500*time.Millisecond) }

func (p *Program) tail() time.Duration { return cmp.Or(p.Tail, 500*time.Millisecond) }

func (p *Program) followWait() time.Duration { return cmp.Or(p.FollowWait, protocol.FollowWait) }

func (p *Program) again() time.Duration { return cmp.Or(p.Again, time.Second) }

// A Command is a row of the table of commands.
type Command struct {
	Words string // what is typed, such as "device add"
	Args  string // … behind it
	About string // one line
	More  string // what else help says about it, with examples
	Min   int    // number of arguments
	Max   int
	Flags func(*flag.FlagSet)
	Local bool                     // needs no studio, and so no profile
	Hints map[protocol.Code]string // the way out of an error that the studio answers; see expand
	Fail  int                      // exit code of its errors, where it is another than that of all commands
	Run   func(ctx context.Context, c *Call) error
}

// A Call is one command being run.
type Call struct {
	*Program
	Args []string
	JSON bool // the output is for a program

	profile string
	session Session
}

// A UsageError is a command line that cannot be understood.
type UsageError struct{ Text string }

func (e *UsageError) Error() string { return e.Text }

func usage(format string, args ...any) error { return &UsageError{fmt.Sprintf(format, args...)} }

// Run runs the command that args name.
func (p *Program) Run(ctx context.Context, args []string) error {
	if len(args) == 0 || args[0] == "help" || isHelp(args[0]) {
		return p.help(args)
	}
	cmd, rest, err := p.find(args)
	if err != nil {
		return err
	}
	c := &Call{Program: p}
	err = c.parse(cmd, rest)
	if errors.Is(err, flag.ErrHelp) {
		return p.explain(cmd)
	}
	if err != nil {
		return err
	}
	defer c.close()
	return cmd.exit(explainError(c, cmd, cmd.Run(ctx, c)))
}

// exit gives the command's exit code to an error that has none.
func (cmd Command) exit(err error) error {
	var exit *ExitError
	var usage *UsageError
	if err == nil || cmd.Fail == 0 || errors.As(err, &exit) || errors.As(err, &usage) || errors.Is(err, context.Canceled) {
		return err
	}
	return &ExitError{cmd.Fail, err}
}

// find takes the command's words off args.
func (p *Program) find(args []string) (Command, []string, error) {
	var group []string
	for _, cmd := range p.commands() {
		words := strings.Fields(cmd.Words)
		if words[0] != args[0] {
			continue
		}
		if len(words) == 1 {
			return cmd, args[1:], nil
		}
		if len(args) > 1 && words[1] == args[1] {
			return cmd, args[2:], nil
		}
		group = append(group, cmd.Words)
	}
	switch {
	case group == nil:
		return Command{}, nil, usage("there is no command %q: see %q", args[0], p.Name+" help")
	case len(args) > 1 && isHelp(args[1]):
		return Command{Words: args[0]}, nil, p.helpGroup(args[0])
	}
	return Command{}, nil, usage("%q is not whole: say one of %s", strings.Join(args[:min(len(args), 2)], " "), strings.Join(group, ", "))
}

// parse reads the flags, which may stand anywhere, and counts the arguments.
func (c *Call) parse(cmd Command, args []string) error {
	set := c.flags(cmd)
	for {
		if err := set.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return err
			}
			return usage("%s: %v (see %q)", cmd.Words, err, c.Name+" help "+cmd.Words)
		}
		parsed := len(args) - set.NArg()
		if set.NArg() == 0 {
			break
		}
		if parsed > 0 && args[parsed-1] == "--" {
			c.Args = append(c.Args, set.Args()...)
			break
		}
		c.Args = append(c.Args, set.Arg(0))
		args = set.Args()[1:]
	}
	if len(c.Args) < cmd.Min || len(c.Args) > cmd.Max {
		return usage("it is: %s", strings.TrimSpace(c.Name+" "+cmd.Words+" "+cmd.Args))
	}
	return nil
}

// flags are those of the command and those that every command has.
func (c *Call) flags(cmd Command) *flag.FlagSet {
	set := flag.NewFlagSet(cmd.Words, flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	if cmd.Flags != nil {
		cmd.Flags(set)
	}
	set.Func("output", "`FORMAT` of the answer: table (default) or json", func(text string) error {
		if text != "json" && text != "table" {
			return fmt.Errorf("%q is neither table nor json", text)
		}
		c.JSON = text == "json"
		return nil
	})
	if !cmd.Local {
		set.StringVar(&c.profile, "profile", "", "`FILE` that says which studio, and as whom (default: that of the studio on this machine)")
	}
	return set
}

func isHelp(word string) bool { return word == "-h" || word == "-help" || word == "--help" }

// close ends the session that the command may have opened.
func (c *Call) close() {
	if c.session != nil {
		c.session.Close()
	}
}

// studio is the session of this command, opened when it is first needed.
func (c *Call) studio(ctx context.Context) (Session, error) {
	if c.session != nil {
		return c.session, nil
	}
	profile, err := c.readProfile()
	if err != nil {
		return nil, err
	}
	session, err := c.Dial(ctx, profile)
	var dial *DialError
	switch {
	case err == nil:
		c.session = session
		return session, nil
	case errors.As(err, &dial) && dial.Refused:
		return nil, fmt.Errorf("the studio at %s refuses account %s: was the account removed, or is the profile an old one? (%s)", profile.URL, profile.AuthID, dial.Reason)
	case errors.As(err, &dial):
		return nil, fmt.Errorf("no studio answers at %s: start one with %q (%s)", profile.URL, c.Name+" serve", dial.Reason)
	}
	return nil, err
}

// ask calls a procedure of the studio that takes one object and answers one.
func ask[Out any](ctx context.Context, c *Call, procedure string, in any) (out Out, err error) {
	session, err := c.studio(ctx)
	if err != nil {
		return out, err
	}
	var args []any
	if in != nil {
		args = []any{protocol.Wire(in)}
	}
	result, err := session.Call(ctx, procedure, args, nil)
	if err != nil {
		return out, err
	}
	if err := protocol.Decode(protocol.Arg(result.Args, 0), &out); err != nil {
		return out, fmt.Errorf("the answer of the studio cannot be read, it may be of another version: %w", err)
	}
	return out, nil
}

// say tells people something beside the answer.
func (c *Call) say(format string, args ...any) {
	fmt.Fprintf(c.Stderr, format+"\n", args...)
}
