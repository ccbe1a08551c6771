package agent

import (
	"context"
	"errors"
	"fmt"

	"reagent/messenger"
	"reagent/protocol"
)

// A caller is the connection as far as calls go; messenger.Session is one.
type caller interface {
	Call(ctx context.Context, uri string, args []any, kwargs map[string]any) (messenger.Result, error)
	Online() bool
}

// backend is the studio's side of the contract as functions (wire §6). Every
// answer is taken apart with care: null, text, or lists where an object belongs
// are errors, never panics.
type backend struct{ caller }

// Report delivers one argument of update_app_on_device.
func (b backend) Report(ctx context.Context, report map[string]any) error {
	_, err := b.Call(ctx, protocol.UpdateAppOnDevice, []any{report}, nil)
	return err
}

// RegistryToken asks for a token to pull with. No answer is an empty token, as
// in the contract.
func (b backend) RegistryToken(ctx context.Context, account uint64) (string, error) {
	r, err := b.Call(ctx, protocol.GetRegistryToken, []any{map[string]any{"callerID": account}}, nil)
	if err != nil || len(r.Args) == 0 {
		return "", err
	}
	token, ok := protocol.Text(r.Args[0])
	if !ok {
		return "", fmt.Errorf("%s answered %T, not a text", protocol.GetRegistryToken, r.Args[0])
	}
	return token, nil
}

// wishList asks for the rows of get_requested_app_states, unread.
func (b backend) wishList(ctx context.Context, deviceKey uint64) (any, error) {
	r, err := b.Call(ctx, protocol.GetRequestedAppStates, []any{map[string]any{"device_key": deviceKey}}, nil)
	return protocol.Arg(r.Args, 0), err
}

// appCredentialKey asks for the key that the apps' credentials are derived of.
func (b backend) appCredentialKey(ctx context.Context) (string, error) {
	r, err := b.Call(ctx, protocol.GetAppCredKey, []any{}, nil)
	if err != nil {
		return "", err
	}
	key, ok := protocol.Text(protocol.Arg(r.Args, 0))
	if !ok || key == "" {
		return "", errors.New("the studio answered no key")
	}
	return key, nil
}

// collectGarbage asks the registry to delete what nothing refers to. What it
// answers is for the log.
func (b backend) collectGarbage(ctx context.Context) (answer any, err error) {
	r, err := b.Call(ctx, protocol.RunRegistryGC, []any{}, nil)
	return protocol.Arg(r.Args, 0), err
}

// metadata is what the studio says that this device is called and belongs to.
type metadata struct {
	deviceName, swarmName, owner string
	swarmKey                     uint64
}

func (b backend) deviceMetadata(ctx context.Context, deviceKey uint64) (metadata, error) {
	r, err := b.Call(ctx, protocol.ReadDeviceMetadata, []any{map[string]any{"device_key": deviceKey}}, nil)
	if err != nil {
		return metadata{}, err
	}
	d, ok := protocol.AsDict(protocol.Arg(r.Args, 0))
	if !ok {
		return metadata{}, fmt.Errorf("%s answered no object", protocol.ReadDeviceMetadata)
	}
	var m metadata
	m.deviceName, _ = protocol.Text(d["device_name"])
	m.swarmName, _ = protocol.Text(d["swarm_name"])
	m.owner, _ = protocol.Text(d["ownername"])
	m.swarmKey, _ = protocol.Uint(d["swarm_key"])
	return m, nil
}

// may asks whether an account has a privilege on this device. Everything but
// a plain true is a no.
func (b backend) may(ctx context.Context, q protocol.PrivilegeQuestion) (bool, error) {
	r, err := b.Call(ctx, protocol.CheckPrivilege, []any{protocol.Wire(q)}, nil)
	if err != nil {
		return false, err
	}
	yes, ok := protocol.Arg(r.Args, 0).(bool)
	if !ok {
		return false, errors.New("type of argument is not bool")
	}
	return yes, nil
}
