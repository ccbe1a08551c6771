package router

import (
	"fmt"
	"sync"

	"github.com/gammazero/nexus/v3/wamp"
	"github.com/rs/zerolog"

	"reagent/protocol"
)

// A gate stands between one session and nexus. admit is used by the goroutine
// that reads from the client, release by the one that takes from nexus.
type gate struct {
	login
	id        wamp.ID // set by the authenticator, before anything is admitted
	rules     []rule
	directory Directory
	meta      chan struct{} // a place for each call of the router's own procedures
	most      int           // calls, registrations, subscriptions
	log       zerolog.Logger

	mu            sync.Mutex // guards what follows
	calls         map[wamp.ID]bool
	registrations int
	subscriptions int
	testaments    int
	asked         map[wamp.ID]wamp.URI // SUBSCRIBE for a meta topic, without its answer yet
	onCreate      wamp.ID              // the subscriptions to these topics
	onDelete      wamp.ID
	hidden        map[wamp.ID]struct{} // others' subscriptions that the session was not told of
}

const (
	mostTestaments = 16
	mostHidden     = 4096
)

func newGate(l login, r *Router) *gate {
	return &gate{
		login: l, rules: rulesOf(l.realm, l.who.Role),
		directory: r.directory, meta: r.meta, most: r.cfg.MaxPending,
		log:   r.cfg.Log.With().Str("realm", l.realm).Str("authid", l.authid).Logger(),
		calls: map[wamp.ID]bool{}, asked: map[wamp.ID]wamp.URI{}, hidden: map[wamp.ID]struct{}{},
	}
}

// envelopeKey is the keyword argument under which a publication carries an
// envelope through nexus. It never leaves the router.
const envelopeKey = "\x00envelope"

// An envelope is what an event says about its publication. nexus would write it
// into one map that it gives to all subscribers while some of them are being sent
// it, which ends the process; so this travels beside the payload, and every
// session gets details of its own.
type envelope struct {
	publisher wamp.ID
	authid    string
	role      string
	topic     wamp.URI
	opaque    wamp.Dict // the options of a payload that is passed through unread
}

// verdict is what becomes of a message: it goes on, or is answered, or ends the
// session.
type verdict struct {
	forward wamp.Message
	answer  wamp.Message
	broken  error // the client does not speak WAMP
}

// admit looks at a message of the client. stop ends a wait for a place.
func (g *gate) admit(msg wamp.Message, stop <-chan struct{}) verdict {
	switch m := msg.(type) {
	case *wamp.Publish:
		return g.publish(m)
	case *wamp.Subscribe:
		return g.subscribe(m)
	case *wamp.Register:
		return g.register(m)
	case *wamp.Call:
		return g.call(m, stop)
	case *wamp.Cancel:
		m.Options = cancelOptions.clean(m.Options)
		switch m.Options[wamp.OptMode] {
		case wamp.CancelModeKill, wamp.CancelModeKillNoWait, wamp.CancelModeSkip:
		default:
			delete(m.Options, wamp.OptMode)
		}
	case *wamp.Yield:
		m.Options = yieldOptions.clean(m.Options)
	case *wamp.Error:
		if m.Type != wamp.INVOCATION {
			return verdict{broken: fmt.Errorf("an ERROR that answers %v", m.Type)}
		}
		m.Details = wamp.Dict{}
	case *wamp.Unsubscribe, *wamp.Unregister, *wamp.Goodbye:
	default:
		return verdict{broken: fmt.Errorf("unexpected %v", msg.MessageType())}
	}
	return verdict{forward: msg}
}

func (g *gate) publish(m *wamp.Publish) verdict {
	m.Options = publishOptions.clean(m.Options)
	if !g.allows(publish, string(m.Topic), false) {
		if ack, _ := m.Options[wamp.OptAcknowledge].(bool); ack {
			return g.refuse(m, m.Request, "publish on", m.Topic)
		}
		g.log.Debug().Str("topic", string(m.Topic)).Msg("publication refused")
		return verdict{}
	}
	m.ArgumentsKw = g.seal(m.ArgumentsKw, m.Topic, m.Options)
	return verdict{forward: m}
}

// seal adds the envelope to a publication's payload, in place of whatever the
// client put there.
func (g *gate) seal(kwargs wamp.Dict, topic wamp.URI, options wamp.Dict) wamp.Dict {
	if kwargs == nil {
		kwargs = wamp.Dict{}
	}
	e := &envelope{publisher: g.id, authid: g.authid, role: g.who.Role, topic: topic}
	for _, key := range opaqueKeys {
		if v, ok := options[key]; ok {
			if e.opaque == nil {
				e.opaque = wamp.Dict{}
			}
			e.opaque[key] = v
		}
	}
	kwargs[envelopeKey] = e
	return kwargs
}

func (g *gate) subscribe(m *wamp.Subscribe) verdict {
	m.Options = matchOptions.clean(m.Options)
	if !g.allows(subscribe, string(m.Topic), pattern(m.Options)) {
		return g.refuse(m, m.Request, "subscribe to", m.Topic)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.subscriptions >= g.most {
		return g.full(m, m.Request, "subscriptions")
	}
	if topic := string(m.Topic); g.who.Role == protocol.RoleDevice &&
		(topic == protocol.SubscriptionOnCreate || topic == protocol.SubscriptionOnDelete) && len(g.asked) < g.most {
		g.asked[m.Request] = m.Topic
	}
	return verdict{forward: m}
}

func (g *gate) register(m *wamp.Register) verdict {
	m.Options = registerOptions.clean(m.Options)
	if !g.allows(register, string(m.Procedure), pattern(m.Options)) {
		return g.refuse(m, m.Request, "register", m.Procedure)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.registrations >= g.most {
		return g.full(m, m.Request, "registrations")
	}
	m.Options[wamp.OptDiscloseCaller] = true
	return verdict{forward: m}
}

func (g *gate) call(m *wamp.Call, stop <-chan struct{}) verdict {
	if progress, _ := m.Options[wamp.OptProgress].(bool); progress {
		return verdict{answer: &wamp.Error{Type: wamp.CALL, Request: m.Request, Details: wamp.Dict{}, Error: wamp.ErrFeatureNotSupported}}
	}
	m.Options = callOptions.clean(m.Options)
	if !g.allows(call, string(m.Procedure), false) {
		return g.refuse(m, m.Request, "call", m.Procedure)
	}
	if string(m.Procedure) == protocol.AddTestament {
		if v, ok := g.testament(m); !ok {
			return v
		}
	}
	ours := isMeta(m.Procedure)
	g.mu.Lock()
	if _, used := g.calls[m.Request]; used {
		g.mu.Unlock()
		return verdict{broken: fmt.Errorf("a second CALL with the request id %d while the first is under way", m.Request)}
	}
	if len(g.calls) >= g.most {
		g.mu.Unlock()
		return g.full(m, m.Request, "calls")
	}
	g.calls[m.Request] = ours
	g.mu.Unlock()
	if ours {
		select {
		case g.meta <- struct{}{}:
		case <-stop:
			g.mu.Lock()
			delete(g.calls, m.Request)
			g.mu.Unlock()
			return verdict{}
		}
	}
	return verdict{forward: m}
}

// testament checks what nexus will publish in its own name when the session
// ends: it must be something that the session may say, and be about itself.
func (g *gate) testament(m *wamp.Call) (verdict, bool) {
	topic, _ := wamp.AsURI(protocol.Arg(m.Arguments, 0))
	args, okArgs := wamp.AsList(protocol.Arg(m.Arguments, 1))
	kwargs, okKwargs := wamp.AsDict(protocol.Arg(m.Arguments, 2))
	if len(m.Arguments) < 3 || topic == "" || !okArgs || !okKwargs {
		return g.wrong(m, m.Request, "a testament is [topic, args, kwargs]"), false
	}
	if !g.allows(bequeath, string(topic), false) && !g.allows(publish, string(topic), false) {
		return g.refuse(m, m.Request, "leave a testament on", topic), false
	}
	if string(topic) == protocol.TestamentDevice && g.who.Role == protocol.RoleDevice && !g.aboutItself(args) {
		return g.refuse(m, m.Request, "leave another device's testament on", topic), false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.testaments >= mostTestaments {
		return g.full(m, m.Request, "testaments"), false
	}
	g.testaments++
	given, _ := wamp.AsDict(m.ArgumentsKw["publish_options"])
	options := publishOptions.clean(given)
	m.Arguments = wamp.List{topic, args, g.seal(kwargs, topic, options)}
	scope, _ := wamp.AsString(m.ArgumentsKw["scope"])
	m.ArgumentsKw = wamp.Dict{"publish_options": options, "scope": scope}
	return verdict{}, true
}

func (g *gate) aboutItself(args wamp.List) bool {
	d, ok := protocol.AsDict(protocol.Arg(args, 0))
	if !ok || len(args) != 1 {
		return false
	}
	swarm, okSwarm := protocol.Uint(d["swarm_key"])
	device, okDevice := protocol.Uint(d["device_key"])
	return okSwarm && okDevice && protocol.DeviceAuthID(swarm, device) == g.authid
}

// refuse answers a request that the rules do not allow.
func (g *gate) refuse(msg wamp.Message, request wamp.ID, what string, uri wamp.URI) verdict {
	g.log.Debug().Str("uri", clip(string(uri))).Msg("refused to " + what)
	return verdict{answer: &wamp.Error{
		Type: msg.MessageType(), Request: request, Details: wamp.Dict{}, Error: wamp.ErrNotAuthorized,
		Arguments: wamp.List{wamp.Dict{"error": fmt.Sprintf("a session of role %q may not %s %s", g.who.Role, what, clip(string(uri))), "code": string(protocol.CodeRefused)}},
	}}
}

func (g *gate) full(msg wamp.Message, request wamp.ID, what string) verdict {
	return verdict{answer: &wamp.Error{
		Type: msg.MessageType(), Request: request, Details: wamp.Dict{}, Error: wamp.URI(protocol.ErrorPrefix + string(protocol.CodeUnavailable)),
		Arguments: wamp.List{wamp.Dict{"error": "this session has too many " + what, "code": string(protocol.CodeUnavailable)}},
	}}
}

func (g *gate) wrong(msg wamp.Message, request wamp.ID, text string) verdict {
	return verdict{answer: &wamp.Error{
		Type: msg.MessageType(), Request: request, Details: wamp.Dict{}, Error: wamp.ErrInvalidArgument,
		Arguments: wamp.List{wamp.Dict{"error": text, "code": string(protocol.CodeInvalid)}},
	}}
}

// release looks at a message for the client; nil is none. What it returns is the
// session's own and not shared with anybody.
func (g *gate) release(msg wamp.Message) wamp.Message {
	switch m := msg.(type) {
	case *wamp.Welcome:
		return welcome(m)
	case *wamp.Event:
		return g.event(m)
	case *wamp.Result:
		if progress, _ := m.Details[wamp.OptProgress].(bool); !progress {
			g.answered(m.Request)
		}
	case *wamp.Error:
		if m.Type == wamp.CALL {
			g.answered(m.Request)
		}
		g.mu.Lock()
		delete(g.asked, m.Request)
		g.mu.Unlock()
	case *wamp.Registered:
		g.count(&g.registrations, 1)
	case *wamp.Unregistered:
		g.count(&g.registrations, -1)
	case *wamp.Subscribed:
		g.count(&g.subscriptions, 1)
		g.subscribed(m)
	case *wamp.Unsubscribed:
		g.count(&g.subscriptions, -1)
	}
	return msg
}

func (g *gate) count(n *int, by int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	*n = max(0, *n+by)
}

func (g *gate) subscribed(m *wamp.Subscribed) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch string(g.asked[m.Request]) {
	case protocol.SubscriptionOnCreate:
		g.onCreate = m.Subscription
	case protocol.SubscriptionOnDelete:
		g.onDelete = m.Subscription
	}
	delete(g.asked, m.Request)
}

func (g *gate) answered(request wamp.ID) {
	g.mu.Lock()
	ours := g.calls[request]
	delete(g.calls, request)
	g.mu.Unlock()
	if ours {
		<-g.meta
	}
}

// close gives back the places of calls that nobody will answer.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for request, ours := range g.calls {
		if ours {
			<-g.meta
		}
		delete(g.calls, request)
	}
}

// event makes the session's own copy. A device is not told of subscriptions that
// do not concern it: they are others' names, and with many devices and viewers
// most of the traffic.
func (g *gate) event(m *wamp.Event) wamp.Message {
	if g.who.Role == protocol.RoleDevice && !g.concerns(m) {
		return nil
	}
	out := &wamp.Event{Subscription: m.Subscription, Publication: m.Publication, Details: wamp.Dict{}, Arguments: m.Arguments}
	e, sealed := m.ArgumentsKw[envelopeKey].(*envelope)
	if !sealed { // one of the router's own
		out.ArgumentsKw = m.ArgumentsKw
		return out
	}
	for k, v := range e.opaque {
		out.Details[k] = v
	}
	out.Details["topic"] = e.topic
	out.Details["publisher"] = e.publisher
	out.Details["publisher_authid"] = e.authid
	out.Details["publisher_authrole"] = e.role
	if len(m.ArgumentsKw) > 1 {
		out.ArgumentsKw = make(wamp.Dict, len(m.ArgumentsKw)-1)
		for k, v := range m.ArgumentsKw {
			if k != envelopeKey {
				out.ArgumentsKw[k] = v
			}
		}
	}
	return out
}

func (g *gate) concerns(m *wamp.Event) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch m.Subscription {
	case 0:
	case g.onCreate:
		details, ok := protocol.Arg(m.Arguments, 1).(wamp.Dict)
		if !ok {
			return true
		}
		uri, _ := wamp.AsString(details["uri"])
		serial, _, isLog := protocol.ParseLogTopic(uri)
		if isLog && (serial == "" || serial == g.who.Serial) {
			return true
		}
		if id, ok := wamp.AsID(details["id"]); ok && len(g.hidden) < mostHidden {
			g.hidden[id] = struct{}{}
		}
		return false
	case g.onDelete:
		id, _ := wamp.AsID(protocol.Arg(m.Arguments, 1))
		_, hidden := g.hidden[id]
		delete(g.hidden, id)
		return !hidden
	}
	return true
}

// tooLong deals with a message that is too long for this client: whoever waits
// for it is told. It returns what the client gets instead, and what nexus is
// told in the client's name; nil is nothing.
func (g *gate) tooLong(msg wamp.Message, size int, most int64) (instead, back wamp.Message) {
	reason := wamp.List{wamp.Dict{
		"error": fmt.Sprintf("the message has %d bytes as encoded for its receiver, at most %d are sent on", size, most),
		"code":  string(protocol.CodeTooLarge),
	}}
	uri := wamp.URI(protocol.ErrorPrefix + string(protocol.CodeTooLarge))
	g.log.Warn().Stringer("type", msg.MessageType()).Int("bytes", size).Msg("message is too long to be sent on")
	switch m := msg.(type) {
	case *wamp.Invocation:
		return nil, &wamp.Error{Type: wamp.INVOCATION, Request: m.Request, Details: wamp.Dict{}, Error: uri, Arguments: reason}
	case *wamp.Result:
		if progress, _ := m.Details[wamp.OptProgress].(bool); progress {
			return nil, nil
		}
		return &wamp.Error{Type: wamp.CALL, Request: m.Request, Details: wamp.Dict{}, Error: uri, Arguments: reason}, nil
	case *wamp.Error:
		return &wamp.Error{Type: m.Type, Request: m.Request, Details: wamp.Dict{}, Error: m.Error, Arguments: reason}, nil
	}
	return nil, nil
}

// welcome takes the features out that the gate does not let through.
func welcome(m *wamp.Welcome) *wamp.Welcome {
	details := make(wamp.Dict, len(m.Details))
	for k, v := range m.Details {
		details[k] = v
	}
	roles, _ := wamp.AsDict(details["roles"]) // a copy
	if dealer, ok := wamp.AsDict(roles[wamp.RoleDealer]); ok {
		features, _ := wamp.AsDict(dealer["features"])
		delete(features, wamp.FeatureProgCallInvocations)
		delete(features, wamp.FeatureCallTimeout)
		roles[wamp.RoleDealer] = wamp.Dict{"features": features}
	}
	details["roles"] = roles
	return &wamp.Welcome{ID: m.ID, Details: details}
}

func isMeta(uri wamp.URI) bool { return len(uri) > 5 && uri[:5] == "wamp." }

func pattern(options wamp.Dict) bool {
	return options[wamp.OptMatch] == wamp.MatchPrefix || options[wamp.OptMatch] == wamp.MatchWildcard
}
