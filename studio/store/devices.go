package store

import (
	"crypto/rand"
	"fmt"
	"strings"
	"time"

	"reagent/persistence"
	"reagent/protocol"
)

// A Device is a device, with its secrets.
type Device struct {
	Key           uint64    `json:"key"`
	SwarmKey      uint64    `json:"swarm_key"`
	SerialNumber  string    `json:"serial_number"`
	Name          string    `json:"name"`
	Secret        string    `json:"secret"`
	CredentialKey string    `json:"credential_key"` // of which its apps' secrets are derived
	Created       time.Time `json:"created"`

	Architecture string `json:"architecture,omitempty"`
	OS           string `json:"os,omitempty"`
	AgentVersion string `json:"agent_version,omitempty"`

	Status   protocol.DeviceState   `json:"status,omitempty"` // as reported last
	Since    time.Time              `json:"since,omitzero"`   // of Status, or of its last session's end
	LastSeen time.Time              `json:"last_seen,omitzero"`
	Refused  protocol.RefusedLogins `json:"refused,omitzero"`
}

// AuthID is with what the device logs in.
func (d Device) AuthID() string { return protocol.DeviceAuthID(d.SwarmKey, d.Key) }

// AddDevice makes a device. Without a serial number it gets a UUID. The answer
// holds its secrets.
func (s *Store) AddDevice(name, serial, architecture string) (Device, error) {
	return update(s, func(tx *persistence.Tx) (Device, error) {
		if err := checkName("device", name); err != nil {
			return Device{}, err
		}
		if serial == "" {
			serial = newUUID()
		}
		if err := protocol.CheckSerial(serial); err != nil {
			return Device{}, invalid("%s", err)
		}
		if len(serial) > 128 || len(architecture) > 64 {
			return Device{}, invalid("the serial number or the architecture is too long")
		}
		key, err := devices.Raw().Next(tx)
		if err != nil {
			return Device{}, err
		}
		d := Device{
			Key: key, SwarmKey: firstProject, SerialNumber: serial, Name: name, Secret: newSecret(), CredentialKey: newSecret(),
			Created: now(), Architecture: architecture,
		}
		if err := claim(tx, deviceNames, "device", name, key); err != nil {
			return d, err
		}
		if deviceSerials.Get(tx, []byte(serial)) != nil {
			return d, conflict("there is a device with the serial number %q already", serial)
		}
		if err := deviceSerials.Put(tx, []byte(serial), persistence.Key(key)); err != nil {
			return d, err
		}
		if err := deviceSecrets.Put(tx, fingerprint(d.Secret), persistence.Key(key)); err != nil {
			return d, err
		}
		return d, devices.Put(tx, persistence.Key(key), d)
	})
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// Device finds a device by name, serial number or key.
func (s *Store) Device(ref string) (Device, error) {
	d, err := view(s, func(tx *persistence.Tx) (Device, error) { return findDevice(tx, ref) })
	return s.withLive(d), err
}

func findDevice(tx *persistence.Tx, ref string) (Device, error) {
	key, ok := persistence.Number(deviceSerials.Get(tx, []byte(ref)))
	if !ok {
		key, ok = lookup(tx, deviceNames, ref)
	}
	if ok {
		if d, ok := devices.Get(tx, persistence.Key(key)); ok {
			return d, nil
		}
	}
	return Device{}, notFound("device", ref)
}

// DeviceByKey finds a device.
func (s *Store) DeviceByKey(key uint64) (Device, bool) {
	type found struct {
		d  Device
		ok bool
	}
	f, err := view(s, func(tx *persistence.Tx) (found, error) {
		d, ok := devices.Get(tx, persistence.Key(key))
		return found{d, ok}, nil
	})
	return s.withLive(f.d), f.ok && err == nil
}

// DeviceByAuthID finds the device that logs in under an authid.
func (s *Store) DeviceByAuthID(authid string) (Device, bool) {
	swarm, key, ok := protocol.ParseDeviceAuthID(authid)
	if !ok {
		return Device{}, false
	}
	d, ok := s.DeviceByKey(key)
	return d, ok && d.SwarmKey == swarm && d.AuthID() == authid
}

// Devices lists all devices.
func (s *Store) Devices() ([]Device, error) {
	all, err := view(s, func(tx *persistence.Tx) (all []Device, _ error) {
		for _, d := range devices.All(tx) {
			all = append(all, d)
		}
		return all, nil
	})
	for i, d := range all {
		all[i] = s.withLive(d)
	}
	return all, err
}

// RemoveDevice removes a device with all that is known of it.
func (s *Store) RemoveDevice(ref string) (Device, error) {
	d, err := update(s, func(tx *persistence.Tx) (Device, error) {
		d, err := findDevice(tx, ref)
		if err != nil {
			return d, err
		}
		for _, gone := range []error{
			deviceNames.Delete(tx, lowerKey(d.Name)),
			deviceSerials.Delete(tx, []byte(d.SerialNumber)),
			deviceSecrets.Delete(tx, fingerprint(d.Secret)),
			wishes.In(persistence.Name(d.Key)).Raw().Remove(tx),
			states.In(persistence.Name(d.Key)).Raw().Remove(tx),
			history.In(persistence.Name(d.Key)).Raw().Remove(tx),
			devices.Delete(tx, persistence.Key(d.Key)),
		} {
			if gone != nil {
				return d, gone
			}
		}
		for _, account := range grants.Raw().Names(tx) {
			if err := grants.In(account).Delete(tx, persistence.Key(d.Key)); err != nil {
				return d, err
			}
		}
		return d, nil
	})
	if err == nil {
		s.mu.Lock()
		delete(s.live, d.Key)
		s.mu.Unlock()
	}
	return d, err
}

// Describe notes what a device says about its machine.
func (s *Store) Describe(device uint64, architecture, os, agentVersion string) error {
	return s.db.Update(func(tx *persistence.Tx) error {
		d, ok := devices.Get(tx, persistence.Key(device))
		if !ok {
			return notFound("device", fmt.Sprint(device))
		}
		d.Architecture, d.OS, d.AgentVersion = clip(architecture), longClip(os), clip(agentVersion)
		return devices.Put(tx, persistence.Key(device), d)
	})
}

// Project is the project of devices with a swarm key, and the name of its owner.
func (s *Store) Project(swarm uint64) (p Project, owner string, err error) {
	err = s.db.View(func(tx *persistence.Tx) error {
		var ok bool
		if p, ok = projects.Get(tx, persistence.Key(swarm)); !ok {
			return notFound("project", fmt.Sprint(swarm))
		}
		a, _ := accounts.Get(tx, persistence.Key(p.Owner))
		owner = a.Name
		return nil
	})
	return p, owner, err
}

func lowerKey(name string) []byte { return []byte(strings.ToLower(name)) }

func longClip(text string) string {
	if len(text) > 300 {
		return text[:300] + "…"
	}
	return text
}
