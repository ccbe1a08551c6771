// Echo is the floor that calls are measured against: a bare client of the WAMP
// library that answers one procedure with its own arguments. It is built and run
// like the agent, as a process of its own, because a change of processes and
// code that is in nobody else's caches are part of what a call costs.
//
// It takes the router's address, an authid and the procedure as arguments and
// its secret as the first line of its input, prints a line when it is up, and
// ends with its input.
package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"
	"github.com/gammazero/nexus/v3/wamp/crsign"

	"reagent/protocol"
)

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "echo:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	if len(args) != 3 {
		return fmt.Errorf("%d arguments, want ADDRESS AUTHID PROCEDURE", len(args))
	}
	address, authid, procedure := args[0], args[1], args[2]
	lines := bufio.NewReader(in)
	secret, err := lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the secret: %w", err)
	}
	secret = strings.TrimSpace(secret)
	session, err := client.ConnectNet(context.Background(), "ws://"+address+"/ws", client.Config{
		Realm:        protocol.RealmDevices,
		HelloDetails: wamp.Dict{"authid": authid},
		AuthHandlers: map[string]client.AuthFunc{
			"wampcra": func(c *wamp.Challenge) (string, wamp.Dict) {
				return crsign.RespondChallenge(secret, c, nil), wamp.Dict{}
			},
		},
	})
	if err != nil {
		return err
	}
	defer session.Close()
	err = session.Register(procedure, func(_ context.Context, inv *wamp.Invocation) client.InvokeResult {
		return client.InvokeResult{Args: inv.Arguments, Kwargs: inv.ArgumentsKw}
	}, nil)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ready")
	_, err = io.Copy(io.Discard, lines)
	return err
}
