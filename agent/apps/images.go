package apps

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// hasImages tells whether all images of a version are on the device.
func (w *worker) hasImages(ctx context.Context, m making) (bool, error) {
	refs, err := w.formOf(m.project()).images(m)
	if err != nil {
		return false, err
	}
	missing, err := w.missing(ctx, refs)
	return len(missing) == 0, err
}

// missing are the references that the engine does not have.
func (w *worker) missing(ctx context.Context, refs []string) (missing []string, err error) {
	for _, ref := range refs {
		_, err := w.a.cfg.Engine.Image(ctx, ref)
		switch {
		case errors.Is(err, container.ErrNotFound):
			missing = append(missing, ref)
		case err != nil:
			return nil, fmt.Errorf("look for the image: %w", err)
		}
	}
	return missing, nil
}

// madeImages are the references that a project's version was made from.
func madeImages(made *device.Made) []string {
	if made == nil || made.Compose == nil {
		return nil
	}
	refs, _ := projectImages(made.Compose, false) // of a bad definition nothing was fetched
	for ref, id := range made.Images {
		refs = append(refs, ref, keptImage(id))
	}
	return refs
}

// keptImage is a second name of an image by which an old version is found again
// when the tag that it was made from has moved on.
func keptImage(id string) string {
	_, hex, _ := strings.Cut(id, ":")
	return "reagent-kept:" + hex[:min(len(hex), 32)]
}

// ownTags are the references of a single app's versions that the engine has.
func (w *worker) ownTags(ctx context.Context, j *job) ([]string, error) {
	images, err := w.a.cfg.Engine.Images(ctx)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	prefix := w.a.repository(w.id, j.have.AppName) + ":"
	var tags []string
	for _, image := range images {
		for _, tag := range image.Tags {
			if strings.HasPrefix(tag, prefix) {
				tags = append(tags, tag)
			}
		}
	}
	return tags, nil
}

// removeImages removes every image of the app that no other app needs. One that
// a container still uses, which then is not ours, stays.
func (w *worker) removeImages(ctx context.Context, j *job) error {
	refs, err := w.ownTags(ctx, j)
	if err != nil {
		return err
	}
	refs = append(refs, madeImages(j.have.Made)...)
	refs = append(refs, madeImages(j.have.Previous)...)
	if j.have.Project {
		for _, compose := range []map[string]any{j.req().DockerCompose, j.req().NewDockerCompose} {
			refs = append(refs, madeImages(&device.Made{Compose: compose})...)
		}
	}
	return w.removeUnneeded(ctx, refs, nil)
}

// dropImages removes what no version needs that is kept: the installed one and
// the one before it. older is what the one before that was made from.
func (w *worker) dropImages(ctx context.Context, j *job, older *device.Made) error {
	refs, err := w.ownTags(ctx, j)
	if err != nil {
		return err
	}
	kept := append(madeImages(j.have.Made), madeImages(j.have.Previous)...)
	kept = append(kept, j.have.PreviousImage)
	if !j.have.Project {
		kept = append(kept, w.a.image(j.req(), j.have.Version))
	}
	return w.removeUnneeded(ctx, append(refs, madeImages(older)...), kept)
}

func (w *worker) removeUnneeded(ctx context.Context, refs, kept []string) error {
	needed, err := w.a.neededByOthers(w.id)
	if err != nil {
		return err
	}
	slices.Sort(refs)
	for _, ref := range slices.Compact(refs) {
		if ref == "" || needed[ref] || slices.Contains(kept, ref) || strings.HasPrefix(ref, "sha256:") {
			continue
		}
		if err := w.removeImage(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

// neededByOthers are the references that the compose apps besides this one are
// made from: unlike a single app's they may be anybody's.
func (a *Apps) neededByOthers(id protocol.AppID) (map[string]bool, error) {
	actual, err := a.cfg.Store.AllActual()
	if err != nil {
		return nil, err
	}
	wanted, err := a.cfg.Store.AllWanted()
	if err != nil {
		return nil, err
	}
	needed := map[string]bool{}
	note := func(made *device.Made) {
		for _, ref := range madeImages(made) {
			needed[ref] = true
		}
	}
	for _, app := range actual {
		if app.ID() != id {
			for _, made := range recorded(app) {
				note(made)
			}
		}
	}
	for _, w := range wanted {
		if w.Request.ID() != id && !goes(w.Request) {
			note(&device.Made{Compose: w.Request.DockerCompose})
			note(&device.Made{Compose: w.Request.NewDockerCompose})
		}
	}
	return needed, nil
}

// recorded are the versions that a record tells of.
func recorded(app device.Actual) []*device.Made {
	all := []*device.Made{app.Made, app.Previous}
	if app.Swap != nil {
		all = append(all, app.Swap.Made)
	}
	return all
}
