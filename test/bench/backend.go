package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/protocol"
)

// Who the devices of this program belong to.
const (
	deviceName = "bench"
	swarmName  = "bench"
	ownerName  = "bench"
	swarmKey   = 41
)

// A backend answers what the agent calls (wire §6) and lets the witness know. It
// keeps the wishes that were made, so that an agent that comes back hears them
// again.
type backend struct {
	witness *witness

	mu     sync.Mutex // guards what follows
	wishes map[uint64]map[string]any
}

func newBackend(w *witness) *backend {
	return &backend{witness: w, wishes: map[uint64]map[string]any{}}
}

// attach registers the procedures and follows the router's own events.
func (b *backend) attach(session *client.Client) error {
	answers := map[string]func(wamp.Dict) wamp.List{
		protocol.UpdateDeviceStatus:       b.deviceStatus,
		protocol.UpdateAppOnDevice:        b.appReport,
		protocol.GetRequestedAppStates:    func(wamp.Dict) wamp.List { return wamp.List{b.wishList()} },
		protocol.GetAppCredKey:            func(wamp.Dict) wamp.List { return wamp.List{"YmVuY2gta2V5LW9mLW5vLXVzZQ=="} },
		protocol.GetRegistryToken:         func(wamp.Dict) wamp.List { return wamp.List{"token"} },
		protocol.CheckPrivilege:           func(wamp.Dict) wamp.List { return wamp.List{true} },
		protocol.UpdateDeviceArchitecture: func(wamp.Dict) wamp.List { return nil },
		protocol.ReadDeviceMetadata: func(wamp.Dict) wamp.List {
			return wamp.List{wamp.Dict{"device_name": deviceName, "swarm_name": swarmName, "ownername": ownerName, "swarm_key": swarmKey}}
		},
	}
	for uri, answer := range answers {
		err := session.Register(uri, func(_ context.Context, inv *wamp.Invocation) client.InvokeResult {
			var in wamp.Dict
			if len(inv.Arguments) > 0 {
				in, _ = wamp.AsDict(inv.Arguments[0])
			}
			return client.InvokeResult{Args: answer(in)}
		}, nil)
		if err != nil {
			return fmt.Errorf("register %s: %w", uri, err)
		}
	}
	if err := session.Subscribe(protocol.SessionOnJoin, b.sessionJoined, nil); err != nil {
		return err
	}
	return session.Subscribe("wamp.registration.on_create", b.procedureMade, nil)
}

func (b *backend) deviceStatus(in wamp.Dict) wamp.List {
	state, _ := wamp.AsString(in["status"])
	b.witness.note(sighting{At: time.Now(), Kind: status, Name: state})
	return wamp.List{wamp.Dict{"reswarmBaseURL": "http://127.0.0.1"}}
}

func (b *backend) appReport(in wamp.Dict) wamp.List {
	if state, ok := wamp.AsString(in["state"]); ok { // the other form tells ports
		app, _ := wamp.AsInt64(in["app_key"])
		b.witness.note(sighting{At: time.Now(), Kind: appState, Name: state, App: uint64(app)})
	}
	return nil
}

func (b *backend) sessionJoined(e *wamp.Event) {
	if len(e.Arguments) == 0 {
		return
	}
	details, _ := wamp.AsDict(e.Arguments[0])
	authid, _ := wamp.AsString(details["authid"])
	b.witness.note(sighting{At: time.Now(), Kind: joined, Name: authid})
}

func (b *backend) procedureMade(e *wamp.Event) {
	if len(e.Arguments) < 2 {
		return
	}
	details, _ := wamp.AsDict(e.Arguments[1])
	uri, _ := wamp.AsURI(details["uri"])
	if rest, ok := strings.CutPrefix(string(uri), "re.mgmt."); ok {
		serial, _, _ := strings.Cut(rest, ".")
		b.witness.note(sighting{At: time.Now(), Kind: registered, Name: string(uri), About: serial})
	}
}

// wish remembers what is wanted of an app.
func (b *backend) wish(app uint64, row map[string]any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wishes[app] = row
}

// forget ends all wishes: the next device has none.
func (b *backend) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.wishes)
}

func (b *backend) wishList() wamp.List {
	b.mu.Lock()
	defer b.mu.Unlock()
	list := wamp.List{}
	for _, app := range slices.Sorted(maps.Keys(b.wishes)) {
		list = append(list, b.wishes[app])
	}
	return list
}
