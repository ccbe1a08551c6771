package backend

import (
	"context"

	"reagent/protocol"
	"reagent/studio/store"
)

func (b *Backend) readAccount(_ context.Context, c caller, _ nothing) (protocol.AccountRow, error) {
	row, err := b.accountRow(c.account)
	if c.system {
		row.Role, row.AuthID = protocol.RoleSystem, protocol.AuthIDSystem
	}
	return row, err
}

func (b *Backend) addUser(_ context.Context, _ caller, in protocol.AddUser) (protocol.UserAdded, error) {
	a, err := b.store.AddAccount(in.Name)
	if err != nil {
		return protocol.UserAdded{}, err
	}
	row, err := b.accountRow(a)
	return protocol.UserAdded{Account: row, Profile: b.Profile(a)}, err
}

// Profile is what an account needs to reach the studio, its secret among it.
func (b *Backend) Profile(a store.Account) protocol.StudioProfile {
	return protocol.StudioProfile{URL: b.cfg.Address.URL, Realm: protocol.RealmDevices, AuthID: a.AuthID(), Secret: a.Secret, CA: b.cfg.Address.CA}
}

func (b *Backend) listUsers(context.Context, caller, nothing) (protocol.UserList, error) {
	all, err := b.store.Accounts()
	out := protocol.UserList{Users: []protocol.AccountRow{}}
	for _, a := range all {
		row, err := b.accountRow(a)
		if err != nil {
			return out, err
		}
		out.Users = append(out.Users, row)
	}
	return out, err
}

func (b *Backend) removeUser(ctx context.Context, _ caller, in protocol.RemoveUser) (protocol.AccountRow, error) {
	a, err := b.store.RemoveAccount(in.User)
	if err != nil {
		return protocol.AccountRow{}, err
	}
	b.expel(ctx, a.AuthID())
	return b.accountRow(a)
}

func (b *Backend) grant(_ context.Context, _ caller, in protocol.GrantArgs) (protocol.AccountRow, error) {
	a, err := b.store.Grant(in.User, in.Device, in.Privilege)
	if err != nil {
		return protocol.AccountRow{}, err
	}
	return b.accountRow(a)
}

func (b *Backend) revoke(ctx context.Context, _ caller, in protocol.GrantArgs) (protocol.AccountRow, error) {
	before, _ := b.store.Account(in.User)
	a, err := b.store.Revoke(in.User, in.Device, in.Privilege)
	if err != nil {
		return protocol.AccountRow{}, err
	}
	if a.Revision != before.Revision {
		b.expel(ctx, a.AuthID())
	}
	return b.accountRow(a)
}

// expel ends the sessions of an authid. What it subscribed to while it had the
// right would go on otherwise; it may come back, with what is left to it.
func (b *Backend) expel(ctx context.Context, authid string) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.DeliverLimit)
	defer cancel()
	_, err := b.cfg.Session.Call(ctx, "wamp.session.kill_by_authid", []any{authid}, map[string]any{"reason": protocol.ErrorNotAuthorized})
	if err != nil {
		b.log.Warn().Err(err).Str("authid", authid).Msg("router does not end the sessions of who lost a right")
	}
	b.cfg.Revoked()
}

func (b *Backend) accountRow(a store.Account) (protocol.AccountRow, error) {
	row := protocol.AccountRow{
		AccountKey: a.Key, AuthID: a.AuthID(), Name: a.Name, Role: protocol.RoleUser,
		Administrator: a.Administrator(), Grants: []protocol.GrantRow{}, Created: a.Created,
	}
	grants, err := b.store.Grants(a.Key)
	for _, g := range grants {
		d, _ := b.store.DeviceByKey(g.Device)
		row.Grants = append(row.Grants, protocol.GrantRow{DeviceKey: g.Device, DeviceName: d.Name, Privilege: g.Privilege})
	}
	return row, err
}
