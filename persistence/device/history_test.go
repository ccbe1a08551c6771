package device_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"reagent/persistence"
	"reagent/persistence/device"
	"reagent/protocol"
)

func TestHistoryHoldsTheStatesBeforeTheirChanges(t *testing.T) {
	s := fresh(t)
	a := have(7, protocol.Present)
	a.Version, a.ReleaseKey = "1.0.0", 5
	must(t, s.Save(a)) // the first one: nothing was before
	a.State = protocol.Starting
	must(t, s.Save(a)) // PRESENT goes into the history
	a.ConfigHash = "h"
	must(t, s.Save(a)) // no change that counts
	a.Version = "1.1.0"
	must(t, s.Save(a))
	a.ReleaseKey = 6
	must(t, s.Save(a))
	if ok, err := s.Drop(web, 0); !ok || err != nil {
		t.Fatalf("Drop: got %t, %v; want true", ok, err)
	}
	entries, err := s.History(0)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprintf("%s %s %d", e.State, e.Version, e.ReleaseKey))
		if e.AppKey != 7 || e.Stage != protocol.Prod || e.AppName != "web" || e.Time.IsZero() {
			t.Errorf("entry: got %+v; want app, stage, name and time", e)
		}
	}
	want := []string{"STARTING 1.1.0 6", "STARTING 1.1.0 5", "STARTING 1.0.0 5", "PRESENT 1.0.0 5"}
	if !slices.Equal(got, want) {
		t.Errorf("history: got %q; want %q", got, want)
	}
	if last, err := s.History(2); err != nil || len(last) != 2 || last[0] != entries[0] {
		t.Errorf("History(2): got %+v, %v; want the last two", last, err)
	}
}

func TestTheLastThousandStatesAreRemembered(t *testing.T) {
	s := fresh(t)
	a := have(7, protocol.Running)
	for i := range uint64(1100) {
		a.ReleaseKey = 1 + i
		must(t, s.Save(a))
	}
	entries, err := s.History(0)
	must(t, err)
	if len(entries) != 1000 || entries[0].ReleaseKey != 1099 || entries[999].ReleaseKey != 100 {
		t.Errorf("history: got %d entries, releases %d to %d; want 1000, 1099 to 100",
			len(entries), entries[0].ReleaseKey, entries[len(entries)-1].ReleaseKey)
	}
}

func TestAStateThatIsTheSameIsNotWritten(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	s := open(t, path)
	a := have(7, protocol.Running)
	must(t, s.Save(a))
	want(t, s, wish(7), false)
	before, err := os.ReadFile(path)
	must(t, err)
	must(t, s.Save(a))
	want(t, s, wish(7), false)
	must(t, s.Confirm(99))
	after, err := os.ReadFile(path)
	must(t, err)
	if !bytes.Equal(before, after) {
		t.Error("saving what is there already changed the file")
	}
}

func TestAppsAreListedByStageAndKey(t *testing.T) {
	s := fresh(t)
	for _, id := range []protocol.AppID{{Key: 300, Stage: protocol.Prod}, {Key: 2, Stage: protocol.Prod}, {Key: 2, Stage: protocol.Dev}} {
		r := wish(id.Key)
		r.Stage = id.Stage
		want(t, s, r, false)
		must(t, s.Save(device.Actual{AppKey: id.Key, Stage: id.Stage, State: protocol.Present}))
	}
	wanted, err := s.AllWanted()
	must(t, err)
	actual, err := s.AllActual()
	must(t, err)
	var got []string
	for i := range wanted {
		got = append(got, fmt.Sprint(wanted[i].Request.ID(), " ", actual[i].ID()))
	}
	if want := []string{"DEV/2 DEV/2", "PROD/2 PROD/2", "PROD/300 PROD/300"}; !slices.Equal(got, want) {
		t.Errorf("apps: got %q; want %q", got, want)
	}
}

func TestWhatIsNoAppIsRefused(t *testing.T) {
	s := fresh(t)
	for _, id := range []protocol.AppID{{}, {Key: 7}, {Key: 7, Stage: "prod"}, {Stage: protocol.Prod}, {Key: 7, Stage: "../x"}} {
		r := wish(id.Key)
		r.Stage = id.Stage
		_, _, errWant := s.Want(r, true)
		errSave := s.Save(device.Actual{AppKey: id.Key, Stage: id.Stage})
		errPost := s.Save(have(7, protocol.Running), device.Outgoing{Report: protocol.StateReport{AppKey: id.Key, Stage: id.Stage}})
		errPorts := s.SavePorts(protocol.PortsReport{AppKey: id.Key, Stage: id.Stage})
		_, errDrop := s.Drop(id, 0)
		for name, err := range map[string]error{"Want": errWant, "Save": errSave, "Save of a report": errPost, "SavePorts": errPorts, "Drop": errDrop} {
			if err == nil {
				t.Errorf("%s of %q: got nil; want an error", name, id)
			}
		}
	}
	if _, ok, err := s.Actual(web); ok || err != nil {
		t.Errorf("a refused report left its state behind (%v)", err)
	}
}

func TestAnUnreadableRecordLeavesTheOthersAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	s := open(t, path)
	for key := range uint64(3) {
		want(t, s, wish(key+1), false)
		must(t, s.Save(have(key+1, protocol.Running), report(key+1, protocol.Running)))
	}
	must(t, s.Close())
	edit(t, path, func(tx *persistence.Tx) error {
		for _, b := range []persistence.Raw{
			persistence.RawBucket("wanted", "PROD"), persistence.RawBucket("actual", "PROD"),
		} {
			if err := b.Put(tx, persistence.Key(2), []byte(`{"v":1,"request":[`)); err != nil {
				return err
			}
		}
		return persistence.RawBucket("outbox", "PROD", persistence.Name(2), "state").Put(tx, persistence.Key(2), []byte("?"))
	})
	s = open(t, path)
	wanted, err := s.AllWanted()
	must(t, err)
	actual, err := s.AllActual()
	must(t, err)
	if len(wanted) != 2 || len(actual) != 2 || len(waiting(t, s)) != 2 {
		t.Errorf("got %d wishes, %d states, %d reports; want 2 of each", len(wanted), len(actual), len(waiting(t, s)))
	}
	if _, ok, err := s.Wanted(protocol.AppID{Key: 2, Stage: protocol.Prod}); ok || err != nil {
		t.Errorf("the bad wish: got %t, %v; want it to be away", ok, err)
	}
	if _, changed := want(t, s, wish(2), false); !changed {
		t.Error("the wish that the studio repeats is not taken as a new one")
	}
}

func TestAllMethodsMayBeCalledAtOnce(t *testing.T) {
	s := fresh(t)
	var group sync.WaitGroup
	for g := range uint64(4) {
		group.Go(func() {
			for i := range uint64(25) {
				app := 1 + (g+i)%3
				id := protocol.AppID{Key: app, Stage: protocol.Prod}
				w, _, err := s.Want(wish(app), i%2 == 0)
				if err != nil {
					t.Errorf("Want: %v", err)
				}
				a := have(app, protocol.Running)
				a.ReleaseKey = g*100 + i
				if err := s.Save(a, report(app, protocol.Running)); err != nil {
					t.Errorf("Save: %v", err)
				}
				if err := s.SavePorts(protocol.PortsReport{AppKey: app, Stage: protocol.Prod, DeviceKey: i}); err != nil {
					t.Errorf("SavePorts: %v", err)
				}
				states, ports, err := s.Outbox()
				if err != nil {
					t.Errorf("Outbox: %v", err)
				}
				for _, r := range states {
					if err := s.Confirm(r.ID); err != nil {
						t.Errorf("Confirm: %v", err)
					}
				}
				for _, p := range ports {
					if err := s.ConfirmPorts(protocol.AppID{Key: p.Report.AppKey, Stage: protocol.Prod}, p.Seq); err != nil {
						t.Errorf("ConfirmPorts: %v", err)
					}
				}
				if _, err := s.Drop(id, w.Seq); err != nil {
					t.Errorf("Drop: %v", err)
				}
				if _, err := s.AllActual(); err != nil {
					t.Errorf("AllActual: %v", err)
				}
				if _, err := s.History(10); err != nil {
					t.Errorf("History: %v", err)
				}
			}
		})
	}
	group.Wait()
	wantWaiting(t, s)
}

// edit changes a closed file below the store.
func edit(t *testing.T, path string, f func(*persistence.Tx) error) {
	t.Helper()
	db, err := persistence.Open(path, persistence.Options{
		Log: zerolog.Nop(), Migrations: make([]persistence.Migration, device.Schema-1),
	})
	must(t, err)
	must(t, db.Update(f))
	must(t, db.Close())
}
