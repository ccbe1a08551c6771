package logs

import (
	"context"
	"errors"
	"slices"
	"time"

	"reagent/messenger"
)

// publish brings what is queued to the router, one event at a time, and asks it
// who listens, until ctx ends.
func (l *Logs) publish(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.mu.Lock()
		t, e, wait := l.next(time.Now())
		connection := l.connection
		l.mu.Unlock()
		if t != nil {
			l.send(ctx, connection, t, e)
			continue
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-l.wake:
		case <-timer.C:
		}
	}
}

// forever is how long the publisher sleeps when nothing is due.
const forever = 24 * time.Hour

// next gives an event that is due, or tells how long there is none. On its way
// it sends off the questions that are due.
func (l *Logs) next(now time.Time) (*topic, event, time.Duration) {
	wait := forever
	if l.ctx == nil || l.ctx.Err() != nil {
		return nil, event{}, wait
	}
	for _, t := range l.topics {
		if len(t.events) > 0 { // also before Online: the agent speaks on any connection
			e := t.events[0]
			t.events = slices.Delete(t.events, 0, 1)
			return t, e, 0
		}
		if !l.online {
			continue
		}
		if (!t.known || l.deaf) && !t.asking {
			if pause := t.askAt.Sub(now); pause > 0 {
				wait = min(wait, pause)
			} else {
				l.sendQuestion(t)
			}
		}
		if t.window.empty() {
			continue
		}
		if !l.heard(t) {
			if !t.asking { // else the answer wakes us
				t.window = window{}
			}
			continue
		}
		if pause := t.window.due.Sub(now); pause > 0 {
			wait = min(wait, pause)
			continue
		}
		return t, t.window.close(now.Add(l.cfg.FlushEvery)), 0
	}
	return nil, event{}, wait
}

func (l *Logs) send(ctx context.Context, connection int, t *topic, e event) {
	ctx, cancel := context.WithTimeout(ctx, l.cfg.CallLimit)
	defer cancel()
	err := l.cfg.Session.Publish(ctx, t.uri, nil, e.args, nil)
	if err == nil {
		return
	}
	l.cfg.Log.Debug().Err(err).Str("container", t.cn).Msg("log not published")
	if !errors.Is(err, messenger.ErrOffline) {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if connection == l.connection && l.online {
		l.offline()
	}
	t.catchUpFrom(e.first)
}
