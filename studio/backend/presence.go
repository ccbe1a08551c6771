package backend

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"reagent/protocol"
	"reagent/studio/store"
)

// Topics are what the session subscribes to, by URI.
func (b *Backend) Topics() map[string]Topic {
	return map[string]Topic{
		protocol.SessionOnJoin:   b.onJoin,
		protocol.SessionOnLeave:  b.onLeave,
		protocol.TestamentDevice: b.onTestament,
	}
}

// onJoin gets the details of a session that has joined.
func (b *Backend) onJoin(ctx context.Context, args []any) {
	details, _ := protocol.AsDict(protocol.Arg(args, 0))
	b.joined(ctx, details)
}

func (b *Backend) joined(ctx context.Context, details map[string]any) {
	session, ok := protocol.Uint(details["session"])
	role, _ := protocol.Text(details["authrole"])
	authid, _ := protocol.Text(details["authid"])
	if !ok || !slices.Contains(b.cfg.DeviceRoles, role) {
		return
	}
	d, known := b.store.DeviceByAuthID(authid)
	if known && b.store.Joined(d.Key, session) {
		b.log.Info().Str("device", d.Name).Msg("device is online")
		b.publishDevice(ctx, d.Key)
	}
}

// onLeave gets the id of a session that has left; some routers add who it was.
func (b *Backend) onLeave(ctx context.Context, args []any) {
	if session, ok := protocol.Uint(protocol.Arg(args, 0)); ok {
		b.left(ctx, session)
	}
}

// onTestament gets what a device said before it went. Where a router does not
// tell of sessions that leave, it is all that there is. Only the id of a session
// that is known to be a device's counts: who publishes here is not known.
func (b *Backend) onTestament(ctx context.Context, args []any) {
	will, _ := protocol.AsDict(protocol.Arg(args, 0))
	session, okSession := protocol.Uint(will["wamp_session_id"])
	device, okDevice := protocol.Uint(will["device_key"])
	if okSession && okDevice && b.store.Sessions()[session] == device {
		b.left(ctx, session)
	}
}

func (b *Backend) left(ctx context.Context, session uint64) {
	device, last := b.store.Left(session)
	if !last {
		return
	}
	if d, ok := b.store.DeviceByKey(device); ok {
		b.log.Info().Str("device", d.Name).Msg("device is offline")
		b.publishDevice(ctx, device)
	}
}

// Online asks the router who is there. It is called when the session has joined;
// what happens afterwards comes as events.
func (b *Backend) Online(ctx context.Context) error {
	before := b.store.Sessions() // first: who joins meanwhile is not missing
	answer, err := b.cfg.Session.Call(ctx, "wamp.session.list", nil, nil)
	if err != nil {
		return fmt.Errorf("list sessions: %w", err)
	}
	list, ok := protocol.AsList(protocol.Arg(answer, 0))
	if !ok {
		return fmt.Errorf("list sessions: the router answered no list")
	}
	there := map[uint64]bool{}
	for _, v := range list {
		if id, ok := protocol.Uint(v); ok {
			there[id] = true
		}
	}
	for session := range before {
		if !there[session] {
			b.left(ctx, session)
		}
	}
	known := b.store.Sessions()
	var (
		work   sync.WaitGroup
		places = make(chan struct{}, 16)
	)
	for session := range there {
		if _, ok := known[session]; ok {
			continue
		}
		places <- struct{}{}
		work.Go(func() {
			defer func() { <-places }()
			answer, err := b.cfg.Session.Call(ctx, "wamp.session.get", []any{session}, nil)
			if err != nil {
				return // gone in the meantime
			}
			details, _ := protocol.AsDict(protocol.Arg(answer, 0))
			b.joined(ctx, details)
		})
	}
	work.Wait()
	return ctx.Err()
}

// publishDevice tells those who may READ a device how it is.
func (b *Backend) publishDevice(ctx context.Context, device uint64) {
	if d, ok := b.store.DeviceByKey(device); ok {
		b.publish(ctx, protocol.StudioDeviceState, device, protocol.Wire(b.deviceRow(d)))
	}
}

// publishApp tells those who may READ a device how an app on it is.
func (b *Backend) publishApp(ctx context.Context, d store.Device, o store.OnDevice) {
	b.publish(ctx, protocol.StudioAppState, d.Key, protocol.Wire(b.appRowOn(d, o)))
}

func (b *Backend) publish(ctx context.Context, topic string, device uint64, row map[string]any) {
	readers, err := b.store.Readers(device)
	eligible := []any{protocol.AuthIDSystem}
	for _, a := range readers {
		eligible = append(eligible, a.AuthID())
	}
	if err == nil {
		err = b.cfg.Session.Publish(ctx, topic, map[string]any{"eligible_authid": eligible}, []any{row})
	}
	if err != nil && ctx.Err() == nil {
		b.log.Debug().Err(err).Str("topic", topic).Msg("event not published")
	}
}
