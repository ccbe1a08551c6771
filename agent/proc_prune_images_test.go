//go:build linux

package agent

import (
	"context"
	"slices"
	"strings"
	"testing"

	dockerimage "github.com/docker/docker/api/types/image"

	"reagent/agent/disk"
	"reagent/container"
	"reagent/internal/testenv"
)

const ours = "127.0.0.1:8020/apps/"

func TestPruneLeavesForeignImagesAndWhatAppsNeed(t *testing.T) {
	private := testenv.NewPrivateEngine(t)
	engine, err := container.New(container.Config{Host: private.Host})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	refs := []string{
		"foreign:1",
		ours + "prod_amd64_6_web:1", ours + "prod_amd64_6_web:2", ours + "prod_amd64_6_web:3",
		ours + "prod_amd64_7_old:1", ours + "prod_amd64_8_parked:1",
	}
	for _, ref := range refs {
		testenv.BuildImage(t, private.Engine, ref, testenv.App{Version: ref})
	}
	// A container that does not run needs its image, too.
	if _, _, err := engine.Create(t.Context(), container.Spec{Name: "parked", Image: ours + "prod_amd64_8_parked:1"}); err != nil {
		t.Fatal(err)
	}
	// A dangling image: its name went to another.
	testenv.BuildImage(t, private.Engine, "moving:1", testenv.App{Version: "before"})
	testenv.BuildImage(t, private.Engine, "moving:1", testenv.App{Version: "after"})

	h := pruneImages(disk.Pruner{
		Images: engine,
		InUse: func(context.Context) (repositories, references []string, err error) {
			return []string{ours + "prod_amd64_6_web"}, []string{ours + "prod_amd64_6_web:3", ours + "prod_amd64_6_web:2"}, nil
		},
		Ours: func() string { return ours },
	})
	left := func() (tags []string, dangling int) {
		images, err := private.API.ImageList(t.Context(), dockerimage.ListOptions{})
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range images {
			if len(i.RepoTags) == 0 || i.RepoTags[0] == "<none>:<none>" {
				dangling++
				continue
			}
			tags = append(tags, i.RepoTags...)
		}
		slices.Sort(tags)
		return tags, dangling
	}

	r, err := h(t.Context(), Call{Args: []any{map[string]any{}}})
	if err != nil || len(r.Args) != 0 || len(r.Kwargs) != 0 {
		t.Errorf("answer %+v, %v; want an empty one", r, err)
	}
	want := []string{ours + "prod_amd64_6_web:1", ours + "prod_amd64_6_web:2", ours + "prod_amd64_6_web:3", ours + "prod_amd64_8_parked:1", "foreign:1", "moving:1"}
	slices.Sort(want)
	if tags, dangling := left(); !slices.Equal(tags, want) || dangling != 0 {
		t.Errorf("left: %q and %d dangling; want %q", tags, dangling, want)
	}

	r, err = h(t.Context(), Call{Args: []any{map[string]any{"all": true}}})
	if err != nil || len(r.Args) != 1 {
		t.Fatalf("answer %+v, %v; want a text", r, err)
	}
	said, _ := r.Args[0].(string)
	if !strings.Contains(said, "untagged: "+ours+"prod_amd64_6_web:1\n") || !strings.Contains(said, "\nTotal reclaimed space: ") {
		t.Errorf("answer %q, want Docker's words", said)
	}
	want = slices.DeleteFunc(want, func(ref string) bool { return ref == ours+"prod_amd64_6_web:1" })
	if tags, _ := left(); !slices.Equal(tags, want) {
		t.Errorf("left: %q; want %q", tags, want)
	}

	r, err = h(t.Context(), Call{Args: []any{map[string]any{"all": true}}})
	if err != nil || len(r.Args) != 1 || r.Args[0] != "Total reclaimed space: 0B\n" {
		t.Errorf("second answer %q, %v; want nothing reclaimed", r.Args, err)
	}
}
