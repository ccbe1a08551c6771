package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"
	nexus "github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/release"
)

// A yard is where apps come from and run: a registry of this run and the engine
// of this machine, whose events the witness sees.
type yard struct {
	engine   *testenv.Engine
	registry *testenv.Registry
	system   *nexus.Client
	backend  *backend
	apps     uint64
}

// openYard ends the measurement where no engine answers.
func (l *lab) openYard(t *stage) *yard {
	y := &yard{engine: testenv.Docker(t), registry: testenv.NewRegistry(t), backend: l.router.backend}
	y.engine.Owns(l.serial)
	t.Cleanup(y.backend.forget)
	var err error
	if y.system, err = l.router.join(t.ctx, protocol.AuthIDSystem); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = y.system.Close() })
	y.follow(t, l.witness)
	return y
}

// follow tells the witness the engine's events, by the engine's clock.
func (y *yard) follow(t *stage, w *witness) {
	ctx, cancel := context.WithCancel(t.ctx)
	messages, broken := y.engine.API.Events(ctx, events.ListOptions{Since: fmt.Sprint(time.Now().Unix())})
	var group sync.WaitGroup
	group.Go(func() {
		for {
			select {
			case m := <-messages:
				if m.Type == events.ContainerEventType {
					w.note(sighting{At: time.Unix(0, m.TimeNano), Kind: engineEvent, Name: string(m.Action), About: m.Actor.Attributes["name"]})
				}
			case err := <-broken:
				if ctx.Err() == nil {
					t.Errorf("follow the engine's events: %v", err)
				}
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); group.Wait() })
}

// An app is an app whose image lies in the registry.
type app struct {
	key       uint64
	name      string
	container string
	image     string
}

// newApp pushes an image of testenv's small program, with so many bytes of its
// own that no other image shares, and what its environment tells the program.
func (y *yard) newApp(t *stage, own int, env ...string) app {
	ballast := make([]byte, own)
	_, _ = rand.Read(ballast) // never fails
	return y.push(t, testenv.App{Ballast: ballast, Env: env})
}

// push makes an app of a program.
func (y *yard) push(t *stage, program testenv.App) app {
	y.apps++
	a := app{key: y.apps, name: fmt.Sprintf("%s-%d", y.engine.Prefix, y.apps)}
	a.container = protocol.ContainerName(protocol.Prod, a.key, a.name)
	a.image = protocol.RegistryImage(y.registry.Host+"/", repository, protocol.Prod, release.Arch(), a.key, a.name) + ":" + appVersion
	program.Version = a.name
	testenv.PushImage(t, a.image, "", "", program)
	return a
}

const appVersion = "1.0.0"

// started and reported are what there is to see of an app.
func (a app) started() sighting {
	return sighting{Kind: engineEvent, Name: string(events.ActionStart), About: a.container}
}

func (a app) reported(s protocol.State) sighting {
	return sighting{Kind: appState, Name: string(s), App: a.key}
}

// want asks a device for a state of an app, as the platform does.
func (y *yard) want(t *stage, d *testenv.Device, a app, target protocol.State) {
	wish := protocol.Wire(protocol.AppRequest{
		AppKey: a.key, AppName: a.name, Stage: protocol.Prod, Target: target,
		ReleaseKey: 1, NewReleaseKey: 1, Version: appVersion, PresentVersion: appVersion, NewestVersion: appVersion,
	})
	y.backend.wish(a.key, wish)
	if _, err := y.system.Call(t.ctx, protocol.Procedure(d.Serial, protocol.RequestAppState), nil, nil, wamp.Dict(wish), nil); err != nil {
		t.Fatalf("ask for %s: %v", target, err)
	}
}
