//go:build linux

package fault

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/release"
	"reagent/test/rig"
)

// releaseProject enters a version of a compose app: a service that stays and a
// job that does its work and ends.
func (s *site) releaseProject(app, version string, web testenv.App) {
	s.t.Helper()
	if _, err := rig.Try[protocol.AppRow](s.Operator, protocol.StudioCreateApp, protocol.CreateApp{Name: app}); err != nil && !strings.Contains(err.Error(), string(protocol.CodeConflict)) {
		s.t.Fatalf("create app %s: %v", app, err)
	}
	login := rig.Ask[protocol.RegistryLogin](s.Operator, protocol.StudioCreateRegistryToken, protocol.AppArgs{App: app})
	repository := protocol.RegistryImage(login.Registry, login.Repository, protocol.Prod, release.Arch(), login.AppKey, login.AppName)
	web.Version = app + version
	for service, image := range map[string]testenv.App{"web": web, "job": {Version: app + "job" + version, Env: []string{"TESTAPP_EXIT=0"}}} {
		rig.Push(s.t, repository+"_"+service+":"+version, login, image)
	}
	rig.Ask[protocol.AppRow](s.Operator, protocol.StudioCreateRelease, protocol.CreateRelease{
		App: app, Version: version, Architectures: []string{release.Arch()},
		Compose: map[string]any{"services": map[string]any{"web": map[string]any{"build": "."}, "job": map[string]any{"build": "job"}}},
	})
}

// runsAsProject waits until a version of a compose app is what there is: its
// service runs, its job has ended well, and nothing else is left.
func (s *site) runsAsProject(app, version, story string) {
	s.t.Helper()
	var row protocol.AppOnDeviceRow
	var seen []string
	testenv.Eventually(s.t, 90*time.Second,
		func() string { return fmt.Sprintf("%s: reported %+v, containers %q", story, row, seen) },
		func() bool {
			row, seen = s.State(app, s.device.Serial), s.containers(app)
			if row.State != protocol.Running || row.Version != version || len(seen) != 2 {
				return false
			}
			return strings.HasSuffix(seen[0], " "+version+" exited") && strings.HasSuffix(seen[1], " "+version+" running")
		})
}

// TestKilledAtEachStepOfAComposeAppItEndsAsWanted is the same for projects: kill
// -9 of the agent while it installs, updates, rolls back and removes one. What
// compose was doing dies with it.
func TestKilledAtEachStepOfAComposeAppItEndsAsWanted(t *testing.T) {
	t.Parallel()
	s := newSite(t, testenv.Docker(t))
	s.device.Flags = append(s.device.Flags, "-composeHelper", testenv.Compose(t).Helper)
	agent := s.start(quick(t))
	good, bad := testenv.App{}, testenv.App{Env: []string{"TESTAPP_EXIT=3", "TESTAPP_AFTER=150ms"}}
	for i, row := range []struct {
		name   string
		always bool
		fresh  bool
		web    testenv.App // of the new version
		at     point
		ends   string
	}{
		{"install, told that it downloads", false, true, good, told(protocol.Downloading), "1.0.0"},
		{"install, first container made", true, true, good, happened(events.ActionCreate, "1.0.0"), "1.0.0"},
		{"install, first container started", false, true, good, happened(events.ActionStart, "1.0.0"), "1.0.0"},
		{"update, told of it", false, false, good, reported(protocol.Updating), "2.0.0"},
		{"update, old container removed", true, false, good, happened(events.ActionDestroy, "1.0.0"), "2.0.0"},
		{"update, new container made", false, false, good, happened(events.ActionCreate, "2.0.0"), "2.0.0"},
		{"update, told that it runs", false, false, good, reported(protocol.Running), "2.0.0"},
		{"roll-back, told that it failed", false, false, bad, reported(protocol.Failed), "1.0.0"},
		{"roll-back, old container made again", true, false, bad, madeAgain, "1.0.0"},
	} {
		if !row.always && !thorough() {
			continue
		}
		t.Log(row.name)
		app := s.app(fmt.Sprintf("project-%d", i))
		s.releaseProject(app, "1.0.0", good)
		version := "1.0.0"
		if !row.fresh {
			s.Deploy(app, s.device.Serial, version, nil)
			s.runsAsProject(app, version, row.name)
			version = "2.0.0"
			s.releaseProject(app, version, row.web)
		}
		s.reach(app, row.at, func() { s.Deploy(app, s.device.Serial, version, nil) })
		agent.Kill()
		agent = s.start(quick(t))
		s.runsAsProject(app, row.ends, row.name)

		s.reach(app, happened(events.ActionDestroy, row.ends), func() { uninstall.give(s, app) })
		agent.Kill()
		agent = s.start(quick(t))
		s.ended(app, uninstall, row.name+", then uninstalled")
	}
}

// madeAgain is the moment at which the old version comes back, after the new one
// had taken its place.
func madeAgain(s *site, ctx context.Context, app string) <-chan struct{} {
	replaced := false
	return s.event(ctx, func(e events.Message) bool {
		if e.Type != events.ContainerEventType || e.Action != events.ActionCreate || e.Actor.Attributes["reagent.app_name"] != app {
			return false
		}
		image := e.Actor.Attributes["image"]
		replaced = replaced || strings.HasSuffix(image, ":2.0.0")
		return replaced && strings.HasSuffix(image, ":1.0.0")
	})
}

// TestKilledInABuildOrAPublicationItEndsAsWanted kills the agent while it does
// what a developer asked for: that is done all the same, once it is back.
func TestKilledInABuildOrAPublicationItEndsAsWanted(t *testing.T) {
	for kind, compose := range map[string]map[string]any{
		"container": nil,
		"project":   {"services": map[string]any{"web": map[string]any{"build": "."}}},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			killedInABuildOrAPublication(t, compose)
		})
	}
}

func killedInABuildOrAPublication(t *testing.T, compose map[string]any) {
	s := newSite(t, testenv.Docker(t))
	s.device.Flags = append(s.device.Flags, "-composeHelper", testenv.Compose(t).Helper)
	agent := s.start(quick(t))
	app := s.app("developed")
	row := rig.Ask[protocol.AppRow](s.Operator, protocol.StudioCreateApp, protocol.CreateApp{Name: app})
	s.engine.Owns(app)
	develop := func(target protocol.State) func() {
		return func() {
			rig.Ask[protocol.Wished](s.Operator, protocol.StudioDevelopApp, protocol.DevelopApp{App: app, Device: s.device.Serial, Target: target, Compose: compose})
		}
	}
	publish := func(version string) func() {
		return func() {
			rig.Ask[protocol.Wished](s.Operator, protocol.StudioPublishApp, protocol.PublishApp{App: app, Device: s.device.Serial, Version: version, Compose: compose})
		}
	}
	for _, step := range []struct {
		name   string
		always bool
		at     point
		give   func()
		ends   protocol.State
	}{
		{"told that it builds", true, told(protocol.Building), develop(protocol.Built), protocol.Present},
		{"told that it is built", false, told(protocol.Built), develop(protocol.Built), protocol.Present},
		{"publication, told that it builds", false, told(protocol.Building), publish("1.0.0"), protocol.Published},
		{"publication, told that it publishes", true, told(protocol.Publishing), publish("1.1.0"), protocol.Published},
		{"told that it starts", false, told(protocol.Starting), develop(protocol.Running), protocol.Running},
	} {
		if !step.always && !thorough() {
			continue
		}
		t.Log(step.name)
		s.upload(row, app)
		s.reach(app, step.at, step.give)
		agent.Kill()
		agent = s.start(quick(t))
		s.wait(app, step.ends, "")
	}
	s.reach(app, told(protocol.Deleting), func() {
		rig.Ask[protocol.Wished](s.Operator, protocol.StudioDevelopApp, protocol.DevelopApp{App: app, Device: s.device.Serial, Target: protocol.Uninstalled})
	})
	agent.Kill()
	s.start(quick(t))
	testenv.Eventually(t, 60*time.Second, func() string { return fmt.Sprintf("gone: %q", s.containers(app)) }, func() bool {
		return len(s.containers(app)) == 0 && s.State(app, s.device.Serial).State.Gone() || s.State(app, s.device.Serial).AppKey == 0
	})
}

// upload sends a folder with a Dockerfile to the device.
func (s *site) upload(app protocol.AppRow, name string) {
	s.t.Helper()
	var archive bytes.Buffer
	packed := gzip.NewWriter(&archive)
	files := tar.NewWriter(packed)
	for _, f := range []struct {
		name    string
		content []byte
	}{
		{"Dockerfile", []byte("FROM scratch\nCOPY testapp /testapp\nENV TESTAPP_SERVE=8080 OF=" + name + "\nENTRYPOINT [\"/testapp\"]\n")},
		{"testapp", testenv.Testapp(s.t)},
	} {
		if err := files.WriteHeader(&tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content))}); err != nil {
			s.t.Fatal(err)
		}
		if _, err := files.Write(f.content); err != nil {
			s.t.Fatal(err)
		}
	}
	if err := files.Close(); err != nil {
		s.t.Fatal(err)
	}
	if err := packed.Close(); err != nil {
		s.t.Fatal(err)
	}
	size := archive.Len()
	chunks := []string{protocol.TransferBegin}
	for part := range slices.Chunk(archive.Bytes(), 256<<10) {
		chunks = append(chunks, hex.EncodeToString(part))
	}
	for _, chunk := range append(chunks, protocol.TransferEnd) {
		args := []any{chunk, name + ".tgz", protocol.ContainerName(protocol.Dev, app.AppKey, name), size, "1"}
		if _, err := s.Call(s.t.Context(), protocol.Procedure(s.device.Serial, protocol.WriteData), args, nil); err != nil {
			s.t.Fatalf("upload: %v", err)
		}
	}
}
