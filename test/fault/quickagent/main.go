// Quickagent is the agent as cmd/reagent runs it, with shorter waits (design
// S16), so that tests of faults need not sit through probations and back-offs.
// It takes the same flags and ends with the same codes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/rs/zerolog"

	"reagent/agent"
	"reagent/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "quickagent: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	cfg, err := config.Load(args, os.Getenv)
	if err != nil {
		return err
	}
	locks, err := cfg.Lock()
	if err != nil {
		return err
	}
	defer locks.Close()
	file, err := os.OpenFile(cfg.Log.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	a, err := agent.New(cfg, quick(), zerolog.New(file).With().Timestamp().Logger())
	if err != nil {
		return err
	}
	return a.Run(ctx)
}

// quick are the product's waits, shortened where a test would sit through them.
func quick() agent.Timing {
	t := agent.Product()
	t.GoodAfter = 10 * time.Millisecond // each loss begins with a fresh back-off
	t.EngineWait = time.Second
	t.MinRestart = 50 * time.Millisecond
	t.Status = 20 * time.Millisecond
	t.Apps.Probation = 500 * time.Millisecond
	t.Apps.EmptyList = 2 * time.Second
	t.Apps.Look = 2 * time.Second
	t.Apps.EngineRetry = 200 * time.Millisecond
	t.Apps.ReportRetry = 100 * time.Millisecond
	t.Apps.Crash.Step = 300 * time.Millisecond
	t.Apps.Room = 5 * time.Second
	t.DiskWaits.Look = time.Second
	t.DiskWaits.Critical = 200 * time.Millisecond
	t.DiskWaits.Refused = 200 * time.Millisecond
	t.DiskWaits.Reclaim = 5 * time.Second
	return t
}
