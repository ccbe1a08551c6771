package container

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
	"github.com/docker/go-units"
)

// Images gives all local images.
func (e *Engine) Images(ctx context.Context) ([]Image, error) {
	rows, err := e.images(ctx)
	if err != nil {
		return nil, err
	}
	images := make([]Image, 0, len(rows))
	for _, r := range rows {
		images = append(images, Image{
			ID:      r.ID,
			Tags:    realTags(r.RepoTags),
			Labels:  r.Labels,
			Size:    r.Size,
			Created: time.Unix(r.Created, 0),
		})
	}
	return images, nil
}

// ImageSummaries lists all local images in the form of get_images (wire §5.6):
// what is zero or empty is left out. Never nil.
func (e *Engine) ImageSummaries(ctx context.Context) ([]map[string]any, error) {
	rows, err := e.images(ctx)
	if err != nil {
		return nil, err
	}
	summaries := make([]map[string]any, 0, len(rows))
	for _, r := range rows {
		s := map[string]any{}
		//lint:ignore SA1019 The contract has virtualSize, and engines before API 1.44 tell it.
		virtual := r.VirtualSize
		for key, n := range map[string]int64{
			"created":     r.Created,
			"containers":  r.Containers,
			"sharedSize":  r.SharedSize,
			"virtualSize": virtual,
			"size":        r.Size,
		} {
			if n != 0 {
				s[key] = n
			}
		}
		if r.ID != "" {
			s["id"] = r.ID
		}
		if len(r.Labels) > 0 {
			s["labels"] = r.Labels
		}
		if len(r.RepoTags) > 0 {
			s["repoTags"] = r.RepoTags
		}
		summaries = append(summaries, s)
	}
	return summaries, nil
}

func (e *Engine) images(ctx context.Context) (rows []image.Summary, err error) {
	err = e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) (err error) {
		rows, err = p.ImageList(ctx, image.ListOptions{})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list images: %w", err)
	}
	return rows, nil
}

// realTags leaves out what engines write where there is no tag.
func realTags(tags []string) []string {
	return slices.DeleteFunc(slices.Clone(tags), func(t string) bool { return t == "<none>:<none>" })
}

// Image tells about the image that has this id or exactly this reference, which
// means its tag "latest" where it names none.
func (e *Engine) Image(ctx context.Context, ref string) (Image, error) {
	var found Image
	err := e.onImage(ctx, e.cfg.Timeout, ref, func(_ context.Context, _ *peer, in image.InspectResponse) error {
		found = Image{
			ID:           in.ID,
			Tags:         realTags(in.RepoTags),
			Architecture: in.Architecture,
			Variant:      in.Variant,
			Size:         in.Size,
			Created:      moment(in.Created),
		}
		if in.Config != nil {
			found.Labels = in.Config.Labels
		}
		return nil
	})
	return found, wrap("inspect image", ref, err)
}

// RemoveImage takes a reference away, and the image when that was its last; by
// id, the image with all its references. Never forced: ErrInUse while a
// container needs it.
func (e *Engine) RemoveImage(ctx context.Context, ref string) error {
	err := e.onImage(ctx, e.cfg.Long, ref, func(ctx context.Context, p *peer, in image.InspectResponse) error {
		names := []string{ref}
		if ref == in.ID || "sha256:"+ref == in.ID {
			names = append(realTags(in.RepoTags), in.ID)
		}
		for i, name := range names {
			_, err := p.ImageRemove(ctx, name, image.RemoveOptions{PruneChildren: true})
			switch {
			case errdefs.IsConflict(err):
				return &engineError{ErrInUse, err}
			case errdefs.IsNotFound(err) && i > 0: // went with its last reference
			case err != nil:
				return err
			}
		}
		return nil
	})
	return wrap("remove image", ref, err)
}

// onImage performs do on exactly the image that is named. The engine itself
// would also take the beginning of an id for one.
func (e *Engine) onImage(ctx context.Context, d time.Duration, ref string, do func(context.Context, *peer, image.InspectResponse) error) error {
	parsed, err := reference.ParseAnyReference(ref)
	if err != nil {
		return &engineError{ErrNotFound, err}
	}
	return e.call(ctx, d, func(ctx context.Context, p *peer) error {
		in, err := p.ImageInspect(ctx, ref)
		if err != nil {
			return err
		}
		if !isNamed(in, parsed) {
			return &engineError{ErrNotFound, fmt.Errorf("no such image: %s", ref)}
		}
		return do(ctx, p, in)
	})
}

// isNamed reports whether an image has this id, tag or digest.
func isNamed(in image.InspectResponse, ref reference.Reference) bool {
	named, ok := ref.(reference.Named)
	if !ok {
		return ref.String() == in.ID
	}
	full := reference.TagNameOnly(named).String()
	if digested, ok := named.(reference.Digested); ok { // with a tag beside it the digest counts
		full = reference.TrimNamed(named).String() + "@" + digested.Digest().String()
	}
	return slices.ContainsFunc(slices.Concat(in.RepoTags, in.RepoDigests), func(name string) bool {
		have, err := reference.ParseNormalizedNamed(name)
		return err == nil && have.String() == full
	})
}

// Tag gives an image one more reference.
func (e *Engine) Tag(ctx context.Context, ref, newRef string) error {
	err := e.onImage(ctx, e.cfg.Timeout, ref, func(ctx context.Context, p *peer, in image.InspectResponse) error {
		return p.ImageTag(ctx, in.ID, newRef)
	})
	return wrap("tag image", ref, err)
}

// PruneDangling removes the images that have no tag and no container.
func (e *Engine) PruneDangling(ctx context.Context) (Freed, error) {
	var freed Freed
	err := e.call(ctx, e.cfg.Long, func(ctx context.Context, p *peer) error {
		report, err := p.ImagesPrune(ctx, filters.NewArgs(filters.Arg("dangling", "true")))
		if err != nil {
			return err
		}
		freed = Freed{Bytes: report.SpaceReclaimed}
		for _, d := range report.ImagesDeleted {
			if d.Untagged != "" {
				freed.Untagged = append(freed.Untagged, d.Untagged)
			}
			if d.Deleted != "" {
				freed.Deleted = append(freed.Deleted, d.Deleted)
			}
		}
		return nil
	})
	if err != nil {
		return Freed{}, fmt.Errorf("prune images: %w", err)
	}
	return freed, nil
}

// Add counts another clean-up in.
func (f *Freed) Add(other Freed) {
	f.Untagged = append(f.Untagged, other.Untagged...)
	f.Deleted = append(f.Deleted, other.Deleted...)
	f.Bytes += other.Bytes
}

// Summary puts it in the words of Docker's own command, which callers of
// prune_images are used to.
func (f Freed) Summary() string {
	var b strings.Builder
	if len(f.Untagged)+len(f.Deleted) > 0 {
		b.WriteString("Deleted Images:\n")
		for _, name := range f.Untagged {
			fmt.Fprintf(&b, "untagged: %s\n", name)
		}
		for _, id := range f.Deleted {
			fmt.Fprintf(&b, "deleted: %s\n", id)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "Total reclaimed space: %s\n", units.HumanSizeWithPrecision(float64(f.Bytes), 3))
	return b.String()
}
