package apps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"

	"reagent/container"
	"reagent/filesystem"
	"reagent/persistence/device"
	"reagent/protocol"
)

// maxBuilds is how often a build is begun for one wish: one that was cut off by
// an end of the agent or of the engine is done again, but not for ever, as it
// may have been the reason.
const maxBuilds = 3

// ofArchives bounds what the archive of an app may hold, unpacked.
var ofArchives = filesystem.ArchiveLimits{Entries: 200_000, Bytes: 16 << 30}

// Labels of the images that are built here. They are none of the labels of
// containers, which would pass to every container that is made of the image.
const (
	labelBuiltKey  = "reagent.build.app_key"
	labelBuiltName = "reagent.build.app_name"
)

// errStandstill is a build of which nothing came for too long, or that took too long.
var errStandstill = errors.New("the build came to a standstill")

// A builder is the part of a form that makes images instead of fetching them.
type builder interface {
	// build makes the images from the app's archive, and tells which file that was.
	build(ctx context.Context, j *job, c construction) (fs.FileInfo, error)
	// published are the images that make a version of the installed app.
	published(m making) ([]publishedImage, error)
}

// A construction is what is to be built.
type construction struct {
	m       making
	logins  map[string]container.Credential // by registry, for what it is based on
	release bool                            // it is to be published
	to      topic
}

func (w *worker) builderOf(project bool) builder {
	if project {
		return composed{w}
	}
	return single{w}
}

// A topic is a log in which an app's build tells how it goes.
type topic struct {
	cn    string
	log   AppLog
	words bool // of a compose app, whose log has no records
}

func topicOf(cn string, log AppLog, project bool) topic { return topic{cn, log, project} }

func (t topic) say(format string, args ...any) { t.log.Agent(t.cn, fmt.Sprintf(format, args...)) }

// record passes on what a builder or a registry reports. It is published only
// while somebody listens.
func (t topic) record(line []byte) {
	if !t.words {
		t.log.Record(t.cn, line)
	} else if text := words(line); text != "" {
		t.line(text)
	}
}

// line is record for the words of a program.
func (t topic) line(text string) { t.log.Record(t.cn, []byte(text)) }

// A toldError has been told in the app's log already, in the words that the
// studio's pages know.
type toldError struct{ text string }

func (e *toldError) Error() string { return e.text }

// build makes the images of a DEV app from the archive that was uploaded for it
// (life §3.8).
func (w *worker) build(ctx context.Context, j *job) error {
	return w.construct(ctx, j, topicOf(j.cn(), w.a.cfg.AppLog, j.making().project()), false)
}

// construct is build, also as the first half of a publication.
func (w *worker) construct(ctx context.Context, j *job, to topic, release bool) error {
	if a := j.have.Attempt; a == nil || a.WishSeq != j.wish.Seq {
		j.have.Attempt = &device.Attempt{WishSeq: j.wish.Seq}
	}
	if j.have.Attempt.Begun++; j.have.Attempt.Begun > maxBuilds {
		return fmt.Errorf("the build was cut off %d times by an end of the agent or of the engine; ask for it again", maxBuilds)
	}
	j.have.ReleaseBuild = release
	w.a.cfg.AppLog.Detach(j.cn())
	if err := w.form(j).end(ctx, j); err != nil {
		return err
	}
	if err := w.set(j, protocol.Removed, reporting{}); err != nil {
		return err
	}
	if err := w.set(j, protocol.Building, reporting{}); err != nil {
		return err
	}
	to.say("Starting image build...")
	m := j.making()
	logins, err := w.logins(ctx, j)
	var source fs.FileInfo
	if err == nil {
		source, err = w.builderOf(m.project()).build(ctx, j, construction{m, logins, release, to})
		err = w.overdue(ctx, errStandstill, err)
	}
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), errSuperseded):
		if release {
			to.say("The app release was canceled")
		} else {
			to.say("The build stream was canceled")
		}
		return errSuperseded
	case engineGone(err) || ctx.Err() != nil:
		return err
	default:
		told := &toldError{buildFailure(err)}
		to.say("%s", told.text)
		return told
	}
	if m.project() {
		to.say("Compose Image built successfully")
	} else {
		to.say("Image built successfully")
	}
	j.have.Project, j.have.Made = m.project(), m.made(j.seen)
	j.have.Version, j.have.ReleaseKey = m.version, m.release
	if !release {
		j.tried()
		j.have.Tried = w.builtFor(j, source)
		w.a.repay(w.id, j.have.Tried)
	}
	return w.set(j, protocol.Built, reporting{})
}

// builtFor is the newest wish for which a build was made: it may have been asked
// for again meanwhile, of the very archive that was used.
func (w *worker) builtFor(j *job, source fs.FileInfo) uint64 {
	newest, ok, err := w.a.cfg.Store.Wanted(w.id)
	if err != nil || !ok || newest.Request.Target != protocol.Built || newest.Request.AppName != j.req().AppName {
		return j.wish.Seq
	}
	if now, err := os.Lstat(w.a.archive(j.req())); err != nil || !os.SameFile(source, now) {
		return j.wish.Seq
	}
	return newest.Seq
}

// buildFailure says in the contract's words, where it has some, why there is no
// image.
func buildFailure(err error) string {
	switch {
	case errors.Is(err, container.ErrNoDockerfile):
		return "Could not find a Dockerfile, please create a Dockerfile in the root of your project"
	case errors.Is(err, container.ErrEmptyDockerfile):
		return "The Dockerfile cannot be empty, please fill out your Dockerfile"
	}
	if said := new(container.BuildError); errors.As(err, &said) {
		return said.Text // without the name of the image, which its author does not know
	}
	var missing *missingArchive
	if errors.As(err, &missing) {
		return missing.Error()
	}
	return err.Error()
}

// A missingArchive says that nothing was uploaded to build from.
type missingArchive struct{ name string }

func (e *missingArchive) Error() string {
	return fmt.Sprintf("Build files for app not found: %s was not uploaded", e.name)
}

// archive is where the archive of a DEV app lies.
func (a *Apps) archive(r protocol.AppRequest) string {
	return filepath.Join(a.uploads.folder, r.AppName+"."+a.cfg.ArchiveExtension)
}

// removeArchive deletes what a developer's app was built from.
func (a *Apps) removeArchive(j *job) error {
	if j.have.Stage != protocol.Dev {
		return nil
	}
	if err := os.Remove(a.archive(j.req())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete the app's archive: %w", err)
	}
	return nil
}

// openArchive opens it for a build. Nobody's link leads out of the build folder.
func (a *Apps) openArchive(r protocol.AppRequest) (*os.File, fs.FileInfo, error) {
	name := filepath.Base(a.archive(r))
	root, err := os.OpenRoot(a.uploads.folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, &missingArchive{name}
	}
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	info, err := root.Lstat(name)
	switch {
	case errors.Is(err, fs.ErrNotExist) || err == nil && !info.Mode().IsRegular():
		return nil, nil, &missingArchive{name}
	case err != nil:
		return nil, nil, err
	}
	f, err := root.Open(name)
	return f, info, err
}

// build has the engine build the archive as it is: it is unpacked nowhere.
func (f single) build(ctx context.Context, _ *job, c construction) (fs.FileInfo, error) {
	m := c.m
	file, info, err := f.w.a.openArchive(m.r)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	dockerfile, err := findDockerfile(ctx, file, f.w.a.cfg.Arch)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return info, f.w.a.cfg.Engine.Build(ctx, container.BuildSpec{
		Context:     file,
		Dockerfile:  dockerfile,
		Tags:        []string{f.w.a.image(m.r, m.version)},
		Labels:      map[string]string{labelBuiltKey: strconv.FormatUint(m.r.AppKey, 10), labelBuiltName: m.r.AppName},
		Credentials: c.logins,
	}, c.to.record)
}

// errEnough ends a walk through an archive.
var errEnough = errors.New("enough seen")

// findDockerfile looks through an archive for the Dockerfile of an architecture:
// any file of that name counts, the one in the archive's root first; else it is
// the ordinary one.
func findDockerfile(ctx context.Context, archive io.Reader, arch string) (string, error) {
	const plain = "Dockerfile"
	special := plain + "." + arch
	var best string
	var size int64
	err := filesystem.WalkArchive(archive, ofArchives, func(name string, bytes int64, _ io.Reader) error {
		name = filepath.ToSlash(name)
		nested := path.Base(name) == special && path.Base(best) != special
		if name == special || nested || name == plain && best == "" {
			best, size = name, bytes
		}
		if name == special {
			return errEnough // nothing is better
		}
		return ctx.Err()
	})
	switch {
	case err != nil && !errors.Is(err, errEnough):
		return "", err
	case best == "":
		return "", container.ErrNoDockerfile
	case size == 0:
		return "", container.ErrEmptyDockerfile
	}
	return best, nil
}

// logins are those with which a build may fetch what it is based on: those that
// came with the request, and the one for our own registry while there is a
// studio to ask for it. They live in memory only.
func (w *worker) logins(ctx context.Context, j *job) (map[string]container.Credential, error) {
	lent, known := w.a.lent(w.id)
	if !known && len(j.wish.Credentials) > 0 {
		return nil, fmt.Errorf("the logins for %s that came with the request are not kept over a restart of the agent; ask for the build again", strings.Join(j.wish.Credentials, ", "))
	}
	out := make(map[string]container.Credential, len(lent)+1)
	for host, c := range lent {
		out[host] = container.Credential{Username: c.Username, Password: c.Password}
	}
	if own := w.a.cfg.Facts().Registry; own != "" && w.a.cfg.Studio.Online() {
		if cred, err := w.credential(ctx, j.req()); err == nil {
			out[strings.TrimSuffix(own, "/")] = *cred
		} else {
			w.a.cfg.Log.Warn().Err(err).Stringer("app", w.id).Msg("no login for our own registry; building without")
		}
	}
	return out, nil
}

// lend keeps the logins that came with a request, in memory, until the wish is
// done or a newer one comes.
func (a *Apps) lend(id protocol.AppID, logins map[string]protocol.RegistryCredential) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(logins) == 0 {
		delete(a.loans, id)
		return
	}
	a.loans[id] = logins
}

// repay forgets the logins that came with a wish which is done, unless a newer
// wish brought others.
func (a *Apps) repay(id protocol.AppID, seq uint64) {
	a.wishes.Lock() // or a request would be between its loan and its wish
	defer a.wishes.Unlock()
	if _, lent := a.lent(id); !lent {
		return
	}
	if newest, ok, err := a.cfg.Store.Wanted(id); err == nil && (!ok || newest.Seq <= seq) {
		a.lend(id, nil)
	}
}

func (a *Apps) lent(id protocol.AppID) (map[string]protocol.RegistryCredential, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	logins, ok := a.loans[id]
	return logins, ok
}
