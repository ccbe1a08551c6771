package messenger

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"path"
)

// A dialer opens one connection.
type dialer func(ctx context.Context) (wire, error)

// newDialer takes the URL apart, once, so that a mistake in it is an error at
// the start and not an endless retry. router is the URL for people.
func newDialer(cfg *Config) (dial dialer, router string, err error) {
	if cfg.TLS != nil && cfg.TLS.InsecureSkipVerify {
		return nil, "", errors.New("the TLS configuration switches verification off; name the router's CA instead")
	}
	for _, name := range cfg.Serializations {
		if _, ok := formats[name]; !ok {
			return nil, "", fmt.Errorf("serialization %q: use json, cbor or msgpack", name)
		}
	}
	if cfg.Dial != nil {
		return func(ctx context.Context) (wire, error) {
			peer, err := cfg.Dial(ctx)
			if err != nil {
				return nil, err
			}
			return newPeerWire(peer, cfg.WriteTimeout), nil
		}, "in this process", nil
	}
	u, err := url.Parse(cfg.URL)
	if err != nil {
		var bad *url.Error
		if errors.As(err, &bad) {
			err = bad.Err // without the URL, which may hold a password
		}
		return nil, "", fmt.Errorf("the router's URL: %w", err)
	}
	router = u.Redacted()
	if u.User != nil {
		return nil, router, fmt.Errorf("the router's URL %s: a WebSocket URL has no user and password; devices log in with their secret", router)
	}
	transport, ok := transports[u.Scheme]
	switch {
	case !ok:
		return nil, router, fmt.Errorf("the router's URL %q: it begins with ws, wss, http, https, tcp, tcps or unix", router)
	case u.Scheme != "unix" && u.Hostname() == "":
		return nil, router, fmt.Errorf("the router's URL %q names no host", router)
	}
	dial, err = transport(u, cfg)
	if err != nil {
		return nil, router, fmt.Errorf("the router's URL %q: %w", router, err)
	}
	return dial, router, nil
}

var transports = map[string]func(*url.URL, *Config) (dialer, error){
	"ws":    webSocket("ws"),
	"http":  webSocket("ws"),
	"wss":   webSocket("wss"),
	"https": webSocket("wss"),
	"tcp":   rawSocket("tcp", false),
	"tcp4":  rawSocket("tcp4", false),
	"tcp6":  rawSocket("tcp6", false),
	"tcps":  rawSocket("tcp", true),
	"tcp4s": rawSocket("tcp4", true),
	"tcp6s": rawSocket("tcp6", true),
	"unix":  unixSocket,
}

func webSocket(scheme string) func(*url.URL, *Config) (dialer, error) {
	return func(u *url.URL, cfg *Config) (dialer, error) {
		target := *u
		target.Scheme = scheme
		return func(ctx context.Context) (wire, error) { return asWire(dialWebSocket(ctx, target.String(), cfg)) }, nil
	}
}

func rawSocket(network string, secure bool) func(*url.URL, *Config) (dialer, error) {
	return func(u *url.URL, cfg *Config) (dialer, error) {
		if u.Port() == "" {
			return nil, errors.New("a raw socket needs a port")
		}
		var tlsConfig *tls.Config
		if secure {
			tlsConfig = cfg.TLS.Clone()
			if tlsConfig == nil {
				tlsConfig = new(tls.Config)
			}
			if tlsConfig.ServerName == "" {
				tlsConfig.ServerName = u.Hostname()
			}
		}
		return func(ctx context.Context) (wire, error) {
			return asWire(dialRawSocket(ctx, network, u.Host, cfg, tlsConfig))
		}, nil
	}
}

func unixSocket(u *url.URL, cfg *Config) (dialer, error) {
	file := path.Clean(u.Host + u.Path) // unix://name is relative, unix:///name is not
	if file == "." {
		return nil, errors.New("it names no socket")
	}
	return func(ctx context.Context) (wire, error) { return asWire(dialRawSocket(ctx, "unix", file, cfg, nil)) }, nil
}

// asWire keeps a nil pointer from becoming a wire that is not nil.
func asWire[W wire](w W, err error) (wire, error) {
	if err != nil {
		return nil, err
	}
	return w, nil
}
