package main

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/gammazero/nexus/v3/client"
	"github.com/gammazero/nexus/v3/wamp"

	"reagent/internal/testenv"
	"reagent/protocol"
)

const (
	strokes  = 500    // keys that are pressed, one after another
	pages    = 5      // times that lines are printed
	openings = 10     // of shells
	printed  = 20_000 // lines a page
)

// terminals measures shells of the device and of a container: the echo of a key
// beside the bare call of the same moment, a page of output, the opening.
func (l *lab) terminals(t *stage) []figure {
	l.startEcho(t)
	y := l.openYard(t)
	d := l.newDevice(t, l.router.addr, y.registry.Host)
	a := l.connect(t, d)
	defer a.stop()
	app := y.push(t, testenv.App{Shell: true})
	mark := l.witness.mark()
	y.want(t, d, app, protocol.Running)
	l.await(t, mark, app.reported(protocol.Running))

	var figures []figure
	for _, k := range []struct{ name, about, container string }{
		{"host", "shell of the device", ""},
		{"container", "shell in a container", app.container},
	} {
		var opening, floor, bare, echo, page sample
		direct := func() {} // the same key, without us
		if k.container != "" {
			direct = bareExec(t, y.engine, k.container, &bare)
		}
		for i := range openings {
			l.progress.say("terminals, %s: opening %d of %d", k.about, i+1, openings)
			s, took := openTerminal(t, y.system, d.Serial, k.container)
			opening.add(took)
			s.leave()
		}
		s, _ := openTerminal(t, y.system, d.Serial, k.container)
		for i := range strokes {
			if i%50 == 0 {
				l.progress.say("terminals, %s: key %d of %d", k.about, i, strokes)
				s.types("\x15") // the line does not grow
				l.rest(t, 20*time.Millisecond)
				s.output.Reset()
			}
			begun := time.Now()
			if _, err := y.system.Call(t.ctx, echoProcedure, nil, nil, nil, nil); err != nil {
				t.Fatalf("call the echo: %v", err)
			}
			floor.add(time.Since(begun))
			direct()
			echo.add(s.echo("x"))
		}
		s.types("\x15")
		lost := 0
		for i := range pages {
			l.progress.say("terminals, %s: page %d of %d", k.about, i+1, pages)
			took, missing := s.page()
			page.add(took)
			lost += missing
		}
		s.leave()
		name := "terminals." + k.name
		figures = append(figures,
			median(name+".open", k.about+", opening", "ms", opening),
			median(name+".echo.p50", k.about+", echo of a key, p50", "ms", echo),
			ofMany(name+".echo.p99", k.about+", echo of a key, p99", "ms", echo.quantile(0.99), echo),
			median(name+".floor", "bare call in turns with it, p50", "ms", floor),
			single(name+".echo.ratio", "echo of a key to the bare call, p50", "×", echo.median()/floor.median()),
			median(name+".page", fmt.Sprintf("%s, %d lines", k.about, printed), "ms", page),
			single(name+".lost", "… of which never came, in all pages", "lines", float64(lost)))
		if len(bare) > 0 {
			figures = append(figures, median(name+".engine", "echo of a key from the engine itself, p50", "ms", bare))
		}
	}
	return figures
}

// bareExec opens the shell of a container at the engine, and returns what presses
// a key there and notes how long its echo takes.
func bareExec(t *stage, e *testenv.Engine, name string, took *sample) func() {
	made, err := e.API.ContainerExecCreate(t.ctx, name, container.ExecOptions{Cmd: []string{"sh"}, Tty: true, AttachStdin: true, AttachStdout: true})
	if err != nil {
		t.Fatalf("open a shell in %s: %v", name, err)
	}
	x, err := e.API.ContainerExecAttach(t.ctx, made.ID, container.ExecAttachOptions{Tty: true})
	if err != nil {
		t.Fatalf("open a shell in %s: %v", name, err)
	}
	t.Cleanup(x.Close)
	piece := make([]byte, 4<<10)
	press := func(keys, shown string) {
		_, err := x.Conn.Write([]byte(keys))
		for seen := ""; err == nil && !strings.Contains(seen, shown); {
			var n int
			n, err = x.Reader.Read(piece)
			seen += string(piece[:n])
		}
		if err != nil {
			t.Fatalf("a shell in %s: %v", name, err)
		}
	}
	press("echo re''ady\r", "ready\r\n")
	pressed := 0
	return func() {
		if pressed++; pressed%50 == 0 { // the line does not grow
			press("\x15\recho ba''ck\r", "back\r\n")
		}
		begun := time.Now()
		press("x", "x")
		took.add(time.Since(begun))
	}
}

// A remote is a shell as its user has it.
type remote struct {
	t      *stage
	user   *client.Client
	at     protocol.TerminalSession
	events chan []byte
	output bytes.Buffer // not looked at yet
}

// openTerminal opens a shell and waits until it takes keys. It says how long the
// calls took that open it.
func openTerminal(t *stage, user *client.Client, serial, container string) (*remote, time.Duration) {
	s := &remote{t: t, user: user, events: make(chan []byte, 1<<16)}
	call := func(suffix string, in wamp.Dict) any {
		r, err := user.Call(t.ctx, protocol.Procedure(serial, suffix), nil, wamp.List{in}, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", suffix, err)
		}
		return protocol.Arg(r.Arguments, 0)
	}
	begun := time.Now()
	var answer any
	if container == "" {
		answer = call(protocol.InitDeviceTerminal, wamp.Dict{})
	} else {
		answer = call(protocol.RequestTerminal, wamp.Dict{"containerName": container})
	}
	took := time.Since(begun)
	if err := protocol.Decode(answer, &s.at); err != nil {
		t.Fatalf("open a shell: %v", err)
	}
	err := user.Subscribe(s.at.DataTopic, func(e *wamp.Event) {
		if data, ok := protocol.TerminalBytes(protocol.Arg(e.Arguments, 0), container != ""); ok {
			s.events <- data
		}
	}, nil)
	if err != nil {
		t.Fatalf("listen to a shell: %v", err)
	}
	if container != "" {
		begun = time.Now()
		call(protocol.StartTerminal, wamp.Dict{"sessionID": s.at.SessionID, "registrationID": 0})
		took += time.Since(begun)
	}
	s.types(" unset HISTFILE; echo re''ady\r")
	s.until("ready\r\n")
	return s, took
}

func (s *remote) types(keys string) {
	if err := s.user.Publish(s.at.WriteTopic, nil, wamp.List{keys}, nil); err != nil {
		s.t.Fatalf("type: %v", err)
	}
}

// until waits for a text in the output and returns what was before it.
func (s *remote) until(text string) string {
	late := time.NewTimer(stepLimit)
	defer late.Stop()
	for from := 0; ; {
		if at := bytes.Index(s.output.Bytes()[from:], []byte(text)); at >= 0 {
			before := string(s.output.Next(from + at))
			s.output.Next(len(text))
			return before
		}
		from = max(0, s.output.Len()-len(text))
		select {
		case data := <-s.events:
			s.output.Write(data)
		case <-late.C:
			s.t.Fatalf("the shell never printed %q", text)
		case <-s.t.ctx.Done():
			s.t.Fatal(s.t.ctx.Err())
		}
	}
}

// echo presses a key and waits until it is shown.
func (s *remote) echo(key string) time.Duration {
	begun := time.Now()
	s.types(key)
	s.until(key)
	return time.Since(begun)
}

// page has many lines printed, and says how many of them did not come.
func (s *remote) page() (took time.Duration, missing int) {
	begun := time.Now()
	s.types(fmt.Sprintf("seq 1 %d; echo do''ne\r", printed))
	output := s.until("done\r\n")
	took = time.Since(begun)
	got := map[string]bool{}
	for line := range strings.SplitSeq(output, "\r\n") {
		got[line[strings.LastIndexByte(line, '\r')+1:]] = true // a shell steers the terminal before the first
	}
	for n := range printed {
		if !got[fmt.Sprint(n+1)] {
			missing++
		}
	}
	return took, missing
}

// leave ends the shell and waits for its last word.
func (s *remote) leave() {
	s.types("exit\r")
	s.until(protocol.TerminalEOF)
	if err := s.user.Unsubscribe(s.at.DataTopic); err != nil {
		s.t.Fatalf("leave a shell: %v", err)
	}
}
