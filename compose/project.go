package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"
	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/flags"
	"github.com/docker/compose/v5/pkg/api"
	"github.com/docker/compose/v5/pkg/compose"
	"github.com/sirupsen/logrus"
)

// perform does what was ordered. Stopping and taking down go by the labels of what
// is there; they need no definition.
func perform(ctx context.Context, o order, out io.Writer) error {
	api.ComposeVersion = composeVersion() // a label of what it makes
	docker, err := command.NewDockerCli(command.WithBaseContext(ctx), command.WithCombinedStreams(out))
	if err != nil {
		return err
	}
	if err := docker.Initialize(flags.NewClientOptions()); err != nil {
		return err
	}
	logrus.SetOutput(out)
	logrus.SetFormatter(plainLog{})
	options := []compose.Option{
		compose.WithEventProcessor(printer{out}), compose.WithPrompt(compose.AlwaysOkPrompt()),
	}
	var engine command.Cli = docker
	if o.verb == "build" {
		// One after another: their output stays readable, and the device usable.
		options = append(options, compose.WithMaxConcurrency(1))
		kit, err := docker.BuildKitEnabled()
		if err != nil {
			return err
		}
		if kit {
			engine = withBuildKit{docker, out}
		}
	}
	service, err := compose.NewComposeService(engine, options...)
	if err != nil {
		return err
	}
	switch o.verb {
	case "stop":
		return stop(ctx, service, o)
	case "down":
		return service.Down(ctx, o.project, api.DownOptions{RemoveOrphans: true, Volumes: o.volumes})
	}
	project, err := service.LoadProject(ctx, api.ProjectLoadOptions{
		ProjectName: o.project, WorkingDir: o.dir, ConfigPaths: []string{o.file},
		Offline: true, // nothing of a definition is fetched from elsewhere
	})
	if err != nil {
		return err
	}
	switch o.verb {
	case "up":
		return up(ctx, service, project)
	case "build":
		return service.Build(ctx, project, api.BuildOptions{Progress: "plain", Services: project.ServiceNames()})
	}
	return nil // check: it could be loaded
}

// up is "docker compose up --detach --remove-orphans --no-build --pull never".
func up(ctx context.Context, service api.Compose, project *types.Project) error {
	for name, s := range project.Services {
		s.PullPolicy = types.PullPolicyNever
		if s.Build != nil && s.Platform != "" {
			s.Build.Platforms = []string{s.Platform}
		}
		project.Services[name] = s
	}
	return service.Up(ctx, project, api.UpOptions{
		Create: api.CreateOptions{
			RemoveOrphans:        true,
			Recreate:             api.RecreateDiverged,
			RecreateDependencies: api.RecreateDiverged,
			Inherit:              true, // anonymous volumes go on to the new container
		},
		Start: api.StartOptions{Project: project},
	})
}

// stop ends the containers, which stay.
func stop(ctx context.Context, service api.Compose, o order) error {
	err := service.Stop(ctx, o.project, api.StopOptions{Timeout: &o.grace})
	if errors.Is(err, api.ErrNoResources) {
		return nil
	}
	return err
}

// plainLog is what compose warns of, as lines; but for what it misses for builds,
// which works without.
type plainLog struct{}

func (plainLog) Format(e *logrus.Entry) ([]byte, error) {
	if strings.Contains(e.Message, "requires buildx plugin") {
		return nil, nil
	}
	return []byte(e.Level.String() + ": " + e.Message + "\n"), nil
}

// A printer writes what happens as lines.
type printer struct{ out io.Writer }

func (p printer) Start(context.Context, string) {}
func (p printer) Done(string, bool)             {}

func (p printer) On(events ...api.Resource) {
	for _, e := range events {
		line := e.ID + " " + e.Text
		if e.Details != "" {
			line += " " + e.Details
		}
		fmt.Fprintln(p.out, line)
	}
}
