package backend

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"reagent/protocol"
	"reagent/studio/store"
)

func (b *Backend) deploy(ctx context.Context, c caller, in protocol.DeployApp) (protocol.Wished, error) {
	return b.wishInstalled(ctx, c, in.App, in.Device, func(d store.Device, w *store.Wish, now store.OnDevice) error {
		r, err := b.wantedRelease(now, in.Version)
		if err != nil {
			return err
		}
		if d.AgentVersion != "" && !slices.Contains(r.Architectures, d.Architecture) {
			return conflicts("version %q of the app has no image for the device's architecture %s, only for %v: push one", r.Version, d.Architecture, r.Architectures)
		}
		env, err := changeEnvironment(w.Environment, in.Environment)
		if err != nil {
			return err
		}
		w.Target, w.Release, w.Environment = protocol.Running, r.Key, env
		return nil
	})
}

// wantedRelease is the release that a deployment means: the version named, or the
// one that is there or wished for, or the newest.
func (b *Backend) wantedRelease(now store.OnDevice, version string) (store.Release, error) {
	switch {
	case version != "":
	case now.State.Installed() && now.Present.Key != 0:
		return now.Present, nil
	case now.Wished && now.Wanted.Key != 0 && !now.Wish.Target.Gone():
		return now.Wanted, nil
	}
	return b.store.Release(now.ID.Key, version)
}

// changeEnvironment adds values to an environment; null takes one away.
func changeEnvironment(env, change map[string]any) (map[string]any, error) {
	if env == nil {
		env = map[string]any{}
	}
	for name, value := range change {
		if err := checkVariable(name); err != nil {
			return nil, err
		}
		if value == nil {
			delete(env, name)
			continue
		}
		env[name] = map[string]any{"value": value}
	}
	return env, checkEnvironment(env, "value")
}

func (b *Backend) stop(ctx context.Context, c caller, in protocol.AppOnDevice) (protocol.Wished, error) {
	return b.wishInstalled(ctx, c, in.App, in.Device, func(_ store.Device, w *store.Wish, now store.OnDevice) error {
		w.Target = protocol.Present
		return installed(w, now)
	})
}

func (b *Backend) remove(ctx context.Context, c caller, in protocol.RemoveApp) (protocol.Wished, error) {
	return b.wishInstalled(ctx, c, in.App, in.Device, func(_ store.Device, w *store.Wish, now store.OnDevice) error {
		w.Target = protocol.Removed
		if in.Uninstall {
			w.Target = protocol.Uninstalled
		}
		return installed(w, now)
	})
}

// installed refuses to stop or remove what was never deployed.
func installed(w *store.Wish, now store.OnDevice) error {
	switch {
	case now.Wished:
	case now.State.Release != 0:
		w.Release = now.State.Release
	default:
		return fault(protocol.CodeNotFound, "the app %q is not on this device", now.App.Name)
	}
	return nil
}

// wishInstalled writes down what is wished of an app in stage PROD.
func (b *Backend) wishInstalled(ctx context.Context, c caller, app, device string, change func(store.Device, *store.Wish, store.OnDevice) error) (protocol.Wished, error) {
	a, err := b.store.App(app)
	if err != nil {
		return protocol.Wished{}, err
	}
	return b.wish(ctx, c, wanted{app: a, device: device, stage: protocol.Prod, change: change})
}

// wanted says what is wished of which app where. The device is told what is in
// with once: it is not written down.
type wanted struct {
	app    store.App
	device string
	stage  protocol.Stage
	with   map[string]any
	change func(store.Device, *store.Wish, store.OnDevice) error
}

// wish writes a wish down and tells the device.
func (b *Backend) wish(ctx context.Context, c caller, of wanted) (protocol.Wished, error) {
	d, err := b.device(c, of.device, protocol.Develop)
	if err != nil {
		return protocol.Wished{}, err
	}
	id := protocol.AppID{Key: of.app.Key, Stage: of.stage}
	defer b.turn(d.Key)()
	now, err := b.store.Wish(d.Key, id, func(w *store.Wish, now store.OnDevice) error {
		w.Requestor = c.account.Key
		return of.change(d, w, now)
	})
	if err != nil {
		return protocol.Wished{}, err
	}
	// After it was written: a list that the device gets from now on has it.
	b.note(d.Key, id)
	b.publishApp(ctx, d, now)
	out := protocol.Wished{App: b.appRowOn(d, now)}
	if !b.store.Online(d.Key) {
		out.Reason = "the device is offline; it gets the wish when it comes"
		return out, nil
	}
	if err := b.tell(ctx, d, now, of.with); err != nil {
		out.Refused, out.Reason = refusal(err), "the device did not take the wish: "+err.Error()
		b.log.Warn().Err(err).Str("device", d.Name).Str("app", of.app.Name).Msg("wish not delivered")
		return out, nil
	}
	out.Delivered = true
	return out, nil
}

// A turn is held while a wish of a device is written and delivered, so that its
// wishes arrive in their order.
type turn struct {
	sync.Mutex
	waiting int
}

// turn waits for a device's turn and returns what ends it.
func (b *Backend) turn(device uint64) (end func()) {
	b.mu.Lock()
	t := b.delivering[device]
	if t == nil {
		t = &turn{}
		b.delivering[device] = t
	}
	t.waiting++
	b.mu.Unlock()
	t.Lock()
	return func() {
		t.Unlock()
		b.mu.Lock()
		defer b.mu.Unlock()
		if t.waiting--; t.waiting == 0 {
			delete(b.delivering, device)
		}
	}
}

// tell asks a device for a state. What it answers with an error of its own is
// not tried again: it would say the same.
func (b *Backend) tell(ctx context.Context, d store.Device, o store.OnDevice, with map[string]any) error {
	if !renderable(d, o) {
		return errNotDescribed
	}
	wish := b.wishRow(d, o)
	maps.Copy(wish, with)
	limited, cancel := context.WithTimeout(ctx, b.cfg.DeliverLimit)
	defer cancel()
	_, err := b.cfg.Session.Call(limited, protocol.Procedure(d.SerialNumber, protocol.RequestAppState), nil, wish)
	if err == nil || refusal(err) {
		b.forget(d.Key, o.ID, time.Now())
	}
	return err
}

// refusal tells whether it was the device that answered with an error, and not
// its link.
func refusal(err error) bool {
	var answer *CallError
	return errors.As(err, &answer) && answer.URI == protocol.ErrorContract && answer.Text != ""
}

// errNotDescribed is for a device that has a session and has not said yet what it
// is; it does so before it says that it is connected.
var errNotDescribed = errors.New("it has not said yet of which architecture it is")

// note remembers that a wish is to be delivered.
func (b *Backend) note(device uint64, id protocol.AppID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.undelivered[device] == nil {
		b.undelivered[device] = map[protocol.AppID]time.Time{}
	}
	b.undelivered[device][id] = time.Now()
}

// forget says that a wish noted before a time was delivered.
func (b *Backend) forget(device uint64, id protocol.AppID, before time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if at, ok := b.undelivered[device][id]; ok && !at.After(before) {
		delete(b.undelivered[device], id)
	}
	if len(b.undelivered[device]) == 0 {
		delete(b.undelivered, device)
	}
}

// forgetAll says that a device was told all wishes.
func (b *Backend) forgetAll(device uint64, before time.Time) {
	for _, id := range b.due(device) {
		b.forget(device, id, before)
	}
}

func (b *Backend) due(device uint64) []protocol.AppID {
	b.mu.Lock()
	defer b.mu.Unlock()
	ids := make([]protocol.AppID, 0, len(b.undelivered[device]))
	for id := range b.undelivered[device] {
		ids = append(ids, id)
	}
	return ids
}

// connected is called when a device says that it is connected: what it did not
// take before, it may take now. It says so with each heartbeat.
func (b *Backend) connected(device uint64) {
	if len(b.due(device)) == 0 {
		return
	}
	select {
	case b.kick <- device:
	default: // the next heartbeat
	}
}

// deliverAll delivers what a device did not take before.
func (b *Backend) deliverAll(ctx context.Context, device uint64) {
	d, ok := b.store.DeviceByKey(device)
	if !ok {
		return
	}
	for _, id := range b.due(device) {
		b.again(ctx, d, id)
	}
}

func (b *Backend) again(ctx context.Context, d store.Device, id protocol.AppID) {
	defer b.turn(d.Key)()
	if !slices.Contains(b.due(d.Key), id) {
		return // in the meantime
	}
	o, err := b.store.AppOn(d.Key, id)
	if err == nil && !o.Wished {
		b.forget(d.Key, id, time.Now())
		return
	}
	if err == nil {
		err = b.tell(ctx, d, o, nil)
	}
	if err != nil && ctx.Err() == nil {
		b.log.Warn().Err(err).Str("device", d.Name).Stringer("app", id).Msg("wish not delivered again")
	}
}

func (b *Backend) listStates(_ context.Context, c caller, in protocol.ListStates) (protocol.StateList, error) {
	out := protocol.StateList{States: []protocol.AppOnDeviceRow{}}
	var list []store.Device
	if in.Device != "" {
		d, err := b.device(c, in.Device, protocol.Read)
		if err != nil {
			return out, err
		}
		list = []store.Device{d}
	} else {
		all, err := b.store.Devices()
		if err != nil {
			return out, err
		}
		for _, d := range all {
			if c.system || b.store.May(c.account.Key, d.Key, protocol.Read) {
				list = append(list, d)
			}
		}
	}
	var only store.App
	if in.App != "" {
		var err error
		if only, err = b.store.App(in.App); err != nil {
			return out, err
		}
	}
	for _, d := range list {
		on, err := b.store.AppsOn(d.Key)
		if err != nil {
			return out, err
		}
		for _, o := range on {
			if only.Key != 0 && o.ID.Key != only.Key {
				continue
			}
			row := b.appRowOn(d, o)
			if row.History, err = b.past(d.Key, o.ID, int(min(in.History, 1000))); err != nil {
				return out, err
			}
			out.States = append(out.States, row)
		}
	}
	return out, nil
}

func (b *Backend) past(device uint64, id protocol.AppID, most int) ([]protocol.PastState, error) {
	if most == 0 {
		return nil, nil
	}
	all, err := b.store.History(device, id, most)
	if err != nil {
		return nil, err
	}
	versions := map[uint64]string{}
	releases, err := b.store.Releases(id.Key)
	for _, r := range releases {
		versions[r.Key] = r.Version
	}
	out := make([]protocol.PastState, 0, len(all))
	for _, p := range all {
		out = append(out, protocol.PastState{State: p.State, ReleaseKey: p.Release, Version: versions[p.Release], UpdateStatus: p.UpdateStatus, Error: p.Error, Time: p.At})
	}
	return out, err
}
