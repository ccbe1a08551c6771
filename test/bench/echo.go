package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"reagent/protocol"
	studio "reagent/studio/router"
)

const (
	echoProcedure = "bench.echo"
	echoAuthID    = "echo"
)

// startEcho builds the floor of calls like the agent and runs it until the stage
// ends. It returns the number of the process.
func (l *lab) startEcho(t *stage) (pid int) {
	binary := filepath.Join(t.TempDir(), "echo")
	if err := build(t, binary, "reagent/test/bench/echo"); err != nil {
		t.Fatal(err)
	}
	who := studio.Principal{Role: protocol.RoleSystem, Secret: random(24)}
	l.router.guests.add(echoAuthID, who)
	cmd := exec.Command(binary, l.router.addr, echoAuthID, echoProcedure)
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
	fmt.Fprintln(leash, who.Secret)
	if _, err := bufio.NewReader(said).ReadString('\n'); err != nil {
		t.Fatalf("the echo did not come up: %v", err)
	}
	return cmd.Process.Pid
}
