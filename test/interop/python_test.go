package interop

import (
	"bufio"
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"reagent/internal/testenv"
	"reagent/test/rig"
)

//go:embed testdata/session.py
var sessionScript string

// An autobahn is a session of Autobahn|Python, a process of its own.
type autobahn struct {
	t      *testing.T
	orders io.WriteCloser
	says   chan said // all but events

	mu     sync.Mutex
	events []string // first arguments, in their order
	stderr strings.Builder
}

// said is a line of the script.
type said struct {
	Joined     *struct{ Realm, AuthID, AuthRole string }
	Refused    string
	Error      string
	Subscribed string
	Registered string
	Published  string
	Event      string
	Args       []any
	Kwargs     map[string]any

	// Of terminal.py.
	Opened map[string]any
	Found  bool
	Output string
	terminalReport
}

// foreign starts a session with Autobahn|Python and returns it with the first
// thing that it says: joined or refused.
func foreign(t *testing.T, login rig.Login, format string) (*autobahn, said) {
	t.Helper()
	return script(t, sessionScript, login, format)
}

// script is foreign for another script than the usual one.
func script(t *testing.T, text string, login rig.Login, format string, args ...string) (*autobahn, said) {
	t.Helper()
	cmd := testenv.Python(t, text, append([]string{login.URL, login.Realm, login.AuthID, format}, args...)...)
	cmd.Env = append(cmd.Env, "SECRET="+login.Secret)
	a := &autobahn{t: t, says: make(chan said, 100)}
	out, err := cmd.StdoutPipe()
	if err == nil {
		a.orders, err = cmd.StdinPipe()
	}
	cmd.Stderr = &lockedWriter{&a.mu, &a.stderr}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatalf("start Autobahn: %v", err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.listen(out)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = a.orders.Close() // it leaves
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	})
	return a, a.next()
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l *lockedWriter) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(b)
}

func (a *autobahn) listen(out io.Reader) {
	defer close(a.says)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 32<<20)
	for lines.Scan() {
		var s said
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			s = said{Refused: fmt.Sprintf("%v: %s", err, lines.Text())}
		}
		if s.Event == "" {
			a.says <- s
			continue
		}
		a.mu.Lock()
		if len(s.Args) > 0 {
			a.events = append(a.events, fmt.Sprint(s.Args[0]))
		}
		a.mu.Unlock()
	}
}

func (a *autobahn) next() said {
	a.t.Helper()
	select {
	case s, open := <-a.says:
		if open {
			return s
		}
	case <-time.After(3 * limit): // longer than it may be told to wait
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.t.Fatalf("Autobahn says nothing more:\n%s", a.stderr.String())
	return said{}
}

// does gives an order and returns the answer.
func (a *autobahn) does(order map[string]any) said {
	a.t.Helper()
	line, err := json.Marshal(order)
	if err == nil {
		_, err = a.orders.Write(append(line, '\n'))
	}
	if err != nil {
		a.t.Fatalf("tell Autobahn %v: %v", order, err)
	}
	return a.next()
}

// call calls a procedure.
func (a *autobahn) call(uri string, args []any, kwargs map[string]any) said {
	a.t.Helper()
	order := map[string]any{"call": uri}
	if args != nil {
		order["args"] = args
	}
	if kwargs != nil {
		order["kwargs"] = kwargs
	}
	return a.does(order)
}

// heard is all events so far, one line each.
func (a *autobahn) heard() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return strings.Split(strings.Join(a.events, "\n"), "\n")
}
