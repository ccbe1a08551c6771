package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"reagent/protocol"
)

// Labels by which compose marks its containers.
const (
	labelProject = "com.docker.compose.project"
	labelService = "com.docker.compose.service"
)

// containerOf is the name of the container of an app in which something is to be
// run: that of a service where the app has several.
func containerOf(ctx context.Context, c *Call, app protocol.AppOnDeviceRow, service string) (string, error) {
	if app.Kind != protocol.KindCompose {
		if service != "" {
			return "", usage("%s is one container and has no services: leave --service away", printable(app.AppName))
		}
		return app.ContainerName, nil
	}
	running, err := runningServices(ctx, c, app)
	if err != nil {
		return "", err
	}
	var names []string
	for name := range running {
		names = append(names, name)
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return "", fmt.Errorf("%s does not run on %s: see %q", printable(app.AppName), printable(app.DeviceName), c.Name+" states")
	case service == "" && len(names) == 1:
		service = names[0]
	case service == "":
		return "", usage("%s has several services: choose one with --service (%s)", printable(app.AppName), strings.Join(names, ", "))
	}
	container, ok := running[service]
	if !ok {
		return "", fmt.Errorf("no service %q of %s runs on %s: there are %s", service, printable(app.AppName), printable(app.DeviceName), strings.Join(names, ", "))
	}
	return container, nil
}

// runningServices are the containers of a compose app that run, by service; of a
// service with several the first.
func runningServices(ctx context.Context, c *Call, app protocol.AppOnDeviceRow) (map[string]string, error) {
	list, err := askDevice[[]struct {
		Names  []string
		Labels map[string]string
		State  string
	}](ctx, c, device{app.SerialNumber, printable(app.DeviceName)}, protocol.ListContainers, map[string]any{})
	if err != nil {
		return nil, err
	}
	// Compose takes no dots in the name of a project.
	project, found := strings.ReplaceAll(protocol.ComposeProject(app.Stage, app.AppKey, app.AppName), ".", ""), map[string]string{}
	for _, one := range list {
		service := printable(one.Labels[labelService])
		if one.Labels[labelProject] != project || one.State != "running" || service == "" || len(one.Names) == 0 {
			continue
		}
		container := strings.TrimPrefix(one.Names[0], "/")
		if before, there := found[service]; !there || container < before {
			found[service] = container
		}
	}
	return found, nil
}
