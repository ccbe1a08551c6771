//go:build linux

package testenv

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"
)

func TestEngineIsLeftAsItWas(t *testing.T) {
	outer := Docker(t)
	marks := []string{}
	t.Run("a test", func(t *testing.T) {
		e := Docker(t)
		serial := e.Prefix + "-serial"
		e.Owns(serial)
		marks = append(marks, e.Prefix)
		first := BuildImage(t, e, e.Prefix+"/app:1", App{Version: "1"})
		if second := BuildImage(t, e, e.Prefix+"/app:1", App{Version: "2"}); second == first {
			t.Errorf("both versions are %s", first)
		}
		if err := e.API.ImageTag(t.Context(), first, "somebody/else:1"); err != nil { // still its image
			t.Fatal(err)
		}
		created, err := e.API.ContainerCreate(t.Context(),
			&container.Config{Image: first, Labels: map[string]string{"serial": serial}}, nil, nil, nil, "")
		if err != nil {
			t.Fatal(err)
		}
		if err := e.API.ContainerStart(t.Context(), created.ID, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if id := e.WaitRunning(created.ID); id != created.ID {
			t.Errorf("running = %s, want %s", id, created.ID)
		}
		marks = append(marks, created.ID, first)
	})
	containers, err := outer.API.ContainerList(t.Context(), container.ListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	images, err := outer.API.ImageList(t.Context(), image.ListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range containers {
		if slices.Contains(marks, c.ID) {
			t.Errorf("container %v is left", c.Names)
		}
	}
	for _, i := range images {
		if slices.Contains(marks, i.ID) || strings.Contains(i.Labels["testenv"], marks[0]) {
			t.Errorf("image %v is left", i.RepoTags)
		}
	}
}

func TestPrivateEngineLeavesNothing(t *testing.T) {
	var dir, bridge string
	t.Run("a test", func(t *testing.T) {
		e := NewPrivateEngine(t)
		dir, bridge = e.Dir, e.bridge
		ref := e.Prefix + "/app:1"
		BuildImage(t, e.Engine, ref, App{})
		created, err := e.API.ContainerCreate(t.Context(), &container.Config{Image: ref}, nil, nil, nil, "left-behind")
		if err != nil {
			t.Fatal(err)
		}
		if err := e.API.ContainerStart(t.Context(), created.ID, container.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		e.Kill() // the container runs on, without its engine
	})
	if t.Failed() || dir == "" {
		return
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("%s is left: %v", dir, err)
	}
	if _, err := os.Stat("/sys/class/net/" + bridge); !os.IsNotExist(err) {
		t.Errorf("the bridge is left: %v", err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range entries {
		if command, err := os.ReadFile("/proc/" + p.Name() + "/cmdline"); err == nil && strings.Contains(string(command), dir) {
			t.Errorf("process %s is left: %q", p.Name(), command)
		}
	}
}
