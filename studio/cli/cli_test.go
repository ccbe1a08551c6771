package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"reagent/messenger"
	"reagent/protocol"
)

func TestMain(m *testing.M) {
	// The registry's library keeps one of these for each registry, and never ends it.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/docker/go-events.(*Broadcaster).run"))
}

var someDevices = protocol.DeviceList{Devices: []protocol.DeviceRow{
	{DeviceKey: 1, SwarmKey: 1, Name: "press-07", SerialNumber: "0b0f3f0e-7a7e-4a0c-9a55-2f6f0c1d9e77", Online: true, Status: protocol.Connected,
		AgentVersion: "1.2.3", Architecture: "arm64", LastSeen: noon},
	{DeviceKey: 2, SwarmKey: 1, Name: "cutter", SerialNumber: "s2", Status: protocol.Disconnected, LastSeen: noon.Add(-190 * time.Second),
		RefusedLogins: protocol.RefusedLogins{Count: 12, Last: noon.Add(-61 * time.Second), Reason: "wrong secret"}},
	{DeviceKey: 3, SwarmKey: 1, Name: "evil\x1b[2Jname", SerialNumber: "s3", Status: protocol.Disconnected},
}}

var someApps = protocol.AppList{Apps: []protocol.AppRow{
	{AppKey: 1, Name: "hello", Owner: "admin", Releases: []protocol.ReleaseRow{
		{ReleaseKey: 1, Version: "1.0.0", Architectures: []string{"amd64", "arm64"}, Created: noon.Add(-50 * time.Hour),
			Ports: []protocol.PortRule{{Port: 8080, Protocol: "http"}, {Port: 53, Protocol: "udp", Name: "dns"}}},
		{ReleaseKey: 2, Version: "1.1.0", Architectures: []string{"amd64"}, Created: noon.Add(-3 * time.Hour)},
	}},
	{AppKey: 2, Name: "empty", Owner: "eve"},
}}

func someStates() protocol.StateList {
	return protocol.StateList{States: []protocol.AppOnDeviceRow{
		{DeviceKey: 1, DeviceName: "press-07", SerialNumber: "s1", Online: true, AppKey: 1, AppName: "hello", Stage: protocol.Prod, ContainerName: "prod_1_hello",
			Target: protocol.Running, State: protocol.Running, Version: "1.0.0", TargetVersion: "1.0.0", Wished: noon.Add(-time.Minute), Reported: noon.Add(-45 * time.Second),
			Ports:   []protocol.PortRule{{Port: 8080, Protocol: "http", HostPort: 40000}, {Port: 53, Protocol: "udp", HostPort: 40001}},
			History: []protocol.PastState{{State: protocol.Starting, Time: noon.Add(-50 * time.Second)}, {State: protocol.Running, Time: noon.Add(-45 * time.Second)}}},
		{DeviceKey: 2, DeviceName: "cutter", SerialNumber: "s2", AppKey: 1, AppName: "hello", Stage: protocol.Prod, ContainerName: "prod_1_hello",
			Target: protocol.Running, State: protocol.Failed, Version: "1.0.0", TargetVersion: "1.1.0", Error: "exited with status code 3", Reported: noon.Add(-2 * time.Hour)},
	}}
}

var shopApp = protocol.AppRow{
	AppKey: 4, Name: "shop", Owner: "eve", Ports: []protocol.PortRule{{Main: true, Name: "web", Port: 8080, Protocol: "http"}, {Port: 53, Protocol: "udp"}},
	EnvironmentTemplate: map[string]any{"COLOR": map[string]any{"defaultValue": "blue"}, "EMPTY": map[string]any{}, "N": map[string]any{"defaultValue": int64(7)}},
}

// updatedStates are an update that is under way, one that was done, one that was
// rolled back, and a DEV copy.
func updatedStates() protocol.StateList {
	row := protocol.AppOnDeviceRow{DeviceKey: 1, DeviceName: "press-07", SerialNumber: "s1", Online: true, AppKey: 4, AppName: "shop", Stage: protocol.Prod,
		Target: protocol.Running, State: protocol.Running, Version: "1.1.0", TargetVersion: "1.1.0", Reported: noon.Add(-time.Minute)}
	under, done, back, dev := row, row, row, row
	under.State, under.LastUpdate = protocol.Updating, &protocol.UpdateRow{From: "1.0.0", To: "1.1.0", Outcome: protocol.UpdateRuns, Time: noon.Add(-time.Minute)}
	done.DeviceName, done.LastUpdate = "press-08", &protocol.UpdateRow{From: "1.0.0", To: "1.1.0", Outcome: protocol.UpdateDone, Time: noon.Add(-3 * time.Hour)}
	back.DeviceName, back.Version, back.TargetVersion = "press-09", "1.0.0", "1.1.0"
	back.LastUpdate = &protocol.UpdateRow{From: "1.0.0", To: "1.1.0", Outcome: protocol.UpdateRolledBack, Reason: "the health check fails: \x1bconnection refused", Time: noon.Add(-5 * time.Minute)}
	dev.Stage, dev.Version, dev.TargetVersion, dev.State = protocol.Dev, "", "", protocol.Building
	return protocol.StateList{States: []protocol.AppOnDeviceRow{under, done, back, dev}}
}

var fileName = strings.NewReplacer(" ", "_", "-", "", "/", "", "=", "", "@", "_")

func TestTablesForPeopleAndJSONForPrograms(t *testing.T) {
	account := protocol.AccountRow{AccountKey: 1, AuthID: "1", Name: "admin", Role: "user", Administrator: true, Created: noon.Add(-48 * time.Hour)}
	other := protocol.AccountRow{AccountKey: 2, AuthID: "2", Name: "eve", Role: "user", Grants: []protocol.GrantRow{
		{DeviceKey: 1, DeviceName: "press-07", Privilege: protocol.Read}, {DeviceKey: 1, DeviceName: "press-07", Privilege: protocol.Develop}, {DeviceKey: 2, DeviceName: "cutter", Privilege: protocol.Read},
	}}
	for _, c := range []struct {
		command   string
		procedure string
		answer    any
	}{
		{"device ls", protocol.StudioListDevices, someDevices},
		{"device rm cutter", protocol.StudioRemoveDevice, someDevices.Devices[1]},
		{"app ls", protocol.StudioListApps, someApps},
		{"app create hello", protocol.StudioCreateApp, protocol.AppRow{AppKey: 1, Name: "hello", Owner: "admin"}},
		{"states", protocol.StudioListStates, someStates()},
		{"states --history 5 --device press-07", protocol.StudioListStates, someStates()},
		{"user ls", protocol.StudioListUsers, protocol.UserList{Users: []protocol.AccountRow{account, other}}},
		{"user rm eve", protocol.StudioRemoveUser, other},
		{"whoami", protocol.StudioReadAccount, account},
		{"grant eve press-07 read", protocol.StudioGrantPrivilege, other},
		{"revoke eve press-07 READ", protocol.StudioRevokePrivilege, protocol.AccountRow{AccountKey: 2, Name: "eve"}},
		{"stop hello press-07", protocol.StudioStopApp, protocol.Wished{App: someStates().States[0], Delivered: true}},
		{"remove hello cutter --uninstall", protocol.StudioRemoveApp, protocol.Wished{App: someStates().States[1], Reason: "cutter is not on-line"}},
		{"deploy hello press-07", protocol.StudioDeployApp, protocol.Wished{App: someStates().States[0], Delivered: true}},
		{"states --app shop", protocol.StudioListStates, updatedStates()},
		{"app env shop COLOR=blue --unset OLD", protocol.StudioSetAppEnvironment, shopApp},
		{"app ports shop web=8080 53/udp", protocol.StudioSetAppPorts, shopApp},
		{"app rm shop@1.0.0", protocol.StudioDeleteRelease, shopApp},
		{"app rm shop", protocol.StudioDeleteApp, shopApp},
		{"gc", protocol.StudioCollectGarbage, protocol.GarbageCollected{Manifests: 3, Layers: 8, Bytes: 5 << 20, TookMS: 1234}},
		{"dev remove shop press-07", protocol.StudioDevelopApp, protocol.Wished{App: updatedStates().States[3], Delivered: true}},
	} {
		t.Run(c.command, func(t *testing.T) {
			d := newDesk(t)
			d.studio.answers[c.procedure] = give(c.answer)
			if err := d.run(t, strings.Fields(c.command)...); err != nil {
				t.Fatal(err)
			}
			golden(t, fileName.Replace(c.command)+".txt", d.stdout.String())
			if !d.studio.closed {
				t.Error("the session was left open")
			}
			d = newDesk(t)
			d.studio.answers[c.procedure] = give(c.answer)
			if err := d.run(t, append(strings.Fields(c.command), "--output", "json")...); err != nil {
				t.Fatal(err)
			}
			want, _ := json.Marshal(c.answer)
			var got bytes.Buffer
			if err := json.Compact(&got, []byte(d.stdout.String())); err != nil || got.String() != string(want) {
				t.Errorf("json = %s (%v), want the studio's answer %s", got.String(), err, want)
			}
		})
	}
}

func TestTemplatesOfAnAppAreShownOrChanged(t *testing.T) {
	for command, want := range map[string]struct {
		procedure string
		in        string
	}{
		"app env shop":                        {protocol.StudioListApps, ""},
		"app env shop A=1 B=x=y C= --unset D": {protocol.StudioSetAppEnvironment, `{"app":"shop","set":{"A":"1","B":"x=y","C":""},"unset":["D"]}`},
		"app ports shop":                      {protocol.StudioListApps, ""},
		"app ports shop --none":               {protocol.StudioSetAppPorts, `{"app":"shop","ports":[]}`},
		"app rm shop@1.0.0":                   {protocol.StudioDeleteRelease, `{"app":"shop","version":"1.0.0"}`},
	} {
		d := newDesk(t)
		d.studio.answers[protocol.StudioListApps] = give(protocol.AppList{Apps: []protocol.AppRow{shopApp}})
		d.studio.answers[want.procedure] = give(shopApp)
		if want.procedure == protocol.StudioListApps {
			d.studio.answers[want.procedure] = give(protocol.AppList{Apps: []protocol.AppRow{shopApp}})
		}
		if err := d.run(t, strings.Fields(command)...); err != nil {
			t.Errorf("%s: %v", command, err)
			continue
		}
		in := d.studio.question(t, want.procedure)
		got, _ := json.Marshal(in)
		if want.in != "" && string(got) != want.in || len(d.studio.asked) != 1 {
			t.Errorf("%s asked %v, want %s %s alone", command, d.studio.asked, want.procedure, want.in)
		}
	}
	d := newDesk(t)
	d.studio.answers[protocol.StudioSetAppPorts] = give(shopApp)
	if err := d.run(t, "app", "ports", "shop", "web=8080", "53/udp"); err != nil {
		t.Fatal(err)
	}
	var in protocol.SetAppPorts
	if err := protocol.Decode(d.studio.question(t, protocol.StudioSetAppPorts), &in); err != nil || !slices.Equal(in.Ports, shopApp.Ports) {
		t.Errorf("asked for %+v, %v; want %+v", in.Ports, err, shopApp.Ports)
	}
	d = newDesk(t)
	d.studio.answers[protocol.StudioListApps] = give(protocol.AppList{})
	if err := d.run(t, "app", "env", "shop"); err == nil || !strings.Contains(err.Error(), `reagent-studio app ls`) {
		t.Errorf("an app that is not there = %v", err)
	}
}

func TestEmptyListsSayWhatToDo(t *testing.T) {
	for command, c := range map[string]struct {
		procedure string
		answer    any
		want      string
	}{
		"device ls":       {protocol.StudioListDevices, protocol.DeviceList{}, `reagent-studio device add NAME`},
		"app ls":          {protocol.StudioListApps, protocol.AppList{}, `reagent-studio app create NAME`},
		"states":          {protocol.StudioListStates, protocol.StateList{}, `reagent-studio deploy APP DEVICE`},
		"app env empty":   {protocol.StudioListApps, someApps, `reagent-studio app env empty NAME=VALUE`},
		"app ports empty": {protocol.StudioListApps, someApps, `reagent-studio app ports empty PORT`},
	} {
		d := newDesk(t)
		d.studio.answers[c.procedure] = give(c.answer)
		if err := d.run(t, strings.Fields(command)...); err != nil || !strings.Contains(d.stdout.String(), c.want) {
			t.Errorf("%s = %v %q, want it to say %q", command, err, d.stdout.String(), c.want)
		}
	}
}

func TestHelpTeaches(t *testing.T) {
	d := newDesk(t)
	if err := d.run(t); err != nil {
		t.Fatal(err)
	}
	golden(t, "help.txt", d.stdout.String())
	for _, cmd := range d.commands() {
		for _, args := range [][]string{append([]string{"help"}, strings.Fields(cmd.Words)...), append(strings.Fields(cmd.Words), "--help")} {
			d := newDesk(t)
			if err := d.run(t, args...); err != nil {
				t.Errorf("%v = %v, want its help", args, err)
			}
			if out := d.stdout.String(); !strings.Contains(out, "reagent-studio "+cmd.Words) || !strings.Contains(out, cmd.About) {
				t.Errorf("%v does not explain the command:\n%s", args, out)
			}
		}
	}
	d = newDesk(t)
	if err := d.run(t, "help", "deploy"); err != nil {
		t.Fatal(err)
	}
	golden(t, "help_deploy.txt", d.stdout.String())
	d = newDesk(t)
	if err := d.run(t, "device", "--help"); !errors.Is(err, flag.ErrHelp) || !strings.Contains(d.stdout.String(), "device ls") {
		t.Errorf("device --help = %v\n%s", err, d.stdout.String())
	}
}

func TestWhatIsNotUnderstoodIsAUsageError(t *testing.T) {
	for _, c := range []struct{ line, want string }{
		{"nonsense", `there is no command "nonsense"`},
		{"device", `device add, device ls, device logs, device rm`},
		{"device nonsense", `device add, device ls, device logs, device rm`},
		{"device ls x", "it is: reagent-studio device ls"},
		{"deploy hello", "it is: reagent-studio deploy APP[@VERSION] DEVICE"},
		{"deploy hello dev --nonsense", "flag provided but not defined"},
		{"deploy hello@-1 dev", "version"},
		{"deploy hello dev --env =x", "has no name"},
		{"deploy hello dev --timeout soon", "invalid value"},
		{"app push hello 1.0.0 img --port 0", "[NAME=]PORT"},
		{"app push hello 1.0.0 img --port 80/icmp", "protocol"},
		{"app push hello 1.0.0 img --default X", "NAME=VALUE"},
		{"app create ..", "app name"},
		{"device add x --serial a.b", "serial_number"},
		{"grant eve press READS", "READ DEVELOP MAINTAIN NETWORK"},
		{"device ls --output yaml", "neither table nor json"},
		{"states --history many", "not a number"},
		{"app push hello 1.0.0", "either an IMAGE or a compose file"},
		{"app push hello 1.0.0 img -f compose.yaml", "either an IMAGE or a compose file"},
		{"app push hello 1.0.0 img --image web=x", "go with -f"},
		{"app push hello 1.0.0 -f compose.yaml --image web", "SERVICE=IMAGE"},
		{"app env hello COLOR", "NAME=VALUE"},
		{"app ports hello http", "[NAME=]PORT"},
		{"app ports hello 80 --none", "exclude each other"},
		{"app rm hello@", "the version is empty"},
		{"dev push /nowhere press", "there is no folder /nowhere"},
		{"dev push /dev/null press", "not a folder"},
		{"publish /nowhere press a/b", "version"},
	} {
		d := newDesk(t)
		err := d.run(t, strings.Fields(c.line)...)
		var usage *UsageError
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %v, want a usage error with %q", c.line, err, c.want)
		}
		if len(d.dialled) > 0 {
			t.Errorf("%s: the studio was dialled first", c.line)
		}
	}
}

func TestErrorsOfferTheWayOut(t *testing.T) {
	for _, c := range []struct {
		line, procedure string
		answer          func(map[string]any) (any, error)
		want            string
	}{
		{"app push hello 1.0.0 img", protocol.StudioCreateRegistryToken, refuse(protocol.CodeNotFound, "there is no app \"hello\""),
			`there is no app "hello": make the app with "reagent-studio app create hello"`},
		{"deploy hello press", protocol.StudioDeployApp, refuse(protocol.CodeNotFound, "there is no device \"press\""), `reagent-studio device ls`},
		{"device add press --out -", protocol.StudioAddDevice, refuse(protocol.CodeConflict, "taken"), `taken: see "reagent-studio device ls"`},
		{"device ls", protocol.StudioListDevices, nil, "older than this program"},
		{"device ls", protocol.StudioListDevices, func(map[string]any) (any, error) { return nil, messenger.ErrOffline }, "connection to the studio was lost"},
		{"device ls", protocol.StudioListDevices, func(map[string]any) (any, error) { return nil, context.DeadlineExceeded }, "no answer in time"},
		{"device ls", protocol.StudioListDevices, give(map[string]any{"devices": "none"}), "another version"},
		{"device ls", protocol.StudioListDevices, func(map[string]any) (any, error) {
			return nil, &messenger.CallError{URI: "wamp.error.not_authorized"}
		}, "wamp.error.not_authorized"},
	} {
		d := newDesk(t)
		if c.answer != nil {
			d.studio.answers[c.procedure] = c.answer
		}
		if err := d.run(t, strings.Fields(c.line)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %v, want it to say %q", c.line, err, c.want)
		}
	}
}

func TestNoStudioAnswers(t *testing.T) {
	d := newDesk(t)
	d.Dial = func(context.Context, protocol.StudioProfile) (Session, error) {
		return nil, &DialError{Reason: "connection refused"}
	}
	err := d.run(t, "device", "ls")
	if want := `no studio answers at http://127.0.0.1:8020: start one with "reagent-studio serve" (connection refused)`; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	d.Dial = func(context.Context, protocol.StudioProfile) (Session, error) {
		return nil, &DialError{Refused: true, Reason: "not authorized"}
	}
	if err := d.run(t, "device", "ls"); err == nil || !strings.Contains(err.Error(), "refuses account 1") {
		t.Errorf("got %v, want that the account is refused", err)
	}
}

func TestWhichStudioIsMeant(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other.json")
	for _, c := range []struct {
		claim string
		flag  string
		env   map[string]string
		want  protocol.StudioProfile
	}{
		{"the one on this machine", "", nil, protocol.StudioProfile{URL: "http://127.0.0.1:8020", Realm: "realm1", AuthID: "1", Secret: "s3cret"}},
		{"--profile", other, nil, protocol.StudioProfile{URL: "https://other", Realm: "realm1", AuthID: "7", Secret: "x"}},
		{"REAGENT_STUDIO_PROFILE", "", map[string]string{"REAGENT_STUDIO_PROFILE": other}, protocol.StudioProfile{URL: "https://other", Realm: "realm1", AuthID: "7", Secret: "x"}},
		{"the flag before the variable", other, map[string]string{"REAGENT_STUDIO_PROFILE": "/nowhere"}, protocol.StudioProfile{URL: "https://other", Realm: "realm1", AuthID: "7", Secret: "x"}},
		{"a variable changes a field", other, map[string]string{"REAGENT_STUDIO_AUTHID": "8"}, protocol.StudioProfile{URL: "https://other", Realm: "realm1", AuthID: "8", Secret: "x"}},
	} {
		d := newDesk(t)
		d.studio.answers[protocol.StudioListDevices] = give(someDevices)
		d.profile(t, other, protocol.StudioProfile{URL: "https://other/", AuthID: "7", Secret: "x"})
		d.env = c.env
		args := []string{"device", "ls"}
		if c.flag != "" {
			args = append(args, "--profile", c.flag)
		}
		if err := d.run(t, args...); err != nil || len(d.dialled) != 1 || d.dialled[0] != c.want {
			t.Errorf("%s: %v, dialled %+v, want %+v", c.claim, err, d.dialled, c.want)
		}
	}
	d := newDesk(t)
	d.studio.answers[protocol.StudioListDevices] = give(someDevices)
	d.DataFolder = "/nowhere"
	d.env = map[string]string{"REAGENT_STUDIO_URL": "https://x", "REAGENT_STUDIO_AUTHID": "2", "REAGENT_STUDIO_SECRET": "y"}
	if err := d.run(t, "device", "ls"); err != nil {
		t.Errorf("variables without a file: %v", err)
	}
	d.env = nil
	if err := d.run(t, "device", "ls"); err == nil || !strings.Contains(err.Error(), `reagent-studio serve`) {
		t.Errorf("without a profile = %v, want how to start a studio", err)
	}
	if err := d.run(t, "device", "ls", "--profile", "/nowhere/x"); err == nil || !strings.Contains(err.Error(), "/nowhere/x") {
		t.Errorf("a missing profile = %v, want its name", err)
	}
	if err := os.WriteFile(other, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := d.run(t, "device", "ls", "--profile", other); err == nil || !strings.Contains(err.Error(), other) {
		t.Errorf("a damaged profile = %v, want its name", err)
	}
}

func TestSecretsGoToPrivateFilesThatWereNotThere(t *testing.T) {
	for _, c := range []struct {
		verb      string
		procedure string
		answer    any
		secret    string
	}{
		{"device", protocol.StudioAddDevice, protocol.DeviceAdded{Device: someDevices.Devices[0], File: protocol.DeviceFileContent{Name: "press-07", Secret: "dev-secret", SerialNumber: "s"}}, "dev-secret"},
		{"user", protocol.StudioAddUser, protocol.UserAdded{Account: protocol.AccountRow{AccountKey: 2, Name: "eve"}, Profile: protocol.StudioProfile{URL: "http://x", Secret: "user-secret"}}, "user-secret"},
	} {
		d := newDesk(t)
		d.studio.answers[c.procedure] = give(c.answer)
		out := filepath.Join(t.TempDir(), "file")
		if err := d.run(t, c.verb, "add", "name", "--out", out); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(out)
		info, _ := os.Stat(out)
		if err != nil || info.Mode().Perm() != 0o600 || !strings.Contains(string(content), c.secret) {
			t.Errorf("%s add wrote %s, mode %v, %v; want the secret with mode 0600", c.verb, content, info.Mode(), err)
		}
		if strings.Contains(d.stdout.String()+d.stderr.String(), c.secret) {
			t.Errorf("%s add printed the secret", c.verb)
		}
		err = d.run(t, c.verb, "add", "name", "--out", out)
		var usage *UsageError
		if !errors.As(err, &usage) || len(d.studio.asked[c.procedure]) != 1 {
			t.Errorf("%s add over a file = %v, asked %d times; want a refusal before anything is made", c.verb, err, len(d.studio.asked[c.procedure]))
		}
		if err := d.run(t, c.verb, "add", "name", "--out", "-"); err != nil || !strings.Contains(d.stdout.String(), c.secret) {
			t.Errorf("%s add --out - = %v %s, want the content", c.verb, err, d.stdout.String())
		}
	}
}

func TestFlagsMayStandAnywhere(t *testing.T) {
	for _, line := range []string{
		"deploy --env A=1 hello@1.2.3 press --env B=x=y --env C",
		"deploy hello@1.2.3 press --env A=1 --env B=x=y --env C",
		"deploy --env A=1 --env B=x=y --env C -- hello@1.2.3 press",
	} {
		d := newDesk(t)
		d.studio.answers[protocol.StudioDeployApp] = give(protocol.Wished{Delivered: true})
		if err := d.run(t, strings.Fields(line)...); err != nil {
			t.Fatal(err)
		}
		in := d.studio.question(t, protocol.StudioDeployApp)
		env, _ := protocol.AsDict(in["environment"])
		gone, there := env["C"]
		if in["app"] != "hello" || in["version"] != "1.2.3" || in["device"] != "press" || env["A"] != "1" || env["B"] != "x=y" || gone != nil || !there {
			t.Errorf("%s asks %v", line, in)
		}
	}
}

func TestTimesAsPeopleSayThem(t *testing.T) {
	for back, want := range map[time.Duration]string{
		0: "0 s ago", 59 * time.Second: "59 s ago", 119 * time.Second: "119 s ago", 2 * time.Minute: "2 min ago", 3 * time.Hour: "3 h ago",
		72 * time.Hour: "3 days ago", 800 * 24 * time.Hour: "2 years ago", -10 * time.Second: "0 s ago",
	} {
		if got := ago(noon, noon.Add(-back)); got != want {
			t.Errorf("ago(%v) = %q, want %q", back, got, want)
		}
	}
	if got := ago(noon, time.Time{}); got != "" {
		t.Errorf("ago(zero) = %q, want nothing", got)
	}
}

func TestEveryCommandHasItsFile(t *testing.T) {
	for _, cmd := range (&Program{}).commands() {
		file := "cmd_" + strings.ReplaceAll(cmd.Words, " ", "_") + ".go"
		if _, err := os.Stat(file); err != nil {
			t.Errorf("command %q has no file %s", cmd.Words, file)
		}
		if cmd.Run == nil || cmd.About == "" || strings.HasSuffix(cmd.About, ".") || cmd.Max < cmd.Min {
			t.Errorf("command %q is not whole: %+v", cmd.Words, cmd)
		}
	}
	var words []string
	for _, cmd := range (&Program{}).commands() {
		words = append(words, cmd.Words)
	}
	slices.Sort(words)
	if len(slices.Compact(slices.Clone(words))) != len(words) {
		t.Errorf("a command is listed twice: %v", words)
	}
}
