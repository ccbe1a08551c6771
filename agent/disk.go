package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/rs/zerolog"

	"reagent/agent/disk"
	"reagent/config"
	"reagent/container"
	"reagent/persistence/device"
	"reagent/system"
)

// defaultRoot is where an engine keeps its data that did not say so yet.
const defaultRoot = "/var/lib/docker"

// dataRoot finds the engine's folder on this machine; "" where it is not here.
func dataRoot(engine *container.Engine) func(context.Context) (string, error) {
	return func(ctx context.Context) (string, error) {
		if !engine.Local() || runtime.GOOS != "linux" {
			return "", nil // elsewhere engines live in a machine of their own
		}
		info, err := engine.Ping(ctx)
		root := cmp.Or(info.DataRoot, defaultRoot)
		if _, statErr := os.Stat(root); statErr != nil {
			return "", errors.Join(err, fmt.Errorf("the engine's folder is not on this machine: %w", statErr))
		}
		return root, err
	}
}

// guarded is what a guard has to do with the apps: their images, the labels of
// their containers, and whom it tells.
type guarded struct {
	images  disk.Pruner
	labels  func() map[string]string
	changed func()
}

// guardDisk makes the guard of this device's disks. Nothing is asked of the
// engine, the apps or the studio before it runs.
func guardDisk(cfg *config.Config, timing Timing, engine *container.Engine, store *device.Store, studio backend, of guarded, log zerolog.Logger) *disk.Guard {
	return disk.New(disk.Config{
		DataRoot: dataRoot(engine),
		Folders:  []string{cfg.AppsDir, filepath.Dir(cfg.Database)},
		Steps: disk.Steps(disk.Sources{
			Images:     of.images,
			Containers: engine,
			Root:       dataRoot(engine),
			Labels:     of.labels,
			Appliance: func() bool {
				id := cfg.DeviceFile.Identity()
				return (id.ApplianceDomain != "" || id.BoardModel == "appliance") && studio.Online()
			},
			CollectGarbage: func(ctx context.Context) error {
				answer, err := studio.collectGarbage(ctx)
				if err == nil {
					log.Info().Interface("answer", answer).Msg("the registry collected its garbage")
				}
				return err
			},
			Managed: managesHost(cfg),
			Clean:   system.NewUpkeep().Clean,
		}),
		Reserve: store.Reserve,
		Changed: of.changed,
		Limits:  timing.Disk,
		Waits:   timing.DiskWaits,
		Log:     log,
	})
}

// managesHost tells whether the device's policy lets the agent look after what is
// the machine's own.
func managesHost(cfg *config.Config) bool { return cfg.Policy.ManageHost && runtime.GOOS == "linux" }

// boundHost bounds the machine's logs once, where the policy says so; what does
// not succeed is not tried again before the next start.
func boundHost(allowed bool, log zerolog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		if allowed {
			limited, cancel := context.WithTimeout(ctx, 2*time.Minute)
			if err := system.NewUpkeep().BoundLogs(limited); err != nil {
				log.Warn().Err(err).Msg("logs of the machine are not bounded")
			}
			cancel()
		}
		<-ctx.Done()
		return ctx.Err()
	}
}

// afterFirstLook runs a part when the guard has looked, so that no app is
// started on a disk that is full already. A guard that does not get to it holds
// nothing up for long.
func afterFirstLook(guard *disk.Guard, limit time.Duration, run func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		late := time.NewTimer(limit)
		defer late.Stop()
		select {
		case <-guard.Ready():
		case <-late.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		return run(ctx)
	}
}
