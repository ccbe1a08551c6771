package apps

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reagent/container"
	"reagent/internal/testenv"
)

// The model is worth what its engine is: the same calls have the same outcome
// on it and on the real one.
func TestSmallEngineActsAsTheRealOne(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.stop()
	small := newSmallEngine()
	small.prints = map[string]blueprint{"solo": {}, "fails": {ends: time.Millisecond, exit: 3}}
	port := freePort(t)
	// Nobody else on this engine may have the same image by another name.
	testenv.PushImage(t, r.image("solo"), "", "", testenv.App{Version: r.facts.Serial, Env: []string{"TESTAPP_SERVE=8080"}})
	testenv.PushImage(t, r.image("fails"), "", "", testenv.App{Version: r.facts.Serial, Env: []string{"TESTAPP_EXIT=3"}})
	want := transcript(t, r, r.engine, port)
	got := transcript(t, r, &mortalEngine{l: &life{}, e: small}, port)
	for i := range max(len(want), len(got)) {
		var w, g string
		if i < len(want) {
			w = want[i]
		}
		if i < len(got) {
			g = got[i]
		}
		if w != g {
			t.Errorf("the real engine: %s\n    the small one: %s", w, g)
		}
	}
}

// transcript performs one script on an engine and tells what came of each call.
func transcript(t *testing.T, r *rig, e engine, port uint16) (lines []string) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	login := &container.Credential{Username: "token", Password: "secret"}
	name := func(n string) string { return r.facts.Serial + "-" + n }
	spec := func(n, version string) container.Spec {
		return container.Spec{
			Name: name(n), Image: r.image(version), NetworkMode: "bridge", Labels: map[string]string{"reagent.test": r.facts.Serial, "reagent.case": n},
			Ports: []container.Port{{Container: 8080, Host: port, Protocol: "tcp"}},
		}
	}
	free := func(n, version string) container.Spec { s := spec(n, version); s.Ports = nil; return s }

	ids := map[string]string{} // how a container was called first
	events := &watcher{}
	up, done := make(chan struct{}), make(chan struct{})
	watching, unwatch := context.WithCancel(ctx)
	go func() {
		defer close(done)
		_ = e.Events(watching, func() { close(up) }, events.happened)
	}()
	<-up
	say := func(what string, err error) { lines = append(lines, what+": "+outcome(err)) }
	run := func(what string, s container.Spec) {
		id, _, err := e.Run(ctx, s)
		if err == nil {
			ids[strings.TrimPrefix(s.Name, name(""))] = id
		}
		say("run "+what, err)
	}
	look := func(what, idOrName string) container.Container {
		c, err := e.Inspect(ctx, idOrName)
		line := "look at " + what + ": " + outcome(err)
		if err == nil {
			line += fmt.Sprintf(", %s from %s, ports %v, error %t", c.Status, versionOf(c.Image), c.Ports, c.Error != "")
		}
		lines = append(lines, line)
		return c
	}
	pull := func(version string) {
		told := 0
		err := e.Pull(ctx, r.image(version), login, func(container.PullProgress) { told++ })
		say(fmt.Sprintf("pull %s, told %t", version, told > 0), err)
	}
	image := func(version string) {
		i, err := e.Image(ctx, r.image(version))
		say(fmt.Sprintf("image %s, named %t", version, slices.Contains(i.Tags, r.image(version))), err)
	}

	look("nothing", name("a"))
	run("without its image", spec("a", "solo"))
	image("solo")
	pull("solo")
	image("solo")
	pull("none")
	pull("fails")
	run("a", spec("a", "solo"))
	look("a", name("a"))
	run("a once more", spec("a", "solo"))
	run("b on the port of a", spec("b", "solo"))
	look("b", name("b"))
	say("start what runs", e.Start(ctx, ids["a"]))
	say("rename a to c", e.Rename(ctx, ids["a"], name("c")))
	look("a by its old name", name("a"))
	look("a by its id", ids["a"])
	look("a by its new name", name("c"))
	run("d", free("d", "solo"))
	say("rename d to c", e.Rename(ctx, ids["d"], name("c")))
	say("rename c to c", e.Rename(ctx, ids["a"], name("c")))
	say("remove an image in use", e.RemoveImage(ctx, r.image("solo")))
	say("stop c", e.Stop(ctx, ids["a"], time.Second))
	look("c", name("c"))
	say("stop c again", e.Stop(ctx, ids["a"], time.Second))
	run("b on the port that is free now", spec("b", "solo"))
	say("start c, whose port is taken", e.Start(ctx, ids["a"]))
	look("c", name("c"))
	say("remove b", e.Remove(ctx, ids["b"]))
	say("remove b again", e.Remove(ctx, ids["b"]))
	say("stop b", e.Stop(ctx, ids["b"], time.Second))
	say("start b", e.Start(ctx, ids["b"]))
	say("rename b", e.Rename(ctx, ids["b"], name("x")))
	say("start c", e.Start(ctx, ids["a"]))
	look("c", name("c"))
	run("one that ends", free("e", "fails"))
	for c := (container.Container{}); c.Status != container.StatusExited; {
		var err error
		if c, err = e.Inspect(ctx, name("e")); err != nil {
			t.Fatal(err)
		}
		if c.Status == container.StatusExited {
			lines = append(lines, fmt.Sprintf("it ended with %d, started %t, finished %t", c.ExitCode, !c.Started.IsZero(), !c.Finished.IsZero()))
		}
	}
	all, err := e.List(ctx, map[string]string{"reagent.test": r.facts.Serial, "reagent.case": ""})
	say("list", err)
	slices.SortFunc(all, func(a, b container.Summary) int { return cmp.Compare(a.Name, b.Name) })
	for _, c := range all {
		lines = append(lines, fmt.Sprintf("listed: %s %s", strings.TrimPrefix(c.Name, name("")), c.Status))
	}
	for _, n := range []string{"a", "d", "e"} {
		say("remove "+n, e.Remove(ctx, ids[n]))
	}
	say("remove an image", e.RemoveImage(ctx, r.image("solo")))
	say("remove it again", e.RemoveImage(ctx, r.image("solo")))
	image("solo")
	say("remove the other", e.RemoveImage(ctx, r.image("fails")))

	for events.last(ids["e"]) != "destroy" {
		select {
		case <-ctx.Done():
			t.Fatal("the events do not come to an end")
		case <-time.After(10 * time.Millisecond):
		}
	}
	unwatch()
	<-done
	for _, n := range []string{"a", "b", "d", "e"} {
		lines = append(lines, fmt.Sprintf("events of %s: %v", n, events.of(ids[n])))
	}
	return lines
}

func outcome(err error) string {
	var taken *container.PortError
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &taken):
		return fmt.Sprintf("ports taken: %d", len(taken.Ports))
	}
	for _, kind := range []error{container.ErrNotFound, container.ErrConflict, container.ErrInUse, container.ErrUnauthorized} {
		if errors.Is(err, kind) {
			return kind.Error()
		}
	}
	return "refused"
}

// A watcher keeps the events that the life cycle lives on.
type watcher struct {
	mu   sync.Mutex
	seen map[string][]string // by container
}

func (w *watcher) happened(e container.Event) {
	if !slices.Contains([]string{"create", "start", "die", "rename", "destroy"}, e.Action) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.seen == nil {
		w.seen = map[string][]string{}
	}
	what := e.Action
	if e.Action == "die" {
		what = fmt.Sprintf("die(%t)", e.ExitCode == 0)
	}
	if e.Action == "rename" {
		what = fmt.Sprintf("rename(%t)", e.OldName != "" && e.OldName != e.Name)
	}
	w.seen[e.ID] = append(w.seen[e.ID], what)
}

func (w *watcher) of(id string) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.seen[id])
}

func (w *watcher) last(id string) string {
	all := w.of(id)
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}
