package container_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	dockercontainer "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/volume"

	"reagent/container"
	"reagent/internal/testenv"
)

func TestVolumesAreListedAndRemovedByTheirExactName(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	label := map[string]string{"testenv": docker.Prefix}
	for _, name := range []string{docker.Prefix + "-used", docker.Prefix + "-idle"} {
		if _, err := docker.API.VolumeCreate(t.Context(), volume.CreateOptions{Name: name, Labels: label}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = e.RemoveVolume(t.Context(), name) }) // where the test ended early
	}
	made, err := docker.API.ContainerCreate(t.Context(), &dockercontainer.Config{Image: image},
		&dockercontainer.HostConfig{Binds: []string{docker.Prefix + "-used:/data"}}, nil, nil, docker.Prefix+"-user")
	if err != nil {
		t.Fatal(err)
	}

	found, err := e.Volumes(t.Context(), label)
	slices.SortFunc(found, func(a, b container.Volume) int { return strings.Compare(a.Name, b.Name) })
	if err != nil || len(found) != 2 ||
		found[0].Name != docker.Prefix+"-idle" || found[0].InUse || found[1].Name != docker.Prefix+"-used" || !found[1].InUse ||
		found[0].Labels["testenv"] != docker.Prefix {
		t.Errorf("volumes = %+v, %v, want one that is idle and one in use", found, err)
	}
	if err := e.RemoveVolume(t.Context(), docker.Prefix+"-used"); !errors.Is(err, container.ErrInUse) {
		t.Errorf("remove while in use = %v, want ErrInUse", err)
	}
	for _, part := range []string{docker.Prefix, docker.Prefix + "-id", "../x", ""} {
		if err := e.RemoveVolume(t.Context(), part); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("remove %q = %v, want ErrNotFound", part, err)
		}
	}
	if err := e.Remove(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{docker.Prefix + "-used", docker.Prefix + "-idle"} {
		if err := e.RemoveVolume(t.Context(), name); err != nil {
			t.Errorf("remove %s = %v, want nil", name, err)
		}
	}
	if found, err := e.Volumes(t.Context(), label); err != nil || len(found) != 0 {
		t.Errorf("volumes at the end = %+v, %v, want none", found, err)
	}
}
