package store

import (
	"maps"
	"time"

	"reagent/persistence"
	"reagent/protocol"
)

// live is what a device says all the time, since the store was opened.
type live struct {
	sessions map[uint64]struct{}
	status   protocol.DeviceState
	since    time.Time
	seen     time.Time
	refused  *protocol.RefusedLogins // nil: as on the disk
	dirty    bool
}

func (s *Store) liveOf(device uint64) *live {
	l := s.live[device]
	if l == nil {
		l = &live{sessions: map[uint64]struct{}{}}
		s.live[device] = l
	}
	return l
}

// withLive lays what was said since the last write over a record.
func (s *Store) withLive(d Device) Device {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lay(&d)
	return d
}

func (s *Store) lay(d *Device) {
	l := s.live[d.Key]
	if l == nil {
		return
	}
	if l.status != "" {
		d.Status = l.status
	}
	if !l.since.IsZero() {
		d.Since = l.since
	}
	if !l.seen.IsZero() {
		d.LastSeen = l.seen
	}
	if l.refused != nil {
		d.Refused = *l.refused
	}
}

// Online reports whether a device has a session.
func (s *Store) Online(device uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.live[device]
	return l != nil && len(l.sessions) > 0
}

// Joined notes that a device has a session. It reports whether that is news. A
// session that was said to be over already stays so.
func (s *Store) Joined(device, session uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, over := s.gone[session]; over {
		return false
	}
	l := s.liveOf(device)
	if _, known := l.sessions[session]; known {
		return false
	}
	first := len(l.sessions) == 0
	l.sessions[session] = struct{}{}
	s.sessions[session] = device
	l.seen, l.dirty = now(), true
	l.refused = &protocol.RefusedLogins{}
	if first && (l.status == "" || l.status == protocol.Disconnected) {
		l.status, l.since = protocol.Configuring, l.seen // what a device does first
	}
	return first
}

// Left notes that a session is over. last is true if it was the last of a device.
func (s *Store) Left(session uint64) (device uint64, last bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.remember(session)
	device, known := s.sessions[session]
	if !known {
		return 0, false
	}
	delete(s.sessions, session)
	l := s.live[device]
	if l == nil {
		return device, false
	}
	delete(l.sessions, session)
	l.seen, l.dirty = now(), true
	if len(l.sessions) > 0 {
		return device, false
	}
	l.status, l.since = protocol.Disconnected, l.seen
	return device, true
}

// remember notes that a session is over, in place of the one that is over longest.
func (s *Store) remember(session uint64) {
	if _, known := s.gone[session]; known {
		return
	}
	s.gone[session] = struct{}{}
	if len(s.goneIn) < keepGone {
		s.goneIn = append(s.goneIn, session)
		return
	}
	delete(s.gone, s.goneIn[s.goneNext])
	s.goneIn[s.goneNext] = session
	s.goneNext = (s.goneNext + 1) % keepGone
}

// Sessions lists the sessions of all devices, with the device of each.
func (s *Store) Sessions() map[uint64]uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.sessions)
}

// Say notes a status that a device reported. It reports whether it is another
// one than before.
func (s *Store) Say(device uint64, status protocol.DeviceState) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.liveOf(device)
	l.seen, l.dirty = now(), true
	if l.status == status {
		return false
	}
	l.status, l.since = status, l.seen
	return true
}

// Refused notes a login under a device's name that was refused.
func (s *Store) Refused(device uint64, reason string) {
	d, ok := s.DeviceByKey(device)
	if !ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.liveOf(device)
	if l.refused == nil {
		l.refused = &d.Refused
	}
	*l.refused = protocol.RefusedLogins{Count: l.refused.Count + 1, Last: now(), Reason: longClip(reason)}
	l.dirty = true
}

// Flush writes what devices said since the last time.
func (s *Store) Flush() error {
	s.mu.Lock()
	var dirty []uint64
	for key, l := range s.live {
		if l.dirty {
			dirty = append(dirty, key)
			l.dirty = false
		}
	}
	s.mu.Unlock()
	if len(dirty) == 0 {
		return nil
	}
	err := s.db.Update(func(tx *persistence.Tx) error {
		for _, key := range dirty {
			d, ok := devices.Get(tx, persistence.Key(key))
			if !ok {
				continue
			}
			if err := devices.Put(tx, persistence.Key(key), s.withLive(d)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, key := range dirty {
			if l := s.live[key]; l != nil {
				l.dirty = true
			}
		}
	}
	return err
}
