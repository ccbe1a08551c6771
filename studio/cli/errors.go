package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"reagent/messenger"
	"reagent/protocol"
)

// explainError makes of an error what a person can do something with.
func explainError(c *Call, cmd Command, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var answer *messenger.CallError
	switch {
	case errors.As(err, &answer):
		return explainAnswer(c, cmd, answer)
	case errors.Is(err, messenger.ErrOffline):
		return fmt.Errorf("the connection to the studio was lost; what was asked for may have been done: look with %q", c.Name+" states")
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no answer in time; what was asked for may have been done: look with %q", c.Name+" states")
	}
	return err
}

// explainAnswer is for errors that the studio answered.
func explainAnswer(c *Call, cmd Command, answer *messenger.CallError) error {
	if answer.URI == protocol.ErrorNoSuchProcedure {
		return fmt.Errorf("the studio does not know this command: it is older than this program, or its backend does not run")
	}
	text := printable(answer.Text())
	if text == "" {
		text = "the studio answers " + printable(answer.URI)
	}
	if hint := cmd.Hints[codeOf(answer)]; hint != "" {
		text += ": " + expand(hint, c)
	}
	return errors.New(text)
}

// expand puts the arguments of a command into a hint: $1 is the first, $0 the
// program.
func expand(hint string, c *Call) string {
	pairs := []string{"$0", c.Name}
	for i := range 9 {
		arg := ""
		if i < len(c.Args) {
			arg = c.Args[i]
		}
		pairs = append(pairs, fmt.Sprintf("$%d", i+1), arg)
	}
	return strings.NewReplacer(pairs...).Replace(hint)
}
