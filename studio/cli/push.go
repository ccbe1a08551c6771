package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"reagent/protocol"
)

// A target is the registry of the studio, with the login for one app.
type target struct {
	c         *Call
	login     protocol.RegistryLogin
	version   string
	replace   bool
	transport *http.Transport
	options   []name.Option
}

func (c *Call) registry(login protocol.RegistryLogin, version string, replace bool) (*target, error) {
	t := &target{c: c, login: login, version: version, replace: replace}
	t.transport = http.DefaultTransport.(*http.Transport).Clone()
	t.transport.ResponseHeaderTimeout = 5 * time.Minute // a large layer is checked before it is acknowledged
	profile, err := c.readProfile()
	if err != nil {
		return nil, err
	}
	if profile.CA != "" {
		roots, err := x509.SystemCertPool()
		if err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM([]byte(profile.CA)) {
			return nil, errors.New("the profile's certificates (ca) cannot be read")
		}
		t.transport.TLSClientConfig = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if login.Insecure {
		t.options = append(t.options, name.Insecure)
	}
	return t, nil
}

func (t *target) Close() { t.transport.CloseIdleConnections() }

// push sends the image of one architecture; service is "" but in compose apps.
func (t *target) push(ctx context.Context, service, arch string, img v1.Image) error {
	what := t.login.AppName
	image := protocol.RegistryImage(t.login.Registry, t.login.Repository, protocol.Prod, arch, t.login.AppKey, t.login.AppName)
	if service != "" {
		what += " (" + service + ")"
		image = protocol.RegistryServiceImage(t.login.Registry, t.login.Repository, protocol.Prod, arch, t.login.AppKey, t.login.AppName, service)
	}
	ref, err := name.NewTag(image+":"+t.version, t.options...)
	if err != nil {
		return fmt.Errorf("the studio names its registry wrongly: %w", err)
	}
	var through http.RoundTripper = t.transport
	if !t.login.Insecure {
		through = encrypted{through} // a private address would be tried without TLS too
	}
	options := []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(through),
		remote.WithAuth(authn.FromConfig(authn.AuthConfig{Username: t.login.Username, Password: t.login.Password})),
		remote.WithUserAgent(t.c.Name),
	}
	if !t.replace {
		if err := t.checkSame(ref, img, what, arch, options); err != nil {
			return err
		}
	}
	updates := make(chan v1.Update)
	done := make(chan error, 1)
	go func() { done <- remote.Write(ref, img, append(options, remote.WithProgress(updates))...) }()
	bar := t.c.bar(fmt.Sprintf("pushing %s %s for %s", what, t.version, arch))
	for sent := (<-chan v1.Update)(updates); ; {
		select {
		case u, open := <-sent:
			if !open {
				sent = nil // some versions of the library close it, some do not
			}
			bar.at(u.Complete, u.Total)
			continue
		case err = <-done:
		}
		break
	}
	bar.end(err)
	return explainPush(err, t.login.Registry)
}

// checkSame refuses to put another image under a version that was pushed.
func (t *target) checkSame(ref name.Tag, img v1.Image, what, arch string, options []remote.Option) error {
	there, err := remote.Image(ref, options...)
	var answer *transport.Error
	if errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound {
		return nil
	}
	if err != nil {
		return explainPush(err, t.login.Registry)
	}
	// Not the digest: it also says how the layers were packed.
	old, err := there.ConfigName()
	if err != nil {
		return explainPush(err, t.login.Registry)
	}
	id, err := img.ConfigName()
	if err != nil {
		return err
	}
	if old != id {
		return fmt.Errorf("%s %s for %s was pushed before with another image, and devices that have it would not notice the new one: take another version, or say --replace", what, t.version, arch)
	}
	return nil
}

// explainPush makes of the library's errors what people can do something with.
func explainPush(err error, registry string) error {
	var answer *transport.Error
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &answer) && answer.StatusCode == http.StatusUnauthorized:
		return fmt.Errorf("the registry %s does not take the login of this push: try again", registry)
	case errors.As(err, &answer) && len(answer.Errors) > 0:
		return fmt.Errorf("the registry %s: %s", registry, printable(answer.Errors[0].Message))
	}
	return fmt.Errorf("push to %s: %w; the same command goes on where it broke off", strings.TrimSuffix(registry, "/"), err)
}

// encrypted refuses to send anything in the clear.
type encrypted struct{ http.RoundTripper }

func (e encrypted) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s does not speak TLS", r.URL.Host)
	}
	return e.RoundTripper.RoundTrip(r)
}
