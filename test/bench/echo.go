package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"
)

// The floor of calls: what a bare client of the WAMP library takes to answer a
// procedure with its own arguments. It is a process of its own like the agent,
// for a change of processes is part of what a call costs.
const (
	echoVariable  = "REAGENT_BENCH_ECHO" // set to the router's address, this program is the echo
	echoProcedure = "bench.echo"
	echoAuthID    = "echo"
)

// startEcho runs the echo until the stage ends.
func (l *lab) startEcho(t *stage) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	secret := random(24)
	l.router.keys.set(echoAuthID, secret)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), echoVariable+"="+l.router.addr)
	cmd.Stderr = os.Stderr
	leash, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	said, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("start the echo: %v", err)
	}
	t.Cleanup(func() {
		_ = leash.Close() // it ends with its input
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		_ = cmd.Wait()
	})
	fmt.Fprintln(leash, secret)
	if _, err := bufio.NewReader(said).ReadString('\n'); err != nil {
		t.Fatalf("the echo did not come up: %v", err)
	}
}

// echo is the other process: it answers until in ends, and has its secret from
// there, too.
func echo(addr string, in io.Reader) error {
	lines := bufio.NewReader(in)
	secret, err := lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("read the secret: %w", err)
	}
	session, err := join(context.Background(), addr, echoAuthID, strings.TrimSpace(secret))
	if err != nil {
		return err
	}
	defer session.Close()
	err = session.Register(echoProcedure, func(_ context.Context, inv *wamp.Invocation) client.InvokeResult {
		return client.InvokeResult{Args: inv.Arguments, Kwargs: inv.ArgumentsKw}
	}, nil)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, lines)
	return nil
}
