package apps

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"reagent/container"
	"reagent/persistence/device"
	"reagent/protocol"
)

// check looks at what holds at every moment (design §3).
func (w *world) check() {
	if !w.alive() {
		return
	}
	used := map[string]protocol.AppID{}
	for _, a := range w.apps {
		have, known, wish, wanted, err := w.record(a)
		if err != nil {
			w.complain("%s: %v", a.id, err)
			continue
		}
		if strings.Contains(have.Error, "internal error") {
			w.complain("%s: %s", a.id, have.Error)
		}
		w.checkWish(a, wish, wanted)
		w.checkPorts(a, have, used)
		w.checkData(a)
		w.checkContainers(a, have, known, wish)
	}
}

// checkWish: what was acknowledged is not lost (rule 6).
func (w *world) checkWish(a *modelApp, wish device.Wanted, wanted bool) {
	if a.acknowledged == nil || a.acknowledged.Target.Settled().Gone() && !wanted {
		return
	}
	for _, r := range append(a.maybe, *a.acknowledged) {
		if wanted && sameWished(wish.Request, r) {
			return
		}
		if r.Target.Settled().Gone() && !wanted {
			return
		}
	}
	w.complain("%s: acknowledged %s, but stored is %s (%t)", a.id, short(a.acknowledged), short(&wish.Request), wanted)
}

func sameWished(a, b protocol.AppRequest) bool {
	return a.Target == b.Target && a.NewestVersion == b.NewestVersion && a.PresentVersion == b.PresentVersion &&
		(a.RequestUpdate == b.RequestUpdate || a.CancelTransition || b.CancelTransition) && slices.Equal(a.Ports, b.Ports) && color(a) == color(b)
}

func color(r protocol.AppRequest) string {
	d, _ := protocol.AsDict(r.Environment["COLOR"])
	v, _ := protocol.Text(d["value"])
	return v
}

// checkPorts: no two apps have the same host port, and an app keeps its own.
func (w *world) checkPorts(a *modelApp, have device.Actual, used map[string]protocol.AppID) {
	for declared, port := range have.HostPorts {
		_, wire, _, _ := parseSlot(declared)
		key := portKey(wire, port)
		if other, twice := used[key]; twice {
			w.complain("host port %s is %s's and %s's", key, other, a.id)
		}
		used[key] = a.id
		old, ok := a.ports[declared]
		if w.engine.strangers(old) {
			ok = false // whichever protocol: an engine names the number alone
		}
		if ok && old != port {
			w.complain("%s: the host port for %s was %d and is %d", a.id, declared, old, port)
		}
	}
}

// checkData: nothing but an uninstall takes an app's data.
func (w *world) checkData(a *modelApp) {
	if _, err := os.Stat(w.kept(a)); a.data && err != nil {
		w.complain("%s: its data is lost: %v", a.id, err)
		a.data = false
	}
	if a.project && a.volume && w.volumes(a) == 0 {
		w.complain("%s: its volume is lost", a.id)
		a.volume = false
	}
}

func (w *world) kept(a *modelApp) string {
	return filepath.Join(w.dir, "apps", strings.ToLower(string(a.id.Stage)), strings.ToLower(a.name), "kept")
}

// volumes counts those of a project.
func (w *world) volumes(a *modelApp) (n int) {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	for _, labels := range w.engine.volumes {
		if a.project && labels[labelProject] == projectName(a.id, a.name) {
			n++
		}
	}
	return n
}

// checkContainers: one that is as wanted stays (rule 3), and there is never more
// than the app and what it was before (rule 5).
func (w *world) checkContainers(a *modelApp, have device.Actual, known bool, wish device.Wanted) {
	mine := w.engine.all(a.owned)
	if most := map[bool]int{false: 2, true: 3}[a.project]; len(mine) > most {
		w.complain("%s has %d containers", a.id, len(mine))
	}
	if w.engine.away() {
		return
	}
	for _, id := range a.steady.ids {
		i := slices.IndexFunc(mine, func(c container.Container) bool { return c.ID == id })
		switch {
		case i < 0:
			w.complain("%s: container %.6s was as wanted and is gone", a.id, id)
		case a.steady.runs && mine[i].Status != container.StatusRunning:
			w.complain("%s: container %.6s was as wanted and is %s", a.id, id, mine[i].Status)
		}
	}
	a.steady = steady{}
	named := w.engine.all(a.stays)
	a.leaves = a.leaves && len(named) > 0
	told := w.engine.with(func(c *smallContainer) bool { return a.named(c) && c.told }, func(*smallContainer) {})
	if a.wish != nil && !a.leaves && !told && known && w.asWanted(a, have, wish.Request, named) {
		v := have.Version
		a.stray = false
		a.steady = steady{runs: true}
		for _, c := range named {
			a.steady.ids = append(a.steady.ids, c.ID)
			a.steady.runs = a.steady.runs && w.engine.behaviour(c.ImageID).ends == 0
		}
		a.proved = lasting[v] && len(a.maybe) == 0 && !a.dev()
		a.data, a.volume = os.WriteFile(w.kept(a), nil, 0o600) == nil, a.project
		maps.Copy(a.ports, have.HostPorts)
	}
}

func (w *world) asWanted(a *modelApp, have device.Actual, r protocol.AppRequest, parts []container.Container) bool {
	return have.State == protocol.Running && have.Swap == nil && r.Target.Settled() == protocol.Running &&
		(!r.RequestUpdate || r.NewestVersion == have.Version) && w.up(a, have.Version, parts) && w.made(a, have, r, parts)
}

// up tells whether a version runs, of which parts are all that stays.
func (w *world) up(a *modelApp, version string, parts []container.Container) bool {
	for _, c := range parts {
		done := a.project && c.Status == container.StatusExited && c.ExitCode == 0 && w.engine.behaviour(c.ImageID).ends > 0
		if c.Status != container.StatusRunning && !done {
			return false
		}
	}
	want := map[bool]int{false: 1, true: 2}[a.project]
	at := slices.IndexFunc(parts, func(c container.Container) bool { return c.Image == w.of(a, version) })
	return len(parts) == want && (a.dev() || at >= 0)
}

// made tells whether containers were made from a wish.
func (w *world) made(a *modelApp, have device.Actual, r protocol.AppRequest, parts []container.Container) bool {
	want := "COLOR=" + color(r)
	for _, c := range parts {
		has := slices.ContainsFunc(c.Env, func(line string) bool { return strings.HasPrefix(line, "COLOR=") })
		if has != (color(r) != "") || has && !slices.Contains(c.Env, want) {
			return false
		}
		service := c.Labels[labelService]
		if service != "" && service != "web" {
			continue
		}
		if len(c.Ports) != len(r.Ports) {
			return false
		}
		for _, p := range r.Ports {
			host := have.HostPorts[slotOf(service, p.Wire(), p.Port)]
			if host == 0 || !slices.Contains(c.Ports, container.Port{Container: p.Port, Host: host, Protocol: p.Wire()}) {
				return false
			}
		}
	}
	return true
}

// strangers tells whether somebody else listens on a port.
func (e *smallEngine) strangers(port uint16) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.taken[portKey("tcp", port)] || e.taken[portKey("udp", port)]
}

func (e *smallEngine) away() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.mode != engineUp
}

// revive starts the agent where it is not alive.
func (w *world) revive() {
	if w.alive() {
		return
	}
	if err := errors.Join(w.end(), w.begin()); err != nil {
		w.complain("the agent does not start: %v", err)
	}
}

// settle ends all faults, waits, and looks at where the apps stand: no state is
// a dead end (rule 7), and all that is known is the same everywhere (rule 8).
// With again, everything is asked for once more after that.
func (w *world) settle(again bool) {
	w.diskFull.Store(false)
	w.engine.comeUp(true)
	w.strangersGo()
	w.engine.with(func(c *smallContainer) bool { return c.Status == container.StatusPaused }, func(c *smallContainer) { c.Status = container.StatusRunning })
	if w.life != nil {
		w.life.killAfter(0, false)
	}
	w.revive()
	if w.life == nil {
		return
	}
	w.pass(time.Minute) // the agent looks at the engine before it asks for the list
	w.connect()
	w.calm(3 * time.Hour)
	for _, a := range w.apps {
		a.leaves = false
	}
	w.checkEnd(false)
	if !again {
		return
	}
	for _, a := range w.apps {
		if a.wish != nil {
			q := *a.wish
			q.CancelTransition = false
			w.want(a, q, true)
		}
	}
	w.calm(time.Hour)
	w.checkEnd(true)
}

// calm waits until the outbox is empty, too. An app that comes and goes may
// have something to tell at any moment.
func (w *world) calm(d time.Duration) {
	w.pass(d)
	for range 20 {
		if states, ports, err := w.life.store.Outbox(); err != nil || len(states)+len(ports) == 0 {
			return
		}
		w.pass(time.Second)
	}
}

// checkEnd is what has to be true when nothing has happened for long. asked
// tells that each wish was made anew since the last fault.
func (w *world) checkEnd(asked bool) {
	w.check()
	states, _, err := w.life.store.Outbox()
	if err != nil || len(states) > 0 {
		w.complain("%d reports wait in the outbox (%v)", len(states), err)
	}
	if err := w.life.store.Check(); err != nil {
		w.complain("the store: %v", err)
	}
	for _, a := range w.apps {
		have, known, wish, wanted, err := w.record(a)
		if err != nil {
			w.complain("%s: %v", a.id, err)
			continue
		}
		w.checkMail(a, have, known)
		if a.dev() {
			w.checkDev(a, have, known, wish, wanted, asked)
			continue
		}
		target := protocol.Removed
		if a.wish != nil {
			target = a.wish.Target.Settled()
		}
		switch target {
		case protocol.Running:
			w.checkRunning(a, have, known, wish.Request, asked)
		case protocol.Present:
			w.checkPresent(a, have, known)
		default:
			w.checkGone(a, known, wanted)
		}
	}
}

// checkMail: the last report, the record and what the studio believes agree.
func (w *world) checkMail(a *modelApp, have device.Actual, known bool) {
	w.studio.mu.Lock()
	m := w.studio.of(a.id)
	last, state := len(m.accepted)-1, m.state
	missing := last >= 0 && !m.at[last]
	w.studio.mu.Unlock()
	if missing {
		w.complain("%s: its last report did not arrive", a.id)
	}
	if known && state != have.State {
		w.complain("%s: the studio believes in %q, the record says %s", a.id, state, have.State)
	}
	if !known && a.wish != nil && !state.Gone() && state != "" {
		w.complain("%s: the studio believes in %q, and there is nothing", a.id, state)
	}
}

func (w *world) checkGone(a *modelApp, known, wanted bool) {
	if known || wanted {
		w.complain("%s should be gone; record %t, wish %t", a.id, known, wanted)
	}
	if left := w.engine.all(a.owned); len(left) > 0 {
		w.complain("%s should be gone; container %s is there", a.id, left[0].Name)
	}
	if a.wish == nil {
		return // no longer known to the studio: images and data stay
	}
	if left := w.volumes(a); left > 0 && !a.stray {
		w.complain("%s should be gone; %d volumes are there", a.id, left)
	}
	left := slices.DeleteFunc(w.engine.references(w.repository(a)+":"), func(ref string) bool {
		return strings.HasPrefix(versionOf(ref), "pub") // published from here, and not the app's
	})
	if len(left) > 0 && !a.stray {
		w.complain("%s should be gone; images %q are there", a.id, left)
	}
	if _, err := os.Stat(filepath.Dir(w.kept(a))); a.wish.Target == protocol.Uninstalled && err == nil {
		w.complain("%s is uninstalled; its data is there", a.id)
	}
}

func (w *world) checkPresent(a *modelApp, have device.Actual, known bool) {
	if left := w.engine.all(a.owned); len(left) > 0 {
		w.complain("%s should be stopped; container %s is there", a.id, left[0].Name)
	}
	if have.Swap != nil {
		w.complain("%s: an update has not ended: %+v", a.id, *have.Swap)
	}
	r := a.wish
	if r.RequestUpdate && fetched(r.NewestVersion) && have.Version != r.NewestVersion && !rejected(have, *r) {
		w.complain("%s: stopped with version %q, want %q", a.id, have.Version, r.NewestVersion)
	}
	if !fetched(versionToRun(*r)) {
		return
	}
	if !known || have.State != protocol.Present || !a.bare && !w.engine.has(w.of(a, have.Version)) {
		w.complain("%s: %s with version %q, want PRESENT and an image", a.id, have.State, have.Version)
	}
}

func rejected(have device.Actual, r protocol.AppRequest) bool {
	return have.Rejected != nil && have.Rejected.Version == r.NewestVersion
}

func (w *world) checkRunning(a *modelApp, have device.Actual, known bool, r protocol.AppRequest, asked bool) {
	if !known {
		w.complain("%s is wanted, and there is no record", a.id)
		return
	}
	v, parts := have.Version, w.engine.all(a.stays)
	runs := w.up(a, v, parts)
	if a.proved && !(runs && lasting[v]) {
		w.complain("%s: a version that lasts ran before; now version %q is %s, runs %t", a.id, v, have.State, runs)
	}
	if r.RequestUpdate && lasting[r.NewestVersion] {
		given := !asked && rejected(have, r) // something ended it while it was watched
		if v != r.NewestVersion && !given {
			w.complain("%s: version %q, want %q", a.id, v, r.NewestVersion)
		}
	}
	if !lasting[v] {
		return // it comes and goes
	}
	if !runs {
		w.complain("%s: version %q is %s and does not run", a.id, v, have.State)
		return
	}
	retried := r.RequestUpdate && !fetched(r.NewestVersion) && (have.State == protocol.Updating || have.State == protocol.Failed)
	if have.State != protocol.Running && !retried {
		w.complain("%s: version %q runs, the record says %s", a.id, v, have.State)
	}
	if have.Swap != nil {
		w.complain("%s: an update has not ended: %+v", a.id, *have.Swap)
	}
	if left := w.engine.all(a.owned); len(left) > map[bool]int{false: 1, true: 3}[a.project] {
		w.complain("%s: %d containers are left", a.id, len(left))
	}
	stale := a.project && !r.RequestUpdate && r.PresentVersion != v // its definition is another version's
	if stale || r.RequestUpdate && r.NewestVersion != v {
		return // what is wanted of another version is not for this one
	}
	if !w.made(a, have, r, parts) {
		w.complain("%s: what runs is not as wanted: %v %v", a.id, parts[0].Env, parts[0].Ports)
	}
	w.checkTold(a, have, r)
}

// checkDev: what a developer asked for is done once, and no name is taken from
// the installed app for what was not published.
func (w *world) checkDev(a *modelApp, have device.Actual, known bool, wish device.Wanted, wanted, asked bool) {
	if have.Publication != nil {
		w.complain("%s: a publication has not ended: %+v", a.id, *have.Publication)
	}
	prod := *a
	prod.id.Stage = protocol.Prod
	for _, ref := range w.engine.references(w.repository(&prod) + ":pub") {
		if w.engine.differs(ref) {
			w.complain("%s is here, and the registry has not got it", ref)
		}
	}
	named := w.engine.all(a.named)
	runs := len(named) == 1 && named[0].Status == container.StatusRunning
	if known && runs != (have.State == protocol.Running) {
		w.complain("%s is %s, runs %t", a.id, have.State, runs)
	}
	if left := w.engine.all(a.owned); len(left) > 1 {
		w.complain("%s: %d containers are left", a.id, len(left))
	}
	if a.acknowledged == nil || !asked {
		return
	}
	image, built := w.engine.latest(w.repository(a) + ":" + devVersion)
	what := have.State
	if !known {
		what = "nothing"
	}
	does := modelVersions[a.source]
	expect := func(states ...protocol.State) {
		if !slices.Contains(states, what) {
			w.complain("%s: asked for %s of %q it is %s (%s), want one of %s", a.id, wish.Request.Target, a.source, what, have.Error, states)
		}
	}
	switch t := wish.Request.Target.Settled(); {
	case !wanted:
		w.checkGone(a, known, wanted)
		if _, err := os.Stat(w.archive(a)); err == nil && a.acknowledged.Target == protocol.Uninstalled {
			w.complain("%s is uninstalled; its archive is there", a.id)
		}
	case t == protocol.Running && !built:
		expect(protocol.Failed)
	case t == protocol.Running && image.refused == "" && image.ends == 0:
		expect(protocol.Running)
	case t == protocol.Running:
		expect(protocol.Failed)
	case (t == protocol.Built || t == protocol.Published) && (a.source == "" || does.missing):
		expect(protocol.Failed)
	case t == protocol.Built:
		expect(protocol.Present, protocol.Built)
	case t == protocol.Published:
		expect(protocol.Published)
	case t == protocol.Present && built && !a.stray:
		expect(protocol.Present)
	}
}

// behaviour is what an image does.
func (e *smallEngine) behaviour(id string) blueprint {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.does[id]
}

// latest is what a reference does, if it is there.
func (e *smallEngine) latest(ref string) (blueprint, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id, ok := e.images[ref]
	return e.does[id], ok
}

// differs tells whether a reference means something else here than in the
// registry.
func (e *smallEngine) differs(ref string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.images[ref] != e.pushed[ref]
}

// checkTold: the studio knows the host ports of what runs.
func (w *world) checkTold(a *modelApp, have device.Actual, r protocol.AppRequest) {
	w.studio.mu.Lock()
	told := w.studio.of(a.id).ports
	w.studio.mu.Unlock()
	for _, rule := range r.Ports {
		service := map[bool]string{true: "web"}[a.project]
		port := have.HostPorts[slotOf(service, rule.Wire(), rule.Port)]
		knows := func(t protocol.PortRule) bool {
			return t.Port == rule.Port && t.Wire() == rule.Wire() && t.HostPort == port
		}
		if !knows(rule) && !slices.ContainsFunc(told, knows) {
			w.complain("%s: the studio does not know host port %d of %d", a.id, port, rule.Port)
		}
	}
}
