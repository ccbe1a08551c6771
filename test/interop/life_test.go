package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"reagent/internal/testenv"
	"reagent/messenger"
	"reagent/protocol"
	"reagent/test/rig"
)

// wholeLife takes an app through all that an operator can ask of it, on a device
// that is connected, and looks at each turn at what the studio was told, at the
// engine, and at what the app answers.
func wholeLife(t *testing.T, w *world) {
	t.Helper()
	o, e, d := w.operator, w.engine, w.device
	app := e.Prefix + "life"
	l := follow(t, w, app)
	page := []protocol.PortRule{{Main: true, Name: "page", Port: 8080, Protocol: "http"}}
	serves := testenv.App{Env: []string{"TESTAPP_SERVE=8080"}}
	o.Release(app, rig.Release{Version: "1.0.0", Image: serves, Ports: page, Defaults: map[string]any{"GREETING": map[string]any{"defaultValue": "hello"}}})

	// Installed.
	o.Deploy(app, d.Serial, "1.0.0", map[string]any{"NONCE": "n1"})
	l.becomes(protocol.Running, "1.0.0")
	l.tells("DOWNLOADING", "RUNNING")
	row := o.WaitPorts(app, d.Serial, limit)
	l.env(row, map[string]string{"NONCE": "n1", "GREETING": "hello", "ENV": "PROD", "APP_NAME": app, "DEVICE_SERIAL_NUMBER": d.Serial})
	port := row.Ports[0].HostPort

	// Stopped: the container goes, image and data stay.
	kept := filepath.Join(d.AppsDir(), "prod", app, "kept")
	if err := os.WriteFile(kept, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.begin()
	o.Stop(app, d.Serial)
	l.becomes(protocol.Present, "1.0.0")
	l.tells("STOPPING", "PRESENT")
	e.WaitGone(row.ContainerName)
	if got := l.images(); len(got) != 1 {
		t.Errorf("images of a stopped app = %v, want its one", got)
	}

	// Started again, with another variable, at the same port.
	l.begin()
	o.Deploy(app, d.Serial, "", map[string]any{"NONCE": "n2"})
	row = l.becomes(protocol.Running, "1.0.0")
	l.tells("STARTING", "RUNNING")
	if row.Ports[0].HostPort != port {
		t.Errorf("host port = %d after the stop, was %d", row.Ports[0].HostPort, port)
	}
	l.env(row, map[string]string{"NONCE": "n2"})

	// An update that does not stay up gives the old version back.
	o.Release(app, rig.Release{Version: "1.0.1", Image: testenv.App{Env: []string{"TESTAPP_EXIT=7", "TESTAPP_AFTER=100ms"}}, Ports: page})
	l.begin()
	o.Deploy(app, d.Serial, "1.0.1", nil)
	l.tells("UPDATING", "FAILED", "RUNNING canceled")
	row = l.becomes(protocol.Running, "1.0.0")
	l.env(row, map[string]string{"NONCE": "n2", "GREETING": "hello"})

	// Updated.
	o.Release(app, rig.Release{Version: "1.1.0", Image: serves, Ports: page, Defaults: map[string]any{"GREETING": map[string]any{"defaultValue": "good day"}}})
	l.begin()
	o.Deploy(app, d.Serial, "1.1.0", nil)
	row = l.becomes(protocol.Running, "1.1.0")
	l.tells("UPDATING", "PRESENT pending_remote_confirmation", "STARTING", "RUNNING")
	l.env(row, map[string]string{"NONCE": "n2", "GREETING": "good day"})
	if text, err := os.ReadFile(kept); string(text) != "data" {
		t.Errorf("the app's data after the update: %q, %v", text, err)
	}

	// Uninstalled: nothing stays.
	l.begin()
	o.Remove(app, d.Serial, true)
	l.tells("DELETING", "UNINSTALLED")
	testenv.Eventually(t, limit, func() string {
		return fmt.Sprintf("nothing of it is left: %d containers, images %q", l.containers(), l.images())
	}, func() bool {
		return l.containers() == 0 && len(l.images()) == 0
	})
	if row := o.State(app, d.Serial); row.AppKey != 0 {
		t.Errorf("the studio still knows %+v", row)
	}
	testenv.Eventually(t, limit, func() string { return "the app's folder is gone" }, func() bool {
		_, err := os.Stat(filepath.Dir(kept))
		return errors.Is(err, fs.ErrNotExist)
	})
}

const limit = 60 * time.Second

// A lifeOfApp is an app and what the studio tells of it.
type lifeOfApp struct {
	t      *testing.T
	o      *rig.Operator
	engine *testenv.Engine
	device *testenv.Device
	app    string

	mu   sync.Mutex
	told []string // the states of this turn of the app's life
}

// follow listens to what the studio tells of an app.
func follow(t *testing.T, w *world, app string) *lifeOfApp {
	t.Helper()
	l := &lifeOfApp{t: t, o: w.operator, engine: w.engine, device: w.device, app: app}
	w.operator.DeclareTopic(protocol.StudioAppState, "", func(_ context.Context, e messenger.Event) {
		var row protocol.AppOnDeviceRow
		if protocol.Decode(protocol.Arg(e.Args, 0), &row) != nil || row.AppName != app {
			return
		}
		word := string(row.State)
		if row.UpdateStatus != "" && row.UpdateStatus != protocol.UpdateCompleted {
			word += " " + string(row.UpdateStatus)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if len(l.told) == 0 || l.told[len(l.told)-1] != word {
			l.told = append(l.told, word)
		}
	})
	return l
}

// begin begins another turn of the app's life.
func (l *lifeOfApp) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.told = nil
}

func (l *lifeOfApp) reports() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.told)
}

func (l *lifeOfApp) becomes(s protocol.State, version string) protocol.AppOnDeviceRow {
	l.t.Helper()
	return l.o.WaitState(l.app, l.device.Serial, s, version, limit)
}

// tells waits until the studio was told these states in this order.
func (l *lifeOfApp) tells(want ...string) {
	l.t.Helper()
	testenv.Eventually(l.t, limit, func() string { return fmt.Sprintf("the studio was told %q, want %q", l.reports(), want) },
		func() bool { return inOrder(l.reports(), want) })
}

func inOrder(got, want []string) bool {
	for _, word := range got {
		if len(want) > 0 && (word == want[0] || !strings.Contains(want[0], " ") && strings.HasPrefix(word, want[0]+" ")) {
			want = want[1:]
		}
	}
	return len(want) == 0
}

// env asks the app over the host port that the device reported for what is in
// its environment.
func (l *lifeOfApp) env(row protocol.AppOnDeviceRow, want map[string]string) {
	l.t.Helper()
	var got map[string]string
	testenv.Eventually(l.t, limit, func() string {
		return fmt.Sprintf("the app answers %v at port %d: %v", want, row.Ports[0].HostPort, got)
	}, func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		text, err := fetch(ctx, fmt.Sprintf("http://127.0.0.1:%d/", row.Ports[0].HostPort))
		if err != nil || json.Unmarshal(text, &got) != nil {
			return false
		}
		for name, value := range want {
			if got[name] != value {
				return false
			}
		}
		return true
	})
}

func fetch(ctx context.Context, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, errors.New(answer.Status)
	}
	return io.ReadAll(answer.Body)
}

func (l *lifeOfApp) containers() (n int) {
	l.t.Helper()
	list, err := l.engine.API.ContainerList(l.t.Context(), container.ListOptions{All: true})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, c := range list {
		if c.Labels["reagent.app_name"] == l.app {
			n++
		}
	}
	return n
}

func (l *lifeOfApp) images() (tags []string) {
	l.t.Helper()
	list, err := l.engine.API.ImageList(l.t.Context(), image.ListOptions{})
	if err != nil {
		l.t.Fatal(err)
	}
	for _, i := range list {
		for _, tag := range i.RepoTags {
			if strings.Contains(tag, "_"+l.app+":") {
				tags = append(tags, tag)
			}
		}
	}
	return tags
}
