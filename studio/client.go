package studio

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/studio/cli"
)

// Dialer gives the commands their sessions with a studio. What happens to a
// session that is in use is told to notices, for people.
func Dialer(notices io.Writer) func(context.Context, protocol.StudioProfile) (cli.Session, error) {
	return func(ctx context.Context, profile protocol.StudioProfile) (cli.Session, error) {
		return dial(ctx, profile, notices)
	}
}

// A client is a session of a person. Close ends it.
type client struct {
	session *messenger.Session
	link    atomic.Pointer[messenger.Link]                   // the connection of the moment, or the last one
	watch   atomic.Pointer[func(online bool, reason string)] // who is told of its changes; nil = people
	closing atomic.Bool
	stop    context.CancelFunc
	ended   chan struct{}
}

// dial joins a studio, and keeps the session from then on. Unlike a device, a
// person is told of the first failure.
func dial(ctx context.Context, profile protocol.StudioProfile, notices io.Writer) (*client, error) {
	if err := ctx.Err(); err != nil {
		return nil, err // else it is a race with the session
	}
	c := &client{ended: make(chan struct{})}
	outcome := make(chan messenger.Status, 1)
	var err error
	cfg := messenger.Config{
		URL:            strings.TrimSuffix(profile.URL, "/") + "/ws",
		Realm:          profile.Realm,
		Identity:       func() (string, string) { return profile.AuthID, profile.Secret },
		PingInterval:   5 * time.Second,
		MaxRetry:       5 * time.Second, // somebody waits
		ConnectTimeout: 10 * time.Second,
		Changed:        c.notify(outcome, notices),
		Log:            zerolog.Nop(), // notices say what people need
	}
	if profile.CA != "" {
		if cfg.TLS, err = trusting(profile.CA); err != nil {
			return nil, err
		}
	}
	if c.session, err = messenger.New(cfg); err != nil {
		return nil, fmt.Errorf("studio %s: %w", profile.URL, err)
	}
	run, stop := context.WithCancel(context.WithoutCancel(ctx)) // Close ends it, after the last words
	c.stop = stop
	go func() {
		defer close(c.ended)
		_ = c.session.Run(run, func(ctx context.Context, link *messenger.Link) error {
			c.link.Store(link)
			var refused *messenger.CallError
			if err := link.Apply(ctx); !errors.As(err, &refused) {
				return err
			}
			return nil // of a topic that this account may follow no longer; whoever followed it finds out
		}) // ends with its context only
	}()
	select {
	case s := <-outcome:
		if s.State == messenger.Online {
			return c, nil
		}
		c.Close()
		return nil, &cli.DialError{Refused: s.State == messenger.Unauthorized, Reason: s.Reason}
	case <-ctx.Done():
		c.Close()
		return nil, ctx.Err()
	}
}

// notify tells the first outcome to whoever waits for it, and later changes to
// people.
func (c *client) notify(outcome chan<- messenger.Status, notices io.Writer) func(messenger.Status) {
	var before messenger.State
	return func(s messenger.Status) {
		switch {
		case s.State == messenger.Connecting, s.State == before:
			return
		case before == "":
			outcome <- s
		case c.closing.Load():
		case c.watch.Load() != nil:
			(*c.watch.Load())(s.State == messenger.Online, s.Reason)
		case s.State == messenger.Online:
			fmt.Fprintln(notices, "the studio is back; what happened in between may be missing above")
		default:
			fmt.Fprintf(notices, "the connection to the studio is lost: %s; trying again\n", s.Reason)
		}
		before = s.State
	}
}

func trusting(pem string) (*tls.Config, error) {
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM([]byte(pem)) {
		return nil, errors.New("the profile's certificates (ca) cannot be read")
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// Call implements cli.Session.
func (c *client) Call(ctx context.Context, uri string, args []any, kwargs map[string]any) (messenger.Result, error) {
	return c.session.Call(ctx, uri, args, kwargs)
}

// CallProgress implements cli.Session.
func (c *client) CallProgress(ctx context.Context, uri string, args []any, kwargs map[string]any, progress func(messenger.Result)) (messenger.Result, error) {
	return c.session.CallProgress(ctx, uri, args, kwargs, progress)
}

// Follow implements cli.Session.
func (c *client) Follow(ctx context.Context, topic string, event func(messenger.Event)) error {
	c.session.DeclareTopic(topic, "", func(_ context.Context, e messenger.Event) { event(e) })
	return c.link.Load().Apply(ctx)
}

// Publish implements cli.Session.
func (c *client) Publish(ctx context.Context, topic string, args []any, kwargs map[string]any) error {
	return c.session.Publish(ctx, topic, map[string]any{"acknowledge": true}, args, kwargs)
}

// Watch implements cli.Session.
func (c *client) Watch(changed func(online bool, reason string)) { c.watch.Store(&changed) }

// Close implements cli.Session.
func (c *client) Close() {
	c.closing.Store(true)
	c.stop()
	<-c.ended
}

// LocalEngine is the Docker Engine of this machine, for app push. It is dialled
// when it is asked for something.
type LocalEngine struct{}

// SaveImage implements cli.Exporter.
func (LocalEngine) SaveImage(ctx context.Context, ref string, to io.Writer) error {
	engine, err := container.New(container.Config{Log: zerolog.Nop()})
	if err != nil {
		return err
	}
	defer engine.Close()
	return engine.SaveImage(ctx, ref, to)
}
