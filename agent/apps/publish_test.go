package apps

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
	"reagent/protocol"
)

func (r *rig) prodImage(version string) string {
	return protocol.RegistryImage(r.facts.Registry, r.facts.Repository, protocol.Prod, "amd64", r.id.Key, "web") + ":" + version
}

func publishAs(version string) func(*protocol.AppRequest) {
	return func(q *protocol.AppRequest) { q.Version = version }
}

func TestAPublishedVersionIsInTheRegistry(t *testing.T) {
	t.Parallel()
	r := newDevRig(t)
	r.upload(source(t, "ENV BUILD=1"))
	r.wish(protocol.Built)("REMOVED", "BUILDING", "BUILT", "PRESENT")
	r.wish(protocol.Running)("STARTING", "RUNNING")
	before := len(r.studio.all())
	r.wish(protocol.Published, publishAs("1.0.0"))("DELETING", "REMOVED", "BUILDING", "BUILT", "PUBLISHING", "PUBLISHED")
	for _, rep := range r.studio.all()[before:] {
		if made := rep["state"] == "BUILDING" || rep["state"] == "BUILT" || rep["state"] == "PUBLISHING" || rep["state"] == "PUBLISHED"; made && rep["release_build"] != true {
			t.Errorf("%s is not reported as of a release build", rep["state"])
		}
	}
	pub := protocol.PublishLogName(r.id.Key, "web")
	for _, line := range []string{"Initializing publish process for web...", "Starting image build...", "App build has finished, Starting to publish..."} {
		if !r.log.contains(pub + ": " + line) {
			t.Errorf("the publish log lacks %q", line)
		}
	}
	pushed := r.imageID(r.prodImage("1.0.0"))
	if pushed == "" || pushed != r.imageID(r.devImage()) {
		t.Errorf("the version is image %q, built was %q", pushed, r.imageID(r.devImage()))
	}
	if err := r.engine.RemoveImage(t.Context(), r.prodImage("1.0.0")); err != nil {
		t.Fatal(err)
	}
	if err := r.engine.Pull(t.Context(), r.prodImage("1.0.0"), nil, nil); err != nil {
		t.Errorf("the registry does not have it: %v", err)
	}
	r.wish(protocol.Published, publishAs("1.0.1"))("REMOVED", "BUILDING", "BUILT", "PUBLISHING", "PUBLISHED")
	r.wish(protocol.Running)("STARTING", "RUNNING")
	r.wish(protocol.Removed)("DELETING", "REMOVED")
	if r.imageID(r.prodImage("1.0.1")) == "" {
		t.Error("removing the DEV app took the installed app's image")
	}
	r.wish(protocol.Published)
	r.eventually("a publication without a version fails", func() bool { return strings.Contains(r.lastError(), "no version to publish") })
}

// slowPush holds pushes up until it is told, and ends them badly if so.
type slowPush struct {
	engine
	begun   chan struct{}
	goOn    chan struct{}
	refused error
}

func (e *slowPush) Push(ctx context.Context, ref string, c *container.Credential, record func([]byte)) error {
	close(e.begun)
	select {
	case <-e.goOn:
	case <-ctx.Done():
		return ctx.Err()
	}
	if e.refused != nil {
		return e.refused
	}
	return e.engine.Push(ctx, ref, c, record)
}

// heldTag names nothing until its context ends.
type heldTag struct {
	engine
	begun chan struct{}
}

func (e *heldTag) Tag(ctx context.Context, _, _ string) error {
	close(e.begun)
	<-ctx.Done()
	return ctx.Err()
}

func TestAPublicationThatIsCalledOffLeavesTheInstalledVersionAlone(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(r *rig, e *slowPush){
		"called off": func(r *rig, e *slowPush) {
			r.wish(protocol.Removed, func(q *protocol.AppRequest) { q.CancelTransition = true })("REMOVED")
			if !r.log.contains("The app release was canceled") {
				r.t.Error("the log does not say that it was called off")
			}
		},
		"refused": func(r *rig, e *slowPush) {
			e.refused = errors.New("denied: not yours")
			before := len(r.states())
			close(e.goOn)
			r.eventually("it fails", func() bool { return slices.Contains(r.states()[before:], "FAILED") })
			if got := r.lastError(); !strings.Contains(got, "denied: not yours") {
				r.t.Errorf("reported %q", got)
			}
		},
		"the agent ends": func(r *rig, e *slowPush) {
			r.stop()
			r.engine = e.engine
			// Nobody wants it any more when the agent comes back.
			r.start()
			r.wish(protocol.Present, func(q *protocol.AppRequest) { q.CancelTransition = true })
			r.settled(protocol.Present)
		},
		"the agent ends, and again before all is as it was": func(r *rig, e *slowPush) {
			r.stop()
			held := &heldTag{e.engine, make(chan struct{})}
			r.engine = held
			r.start()
			select {
			case <-held.begun:
			case <-time.After(time.Minute):
				r.t.Fatal("nothing is given back")
			}
			r.wish(protocol.Present, func(q *protocol.AppRequest) { q.CancelTransition = true })
			r.stop()
			r.engine = e.engine
			r.start()
			r.settled(protocol.Present)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newDevRig(t)
			testenv.PushImage(t, r.prodImage("1"), "", "", testenv.App{Version: "installed", Env: []string{"TESTAPP_SERVE=8080"}})
			if err := r.engine.Pull(t.Context(), r.prodImage("1"), nil, nil); err != nil {
				t.Fatal(err)
			}
			installed := r.imageID(r.prodImage("1"))
			r.stop()
			e := &slowPush{engine: r.engine, begun: make(chan struct{}), goOn: make(chan struct{})}
			r.engine = e
			r.start()
			r.upload(source(t))
			published := r.wish(protocol.Published, publishAs("1"))
			select {
			case <-e.begun:
			case <-time.After(time.Minute):
				t.Fatalf("no push: %q", r.states())
			}
			published("REMOVED", "BUILDING", "BUILT", "PUBLISHING")
			if r.imageID(r.prodImage("1")) == installed {
				t.Fatal("the push does not send what was built")
			}
			end(r, e)
			r.eventually("the installed version has its name back", func() bool { return r.imageID(r.prodImage("1")) == installed })
		})
	}
}
