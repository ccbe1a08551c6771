package apps

import (
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"

	"reagent/container"
	"reagent/protocol"
)

// A move is one thing that happens to the world: its kind, and the seed of what
// it draws, so that a sequence of moves can be shortened and played again. A
// move is possible at any time; where it makes no sense it does nothing.
type move struct {
	kind string
	seed uint64
}

// moves is everything that happens, with a weight.
var moves = map[string]struct {
	weight int
	do     func(*world, *rand.Rand) string
}{
	"time passes":      {40, timePasses},
	"wish":             {30, wish},
	"same wish":        {6, sameAgain},
	"upload":           {6, upload},
	"cancel":           {6, cancelWish},
	"list":             {5, list},
	"odd list":         {4, oddList},
	"crossing list":    {3, crossingList},
	"app is forgotten": {2, forgotten},
	"container ends":   {8, containerEnds},
	"container paused": {2, containerPaused},
	"container lost":   {4, containerLost},
	"image lost":       {3, imageLost},
	"stranger":         {4, strangerComes},
	"port taken":       {4, portTaken},
	"engine away":      {4, engineAway},
	"engine back":      {8, engineBack},
	"engine will die":  {4, engineWillDie},
	"events lost":      {3, eventsLost},
	"link lost":        {4, linkLost},
	"link back":        {8, linkBack},
	"agent killed":     {3, agentKilled},
	"agent will die":   {7, agentWillDie},
	"agent starts":     {12, agentStarts},
	"disk full":        {2, diskFull},
	"disk free":        {5, diskFree},
	"database lost":    {1, databaseLost},
	"facts change":     {2, factsChange},
	"faults end":       {4, faultsEnd},
}

// draw makes a sequence of moves.
func draw(seed uint64, n int) []move {
	r := rand.New(rand.NewPCG(seed, 0))
	kinds := slices.Sorted(maps.Keys(moves))
	sum := 0
	for _, k := range kinds {
		sum += moves[k].weight
	}
	list := make([]move, n)
	for i := range list {
		at := r.IntN(sum)
		for _, k := range kinds {
			if at -= moves[k].weight; at < 0 {
				list[i] = move{k, r.Uint64()}
				break
			}
		}
	}
	return list
}

func (w *world) any(r *rand.Rand) *modelApp { return w.apps[r.IntN(len(w.apps))] }

func pick[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

func timePasses(w *world, r *rand.Rand) string {
	d := pick(r, 0, 50*time.Millisecond, 300*time.Millisecond, time.Second, 3*time.Second, 10*time.Second, 29*time.Second, 45*time.Second, 6*time.Minute, time.Hour)
	w.pass(d)
	return d.String()
}

// version draws one that lasts more often than not.
func version(r *rand.Rand) string {
	if r.IntN(10) < 6 {
		return pick(r, slices.Sorted(maps.Keys(lasting))...)
	}
	return pick(r, slices.Sorted(maps.Keys(modelVersions))...)
}

// newWish draws what the studio wants of an app now.
func newWish(w *world, a *modelApp, r *rand.Rand) protocol.AppRequest {
	present := "good1"
	if w.alive() {
		if have, known, _, _, err := w.record(a); err == nil && known && have.Version != "" {
			present = have.Version // a studio that understood the reports
		}
	}
	if r.IntN(8) == 0 {
		present = version(r)
	}
	if a.dev() {
		return newDevWish(a, r)
	}
	q := protocol.AppRequest{
		AppKey: a.id.Key, AppName: a.name, Stage: a.id.Stage, RequestorAccountKey: 1, DeviceOwnerAccountKey: 2,
		Target: pick(r, protocol.Running, protocol.Running, protocol.Running, protocol.Running, protocol.Running, protocol.Running, protocol.Present, protocol.Present,
			protocol.Removed, protocol.Uninstalled, protocol.Starting, protocol.Stopping),
		PresentVersion: present, NewestVersion: present, ReleaseKey: releaseOf(present), NewReleaseKey: releaseOf(present),
	}
	if r.IntN(2) == 0 {
		q.RequestUpdate, q.NewestVersion = true, version(r)
		q.NewReleaseKey = releaseOf(q.NewestVersion)
	}
	settings(&q, r)
	if a.project {
		q.DockerCompose = w.definition(q.PresentVersion, q)
		if q.RequestUpdate {
			q.NewDockerCompose = w.definition(q.NewestVersion, q)
		}
	}
	return q
}

// settings draws what the user and the maker of an app may choose.
func settings(q *protocol.AppRequest, r *rand.Rand) {
	if r.IntN(3) == 0 {
		q.Environment = map[string]any{"COLOR": map[string]any{"value": pick(r, "red", "blue")}}
	}
	q.Ports = pick(r, nil,
		[]protocol.PortRule{{Port: 8080, Protocol: "http"}},
		[]protocol.PortRule{{Port: 8080, Protocol: "http", HostPort: 41000}},
		[]protocol.PortRule{{Port: 8080, Protocol: "http"}, {Port: 9000, Protocol: "udp"}})
}

// newDevWish draws what a developer asks for.
func newDevWish(a *modelApp, r *rand.Rand) protocol.AppRequest {
	q := protocol.AppRequest{
		AppKey: a.id.Key, AppName: a.name, Stage: a.id.Stage, RequestorAccountKey: 1,
		Target: pick(r, protocol.Built, protocol.Built, protocol.Built, protocol.Running, protocol.Running, protocol.Running, protocol.Published,
			protocol.Present, protocol.Removed, protocol.Uninstalled),
	}
	if q.Target == protocol.Published {
		q.Version = "pub" + strconv.Itoa(r.IntN(3))
	}
	q.CancelTransition = r.IntN(8) == 0
	settings(&q, r)
	q.Environment = nil // a developer's copy has the maker's settings only
	return q
}

func upload(w *world, r *rand.Rand) string {
	v := version(r)
	for _, a := range w.apps {
		if a.dev() && w.alive() && w.studio.linked() {
			w.upload(a, v)
		}
	}
	return v
}

func wish(w *world, r *rand.Rand) string {
	a := w.any(r)
	q := newWish(w, a, r)
	if a.wish != nil && r.IntN(3) > 0 { // most wishes change one thing
		q.Environment, q.Ports = a.wish.Environment, a.wish.Ports
		if a.project {
			q.DockerCompose = w.definition(q.PresentVersion, q)
			if q.RequestUpdate {
				q.NewDockerCompose = w.definition(q.NewestVersion, q)
			}
		}
	}
	directly := r.IntN(5) > 0
	w.want(a, q, directly)
	return fmt.Sprintf("%s: %s, directly %t", a.id, short(&q), directly)
}

func sameAgain(w *world, r *rand.Rand) string {
	a := w.any(r)
	if a.wish == nil {
		return "none"
	}
	w.want(a, *a.wish, true)
	return a.id.String()
}

func cancelWish(w *world, r *rand.Rand) string {
	a := w.any(r)
	if a.wish == nil {
		return "none"
	}
	q := *a.wish
	q.CancelTransition, q.RequestUpdate = true, false
	w.want(a, q, true)
	return a.id.String()
}

func list(w *world, _ *rand.Rand) string {
	w.list()
	return ""
}

// oddList is an answer that no studio should give. None of it may change a
// thing.
func oddList(w *world, r *rand.Rand) string {
	if !w.alive() || !w.studio.linked() {
		return "nobody listens"
	}
	rows := w.rows()
	odd := map[string]any{
		"null": nil, "text": "apps", "number": int64(3), "object": map[string]any{"rows": rows},
		"rows of nothing": []any{nil}, "row without key": []any{map[string]any{"stage": "PROD"}},
		"row without stage": []any{map[string]any{"app_key": 1}}, "text in a row": []any{"web"},
		"rows with odd targets": w.broken(),
	}
	kind := pick(r, slices.Sorted(maps.Keys(odd))...)
	if kind == "rows with odd targets" && w.broken() == nil {
		return "no rows"
	}
	w.pass(time.Millisecond)
	_, _ = w.life.apps.Sync(odd[kind], time.Now())
	return kind
}

// broken is a list with every app the device may have, and a target in each row
// that nobody can want of it.
func (w *world) broken() []any {
	var rows []any
	for _, a := range w.apps {
		rows = append(rows, map[string]any{"app_key": a.id.Key, "app_name": a.name, "stage": string(a.id.Stage), "target_state": "STOPPED"})
	}
	return rows
}

// crossingList is a list that the studio made before a direct request, and that
// arrives after it.
func crossingList(w *world, r *rand.Rand) string {
	a := w.any(r)
	for _, o := range w.apps {
		if o.unsent || o.wish == nil {
			return "no" // the model knows only what was sent
		}
	}
	if !w.alive() || !w.studio.linked() || w.diskFull.Load() {
		return "nobody listens"
	}
	rows, asked := w.rows(), time.Now()
	w.pass(time.Millisecond)
	w.want(a, newWish(w, a, r), true)
	if w.alive() && !a.unsent {
		_, _ = w.life.apps.Sync(rows, asked)
	}
	return a.id.String()
}

// forgotten is an app that the studio no longer knows.
func forgotten(w *world, r *rand.Rand) string {
	a := w.any(r)
	a.wish, a.unsent = nil, false
	w.list()
	return a.id.String()
}

func containerEnds(w *world, r *rand.Rand) string {
	a, exit := w.any(r), pick(r, 0, 1, 137)
	if a.project && exit == 0 {
		exit = 2 // a service that ends with 0 has done its work
	}
	w.engine.with(a.named, func(c *smallContainer) {
		if c.Status == container.StatusRunning {
			w.engine.die(c, exit)
		}
	})
	a.hurt()
	return a.id.String()
}

func containerPaused(w *world, r *rand.Rand) string {
	a := w.any(r)
	w.engine.with(a.named, func(c *smallContainer) {
		switch c.Status {
		case container.StatusRunning:
			c.Status = container.StatusPaused
		case container.StatusPaused:
			c.Status = container.StatusRunning
		}
	})
	a.hurt()
	return a.id.String()
}

// containerLost removes containers of an app behind the agent's back.
func containerLost(w *world, r *rand.Rand) string {
	a, parked := w.any(r), r.IntN(3) == 0
	w.engine.with(a.owned, func(c *smallContainer) {
		if parked == strings.HasPrefix(c.Name, parkedPrefix) {
			w.engine.destroy(c)
		}
	})
	a.disturb()
	return fmt.Sprintf("%s, parked %t", a.id, parked)
}

func imageLost(w *world, r *rand.Rand) string {
	a, v := w.any(r), version(r)
	w.engine.forget(w.of(a, v))
	a.bare = true
	a.disturb()
	return a.id.String() + " " + v
}

// strangerComes lets a container appear that looks like one of ours, or go away
// again.
func strangerComes(w *world, r *rand.Rand) string {
	a := w.any(r)
	n := strconv.Itoa(r.IntN(4))
	spec := container.Spec{Name: "other-" + n, Image: "someone/else:" + n, Labels: map[string]string{}}
	kind := pick(r, "plain", "name", "prefix", "parked", "other serial", "other device", "gone")
	switch kind {
	case "name":
		spec.Name = a.cn()
	case "prefix":
		spec.Name, spec.Labels[labelReal] = a.cn()+"-1", "True"
	case "parked":
		spec.Name, spec.Labels[labelReal] = parkedPrefix+n, "True"
	case "other serial":
		spec.Name = cmp.Or(pick(r, "", a.cn()), "twin-"+n)
		spec.Labels = map[string]string{labelReal: "True", labelSerial: "another-device", labelKey: fmt.Sprint(a.id.Key), labelName: a.name, labelStage: string(a.id.Stage)}
	case "other device":
		spec.Name, spec.Labels[labelReal] = a.cn(), "True"
		spec.Env = []string{"DEVICE_SERIAL_NUMBER=another-device", "ENV=PROD", fmt.Sprintf("APP_KEY=%d", a.id.Key), "APP_NAME=" + a.name}
	case "gone":
		w.strangersGo()
		return kind
	}
	if r.IntN(2) == 0 {
		spec.Image = w.repository(a) + "-x:1"
	}
	w.engine.stranger(spec, r.IntN(3) > 0)
	return kind + " " + spec.Name
}

func (w *world) strangersGo() {
	w.engine.with(func(c *smallContainer) bool { return c.foreign }, w.engine.destroy)
}

func portTaken(w *world, r *rand.Rand) string {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	taken := pick[uint16](r, 40000, 40001, 40002, 41000)
	key := portKey(pick(r, "tcp", "tcp", "udp"), taken)
	if w.engine.taken[key] {
		delete(w.engine.taken, key)
		return key + " is free again"
	}
	if w.engine.busy(container.Port{Host: taken, Protocol: key[:3]}) {
		return "nobody gets " + key
	}
	w.engine.taken[key] = true
	for _, a := range w.apps {
		if slices.Contains(slices.Collect(maps.Values(a.ports)), taken) {
			a.disturb()
		}
	}
	return key
}

func engineAway(w *world, r *rand.Rand) string {
	if r.IntN(3) == 0 {
		w.engine.hang()
		return "hangs"
	}
	w.engine.goDown()
	return "down"
}

func engineBack(w *world, r *rand.Rand) string {
	alive := r.IntN(2) == 0
	w.engine.comeUp(alive)
	if !alive {
		for _, a := range w.apps {
			a.hurt()
		}
	}
	return fmt.Sprintf("containers restored alive: %t", alive)
}

func engineWillDie(w *world, r *rand.Rand) string {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	w.engine.fuse, w.engine.fuseAfter = 1+r.IntN(6), r.IntN(2) == 0
	return fmt.Sprintf("at change %d, after it %t", w.engine.fuse, w.engine.fuseAfter)
}

func eventsLost(w *world, r *rand.Rand) string {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	w.engine.deaf = 1 + r.IntN(5)
	return strconv.Itoa(w.engine.deaf)
}

func linkLost(w *world, _ *rand.Rand) string {
	w.studio.link(false)
	return ""
}

func linkBack(w *world, _ *rand.Rand) string {
	w.connect()
	return ""
}

func agentKilled(w *world, _ *rand.Rand) string {
	if w.life != nil {
		w.life.die()
	}
	return ""
}

func agentWillDie(w *world, r *rand.Rand) string {
	n, after := 1+r.IntN(40), r.IntN(2) == 0
	if w.life != nil {
		w.life.killAfter(n, after)
	}
	return fmt.Sprintf("at call %d, after it %t", n, after)
}

func agentStarts(w *world, _ *rand.Rand) string {
	w.revive()
	return ""
}

func diskFull(w *world, _ *rand.Rand) string {
	w.diskFull.Store(true)
	return ""
}

func diskFree(w *world, _ *rand.Rand) string {
	w.diskFull.Store(false)
	return ""
}

func databaseLost(w *world, _ *rand.Rand) string {
	if err := w.loseDatabase(); err != nil {
		w.complain("after the loss of the database: %v", err)
	}
	return ""
}

// factsChange is what the agent learns of host and studio: no reason to touch a
// container.
func factsChange(w *world, r *rand.Rand) string {
	if w.alive() {
		learnt := strconv.Itoa(r.IntN(3))
		w.base.Store(&learnt)
		w.life.apps.Refresh()
	}
	return ""
}

func faultsEnd(w *world, r *rand.Rand) string {
	again := r.IntN(2) == 0
	w.settle(again)
	return fmt.Sprintf("asked again %t", again)
}
