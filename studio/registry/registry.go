package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distribution/distribution/v3/configuration"
	"github.com/distribution/distribution/v3/registry/handlers"
	"github.com/distribution/distribution/v3/registry/storage"
	"github.com/distribution/distribution/v3/registry/storage/driver"
	"github.com/rs/zerolog"

	"reagent/filesystem"
	"reagent/protocol"
)

// Principals knows who may log in, and whose images are whose. The studio's
// store does. An authid is that of a device or, as a decimal number, that of an
// account.
type Principals interface {
	// Secret returns what authid proves itself with.
	Secret(authid string) (secret string, known bool)
	// DeviceWithSecret returns the authid of the one device that has secret.
	DeviceWithSecret(secret string) (authid string, found bool)
	// MayPull and MayPush tell whether authid may read or write the images of an app.
	MayPull(authid string, appKey uint64) bool
	MayPush(authid string, appKey uint64) bool
	// MayPublish tells of which architecture, and as which version, a device may
	// push images of an app now.
	MayPublish(authid string, appKey uint64) (arch, version string, ok bool)
}

// Config says where the images lie and who may have them. Folder and Principals
// are needed.
type Config struct {
	Folder     string // of its own; made where it is missing
	Principals Principals
	Releases   Releases // whose images are kept; nil = nothing is ever collected
	PublicURL  string   // of the studio, where a proxy speaks TLS in front of it

	BearerLife time.Duration // of the tokens that /auth/token hands out; default 15 min
	PullLife   time.Duration // of PullToken's; default 24 h, for pulls take long on thin links
	PushLife   time.Duration // of PushLogin's; default 12 h
	Idle       time.Duration // a transfer that stands still so long ends; default 1 min
	MinFree    uint64        // bytes that uploads leave free on the disk; default 256 MiB
	StaleAfter time.Duration // an upload that nobody finished for so long is removed; default 24 h
	Settle     time.Duration // what a push was of use for is kept so long; default 25 h, more than its login is good

	Log zerolog.Logger
}

func (cfg Config) withDefaults() Config {
	for field, def := range map[*time.Duration]time.Duration{
		&cfg.BearerLife: 15 * time.Minute,
		&cfg.PullLife:   24 * time.Hour,
		&cfg.PushLife:   12 * time.Hour,
		&cfg.Idle:       time.Minute,
		&cfg.StaleAfter: 24 * time.Hour,
		&cfg.Settle:     25 * time.Hour,
	} {
		if *field == 0 {
			*field = def
		}
	}
	if cfg.MinFree == 0 {
		cfg.MinFree = 256 << 20
	}
	return cfg
}

// A Registry serves images. It is an http.Handler for the paths below /v2/ and
// for /auth/token.
type Registry struct {
	cfg     Config
	signer  signer
	mux     *http.ServeMux
	storage *durable
	app     *handlers.App

	gate  sync.RWMutex // a collection holds it; read by who relies on what is there
	clock clock
}

// The paths that a Registry serves.
const (
	PathImages = "/v2/"
	PathToken  = "/auth/token"
)

// service names the registry in challenges.
const service = "reagent-studio"

// New opens the registry below cfg.Folder. Close it.
func New(cfg Config) (*Registry, error) {
	cfg = cfg.withDefaults()
	images := filepath.Join(cfg.Folder, "images")
	for _, folder := range []string{cfg.Folder, images} {
		if err := filesystem.MakePrivateDir(folder); err != nil {
			return nil, fmt.Errorf("image registry: %w", err)
		}
	}
	signer, err := loadSigner(filepath.Join(cfg.Folder, "token.key"))
	if err != nil {
		return nil, err
	}
	r := &Registry{
		cfg: cfg, signer: signer, mux: http.NewServeMux(),
		storage: newDurable(images), clock: newClock(),
	}
	forwardLog(cfg.Log)
	r.app = handlers.NewApp(context.Background(), r.configuration()) // ends with Close
	r.mux.HandleFunc(PathToken, r.serveToken)
	r.mux.Handle(PathImages, r.limit(r.hold(r.app)))
	return r, nil
}

// configuration is the whole of what distribution is told; what is missing
// (metrics, tracing, redis, notifications, proxy) is off. So is its cache of what
// there is: it would not notice that a collection removed something, and take a
// manifest whose layers are gone.
func (r *Registry) configuration() *configuration.Configuration {
	off := configuration.Parameters{"enabled": false}
	c := &configuration.Configuration{
		Version: configuration.CurrentVersion,
		Storage: configuration.Storage{
			durableName:   {"driver": r.storage},
			"delete":      off,
			"redirect":    {"disable": true},
			"maintenance": {"uploadpurging": map[any]any{"enabled": false}}, // Run does it
		},
		Auth: configuration.Auth{controllerName: {"controller": (*controller)(r)}},
	}
	c.HTTP.RelativeURLs = true // the same behind any proxy
	c.HTTP.Secret = base64.StdEncoding.EncodeToString(r.signer.derive("uploads"))
	return c
}

// Close ends what New began. Requests should have ended before.
func (r *Registry) Close() error { return r.app.Shutdown() }

// Run removes, from time to time, uploads that nobody finished and what nobody
// refers to, until ctx ends.
func (r *Registry) Run(ctx context.Context) error {
	const pause, collectEvery = time.Hour, 24 * time.Hour
	var collected time.Time
	for {
		select {
		case <-time.After(rand.N(pause)):
		case <-ctx.Done():
			return ctx.Err()
		}
		if n := r.purge(ctx, time.Now().Add(-r.cfg.StaleAfter)); n > 0 {
			r.cfg.Log.Info().Int("uploads", n).Msg("unfinished uploads removed")
		}
		if time.Since(collected) < collectEvery || r.cfg.Releases == nil {
			continue
		}
		collected = time.Now()
		if _, err := r.Collect(ctx); err != nil && ctx.Err() == nil {
			r.cfg.Log.Error().Err(err).Msg("garbage not collected")
		}
	}
}

// purge removes the uploads that were begun before a time and never finished.
func (r *Registry) purge(ctx context.Context, before time.Time) (removed int) {
	uploads, errs := storage.PurgeUploads(ctx, r.storage, before, true)
	for _, err := range errs {
		// A registry without images has no folder of repositories yet.
		if missing := (driver.PathNotFoundError{}); !errors.As(err, &missing) && ctx.Err() == nil {
			r.cfg.Log.Warn().Err(err).Msg("removing unfinished uploads")
		}
	}
	return len(uploads)
}

// ServeHTTP answers the requests below /v2/ and at /auth/token.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) { r.mux.ServeHTTP(w, req) }

// PullToken makes a user name with which a device, together with its secret,
// pulls on behalf of an account: the answer of get_registry_token.
func (r *Registry) PullToken(account uint64, device string) string {
	return r.signer.sign(claims{Use: usePull, Subject: device, Account: account, Expires: r.until(r.cfg.PullLife)})
}

// PushLogin makes a login with which an account pushes the images of one app.
func (r *Registry) PushLogin(account, appKey uint64) (username, password string) {
	authid := strconv.FormatUint(account, 10)
	return authid, r.signer.sign(claims{Use: usePush, Subject: authid, App: appKey, Expires: r.until(r.cfg.PushLife)})
}

func (r *Registry) until(life time.Duration) int64 { return time.Now().Add(life).Unix() }

// may tells whether a subject may do something with a repository. Only names
// that the contract makes from an app exist here.
func (r *Registry) may(subject string, onlyApp uint64, repository, action string) bool {
	name, ok := strings.CutPrefix(repository, protocol.MainRepository)
	if !ok {
		return false
	}
	stage, arch, appKey, _, ok := protocol.ParseImageName(name)
	if !ok || onlyApp != 0 && onlyApp != appKey {
		return false
	}
	switch action {
	case "pull":
		return r.cfg.Principals.MayPull(subject, appKey)
	case "push":
		if r.cfg.Principals.MayPush(subject, appKey) {
			return true
		}
		published, _, ok := r.cfg.Principals.MayPublish(subject, appKey)
		return ok && stage == protocol.Prod && arch == published
	}
	return false
}
