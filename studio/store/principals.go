package store

import (
	"reagent/persistence"
	"reagent/protocol"
)

// A Principal is somebody who may log in to a realm, with the secret.
type Principal struct {
	Role     string
	Secret   string
	Serial   string // of a device, or of the device that an app runs on
	Account  uint64 // of a user
	Revision uint64 // changes when a right is taken away
}

// Principal finds who may join a realm under an authid: devices and users that of
// the devices; an app that is wished for on a device, and users who may READ a
// device with it, the app's.
func (s *Store) Principal(realm, authid string) (Principal, bool) {
	type found struct {
		p  Principal
		ok bool
	}
	f, err := view(s, func(tx *persistence.Tx) (f found, _ error) {
		if realm == protocol.RealmDevices {
			f.p, f.ok = devicesPrincipal(tx, authid)
		} else if swarm, app, stage, ok := protocol.ParseAppRealm(realm); ok {
			f.p, f.ok = appPrincipal(tx, swarm, protocol.AppID{Key: app, Stage: stage}, authid)
		}
		return f, nil
	})
	return f.p, f.ok && err == nil
}

func devicesPrincipal(tx *persistence.Tx, authid string) (Principal, bool) {
	if a, ok := accountOf(tx, authid); ok {
		return userPrincipal(a), true
	}
	_, key, ok := protocol.ParseDeviceAuthID(authid)
	if !ok {
		return Principal{}, false
	}
	d, ok := devices.Get(tx, persistence.Key(key))
	return Principal{Role: protocol.RoleDevice, Secret: d.Secret, Serial: d.SerialNumber}, ok && d.AuthID() == authid
}

func userPrincipal(a Account) Principal {
	return Principal{Role: protocol.RoleUser, Secret: a.Secret, Account: a.Key, Revision: a.Revision}
}

func appPrincipal(tx *persistence.Tx, swarm uint64, id protocol.AppID, authid string) (Principal, bool) {
	if _, ok := apps.Get(tx, persistence.Key(id.Key)); !ok {
		return Principal{}, false
	}
	if a, ok := accountOf(tx, authid); ok {
		return userPrincipal(a), mayMeet(tx, a, swarm, id)
	}
	stage, app, epoch, serial, ok := protocol.ParseAppAuthID(authid)
	if !ok || stage != id.Stage || app != id.Key {
		return Principal{}, false
	}
	key, ok := persistence.Number(deviceSerials.Get(tx, []byte(serial)))
	if !ok {
		return Principal{}, false
	}
	d, ok := devices.Get(tx, persistence.Key(key))
	if !ok || d.SwarmKey != swarm {
		return Principal{}, false
	}
	if now, ok := hasApp(tx, d.Key, id); !ok || now != epoch || protocol.AppAuthID(stage, app, epoch, serial) != authid {
		return Principal{}, false
	}
	return Principal{
		Role: protocol.RoleApp, Serial: serial,
		Secret: protocol.AppSecret(d.CredentialKey, stage, app, epoch, serial),
	}, true
}

// mayMeet reports whether an account may READ a device of the project that has
// the app.
func mayMeet(tx *persistence.Tx, a Account, swarm uint64, id protocol.AppID) bool {
	reads := func(key []byte) bool {
		device, _ := persistence.Number(key)
		d, ok := devices.Get(tx, key)
		if !ok || d.SwarmKey != swarm || !may(tx, a.Key, device, protocol.Read) {
			return false
		}
		_, ok = hasApp(tx, device, id)
		return ok
	}
	if a.Administrator() {
		for key := range devices.Raw().All(tx) {
			if reads(key) {
				return true
			}
		}
		return false
	}
	for key := range grants.In(persistence.Name(a.Key)).Raw().All(tx) {
		if reads(key) {
			return true
		}
	}
	return false
}

// Secret returns with what a device or an account proves itself.
func (s *Store) Secret(authid string) (secret string, known bool) {
	p, ok := s.Principal(protocol.RealmDevices, authid)
	return p.Secret, ok
}

// DeviceWithSecret returns the authid of the device that has a secret.
func (s *Store) DeviceWithSecret(secret string) (authid string, found bool) {
	d, err := view(s, func(tx *persistence.Tx) (Device, error) {
		key, _ := persistence.Number(deviceSecrets.Get(tx, fingerprint(secret)))
		d, _ := devices.Get(tx, persistence.Key(key))
		return d, nil
	})
	return d.AuthID(), err == nil && d.Key != 0
}

// MaySerial is May for the device with a serial number.
func (s *Store) MaySerial(account uint64, serial string, privileges ...protocol.Privilege) bool {
	ok, err := view(s, func(tx *persistence.Tx) (bool, error) {
		if serial == "" { // all devices
			a, known := accounts.Get(tx, persistence.Key(account))
			return known && a.Administrator(), nil
		}
		key, ok := persistence.Number(deviceSerials.Get(tx, []byte(serial)))
		return ok && may(tx, account, key, privileges...), nil
	})
	return ok && err == nil
}

// RefusedLogin is Refused for an authid; only those of devices are noted.
func (s *Store) RefusedLogin(authid, reason string) {
	if d, ok := s.DeviceByAuthID(authid); ok {
		s.Refused(d.Key, reason)
	}
}
