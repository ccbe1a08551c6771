package backend_test

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/studio"
)

// A bench is a studio with the app "web" and one device, "press", that said what
// it is and takes wishes.
type bench struct {
	s     *testenv.StudioRig
	admin *testenv.SessionRig
	*device
	t *testing.T
}

func newBench(t *testing.T, change ...func(*studio.Config)) *bench {
	t.Helper()
	s := testenv.Studio(t, change...)
	b := &bench{s: s, admin: admin(t, s), device: newDevice(t, s, "press"), t: t}
	b.admin.Ask(protocol.StudioCreateApp, protocol.CreateApp{Name: "web"}, nil)
	b.describe("amd64")
	b.register()
	eventually(t, "the device takes wishes", func() bool { return b.develop(protocol.DevelopApp{Target: protocol.Built}).Delivered })
	b.wish(t)
	return b
}

// describe says of which architecture the device is.
func (b *bench) describe(arch string) {
	b.t.Helper()
	in := map[string]any{"device_key": b.file.DeviceKey, "swarm_key": 1, "architecture": arch, "os": "linux", "agent_version": "1.0.0"}
	if _, err := b.Call(b.t.Context(), protocol.UpdateDeviceArchitecture, []any{in}, nil); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) develop(in protocol.DevelopApp) (w protocol.Wished) {
	b.t.Helper()
	in.App, in.Device = "web", "press"
	b.admin.Ask(protocol.StudioDevelopApp, in, &w)
	return w
}

func (b *bench) publish(in protocol.PublishApp) (w protocol.Wished) {
	b.t.Helper()
	in.App, in.Device = "web", "press"
	b.admin.Ask(protocol.StudioPublishApp, in, &w)
	return w
}

// says reports a state of the DEV copy.
func (b *bench) says(state protocol.State) {
	b.t.Helper()
	b.report(b.t, state, 0, "stage", "DEV", "release_build", state == protocol.Published)
}

func (b *bench) app() protocol.AppRow {
	b.t.Helper()
	var list protocol.AppList
	b.admin.Ask(protocol.StudioListApps, nil, &list)
	return list.Apps[0]
}

// copyOf is the state of the DEV copy.
func (b *bench) copyOf() protocol.AppOnDeviceRow {
	b.t.Helper()
	var list protocol.StateList
	b.admin.Ask(protocol.StudioListStates, protocol.ListStates{Device: "press"}, &list)
	for _, r := range list.States {
		if r.Stage == protocol.Dev {
			return r
		}
	}
	b.t.Fatalf("no DEV copy in %+v", list.States)
	return protocol.AppOnDeviceRow{}
}

// login is with what the device pushes.
func (b *bench) login() protocol.RegistryLogin {
	b.t.Helper()
	answer, err := b.Call(b.t.Context(), protocol.GetRegistryToken, []any{map[string]any{"callerID": 1}}, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	token, _ := protocol.Text(protocol.Arg(answer.Args, 0))
	return protocol.RegistryLogin{Registry: b.file.DockerRegistryURL, Repository: b.file.DockerMainRepository, Username: token, Password: b.file.Secret}
}

func TestTheLifeOfADEVCopy(t *testing.T) {
	b := newBench(t)
	b.admin.Ask(protocol.StudioSetAppEnvironment, protocol.SetAppEnvironment{App: "web", Set: map[string]any{"A": "app", "B": 1}}, nil)
	b.admin.Ask(protocol.StudioSetAppPorts, protocol.SetAppPorts{App: "web", Ports: []protocol.PortRule{{Port: 8080}}}, nil)
	w := b.develop(protocol.DevelopApp{
		Target: protocol.Built, Environment: map[string]any{"B": "here"},
		Credentials: map[string]protocol.RegistryCredential{"private.example": {Username: "me", Password: "hunter2"}},
	})
	if !w.Delivered || w.App.Stage != protocol.Dev || w.App.ContainerName != "dev_1_web" || w.App.Target != protocol.Built || w.App.Kind != protocol.KindSingle {
		t.Errorf("answer = %+v", w)
	}
	wish := b.wish(t)
	for key, want := range map[string]any{
		"app_key": 1, "app_name": "web", "stage": "DEV", "current_state": "REMOVED", "target_state": "BUILT", "requestor_account_key": 1,
		"release_key": 0, "new_release_key": 0, "present_version": "", "newest_version": "", "request_update": false, "docker_compose": nil, "new_docker_compose": nil,
	} {
		if got, there := wish[key]; !there || !same(got, want) {
			t.Errorf("%s = %#v, want %#v", key, got, want)
		}
	}
	r, err := protocol.ParseAppRequest(wish)
	if err != nil {
		t.Fatalf("the device cannot read %v: %v", wish, err)
	}
	if got := r.DockerCredentials["private.example"]; got.Username != "me" || got.Password != "hunter2" {
		t.Errorf("credentials = %+v", got)
	}
	for name, want := range map[string]any{"A": "app", "B": "here"} {
		if d, _ := protocol.AsDict(r.EnvironmentTemplate[name]); d["defaultValue"] != want {
			t.Errorf("default of %s = %v, want %v: a DEV copy reads nothing else", name, d["defaultValue"], want)
		}
	}
	if len(r.Ports) != 1 || r.Ports[0].Port != 8080 {
		t.Errorf("ports = %+v", r.Ports)
	}
	for _, state := range []protocol.State{protocol.Building, protocol.Built, protocol.Present} {
		b.says(state)
	}
	if got := b.copyOf(); got.State != protocol.Present || got.Target != protocol.Present {
		t.Errorf("built: %+v", got)
	}
	if wish, _ = protocol.AsDict(b.list(t)[0]); wish["target_state"] != "PRESENT" || wish["docker_credentials"] != nil {
		t.Errorf("in the list: %v", wish)
	}

	b.develop(protocol.DevelopApp{Target: protocol.Running})
	if wish = b.wish(t); wish["target_state"] != "RUNNING" || wish["docker_credentials"] != nil {
		t.Errorf("run: %v", wish)
	}
	b.says(protocol.Running)
	b.develop(protocol.DevelopApp{Cancel: true})
	if wish = b.wish(t); wish["cancel_transition"] != true || wish["target_state"] != "REMOVED" {
		t.Errorf("cancel: %v", wish)
	}
	b.develop(protocol.DevelopApp{Target: protocol.Uninstalled})
	b.wish(t)
	b.says(protocol.Removed)
	b.says(protocol.Uninstalled)
	if got := b.list(t); len(got) != 0 {
		t.Errorf("at the end the list is %v", got)
	}

	b.s.Stop()
	raw, err := os.ReadFile(filepath.Join(b.s.Data(), "studio.bolt"))
	if err != nil || bytes.Contains(raw, []byte("hunter2")) {
		t.Errorf("a registry's password is on the disk (%v)", err)
	}
}

func TestWhatADevicePublishedIsAVersion(t *testing.T) {
	b := newBench(t)
	b.admin.Ask(protocol.StudioSetAppEnvironment, protocol.SetAppEnvironment{App: "web", Set: map[string]any{"A": "x"}}, nil)
	w := b.publish(protocol.PublishApp{Version: "1.0"})
	if w.App.Target != protocol.Published || w.App.Publishing != "1.0" {
		t.Errorf("answer = %+v", w)
	}
	wish := b.wish(t)
	if wish["target_state"] != "PUBLISHED" || wish["version"] != "1.0" || wish["stage"] != "DEV" {
		t.Errorf("wish = %v", wish)
	}
	row, _ := protocol.AsDict(b.list(t)[0])
	if r, err := protocol.ParseRequestedApp(row); err != nil || r.Version != "1.0" {
		t.Errorf("in the list the version is %q, %v", r.Version, err)
	}

	// It says so before it is true.
	b.says(protocol.Building)
	b.says(protocol.Published)
	if got := b.copyOf(); !strings.Contains(got.Error, "1.0 was not entered") || got.Publishing != "1.0" || len(b.app().Releases) != 0 {
		t.Errorf("published without an image: %+v, %+v", got, b.app())
	}
	if err := testenv.PushRandom(b.login(), "prod_amd64_1_web:2.0"); err == nil {
		t.Error("the device pushed another version")
	}
	if err := testenv.PushRandom(b.login(), "prod_amd64_1_web:1.0"); err != nil {
		t.Fatalf("the device pushes: %v", err)
	}
	b.says(protocol.Published)
	got := b.app()
	if len(got.Releases) != 1 || got.Releases[0].Version != "1.0" || !reflect.DeepEqual(got.Releases[0].Architectures, []string{"amd64"}) || got.Releases[0].Kind != protocol.KindSingle || len(got.Releases[0].EnvironmentTemplate) != 1 {
		t.Errorf("the app is %+v", got)
	}
	if c := b.copyOf(); c.Publishing != "" || c.Target != protocol.Present || c.Error != "" {
		t.Errorf("afterwards: %+v", c)
	}
	if err := testenv.PushRandom(b.login(), "prod_amd64_1_web:1.0"); err == nil {
		t.Error("the device pushes after it has published")
	}

	// The version is there.
	again := protocol.PublishApp{App: "web", Device: "press", Version: "1.0"}
	if got := code(b.admin.Try(protocol.StudioPublishApp, again, nil)); got != string(protocol.CodeConflict) {
		t.Errorf("the same version again: %s", got)
	}
	again.Replace = true
	b.admin.Ask(protocol.StudioPublishApp, again, nil)
	b.wish(t)
	b.describe("arm64") // another device of another architecture would say the same
	again.Replace = false
	b.admin.Ask(protocol.StudioPublishApp, again, nil)
	b.wish(t)
	if err := testenv.PushRandom(b.login(), "prod_arm64_1_web:1.0"); err != nil {
		t.Fatalf("the device pushes: %v", err)
	}
	b.says(protocol.Published)
	if got := b.app().Releases; len(got) != 1 || !reflect.DeepEqual(got[0].Architectures, []string{"amd64", "arm64"}) {
		t.Errorf("releases = %+v", got)
	}
}

var authored = map[string]any{"services": map[string]any{
	"web": map[string]any{"build": ".", "ports": []any{"80:80"}},
	"job": map[string]any{"build": map[string]any{"context": "job"}, "image": "job:local"},
	"db":  map[string]any{"image": "postgres:17"},
}, "volumes": map[string]any{"data": nil}}

// images are the names of the images in a definition, and where they come from.
func images(t *testing.T, definition any) map[string][2]string {
	t.Helper()
	d, ok := protocol.AsDict(definition)
	if !ok {
		t.Fatalf("the definition is %#v", definition)
	}
	services, err := protocol.ComposeServices("web", d)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string][2]string{}
	for name, s := range services {
		image, _ := protocol.Text(s["image"])
		source, _ := protocol.Text(s["x-source-image"])
		all[name] = [2]string{image, source}
	}
	return all
}

func TestComposeDefinitionsNameTheImagesOfTheDevice(t *testing.T) {
	b := newBench(t)
	at := b.file.DockerRegistryURL + "apps/"
	check := func(claim string, wish map[string]any, key string, want map[string][2]string) {
		t.Helper()
		if got := images(t, wish[key]); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %s has %v, want %v", claim, key, got, want)
		}
		if r, err := protocol.ParseAppRequest(wish); err != nil || !r.Compose() {
			t.Errorf("%s: the device reads compose %v, %v", claim, r.Compose(), err)
		}
	}
	copyImages := map[string][2]string{"web": {at + "dev_amd64_1_web_web", ""}, "job": {at + "dev_amd64_1_web_job", ""}, "db": {"postgres:17", ""}}
	if w := b.develop(protocol.DevelopApp{Target: protocol.Built, Compose: authored}); w.App.Kind != protocol.KindCompose {
		t.Errorf("kind = %s", w.App.Kind)
	}
	wish := b.wish(t)
	check("build", wish, "docker_compose", copyImages)
	if d, _ := protocol.AsDict(wish["docker_compose"]); d["volumes"] == nil {
		t.Errorf("the rest of the definition is lost: %v", d)
	}
	if rules, err := protocol.ParsePortRules(wish["ports"]); err != nil || len(rules) != 1 || rules[0].Port != 80 || rules[0].Name != "web" {
		t.Errorf("the ports that a service publishes give the rules %+v (%v), want one", rules, err)
	}
	b.says(protocol.Built)
	b.develop(protocol.DevelopApp{Target: protocol.Running})
	check("run", b.wish(t), "docker_compose", copyImages)

	b.publish(protocol.PublishApp{Version: "1.0", Compose: authored})
	check("publish", b.wish(t), "docker_compose", map[string][2]string{
		"web": {at + "prod_amd64_1_web_web:1.0", ""}, "job": {at + "prod_amd64_1_web_job:1.0", ""}, "db": {at + "prod_amd64_1_web_db:1.0", "postgres:17"},
	})
	for _, image := range []string{"prod_amd64_1_web_web:1.0", "prod_amd64_1_web_job:1.0"} {
		if err := testenv.PushRandom(b.login(), image); err != nil {
			t.Fatal(err)
		}
	}
	b.says(protocol.Published)
	if got := b.copyOf(); !strings.Contains(got.Error, "prod_amd64_1_web_db:1.0") {
		t.Errorf("an image was not pushed, and the error is %q", got.Error)
	}
	if err := testenv.PushRandom(b.login(), "prod_amd64_1_web_db:1.0"); err != nil {
		t.Fatal(err)
	}
	b.says(protocol.Published)
	row := b.admin.Release(protocol.CreateRelease{App: "web", Version: "2.0", Architectures: []string{"amd64", "armv7"}, Compose: authored})
	if got := row.Releases; len(got) != 2 || got[0].Kind != protocol.KindCompose || !reflect.DeepEqual(got[1].Services, []string{"db", "job", "web"}) {
		t.Fatalf("releases = %+v", got)
	}

	deploy(t, b.admin, "1.0", nil)
	wish = b.wish(t)
	one := map[string][2]string{"web": {at + "prod_amd64_1_web_web:1.0", ""}, "job": {at + "prod_amd64_1_web_job:1.0", ""}, "db": {at + "prod_amd64_1_web_db:1.0", ""}}
	check("install", wish, "docker_compose", one)
	if wish["new_docker_compose"] != nil {
		t.Errorf("an installation has a definition to update to: %v", wish["new_docker_compose"])
	}
	b.report(t, protocol.Running, row.Releases[0].ReleaseKey)
	deploy(t, b.admin, "2.0", nil)
	wish = b.wish(t)
	two := map[string][2]string{"web": {at + "prod_amd64_1_web_web:2.0", ""}, "job": {at + "prod_amd64_1_web_job:2.0", ""}, "db": {"postgres:17", ""}}
	check("update", wish, "docker_compose", one)
	check("update", wish, "new_docker_compose", two)
	b.report(t, protocol.Present, row.Releases[1].ReleaseKey, "updateStatus", "pending_remote_confirmation")
	for _, raw := range b.list(t) {
		wish, _ = protocol.AsDict(raw)
		if wish["stage"] == "PROD" {
			check("updated", wish, "docker_compose", two)
		}
	}

	// To one container, and back.
	row = b.admin.Release(protocol.CreateRelease{App: "web", Version: "3.0", Architectures: []string{"amd64"}})
	deploy(t, b.admin, "3.0", nil)
	if wish = b.wish(t); wish["docker_compose"] != nil || wish["new_docker_compose"] != nil || wish["request_update"] != true {
		t.Errorf("update to a single app: %v", wish)
	}
	b.report(t, protocol.Present, row.Releases[2].ReleaseKey, "updateStatus", "pending_remote_confirmation")
	deploy(t, b.admin, "2.0", nil)
	if wish = b.wish(t); wish["docker_compose"] != nil {
		t.Errorf("update from a single app: %v", wish)
	}
	check("update from a single app", wish, "new_docker_compose", two)
}

// A device that never came has not said which images it needs.
func TestAComposeAppWaitsForADeviceToSayWhatItIs(t *testing.T) {
	s := testenv.Studio(t)
	a := admin(t, s)
	a.Ask(protocol.StudioCreateApp, protocol.CreateApp{Name: "web"}, nil)
	a.Release(protocol.CreateRelease{App: "web", Version: "1.0", Architectures: []string{"amd64"}, Compose: authored})
	_, file := s.AddDevice("press")
	deploy(t, a, "1.0", nil)
	if got := code(a.Try(protocol.StudioPublishApp, protocol.PublishApp{App: "web", Device: "press", Version: "2.0"}, nil)); got != string(protocol.CodeConflict) {
		t.Errorf("publish from a device that never came: %s", got)
	}
	s.Restart()
	b := &bench{s: s, admin: admin(t, s), device: join(t, s, file), t: t}
	b.register()
	if got := b.list(t); len(got) != 0 {
		t.Errorf("before it said what it is the list is %v", got)
	}
	b.describe("amd64")
	connected(t, b.device)
	wish := b.wish(t)
	if got := images(t, wish["docker_compose"])["web"][0]; got != file.DockerRegistryURL+"apps/prod_amd64_1_web_web:1.0" {
		t.Errorf("the image is %q", got)
	}
	if got := b.list(t); len(got) != 1 {
		t.Errorf("afterwards the list is %v", got)
	}
}

// connected says that a device is.
func connected(t *testing.T, d *device) {
	t.Helper()
	in := map[string]any{"device_key": d.file.DeviceKey, "swarm_key": 1, "status": "CONNECTED"}
	if _, err := d.Call(t.Context(), protocol.UpdateDeviceStatus, []any{in}, nil); err != nil {
		t.Fatal(err)
	}
}

// Devices leave DEV rows of the list alone (life §4.1).
func TestADEVWishThatADeviceMissedIsToldWhenItComes(t *testing.T) {
	b := newBench(t)
	b.says(protocol.Present)
	b.Leave()
	eventually(t, "the device is gone", func() bool { return !row(t, b.s, "press").Online })
	if w := b.develop(protocol.DevelopApp{Target: protocol.Running}); w.Delivered || w.Reason == "" {
		t.Errorf("wish for a device that is away: %+v", w)
	}
	b.s.Restart() // which forgets what was not delivered
	b.admin = admin(t, b.s)
	b.device = join(t, b.s, b.file)
	b.register()
	b.list(t)
	connected(t, b.device)
	if wish := b.wish(t); wish["target_state"] != "RUNNING" || wish["stage"] != "DEV" {
		t.Errorf("wish = %v", wish)
	}
	b.says(protocol.Starting)
	b.list(t)
	connected(t, b.device)
	b.develop(protocol.DevelopApp{Target: protocol.Present})
	if wish := b.wish(t); wish["target_state"] != "PRESENT" {
		t.Errorf("a wish that was taken is told again: %v", wish)
	}
}

func TestWhoMayDevelop(t *testing.T) {
	b := newBench(t)
	var ann, bob protocol.UserAdded
	b.admin.Ask(protocol.StudioAddUser, protocol.AddUser{Name: "ann"}, &ann)
	b.admin.Ask(protocol.StudioAddUser, protocol.AddUser{Name: "bob"}, &bob)
	a := b.s.Join(ann.Profile)
	try := func(who *testenv.SessionRig, app string) string {
		return code(who.Try(protocol.StudioDevelopApp, protocol.DevelopApp{App: app, Device: "press", Target: protocol.Built}, nil))
	}
	a.Ask(protocol.StudioCreateApp, protocol.CreateApp{Name: "hers"}, nil)
	if got := try(a, "hers"); got != string(protocol.CodeNotFound) {
		t.Errorf("on a device that she does not see: %s", got)
	}
	b.admin.Ask(protocol.StudioGrantPrivilege, protocol.GrantArgs{User: "ann", Device: "press", Privilege: protocol.Read}, nil)
	if got := try(a, "hers"); got != string(protocol.CodeRefused) {
		t.Errorf("with READ: %s", got)
	}
	b.admin.Ask(protocol.StudioGrantPrivilege, protocol.GrantArgs{User: "ann", Device: "press", Privilege: protocol.Develop}, nil)
	if got := try(a, "hers"); got != "<nil>" {
		t.Errorf("with DEVELOP: %s", got)
	}
	b.wish(t)
	for uri, in := range map[string]any{
		protocol.StudioDevelopApp:        protocol.DevelopApp{App: "web", Device: "press", Target: protocol.Built},
		protocol.StudioPublishApp:        protocol.PublishApp{App: "web", Device: "press", Version: "1"},
		protocol.StudioSetAppEnvironment: protocol.SetAppEnvironment{App: "web", Set: map[string]any{"A": 1}},
		protocol.StudioSetAppPorts:       protocol.SetAppPorts{App: "web"},
		protocol.StudioDeleteRelease:     protocol.DeleteRelease{App: "web", Version: "1"},
		protocol.StudioDeleteApp:         protocol.AppArgs{App: "web"},
		protocol.StudioCollectGarbage:    nil,
	} {
		if got := code(a.Try(uri, in, nil)); got != string(protocol.CodeRefused) {
			t.Errorf("%s of somebody else's app: %s", uri, got)
		}
	}
	if _, err := a.Call(t.Context(), protocol.RunRegistryGC, nil, nil); err == nil {
		t.Error("a user collects garbage")
	}
	if _, err := b.s.Join(bob.Profile).Call(t.Context(), protocol.Procedure(b.file.SerialNumber, protocol.RequestAppState), nil, nil); err == nil {
		t.Error("a user without a right calls the device")
	}
}

func TestWhatCannotBeDevelopedIsRefused(t *testing.T) {
	b := newBench(t)
	service := func(s map[string]any) map[string]any { return map[string]any{"services": map[string]any{"web": s}} }
	for claim, in := range map[string]protocol.DevelopApp{
		"no target":               {},
		"a target of publish_app": {Target: protocol.Published},
		"a state on the way":      {Target: protocol.Building},
		"no services":             {Target: protocol.Built, Compose: map[string]any{"version": "3"}},
		"neither build nor image": {Target: protocol.Built, Compose: service(map[string]any{})},
		"a huge definition":       {Target: protocol.Built, Compose: service(map[string]any{"image": "x", "command": strings.Repeat("x", 300<<10)})},
		"an odd variable":         {Target: protocol.Built, Environment: map[string]any{"A B": 1}},
		"a registry without name": {Target: protocol.Built, Credentials: map[string]protocol.RegistryCredential{"": {}}},
	} {
		in.App, in.Device = "web", "press"
		if got := code(b.admin.Try(protocol.StudioDevelopApp, in, nil)); got != string(protocol.CodeInvalid) {
			t.Errorf("%s: %s", claim, got)
		}
	}
	for claim, in := range map[string]protocol.PublishApp{"no version": {}, "an odd version": {Version: "../1"}} {
		in.App, in.Device = "web", "press"
		if got := code(b.admin.Try(protocol.StudioPublishApp, in, nil)); got != string(protocol.CodeInvalid) {
			t.Errorf("%s: %s", claim, got)
		}
	}
	b.admin.Ask(protocol.StudioCreateApp, protocol.CreateApp{Name: "other"}, nil)
	if got := code(b.admin.Try(protocol.StudioDevelopApp, protocol.DevelopApp{App: "other", Device: "press", Target: protocol.Running}, nil)); got != string(protocol.CodeNotFound) {
		t.Errorf("run what was never built: %s", got)
	}
	release := protocol.CreateRelease{App: "web", Version: "1.0", Architectures: []string{"amd64"}}
	if got := code(b.admin.Try(protocol.StudioCreateRelease, release, nil)); got != string(protocol.CodeConflict) {
		t.Errorf("a release whose image is not there: %s", got)
	}
	select {
	case wish := <-b.wishes:
		t.Errorf("the device was told %v", wish)
	default:
	}
	if got := b.copyOf(); got.Target != protocol.Built {
		t.Errorf("something was changed: %+v", got)
	}
}

func TestStatesTellWhatAnUpdateDid(t *testing.T) {
	b := newBench(t)
	var releases []protocol.ReleaseRow
	for _, v := range []string{"1.0", "2.0"} {
		releases = b.admin.Release(protocol.CreateRelease{App: "web", Version: v, Architectures: []string{"amd64"}}).Releases
	}
	old, next := releases[0].ReleaseKey, releases[1].ReleaseKey
	deploy(t, b.admin, "1.0", nil)
	b.report(t, protocol.Running, old)
	deploy(t, b.admin, "2.0", nil)
	b.report(t, protocol.Updating, old)
	b.report(t, protocol.Present, next, "updateStatus", "pending_remote_confirmation")
	b.report(t, protocol.Failed, next, "updateStatus", "completed", "error", "it exited with 1")
	b.report(t, protocol.Running, old, "updateStatus", "canceled")
	var list protocol.StateList
	b.admin.Ask(protocol.StudioListStates, protocol.ListStates{Device: "press", History: 2}, &list)
	for _, r := range list.States {
		if r.Stage == protocol.Dev {
			continue
		}
		u := r.LastUpdate
		if u == nil || u.From != "1.0" || u.To != "2.0" || u.Outcome != protocol.UpdateRolledBack || u.Reason != "it exited with 1" || time.Since(u.Time) > time.Minute {
			t.Errorf("last update = %+v", u)
		}
		if len(r.History) != 2 || r.History[0].Version != "2.0" || r.History[1].Version != "1.0" {
			t.Errorf("history = %+v", r.History)
		}
	}
}

func TestGarbageIsCollectedOnDemandAndNotAllTheTime(t *testing.T) {
	b := newBench(t)
	b.admin.Release(protocol.CreateRelease{App: "web", Version: "1.0", Architectures: []string{"amd64"}})
	collect := func(s *testenv.SessionRig) protocol.GarbageCollected {
		t.Helper()
		answer, err := s.Call(t.Context(), protocol.RunRegistryGC, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		var done protocol.GarbageCollected
		if err := protocol.Decode(protocol.Arg(answer.Args, 0), &done); err != nil || done.Began.IsZero() {
			t.Fatalf("answer = %v, %v", answer.Args, err)
		}
		return done
	}
	if done := collect(b.SessionRig); done.Reason != "" {
		t.Errorf("a device's first call: %+v", done)
	}
	if done := collect(b.SessionRig); !strings.Contains(done.Reason, "ago") {
		t.Errorf("a call right after: %+v", done)
	}
	var done protocol.GarbageCollected
	b.admin.Ask(protocol.StudioCollectGarbage, nil, &done)
	if done.Reason != "" {
		t.Errorf("the administrator's own: %+v", done)
	}
}
