package interop

import (
	_ "embed"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/protocol"
	"reagent/test/rig"
)

//go:embed testdata/terminal.py
var terminalScript string

// crossbarColleague is the secret of the second account where Crossbar.io, which
// knows its users beforehand, is the router.
const crossbarColleague = "Y29sbGVhZ3Vl"

// colleague is another account that has every right on the world's device.
func (w *world) colleague(t *testing.T) rig.Login {
	t.Helper()
	added := rig.Ask[protocol.UserAdded](w.operator, protocol.StudioAddUser, protocol.AddUser{Name: "colleague"})
	for _, right := range []protocol.Privilege{protocol.Develop, protocol.Maintain} {
		rig.Ask[protocol.AccountRow](w.operator, protocol.StudioGrantPrivilege, protocol.GrantArgs{User: "colleague", Device: w.device.Serial, Privilege: right})
	}
	login := w.login
	login.AuthID, login.Secret = added.Profile.AuthID, added.Profile.Secret
	if w.studio == nil {
		login.Secret = crossbarColleague
	}
	return login
}

// behind puts a relay between the device and its router.
func (w *world) behind(t *testing.T) *testenv.Relay {
	t.Helper()
	host := strings.TrimPrefix(w.file.DeviceEndpointURL, "ws://")
	host, path, _ := strings.Cut(host, "/")
	relay := testenv.NewRelay(t, host)
	content := w.file
	content.DeviceEndpointURL = "ws://" + relay.Addr() + "/" + path
	if err := os.WriteFile(w.device.File, rig.DeviceFile(t, content), 0o600); err != nil {
		t.Fatal(err)
	}
	return relay
}

// away cuts a relay's links and lets none through for as long as said. It returns
// at once; done is closed when the way is free again.
func away(relay *testenv.Relay, target string, d time.Duration) (done chan struct{}) {
	done = make(chan struct{})
	relay.SetTarget("127.0.0.1:1")
	relay.Cut()
	time.AfterFunc(d, func() { relay.SetTarget(target); close(done) })
	return done
}

// withShell runs an app that has a shell on the world's device, and returns the
// name of its container.
func (w *world) withShell(t *testing.T) (app, container string) {
	t.Helper()
	app = w.engine.Prefix + "shells"
	w.operator.Release(app, rig.Release{Version: "1.0.0", Image: testenv.App{Shell: true}})
	w.operator.Deploy(app, w.device.Serial, "1.0.0", nil)
	return app, w.operator.WaitState(app, w.device.Serial, protocol.Running, "1.0.0", limit).ContainerName
}

// A person is somebody at a terminal of Autobahn|Python.
type person struct {
	*autobahn
	t *testing.T
}

func atTerminal(t *testing.T, w *world, login rig.Login, format string) *person {
	t.Helper()
	user, hello := script(t, terminalScript, login, format, w.device.Serial)
	if hello.Joined == nil {
		t.Fatalf("Autobahn says %+v, want that it joined", hello)
	}
	return &person{user, t}
}

// tells gives an order that has to be done.
func (p *person) tells(order map[string]any) said {
	p.t.Helper()
	got := p.does(order)
	if got.Error != "" {
		p.t.Fatalf("%v: %s %v", order, got.Error, got.Args)
	}
	return got
}

// begins waits until the shell takes commands: what the machine's owner has in his
// profile may take its time.
func (p *person) begins() {
	p.t.Helper()
	p.types(" unset HISTFILE; echo re''ady\r")
	got := p.tells(map[string]any{"until": "ready", "within": (2 * limit).Seconds()})
	if !got.Found {
		p.t.Fatalf("the shell does not begin: %q", got.Output)
	}
}

func (p *person) types(text string) { p.t.Helper(); p.tells(map[string]any{"type": text}) }

// reads waits for a text in the output, and returns all up to it.
func (p *person) reads(text string) string {
	p.t.Helper()
	got := p.tells(map[string]any{"until": text, "within": (2 * limit).Seconds()})
	if !got.Found {
		p.t.Fatalf("no %q in the output, but %q", text, got.Output)
	}
	return got.Output
}

// refused gives an order that must not be done, for a reason.
func (p *person) refused(order map[string]any, why string) {
	p.t.Helper()
	got := p.does(order)
	text := fmt.Sprint(got.Args...)
	if got.Error != protocol.ErrorContract || !strings.Contains(text, why) {
		p.t.Errorf("%v: %+v, want a refusal with %q", order, got, why)
	}
}

func (p *person) report() (r terminalReport) {
	p.t.Helper()
	return p.tells(map[string]any{"report": true}).terminalReport
}

// A terminalReport is what a terminal of Autobahn counted.
type terminalReport struct{ Events, Bytes, Ends, Gaps, Broken, Longest int }

func TestAutobahnUsesShellsOfADeviceAndOfAContainer(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, w *world) {
		way := w.behind(t)
		w.start(t)
		_, container := w.withShell(t)
		colleague := w.colleague(t)
		much, little := 1_400_000, 100_000 // lines: 10.4 MB with their ends; each router has one of both
		if w.studio == nil {
			much, little = little, much
		}
		for _, c := range []struct {
			name, container, format string
			lines                   int
		}{
			{"device", "", "json", much}, {"container", container, "json", little}, {"container in MessagePack", container, "msgpack", 0},
		} {
			t.Run(c.name, func(t *testing.T) {
				me, other := atTerminal(t, w, w.login, c.format), atTerminal(t, w, colleague, c.format)
				at := me.tells(map[string]any{"open": c.container}).Opened
				me.begins()
				edits(me)
				passesText(t, me)
				tellsSize(t, me)
				isPrivate(t, me, other, at)
				if c.lines > 0 {
					losesNothing(t, me, w, way, c.lines)
				}
				ends(t, me)
			})
		}
	})
}

// edits uses the history and the cursor keys.
func edits(me *person) {
	me.types("echo va''lue1\r")
	me.reads("value1")
	me.types("\x1b[A\r") // the line above, once more
	me.reads("value1")
	me.types("echo a''c\x1b[Db\r") // one to the left
	me.reads("abc")
}

func passesText(t *testing.T, me *person) {
	t.Helper()
	me.types("echo wai''ting; cat\r") // a line that came before would be the shell's
	me.reads("waiting")
	me.types("ü€😀\r")
	me.reads("ü€😀\r\nü€😀\r\n")
	me.types("\x04")
	const times = 3000
	me.types(fmt.Sprintf("echo be''gin; i=0; while [ $i -lt %d ]; do printf 'a€ä😀'; i=$((i+1)); done; echo fi''nished\r", times))
	me.reads("begin")
	if got := strings.Count(me.reads("finished"), "a€ä😀"); got != times {
		t.Errorf("%d times came whole, want %d", got, times)
	}
	if r := me.report(); r.Broken != 0 || r.Longest > 32<<10 {
		t.Errorf("%+v, want nothing broken and short events", r)
	}
}

func tellsSize(t *testing.T, me *person) {
	t.Helper()
	me.tells(map[string]any{"resize": []any{40, 123}})
	me.types("stty size\r")
	me.reads("40 123")
	me.tells(map[string]any{"resize": []any{41.0, 0}}) // a zero changes nothing
	me.types("stty size\r")
	me.reads("40 123")
	me.refused(map[string]any{"resize": []any{-1, 80}}, "failed to parse height")
	me.refused(map[string]any{"resize": []any{24, "wide"}}, "failed to parse width")
}

// isPrivate lets a colleague with the same rights try to take part.
func isPrivate(t *testing.T, me, other *person, at map[string]any) {
	t.Helper()
	before := me.report()
	other.tells(map[string]any{"overhear": at})
	other.types("echo in''truder\r")
	other.refused(map[string]any{"resize": []any{10, 10}}, "insufficient privileges to use this terminal session")
	if before.Ends != 0 {
		t.Fatalf("%+v, want no end so far", before)
	}
	me.types("stty size; echo st''ill\r")
	if got := me.reads("still"); strings.Contains(got, "in''truder") || strings.Contains(got, "intruder") || !strings.Contains(got, "40 123") {
		t.Errorf("the colleague reaches the shell: %q", got)
	}
	if strings.Contains(fmt.Sprint(at["dataTopic"]), "term_data") {
		other.refused(map[string]any{"stop": true}, "insufficient privileges to use this terminal session")
	}
	if r := other.report(); r.Events != 0 {
		t.Errorf("the colleague got %d events", r.Events)
	}
}

// losesNothing prints a lot for a slow reader, while the device's link is cut.
func losesNothing(t *testing.T, me *person, w *world, way *testenv.Relay, lines int) {
	t.Helper()
	me.tells(map[string]any{"flow": true, "slow": 1})
	me.types(fmt.Sprintf("seq 1 %d; echo do''ne\r", lines))
	me.reads("\r\n10000\r\n")
	target := strings.TrimPrefix(w.file.DeviceEndpointURL, "ws://")
	target, _, _ = strings.Cut(target, "/")
	back := away(way, target, time.Second)
	output := me.reads("\r\ndone")
	<-back
	next := 10_001
	for line := range strings.SplitSeq(strings.TrimSuffix(output, "\r\ndone"), "\r\n") {
		if line != fmt.Sprint(next) {
			t.Fatalf("line %d is %.60q", next, line)
		}
		next++
	}
	if next-1 != lines {
		t.Errorf("the last line is %d, want %d", next-1, lines)
	}
	if _, total := way.Links(); total < 2 {
		t.Errorf("%d links of the device, want that the first was cut", total)
	}
}

// ends leaves the shell, with something in the background.
func ends(t *testing.T, me *person) {
	t.Helper()
	begun := time.Now()
	me.types("sleep 1000 &\r")
	me.types("exit\r")
	testenv.Eventually(t, limit, func() string { return fmt.Sprintf("one end: %+v", me.report()) }, func() bool { return me.report().Ends > 0 })
	if took := time.Since(begun); took > 9*time.Second {
		t.Errorf("the end came after %v, as if it waited for the background", took)
	}
	if r := me.report(); r.Ends != 1 {
		t.Errorf("%d ends, want one", r.Ends)
	}
}
