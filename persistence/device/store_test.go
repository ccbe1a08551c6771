package device_test

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"reagent/persistence/device"
	"reagent/protocol"
)

var web = protocol.AppID{Key: 7, Stage: protocol.Prod}

// open opens a store in a folder of the test and looks for inconsistencies when
// the test is over.
func open(t *testing.T, path string) *device.Store {
	t.Helper()
	s, err := device.Open(path, zerolog.New(zerolog.NewTestWriter(t)))
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		again, err := device.Open(path, zerolog.Nop())
		if err != nil {
			t.Fatalf("Open after the test: %v", err)
		}
		if err := errors.Join(again.Check(), again.Close()); err != nil {
			t.Errorf("the file is inconsistent: %v", err)
		}
	})
	return s
}

func fresh(t *testing.T) *device.Store {
	t.Helper()
	return open(t, filepath.Join(t.TempDir(), "state.bolt"))
}

// must is for calls whose error no test is about.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wish(key uint64) protocol.AppRequest {
	return protocol.AppRequest{
		AppKey: key, AppName: "web", Stage: protocol.Prod, Target: protocol.Running, DeviceOwnerAccountKey: 3,
		Environment: map[string]any{"A": map[string]any{"value": "1"}},
		Ports:       []protocol.PortRule{{Name: "http", Port: 8080, Active: true}},
	}
}

func want(t *testing.T, s *device.Store, r protocol.AppRequest, direct bool) (device.Wanted, bool) {
	t.Helper()
	w, changed, err := s.Want(r, direct)
	must(t, err)
	return w, changed
}

func TestAWishIsNumberedAnewOnlyWhenItDiffersOrWasAskedFor(t *testing.T) {
	s := fresh(t)
	first, changed := want(t, s, wish(7), false)
	if !changed || first.Seq == 0 || first.Direct != 0 {
		t.Fatalf("the first wish: got %+v, changed %t; want a Seq and no Direct", first, changed)
	}
	again := wish(7)
	again.Current = protocol.Failed
	same, changed := want(t, s, again, false)
	if changed || same.Seq != first.Seq || !same.Time.Equal(first.Time) {
		t.Errorf("the same wish with another current state: got Seq %d, changed %t; want %d, false", same.Seq, changed, first.Seq)
	}
	if w, _, err := s.Wanted(web); err != nil || w.Request.Current != protocol.Failed {
		t.Errorf("stored current state: got %q, %v; want %q", w.Request.Current, err, protocol.Failed)
	}
	asked, changed := want(t, s, again, true)
	if !changed || asked.Seq <= first.Seq || asked.Direct != asked.Seq {
		t.Errorf("the same wish asked for: got %+v, changed %t; want a larger Seq, and Direct equal to it", asked, changed)
	}
	other := wish(7)
	other.Environment = map[string]any{"A": map[string]any{"value": "2"}}
	differs, changed := want(t, s, other, false)
	if !changed || differs.Seq <= asked.Seq || differs.Direct != asked.Direct {
		t.Errorf("another wish from the list: got %+v, changed %t; want a larger Seq than %d and Direct %d", differs, changed, asked.Seq, asked.Direct)
	}
}

func TestADroppedAppThatComesBackHasANewSeq(t *testing.T) {
	s := fresh(t)
	w, _ := want(t, s, wish(7), false)
	if ok, err := s.Drop(web, w.Seq); !ok || err != nil {
		t.Fatalf("Drop: got %t, %v; want true", ok, err)
	}
	if back, _ := want(t, s, wish(7), false); back.Seq <= w.Seq {
		t.Errorf("Seq: got %d; want more than %d", back.Seq, w.Seq)
	}
}

func TestAKnownOwnerIsNotForgotten(t *testing.T) {
	s := fresh(t)
	want(t, s, wish(7), false)
	nobody := wish(7)
	nobody.DeviceOwnerAccountKey = 0
	if w, changed := want(t, s, nobody, false); changed || w.Request.DeviceOwnerAccountKey != 3 {
		t.Errorf("owner: got %d, changed %t; want 3, false", w.Request.DeviceOwnerAccountKey, changed)
	}
	other := wish(7)
	other.DeviceOwnerAccountKey = 4
	if w, _ := want(t, s, other, false); w.Request.DeviceOwnerAccountKey != 4 {
		t.Errorf("owner: got %d; want 4", w.Request.DeviceOwnerAccountKey)
	}
}

func TestCredentialsOfRegistriesAreNotStored(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	s := open(t, path)
	r := wish(7)
	r.DockerCredentials = map[string]protocol.RegistryCredential{"registry.example": {Username: "u", Password: "hunter2"}}
	want(t, s, r, true)
	must(t, s.Close())
	raw, err := os.ReadFile(path)
	must(t, err)
	if containsText(raw, "hunter2") {
		t.Error("the password is in the file")
	}
}

func TestWhatWasSavedIsThereAfterARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	s := open(t, path)
	if !s.Rebuilt() {
		t.Error("a new store says that it is not")
	}
	w, _ := want(t, s, wish(7), true)
	a := device.Actual{
		AppKey: 7, Stage: protocol.Prod, AppName: "web", State: protocol.Running, Version: "1.0.0", ReleaseKey: 9,
		HostPorts: map[string]uint16{"tcp/8080": 40000}, Changed: time.Now().UTC().Round(0),
		Swap: &device.Swap{Phase: device.SwapProbation, Parked: "abc", ToVersion: "1.1.0", WishSeq: w.Seq},
	}
	must(t, s.Save(a, report(7, protocol.Running)))
	must(t, s.SetMeta("swarm", "12"))
	must(t, s.Close())

	s = open(t, path)
	if s.Rebuilt() {
		t.Error("a store that was there says that it is new")
	}
	gotW, ok, err := s.Wanted(web)
	if err != nil || !ok || !reflect.DeepEqual(gotW, w) {
		t.Errorf("Wanted: got %+v, %t, %v; want %+v", gotW, ok, err, w)
	}
	gotA, ok, err := s.Actual(web)
	if err != nil || !ok || !reflect.DeepEqual(gotA, a) {
		t.Errorf("Actual: got %+v, %t, %v; want %+v", gotA, ok, err, a)
	}
	if v, ok, err := s.Meta("swarm"); v != "12" || !ok || err != nil {
		t.Errorf("Meta: got %q, %t, %v; want 12", v, ok, err)
	}
	states, _, err := s.Outbox()
	if err != nil || len(states) != 1 || states[0].State.State != protocol.Running {
		t.Errorf("Outbox: got %+v, %v; want one RUNNING", states, err)
	}
}

func TestADeedIsNotLostToAWishForAState(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.bolt"))
	want := func(target protocol.State, change func(*protocol.AppRequest)) device.Wanted {
		t.Helper()
		r := protocol.AppRequest{AppKey: 6, AppName: "web", Stage: protocol.Dev, Target: target}
		if change != nil {
			change(&r)
		}
		w, _, err := s.Want(r, true)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	version := func(v string) func(*protocol.AppRequest) {
		return func(r *protocol.AppRequest) { r.Version = v }
	}
	published := want(protocol.Published, version("1"))
	for range 2 {
		if w := want(protocol.Running, nil); w.Deed == nil || w.Deed.Seq != published.Seq || w.Deed.Request.Version != "1" {
			t.Errorf("after RUNNING the deed is %+v, want the publication", w.Deed)
		}
	}
	if w := want(protocol.Built, nil); w.Deed != nil {
		t.Errorf("a newer deed leaves %+v", w.Deed)
	}
	if w := want(protocol.Running, nil); w.Deed == nil || w.Deed.Request.Target != protocol.Built {
		t.Errorf("the deed is %+v, want the build", w.Deed)
	}
	if w := want(protocol.Present, func(r *protocol.AppRequest) { r.CancelTransition = true }); w.Deed != nil {
		t.Errorf("called off, the deed is %+v", w.Deed)
	}
	want(protocol.Built, nil)
	if w := want(protocol.Removed, nil); w.Deed != nil {
		t.Errorf("of a removed app the deed is %+v", w.Deed)
	}
}
