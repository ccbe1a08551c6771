package cli

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"reagent/messenger"
	"reagent/protocol"
)

const (
	uploadToPress = "re.mgmt.s1.write_data"
	devTopic      = "reswarm.logs.s1.dev_6_hello"
	pubTopic      = "reswarm.logs.s1.pub_6_hello"
)

// A bench is a desk with a device that takes archives and builds them.
type bench struct {
	*desk
	mu        sync.Mutex
	row       protocol.AppOnDeviceRow
	app       *protocol.AppRow // nil: not made yet
	got       bytes.Buffer     // of the transfer that is open, or was last
	id        string
	complete  bool
	begun     int
	broken    func(chunk string) error // what an upload meets
	wishes    []protocol.DevelopApp
	published []protocol.PublishApp
	// obey is what the device does with a wish: what it prints, and the states
	// that it reports.
	obey func(b *bench, target protocol.State)
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{desk: newDesk(t), app: &protocol.AppRow{AppKey: 6, Name: "hello"}}
	b.Poll, b.Retry, b.Tail = 20*time.Millisecond, time.Millisecond, 30*time.Millisecond
	b.row = protocol.AppOnDeviceRow{DeviceKey: 1, DeviceName: "press-07", SerialNumber: "s1", Online: true, AppKey: 6, AppName: "hello", Stage: protocol.Dev}
	device := someDevices.Devices[0]
	device.SerialNumber = "s1"
	b.studio.answers[protocol.StudioListDevices] = give(protocol.DeviceList{Devices: []protocol.DeviceRow{device, someDevices.Devices[1]}})
	b.studio.answers[protocol.StudioListApps] = func(map[string]any) (any, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		list := protocol.AppList{Apps: []protocol.AppRow{{AppKey: 60, Name: "other"}}}
		if b.app != nil {
			list.Apps = append(list.Apps, *b.app)
		}
		return list, nil
	}
	b.studio.answers[protocol.StudioCreateApp] = func(in map[string]any) (any, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.app = &protocol.AppRow{AppKey: 6, Name: in["name"].(string)}
		return *b.app, nil
	}
	b.studio.answers[protocol.StudioListStates] = func(map[string]any) (any, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		installed := b.row
		installed.Stage = protocol.Prod
		return protocol.StateList{States: []protocol.AppOnDeviceRow{installed, b.row}}, nil
	}
	b.studio.answers[protocol.StudioDevelopApp] = func(in map[string]any) (any, error) {
		var wish protocol.DevelopApp
		if err := protocol.Decode(in, &wish); err != nil {
			t.Error(err)
		}
		b.mu.Lock()
		b.wishes = append(b.wishes, wish)
		b.mu.Unlock()
		return b.wished(wish.Target), nil
	}
	b.studio.answers[protocol.StudioPublishApp] = func(in map[string]any) (any, error) {
		var wish protocol.PublishApp
		if err := protocol.Decode(in, &wish); err != nil {
			t.Error(err)
		}
		b.mu.Lock()
		b.published = append(b.published, wish)
		b.mu.Unlock()
		return b.wished(protocol.Published), nil
	}
	b.studio.positions[uploadToPress] = b.take
	b.obey = func(b *bench, target protocol.State) {
		switch target {
		case protocol.Built:
			b.report(t, protocol.Removed, protocol.Building)
			b.studio.publish(t, devTopic, `{"stream":"Step 1/1 : FROM scratch\n"}`)
			b.report(t, protocol.Built, protocol.Present)
		case protocol.Published:
			b.report(t, protocol.Removed, protocol.Building, protocol.Built, protocol.Publishing)
			b.studio.publish(t, pubTopic, "pushed")
			b.mu.Lock()
			b.app.Releases = append(b.app.Releases, protocol.ReleaseRow{Version: b.published[0].Version, Architectures: []string{"arm64"}})
			b.mu.Unlock()
			b.report(t, protocol.Published, protocol.Present)
		case protocol.Running:
			b.row.Ports = []protocol.PortRule{{Port: 8080}}
			b.report(t, protocol.Starting, protocol.Running)
			b.studio.publish(t, devTopic, "hello world")
			go func() { // ports are reported behind the state
				b.mu.Lock()
				b.row.Ports = []protocol.PortRule{{Port: 8080, HostPort: 8080}}
				b.mu.Unlock()
				b.studio.publish(t, protocol.StudioAppState)
			}()
		}
	}
	return b
}

// wished writes a wish down and lets the device do it.
func (b *bench) wished(target protocol.State) protocol.Wished {
	b.mu.Lock()
	b.row.Target, b.row.Wished = target, b.clock()
	row := b.row
	b.mu.Unlock()
	b.obey(b, target)
	return protocol.Wished{App: row, Delivered: true}
}

// clock is later with each look; b.mu is held.
func (b *bench) clock() time.Time {
	last := b.row.Wished
	if n := len(b.row.History); n > 0 && b.row.History[n-1].Time.After(last) {
		last = b.row.History[n-1].Time
	}
	if last.IsZero() {
		last = noon
	}
	return last.Add(time.Millisecond)
}

// report is the device's report of states.
func (b *bench) report(t *testing.T, states ...protocol.State) {
	t.Helper()
	for _, s := range states {
		b.reported(t, protocol.PastState{State: s})
	}
}

func (b *bench) reported(t *testing.T, s protocol.PastState) {
	t.Helper()
	b.mu.Lock()
	s.Time = b.clock()
	b.row.State, b.row.Error, b.row.Reported = s.State, s.Error, s.Time
	b.row.History = append(b.row.History, s)
	row := b.row
	b.mu.Unlock()
	b.studio.publish(t, protocol.StudioAppState, protocol.Wire(row))
}

// take is write_data, as a device does it.
func (b *bench) take(args []any) error {
	var c protocol.WriteDataArgs
	if err := c.ReadArgs(args); err != nil {
		return contractError(protocol.CodeInvalid, err.Error())
	}
	if c.File != "hello.tgz" || c.Container != "dev_6_hello" {
		return contractError(protocol.CodeInvalid, fmt.Sprintf("an archive %s of %s", c.File, c.Container))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken != nil {
		if err := b.broken(c.Chunk); err != nil {
			b.id = ""
			return err
		}
	}
	switch {
	case c.Chunk == protocol.TransferBegin:
		b.got.Reset()
		b.begun++
		b.id, b.complete = c.ID, false
	case b.id == "":
		return contractError(protocol.CodeNotFound, "We received a chunk without an active transfer")
	case c.ID != b.id:
	case c.Chunk == protocol.TransferEnd:
		if int64(b.got.Len()) != c.Total {
			return contractError(protocol.CodeInvalid, "incomplete")
		}
		b.complete, b.id = true, ""
	default:
		raw, err := hex.DecodeString(c.Chunk)
		if err != nil {
			return contractError(protocol.CodeInvalid, err.Error())
		}
		b.got.Write(raw)
	}
	return nil
}

func contractError(code protocol.Code, text string) error {
	return &messenger.CallError{URI: protocol.ErrorContract, Args: []any{map[string]any{"error": text, "code": string(code)}}}
}

// hello is a folder of that name with a Dockerfile in it.
func hello(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "hello")
	if err := os.Rename(folder(t, files), dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

var someDockerfile = map[string]string{"Dockerfile": "FROM scratch\n", "x": "y"}

func (b *bench) received(t *testing.T) []string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.complete {
		t.Fatal("no whole archive arrived")
	}
	file := filepath.Join(t.TempDir(), "a.tgz")
	if err := os.WriteFile(file, b.got.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return names(t, &packed{file: f, size: int64(b.got.Len())})
}

func TestDevPushBuildsRunsAndFollows(t *testing.T) {
	b := newBench(t)
	b.app = nil
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() {
		end <- b.Run(ctx, []string{"dev", "push", hello(t, someDockerfile), "press-07", "--env", "COLOR=red"})
	}()
	b.stdout.waitFor(t, "hello runs on press-07, ports 8080->8080\n")
	b.stdout.waitFor(t, "hello world\n")
	b.studio.publish(t, devTopic, "a line\nanother")
	b.stdout.waitFor(t, "another\n")
	cancel()
	if err := <-end; !errors.Is(err, context.Canceled) {
		t.Errorf("dev push = %v, want context.Canceled", err)
	}
	if got, want := b.received(t), []string{"Dockerfile", "x"}; !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
	if len(b.wishes) != 2 || b.wishes[0].Target != protocol.Built || b.wishes[0].Compose != nil || b.wishes[0].Environment["COLOR"] != "red" ||
		b.wishes[0].Device != "s1" || b.wishes[0].App != "6" || b.wishes[1].Target != protocol.Running {
		t.Errorf("asked for %+v, want BUILT and then RUNNING", b.wishes)
	}
	if out := b.stdout.String(); !strings.HasPrefix(out, "Step 1/1 : FROM scratch\n") {
		t.Errorf("the build's log is missing:\n%s", out)
	}
	for _, want := range []string{"app hello created", "(Dockerfile): files: 2, size: ", "BUILDING", "BUILT", "RUNNING", "reagent-studio dev stop hello press-07", "reagent-studio logs -f --dev hello press-07"} {
		if !strings.Contains(b.stderr.String(), want) {
			t.Errorf("stderr does not say %q:\n%s", want, b.stderr.String())
		}
	}
}

func TestDevPushOfAComposeAppSendsItsDefinition(t *testing.T) {
	b := newBench(t)
	dir := hello(t, map[string]string{"compose.yaml": "services: {web: {build: web}, cache: {image: redis}}", "web/Dockerfile": "FROM scratch\n"})
	if err := b.run(t, "dev", "push", dir, "press-07", "--detach"); err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(b.wishes[0].Compose)
	if want := `{"services":{"cache":{"image":"redis"},"web":{"build":"web"}}}`; string(got) != want || b.wishes[1].Compose != nil {
		t.Errorf("definition %s, then %v; want %s, and then none", got, b.wishes[1].Compose, want)
	}
	if got, want := b.received(t), []string{"compose.yaml", "web/", "web/Dockerfile"}; !slices.Equal(got, want) {
		t.Errorf("sent %v, want %v", got, want)
	}
}

func TestDevPushForPrograms(t *testing.T) {
	b := newBench(t)
	if err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07", "--detach", "--output", "json"); err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for line := range strings.Lines(b.stdout.String()) {
		var record map[string]any
		if err := json.Unmarshal([]byte(line), &record); err != nil || len(record) != 1 {
			t.Fatalf("the line %q is no record: %v", line, err)
		}
		for kind := range record {
			kinds = append(kinds, kind)
		}
	}
	if !slices.Contains(kinds, "line") || !slices.Contains(kinds, "state") || kinds[len(kinds)-1] != "app" {
		t.Errorf("records %v, want lines and states, and the app at the end", kinds)
	}
}

func TestABuildThatFailsEndsInAnErrorBehindItsLog(t *testing.T) {
	b := newBench(t)
	b.obey = func(b *bench, _ protocol.State) {
		b.report(t, protocol.Stopping, protocol.Present, protocol.Removed, protocol.Building)
		b.reported(t, protocol.PastState{State: protocol.Failed, Error: "COPY failed: \x1bno such file"})
		b.studio.publish(t, devTopic, "the last line") // logs are slower than states
	}
	err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07")
	if want := "hello failed on press-07: COPY failed:  no such file"; err == nil || err.Error() != want {
		t.Errorf("dev push = %v, want %s", err, want)
	}
	if !strings.Contains(b.stdout.String(), "the last line\n") {
		t.Errorf("the end of the log is missing:\n%s", b.stdout.String())
	}
	if len(b.wishes) != 1 {
		t.Errorf("asked for %+v, want nothing after BUILT", b.wishes)
	}
	b = newBench(t)
	b.obey = func(b *bench, _ protocol.State) {
		b.reported(t, protocol.PastState{State: protocol.Failed, Error: "pull access denied for x"})
	}
	if err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07"); err == nil || !strings.Contains(err.Error(), "--login HOST") {
		t.Errorf("a private base image = %v, want a hint at --login", err)
	}
}

func TestCtrlCDuringABuildCancelsIt(t *testing.T) {
	b := newBench(t)
	building := make(chan struct{})
	b.obey = func(b *bench, target protocol.State) {
		if target == protocol.Built {
			b.report(t, protocol.Building)
			close(building)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	end := make(chan error, 1)
	go func() { end <- b.Run(ctx, []string{"dev", "push", hello(t, someDockerfile), "press-07"}) }()
	<-building
	b.stderr.waitFor(t, "BUILDING")
	cancel()
	if err := <-end; !errors.Is(err, context.Canceled) {
		t.Errorf("dev push = %v, want context.Canceled", err)
	}
	if last := b.wishes[len(b.wishes)-1]; len(b.wishes) != 2 || !last.Cancel || last.Target != "" {
		t.Errorf("asked for %+v, want the build and then its end", b.wishes)
	}
}

func TestABuildThatSomebodyElseEnds(t *testing.T) {
	for claim, c := range map[string]struct {
		obey func(b *bench)
		want string
	}{
		"canceled": {func(b *bench) { b.report(t, protocol.Removed, protocol.Building, protocol.Removed) }, "somebody canceled it"},
		"another wish": {func(b *bench) {
			b.report(t, protocol.Building)
			b.mu.Lock()
			b.row.Wished, b.row.Target = b.clock(), protocol.Uninstalled
			b.mu.Unlock()
		}, "somebody else wants hello UNINSTALLED"},
	} {
		b := newBench(t)
		b.obey = func(b *bench, _ protocol.State) { c.obey(b) }
		if err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07"); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: dev push = %v, want %q", claim, err, c.want)
		}
	}
}

func TestAnAppThatEndsEndsTheCommand(t *testing.T) {
	b := newBench(t)
	build := b.obey
	b.obey = func(b *bench, target protocol.State) {
		build(b, target)
		if target == protocol.Running {
			go b.reported(t, protocol.PastState{State: protocol.Failed, Error: "exited with status code 3"})
		}
	}
	if err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07"); err == nil || !strings.Contains(err.Error(), "exited with status code 3") {
		t.Errorf("dev push = %v, want why the app ended", err)
	}
}

func TestDevPushNeedsADeviceThatIsThere(t *testing.T) {
	for device, want := range map[string]string{"cutter": "cutter is not on-line", "nobody": `there is no device "nobody": see "reagent-studio device ls"`} {
		b := newBench(t)
		if err := b.run(t, "dev", "push", hello(t, someDockerfile), device); err == nil || !strings.Contains(err.Error(), want) || b.begun > 0 {
			t.Errorf("%s: dev push = %v after %d uploads, want %q and none", device, err, b.begun, want)
		}
	}
	b := newBench(t)
	b.studio.answers[protocol.StudioDevelopApp] = give(protocol.Wished{App: b.row, Reason: "the device did not take the wish: no such image"})
	if err := b.run(t, "dev", "push", hello(t, someDockerfile), "1"); err == nil || !strings.Contains(err.Error(), "no such image") {
		t.Errorf("a wish that was not taken = %v, want why", err)
	}
}

func TestPublishBuildsPushesAndShowsTheVersion(t *testing.T) {
	b := newBench(t)
	if err := b.run(t, "publish", hello(t, someDockerfile), "press-07", "1.0.0"); err != nil {
		t.Fatal(err)
	}
	if got, want := b.stdout.String(), "pushed\nhello 1.0.0 published for arm64; run it with\n  reagent-studio deploy hello@1.0.0 DEVICE --wait\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if p := b.published; len(p) != 1 || p[0].Version != "1.0.0" || p[0].Device != "s1" || p[0].Replace {
		t.Errorf("asked for %+v", p)
	}
	b.received(t)
	begun := b.begun
	err := b.run(t, "publish", hello(t, someDockerfile), "press-07", "1.0.0")
	if err == nil || !strings.Contains(err.Error(), "--replace") || b.begun != begun {
		t.Errorf("the same version again = %v, want it refused before anything is sent", err)
	}
	if err := b.run(t, "publish", hello(t, someDockerfile), "press-07", "1.0.0", "--replace"); err != nil || !b.published[1].Replace {
		t.Errorf("with --replace = %v", err)
	}
	if err := b.run(t, "publish", hello(t, someDockerfile), "press-07", "1.0.0"); err == nil {
		t.Error("without it it goes through")
	}
}

func TestAPublicationThatTheStudioDoesNotEnterIsAFailure(t *testing.T) {
	b := newBench(t)
	b.obey = func(b *bench, _ protocol.State) {
		b.report(t, protocol.Building, protocol.Publishing)
		b.reported(t, protocol.PastState{State: protocol.Published, Error: "version 1.0.0 was not entered: an image is missing"})
	}
	if err := b.run(t, "publish", hello(t, someDockerfile), "press-07", "1.0.0"); err == nil || !strings.Contains(err.Error(), "an image is missing") {
		t.Errorf("publish = %v, want why there is no version", err)
	}
}

func TestDevStopEndsWhatItIsDoing(t *testing.T) {
	for state, want := range map[protocol.State]protocol.DevelopApp{
		protocol.Running:    {App: "hello", Device: "press-07", Target: protocol.Present},
		protocol.Building:   {App: "hello", Device: "press-07", Cancel: true},
		protocol.Publishing: {App: "hello", Device: "press-07", Cancel: true},
		protocol.Stopping:   {App: "hello", Device: "press-07", Target: protocol.Present},
	} {
		b := newBench(t)
		b.obey = func(*bench, protocol.State) {}
		b.row.State = state
		if err := b.run(t, "dev", "stop", "hello", "press-07"); err != nil || fmt.Sprint(b.wishes) != fmt.Sprint([]protocol.DevelopApp{want}) {
			t.Errorf("%s: asked for %+v, %v; want %+v", state, b.wishes, err, want)
		}
	}
	b := newBench(t)
	b.obey = func(*bench, protocol.State) {}
	for _, c := range []struct {
		flag   string
		target protocol.State
	}{{"--output=table", protocol.Removed}, {"--uninstall", protocol.Uninstalled}} {
		if err := b.run(t, "dev", "remove", "hello", "press-07", c.flag); err != nil || b.wishes[len(b.wishes)-1].Target != c.target {
			t.Errorf("dev remove %s asked for %+v, %v; want %s", c.flag, b.wishes, err, c.target)
		}
	}
}

func TestTheLoginOfARegistryIsLentWhereItIsSaid(t *testing.T) {
	home := t.TempDir()
	t.Setenv("DOCKER_CONFIG", home)
	if err := os.WriteFile(filepath.Join(home, "config.json"), []byte(`{"auths":{"reg.example":{"auth":"bWU6czNjcmV0"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b := newBench(t)
	if err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07", "--no-run", "--login", "reg.example"); err != nil {
		t.Fatal(err)
	}
	if got := b.wishes[0].Credentials; len(got) != 1 || got["reg.example"] != (protocol.RegistryCredential{Username: "me", Password: "s3cret"}) {
		t.Errorf("lent %v, want the login of reg.example", got)
	}
	if strings.Contains(b.stdout.String()+b.stderr.String(), "s3cret") {
		t.Error("the password was printed")
	}
	if err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07", "--login", "other.example"); err == nil || !strings.Contains(err.Error(), "docker login other.example") {
		t.Errorf("a login that is not there = %v, want how to get it", err)
	}
	if err := b.run(t, "dev", "push", hello(t, someDockerfile), "press-07", "--no-run"); err != nil || b.wishes[len(b.wishes)-1].Credentials != nil {
		t.Errorf("nothing was said, and %v was lent (%v)", b.wishes[len(b.wishes)-1].Credentials, err)
	}
}

func TestHowFarAPushIsIsShownWhereSomebodyWatches(t *testing.T) {
	d := newDesk(t)
	v := &view{c: &Call{Program: &d.Program}, watch: true}
	layer := func(id string, current int) string {
		return fmt.Sprintf(`{"status":"Pushing","progressDetail":{"current":%d,"total":2048},"progress":"[=> ]","id":"%s"}`, current, id)
	}
	for _, args := range [][]any{
		{layer("a", 1024) + "\n" + layer("b", 0)},
		{layer("b", 512)},
		{map[string]any{"id": "hello.tgz", "status": "Transfer Progress:", "progress": "12.000%"}},
		{"done"},
		{`{"status":"Pushing","progressDetail":{"current":"x","total":-1},"progress":"?","id":"c"}`},
	} {
		if err := v.event(args); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := d.stderr.String(), "Pushing 1.0 KiB of 4.0 KiB\r\x1b[KPushing 1.5 KiB of 4.0 KiB\r\x1b[K"; got != want {
		t.Errorf("drew %q, want %q", got, want)
	}
	if got := d.stdout.String(); got != "done\n" {
		t.Errorf("printed %q, want the line alone", got)
	}
	v = &view{c: &Call{Program: &d.Program}}
	before := d.stderr.String()
	if err := v.event([]any{layer("a", 1)}); err != nil || d.stderr.String() != before {
		t.Errorf("where nobody watches it drew %q", strings.TrimPrefix(d.stderr.String(), before))
	}
}
