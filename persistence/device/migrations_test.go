package device_test

import (
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"

	"reagent/persistence"
	"reagent/protocol"
)

// A file as the first schema had it: no stages in the tree.
func TestAFileOfTheFirstSchemaIsTakenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.bolt")
	db, err := persistence.Open(path, persistence.Options{Log: zerolog.Nop()})
	must(t, err)
	must(t, db.Update(func(tx *persistence.Tx) error {
		for _, r := range []struct {
			bucket string
			record string
		}{
			{"wanted", `{"v":1,"seq":1,"request":{"app_key":1,"app_name":"web","stage":"PROD","target_state":"RUNNING"},"from_the_future":true}`},
			{"wanted", `{"v":1,"seq":2,"request":{"app_key":2,"app_name":"dev","stage":"DEV","target_state":"PRESENT"}}`},
			{"wanted", `rubbish`},
			{"actual", `{"v":1,"app_key":1,"stage":"PROD","app_name":"web","state":"RUNNING","version":"1.0.0"}`},
			{"actual", `{"v":1,"app_key":2,"stage":"DEV","app_name":"dev","state":"PRESENT"}`},
			{"outbox", `{"v":1,"state":{"app_key":2,"stage":"DEV","state":"PRESENT"}}`},
			{"outbox", `{"v":1,"state":{"app_key":1,"stage":"PROD","state":"RUNNING"}}`},
			{"history", `{"v":1,"app_key":1,"stage":"PROD","app_name":"web","state":"STARTING"}`},
		} {
			b := persistence.RawBucket(r.bucket)
			n, err := b.Next(tx)
			if err != nil {
				return err
			}
			if err := b.Put(tx, persistence.Key(n), []byte(r.record)); err != nil {
				return err
			}
		}
		return nil
	}))
	must(t, db.Close())

	s := open(t, path)
	if s.Rebuilt() {
		t.Error("Rebuilt: got true; want false")
	}
	for id, target := range map[protocol.AppID]protocol.State{
		{Key: 1, Stage: protocol.Prod}: protocol.Running, {Key: 2, Stage: protocol.Dev}: protocol.Present,
	} {
		if w, ok, err := s.Wanted(id); !ok || err != nil || w.Seq != id.Key || w.Request.Target != target {
			t.Errorf("wish for %s: got %+v, %t, %v; want %s", id, w, ok, err, target)
		}
		if a, ok, err := s.Actual(id); !ok || err != nil || a.State != target {
			t.Errorf("state of %s: got %+v, %t, %v; want %s", id, a, ok, err, target)
		}
	}
	wantWaiting(t, s, protocol.Present, protocol.Running)
	if h, err := s.History(0); err != nil || len(h) != 1 || h[0].State != protocol.Starting {
		t.Errorf("history: got %+v, %v; want one STARTING", h, err)
	}
	if w, _ := want(t, s, wish(9), false); w.Seq <= 3 {
		t.Errorf("the next wish has the Seq %d; want more than 3", w.Seq)
	}
	must(t, s.Save(have(9, protocol.Running), report(9, protocol.Running)))
	wantWaiting(t, s, protocol.Present, protocol.Running, protocol.Running)
	must(t, s.Close())
	edit(t, path, func(tx *persistence.Tx) error {
		raw := persistence.RawBucket("wanted", "PROD").Get(tx, persistence.Key(1))
		if !containsText(raw, "from_the_future") {
			t.Errorf("an unknown key got lost: %s", raw)
		}
		return nil
	})
}
