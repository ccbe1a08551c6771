package testenv

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/volume"
	"github.com/docker/docker/client"
)

// An Engine is a Docker Engine that answers.
type Engine struct {
	Host   string         // "unix:///…"
	Prefix string         // belongs to this test alone: whatever carries it is removed at the end
	API    *client.Client // the engine's own client, to look behind our adapter
	t      testing.TB
}

// Docker gives the engine of this machine. It was there before and stays as it
// is: at the end of the test, exactly those containers and images are removed
// whose names or labels contain the Prefix, or what Owns was told.
func Docker(t testing.TB) *Engine {
	t.Helper()
	host := os.Getenv(client.EnvOverrideHost)
	if host == "" {
		host = client.DefaultDockerHost
	}
	e := connect(t, host)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := e.API.Ping(ctx); err != nil {
		missing(t, "no Docker Engine answers at %s: %v", host, err)
	}
	e.Owns(e.Prefix)
	return e
}

// missing skips a test, or fails it where the engine must be there.
func missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("REAGENT_REQUIRE_DOCKER") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}

func connect(t testing.TB, host string) *Engine {
	t.Helper()
	api, err := client.NewClientWithOpts(client.WithHost(host), client.WithAPIVersionNegotiation())
	if err != nil {
		t.Fatalf("engine %s: %v", host, err)
	}
	t.Cleanup(func() { api.Close() })
	var random [4]byte
	rand.Read(random[:])
	return &Engine{Host: host, Prefix: "rt" + hex.EncodeToString(random[:]), API: api, t: t}
}

// Owns has removed at the end of the test what has mark in its name or in the
// value of a label: all such containers, all such references to images, the
// images with such labels, and such networks and volumes. It must be something that nobody else uses, such as a
// serial number.
func (e *Engine) Owns(mark string) {
	e.t.Helper()
	if len(mark) < 6 {
		e.t.Fatalf("%q is too short to be anybody's own", mark)
	}
	e.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var err error
		for range 5 {
			// An engine cannot list images while another test removes some.
			if err = e.sweep(ctx, mark); err == nil {
				return
			}
		}
		e.t.Errorf("clean up after the test: %v", err)
	})
}

func (e *Engine) sweep(ctx context.Context, mark string) error {
	containers, err := e.API.ContainerList(ctx, container.ListOptions{All: true})
	if err != nil {
		return err
	}
	for _, c := range containers {
		if !containsMark(c.Names, mark) && !containsMark(slices.Collect(maps.Values(c.Labels)), mark) {
			continue
		}
		err := e.API.ContainerRemove(ctx, c.ID, container.RemoveOptions{Force: true, RemoveVolumes: true})
		if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
			return err
		}
	}
	images, err := e.API.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return err
	}
	for _, i := range images {
		tags := slices.DeleteFunc(slices.Clone(i.RepoTags), func(tag string) bool { return !strings.Contains(tag, mark) })
		if containsMark(slices.Collect(maps.Values(i.Labels)), mark) {
			tags = []string{i.ID} // made here: with all its references, or none
		}
		for _, tag := range tags {
			_, err := e.API.ImageRemove(ctx, tag, image.RemoveOptions{Force: true, PruneChildren: true})
			if err != nil && !errdefs.IsNotFound(err) && !errdefs.IsConflict(err) {
				return err
			}
		}
	}
	return e.sweepProjects(ctx, mark)
}

// sweepProjects removes what compose makes beside containers.
func (e *Engine) sweepProjects(ctx context.Context, mark string) error {
	networks, err := e.API.NetworkList(ctx, network.ListOptions{})
	if err != nil {
		return err
	}
	for _, n := range networks {
		if !strings.Contains(n.Name, mark) {
			continue
		}
		if err := e.API.NetworkRemove(ctx, n.ID); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	volumes, err := e.API.VolumeList(ctx, volume.ListOptions{})
	if err != nil {
		return err
	}
	for _, v := range volumes.Volumes {
		if !strings.Contains(v.Name, mark) {
			continue
		}
		if err := e.API.VolumeRemove(ctx, v.Name, true); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	return nil
}

func containsMark(words []string, mark string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(w, mark) })
}

// WaitRunning waits until the container of this name runs, and returns its id.
func (e *Engine) WaitRunning(name string) (id string) {
	e.t.Helper()
	WaitFor(e.t, "container "+name+" runs", func() bool {
		c, err := e.API.ContainerInspect(e.t.Context(), name)
		if err != nil || c.State == nil || !c.State.Running {
			return false
		}
		id = c.ID
		return true
	})
	return id
}

// WaitGone waits until there is no container of this name.
func (e *Engine) WaitGone(name string) {
	e.t.Helper()
	WaitFor(e.t, "container "+name+" is gone", func() bool {
		_, err := e.API.ContainerInspect(e.t.Context(), name)
		return errdefs.IsNotFound(err)
	})
}

// WaitFor polls until a condition holds, for at most a minute. It is for
// what cannot tell by itself: other processes, files. Where there is a channel,
// wait on that.
func WaitFor(t testing.TB, what string, holds func() bool) {
	t.Helper()
	Eventually(t, time.Minute, func() string { return what }, holds)
}
