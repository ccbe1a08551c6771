package apps

import (
	"context"
	"fmt"
	"time"

	"reagent/persistence/device"
	"reagent/protocol"
)

// Sync takes the studio's wish list: the answer of get_requested_app_states,
// which was asked for at a time. Rows are stored, apps that the list no longer
// has are put away, and every app whose state the studio sees wrongly is
// reported. An answer that is no list changes nothing; a row that cannot be read
// costs that row alone.
//
// empty is true for a list without a row while the device has apps: nothing was
// removed then, and the caller asks again with ConfirmEmpty (design S15).
func (a *Apps) Sync(answer any, asked time.Time) (empty bool, err error) {
	rows, ok := protocol.AsList(answer)
	if !ok {
		return false, fmt.Errorf("the studio's wish list is no list (%T): nothing changed", answer)
	}
	listed := map[protocol.AppID]bool{}
	readable := true
	for i, row := range rows {
		d, _ := protocol.AsDict(row)
		key, okKey := protocol.Uint(d["app_key"])
		stage, okStage := protocol.Text(d["stage"])
		id := protocol.AppID{Key: key, Stage: protocol.Stage(stage)}
		if !okKey || !okStage || !id.Stage.Valid() {
			readable = false
			a.cfg.Log.Warn().Int("row", i).Msg("row of the wish list without an app key and a stage")
			continue
		}
		listed[id] = true
		if err := a.take(d, id, asked); err != nil {
			a.cfg.Log.Warn().Err(err).Int("row", i).Stringer("app", id).Msg("row of the wish list not taken")
		}
	}
	if len(rows) == 0 {
		known, err := a.driven(asked)
		return len(known) > 0, err
	}
	if !readable {
		return false, nil // a row that nobody can read may be any app's
	}
	return false, a.putAway(listed, asked)
}

// ConfirmEmpty waits and asks for the wish list once more; only a second empty
// one removes the apps' containers. Data folders stay.
func (a *Apps) ConfirmEmpty(ctx context.Context, ask func(context.Context) (any, error)) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(a.cfg.Waits.EmptyList):
	}
	asked := time.Now()
	answer, err := ask(ctx)
	if err != nil {
		return fmt.Errorf("ask for the wish list again: %w", err)
	}
	if rows, ok := protocol.AsList(answer); ok && len(rows) == 0 {
		a.cfg.Log.Warn().Msg("the wish list is empty twice: the apps' containers go")
		return a.putAway(nil, asked)
	}
	_, err = a.Sync(answer, asked)
	return err
}

// take stores one row, unless a direct wish is newer than the list. What is
// wanted of a developer's app is only ever asked for directly (life §4.1): its
// row says that the studio knows it, and how it sees it.
func (a *Apps) take(row map[string]any, id protocol.AppID, asked time.Time) error {
	r, err := protocol.ParseRequestedApp(row)
	if err != nil {
		return err
	}
	if why := neverFor(r); why != "" {
		return fmt.Errorf("%s", why)
	}
	a.wishes.Lock()
	defer a.wishes.Unlock()
	old, known, err := a.cfg.Store.Wanted(id)
	if err != nil {
		return err
	}
	if known && old.Direct == old.Seq && since(asked, old.Time) {
		return nil // an adoption's wish is younger, too, but nobody's
	}
	if !known && since(asked, a.departures[id]) {
		return nil // it was asked to go meanwhile, and is gone
	}
	if id.Stage == protocol.Dev {
		switch {
		case known:
			return a.compare(a.worker(id), r)
		case r.Current.Gone() || r.Current == "" || r.Current == protocol.Transfering || r.Current == protocol.Transfered:
			return nil
		}
		return a.tellGone(id) // this device has lost it
	}
	if r.InstanceKey == 0 { // not delivered this way
		r.InstanceKey = old.Request.InstanceKey
	}
	if err := a.room(id); err != nil {
		return err
	}
	wish, changed, err := a.cfg.Store.Want(r, false)
	if err != nil {
		return err
	}
	w := a.worker(id)
	if changed {
		w.wished(wish.Request)
	}
	return a.compare(w, r)
}

// compare has an app reported whose state the studio sees wrongly.
func (a *Apps) compare(w *worker, r protocol.AppRequest) error {
	have, recorded, err := a.cfg.Store.Actual(w.id)
	if err != nil {
		return err
	}
	if recorded && have.State != r.Current && (!have.State.Transient() || have.State == protocol.Published) {
		w.untold.Store(true)
		w.poke()
	}
	return nil
}

// since tells whether a wish is younger than a question. One from the future is
// not: it was stored while the clock was wrong.
func since(asked, wished time.Time) bool { return wished.After(asked) && !wished.After(time.Now()) }

// driven lists the apps that the list decides about: those of a kind that this
// version drives, wished for before the list was asked for.
func (a *Apps) driven(asked time.Time) ([]device.Wanted, error) {
	all, err := a.cfg.Store.AllWanted()
	if err != nil {
		return nil, err
	}
	var out []device.Wanted
	for _, w := range all {
		if !since(asked, w.Time) {
			out = append(out, w)
		}
	}
	return out, nil
}

// putAway forgets the apps that are not listed.
func (a *Apps) putAway(listed map[protocol.AppID]bool, asked time.Time) error {
	known, err := a.driven(asked)
	if err != nil {
		return err
	}
	for _, wish := range known {
		id := wish.Request.ID()
		if listed[id] {
			continue
		}
		a.cfg.Log.Info().Stringer("app", id).Str("name", wish.Request.AppName).Msg("app is not in the studio's list any more")
		w := a.worker(id)
		w.forget.Store(wish.Seq)
		w.poke()
	}
	return nil
}
