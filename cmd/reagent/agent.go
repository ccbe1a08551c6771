package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"

	"github.com/rs/zerolog"

	"reagent/config"
	"reagent/release"
)

// agent is the program without a command.
func (p *program) agent(ctx context.Context, args []string) error {
	cfg, err := config.Load(args, p.getenv)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return p.help(nil)
	case errors.Is(err, config.ErrVersion):
		return p.version(nil)
	case errors.Is(err, config.ErrArch):
		_, err := fmt.Fprintln(p.stdout, release.Arch())
		return err
	case err != nil:
		return err
	}
	// The lock comes before the log: the file belongs to the agent that runs.
	locks, err := cfg.Lock()
	if err != nil {
		return err
	}
	defer locks.Close()
	log, done := newLog(cfg.Log, p.stderr)
	defer done()

	announce(cfg, log)
	err = p.start(ctx, cfg, log)
	if err != nil && !errors.Is(err, context.Canceled) {
		log.Error().Err(err).Msg("agent failed")
		return err
	}
	log.Info().Msg("agent ends as asked")
	return nil
}

// announce logs who starts here and where its state lives.
func announce(cfg *config.Config, log zerolog.Logger) {
	id := cfg.DeviceFile.Identity()
	log.Info().
		Str("version", release.Version).Str("os", runtime.GOOS).Str("arch", release.Arch()).
		Str("device", id.SerialNumber).Str("authid", id.AuthID()).Str("device_file", cfg.DeviceFile.Path()).
		Str("agent_dir", cfg.AgentDir).Str("apps_dir", cfg.AppsDir).Str("database", cfg.Database).Str("log_file", cfg.Log.File).
		Msg("agent starts")
	for _, w := range cfg.Warnings {
		log.Warn().Msg(w)
	}
}
