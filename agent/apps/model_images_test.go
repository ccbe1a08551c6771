package apps

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"reagent/container"
)

func (e *smallEngine) Image(ctx context.Context, ref string) (container.Image, error) {
	if err := e.enter(ctx); err != nil {
		return container.Image{}, err
	}
	defer e.mu.Unlock()
	id, ok := e.images[ref]
	if !ok {
		return container.Image{}, fmt.Errorf("no such image: %s: %w", ref, container.ErrNotFound)
	}
	return e.image(id), nil
}

func (e *smallEngine) image(id string) container.Image {
	i := container.Image{ID: id, Architecture: "amd64", Size: 10 << 20}
	for ref, of := range e.images {
		if of == id {
			i.Tags = append(i.Tags, ref)
		}
	}
	slices.Sort(i.Tags)
	return i
}

func (e *smallEngine) Images(ctx context.Context) ([]container.Image, error) {
	if err := e.enter(ctx); err != nil {
		return nil, err
	}
	defer e.mu.Unlock()
	var list []container.Image
	for _, id := range slices.Compact(slices.Sorted(maps.Values(e.images))) {
		list = append(list, e.image(id))
	}
	return list, nil
}

func (e *smallEngine) RemoveImage(ctx context.Context, ref string) error {
	return e.change(ctx, func() error {
		id, ok := e.images[ref]
		if !ok {
			return fmt.Errorf("no such image: %s: %w", ref, container.ErrNotFound)
		}
		e.drops(ref)
		used := slices.ContainsFunc(e.containers, func(c *smallContainer) bool { return c.ImageID == id })
		if used && len(e.image(id).Tags) == 1 {
			return fmt.Errorf("remove image %s: %w", ref, container.ErrInUse)
		}
		e.note("remove image %s", versionOf(ref))
		delete(e.images, ref)
		return nil
	})
}

// pullParts is how often a pull tells of its progress.
const pullParts = 4

func (e *smallEngine) Pull(ctx context.Context, ref string, c *container.Credential, progress func(container.PullProgress)) error {
	print, known := e.prints[versionOf(ref)]
	for part := range pullParts {
		if err := e.enter(ctx); err != nil {
			return fmt.Errorf("pull %s: %w", ref, err)
		}
		e.mu.Unlock()
		switch {
		case !e.linked():
			return fmt.Errorf("pull %s: dial tcp: lookup registry: no such host: %w", ref, container.ErrNetwork)
		case c == nil || c.Username == "":
			return fmt.Errorf("pull %s: %w", ref, container.ErrUnauthorized)
		case print.missing || !known:
			return fmt.Errorf("pull %s: manifest unknown: %w", ref, container.ErrNotFound)
		}
		if progress != nil {
			progress(container.PullProgress{Record: []byte(`{"status":"Downloading"}`), Current: int64(part), Total: pullParts})
		}
		wait := print.pull / pullParts
		if print.stalls && part == 1 {
			wait = 2 * time.Minute
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
		if print.stalls && part == 1 {
			return fmt.Errorf("pull %s: %w", ref, container.ErrTimeout)
		}
	}
	return e.change(ctx, func() error {
		e.note("pulled %s", versionOf(ref))
		e.images[ref] = idOf(ref)
		e.does[idOf(ref)] = print
		return nil
	})
}

// Build makes an image of what the Dockerfile in the archive names.
func (e *smallEngine) Build(ctx context.Context, s container.BuildSpec, record func([]byte)) error {
	version, err := dockerfileIn(s.Context, cmp.Or(s.Dockerfile, "Dockerfile"))
	if err != nil {
		return &container.BuildError{Text: err.Error()}
	}
	record([]byte(`{"stream":"Step 1/1 : FROM scratch\n"}`))
	print := e.prints[version]
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(print.pull):
	}
	return e.change(ctx, func() error {
		if print.missing {
			return &container.BuildError{Text: "The command '/bin/sh -c make' returned a non-zero code: 2"}
		}
		e.made++
		id := idOf(fmt.Sprintf("image %d", e.made))
		e.does[id] = print
		for _, ref := range s.Tags {
			e.note("built %s from %s", ref, version)
			e.images[ref] = id
		}
		return nil
	})
}

// dockerfileIn reads one file of a packed folder.
func dockerfileIn(archive io.Reader, name string) (string, error) {
	unpacked, err := gzip.NewReader(archive)
	if err != nil {
		return "", err
	}
	for files := tar.NewReader(unpacked); ; {
		head, err := files.Next()
		if err != nil {
			return "", err
		}
		if head.Name != name {
			continue
		}
		text, err := io.ReadAll(files)
		return strings.TrimSpace(strings.TrimPrefix(string(text), "FROM ")), err
	}
}

func (e *smallEngine) Tag(ctx context.Context, ref, newRef string) error {
	return e.change(ctx, func() error {
		id, ok := e.images[ref]
		if !ok && slices.Contains(slices.Collect(maps.Values(e.images)), ref) {
			id, ok = ref, true // named by its id
		}
		if !ok {
			return fmt.Errorf("no such image: %s: %w", ref, container.ErrNotFound)
		}
		e.note("tag %s", newRef)
		e.images[newRef] = id
		return nil
	})
}

func (e *smallEngine) Push(ctx context.Context, ref string, c *container.Credential, record func([]byte)) error {
	return e.change(ctx, func() error {
		switch _, ok := e.images[ref]; {
		case !ok:
			return fmt.Errorf("no such image: %s: %w", ref, container.ErrNotFound)
		case !e.linked():
			return fmt.Errorf("push %s: dial tcp: lookup registry: no such host: %w", ref, container.ErrNetwork)
		case c == nil || c.Username == "":
			return fmt.Errorf("push %s: %w", ref, container.ErrUnauthorized)
		}
		record([]byte(`{"status":"Pushed"}`))
		e.note("pushed %s", ref)
		e.pushed[ref] = e.images[ref]
		return nil
	})
}

func (e *smallEngine) DownloadSize(ctx context.Context, ref string, _ *container.Credential) (int64, error) {
	if err := e.enter(ctx); err != nil {
		return 0, err
	}
	e.mu.Unlock()
	if !e.linked() {
		return 0, fmt.Errorf("look up %s: dial tcp: lookup registry: no such host", ref)
	}
	return pullParts, nil
}
