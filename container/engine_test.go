package container_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	dockercontainer "github.com/docker/docker/api/types/container"

	"reagent/container"
	"reagent/internal/testenv"
)

func TestRunIsTwoRoundTrips(t *testing.T) {
	docker, _, image := realEngine(t, testenv.App{})
	wire := tap(t, docker.Host)
	e := newEngine(t, wire.host)
	run(t, e, container.Spec{Name: docker.Prefix + "-first", Image: image})
	wire.take()
	run(t, e, container.Spec{Name: docker.Prefix + "-second", Image: image})
	got := wire.take()
	if len(got) != 2 || !strings.Contains(got[0].line, "/containers/create?") || !strings.HasSuffix(got[1].line, "/start") {
		t.Errorf("requests of the second run: %v, want create and start", got)
	}
}

func TestContainerIsAsSpecified(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{Env: []string{"FROM_IMAGE=1"}})
	port, dir := freePort(t), t.TempDir()
	name := docker.Prefix + "-app"
	id := run(t, e, container.Spec{
		Name:        name,
		Image:       image,
		Env:         []string{"TESTAPP_SERVE=8080", "TWICE=first", "EMPTY=", "TWICE=last"},
		Labels:      map[string]string{"real": "True"},
		TTY:         true,
		NetworkMode: "bridge",
		ExtraHosts:  []string{"host.docker.internal:host-gateway"},
		Mounts:      []container.Mount{{Source: dir, Target: "/data"}, {Source: dir, Target: "/ro", ReadOnly: true}},
		Ports:       []container.Port{{Container: 8080, Host: port, Protocol: "tcp"}},
	})
	c := inspect(t, e, name)
	if c.ID != id || c.Name != name || c.Image != image || c.Status != container.StatusRunning || !c.TTY || c.Privileged {
		t.Errorf("inspect = %+v", c)
	}
	if c.Labels["real"] != "True" || c.NetworkMode != "bridge" || c.Started.IsZero() || !c.Finished.IsZero() {
		t.Errorf("inspect = %+v", c)
	}
	if want := []container.Port{{Container: 8080, Host: port, Protocol: "tcp"}}; !slices.Equal(c.Ports, want) {
		t.Errorf("ports = %v, want %v", c.Ports, want)
	}
	mounts := slices.SortedFunc(slices.Values(c.Mounts), func(a, b container.Mount) int { return strings.Compare(a.Target, b.Target) })
	if want := []container.Mount{{Source: dir, Target: "/data"}, {Source: dir, Target: "/ro", ReadOnly: true}}; !slices.Equal(mounts, want) {
		t.Errorf("mounts = %v, want %v", mounts, want)
	}

	var environment map[string]string
	testenv.WaitFor(t, "the app answers", func() bool {
		answer, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/", port))
		if err != nil {
			return false
		}
		defer answer.Body.Close()
		return json.NewDecoder(answer.Body).Decode(&environment) == nil
	})
	http.DefaultClient.CloseIdleConnections()
	for name, want := range map[string]string{"TWICE": "last", "EMPTY": "", "FROM_IMAGE": "1"} {
		if got, ok := environment[name]; !ok || got != want {
			t.Errorf("%s = %q (%t), want %q", name, got, ok, want)
		}
	}

	raw, err := docker.API.ContainerInspect(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if got := raw.HostConfig.RestartPolicy.Name; got != dockercontainer.RestartPolicyDisabled {
		t.Errorf("restart policy = %q, want no", got)
	}
	if got := raw.HostConfig.PortBindings["8080/tcp"]; len(got) != 1 || got[0].HostIP != "0.0.0.0" {
		t.Errorf("bindings = %v, want one on 0.0.0.0", got)
	}
	if got := raw.HostConfig.ExtraHosts; !slices.Equal(got, []string{"host.docker.internal:host-gateway"}) {
		t.Errorf("extra hosts = %v", got)
	}
}

func TestStopKillsAfterTheGraceOnly(t *testing.T) {
	t.Parallel() // mostly waits
	docker, e, image := realEngine(t, testenv.App{})
	polite := run(t, e, container.Spec{Name: docker.Prefix + "-polite", Image: image})
	deaf := run(t, e, container.Spec{Name: docker.Prefix + "-deaf", Image: image, Env: []string{"TESTAPP_IGNORE_TERM=1"}})
	waitForLine(t, e, polite, "ready")
	waitForLine(t, e, deaf, "ready")

	for id, want := range map[string]int{polite: 0, deaf: 137} {
		exit := make(chan int, 1)
		go func() {
			code, err := e.Wait(t.Context(), id)
			if err != nil {
				t.Error(err)
			}
			exit <- code
		}()
		if err := e.Stop(t.Context(), id, time.Second); err != nil {
			t.Fatal(err)
		}
		if got := <-exit; got != want {
			t.Errorf("exit code = %d, want %d", got, want)
		}
		c := inspect(t, e, id)
		if c.Status != container.StatusExited || c.ExitCode != want || c.Finished.IsZero() {
			t.Errorf("after the stop: %+v", c)
		}
		if err := e.Stop(t.Context(), id, 0); err != nil {
			t.Errorf("second stop = %v, want nil", err)
		}
	}
	if err := e.Start(t.Context(), polite); err != nil {
		t.Fatal(err)
	}
	if err := e.Start(t.Context(), polite); err != nil {
		t.Errorf("start of a running one = %v, want nil", err)
	}
}

func TestNamesAndIdsMatchExactly(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	name := docker.Prefix + "-app"
	id, _, err := e.Create(t.Context(), container.Spec{Name: name, Image: image})
	if err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, e, id).Name; got != name {
		t.Errorf("name = %q, want %q", got, name)
	}
	for _, other := range []string{id[:12], name[:len(name)-1], name + "x", "", ".", "..", "a/b", "../" + name, "-x", name + "/json?x=", "ä"} {
		if _, err := e.Inspect(t.Context(), other); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("inspect %q = %v, want ErrNotFound", other, err)
		}
		if err := e.Remove(t.Context(), other); err != nil {
			t.Errorf("remove %q = %v, want nil: there is none", other, err)
		}
		if err := e.Start(t.Context(), other); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("start %q = %v, want ErrNotFound", other, err)
		}
		if _, err := e.Wait(t.Context(), other); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("wait %q = %v, want ErrNotFound", other, err)
		}
	}
	if got := inspect(t, e, name).ID; got != id {
		t.Errorf("id = %s, want %s: another name touched it", got, id)
	}
}

func TestTakenNameIsAConflict(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	one, two := docker.Prefix+"-one", docker.Prefix+"-two"
	first := run(t, e, container.Spec{Name: one, Image: image})
	if _, _, err := e.Run(t.Context(), container.Spec{Name: one, Image: image}); !errors.Is(err, container.ErrConflict) {
		t.Errorf("run = %v, want ErrConflict", err)
	}
	run(t, e, container.Spec{Name: two, Image: image})
	if err := e.Rename(t.Context(), two, one); !errors.Is(err, container.ErrConflict) {
		t.Errorf("rename = %v, want ErrConflict", err)
	}
	if got := inspect(t, e, one); got.ID != first || got.Status != container.StatusRunning {
		t.Errorf("the first owner of the name is %+v", got)
	}
}

func TestParkedContainerGivesItsNameAway(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	name := docker.Prefix + "-app"
	old := run(t, e, container.Spec{Name: name, Image: image})
	parked := docker.Prefix + "-parked-" + old
	if err := e.Rename(t.Context(), old, parked); err != nil {
		t.Fatal(err)
	}
	fresh := run(t, e, container.Spec{Name: name, Image: image})
	if got := inspect(t, e, parked).ID; got != old {
		t.Errorf("parked = %s, want %s", got, old)
	}
	if err := e.Remove(t.Context(), fresh); err != nil {
		t.Fatal(err)
	}
	if err := e.Rename(t.Context(), old, name); err != nil {
		t.Fatal(err)
	}
	if got := inspect(t, e, name); got.ID != old || got.Status != container.StatusRunning {
		t.Errorf("back under its name: %+v, want %s running", got, old)
	}
}

func TestTakenPortIsNamedAndNothingIsLeft(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	held, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	byProcess := uint16(held.Addr().(*net.TCPAddr).Port)
	byContainer := freePort(t)
	publish := func(p uint16) []container.Port { return []container.Port{{Container: 80, Host: p, Protocol: "tcp"}} }
	run(t, e, container.Spec{Name: docker.Prefix + "-holder", Image: image, Ports: publish(byContainer)})

	name := docker.Prefix + "-app"
	for what, port := range map[string]uint16{"process": byProcess, "container": byContainer} {
		_, _, err := e.Run(t.Context(), container.Spec{Name: name, Image: image, Ports: publish(port)})
		var taken *container.PortError
		if !errors.Is(err, container.ErrPortTaken) || !errors.As(err, &taken) || !slices.Equal(taken.Ports, []uint16{port}) {
			t.Errorf("port held by a %s: %v, want a PortError of %d", what, err, port)
		}
		if _, err := e.Inspect(t.Context(), name); !errors.Is(err, container.ErrNotFound) {
			t.Errorf("port held by a %s: a container is left (%v)", what, err)
		}
	}
}

func TestRemoveIsDoneWhenItIsGone(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	id := run(t, e, container.Spec{Name: docker.Prefix + "-app", Image: image})
	const many = 8
	done := make(chan error, many)
	for range many {
		go func() {
			err := e.Remove(t.Context(), id)
			if err == nil {
				if _, gone := e.Inspect(t.Context(), id); !errors.Is(gone, container.ErrNotFound) {
					err = fmt.Errorf("it is still there: %v", gone)
				}
			}
			done <- err
		}()
	}
	for range many {
		if err := <-done; err != nil {
			t.Errorf("remove = %v, want nil", err)
		}
	}
}

func TestFailedStartSaysWhyAndLeavesNothing(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	name := docker.Prefix + "-app"
	_, note, err := e.Run(t.Context(), container.Spec{
		Name: name, Image: image, Privileged: true,
		Mounts: []container.Mount{{Source: t.TempDir(), Target: "/testapp"}}, // a folder where the program was
	})
	if err == nil || !strings.Contains(err.Error(), "/testapp") || note != "" {
		t.Errorf("run = %q, %v, want an error about /testapp", note, err)
	}
	if _, err := e.Inspect(t.Context(), name); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("a container is left: %v", err)
	}
	if _, _, err := e.Run(t.Context(), container.Spec{Name: name, Image: docker.Prefix + "/nothing:1"}); !errors.Is(err, container.ErrNotFound) {
		t.Errorf("run of an unknown image = %v, want ErrNotFound", err)
	}
}

func TestCancelledCallStaysCancelled(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := e.Run(ctx, container.Spec{Name: docker.Prefix + "-app", Image: image}); !errors.Is(err, context.Canceled) {
		t.Errorf("run = %v, want context.Canceled", err)
	}
	if _, err := e.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("ping = %v, want context.Canceled", err)
	}
}

func TestHealthIsSeen(t *testing.T) {
	t.Parallel() // mostly waits
	docker, e, image := realEngine(t, testenv.App{Health: 100 * time.Millisecond})
	well := run(t, e, container.Spec{Name: docker.Prefix + "-well", Image: image})
	sick := run(t, e, container.Spec{Name: docker.Prefix + "-sick", Image: image, Env: []string{"TESTAPP_UNHEALTHY=0s"}})
	for id, want := range map[string]container.Health{well: container.HealthHealthy, sick: container.HealthUnhealthy} {
		testenv.WaitFor(t, string(want), func() bool { return inspect(t, e, id).Health == want })
	}
}

func TestListIsByLabelAndHoldsStoppedOnes(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	label := docker.Prefix + ".key"
	a := run(t, e, container.Spec{Name: docker.Prefix + "-a", Image: image, Labels: map[string]string{label: "1", "x": "y"}})
	b, _, err := e.Create(t.Context(), container.Spec{Name: docker.Prefix + "-b", Image: image, Labels: map[string]string{label: "2"}})
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		value string
		want  []string
	}{{"1", []string{a}}, {"2", []string{b}}, {"3", nil}, {"", []string{a, b}}} {
		found, err := e.List(t.Context(), map[string]string{label: test.value})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, c := range found {
			ids = append(ids, c.ID)
		}
		slices.Sort(ids)
		slices.Sort(test.want)
		if !slices.Equal(ids, test.want) {
			t.Errorf("label %q: %v, want %v", test.value, ids, test.want)
		}
	}
	found, err := e.List(t.Context(), map[string]string{label: "2"})
	if err != nil || len(found) != 1 {
		t.Fatalf("list = %v, %v", found, err)
	}
	if c := found[0]; c.Name != docker.Prefix+"-b" || c.Status != container.StatusCreated || c.Image != image || time.Since(c.Created) > time.Hour {
		t.Errorf("summary = %+v", c)
	}
}

func TestSummariesAreTheEnginesOwn(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	id, _, err := e.Create(t.Context(), container.Spec{Name: docker.Prefix + "-app", Image: image})
	if err != nil {
		t.Fatal(err)
	}
	rows, err := e.Summaries(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(rows, func(row map[string]any) bool { return row["Id"] == id })
	if i < 0 {
		t.Fatalf("%s is not in the list", id)
	}
	row := rows[i]
	for _, key := range []string{"Id", "Names", "Image", "ImageID", "Command", "Created", "Ports", "Labels", "State", "Status", "HostConfig", "NetworkSettings", "Mounts"} {
		if row[key] == nil {
			t.Errorf("%s = nil: %v", key, row)
		}
	}
	if created, ok := row["Created"].(int64); !ok || created < 1e9 {
		t.Errorf("Created = %v (%T), want an int64", row["Created"], row["Created"])
	}
	if names, ok := row["Names"].([]any); !ok || len(names) != 1 || names[0] != "/"+docker.Prefix+"-app" {
		t.Errorf("Names = %v", row["Names"])
	}
}

func TestEventsTellALife(t *testing.T) {
	docker, e, image := realEngine(t, testenv.App{})
	ctx, cancel := context.WithCancel(t.Context())
	up, events, done := make(chan struct{}), make(chan container.Event, 100), make(chan error, 1)
	name := docker.Prefix + "-app"
	go func() {
		done <- e.Events(ctx, func() { close(up) }, func(ev container.Event) {
			if strings.Contains(ev.Name+ev.OldName, docker.Prefix) {
				events <- ev
			}
		})
	}()
	<-up
	id := run(t, e, container.Spec{Name: name, Image: image, Labels: map[string]string{"a": "b"}, Env: []string{"TESTAPP_EXIT=3"}})
	if _, err := e.Wait(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	if err := e.Rename(t.Context(), id, name+"2"); err != nil {
		t.Fatal(err)
	}
	if err := e.Remove(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{"a": "b", "testenv": docker.Prefix} // the container's and its image's
	var got []string
	for len(got) < 5 {
		select {
		case ev := <-events:
			got = append(got, ev.Action)
			if ev.ID != id || !maps.Equal(ev.Labels, labels) || time.Since(ev.Time) > time.Hour {
				t.Errorf("event = %+v", ev)
			}
			if ev.Action == "die" && ev.ExitCode != 3 {
				t.Errorf("exit code = %d, want 3", ev.ExitCode)
			}
			if ev.Action == "rename" && (ev.OldName != name || ev.Name != name+"2") {
				t.Errorf("rename = %+v", ev)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("events so far: %v", got)
		}
	}
	if want := []string{"create", "start", "die", "rename", "destroy"}; !slices.Equal(got, want) {
		t.Errorf("events = %v, want %v", got, want)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("events = %v, want context.Canceled", err)
	}
}

func TestPingTellsWhoItIs(t *testing.T) {
	docker := testenv.Docker(t)
	info, err := newEngine(t, docker.Host).Ping(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Version == "" || info.APIVersion == "" || info.DataRoot == "" || info.NCPU < 1 || info.Arch == "" || info.ID == "" {
		t.Errorf("info = %+v", info)
	}
}
