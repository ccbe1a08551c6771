package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"reagent/config"
	"reagent/internal/backoff"
	"reagent/messenger"
	"reagent/protocol"
)

// A greeting is what the agent does on each connection before it says CONNECTED
// (wire §10, design S3). It takes three round trips:
//
//  1. the duplicate probe and the testament
//  2. metadata, credential key, CONFIGURING, every registration and
//     subscription, architecture, and the question for the wish list
//  3. CONNECTED
//
// The messenger runs one greeting at a time and ends its context with the
// connection, so the newest session always wins.
type greeting struct {
	log        zerolog.Logger
	studio     backend
	file       *config.DeviceFile
	learnt     *learnt
	apps       appList
	logs       interface{ Online(context.Context) }
	shells     interface{ Online() }
	status     statusReporter
	probe      messenger.Handler // of wamp_connection_established
	machine    func() protocol.DeviceArchitecture
	engineWait time.Duration // CONNECTED does not wait longer for the engine
	callLimit  time.Duration
	stays      chan stay
}

// An appList is what a connection means to the apps.
type appList interface {
	Sync(answer any, asked time.Time) (empty bool, err error)
	ConfirmEmpty(ctx context.Context, ask func(context.Context) (any, error)) error
	Refresh()
	Online()
	Ready() <-chan struct{}
}

// A statusReporter tells the studio the device's status, first what it is told
// to, then as a heartbeat.
type statusReporter interface {
	Report(ctx context.Context, link *messenger.Link, s protocol.DeviceState) error
	Beat(ctx context.Context, link *messenger.Link)
}

func (g *greeting) run(ctx context.Context, link *messenger.Link) error {
	id := g.file.Identity()
	if err := g.introduce(ctx, link, id); err != nil {
		return err
	}
	asked := time.Now()
	moved, wishes, err := g.exchange(ctx, link, id)
	switch {
	case err != nil:
		return err
	case moved:
		return messenger.ErrRejoin // the list was another project's
	}
	g.apps.Online()
	g.waitForEngine(ctx)
	empty := false
	if wishes != nil {
		if empty, err = g.apps.Sync(wishes, asked); err != nil {
			g.log.Warn().Err(err).Msg("wish list not taken")
		}
	}
	if err := g.status.Report(ctx, link, protocol.Connected); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		g.log.Warn().Err(err).Msg("studio did not take the status; the heartbeat repeats it")
	} else {
		g.log.Info().Msg("connected")
	}
	select {
	case g.stays <- stay{ctx, link, empty}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A stay is a connection after its greeting.
type stay struct {
	ctx   context.Context // ends with the connection
	link  *messenger.Link
	empty bool // the wish list was, and has to be confirmed
}

// keep does what a connection needs for as long as it lasts; it is the agent's
// part that the greetings hand their connections to.
func (g *greeting) keep(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case s := <-g.stays:
			var group sync.WaitGroup
			group.Go(func() { g.logs.Online(s.ctx) })
			group.Go(func() { g.status.Beat(s.ctx, s.link) })
			group.Go(func() { g.complete(s) })
			if s.empty {
				group.Go(func() { g.confirmEmpty(s.ctx) })
			}
			group.Wait()
		}
	}
}

// complete registers again what the router refused or did not answer in the
// flight: a device with half of its procedures is half lost.
func (g *greeting) complete(s stay) {
	pause, level := backoff.Backoff{Min: time.Second, Max: time.Minute}, zerolog.WarnLevel
	for {
		limited, cancel := context.WithTimeout(s.ctx, g.callLimit)
		err := s.link.Apply(limited)
		cancel()
		if err == nil || s.ctx.Err() != nil {
			return
		}
		wait := pause.Next()
		g.log.WithLevel(level).Err(err).Dur("retry_in", wait).Msg("not everything is registered")
		level = zerolog.DebugLevel // a router that always refuses something fills no log
		if backoff.Sleep(s.ctx, wait) != nil {
			return
		}
	}
}

func (g *greeting) confirmEmpty(ctx context.Context) {
	g.log.Warn().Msg("the studio's wish list is empty; it is asked again before any app goes")
	deviceKey := g.file.Identity().DeviceKey
	err := g.apps.ConfirmEmpty(ctx, func(ctx context.Context) (any, error) {
		ctx, cancel := context.WithTimeout(ctx, g.callLimit)
		defer cancel()
		return g.studio.wishList(ctx, deviceKey)
	})
	if err != nil && ctx.Err() == nil {
		g.log.Warn().Err(err).Msg("empty wish list not confirmed")
	}
}

// introduce makes sure that no other session has this device's name, and leaves
// the testament.
func (g *greeting) introduce(ctx context.Context, link *messenger.Link, id config.Identity) error {
	ctx, cancel := context.WithTimeout(ctx, g.callLimit)
	defer cancel()
	var testament sync.WaitGroup
	testament.Go(func() {
		will := protocol.Testament{SwarmKey: id.SwarmKey, DeviceKey: id.DeviceKey, SerialNumber: id.SerialNumber, WAMPSessionID: link.ID()}
		if _, err := link.Call(ctx, protocol.AddTestament, []any{protocol.TestamentDevice, []any{protocol.Wire(will)}, map[string]any{}}, nil); err != nil {
			g.log.Warn().Err(err).Msg("router did not take the testament")
		}
	})
	err := link.Register(ctx, protocol.Procedure(id.SerialNumber, protocol.ConnectionEstablished), nil, g.probe)
	testament.Wait()
	var refused *messenger.CallError
	if errors.As(err, &refused) && refused.URI == protocol.ErrorProcedureExists {
		return messenger.ErrDuplicate
	}
	if err != nil && ctx.Err() == nil {
		g.log.Warn().Err(err).Msg("duplicate probe not registered")
	}
	return ctx.Err()
}

// exchange is everything that needs no answer of the other, in one flight. moved
// is true when the device was moved to another project.
func (g *greeting) exchange(ctx context.Context, link *messenger.Link, id config.Identity) (moved bool, wishes any, err error) {
	limited, cancel := context.WithTimeout(ctx, g.callLimit)
	defer cancel()
	var flight sync.WaitGroup
	warn := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			g.log.Warn().Err(err).Msg(what)
		}
	}
	flight.Go(func() {
		m, err := g.studio.deviceMetadata(limited, id.DeviceKey)
		warn("studio does not tell the device's metadata", err)
		if err == nil {
			moved, err = g.rename(m)
			warn("device file not written", err)
		}
	})
	flight.Go(func() {
		key, err := g.studio.appCredentialKey(limited)
		warn("studio does not tell the apps' credential key", err)
		if err == nil && g.learnt.setCredentialKey(key) {
			g.apps.Refresh()
		}
	})
	flight.Go(func() { warn("status not taken", g.status.Report(limited, link, protocol.Configuring)) })
	flight.Go(func() {
		warn("not everything is registered at once", link.Apply(limited))
		g.shells.Online() // who types waits for nothing else
	})
	flight.Go(func() {
		a := g.machine()
		a.SwarmKey, a.DeviceKey = id.SwarmKey, id.DeviceKey
		_, err := link.Call(limited, protocol.UpdateDeviceArchitecture, []any{protocol.Wire(a)}, nil)
		warn("architecture not taken", err)
	})
	flight.Go(func() {
		var err error
		wishes, err = g.studio.wishList(limited, id.DeviceKey)
		if err != nil {
			wishes = nil
		}
		warn("studio does not tell the wish list; the apps stay as they are", err)
	})
	flight.Wait()
	return moved, wishes, ctx.Err()
}

// rename writes what the studio calls this device. A name that it left out
// stays as it was.
func (g *greeting) rename(m metadata) (moved bool, err error) {
	before := g.file.Identity()
	err = g.file.Update(func(l *config.Learned) {
		for _, f := range []struct {
			to   *string
			from string
		}{{&l.Name, m.deviceName}, {&l.SwarmName, m.swarmName}, {&l.SwarmOwnerName, m.owner}} {
			if f.from != "" {
				*f.to = f.from
			}
		}
		if m.swarmKey != 0 {
			l.SwarmKey = m.swarmKey
		}
	})
	after := g.file.Identity()
	if after.Learned != before.Learned {
		g.apps.Refresh()
	}
	return after.SwarmKey != before.SwarmKey, err
}

// waitForEngine gives an engine that is about to answer the time to do so, that
// the states of the apps are true before CONNECTED. One that is absent holds
// nothing up: wishes are stored, and the workers take them when it answers.
func (g *greeting) waitForEngine(ctx context.Context) {
	select {
	case <-g.apps.Ready():
	case <-time.After(g.engineWait):
		g.log.Warn().Msg("engine does not answer; connected without it")
	case <-ctx.Done():
	}
}

// learnt is what the agent was told and keeps in memory only.
type learnt struct {
	mu            sync.Mutex
	credentialKey string
	baseURL       string
}

func (l *learnt) setCredentialKey(key string) (changed bool) { return l.set(&l.credentialKey, key) }
func (l *learnt) setBaseURL(u string) (changed bool)         { return l.set(&l.baseURL, u) }

func (l *learnt) set(field *string, value string) (changed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	changed = *field != value
	*field = value
	return changed
}

func (l *learnt) get() (credentialKey, baseURL string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.credentialKey, l.baseURL
}
