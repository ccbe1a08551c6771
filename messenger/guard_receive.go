package messenger

import (
	"maps"
	"strings"

	"github.com/gammazero/nexus/v3/wamp"
)

// readLoop is the only goroutine that reads from the wire.
func (g *guard) readLoop() {
	defer close(g.reader)
	for {
		msg, err := g.wire.read()
		if err != nil {
			g.kill(err)
			break
		}
		g.receive(msg)
	}
	// The client learns of the end by the closed channel; answers of our own
	// that are on their way (they see dead) must be through before.
	g.deliver.Lock()
	close(g.rd)
	g.deliver.Unlock()
}

// hand gives a message to the client. The caller holds deliver.
func (g *guard) hand(msg wamp.Message) {
	select {
	case <-g.dead:
		return
	default:
	}
	select {
	case g.rd <- msg:
	case <-g.dead:
	}
}

// receive judges one message and hands it on or drops it.
func (g *guard) receive(msg wamp.Message) {
	g.settle(msg)
	g.deliver.Lock()
	defer g.deliver.Unlock()
	g.mu.Lock()
	clean := g.judge(msg)
	if clean == nil {
		if _, known := g.odd[msg.MessageType()]; !known {
			g.odd[msg.MessageType()] = struct{}{}
			g.log.Debug().Stringer("message", msg.MessageType()).Msg("message out of place dropped; more of its kind are not logged")
		}
	}
	g.mu.Unlock()
	if clean != nil {
		g.hand(clean)
	}
}

// settle holds a call or event back until the client has the handler that it
// was told of one message before.
func (g *guard) settle(msg wamp.Message) {
	var s settlement
	switch m := msg.(type) {
	case *wamp.Invocation:
		s = settlement{wamp.REGISTERED, m.Registration}
	case *wamp.Event:
		s = settlement{wamp.SUBSCRIBED, m.Subscription}
	default:
		return
	}
	g.mu.Lock()
	wait := g.settling[s]
	g.mu.Unlock()
	if wait == nil {
		return
	}
	select {
	case <-wait:
	case <-g.dead:
	}
}

// judge is the wall: it returns the message as the client may see it, nil if it
// may not. The caller holds mu. Messages of a router in this process are shared
// with other sessions, so they are copied before a change.
func (g *guard) judge(msg wamp.Message) wamp.Message {
	if !g.joined {
		switch m := msg.(type) {
		case *wamp.Welcome:
			g.joined = true
			return m
		case *wamp.Challenge:
			return m
		case *wamp.Abort:
			g.farewell = &refusal{uri: string(m.Reason), text: refusalText(m.Details), login: true}
			return m
		case *wamp.Goodbye:
			g.farewell = &refusal{uri: string(m.Reason), text: refusalText(m.Details), login: true}
			return m
		}
		return nil
	}
	switch m := msg.(type) {
	case *wamp.Abort:
		g.farewell = &refusal{uri: string(m.Reason), text: refusalText(m.Details)}
		return m
	case *wamp.Goodbye:
		g.farewell = &refusal{uri: string(m.Reason), text: refusalText(m.Details)}
		return m

	case *wamp.Event:
		if details, changed := plainDetails(m.Details); changed {
			c := *m
			c.Details = details
			return &c
		}
		return m
	case *wamp.Invocation:
		// Numbers must grow (with room for their wrapping round); a repeat would
		// be a chunk of a call in parts, of which the first is taken as all.
		if m.Request == 0 || m.Request <= g.lastCall && g.lastCall-m.Request < wamp.MaxID/2 {
			return nil
		}
		g.lastCall = m.Request
		if details, changed := plainDetails(m.Details); changed {
			c := *m
			c.Details = details
			return &c
		}
		return m
	case *wamp.Interrupt:
		if m.Request > g.lastCall {
			return nil
		}
		return m

	case *wamp.Registered:
		return g.answered(m.Request, wamp.REGISTER, m)
	case *wamp.Unregistered:
		return g.answered(m.Request, wamp.UNREGISTER, m)
	case *wamp.Subscribed:
		return g.answered(m.Request, wamp.SUBSCRIBE, m)
	case *wamp.Unsubscribed:
		return g.answered(m.Request, wamp.UNSUBSCRIBE, m)
	case *wamp.Published:
		return g.answered(m.Request, wamp.PUBLISH, m)
	case *wamp.Error:
		return g.answered(m.Request, m.Type, m)
	case *wamp.Result:
		clean := m
		if ahead, _ := m.Details[wamp.OptProgress].(bool); ahead {
			t := g.asked[m.Request]
			if t == nil || t.kind != wamp.CALL || !t.progress {
				return nil
			}
			return &wamp.Result{
				Request: m.Request, Details: wamp.Dict{wamp.OptProgress: true},
				Arguments: m.Arguments, ArgumentsKw: m.ArgumentsKw,
			}
		}
		if details, changed := plainDetails(m.Details); changed {
			c := *m
			c.Details = details
			clean = &c
		}
		return g.answered(m.Request, wamp.CALL, clean)
	}
	return nil
}

// answered lets the final answer to an open question of the given kind in, once.
func (g *guard) answered(id wamp.ID, kind wamp.MessageType, msg wamp.Message) wamp.Message {
	t := g.asked[id]
	if t == nil || t.kind != kind {
		return nil
	}
	t.final = msg
	t.stop()
	delete(g.asked, id)
	if s, ok := settles(msg); ok {
		g.settling[s] = make(chan struct{})
	}
	return msg
}

// plainDetails removes what would make the client treat a payload as passed
// through, or a call as one in parts. A changed map is a copy.
func plainDetails(details wamp.Dict) (wamp.Dict, bool) {
	special := func(key string, _ any) bool {
		return strings.HasPrefix(key, "ppt_") || key == wamp.OptProgress
	}
	for key, value := range details {
		if special(key, value) {
			c := maps.Clone(details)
			maps.DeleteFunc(c, special)
			return c, true
		}
	}
	return details, false
}
