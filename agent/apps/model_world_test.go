package apps

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// What the images of the model's apps do, by version.
var modelVersions = map[string]blueprint{
	"good1":  {pull: 2 * time.Second},
	"good2":  {pull: 4 * time.Second},
	"large":  {pull: 10 * time.Minute},
	"stiff":  {pull: time.Second, stubborn: true},
	"fit":    {pull: time.Second, health: container.HealthHealthy, decides: 90 * time.Second},
	"ends":   {pull: time.Second, ends: time.Millisecond, exit: 3},
	"done":   {pull: time.Second, ends: 5 * time.Second},
	"ill":    {pull: time.Second, health: container.HealthUnhealthy, decides: 10 * time.Second},
	"unsure": {pull: time.Second, health: container.HealthHealthy, decides: 100 * time.Hour},
	"broken": {pull: time.Second, refused: "exec /app: no such file or directory"},
	"stalls": {pull: time.Second, stalls: true},
	"none":   {missing: true},
	"job":    {pull: time.Second, ends: 3 * time.Second}, // of a project: it does its work
}

// lasting are the versions that, once started, run.
var lasting = map[string]bool{"good1": true, "good2": true, "large": true, "stiff": true, "fit": true}

// fetched tells whether a version can be had.
func fetched(version string) bool {
	p := modelVersions[version]
	return !p.missing && !p.stalls
}

// A world is one device, its engine, its studio, and what the model knows of
// them. The world's methods are called from the bubble's first goroutine alone.
type world struct {
	dir      string
	facts    Facts
	log      zerolog.Logger
	engine   *smallEngine
	studio   *modelStudio
	diskFull atomic.Bool
	base     atomic.Pointer[string] // what the agent learnt last
	life     *life                  // nil while the agent does not run
	apps     []*modelApp
}

// A modelApp is what the model knows of one app.
type modelApp struct {
	id      protocol.AppID
	name    string
	project bool // of several services
	// wish is what the studio wants; nil when it does not know the app.
	wish *protocol.AppRequest
	// acknowledged is the newest wish that the device has taken, maybe the ones
	// that were on their way when it was cut off. Any of them may be the newest.
	acknowledged *protocol.AppRequest
	maybe        []protocol.AppRequest

	unsent bool   // the wish has not been handed to the device
	steady steady // the containers that are as wanted: they have to stay
	proved bool   // a lasting version ran and was kept: one has to run again
	ports  map[string]uint16
	data   bool   // its data folder has something to lose
	volume bool   // and so has its volume, which goes with the app
	source string // the version that was uploaded last to build from, "" = none
	stray  bool   // images may be there that no record tells of
	leaves bool   // it was not in a list: its container may be going right now
	bare   bool   // an image was taken away: only who needs it notices
}

func newWorld(dir string, log zerolog.Logger) *world {
	w := &world{dir: dir, log: log, engine: newSmallEngine(), studio: newModelStudio()}
	w.facts = Facts{Serial: "model-device", DeviceKey: 7, SwarmKey: 41, EndpointURL: "ws://127.0.0.1:1/ws", Registry: "registry.invalid/", Repository: "apps/", Secret: "s"}
	w.engine.prints = modelVersions
	w.engine.linked = w.studio.linked
	w.engine.guard = func(op string, c *smallContainer) {
		if c.foreign {
			w.complain("the agent did %s %s, which is not its own", op, c.Name)
		}
	}
	w.engine.drops = func(ref string) {
		kept := strings.HasPrefix(ref, w.facts.Registry+"shop/") || strings.Contains(ref, "reagent")
		if !kept && !slices.ContainsFunc(w.apps, func(a *modelApp) bool { return strings.HasPrefix(ref, w.repository(a)+":") }) {
			w.complain("the agent removed the image %s, which is not its own", ref)
		}
	}
	for _, one := range []struct {
		stage   protocol.Stage
		key     uint64
		name    string
		project bool
	}{
		{protocol.Prod, 1, "web", false}, {protocol.Prod, 2, "db", false}, {protocol.Prod, 3, "Sensor_A", false},
		{protocol.Dev, 1, "web", false}, {protocol.Prod, 4, "my-shop", true},
	} {
		w.apps = append(w.apps, &modelApp{id: protocol.AppID{Key: one.key, Stage: one.stage}, name: one.name, project: one.project, ports: map[string]uint16{}})
	}
	return w
}

func (w *world) complain(format string, args ...any) {
	w.studio.mu.Lock()
	defer w.studio.mu.Unlock()
	w.studio.problems = append(w.studio.problems, fmt.Sprintf(format, args...))
}

func (w *world) repository(a *modelApp) string {
	return protocol.RegistryImage(w.facts.Registry, w.facts.Repository, a.id.Stage, "amd64", a.id.Key, a.name)
}

func (a *modelApp) dev() bool { return a.id.Stage == protocol.Dev }

func (a *modelApp) cn() string { return protocol.ContainerName(a.id.Stage, a.id.Key, a.name) }

// owned matches the containers that the agent made for an app.
func (a *modelApp) owned(c *smallContainer) bool {
	return !c.foreign && c.Labels[labelKey] == fmt.Sprint(a.id.Key) && c.Labels[labelStage] == string(a.id.Stage)
}

// named matches the one that is the app.
func (a *modelApp) named(c *smallContainer) bool {
	return a.owned(c) && (c.Name == a.cn() || a.project && c.Labels[labelProject] != "")
}

// stays matches the ones that run as long as the app does: a job does its work
// and ends.
func (a *modelApp) stays(c *smallContainer) bool {
	return a.named(c) && c.Labels[labelService] != "job"
}

// of is the image of a version, of an app that is a project that of its service
// web; the other services are the same in all versions.
func (w *world) of(a *modelApp, version string) string {
	if a.project {
		return w.facts.Registry + "shop/web:" + version
	}
	return w.repository(a) + ":" + version
}

// definition is a project of three services: one that listens, a job that ends,
// and one that keeps something in a volume.
func (w *world) definition(version string, r protocol.AppRequest) map[string]any {
	var ports []any
	for _, p := range r.Ports {
		entry := fmt.Sprint(p.Port)
		if p.Wire() == "udp" {
			entry += "/udp"
		}
		ports = append(ports, entry)
	}
	web := map[string]any{"image": w.facts.Registry + "shop/web:" + version}
	if len(ports) > 0 {
		web["ports"] = ports
	}
	return map[string]any{
		"services": map[string]any{
			"web": web,
			"job": map[string]any{"image": w.facts.Registry + "shop/job:job"},
			"db":  map[string]any{"image": w.facts.Registry + "shop/db:good1", "volumes": []any{"data:/var/lib/db"}},
		},
		"volumes": map[string]any{"data": map[string]any{}},
	}
}

// A steady app keeps its containers; they are to run unless something ended them.
type steady struct {
	ids  []string
	runs bool
}

// pass lets time go by. The clock is the bubble's.
func (w *world) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// alive tells whether an agent runs.
func (w *world) alive() bool {
	if w.life == nil {
		return false
	}
	w.life.mu.Lock()
	defer w.life.mu.Unlock()
	return !w.life.dead
}

// disturb says that something was done to an app that may cost it its container.
func (a *modelApp) disturb() { a.steady = steady{} }

// hurt says that something was done that may end its container, and no more.
func (a *modelApp) hurt() {
	a.steady.runs = false
	if a.dev() {
		a.disturb() // a developer's is made anew for each start (life §3.3)
	}
}

// want is what the studio wants from now on. Directly, it asks the device for
// it; else the next list tells, but nothing of a developer's app: its studio
// gives up what cannot be delivered.
func (w *world) want(a *modelApp, r protocol.AppRequest, directly bool) {
	if a.dev() && (!w.alive() || !w.studio.linked()) {
		return
	}
	wish := r
	a.wish, a.unsent = &wish, true
	if !directly || !w.alive() || !w.studio.linked() {
		return
	}
	a.disturb()
	w.forgoes(a, r)
	if err := w.life.apps.Request(w.life.ctx, r); err != nil {
		a.maybe = append(a.maybe, r) // an error may come after the deed
		return
	}
	a.acknowledged, a.maybe, a.unsent = &wish, nil, false
	if a.dev() && wish.CancelTransition && (wish.Target == protocol.Built || wish.Target == protocol.Published) {
		a.acknowledged.Target = protocol.Present // what is called off is not to be done
	}
}

// upload hands the agent an archive to build from, as a whole.
func (w *world) upload(a *modelApp, version string) {
	var text bytes.Buffer
	packed := gzip.NewWriter(&text)
	files := tar.NewWriter(packed)
	content := []byte("FROM " + version + "\n")
	err := errors.Join(
		files.WriteHeader(&tar.Header{Name: "Dockerfile", Mode: 0o644, Size: int64(len(content))}),
		second(files.Write(content)), files.Close(), packed.Close(),
		os.MkdirAll(filepath.Dir(w.archive(a)), 0o700), os.WriteFile(w.archive(a)+".new", text.Bytes(), 0o600), os.Rename(w.archive(a)+".new", w.archive(a)))
	if err != nil {
		w.complain("upload: %v", err)
	}
	a.source = version
}

func second(_ int, err error) error { return err }

func (w *world) archive(a *modelApp) string {
	return filepath.Join(w.dir, "apps", "build", a.name+".tgz")
}

// forgoes notes what need not be there any more after a wish.
func (w *world) forgoes(a *modelApp, r protocol.AppRequest) {
	if r.Target.Settled() != protocol.Running {
		a.proved = false
	}
	if r.Target.Settled().Gone() {
		a.ports = map[string]uint16{} // no record tells of them after a restart
		a.volume = false
	}
	if r.Target == protocol.Uninstalled {
		a.data = false
	}
}

// row is what the studio's list says of an app.
func (w *world) row(a *modelApp) any {
	r := *a.wish
	r.CancelTransition = false
	w.studio.mu.Lock()
	r.Current = w.studio.of(a.id).state
	w.studio.mu.Unlock()
	d := protocol.Wire(r)
	if r.Current == "" {
		d["current_state"] = "REMOVED"
	}
	return d
}

func (w *world) rows() []any {
	rows := []any{}
	for _, a := range w.apps {
		if a.wish != nil {
			rows = append(rows, w.row(a))
		}
	}
	return rows
}

// sync hands the agent the studio's list, as it does after a connect. empty is
// for a studio that says by mistake that there is nothing.
func (w *world) sync(answer []any, asked time.Time) {
	if !w.alive() || !w.studio.linked() {
		return
	}
	select {
	case <-w.life.apps.Ready():
	default:
		return // the agent asks for it when the engine is there
	}
	for _, a := range w.apps {
		if a.dev() && a.wish != nil {
			continue // a list says nothing of what is wanted of it
		}
		if a.wish == nil {
			a.disturb()
			a.proved, a.acknowledged, a.maybe, a.stray, a.leaves = false, nil, nil, true, true
			a.ports = map[string]uint16{}
		} else if a.unsent {
			a.disturb()
			w.forgoes(a, *a.wish)
			a.maybe = append(a.maybe, *a.wish)
		}
	}
	life := w.life
	empty, err := life.apps.Sync(answer, asked)
	if err == nil && empty {
		err = life.apps.ConfirmEmpty(life.ctx, func(ctx context.Context) (any, error) { return w.rows(), ctx.Err() })
	}
	if !w.alive() || w.diskFull.Load() {
		return
	}
	if err != nil {
		w.complain("the list is not taken: %v", err)
		return
	}
	for _, a := range w.apps {
		if a.wish != nil && a.unsent && !a.dev() {
			wish := *a.wish
			a.acknowledged, a.maybe, a.unsent = &wish, nil, false
		}
	}
}

// list asks the studio and hands on what it says.
func (w *world) list() {
	w.pass(time.Millisecond) // what was wished for was wished for before
	w.sync(w.rows(), time.Now())
}

// connect brings the link back, with what the agent does then.
func (w *world) connect() {
	w.studio.link(true)
	w.list()
	if w.alive() {
		w.life.apps.Online()
	}
}

// loseDatabase ends the agent and takes its database away.
func (w *world) loseDatabase() error {
	if err := w.end(); err != nil {
		return err
	}
	w.studio.lost()
	for _, a := range w.apps {
		a.acknowledged, a.maybe, a.proved, a.unsent, a.stray = nil, nil, false, true, true
		a.ports = map[string]uint16{}
		a.disturb()
	}
	return errors.Join(os.RemoveAll(filepath.Join(w.dir, "state.bolt")), w.begin())
}

// record is what the agent has written down of an app.
func (w *world) record(a *modelApp) (have device.Actual, known bool, wish device.Wanted, wanted bool, err error) {
	wish, wanted, err = w.life.store.Wanted(a.id)
	if err == nil {
		have, known, err = w.life.store.Actual(a.id)
	}
	return have, known, wish, wanted, err
}

// describe is the world, for whoever reads of a failure.
func (w *world) describe() string {
	var b strings.Builder
	for _, a := range w.apps {
		fmt.Fprintf(&b, "app %s %s: studio wants %s\n", a.id, a.name, short(a.wish))
		if w.life != nil {
			have, known, wish, wanted, err := w.record(a)
			fmt.Fprintf(&b, "  wish %t %s (seq %d)\n  record %t %s version %q swap %+v rejected %+v ports %v error %q %v\n", wanted, short(&wish.Request), wish.Seq, known, have.State, have.Version, have.Swap, have.Rejected, have.HostPorts, have.Error, err)
		}
		m := w.studio.of(a.id)
		from := max(0, len(m.accepted)-8)
		for i, l := range m.accepted[from:] {
			fmt.Fprintf(&b, "  report %d %v %v %v\n", from+i, l.wire["state"], l.wire["updateStatus"], l.wire["error"])
		}
		fmt.Fprintf(&b, "  of which came up to %v\n", slices.Sorted(maps.Keys(m.at)))
	}
	for _, c := range w.engine.all(func(*smallContainer) bool { return true }) {
		fmt.Fprintf(&b, "container %.6s %s %s %s %s ports %v %s\n", c.ID, c.Name, versionOf(c.Image), c.Status, c.Health, c.Ports, c.Error)
	}
	fmt.Fprintf(&b, "images %q\n", w.engine.references(""))
	from := max(0, len(w.engine.journal)-40)
	fmt.Fprintf(&b, "engine:\n  %s\n", strings.Join(w.engine.journal[from:], "\n  "))
	return b.String()
}

func short(r *protocol.AppRequest) string {
	if r == nil {
		return "nothing"
	}
	s := fmt.Sprintf("%s, has %q", r.Target, r.PresentVersion)
	if r.RequestUpdate {
		s += fmt.Sprintf(", update to %q", r.NewestVersion)
	}
	return s + fmt.Sprintf(", environment %v, %d ports", r.Environment, len(r.Ports))
}

// key numbers the versions for the studio.
func releaseOf(version string) uint64 {
	names := slices.Sorted(maps.Keys(modelVersions))
	return uint64(slices.Index(names, cmp.Or(version, "good1")) + 1)
}
