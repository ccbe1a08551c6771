package store_test

import (
	"reflect"
	"strings"
	"testing"

	"reagent/protocol"
	"reagent/studio/store"
)

var devWeb = protocol.AppID{Key: 1, Stage: protocol.Dev}

func (c scene) tell(t *testing.T, r protocol.StateReport) store.OnDevice {
	t.Helper()
	r.AppKey = c.app.Key
	if r.Stage == "" {
		r.Stage = protocol.Prod
	}
	return must[store.OnDevice](t)(c.Report(c.one.Key, r))
}

// The orders of reports of design S16, what may be missing of them, and what
// other agents leave out.
func TestReportsTellWhatAnUpdateDid(t *testing.T) {
	type r = protocol.StateReport
	const (
		pending  = protocol.UpdatePending
		done     = protocol.UpdateCompleted
		canceled = protocol.UpdateCanceled
	)
	c := newScene(t)
	old, next := c.v1.Key, c.v2.Key
	for _, s := range []struct {
		claim   string
		reports []r
		want    protocol.UpdateOutcome // "" = no update
		from    string
		to      string
		reason  string
	}{
		{"no update", []r{{State: protocol.Starting, ReleaseKey: old}, {State: protocol.Running, ReleaseKey: old}}, "", "", "", ""},
		{"under way", []r{{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Updating, ReleaseKey: old}}, protocol.UpdateRuns, "1.0", "2.0", ""},
		{"good", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Present, ReleaseKey: next, UpdateStatus: pending},
			{State: protocol.Starting, ReleaseKey: next, UpdateStatus: done}, {State: protocol.Running, ReleaseKey: next, UpdateStatus: done},
		}, protocol.UpdateDone, "1.0", "2.0", ""},
		{"watched", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Present, ReleaseKey: next, UpdateStatus: pending, Probation: true},
			{State: protocol.Starting, ReleaseKey: next, UpdateStatus: done, Probation: true}, {State: protocol.Running, ReleaseKey: next, UpdateStatus: done, Probation: true},
		}, protocol.UpdateRuns, "1.0", "2.0", ""},
		{"watched, and it stayed up", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Present, ReleaseKey: next, UpdateStatus: pending, Probation: true},
			{State: protocol.Running, ReleaseKey: next, UpdateStatus: done, Probation: true}, {State: protocol.Running, ReleaseKey: next, UpdateStatus: done},
		}, protocol.UpdateDone, "1.0", "2.0", ""},
		{"watched, and it did not", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Present, ReleaseKey: next, UpdateStatus: pending, Probation: true},
			{State: protocol.Running, ReleaseKey: next, UpdateStatus: done, Probation: true}, {State: protocol.Failed, ReleaseKey: next, UpdateStatus: done, Error: "it exited"},
			{State: protocol.Running, ReleaseKey: old, UpdateStatus: canceled},
		}, protocol.UpdateRolledBack, "1.0", "2.0", "it exited"},
		{"called off while it was watched", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Present, ReleaseKey: next, UpdateStatus: pending, Probation: true}, {State: protocol.Running, ReleaseKey: old, UpdateStatus: canceled},
		}, protocol.UpdateStopped, "1.0", "2.0", ""},
		{"good, while offline", []r{{State: protocol.Present, ReleaseKey: next, UpdateStatus: pending}, {State: protocol.Running, ReleaseKey: next, UpdateStatus: done}}, protocol.UpdateDone, "1.0", "2.0", ""},
		{"a later failure is none of the update's", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Present, ReleaseKey: next, UpdateStatus: pending},
			{State: protocol.Running, ReleaseKey: next, UpdateStatus: done}, {State: protocol.Failed, ReleaseKey: next, UpdateStatus: done, Error: "oops"},
			{State: protocol.Running, ReleaseKey: next, UpdateStatus: done},
		}, protocol.UpdateDone, "1.0", "2.0", ""},
		{"rolled back", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Present, ReleaseKey: next, UpdateStatus: pending},
			{State: protocol.Running, ReleaseKey: next, UpdateStatus: done}, {State: protocol.Failed, ReleaseKey: next, UpdateStatus: done, Error: "it exited"},
			{State: protocol.Running, ReleaseKey: old, UpdateStatus: canceled}, {State: protocol.Running, ReleaseKey: old, UpdateStatus: canceled},
		}, protocol.UpdateRolledBack, "1.0", "2.0", "it exited"},
		{"rolled back by an agent that reports it shortly", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Failed, ReleaseKey: old, Error: "it exited"}, {State: protocol.Running, ReleaseKey: old, UpdateStatus: canceled},
		}, protocol.UpdateRolledBack, "1.0", "2.0", "it exited"},
		{"not pulled", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Failed, ReleaseKey: old, Error: "no such image"}, {State: protocol.Running, ReleaseKey: old},
		}, protocol.UpdateFailed, "1.0", "2.0", "no such image"},
		{"not pulled, after one that was canceled", []r{
			{State: protocol.Running, ReleaseKey: old, UpdateStatus: canceled},
			{State: protocol.Updating, ReleaseKey: old, UpdateStatus: canceled}, {State: protocol.Failed, ReleaseKey: old, UpdateStatus: canceled, Error: "no such image"},
			{State: protocol.Running, ReleaseKey: old, UpdateStatus: canceled},
		}, protocol.UpdateFailed, "1.0", "2.0", "no such image"},
		{"tried again", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Failed, ReleaseKey: old, Error: "no such image"}, {State: protocol.Updating, ReleaseKey: old},
		}, protocol.UpdateRuns, "1.0", "2.0", ""},
		{"canceled", []r{{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Running, ReleaseKey: old, UpdateStatus: canceled}}, protocol.UpdateStopped, "1.0", "2.0", ""},
		{"canceled twice", []r{
			{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Running, ReleaseKey: old, UpdateStatus: canceled},
			{State: protocol.Updating, ReleaseKey: old, UpdateStatus: canceled}, {State: protocol.Present, ReleaseKey: old, UpdateStatus: canceled},
		}, protocol.UpdateStopped, "1.0", "2.0", ""},
		{"removed", []r{{State: protocol.Updating, ReleaseKey: old}, {State: protocol.Deleting, ReleaseKey: old}, {State: protocol.Removed}}, "", "", "", ""},
	} {
		c := newScene(t)
		c.report(t, protocol.Running, c.v1.Key)
		c.wish(t, protocol.Running, c.v2)
		var o store.OnDevice
		for _, report := range s.reports {
			o = c.tell(t, report)
		}
		u := o.State.Update
		switch {
		case u == nil && s.want == "":
		case u == nil:
			t.Errorf("%s: no update, want %s", s.claim, s.want)
		case u.Outcome != s.want || o.From.Version != s.from || o.To.Version != s.to || u.Reason != s.reason || u.At.IsZero():
			t.Errorf("%s: %s → %s %s %q, want %s → %s %s %q", s.claim, o.From.Version, o.To.Version, u.Outcome, u.Reason, s.from, s.to, s.want, s.reason)
		}
	}
}

func TestWhatIsDoneOnceIsNotWishedForEver(t *testing.T) {
	c := newScene(t)
	wish := func(target protocol.State, p *store.Publication) {
		must[store.OnDevice](t)(c.Wish(c.one.Key, devWeb, func(w *store.Wish, _ store.OnDevice) error {
			w.Target, w.Publication, w.Requestor = target, p, c.user.Key
			return nil
		}))
	}
	wish(protocol.Built, nil)
	if o := c.tell(t, protocol.StateReport{Stage: protocol.Dev, State: protocol.Building}); o.Wish.Target != protocol.Built {
		t.Errorf("while it builds the wish is %s", o.Wish.Target)
	}
	if o := c.tell(t, protocol.StateReport{Stage: protocol.Dev, State: protocol.Built}); o.Wish.Target != protocol.Present || !o.Wished {
		t.Errorf("once built the wish is %s", o.Wish.Target)
	}
	wish(protocol.Published, &store.Publication{Version: "3.0"})
	if arch, version, ok := c.MayPublish(c.one.AuthID(), c.app.Key); !ok || version != "3.0" || arch != "arm64" {
		t.Errorf("may publish %s for %s: %v", version, arch, ok)
	}
	for authid, app := range map[string]uint64{c.two.AuthID(): c.app.Key, c.one.AuthID(): 99, "2": c.app.Key} {
		if _, _, ok := c.MayPublish(authid, app); ok {
			t.Errorf("%s may publish the app %d", authid, app)
		}
	}
	c.tell(t, protocol.StateReport{Stage: protocol.Dev, State: protocol.Built})
	if o := c.tell(t, protocol.StateReport{Stage: protocol.Dev, State: protocol.Published, Error: "not entered"}); o.Wish.Publication == nil || o.Wish.Target != protocol.Published {
		t.Errorf("a version that was not entered is published: %+v", o.Wish)
	}
	if o := c.tell(t, protocol.StateReport{Stage: protocol.Dev, State: protocol.Published}); o.Wish.Target != protocol.Present || o.Wish.Publication != nil {
		t.Errorf("once published the wish is %+v", o.Wish)
	}
	if _, _, ok := c.MayPublish(c.one.AuthID(), c.app.Key); ok {
		t.Error("the device may still publish")
	}
	wish(protocol.Published, &store.Publication{Version: "3.0"})
	must[store.Account](t)(c.RemoveAccount("Ann"))
	if _, _, ok := c.MayPublish(c.one.AuthID(), c.app.Key); ok {
		t.Error("the device may publish for somebody who may not")
	}
	if o := must[store.OnDevice](t)(c.AppOn(c.one.Key, web)); o.Wish.Target != protocol.Running {
		t.Errorf("the installed copy is wished %s", o.Wish.Target)
	}
}

func TestALongFailureKeepsItsEnd(t *testing.T) {
	c := newScene(t)
	o := c.tell(t, protocol.StateReport{State: protocol.Failed, Error: strings.Repeat("ä", 4000) + "the end"})
	if n := len(o.State.Error); n > 5000 || !strings.HasSuffix(o.State.Error, "the end") || !strings.HasPrefix(o.State.Error, "…ä") {
		t.Errorf("%d bytes are kept: %.20q…", n, o.State.Error)
	}
}

func TestReleasesInheritFromTheirApp(t *testing.T) {
	c := newScene(t)
	template := map[string]any{"A": map[string]any{"defaultValue": "app"}}
	must[store.App](t)(c.ChangeApp(c.app.Key, func(a *store.App) error {
		a.Ports, a.Template, a.Name = []protocol.PortRule{{Port: 81}}, template, "another"
		return nil
	}))
	if a := must[store.App](t)(c.App("web")); a.Name != "web" || len(a.Ports) != 1 {
		t.Errorf("app = %+v", a)
	}
	r := must[store.Release](t)(c.AddRelease(store.Release{App: c.app.Key, Version: "3.0", Architectures: []string{"amd64"}}))
	if len(r.Ports) != 1 || r.Ports[0].Port != 81 || !reflect.DeepEqual(r.Template, template) {
		t.Errorf("a new release that says nothing has %+v", r)
	}
	r = must[store.Release](t)(c.AddRelease(store.Release{App: c.app.Key, Version: "1.0", Architectures: []string{"arm64"}}))
	if len(r.Ports) != 1 || r.Ports[0].Port != 80 {
		t.Errorf("an old one that says nothing has %+v", r)
	}
	r = must[store.Release](t)(c.AddRelease(store.Release{App: c.app.Key, Version: "4.0", Architectures: []string{"amd64"}, Ports: []protocol.PortRule{}, Template: map[string]any{}}))
	if len(r.Ports) != 0 || len(r.Template) != 0 {
		t.Errorf("a release that says none has %+v", r)
	}
	refusal := store.Release{App: c.app.Key, Version: "4.0", Architectures: []string{"amd64"}, Compose: definition}
	if _, err := c.AddRelease(refusal); code(err) != protocol.CodeConflict {
		t.Errorf("a version of another kind: %v", err)
	}
}

var definition = map[string]any{"services": map[string]any{"Web": map[string]any{}, "db": map[string]any{"image": "postgres"}, "job": map[string]any{}}}

func TestImagesAreThoseOfReleases(t *testing.T) {
	c := newScene(t)
	must[store.Release](t)(c.AddRelease(store.Release{App: c.app.Key, Version: "1.0", Architectures: []string{"armv7"}}))
	must[store.Release](t)(c.AddRelease(store.Release{App: c.app.Key, Version: "5.0", Architectures: []string{"amd64"}, Compose: definition}))
	got := must[map[string][]string](t)(c.Images())
	want := map[string][]string{
		"apps/prod_amd64_1_web": {"1.0", "2.0"}, "apps/prod_armv7_1_web": {"1.0"},
		"apps/prod_amd64_1_web_web": {"5.0"}, "apps/prod_amd64_1_web_job": {"5.0"},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("images = %v, want %v", got, want)
	}
}

func TestOnlyWhatNoDeviceHasIsDeleted(t *testing.T) {
	c := newScene(t) // 1.0 is wished for on press
	if _, err := c.DeleteRelease(c.app.Key, "1.0"); code(err) != protocol.CodeConflict {
		t.Errorf("a version that is wished for: %v", err)
	}
	c.report(t, protocol.Running, c.v1.Key)
	c.wish(t, protocol.Running, c.v2)
	for _, version := range []string{"1.0", "2.0"} { // present, and to come
		if _, err := c.DeleteRelease(c.app.Key, version); code(err) != protocol.CodeConflict {
			t.Errorf("version %s: %v", version, err)
		}
	}
	for version, want := range map[string]protocol.Code{"": protocol.CodeInvalid, "9": protocol.CodeNotFound} {
		if _, err := c.DeleteRelease(c.app.Key, version); code(err) != want {
			t.Errorf("version %q: %v", version, err)
		}
	}
	if _, err := c.DeleteApp(c.app.Key); code(err) != protocol.CodeConflict {
		t.Errorf("an app that is wished for: %v", err)
	}
	c.report(t, protocol.Running, c.v2.Key)
	must[store.Release](t)(c.DeleteRelease(c.app.Key, "1.0"))
	if all := must[[]store.Release](t)(c.Releases(c.app.Key)); len(all) != 1 || all[0].Version != "2.0" {
		t.Errorf("releases = %+v", all)
	}
	c.wish(t, protocol.Uninstalled, c.v2)
	c.report(t, protocol.Uninstalled, 0)
	must[store.App](t)(c.DeleteApp(c.app.Key))
	if _, err := c.App("web"); code(err) != protocol.CodeNotFound {
		t.Errorf("the app is still there: %v", err)
	}
	if past := must[[]store.PastState](t)(c.History(c.one.Key, web, 9)); len(past) != 0 {
		t.Errorf("its history is still there: %v", past)
	}
	if a := must[store.App](t)(c.CreateApp("web", c.user.Key)); a.Key == c.app.Key {
		t.Error("a key was used twice")
	}
}
