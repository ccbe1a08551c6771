package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"reagent/agent/apps"
	"reagent/agent/audit"
	"reagent/agent/commands"
	"reagent/agent/disk"
	"reagent/agent/logs"
	"reagent/agent/ownlog"
	"reagent/agent/telemetry"
	"reagent/agent/terminal"
	"reagent/config"
	"reagent/container"
	"reagent/messenger"
	"reagent/persistence/device"
	"reagent/persistence/journal"
	"reagent/protocol"
	"reagent/release"
	"reagent/system"
)

// wire makes every part and shows them to each other. It is the one place where
// features meet.
func wire(cfg *config.Config, timing Timing, store *device.Store, log zerolog.Logger) (*Agent, error) {
	file, learnt, host := cfg.DeviceFile, &learnt{}, system.New()
	engine, err := container.New(container.Config{Host: cfg.DockerHost, Log: log})
	if err != nil {
		return nil, fmt.Errorf("container engine: %w", err)
	}
	compose := container.NewCompose(container.ComposeConfig{
		DockerHost: cfg.DockerHost, Helper: cfg.ComposeHelper, Temp: filepath.Join(cfg.AgentDir, "compose"), Log: log,
	})
	var (
		view   engineView
		guard  *disk.Guard
		status = &statusFile{
			path: cfg.StatusFile(), write: config.WriteStatus, log: log, pause: timing.Status,
			fixed:   fixedStatus(file.Identity()),
			apps:    store.AllActual,
			engine:  view.status,
			compose: compose.Program,
			disks:   func() []protocol.DiskStatus { return guard.Status() },
			link:    messenger.Status{State: messenger.Connecting},
			wake:    make(chan struct{}, 1),
		}
	)
	session, err := messenger.New(linkConfig(cfg, timing, status.linkChanged, log))
	if err != nil {
		return nil, fmt.Errorf("router: %w", err)
	}
	var (
		studio  = backend{session}
		serial  = file.Identity().SerialNumber
		printed = journal.Open(journal.Config{Dir: filepath.Join(cfg.State(), "logs"), MaxBytes: cfg.AppLogSize, Carry: logs.Carry, Log: log})
		appLogs = logs.New(logs.Config{Serial: serial, Session: session, Engine: container.AppLogs{Engine: engine}, Journal: printed, Installed: installed(store, log), Log: log})
	)
	// What the guard tells is told after everybody is there: it looks first when
	// it runs.
	var (
		all         *apps.Apps
		beats       *telemetry.Reporter
		superfluous = disk.Pruner{
			Images: engine,
			InUse:  func(ctx context.Context) ([]string, []string, error) { return all.ImagesInUse(ctx) },
			Ours: func() string {
				id := file.Identity()
				return strings.ToLower(id.RegistryURL + id.MainRepository)
			},
		}
	)
	guard = guardDisk(cfg, timing, engine, store, studio, guarded{
		images: superfluous,
		labels: func() map[string]string { return all.Labels() },
		changed: func() {
			all.RoomChanged()
			beats.Changed()
			status.poke()
		},
	}, log)
	all, err = apps.New(apps.Config{
		AppsDir: cfg.AppsDir, Arch: release.Arch(), Privileged: cfg.Policy.PrivilegedApps,
		ArchiveExtension: cfg.BuildExtension, MaxPulls: cfg.MaxPulls,
		Facts:     func() apps.Facts { return facts(file, learnt, host.Boot()) },
		LANIP:     host.PrimaryLANIP,
		GPU:       host.GPU,
		HostPaths: host.SharedPaths,
		Store:     store, Engine: engine, Compose: compose, Studio: studio, AppLog: appLogs, Disk: guard,
		Log: log, Waits: timing.Apps, Changed: status.poke,
	})
	if err != nil {
		return nil, err
	}
	view = engineView{ready: all.Ready, ping: engine.Ping}
	trail := audit.New(audit.Config{
		Journal: journal.Open(journal.Config{
			Dir: filepath.Join(cfg.State(), "audit"), MaxBytes: 4 << 20, SegmentBytes: 128 << 10, Log: log,
		}),
		Log: log,
	})
	runner := commands.New(commands.Config{
		Dir: filepath.Join(cfg.State(), "commands"), Allowed: cfg.Policy.Commands, Serial: serial,
		Engine: engine, Owns: all.Owns, Canceled: byItsCaller, Publish: session.Publish, Log: log,
	})
	deviceKeys := func() (swarm, device uint64) { id := file.Identity(); return id.SwarmKey, id.DeviceKey }
	admitted := &dispatcher{serial: serial, log: log, device: deviceKeys, may: studio.may, audit: trail}
	shells := terminal.New(terminal.Config{
		Serial: serial, Link: session, Engine: engine, Owns: all.Owns, Offer: offerResize(session, admitted), Allowed: mayHave(admitted), Notify: noteShells(trail),
		DeviceShell: cfg.Policy.Terminals, User: cfg.Policy.TerminalUser, Limits: timing.Terminals, Log: log,
	})
	probe := declare(session, admitted, procedures(deps{
		serial: serial,
		about: about{
			version: release.Version, arch: baseArch(), variant: release.Variant(), serial: serial, os: host.OS,
		},
		apps: all, uploads: all, ports: all, containers: engine, images: engine, prune: superfluous, past: appLogs, machine: host, addresses: host,
		audit: trail, appLogs: appLogs, follow: appLogs, ownLog: ownlog.New(ownlog.Config{Path: cfg.Log.File}), terminals: shells,
		commands: runner, programs: runner,
	}))
	beats = telemetry.New(telemetry.Config{
		Device:    deviceKeys,
		Machine:   host,
		Emergency: func() bool { return guard.Critical() != nil },
		BaseURL: func(u string) {
			if learnt.setBaseURL(u) {
				all.Refresh()
			}
		},
		Log: log,
	})
	greet := &greeting{
		log: log, studio: studio, file: file, learnt: learnt, apps: all, logs: appLogs, shells: shells, probe: probe, status: beats,
		machine:    func() protocol.DeviceArchitecture { return architecture(host) },
		engineWait: timing.EngineWait, callLimit: timing.CallLimit,
		stays: make(chan stay, 1),
	}
	session.DeclareTopic(protocol.SubscriptionOnCreate, "", func(_ context.Context, e messenger.Event) { appLogs.Created(e.Args) })
	session.DeclareTopic(protocol.SubscriptionOnDelete, "", func(_ context.Context, e messenger.Event) { appLogs.Deleted(e.Args) })

	a := &Agent{
		log: log, store: store, engine: engine, files: []io.Closer{printed},
		supervisor: supervisor{log: log, min: timing.MinRestart, max: timing.MaxRestart},
		parts: []part{
			{"disk guard", guard.Run},
			{"host upkeep", boundHost(managesHost(cfg), log)},
			{"apps", afterFirstLook(guard, timing.FirstLook, all.Run)},
			{"logs", appLogs.Run},
			{"log files", printed.Run},
			{"audit", trail.Run},
			{"terminals", shells.Run},
			{"commands", runner.Run},
			{"status file", status.run},
			{"memory", trimmer{first: timing.Trim, every: 20 * timing.Trim}.run},
		},
	}
	if cfg.Offline {
		status.linkChanged(messenger.Status{State: disabled, Since: time.Now(), Reason: "it was started with -offline"})
	} else {
		a.parts = append(a.parts,
			part{"session", func(ctx context.Context) error { return session.Run(ctx, greet.run) }},
			part{"connection", greet.keep},
		)
	}
	return a, nil
}

// installed tells whether an app is on this device, or about to be, by the name
// of its log.
func installed(store *device.Store, log zerolog.Logger) func(cn string) bool {
	return func(cn string) bool {
		stage, key, _, ok := protocol.ParseContainerName(cn)
		if !ok {
			return false
		}
		id := protocol.AppID{Key: key, Stage: stage}
		names := func(app string) bool {
			return cn == protocol.ContainerName(stage, key, app) || stage == protocol.Dev && cn == protocol.PublishLogName(key, app)
		}
		have, there, err := store.Actual(id)
		wish, wished, err2 := store.Wanted(id)
		if err := errors.Join(err, err2); err != nil {
			log.Error().Err(err).Str("container", cn).Msg("nobody knows whether an app is installed")
			return true
		}
		return there && !have.State.Gone() && names(have.AppName) ||
			wished && !wish.Request.Target.Settled().Gone() && names(wish.Request.AppName)
	}
}

func linkConfig(cfg *config.Config, timing Timing, changed func(messenger.Status), log zerolog.Logger) messenger.Config {
	file := cfg.DeviceFile
	return messenger.Config{
		URL: file.Identity().EndpointURL, Realm: protocol.RealmDevices, TLS: cfg.Link.TLS,
		Identity:        func() (authid, secret string) { id := file.Identity(); return id.AuthID(), id.Secret },
		PingInterval:    cfg.Link.PingInterval,
		ConnectTimeout:  cfg.Link.ConnectTimeout,
		ResponseTimeout: cfg.Link.ResponseTimeout,
		GoodAfter:       timing.GoodAfter,
		Debug:           cfg.Log.Messages,
		Changed:         changed,
		Log:             log,
	}
}

// disabled is the state of a connection that is not wanted.
const disabled messenger.State = "disabled"

func fixedStatus(id config.Identity) protocol.AgentStatus {
	return protocol.AgentStatus{
		Version: release.Version, PID: os.Getpid(), Started: time.Now().UTC(),
		Name: id.Name, Serial: id.SerialNumber,
	}
}

func architecture(host *system.Host) protocol.DeviceArchitecture {
	return protocol.DeviceArchitecture{
		Architecture: release.Arch(), OS: host.OS(), Arch: baseArch(),
		Variant: release.Variant(), AgentVersion: release.Version,
	}
}

// baseArch is the architecture without its variant.
func baseArch() string { return strings.TrimSuffix(release.Arch(), release.Variant()) }
