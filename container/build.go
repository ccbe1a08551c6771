package container

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/registry"
	"github.com/docker/docker/api/types/versions"
)

// A BuildSpec says what image is to be built out of what.
type BuildSpec struct {
	Context     io.Reader             // a tar, or a tar in gzip; passed on as it comes. A Seeker can be sent again
	Dockerfile  string                // path within the context; "" = Dockerfile
	Tags        []string              // references
	Labels      map[string]string     // of the image
	Credentials map[string]Credential // by registry host, for bases that ask for a login; in memory only
}

// A BuildError is what the engine has to say about a build that failed: the words
// that its author needs. It may also be one of the package's errors, such as
// ErrNoDockerfile, ErrContext, ErrNetwork or ErrNoSpace.
type BuildError struct {
	Text string
	kind error // nil: a step failed, or a line cannot be read
}

func (e *BuildError) Error() string        { return e.Text }
func (e *BuildError) Is(target error) bool { return e.kind != nil && target == e.kind }

// Build builds an image and hands each record of progress on, in order and from
// the calling goroutine; a record is a line of JSON as the engine's classic
// builder writes them (wire §8), without its end, valid until record returns.
// Where the engine has BuildKit, that builds, and its own form of progress is
// put into these words. When ctx ends the engine stops building. Nothing of the
// context is read after Build has returned. record may be nil.
func (e *Engine) Build(ctx context.Context, spec BuildSpec, record func([]byte)) error {
	what := cmp.Or(strings.Join(spec.Tags, ", "), "image")
	source, err := newSource(spec.Context)
	if err != nil {
		return wrap("build", what, err)
	}
	defer source.end()
	if record == nil {
		record = func([]byte) {}
	}
	err = e.streaming(ctx, e.cfg.BuildIdle, func(ctx context.Context, p *peer, w *watchdog) error {
		source.sent = w.touch
		heard := func(line []byte) {
			w.touch()
			record(line)
		}
		if p.buildKit() {
			err := p.build(ctx, spec, build.BuilderBuildKit, source, heard)
			if !refusesBuildKit(err) {
				return err
			}
			p.plainBuilder.Store(true)
		}
		return p.build(ctx, spec, build.BuilderV1, source, heard)
	})
	if broken := source.failure(); broken != nil && ctx.Err() == nil {
		err = &engineError{ErrContext, fmt.Errorf("read the build's files: %w", broken)}
	}
	return wrap("build", what, err)
}

// buildKit reports whether the engine that answers may be asked for BuildKit:
// it has it since 18.09, on Linux, unless its configuration says otherwise.
func (p *peer) buildKit() bool {
	return versions.GreaterThanOrEqualTo(p.version, "1.39") && p.os != "windows" &&
		p.builder != build.BuilderV1 && !p.plainBuilder.Load()
}

// refusesBuildKit reports whether err means that this engine has no BuildKit, or
// none that can be used: those that only look like a Docker Engine.
func refusesBuildKit(err error) bool {
	if err == nil {
		return false
	}
	text := strings.ToLower(err.Error())
	return errors.Is(err, errNoSession) ||
		strings.Contains(text, "buildkit") && (strings.Contains(text, "not supported") || strings.Contains(text, "not enabled") || strings.Contains(text, "unsupported"))
}

// build has one of the engine's builders build.
func (p *peer) build(ctx context.Context, spec BuildSpec, builder build.BuilderVersion, source *source, record func([]byte)) error {
	if err := source.rewind(); err != nil {
		return err
	}
	options := build.ImageBuildOptions{
		Version:     builder,
		Dockerfile:  cmp.Or(spec.Dockerfile, "Dockerfile"),
		Tags:        spec.Tags,
		Labels:      spec.Labels,
		Remove:      true,
		ForceRemove: true,
	}
	translate := func(line []byte, r buildRecord) error { record(line); return nil }
	if builder == build.BuilderBuildKit {
		session, err := p.openSession(ctx, spec.Credentials)
		if err != nil {
			return err
		}
		defer session.close()
		options.SessionID, options.BuildID = session.id, rand.Text()
		translate = newTrace(record).take
		defer p.cancelBuild(ctx, options.BuildID)
	} else {
		options.AuthConfigs = make(map[string]registry.AuthConfig, len(spec.Credentials))
		for host, c := range spec.Credentials {
			host = loginHost(host)
			options.AuthConfigs[host] = registry.AuthConfig{ServerAddress: host, Username: c.Username, Password: c.Password}
		}
	}
	answer, err := p.ImageBuild(ctx, source, options)
	if err != nil {
		if isDisconnect(err) || ctx.Err() != nil {
			return err
		}
		return p.buildError(strings.TrimPrefix(err.Error(), "Error response from daemon: "))
	}
	defer answer.Body.Close()
	return p.readBuild(answer.Body, translate)
}

// cancelBuild makes sure that a build by BuildKit ends when nobody waits for it
// any more: it outlives the request that began it.
func (p *peer) cancelBuild(ctx context.Context, id string) {
	if ctx.Err() == nil {
		return // it has ended by itself
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	_ = p.BuildCancel(ctx, id) // best effort: the session ends too, and the engine may be gone
}

// buildRecord is the part of a record that counts here.
type buildRecord struct {
	ID          string
	Aux         json.RawMessage
	Error       string
	ErrorDetail struct{ Message string }
}

// readBuild follows a build to its end.
func (p *peer) readBuild(stream io.Reader, record func([]byte, buildRecord) error) error {
	lines := bufio.NewReader(stream)
	built := false
	for {
		line, err := readRecord(lines)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if len(line) == 0 {
			continue
		}
		var r buildRecord
		if err := json.Unmarshal(line, &r); err != nil {
			return fmt.Errorf("the engine's progress is not readable: %w", err)
		}
		if err := record(line, r); err != nil {
			return err
		}
		var image struct{ ID string }
		if json.Unmarshal(r.Aux, &image) == nil && image.ID != "" {
			built = true
		}
		switch text := cmp.Or(r.Error, r.ErrorDetail.Message); {
		case strings.HasSuffix(text, "context canceled"): // not by us: an engine that is told to end drops its builds
			return &engineError{ErrUnavailable, errors.New("the engine ended the build")}
		case text != "":
			return p.buildError(text)
		}
	}
	if !built {
		return errors.New("the engine ended the build without an image")
	}
	return nil
}

// buildMeanings are the texts by which builds that cannot even begin are told
// apart. Collected from both builders of engines 20.10 to 28.
var buildMeanings = []struct {
	text string // lower case
	kind error
}{
	{"cannot locate specified dockerfile", ErrNoDockerfile},
	{"failed to read dockerfile: open ", ErrNoDockerfile},
	{"dockerfile: no such file or directory", ErrNoDockerfile},
	{"cannot be empty", ErrEmptyDockerfile},
	{"file with no instructions", ErrEmptyDockerfile},
	{"error processing tar file", ErrContext},
	{"archive/tar: ", ErrContext},
	{"gzip: ", ErrContext},
}

// buildError is what the engine said of a build that failed, with what may mend
// it where that is known.
func (p *peer) buildError(text string) error {
	failed := &BuildError{Text: text}
	lower := strings.ToLower(text)
	for _, m := range buildMeanings {
		if strings.Contains(lower, m.text) {
			failed.kind = m.kind
			return failed
		}
	}
	failed.kind = kindOf(registryMeaning(errors.New(text)))
	switch {
	case strings.Contains(lower, "frontend gateway.v0") || strings.Contains(lower, "docker/dockerfile"): // the latter since engine 23
		failed.Text += " (the Dockerfile's first line, “# syntax=…”, asks for an image that explains the rest; without that line the engine's own understanding is used, also offline)"
	case strings.Contains(lower, "unknown instruction") && versions.LessThan(p.version, "1.42"):
		failed.Text += " (where the line belongs to a heredoc: those need Docker Engine 23 or newer, or “# syntax=docker/dockerfile:1” as first line)"
	}
	return failed
}

// checkArchive looks at the first bytes of a context. BuildKit would take
// anything that is no archive for a Dockerfile, and complain about that.
func checkArchive(head []byte) error {
	switch {
	case len(head) == 0:
		return errors.New("the archive of the build's files is empty")
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		return nil
	case isTar(head):
		return nil
	}
	return errors.New("the build's files are in no archive of the form tar or tar.gz")
}
