package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"reagent/protocol"
)

// Releases knows which images are of a version that devices may want: tags by
// repository. The studio's store does.
type Releases interface {
	Images() (map[string][]string, error)
}

// How garbage is told from the rest.
//
// Kept are the images of releases, and whatever was of use to a push within
// cfg.Settle, which is longer than any login for a push is good: a layer is pushed
// before the manifest that refers to it, and a manifest before the release that
// the studio enters. To be of use is to be pushed, or to be found there by
// somebody who may push, who then does not push it again (Registry.note). The
// times of files say when; they survive a restart.
//
// While a collection goes on, whoever pushes waits where he would rely on what is
// there (Registry.gate); pulls do not.
//
// What refers to something goes before it, and what refers to nothing is to
// distribution as if it were not there, so that a collection may be killed
// anywhere; the next one finds the rest.

// collectLimit bounds a collection, which keeps pushes waiting.
const collectLimit = 5 * time.Minute

// Collect removes what no release and no push needs. One collection goes on at a
// time; a second waits.
func (r *Registry) Collect(ctx context.Context) (protocol.GarbageCollected, error) {
	ctx, cancel := context.WithTimeout(ctx, collectLimit)
	defer cancel()
	done := protocol.GarbageCollected{Began: time.Now().UTC().Truncate(time.Millisecond)}
	if err := r.lock(ctx); err != nil {
		done.Reason = "pushes are being finished all the time"
		return done, nil
	}
	defer r.gate.Unlock()
	if r.cfg.Releases == nil {
		return done, errors.New("nobody says which images are wanted")
	}
	wanted, err := r.cfg.Releases.Images()
	switch {
	case err != nil:
		return done, err
	case len(wanted) == 0:
		// A studio that begins anew beside old images: its memory may come back.
		done.Reason = "no version of an app is known, and nothing was looked at"
		return done, nil
	case r.clock.jumped(r.cfg.Settle):
		done.Reason = "the clock was set, and the ages of files are not known"
		return done, nil
	}
	began := time.Now()
	c := collection{r: r, at: newLayout(r.storage.root), wanted: wanted, since: began.Add(-r.cfg.Settle), live: map[digest.Digest]struct{}{}}
	err = c.run(ctx)
	done.Tags, done.Manifests, done.Layers, done.Bytes = c.tags, c.manifests, c.blobs, c.bytes
	done.TookMS = uint64(time.Since(began).Milliseconds())
	r.cfg.Log.Info().Err(err).Uint64("tags", c.tags).Uint64("manifests", c.manifests).Uint64("blobs", c.blobs).
		Uint64("bytes", c.bytes).Dur("took", time.Since(began)).Msg("garbage collected")
	return done, err
}

// lock waits until nobody finishes a push. It does not keep others from going on
// while it waits: one slow client would hold up all.
func (r *Registry) lock(ctx context.Context) error {
	const look = 20 * time.Millisecond
	for !r.gate.TryLock() {
		select {
		case <-time.After(look):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// A collection is one run over the storage. Its owner holds the gate.
type collection struct {
	r      *Registry
	at     layout
	wanted map[string][]string
	since  time.Time
	live   map[digest.Digest]struct{} // blobs that somebody refers to

	tags, manifests, blobs, bytes uint64
}

func (c *collection) run(ctx context.Context) error {
	all, err := c.at.repositories()
	if err != nil {
		return err
	}
	for _, name := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := c.repository(name); err != nil {
			return fmt.Errorf("repository %s: %w", name, err)
		}
	}
	return c.sweep(ctx)
}

// repository removes what is for nothing in one repository, and marks what it
// refers to.
func (c *collection) repository(name string) error {
	kept, roots, err := c.sortTags(name)
	if err != nil {
		return err
	}
	revisions, err := digests(c.at.revisions(name), false)
	if err != nil {
		return err
	}
	for _, d := range revisions {
		if young, err := usedSince(link(c.at.revisions(name), d), c.since); err != nil {
			return err
		} else if young {
			roots = append(roots, d)
		}
	}
	links, err := digests(c.at.layers(name), false)
	if err != nil {
		return err
	}
	live, err := c.reach(roots)
	if err != nil {
		// What a manifest refers to that cannot be read is anybody's guess.
		c.r.cfg.Log.Error().Err(err).Str("repository", name).Msg("an image is damaged: delete its version; until then nothing of its repository is removed")
		for _, d := range slices.Concat(revisions, links) {
			c.live[d] = struct{}{}
		}
		return nil
	}
	for d := range live {
		c.live[d] = struct{}{}
	}
	for _, d := range revisions {
		if _, ok := live[d]; ok {
			continue
		}
		for _, tag := range kept {
			old := filepath.Join(c.at.tags(name), tag, "index", d.Algorithm().String(), d.Encoded())
			if err := os.RemoveAll(old); err != nil {
				return err
			}
		}
		if err := os.RemoveAll(filepath.Dir(link(c.at.revisions(name), d))); err != nil {
			return err
		}
		c.manifests++
	}
	for _, d := range links {
		if _, ok := live[d]; ok {
			continue
		}
		path := link(c.at.layers(name), d)
		young, err := usedSince(path, c.since)
		if err == nil && !young {
			err = os.RemoveAll(filepath.Dir(path))
		}
		if err != nil {
			return err
		}
		if young {
			c.live[d] = struct{}{}
		}
	}
	return nil
}

// sortTags removes the tags that are for nothing. It returns the others, with what
// they mean.
func (c *collection) sortTags(name string) (kept []string, roots []digest.Digest, err error) {
	all, err := names(c.at.tags(name))
	if err != nil {
		return nil, nil, err
	}
	for _, tag := range all {
		path := c.at.tag(name, tag)
		young, err := usedSince(path, c.since)
		if err != nil {
			return nil, nil, err
		}
		if !young && !slices.Contains(c.wanted[name], tag) {
			if err := os.RemoveAll(filepath.Join(c.at.tags(name), tag)); err != nil {
				return nil, nil, err
			}
			c.tags++
			continue
		}
		kept = append(kept, tag)
		d, err := readLink(path)
		if err != nil {
			c.r.cfg.Log.Error().Err(err).Str("repository", name).Str("tag", tag).Msg("an image is damaged: push it again")
			continue
		}
		roots = append(roots, d)
	}
	return kept, roots, nil
}

// references is what all forms of manifests refer to others by.
type references struct {
	Config    descriptor   `json:"config"`
	Layers    []descriptor `json:"layers"`
	Blobs     []descriptor `json:"blobs"`
	Manifests []descriptor `json:"manifests"`
}

type descriptor struct {
	Digest digest.Digest `json:"digest"`
}

// reach is all that manifests refer to, and they themselves.
func (c *collection) reach(roots []digest.Digest) (map[digest.Digest]struct{}, error) {
	live := map[digest.Digest]struct{}{}
	for todo := slices.Clone(roots); len(todo) > 0; {
		d := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if _, known := live[d]; known {
			continue
		}
		live[d] = struct{}{}
		refs, err := c.at.manifest(d)
		if err != nil {
			return nil, err
		}
		for _, ref := range slices.Concat([]descriptor{refs.Config}, refs.Layers, refs.Blobs) {
			live[ref.Digest] = struct{}{}
		}
		for _, ref := range refs.Manifests {
			// Not each of an index was pushed with it.
			if _, err := os.Stat(c.at.data(ref.Digest)); err == nil {
				todo = append(todo, ref.Digest)
			}
		}
	}
	delete(live, "") // a manifest without a configuration
	return live, nil
}

// manifest reads what a manifest refers to.
func (l layout) manifest(d digest.Digest) (refs references, err error) {
	const most = 8 << 20 // distribution takes half of it
	info, err := os.Stat(l.data(d))
	if err != nil {
		return refs, err
	}
	if info.Size() > most {
		return refs, fmt.Errorf("manifest %s is %d bytes large", d, info.Size())
	}
	raw, err := os.ReadFile(l.data(d))
	if err != nil {
		return refs, err
	}
	if digest.Digest(d).Algorithm().FromBytes(raw) != d {
		return refs, fmt.Errorf("manifest %s holds something else", d)
	}
	if err := json.Unmarshal(raw, &refs); err != nil {
		return refs, fmt.Errorf("manifest %s: %w", d, err)
	}
	for _, ref := range slices.Concat([]descriptor{refs.Config}, refs.Layers, refs.Blobs, refs.Manifests) {
		if err := ref.Digest.Validate(); err != nil && ref.Digest != "" {
			return refs, fmt.Errorf("manifest %s: %w", d, err)
		}
	}
	return refs, nil
}

// sweep removes the blobs that nobody refers to.
func (c *collection) sweep(ctx context.Context) error {
	all, err := digests(c.at.blobs(), true)
	if err != nil {
		return err
	}
	for _, d := range all {
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, ok := c.live[d]; ok {
			continue
		}
		path := c.at.data(d)
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist): // a collection was killed here
		case err != nil:
			return err
		case info.ModTime().After(c.since):
			continue
		default:
			c.blobs++
			c.bytes += uint64(info.Size())
		}
		if err := os.RemoveAll(filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}

// A clock notices that the machine's was set, which makes the ages of files mean
// nothing. It is guarded by the gate.
type clock struct {
	begun time.Time     // when the process began to look, for the time that really passes
	shown time.Time     // what the clock showed at the last look
	at    time.Duration // and when that was, since begun
	set   time.Duration // when it was found set
	was   bool          // it was set once
}

func newClock() clock {
	now := time.Now()
	return clock{begun: now, shown: now.Round(0)}
}

// jumped reports whether the clock was set within some time.
func (c *clock) jumped(within time.Duration) bool {
	return c.look(time.Now().Round(0), time.Since(c.begun), within)
}

func (c *clock) look(shown time.Time, at, within time.Duration) bool {
	const some = time.Hour
	if (shown.Sub(c.shown) - (at - c.at)).Abs() > some {
		c.set, c.was = at, true
	}
	c.shown, c.at = shown, at
	return c.was && at-c.set < within
}
