package store_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"reagent/protocol"
	"reagent/studio/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, folder string) *store.Store {
	t.Helper()
	s, err := store.Open(folder, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func must[T any](t *testing.T) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func code(err error) protocol.Code {
	var e *protocol.Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}

// scene is a store with two devices, a user and an app with two versions that is
// wished for on the first device.
type scene struct {
	*store.Store
	admin, user store.Account
	one, two    store.Device
	app         store.App
	v1, v2      store.Release
}

var web = protocol.AppID{Key: 1, Stage: protocol.Prod}

func newScene(t *testing.T) scene {
	t.Helper()
	s := open(t, t.TempDir())
	c := scene{Store: s}
	c.admin = must[store.Account](t)(s.Account("admin"))
	c.user = must[store.Account](t)(s.AddAccount("Ann"))
	c.one = must[store.Device](t)(s.AddDevice("press", "sn-1", "arm64"))
	c.two = must[store.Device](t)(s.AddDevice("mill", "", ""))
	c.app = must[store.App](t)(s.CreateApp("web", c.user.Key))
	c.v1 = must[store.Release](t)(s.AddRelease(store.Release{App: c.app.Key, Version: "1.0", Architectures: []string{"amd64"}, Ports: []protocol.PortRule{{Port: 80}}, Template: map[string]any{"A": map[string]any{"defaultValue": "x"}}}))
	c.v2 = must[store.Release](t)(s.AddRelease(store.Release{App: c.app.Key, Version: "2.0", Architectures: []string{"amd64"}}))
	c.wish(t, protocol.Running, c.v1)
	return c
}

func (c scene) wish(t *testing.T, target protocol.State, r store.Release) store.OnDevice {
	t.Helper()
	return must[store.OnDevice](t)(c.Wish(c.one.Key, web, func(w *store.Wish, _ store.OnDevice) error {
		w.Target, w.Release, w.Requestor = target, r.Key, c.admin.Key
		return nil
	}))
}

func (c scene) report(t *testing.T, state protocol.State, release uint64) store.OnDevice {
	t.Helper()
	return must[store.OnDevice](t)(c.Report(c.one.Key, protocol.StateReport{AppKey: c.app.Key, Stage: protocol.Prod, State: state, ReleaseKey: release}))
}

func TestTheFirstStartMakesAnAdministrator(t *testing.T) {
	folder := t.TempDir()
	s := open(t, folder)
	admin := must[store.Account](t)(s.Account("1"))
	if !admin.Administrator() || len(admin.Secret) != 44 || admin.AuthID() != "1" {
		t.Errorf("account 1 = %+v", admin)
	}
	if p, owner, err := s.Project(1); err != nil || owner != admin.Name || p.Name == "" {
		t.Errorf("project 1 = %+v %q %v", p, owner, err)
	}
	if info, err := os.Stat(filepath.Join(folder, store.FileName)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode of the file: %v %v", info.Mode(), err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if again := must[store.Account](t)(open(t, folder).Account("1")); again != admin {
		t.Errorf("after a restart account 1 = %+v, want %+v", again, admin)
	}
}

func TestADamagedStoreIsNotBegunAnew(t *testing.T) {
	folder := t.TempDir()
	s := open(t, folder)
	must[store.Device](t)(s.AddDevice("d", "", ""))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(folder, store.FileName)
	raw := must[[]byte](t)(os.ReadFile(path))
	for i := 4096; i < len(raw); i++ {
		raw[i] ^= 0x55
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also the second time
		if s, err := store.Open(folder, zerolog.Nop()); err == nil {
			_ = s.Close()
			t.Fatal("a damaged store was opened")
		}
		if got := must[[]byte](t)(os.ReadFile(path)); !reflect.DeepEqual(got, raw) {
			t.Fatal("the damaged file was changed")
		}
	}
}

func TestNamesAreFoundAndTakenOnce(t *testing.T) {
	c := newScene(t)
	for _, ref := range []string{"press", "PRESS", "sn-1", "1"} {
		if d, err := c.Device(ref); err != nil || d.Key != c.one.Key {
			t.Errorf("device %q = %d %v", ref, d.Key, err)
		}
	}
	for name, err := range map[string]error{
		"device name": second(c.AddDevice("Press", "", "")), "serial": second(c.AddDevice("other", "sn-1", "")),
		"app": second(c.CreateApp("WEB", 1)), "user": second(c.AddAccount("ann")),
	} {
		if code(err) != protocol.CodeConflict {
			t.Errorf("%s taken twice: %v", name, err)
		}
	}
	for name, err := range map[string]error{
		"digits": second(c.AddDevice("42", "", "")), "empty": second(c.AddAccount("")), "control": second(c.AddAccount("a\x1b[2J")),
		"serial with dot": second(c.AddDevice("x", "a.b", "")), "app ..": second(c.CreateApp("..", 1)), "app digits": second(c.CreateApp("7", 1)),
		"version": second(c.AddRelease(store.Release{App: c.app.Key, Version: "../x", Architectures: []string{"amd64"}})), "no arch": second(c.AddRelease(store.Release{App: c.app.Key, Version: "3"})),
		"odd arch": second(c.AddRelease(store.Release{App: c.app.Key, Version: "3", Architectures: []string{"../.."}})), "privilege": second(c.Grant("Ann", "press", "ROOT")),
	} {
		if code(err) != protocol.CodeInvalid {
			t.Errorf("%s: %v, want %s", name, err, protocol.CodeInvalid)
		}
	}
	for name, err := range map[string]error{
		"device": second(c.Device("nobody")), "key": second(c.Device("99")), "zero": second(c.Device("0")), "user": second(c.Account("bob")), "app": second(c.App("x")),
		"release": second(c.Release(c.app.Key, "9")), "unknown app": second(c.AddRelease(store.Release{App: 99, Version: "1", Architectures: []string{"amd64"}})),
	} {
		if code(err) != protocol.CodeNotFound {
			t.Errorf("%s: %v, want %s", name, err, protocol.CodeNotFound)
		}
	}
	// A failed attempt leaves no half.
	if d, err := c.AddDevice("other", "sn-9", ""); err != nil || d.SerialNumber != "sn-9" {
		t.Errorf("after a refused attempt: %v", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestTheSameVersionAgainAddsAnArchitecture(t *testing.T) {
	c := newScene(t)
	r := must[store.Release](t)(c.AddRelease(store.Release{App: c.app.Key, Version: "1.0", Architectures: []string{"armv7", "amd64"}}))
	if r.Key != c.v1.Key || !reflect.DeepEqual(r.Architectures, []string{"amd64", "armv7"}) || len(r.Ports) != 1 || len(r.Template) != 1 {
		t.Errorf("release = %+v", r)
	}
	if newest := must[store.Release](t)(c.Release(c.app.Key, "")); newest.Version != "2.0" {
		t.Errorf("newest = %q", newest.Version)
	}
}

func TestPrivileges(t *testing.T) {
	c := newScene(t)
	if c.May(c.user.Key, c.one.Key) || !c.May(c.admin.Key, c.one.Key, protocol.Network) || c.May(c.admin.Key, 99) || c.May(0, c.one.Key) {
		t.Error("before any grant")
	}
	must[store.Account](t)(c.Grant("Ann", "press", protocol.Read))
	a := must[store.Account](t)(c.Grant("2", "sn-1", protocol.Develop))
	if !c.May(c.user.Key, c.one.Key, protocol.Read) || c.May(c.user.Key, c.one.Key, protocol.Maintain) || c.May(c.user.Key, c.two.Key) {
		t.Error("after two grants")
	}
	if !c.MaySerial(c.user.Key, "sn-1", protocol.Maintain, protocol.Develop) || c.MaySerial(c.user.Key, "") || !c.MaySerial(c.admin.Key, "") || c.MaySerial(c.admin.Key, "nobody") {
		t.Error("by serial number")
	}
	b := must[store.Account](t)(c.Revoke("Ann", "press", protocol.Read))
	if c.May(c.user.Key, c.one.Key, protocol.Read) || b.Revision == a.Revision {
		t.Errorf("after taking READ away: revision %d, then %d", a.Revision, b.Revision)
	}
	readers := must[[]store.Account](t)(c.Readers(c.one.Key))
	if len(readers) != 1 || readers[0].Key != c.admin.Key {
		t.Errorf("readers = %+v", readers)
	}
	must[store.Device](t)(c.RemoveDevice("press"))
	if g := must[[]store.Grant](t)(c.Grants(c.user.Key)); len(g) != 0 {
		t.Errorf("rights on a removed device: %v", g)
	}
	if _, err := c.RemoveAccount("admin"); code(err) != protocol.CodeConflict {
		t.Errorf("remove the administrator: %v", err)
	}
	must[store.Account](t)(c.RemoveAccount("Ann"))
	if must[store.Account](t)(c.AddAccount("Ann")).Key == c.user.Key {
		t.Error("a key was used twice")
	}
}

func TestPrincipals(t *testing.T) {
	c := newScene(t)
	realm := protocol.AppRealm(1, c.app.Key, protocol.Prod)
	app := protocol.AppAuthID(protocol.Prod, c.app.Key, 1, "sn-1")
	type row struct{ realm, authid string }
	want := map[row]string{
		{"realm1", c.one.AuthID()}: protocol.RoleDevice,
		{"realm1", "2"}:            protocol.RoleUser,
		{"realm1", "02"}:           "",
		{"realm1", "1-01"}:         "",
		{"realm1", "2-1"}:          "",
		{"realm1", "1-99"}:         "",
		{"realm1", "system"}:       "",
		{"realm1", app}:            "",
		{"realm1", ""}:             "",
		{realm, app}:               protocol.RoleApp,
		{realm, "1"}:               protocol.RoleUser,
		{realm, "2"}:               "",
		{realm, c.one.AuthID()}:    "",
		{realm, protocol.AppAuthID(protocol.Prod, c.app.Key, 2, "sn-1")}:             "",
		{realm, protocol.AppAuthID(protocol.Prod, c.app.Key, 1, c.two.SerialNumber)}: "",
		{realm, "app-01-prod-e1@sn-1"}:                                               "",
		{realm, protocol.AppAuthID(protocol.Dev, c.app.Key, 1, "sn-1")}:              "",
		{protocol.AppRealm(1, c.app.Key, protocol.Dev), app}:                         "",
		{protocol.AppRealm(2, c.app.Key, protocol.Prod), app}:                        "",
		{protocol.AppRealm(1, 99, protocol.Prod), "1"}:                               "",
		{"some.realm", "1"}: "",
	}
	check := func(when string) {
		t.Helper()
		for r, role := range want {
			p, ok := c.Principal(r.realm, r.authid)
			if ok != (role != "") || ok && p.Role != role {
				t.Errorf("%s, %s in %s: %q %v, want %q", when, r.authid, r.realm, p.Role, ok, role)
			}
		}
	}
	check("at first")
	if p, _ := c.Principal(realm, app); p.Secret != protocol.AppSecret(c.one.CredentialKey, protocol.Prod, c.app.Key, 1, "sn-1") || p.Serial != "sn-1" {
		t.Errorf("app = %+v", p)
	}
	must[store.Account](t)(c.Grant("Ann", "press", protocol.Read))
	want[row{realm, "2"}] = protocol.RoleUser
	check("with READ on a device that has it")
	c.report(t, protocol.Running, c.v1.Key)
	c.wish(t, protocol.Uninstalled, c.v1)
	c.report(t, protocol.Uninstalled, 0)
	want[row{realm, "2"}], want[row{realm, app}], want[row{realm, "1"}] = "", "", ""
	check("after it was uninstalled")

	if authid, ok := c.DeviceWithSecret(c.one.Secret); !ok || authid != c.one.AuthID() {
		t.Errorf("by secret: %q %v", authid, ok)
	}
	if _, ok := c.DeviceWithSecret(c.user.Secret); ok {
		t.Error("a user's secret found a device")
	}
	if secret, ok := c.Secret("2"); !ok || secret != c.user.Secret {
		t.Error("secret of an account")
	}
}

func TestWhoMayPullAndPush(t *testing.T) {
	c := newScene(t)
	for authid, want := range map[string][2]bool{
		c.one.AuthID(): {true, false}, c.two.AuthID(): {false, false}, "1": {true, true}, "2": {true, true}, "99": {false, false}, "": {false, false},
	} {
		if got := [2]bool{c.MayPull(authid, c.app.Key), c.MayPush(authid, c.app.Key)}; got != want {
			t.Errorf("%q may pull, push = %v, want %v", authid, got, want)
		}
	}
	must[store.Account](t)(c.AddAccount("Bob"))
	if c.MayPush("3", c.app.Key) || c.MayPull("3", c.app.Key) || c.MayPush("1", 99) {
		t.Error("another user, or an app that is not there")
	}
}

// The reports of a good update, of one that is rolled back, and of an
// uninstallation, as the contract orders them.
func TestReportsMakeTheReleaseThePresentOne(t *testing.T) {
	c := newScene(t)
	for _, s := range []struct {
		state   protocol.State
		release uint64
		present string
	}{
		{protocol.Downloading, c.v1.Key, "1.0"}, {protocol.Running, c.v1.Key, "1.0"},
		{protocol.Updating, c.v1.Key, "1.0"}, {protocol.Present, c.v2.Key, "2.0"}, {protocol.Running, c.v2.Key, "2.0"},
		{protocol.Failed, c.v2.Key, "2.0"}, {protocol.Running, c.v1.Key, "1.0"},
		{protocol.Running, 99, "1.0"}, {protocol.Running, 0, "1.0"},
		{protocol.Deleting, c.v1.Key, "1.0"}, {protocol.Removed, c.v1.Key, ""},
	} {
		o := c.report(t, s.state, s.release)
		if o.State.State != s.state || o.Present.Version != s.present {
			t.Errorf("after %s %d: %s %q, want version %q", s.state, s.release, o.State.State, o.Present.Version, s.present)
		}
	}
	past := must[[]store.PastState](t)(c.History(c.one.Key, web, 3))
	if len(past) != 3 || past[2].State != protocol.Removed || past[0].State != protocol.Running {
		t.Errorf("history = %+v", past)
	}
}

func TestAWishForAGoneAppIsForgottenWhenItIsGone(t *testing.T) {
	c := newScene(t)
	c.report(t, protocol.Running, c.v1.Key)
	c.wish(t, protocol.Uninstalled, c.v1)
	c.report(t, protocol.Removed, c.v1.Key)
	if all := must[[]store.OnDevice](t)(c.AppsOn(c.one.Key)); len(all) != 1 || !all[0].Wished {
		t.Fatalf("on the way: %+v", all)
	}
	if o := c.report(t, protocol.Uninstalled, c.v1.Key); !o.Wished || o.State.State != protocol.Uninstalled {
		t.Errorf("the last report tells %+v", o)
	}
	if all := must[[]store.OnDevice](t)(c.AppsOn(c.one.Key)); len(all) != 0 {
		t.Errorf("afterwards: %+v", all)
	}
}

func TestReportsOfUnknownAppsAreTakenAndNotKept(t *testing.T) {
	c := newScene(t)
	o, err := c.Report(c.one.Key, protocol.StateReport{AppKey: 77, Stage: protocol.Prod, State: protocol.Running})
	if err != nil || o.App.Key != 0 {
		t.Errorf("report = %+v %v", o, err)
	}
	if all := must[[]store.OnDevice](t)(c.AppsOn(c.one.Key)); len(all) != 1 {
		t.Errorf("apps = %+v", all)
	}
}

func TestHistoryIsBounded(t *testing.T) {
	c := newScene(t)
	for i := range 130 {
		c.report(t, []protocol.State{protocol.Running, protocol.Failed}[i%2], c.v1.Key)
	}
	c.report(t, protocol.Failed, c.v1.Key) // the same again is none
	if n := len(must[[]store.PastState](t)(c.History(c.one.Key, web, 1000))); n != 100 {
		t.Errorf("history has %d entries, want 100", n)
	}
}

func TestPresence(t *testing.T) {
	folder := t.TempDir()
	s := open(t, folder)
	d := must[store.Device](t)(s.AddDevice("d", "", ""))
	s.Refused(d.Key, "wrong secret")
	s.Refused(d.Key, "wrong secret")
	if got := must[store.Device](t)(s.Device("d")).Refused; got.Count != 2 || got.Reason != "wrong secret" || got.Last.IsZero() {
		t.Errorf("refused = %+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, folder)
	if got := must[store.Device](t)(s.Device("d")).Refused.Count; got != 2 {
		t.Errorf("refused after a restart = %d", got)
	}
	s.Refused(d.Key, "wrong secret")
	if got := must[store.Device](t)(s.Device("d")).Refused.Count; got != 3 {
		t.Errorf("refused = %d, want 3", got)
	}
	if s.Online(d.Key) || !s.Joined(d.Key, 11) || s.Joined(d.Key, 11) || s.Joined(d.Key, 12) || !s.Online(d.Key) {
		t.Error("two sessions")
	}
	if got := must[store.Device](t)(s.Device("d")); got.Refused.Count != 0 || got.Status != protocol.Configuring {
		t.Errorf("after a good login: %+v", got)
	}
	if !s.Say(d.Key, protocol.Connected) || s.Say(d.Key, protocol.Connected) {
		t.Error("a status is news once")
	}
	for i, session := range []uint64{11, 11, 99, 12} {
		if device, last := s.Left(session); last != (i == 3) || last && device != d.Key {
			t.Errorf("Left(%d) = %d %v", session, device, last)
		}
	}
	if s.Online(d.Key) || len(s.Sessions()) != 0 {
		t.Error("still online")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	got := must[store.Device](t)(open(t, folder).Device("d"))
	if got.Status != protocol.Disconnected || got.LastSeen.IsZero() {
		t.Errorf("after a restart: %+v", got)
	}
}

func TestASessionThatIsOverDoesNotJoin(t *testing.T) {
	s := open(t, t.TempDir())
	d := must[store.Device](t)(s.AddDevice("d", "", ""))
	s.Left(5) // told before it was told to have come
	if s.Joined(d.Key, 5) || s.Online(d.Key) {
		t.Error("a session that was over joined")
	}
	for session := range uint64(10_000) { // bounded
		s.Left(session + 100)
	}
	if !s.Joined(d.Key, 5) || s.Joined(d.Key, 10_000) {
		t.Error("the last sessions are remembered, and not more")
	}
}
