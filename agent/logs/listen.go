package logs

import (
	"context"
	"sync"
	"time"

	"reagent/protocol"
)

// maxListeners bounds the subscriptions that are kept apart for one app. Of more
// than that, some are not noticed when they stay as the last.
const maxListeners = 4096

// Online says that there is a new connection, on which the meta events of
// subscriptions are subscribed already. It returns when the router has told who
// listens, or ctx has ended; what was not told is asked again in the background.
func (l *Logs) Online(ctx context.Context) {
	l.mu.Lock()
	l.offline()
	l.online = true
	l.connection++
	connection := l.connection
	var ask []func(context.Context)
	for _, t := range l.topics {
		ask = append(ask, l.question(t))
	}
	l.mu.Unlock()
	l.poke()
	l.subscribed(ctx, connection) // first: what is answered means less where changes are not told
	var flight sync.WaitGroup
	for _, q := range ask {
		flight.Go(func() { q(ctx) })
	}
	flight.Wait()
}

// offline forgets what holds for one connection only, and remembers from where
// those who listened have to be served after it.
func (l *Logs) offline() {
	heard := map[*topic]bool{}
	for _, t := range l.topics {
		heard[t] = l.heard(t)
	}
	l.online, l.deaf = false, false
	for _, t := range l.topics {
		if heard[t] {
			t.late = true
			t.catchUpFrom(t.window.first)
		}
		t.known, t.doubt, t.asking, t.askAt, t.askPause = false, false, false, time.Time{}, 0
		t.listeners = nil
		t.window = window{}
	}
}

// catchUpFrom takes back that lines from that number on were sent.
func (t *topic) catchUpFrom(first uint64) {
	if first != 0 && first <= t.sent {
		t.sent = first - 1
	}
}

// Created is told each event of wamp.subscription.on_create: the session, and
// what was subscribed.
func (l *Logs) Created(args []any) {
	d, ok := protocol.AsDict(protocol.Arg(args, 1))
	if !ok {
		return
	}
	id, okID := protocol.Uint(d["id"])
	uri, okURI := protocol.Text(d["uri"])
	match, _ := protocol.Text(d["match"])
	if !okID || !okURI {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.online {
		return // Online asks
	}
	for _, t := range l.topics {
		if protocol.TopicMatches(t.uri, uri, match) {
			l.listen(t, id)
		}
	}
}

// Deleted is told each event of wamp.subscription.on_delete: the session, and
// the subscription that has ended.
func (l *Logs) Deleted(args []any) {
	id, ok := protocol.Uint(protocol.Arg(args, 1))
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.asking > 0 && len(l.gone) < maxListeners {
		l.gone[id] = struct{}{}
	}
	for _, t := range l.topics {
		delete(t.listeners, id)
	}
}

// listen counts a listener in. The first one gets what is printed from now on.
func (l *Logs) listen(t *topic, id uint64) {
	if len(t.listeners) >= maxListeners {
		return
	}
	l.hear(t)
	if l.inDoubt(t) && !t.window.empty() && t.room() { // what comes now has its full measure
		l.queue(t, t.window.close(time.Time{}))
	}
	if t.listeners == nil {
		t.listeners = map[uint64]struct{}{}
	}
	t.listeners[id] = struct{}{}
}

// hear says that an app's lines are published from now on, if they are not yet:
// or from where those who listened before the connection was lost have them.
func (l *Logs) hear(t *topic) {
	switch {
	case t.late:
		l.serve(t)
	case !l.heard(t):
		t.from = l.cfg.Wall()
	}
}

// sendQuestion asks the router in the background who listens to an app.
func (l *Logs) sendQuestion(t *topic) {
	ctx, ask := l.ctx, l.question(t)
	l.group.Go(func() { ask(ctx) })
}

// question makes the question who listens to an app, for this connection.
func (l *Logs) question(t *topic) func(context.Context) {
	connection := l.connection
	t.asking = true
	l.asking++
	return func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, l.cfg.CallLimit)
		defer cancel()
		r, err := l.cfg.Session.Call(ctx, protocol.SubscriptionMatch, []any{t.uri}, nil)
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.asking--; l.asking == 0 {
			defer clear(l.gone)
		}
		if connection != l.connection || !l.online {
			return
		}
		t.asking = false
		l.poke()
		if err != nil {
			l.unanswered(t, err)
			return
		}
		t.known, t.askPause = true, 0
		if l.deaf {
			t.listeners, t.askAt = nil, l.soon(l.cfg.AskAgain) // whoever left is not told of
		}
		for _, id := range subscriptions(protocol.Arg(r.Args, 0)) {
			if _, ended := l.gone[id]; !ended {
				l.listen(t, id)
			}
		}
		t.doubt = false
		switch {
		case t.late && l.heard(t): // by whoever does not tell
			l.serve(t)
		case t.late:
			t.late, t.sent = false, t.tape.next()-1
		}
	}
}

// subscriptions reads the answer of wamp.subscription.match: null, a list of
// ids, or one id alone.
func subscriptions(v any) []uint64 {
	list, ok := protocol.AsList(v)
	if !ok {
		list = []any{v}
	}
	var ids []uint64
	for _, e := range list {
		if id, ok := protocol.Uint(e); ok {
			ids = append(ids, id)
		}
	}
	return ids
}
