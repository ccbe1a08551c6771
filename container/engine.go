package container

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api"
	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/versions"
	"github.com/docker/docker/client"
	"github.com/rs/zerolog"
)

// A Config says where the engine is and how long to wait for it.
type Config struct {
	Host      string        // such as "unix:///run/docker.sock"; empty: DOCKER_HOST, else the engine's default
	Timeout   time.Duration // of each call; 0 = 30 s
	Short     time.Duration // of Ping and of finding out which version the engine speaks; 0 = 5 s
	Long      time.Duration // of what works through a disk, removing and pruning images; 0 = 5 min
	PullIdle  time.Duration // a pull or push that reports nothing for so long has failed; 0 = 2 min
	LogIdle   time.Duration // so has the reading of a log that does not follow; 0 = 2 min
	KeepAfter time.Duration // the layers of a pull are kept over a lost link once it took so long; 0 = 10 s
	// A build that reports nothing for so long has failed. A step may work for
	// long without printing anything. 0 = 30 min
	BuildIdle time.Duration
	Grace     time.Duration // of a program in a container that is to end, before it is killed; 0 = 2 s
	Log       zerolog.Logger
}

// An Engine is a Docker Engine. See the package's promises.
type Engine struct {
	cfg  Config
	host string
	base *client.Client  // only pings, which needs no version
	http *http.Transport // shared by base and every peer, so that connections live on

	// dialing holds a token while somebody asks the engine for its version;
	// the others wait for the answer, but no longer than their own context.
	dialing chan struct{}
	peer    atomic.Pointer[peer] // nil until the engine answered, and again when it is gone
}

// A peer is what is known about the engine that answers now. It is forgotten as
// a whole when the engine goes: another version may come back, or the same one
// with other rights.
type peer struct {
	*client.Client
	http    *http.Client
	scheme  string                 // "http" or "https"
	version string                 // of the API
	os      string                 // "linux", "windows"
	builder build.BuilderVersion   // that the engine prefers; "" = it does not say
	rights  atomic.Pointer[rights] // what it allows of "privileged"; nil until known

	logs         atomic.Int32  // bounds: does it limit logs by itself
	probing      chan struct{} // capacity 1; held by whoever finds that out for compose
	plainBuilder atomic.Bool   // it has the classic builder only, as a build has shown
}

// New makes an Engine. It never dials: the engine may be absent.
func New(cfg Config) (*Engine, error) {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&cfg.Timeout, 30 * time.Second},
		{&cfg.Short, 5 * time.Second},
		{&cfg.Long, 5 * time.Minute},
		{&cfg.PullIdle, 2 * time.Minute},
		{&cfg.LogIdle, 2 * time.Minute},
		{&cfg.KeepAfter, 10 * time.Second},
		{&cfg.BuildIdle, 30 * time.Minute},
		{&cfg.Grace, 2 * time.Second},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	e := &Engine{
		cfg:     cfg,
		host:    cmp.Or(cfg.Host, os.Getenv(client.EnvOverrideHost), client.DefaultDockerHost),
		http:    &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second},
		dialing: make(chan struct{}, 1),
	}
	opts := []client.Opt{
		client.WithHTTPClient(e.httpClient()),
		// Named, so that the client never negotiates by itself: its way holds a
		// lock over the network that no context gets anybody out of.
		client.WithVersion(oldest),
	}
	if certs := os.Getenv(client.EnvOverrideCertPath); certs != "" && !isLocal(e.host) {
		// Unlike Docker's own tools, verified without DOCKER_TLS_VERIFY too.
		opts = append(opts, client.WithTLSClientConfig(
			filepath.Join(certs, "ca.pem"), filepath.Join(certs, "cert.pem"), filepath.Join(certs, "key.pem")))
	}
	var err error
	if e.base, err = client.NewClientWithOpts(append(opts, client.WithHost(e.host))...); err != nil {
		return nil, fmt.Errorf("container engine %s: %w", e.host, err)
	}
	return e, nil
}

// The versions of the API that the client library speaks.
const (
	oldest = api.MinSupportedAPIVersion
	newest = api.DefaultVersion
)

func isLocal(host string) bool {
	return strings.HasPrefix(host, "unix:") || strings.HasPrefix(host, "npipe:")
}

// httpClient is a new one each time, because the engine's client wraps the
// transport of the one it gets.
func (e *Engine) httpClient() *http.Client {
	return &http.Client{Transport: e.http, CheckRedirect: client.CheckRedirect}
}

// Local tells whether the engine is reached over a socket of this machine, so
// that its files are this machine's, too.
func (e *Engine) Local() bool { return isLocal(e.host) }

// Close lets go of idle connections. Calls that run are not affected.
func (e *Engine) Close() { e.http.CloseIdleConnections() }

// connect gives the peer, asking the engine for its version when none is known.
func (e *Engine) connect(ctx context.Context) (*peer, error) {
	if p := e.peer.Load(); p != nil {
		return p, nil
	}
	select {
	case e.dialing <- struct{}{}:
		defer func() { <-e.dialing }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if p := e.peer.Load(); p != nil {
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.cfg.Short)
	defer cancel()
	answer, err := e.base.Ping(ctx)
	if err != nil {
		return nil, err
	}
	p := &peer{version: cmp.Or(answer.APIVersion, oldest), os: answer.OSType, builder: answer.BuilderVersion, probing: make(chan struct{}, 1)}
	if versions.GreaterThan(p.version, newest) {
		p.version = newest
	}
	p.Client, err = client.NewClientWithOpts(
		client.WithHost(e.host),               // first: it would configure the
		client.WithHTTPClient(e.httpClient()), // shared transport, which is in use
		client.WithVersion(p.version),
	)
	if err != nil {
		return nil, err
	}
	p.http, p.scheme = p.HTTPClient(), "http"
	if e.http.TLSClientConfig != nil {
		p.scheme = "https"
	}
	e.peer.Store(p)
	e.cfg.Log.Debug().Str("api", p.version).Msg("container engine answers")
	return p, nil
}

// call performs one operation on the engine within d. When the engine turns
// out to be gone, or another version of it answers, what was known about it is
// forgotten; in the second case, in which the engine did nothing, the operation
// is performed once more.
func (e *Engine) call(ctx context.Context, d time.Duration, do func(context.Context, *peer) error) error {
	limited, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return translate(ctx, e.attempt(limited, do))
}

func (e *Engine) attempt(ctx context.Context, do func(context.Context, *peer) error) error {
	for tries := 0; ; tries++ {
		p, err := e.connect(ctx)
		if err != nil {
			return err
		}
		err = do(ctx, p)
		stale := err != nil && staleVersion.MatchString(err.Error())
		if stale || isDisconnect(err) {
			e.peer.CompareAndSwap(p, nil)
		}
		if !stale || tries > 0 {
			return err
		}
	}
}

// staleVersion is what an engine says to a request in a version that it does
// not speak (any more, or yet).
var staleVersion = regexp.MustCompile(`client version \S+ is too (new|old)`)

// Info describes the engine.
type Info struct {
	Version    string // of the engine, such as "20.10.24"
	APIVersion string // that is spoken with it
	ID         string
	DataRoot   string
	Arch       string // as the kernel names it, such as "x86_64"
	NCPU       int
	Memory     int64 // bytes
	Runtimes   []string
}

// Ping asks the engine who it is, with a short deadline.
func (e *Engine) Ping(ctx context.Context) (Info, error) {
	var info Info
	err := e.call(ctx, e.cfg.Short, func(ctx context.Context, p *peer) error {
		i, err := p.Info(ctx)
		if err != nil {
			return err
		}
		info = Info{
			Version:    i.ServerVersion,
			APIVersion: p.version,
			ID:         i.ID,
			DataRoot:   i.DockerRootDir,
			Arch:       i.Architecture,
			NCPU:       i.NCPU,
			Memory:     i.MemTotal,
		}
		for name := range i.Runtimes {
			info.Runtimes = append(info.Runtimes, name)
		}
		return nil
	})
	if err != nil {
		return Info{}, fmt.Errorf("ping container engine: %w", err)
	}
	return info, nil
}

// plainName is what containers may be called, and what their ids look like.
// Anything else never reaches the engine, whose URLs are made of it.
var plainName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

func checkContainer(idOrName string) error {
	if !plainName.MatchString(idOrName) {
		return &engineError{ErrNotFound, fmt.Errorf("no container can be called %q", idOrName)}
	}
	return nil
}

func isID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}
