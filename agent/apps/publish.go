package apps

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// publish builds a DEV app and pushes what was built as a version of the
// installed app (life §3.9), for the architecture of this device.
//
// While it goes on, images bear the names that belong to the installed app's
// version. A written marker says which, and what had them before: unless the
// registry has taken all of them in the end, they are given back (withdraw), so
// that an installed copy never finds an image that was not published.
func (w *worker) publish(ctx context.Context, j *job) error {
	r := j.req()
	to := topicOf(protocol.PublishLogName(r.AppKey, j.have.AppName), w.a.cfg.AppLog, j.making().project())
	to.say("Initializing publish process for %s...", j.have.AppName)
	if r.Version == "" {
		told := &toldError{"the request names no version to publish as: set version"}
		to.say("%s", told.text)
		return told
	}
	images, err := w.mark(ctx, j)
	if err != nil {
		return err
	}
	if j.seen.there() {
		if err := w.set(j, protocol.Deleting, reporting{}); err != nil {
			return err
		}
	}
	if err := w.construct(ctx, j, to, true); err != nil {
		return err
	}
	to.say("App build has finished, Starting to publish...")
	switch err := w.release(ctx, j, images, to); {
	case err == nil:
	case errors.Is(context.Cause(ctx), errSuperseded):
		to.say("The app release was canceled")
		return errSuperseded
	case engineGone(err) || ctx.Err() != nil:
		return err
	default:
		told := &toldError{err.Error()}
		to.say("%s", told.text)
		return told
	}
	j.have.Publication = nil
	w.a.repay(w.id, j.wish.Seq)
	j.tried()
	if err := w.set(j, protocol.Published, reporting{}); err != nil {
		return err
	}
	w.a.cfg.AppLog.ClearHistory(to.cn)
	return nil
}

// mark writes down which names the publication takes, and from which images. It
// comes before the build, which may give them out.
func (w *worker) mark(ctx context.Context, j *job) ([]publishedImage, error) {
	m := j.making()
	images, err := w.builderOf(m.project()).published(m)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(images))
	for _, image := range images {
		had, err := w.a.cfg.Engine.Image(ctx, image.name)
		if err != nil && !errors.Is(err, container.ErrNotFound) {
			return nil, fmt.Errorf("look at %s: %w", image.name, err)
		}
		names[image.name] = had.ID
	}
	j.have.Publication = &device.Publication{Names: names}
	return images, w.save(j)
}

// release is the second half of a publication.
func (w *worker) release(ctx context.Context, j *job, images []publishedImage, to topic) error {
	if err := w.set(j, protocol.Publishing, reporting{}); err != nil {
		return err
	}
	cred, err := w.credential(ctx, j.req())
	if err != nil {
		return err
	}
	logins, err := w.logins(ctx, j)
	if err != nil {
		return err
	}
	for _, image := range images {
		if err := w.send(ctx, image, cred, logins, to); err != nil {
			return err
		}
	}
	return nil
}

// A publishedImage is one that a publication sends to our registry.
type publishedImage struct {
	name    string // what it is called there
	built   string // the reference that was built here; "" = it has its name already, or comes from elsewhere
	foreign string // another registry's image that is sent under this name (life §3.9, x-source-image)
	service string
}

func (w *worker) send(ctx context.Context, image publishedImage, cred *container.Credential, logins map[string]container.Credential, to topic) error {
	e := w.a.cfg.Engine
	source := image.built
	if image.foreign != "" {
		to.say("Re-hosting image %s of service %s as %s...", image.foreign, image.service, image.name)
		if err := w.rehost(ctx, image.foreign, logins, to); err != nil {
			return fmt.Errorf("pull %s: %w", image.foreign, err)
		}
		source = image.foreign
	}
	if source != "" && source != image.name {
		if err := e.Tag(ctx, source, image.name); err != nil {
			return fmt.Errorf("name %s %s: %w", source, image.name, err)
		}
	}
	if err := e.Push(ctx, image.name, cred, to.record); err != nil {
		return fmt.Errorf("push %s: %w", image.name, w.overdue(ctx, container.ErrNetwork, err))
	}
	return nil
}

// rehost pulls an image of another registry, in its turn among all downloads.
func (w *worker) rehost(ctx context.Context, ref string, logins map[string]container.Credential, to topic) error {
	select {
	case <-w.a.pulls:
	default:
		to.say("Waiting for other downloads to end...")
		select {
		case <-w.a.pulls:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	defer func() { w.a.pulls <- struct{}{} }()
	return w.pullFitting(ctx, ref, loginFor(logins, ref), func(p container.PullProgress) { to.record(p.Record) })
}

// loginFor is the login for the registry of an image; nil where there is none.
func loginFor(logins map[string]container.Credential, image string) *container.Credential {
	host := registryOf(image)
	for name, c := range logins {
		if strings.EqualFold(strings.TrimSuffix(name, "/"), host) {
			return &c
		}
	}
	return nil
}

// registryOf is the registry that an image's name tells, which is Docker's own
// where it tells none.
func registryOf(image string) string {
	host, _, more := strings.Cut(image, "/")
	if !more || !strings.ContainsAny(host, ".:") && host != "localhost" {
		return "docker.io"
	}
	return host
}

// published is the one image of the app, as a version of the installed app.
func (f single) published(m making) ([]publishedImage, error) {
	installed := m.r
	installed.Stage = protocol.Prod
	return []publishedImage{{name: f.w.a.image(installed, m.r.Version), built: f.w.a.image(m.r, m.version)}}, nil
}

// withdraw gives the names back that a publication had taken which did not come
// to its end.
func (w *worker) withdraw(ctx context.Context, j *job) error {
	for name, had := range j.have.Publication.Names {
		err := error(container.ErrNotFound)
		if had != "" {
			err = w.a.cfg.Engine.Tag(ctx, had, name)
		}
		if errors.Is(err, container.ErrNotFound) {
			if err = w.a.cfg.Engine.RemoveImage(ctx, name); errors.Is(err, container.ErrNotFound) {
				err = nil
			}
		}
		if err != nil && (engineGone(err) || ctx.Err() != nil) {
			return fmt.Errorf("withdraw %s: %w", name, err)
		}
		if err != nil {
			w.a.cfg.Log.Warn().Err(err).Str("image", name).Msg("an image keeps the name of a version that was not published")
		}
	}
	j.have.Publication = nil
	return w.save(j)
}
