package router

import (
	"errors"
	"fmt"

	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
)

// join makes an app's realm for its first session. The realm of the devices is
// always there.
func (r *Router) join(realm string) error {
	if realm == protocol.RealmDevices {
		return nil
	}
	r.attach.RLock()
	defer r.attach.RUnlock()
	if r.closed {
		return errors.New("the studio is closing")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.realms[realm] == 0 {
		if len(r.realms) >= r.cfg.MaxAppRealms {
			return fmt.Errorf("the studio has %d realms of apps and takes no more", len(r.realms))
		}
		if err := r.nexus.AddRealm(realmConfig(realm)); err != nil {
			return err
		}
	}
	r.realms[realm]++
	return nil
}

// leave drops an app's realm after its last session.
func (r *Router) leave(realm string) {
	if realm == protocol.RealmDevices {
		return
	}
	r.attach.RLock()
	defer r.attach.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.realms[realm]--; r.realms[realm] > 0 {
		return
	}
	delete(r.realms, realm)
	if !r.closed {
		r.nexus.RemoveRealm(wamp.URI(realm))
	}
}

// Realms lists the realms that there are.
func (r *Router) Realms() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := []string{protocol.RealmDevices}
	for name := range r.realms {
		names = append(names, name)
	}
	return names
}
