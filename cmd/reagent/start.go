package main

import (
	"context"

	"github.com/rs/zerolog"

	"reagent/agent"
	"reagent/config"
)

// startAgent runs the agent that this program is about.
func startAgent(ctx context.Context, cfg *config.Config, log zerolog.Logger) error {
	a, err := agent.New(cfg, agent.Product(), log)
	if err != nil {
		return err
	}
	return a.Run(ctx)
}
