package disk

import (
	"slices"
	"testing"

	"reagent/container"
)

const ours = "127.0.0.1:8020/apps/"

func TestOnlyUnneededTagsOfOurAppsAreSuperfluous(t *testing.T) {
	n := needs{
		prefix:       ours,
		repositories: []string{ours + "prod_amd64_6_web"},
		references:   []string{ours + "prod_amd64_6_web:2", ours + "prod_amd64_6_web:1"},
		running:      []string{"sha256:running"},
	}
	for _, c := range []struct {
		claim string
		image container.Image
		some  []string // go
		all   []string // go with all
	}{
		{"the installed version stays", container.Image{ID: "a", Tags: []string{ours + "prod_amd64_6_web:2"}}, nil, nil},
		{"the one for a roll-back stays", container.Image{ID: "b", Tags: []string{ours + "prod_amd64_6_web:1"}}, nil, nil},
		{"another version goes when all is asked for", container.Image{ID: "c", Tags: []string{ours + "prod_amd64_6_web:0.9"}}, nil, []string{ours + "prod_amd64_6_web:0.9"}},
		{"an app that is not installed goes", container.Image{ID: "d", Tags: []string{ours + "prod_amd64_7_old:1"}}, []string{ours + "prod_amd64_7_old:1"}, []string{ours + "prod_amd64_7_old:1"}},
		{"so does a service's of an installed app", container.Image{ID: "s", Tags: []string{ours + "prod_amd64_6_web_db:0.9"}}, nil, []string{ours + "prod_amd64_6_web_db:0.9"}},
		{"a name that only begins alike is another app", container.Image{ID: "e", Tags: []string{ours + "prod_amd64_6_web2:1"}}, []string{ours + "prod_amd64_6_web2:1"}, []string{ours + "prod_amd64_6_web2:1"}},
		{"an image in use stays", container.Image{ID: "sha256:running", Tags: []string{ours + "prod_amd64_7_old:2"}}, nil, nil},
		{"nobody else's goes", container.Image{ID: "f", Tags: []string{"postgres:16", "registry.example/apps/prod_amd64_7_old:1", "prod_amd64_7_old:1"}}, nil, nil},
		{"what is not of our form stays", container.Image{ID: "g", Tags: []string{ours + "base:1", ours + "prod_amd64_x_old:1", ours + "x/prod_amd64_7_old:1"}}, nil, nil},
		{"only our tag of a shared image goes", container.Image{ID: "h", Tags: []string{"mine:1", ours + "prod_amd64_7_old:1"}}, []string{ours + "prod_amd64_7_old:1"}, []string{ours + "prod_amd64_7_old:1"}},
		{"no tags, no reason", container.Image{ID: "i"}, nil, nil},
	} {
		for _, all := range []bool{false, true} {
			n.all = all
			want := c.some
			if all {
				want = c.all
			}
			if got := n.superfluous(c.image); !slices.Equal(got, want) {
				t.Errorf("%s (all %v): %q go, want %q", c.claim, all, got, want)
			}
		}
	}
	n.prefix, n.all = "", true // no registry is configured
	if got := n.superfluous(container.Image{ID: "d", Tags: []string{"prod_amd64_7_old:1"}}); got != nil {
		t.Errorf("without a registry %q go, want none", got)
	}
}
