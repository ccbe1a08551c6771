package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"

	"github.com/docker/cli/cli/command"
	"github.com/docker/cli/cli/config/configfile"
	controlapi "github.com/moby/buildkit/api/services/control"
	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/util/progress/progressui"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/client"
	"google.golang.org/protobuf/proto"
)

// withBuildKit has the engine's BuildKit build what compose would give to its
// classic builder. Compose itself reaches BuildKit by the plugin buildx alone,
// which few devices have, and people write RUN --mount.
type withBuildKit struct {
	command.Cli
	out io.Writer
}

func (c withBuildKit) Client() client.APIClient {
	return builder{c.Cli.Client(), c.ConfigFile(), c.out}
}

// A builder is the engine with another way to build.
type builder struct {
	client.APIClient
	logins *configfile.ConfigFile
	out    io.Writer
}

// ImageBuild builds by BuildKit. What that wants to know meanwhile, the logins
// for base images, it asks by a session, which lasts as long as the answer's body.
func (b builder) ImageBuild(ctx context.Context, files io.Reader, o client.ImageBuildOptions) (client.ImageBuildResult, error) {
	line, err := session.NewSession(ctx, "")
	if err != nil {
		return client.ImageBuildResult{}, err
	}
	line.Allow(authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{
		AuthConfigProvider: authprovider.LoadAuthConfig(b.logins),
	}))
	over := make(chan error, 1)
	go func() {
		over <- line.Run(ctx, func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return b.DialHijack(ctx, "/session", proto, meta)
		})
	}()
	end := func() {
		line.Close()
		<-over
	}
	o.Version, o.SessionID, o.AuthConfigs = build.BuilderBuildKit, line.ID(), nil
	result, err := b.APIClient.ImageBuild(ctx, files, o)
	if err != nil {
		end()
		return result, err
	}
	result.Body = b.readable(ctx, result.Body, end)
	return result, nil
}

// A followed body is closed together with what belongs to it.
type followed struct {
	io.Reader
	close func()
}

func (f followed) Close() error {
	f.close()
	return nil
}

// readable prints BuildKit's progress as lines and leaves the other records,
// which are those of the classic builder, to the reader.
func (b builder) readable(ctx context.Context, body io.ReadCloser, end func()) io.ReadCloser {
	rest, forward := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		forward.CloseWithError(b.follow(ctx, body, forward))
	}()
	return followed{rest, func() {
		rest.Close()
		body.Close()
		<-done
		end()
	}}
}

// follow reads the records of a build to their end.
func (b builder) follow(ctx context.Context, body io.Reader, others io.Writer) error {
	display, err := progressui.NewDisplay(b.out, progressui.PlainMode)
	if err != nil {
		return err
	}
	steps, shown := make(chan *buildkit.SolveStatus), make(chan struct{})
	go func() {
		defer close(shown)
		_, _ = display.UpdateFrom(ctx, steps) // ends with ctx or the steps
	}()
	defer func() {
		close(steps)
		<-shown
	}()
	records := json.NewDecoder(bufio.NewReader(body))
	for {
		var record json.RawMessage
		if err := records.Decode(&record); err != nil {
			return err // io.EOF is the end
		}
		status, err := progress(record)
		switch {
		case err != nil:
			return err
		case status != nil:
			select {
			case steps <- status:
			case <-shown:
				return ctx.Err()
			}
		default:
			if _, err := others.Write(append(record, '\n')); err != nil {
				return err
			}
		}
	}
}

// progress is what a record tells of BuildKit's steps, nil if it is about
// something else.
func progress(record json.RawMessage) (*buildkit.SolveStatus, error) {
	var r struct {
		ID  string
		Aux json.RawMessage
	}
	if err := json.Unmarshal(record, &r); err != nil || r.ID != "moby.buildkit.trace" {
		return nil, nil // the reader of all others will tell
	}
	var message []byte
	if err := json.Unmarshal(r.Aux, &message); err != nil {
		return nil, fmt.Errorf("the engine's progress is not readable: %w", err)
	}
	var status controlapi.StatusResponse
	if err := proto.Unmarshal(message, &status); err != nil {
		return nil, fmt.Errorf("the engine's progress is not readable: %w", err)
	}
	return buildkit.NewSolveStatus(&status), nil
}
