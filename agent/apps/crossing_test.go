package apps

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"reagent/persistence/device"
	"reagent/protocol"
)

// The model found this one; it needs luck to find it again.
func TestListDoesNotBringBackWhatWasRemovedMeanwhile(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(dir, zerolog.Nop())
		if err := w.begin(); err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := w.end(); err != nil {
				t.Error(err)
			}
		}()
		a := w.apps[0]
		wish := protocol.AppRequest{AppKey: a.id.Key, AppName: a.name, Stage: a.id.Stage, Target: protocol.Running, PresentVersion: "good1"}
		w.want(a, wish, true)
		w.pass(time.Minute)
		rows, asked := w.rows(), time.Now()
		w.pass(time.Millisecond)
		wish.Target = protocol.Removed
		w.want(a, wish, true)
		w.pass(time.Minute)
		if _, err := w.life.apps.Sync(rows, asked); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Minute)
		if left := w.engine.all(a.owned); len(left) > 0 {
			t.Errorf("container %s is back", left[0].Name)
		}
		wish.Target = protocol.Running
		w.want(a, wish, false)
		w.list()
		w.pass(time.Minute)
		if left := w.engine.all(a.named); len(left) != 1 {
			t.Errorf("a newer list brought %d containers, want the app's", len(left))
		}
	})
}

func TestDeparturesAreBounded(t *testing.T) {
	a := &Apps{}
	for key := range uint64(maxApps + 10) {
		w := device.Wanted{Request: protocol.AppRequest{AppKey: key + 1, Stage: protocol.Prod, Target: protocol.Removed}}
		w.Time = time.Unix(int64(key), 0)
		a.depart(w)
	}
	if len(a.departures) != maxApps {
		t.Errorf("%d are remembered, want %d", len(a.departures), maxApps)
	}
	if _, ok := a.departures[protocol.AppID{Key: maxApps + 10, Stage: protocol.Prod}]; !ok {
		t.Error("the newest is forgotten")
	}
}
