package backend

import (
	"context"
	"fmt"
	"time"

	"reagent/protocol"
	"reagent/studio/store"
)

// A deviceProcedure is a procedure of the contract that devices call (wire §6).
type deviceProcedure struct {
	uri    string
	answer func(ctx context.Context, d store.Device, args []any) ([]any, error)
}

func (b *Backend) deviceProcedures() []deviceProcedure {
	return []deviceProcedure{
		{protocol.UpdateDeviceStatus, b.updateStatus},
		{protocol.ReadDeviceMetadata, b.readMetadata},
		{protocol.GetAppCredKey, b.credentialKey},
		{protocol.UpdateDeviceArchitecture, b.updateArchitecture},
		{protocol.CheckPrivilege, b.checkPrivilege},
		{protocol.GetRequestedAppStates, b.requestedStates},
		{protocol.UpdateAppOnDevice, b.updateApp},
		{protocol.GetRegistryToken, b.registryToken},
	}
}

// about reads the object that is the first argument and refuses one that is about
// another device than the caller. A key that is missing is the caller's.
func about(d store.Device, args []any) (map[string]any, error) {
	in, ok := protocol.AsDict(protocol.Arg(args, 0))
	if !ok {
		return nil, invalid("the first argument is not an object")
	}
	if v := in["device_key"]; v != nil {
		if key, ok := protocol.Uint(v); !ok || key != d.Key {
			return nil, refused("device_key is another device's")
		}
	}
	return in, nil
}

var deviceStates = map[protocol.DeviceState]bool{
	protocol.Configuring: true, protocol.Connected: true, protocol.Emergency: true, protocol.Disconnected: true,
}

func (b *Backend) updateStatus(ctx context.Context, d store.Device, args []any) ([]any, error) {
	in, err := about(d, args)
	if err != nil {
		return nil, err
	}
	text, _ := protocol.Text(in["status"])
	status := protocol.DeviceState(text)
	if !deviceStates[status] {
		return nil, invalid("status %.40q is none of CONFIGURING, CONNECTED, EMERGENCY, DISCONNECTED", text)
	}
	if b.store.Say(d.Key, status) {
		b.publishDevice(ctx, d.Key)
	}
	if status == protocol.Connected || status == protocol.Emergency {
		b.connected(d.Key)
	}
	return []any{map[string]any{"reswarmBaseURL": b.cfg.Address.URL}}, nil
}

func (b *Backend) readMetadata(_ context.Context, d store.Device, args []any) ([]any, error) {
	if _, err := about(d, args); err != nil {
		return nil, err
	}
	project, owner, err := b.store.Project(d.SwarmKey)
	if err != nil {
		return nil, err
	}
	return []any{map[string]any{
		"device_name": d.Name, "swarm_name": project.Name, "ownername": owner, "swarm_key": d.SwarmKey,
	}}, nil
}

func (b *Backend) credentialKey(_ context.Context, d store.Device, _ []any) ([]any, error) {
	return []any{d.CredentialKey}, nil
}

func (b *Backend) updateArchitecture(ctx context.Context, d store.Device, args []any) ([]any, error) {
	in, err := about(d, args)
	if err != nil {
		return nil, err
	}
	architecture, ok := protocol.Text(in["architecture"])
	if !ok {
		return nil, invalid("architecture is not a string")
	}
	os, _ := protocol.Text(in["os"])
	version, _ := protocol.Text(in["agent_version"])
	if err := b.store.Describe(d.Key, architecture, os, version); err != nil {
		return nil, err
	}
	b.publishDevice(ctx, d.Key)
	return nil, nil
}

// checkPrivilege answers whether an account may do something on the device that
// asks. What is not a plain question is answered with no.
func (b *Backend) checkPrivilege(_ context.Context, d store.Device, args []any) ([]any, error) {
	in, ok := protocol.AsDict(protocol.Arg(args, 0))
	if !ok {
		return nil, invalid("the first argument is not an object")
	}
	privilege, _ := protocol.Text(in["privilege"])
	entity, _ := protocol.Text(in["entity"])
	key, okKey := protocol.Uint(in["entity_key"])
	account, okAccount := protocol.Uint(in["requestor_account_key"])
	may := privilege != "" && entity == "DEVICE" && okKey && key == d.Key && okAccount &&
		b.store.May(account, d.Key, protocol.Privilege(privilege))
	return []any{may}, nil
}

func (b *Backend) requestedStates(_ context.Context, d store.Device, args []any) ([]any, error) {
	if _, err := about(d, args); err != nil {
		return nil, err
	}
	asked := time.Now()
	all, err := b.store.AppsOn(d.Key)
	if err != nil {
		return nil, err
	}
	rows := []any{}
	for _, o := range all {
		switch {
		case !o.Wished || o.App.Key == 0:
			continue
		case renderable(d, o):
			rows = append(rows, b.wishRow(d, o))
		}
		// What the list does not tell, or devices do not take from it (life §4.1),
		// is told when the device says that it is connected.
		if !renderable(d, o) || o.ID.Stage == protocol.Dev && o.State.At.Before(o.Wish.Wished) {
			b.note(d.Key, o.ID)
		}
	}
	b.forgetAll(d.Key, asked)
	return []any{rows}, nil
}

// updateApp takes the two forms of a report (wire §6.3).
func (b *Backend) updateApp(ctx context.Context, d store.Device, args []any) ([]any, error) {
	in, err := about(d, args)
	if err != nil {
		return nil, err
	}
	appKey, okKey := protocol.Uint(in["app_key"])
	stageText, _ := protocol.Text(in["stage"])
	id := protocol.AppID{Key: appKey, Stage: protocol.Stage(stageText)}
	if !okKey || appKey == 0 || !id.Stage.Valid() {
		return nil, invalid("app_key and stage do not name an app")
	}
	var now store.OnDevice
	_, hasState := in["state"]
	if ports, hasPorts := in["ports"]; hasPorts && !hasState {
		now, err = b.reportPorts(d, id, ports)
	} else {
		now, err = b.reportState(ctx, d, id, in)
	}
	if err != nil {
		return nil, err
	}
	if now.App.Key == 0 {
		b.log.Info().Str("device", d.Name).Stringer("app", id).Msg("report of an app that this studio does not know")
		return nil, nil
	}
	b.publishApp(ctx, d, now)
	return nil, nil
}

func (b *Backend) reportPorts(d store.Device, id protocol.AppID, raw any) (store.OnDevice, error) {
	rules, err := protocol.ParsePortRules(raw)
	if err != nil {
		return store.OnDevice{}, invalid("ports: %v", err)
	}
	if len(rules) > mostPorts {
		return store.OnDevice{}, invalid("ports: more than %d rules", mostPorts)
	}
	return b.store.ReportPorts(d.Key, id, rules)
}

const mostPorts = 1000

var updateStatuses = map[protocol.UpdateStatus]bool{
	protocol.UpdateCompleted: true, protocol.UpdateCanceled: true, protocol.UpdatePending: true,
}

func (b *Backend) reportState(ctx context.Context, d store.Device, id protocol.AppID, in map[string]any) (store.OnDevice, error) {
	text, _ := protocol.Text(in["state"])
	state := protocol.State(text)
	if !state.Valid() {
		return store.OnDevice{}, invalid("state %.40q is unknown", text)
	}
	r := protocol.StateReport{AppKey: id.Key, Stage: id.Stage, State: state}
	r.ReleaseKey, _ = protocol.Uint(in["release_key"])
	r.RequestorAccountKey, _ = protocol.Uint(in["requestor_account_key"])
	if status, _ := protocol.Text(in["updateStatus"]); updateStatuses[protocol.UpdateStatus(status)] {
		r.UpdateStatus = protocol.UpdateStatus(status)
	}
	r.Probation, _ = in["probation"].(bool)
	if state == protocol.Failed {
		r.Error, _ = protocol.Text(in["error"])
	}
	before, err := b.store.AppOn(d.Key, id)
	if err != nil {
		return before, err
	}
	if state == protocol.Published {
		if r.Error, err = b.published(ctx, d, before); err != nil {
			return before, err
		}
	}
	now, err := b.store.Report(d.Key, r)
	if err != nil {
		return now, fmt.Errorf("write the report: %w", err)
	}
	if before.Wished && before.Wish.Target == state && state.Gone() {
		b.cfg.Revoked() // its sessions in its own realm
	}
	return now, nil
}

func (b *Backend) registryToken(_ context.Context, d store.Device, args []any) ([]any, error) {
	in, ok := protocol.AsDict(protocol.Arg(args, 0))
	if !ok {
		return nil, invalid("the first argument is not an object")
	}
	account, ok := protocol.Uint(in["callerID"])
	if !ok {
		return nil, invalid("callerID is not an account key")
	}
	return []any{b.cfg.Images.PullToken(account, d.AuthID())}, nil
}
