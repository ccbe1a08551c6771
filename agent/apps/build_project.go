package apps

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	"reagent/container"
	"reagent/filesystem"
	"reagent/protocol"
)

// build unpacks the archive of a compose app into the project's folder, has
// compose build what is to be built, and fetches the other images, unless it is
// for a publication, which needs none of them.
func (f composed) build(ctx context.Context, j *job, c construction) (fs.FileInfo, error) {
	a := f.w.a
	free, err := a.projects.take(ctx, a.projectFolder(c.m.r))
	if err != nil {
		return nil, err
	}
	defer free()
	file, info, err := a.openArchive(c.m.r)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if err := filesystem.ExtractArchive(&stoppable{ctx, file}, a.uploads.folder, c.m.r.AppName, ofArchives); err != nil {
		return nil, fmt.Errorf("unpack %s: %w", info.Name(), err)
	}
	p, err := f.write(ctx, j, c.m, nil) // a build reads nothing of the environment
	if err != nil {
		return nil, err
	}
	if err := a.cfg.Compose.Build(ctx, p, c.logins, c.to.line); err != nil || c.release {
		return info, err
	}
	return info, f.fetchOthers(ctx, c)
}

// fetchOthers gets the images that are not built. Those that are there have to
// do while the registry cannot be reached.
func (f composed) fetchOthers(ctx context.Context, c construction) error {
	refs, err := projectImages(c.m.r.DockerCompose, true)
	if err != nil {
		return err
	}
	for _, ref := range refs {
		err := f.w.pullFitting(ctx, ref, loginFor(c.logins, ref), func(p container.PullProgress) { c.to.record(p.Record) })
		if errors.Is(err, container.ErrNetwork) {
			if _, known := f.w.a.cfg.Engine.Image(ctx, ref); known == nil {
				c.to.say("The registry of %s cannot be reached; the image that is here is used", ref)
				continue
			}
		}
		if err != nil {
			return fmt.Errorf("pull %s: %w", ref, err)
		}
	}
	return nil
}

// stoppable is a file that is read while nobody called the reading off.
type stoppable struct {
	ctx context.Context
	f   *os.File
}

func (s *stoppable) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.f.Read(p)
}

// published are the images of the services that are built here, and of those
// whose image is to be sent to our registry under a name of its own.
func (f composed) published(m making) ([]publishedImage, error) {
	listed, err := services(m.r.DockerCompose)
	if err != nil {
		return nil, err
	}
	var out []publishedImage
	for _, name := range slices.Sorted(maps.Keys(listed)) {
		image, _ := protocol.Text(listed[name]["image"])
		foreign, _ := protocol.Text(listed[name]["x-source-image"])
		if listed[name]["build"] == nil && foreign == "" {
			continue
		}
		ref, ok := withoutVariables(image)
		if !ok || ref == "" {
			return nil, fmt.Errorf("service %s: image %q says no name to publish it under", name, image)
		}
		if listed[name]["build"] != nil {
			foreign = ""
		}
		out = append(out, publishedImage{name: ref, foreign: foreign, service: name})
	}
	if len(out) == 0 {
		return nil, errors.New("there is nothing to publish: no service of the compose definition has \"build\" or \"x-source-image\"")
	}
	return out, nil
}
