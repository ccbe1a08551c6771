package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"

	"github.com/docker/docker/api/types/image"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// DownloadSize is how many bytes a pull would fetch, before it fetches the first:
// the sum of the layers that no image of the engine has, as they come,
// compressed. The engine cannot be asked that, so its registry is; where that
// cannot be reached from here in the way that it can from the engine, over a
// mirror, say, the answer is an error, and the size is not known.
func (e *Engine) DownloadSize(ctx context.Context, ref string, cred *Credential) (bytes int64, err error) {
	err = e.call(ctx, e.cfg.Timeout, func(ctx context.Context, p *peer) error {
		manifest, layers, err := p.look(ctx, ref, cred)
		if err != nil {
			return err
		}
		have, err := p.common(ctx, layers)
		if err != nil {
			return err
		}
		if len(layers) != len(manifest.Layers) {
			have = 0 // foreign layers, or an artefact that is no image
		}
		for _, l := range manifest.Layers[have:] {
			bytes += max(0, l.Size)
		}
		return nil
	})
	return bytes, wrap("look up", ref, err)
}

// look reads the manifest and the ids of the layers of an image in a registry.
func (p *peer) look(ctx context.Context, ref string, cred *Credential) (*v1.Manifest, []string, error) {
	named, err := name.ParseReference(ref)
	if err != nil {
		return nil, nil, err
	}
	engine, err := p.Info(ctx)
	if err != nil {
		return nil, nil, err
	}
	host := named.Context().RegistryStr()
	door := &registryDoor{http.DefaultTransport.(*http.Transport).Clone(), host, false}
	defer door.CloseIdleConnections()
	if c := engine.RegistryConfig; c != nil {
		of := c.IndexConfigs[host]
		door.plain = of != nil && !of.Secure
		for _, net := range c.InsecureRegistryCIDRs {
			door.plain = door.plain || net != nil && isIn(host, net.String())
		}
	}
	auth := authn.Anonymous
	if cred != nil {
		auth = authn.FromConfig(authn.AuthConfig{Username: cred.Username, Password: cred.Password})
	}
	found, err := remote.Image(named, remote.WithContext(ctx), remote.WithAuth(auth), remote.WithTransport(door),
		remote.WithUserAgent("reagent"), remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithPlatform(v1.Platform{OS: "linux", Architecture: runtime.GOARCH}))
	if err != nil {
		return nil, nil, ofLookup(err)
	}
	manifest, err := found.Manifest()
	if err != nil {
		return nil, nil, ofLookup(err)
	}
	config, err := found.ConfigFile()
	if err != nil {
		return nil, nil, ofLookup(err)
	}
	var layers []string
	for _, id := range config.RootFS.DiffIDs {
		layers = append(layers, id.String())
	}
	return manifest, layers, nil
}

// ofLookup classifies what went wrong with a registry. The error itself is left
// behind: to whoever asks for it, one of the network would be about the engine.
func ofLookup(err error) error {
	text := errors.New(err.Error())
	answer := (*transport.Error)(nil)
	if !errors.As(err, &answer) {
		return registryMeaning(text)
	}
	switch {
	case answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden:
		return &engineError{ErrUnauthorized, text}
	case answer.StatusCode == http.StatusNotFound:
		return &engineError{ErrNotFound, text}
	case answer.Temporary():
		return &engineError{ErrNetwork, text}
	}
	return registryMeaning(text)
}

// common is how many of an image's layers, from the lowest, the engine has.
func (p *peer) common(ctx context.Context, layers []string) (most int, err error) {
	rows, err := p.ImageList(ctx, image.ListOptions{})
	if err != nil {
		return 0, err
	}
	for _, row := range rows {
		have, err := p.ImageInspect(ctx, row.ID)
		if err != nil {
			continue // removed meanwhile
		}
		n := 0
		for n < len(layers) && n < len(have.RootFS.Layers) && layers[n] == have.RootFS.Layers[n] {
			n++
		}
		most = max(most, n)
	}
	return most, nil
}

// maxAnswer bounds what a registry may answer. Only manifests, configurations and
// tokens are asked for.
const maxAnswer = 4 << 20

// A registryDoor lets requests to a registry through that the engine would make,
// too: without TLS only where its configuration says so. What is answered is
// bounded.
type registryDoor struct {
	*http.Transport
	host  string
	plain bool
}

func (d *registryDoor) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.URL.Scheme != "https" && !(d.plain && r.URL.Host == d.host) {
		return nil, fmt.Errorf("%s is not asked without TLS: the engine's configuration does not allow it", r.URL.Host)
	}
	answer, err := d.Transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	answer.Body = &boundedBody{answer.Body, maxAnswer}
	return answer, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(to []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("the registry answers too much")
	}
	n, err := b.ReadCloser.Read(to[:min(int64(len(to)), b.left)])
	b.left -= int64(n)
	return n, err
}

// isIn tells whether a host, which may have a port, is an address of a network.
func isIn(host, network string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return false // engines ask the name's address; ours is not to guess
	}
	prefix, err := netip.ParsePrefix(network)
	return err == nil && prefix.Contains(addr)
}
