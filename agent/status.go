package agent

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/messenger"
	"reagent/persistence/device"
	"reagent/protocol"
)

// A statusFile keeps status.json true (design S17): it is written when
// something changed, at most once in a while, by one goroutine.
type statusFile struct {
	path    string
	write   func(path string, s protocol.AgentStatus) error
	log     zerolog.Logger
	pause   time.Duration // between two writes
	fixed   protocol.AgentStatus
	apps    func() ([]device.Actual, error)
	engine  func(context.Context) protocol.EngineStatus
	compose func() string
	disks   func() []protocol.DiskStatus

	mu   sync.Mutex
	link messenger.Status
	wake chan struct{} // capacity 1
}

func (f *statusFile) poke() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// linkChanged is told each change of the connection's state.
func (f *statusFile) linkChanged(s messenger.Status) {
	f.mu.Lock()
	f.link = s
	f.mu.Unlock()
	f.poke()
}

func (f *statusFile) run(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Dir(f.path), 0o700); err != nil {
		f.log.Warn().Err(err).Msg("status not written")
	}
	f.poke()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-f.wake:
		}
		if err := f.write(f.path, f.now(ctx)); err != nil {
			f.log.Warn().Err(err).Msg("status not written")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(f.pause):
		}
	}
}

func (f *statusFile) now(ctx context.Context) protocol.AgentStatus {
	f.mu.Lock()
	s, link := f.fixed, f.link
	f.mu.Unlock()
	s.Updated = time.Now().UTC()
	s.State, s.Since, s.NextTry, s.Reason, s.Router = string(link.State), link.Since, link.NextTry, link.Reason, link.Router
	s.Engine, s.Compose = f.engine(ctx), f.compose()
	s.Disks = f.disks()
	s.Apps = []protocol.AppStatus{}
	apps, err := f.apps()
	if err != nil {
		f.log.Warn().Err(err).Msg("apps not read for the status")
	}
	for _, a := range apps {
		s.Apps = append(s.Apps, protocol.AppStatus{AppKey: a.AppKey, Stage: a.Stage, Name: a.AppName, State: a.State, Version: a.Version, Error: a.Error})
	}
	return s
}
