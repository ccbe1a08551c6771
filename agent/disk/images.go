package disk

import (
	"context"
	"errors"
	"slices"
	"strings"

	"reagent/container"
	"reagent/protocol"
)

// An imageStore holds the images of this machine, ours and others'.
type imageStore interface {
	Images(ctx context.Context) ([]container.Image, error)
	List(ctx context.Context, labels map[string]string) ([]container.Summary, error)
	RemoveImage(ctx context.Context, ref string) error
	PruneDangling(ctx context.Context) (container.Freed, error)
	PruneBuildCache(ctx context.Context) (container.Freed, error)
}

// A Pruner frees the disk of images, within design S6: of tags it removes only
// those of our apps that nothing needs; nobody else's, no volume, no container.
type Pruner struct {
	Images imageStore
	// InUse tells which images apps need: the repositories (names without a tag)
	// of all apps that are installed or shall be, and the references that they
	// run from, are about to run from, or may go back to.
	InUse func(context.Context) (repositories, references []string, err error)
	Ours  func() string // what the names of our apps' images begin with
}

// Prune removes the superfluous tags, with all also those of apps that are
// installed, and then what is dangling.
func (p Pruner) Prune(ctx context.Context, all bool) (container.Freed, error) {
	freed, err := p.superseded(ctx, all)
	if err != nil {
		return freed, err
	}
	dangling, err := p.Images.PruneDangling(ctx)
	freed.Add(dangling)
	return freed, err
}

func (p Pruner) superseded(ctx context.Context, all bool) (container.Freed, error) {
	var freed container.Freed
	images, err := p.Images.Images(ctx)
	if err != nil {
		return freed, err
	}
	containers, err := p.Images.List(ctx, nil)
	if err != nil {
		return freed, err
	}
	// Asked last: whatever was wished for while the engine answered is in it.
	repositories, references, err := p.InUse(ctx)
	if err != nil {
		return freed, err
	}
	need := needs{prefix: p.Ours(), repositories: repositories, references: references, all: all}
	for _, c := range containers {
		need.running = append(need.running, c.ImageID)
	}
	for _, image := range images {
		left := len(image.Tags)
		for _, ref := range need.superfluous(image) {
			err := p.Images.RemoveImage(ctx, ref)
			switch {
			case errors.Is(err, container.ErrInUse), errors.Is(err, container.ErrNotFound):
				continue // somebody was quicker, with a container or with a clean-up
			case err != nil:
				return freed, err
			}
			freed.Untagged = append(freed.Untagged, ref)
			if left--; left == 0 {
				freed.Deleted = append(freed.Deleted, image.ID)
				freed.Bytes += uint64(max(image.Size, 0)) // at most: layers may be shared
			}
		}
	}
	return freed, nil
}

// needs are the reasons for which an image stays.
type needs struct {
	prefix       string   // of the names of our apps' images
	repositories []string // of installed apps
	references   []string // that they need
	running      []string // ids of the images that containers, also stopped ones, are made of
	all          bool     // unneeded tags of installed apps go, too
}

// superfluous lists the tags of an image that nothing needs.
func (n needs) superfluous(image container.Image) []string {
	if slices.Contains(n.running, image.ID) {
		return nil
	}
	var refs []string
	for _, ref := range image.Tags {
		name, ok := strings.CutPrefix(ref, n.prefix)
		if !ok || n.prefix == "" {
			continue
		}
		name, _, tagged := strings.Cut(name, ":")
		if _, _, _, _, ours := protocol.ParseImageName(name); !ours || !tagged {
			continue
		}
		// A compose app's services have repositories of their own below the app's.
		installed := slices.ContainsFunc(n.repositories, func(of string) bool {
			return n.prefix+name == of || strings.HasPrefix(n.prefix+name, of+"_")
		})
		if !slices.Contains(n.references, ref) && (n.all || !installed) {
			refs = append(refs, ref)
		}
	}
	return refs
}
