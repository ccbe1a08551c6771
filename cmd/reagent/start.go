package main

import (
	"context"
	"errors"

	"github.com/rs/zerolog"

	"reagent/config"
)

// startAgent runs the agent that this program is about.
func startAgent(context.Context, *config.Config, zerolog.Logger) error {
	return errors.New("this build has no agent")
}
