package apps

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"reagent/container"
	"reagent/protocol"
)

// The pool from which host ports are taken (life §3.6).
const (
	firstHostPort = 40000
	lastHostPort  = 49999
)

// denied are host ports that no app gets, whoever asks for one: without what
// listens there the device could not be reached or could not find anybody.
var denied = map[string]bool{
	"tcp/22": true,                 // ssh
	"tcp/53": true, "udp/53": true, // names
	"udp/67": true, "udp/68": true, // DHCP
	"udp/123":  true,                   // time, without which no certificate is valid
	"tcp/2375": true, "tcp/2376": true, // the engine's own
}

// hostPorts knows which host port belongs to which app. It is filled from the
// records at start, so a port survives stop, start and a restart of the agent,
// with a studio and without; it is free again when the app is gone. Safe for
// concurrent use.
//
// A slot names a port that an app publishes: "tcp/8080", for a service of a
// compose app "web/tcp/8080".
type hostPorts struct {
	mu    sync.Mutex
	owner map[string]portOwner // by "tcp/40000"
	free  func(protocol string, port uint16) bool
}

type portOwner struct {
	app  protocol.AppID
	slot string
}

// A portNeed is a slot that wants a host port.
type portNeed struct {
	slot   string
	prefer []uint16 // in this order; a 0 says nothing
}

func newHostPorts(free func(string, uint16) bool) *hostPorts {
	return &hostPorts{owner: map[string]portOwner{}, free: free}
}

func portKey(wire string, port uint16) string { return fmt.Sprintf("%s/%d", wire, port) }

// slotOf is the slot of a service's port; service is empty for an app that is
// one container.
func slotOf(service, wire string, port uint16) string {
	if service == "" {
		return portKey(wire, port)
	}
	return service + "/" + portKey(wire, port)
}

// parseSlot takes a slot apart.
func parseSlot(slot string) (service, wire string, port uint16, ok bool) {
	rest, number, _ := cutLast(slot)
	if service, wire, ok = cutLast(rest); !ok {
		service, wire = "", rest
	}
	n, err := strconv.ParseUint(number, 10, 16)
	return service, wire, uint16(n), err == nil && n > 0 && (wire == "tcp" || wire == "udp")
}

func cutLast(s string) (before, after string, found bool) {
	i := strings.LastIndexByte(s, '/')
	if i < 0 {
		return "", s, false
	}
	return s[:i], s[i+1:], true
}

// restore enters what a record says. A port that two records claim stays with
// the first.
func (h *hostPorts) restore(id protocol.AppID, ports map[string]uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, slot := range slices.Sorted(maps.Keys(ports)) {
		_, wire, _, ok := parseSlot(slot)
		if !ok {
			continue
		}
		key := portKey(wire, ports[slot])
		if _, taken := h.owner[key]; !taken {
			h.owner[key] = portOwner{id, slot}
		}
	}
}

// needs are the slots of an app with one container, each with the host ports
// that it would like in the contract's order: the one that its container has,
// the one that the rule asks for, and in stage DEV the declared port itself.
func needs(stage protocol.Stage, rules []protocol.PortRule, bound []container.Port) []portNeed {
	var out []portNeed
	for _, r := range rules {
		if r.LocalIP != "" {
			continue
		}
		n := portNeed{slot: slotOf("", r.Wire(), r.Port)}
		for _, b := range bound {
			if b.Container == r.Port && b.Protocol == r.Wire() {
				n.prefer = append(n.prefer, b.Host)
			}
		}
		n.prefer = append(n.prefer, r.HostPort)
		if stage == protocol.Dev {
			n.prefer = append(n.prefer, r.Port)
		}
		out = append(out, n)
	}
	return out
}

// assign chooses a host port for every slot: the one that it has, one that it
// would like, the first free one of the pool. The answer is have with the new
// ones added.
func (h *hostPorts) assign(id protocol.AppID, needs []portNeed, have map[string]uint16) (map[string]uint16, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := maps.Clone(have)
	if out == nil {
		out = map[string]uint16{}
	}
	for _, n := range needs {
		_, wire, _, ok := parseSlot(n.slot)
		if !ok {
			return nil, fmt.Errorf("%q names no port", n.slot)
		}
		me := portOwner{id, n.slot}
		port := h.choose(me, wire, append([]uint16{out[n.slot], h.held(me, wire)}, n.prefer...))
		if port == 0 {
			return nil, noPort(n.slot)
		}
		if old := out[n.slot]; old != port && h.owner[portKey(wire, old)] == me {
			delete(h.owner, portKey(wire, old))
		}
		h.owner[portKey(wire, port)] = me
		out[n.slot] = port
	}
	return out, nil
}

func noPort(slot string) error {
	return fmt.Errorf("no free host port between %d and %d for port %s", firstHostPort, lastHostPort, slot)
}

// held is the host port that was given out for a slot before, 0 if there is
// none: of a removed app no record tells, and until its uninstall it is kept.
func (h *hostPorts) held(me portOwner, wire string) (lowest uint16) {
	for key, who := range h.owner {
		of, number, _ := strings.Cut(key, "/")
		port, err := strconv.ParseUint(number, 10, 16)
		if who == me && of == wire && err == nil && (lowest == 0 || uint16(port) < lowest) {
			lowest = uint16(port)
		}
	}
	return lowest
}

func (h *hostPorts) choose(me portOwner, wire string, candidates []uint16) uint16 {
	for _, port := range candidates {
		if port == 0 || denied[portKey(wire, port)] {
			continue
		}
		if who, taken := h.owner[portKey(wire, port)]; !taken || who == me {
			return port
		}
	}
	return h.next(wire)
}

func (h *hostPorts) next(wire string) uint16 {
	for port := uint16(firstHostPort); port <= lastHostPort; port++ {
		if _, taken := h.owner[portKey(wire, port)]; !taken && h.free(wire, port) {
			return port
		}
	}
	return 0
}

// replace gives the app another host port for each one in conflict; all of them
// when the engine named none.
func (h *hostPorts) replace(id protocol.AppID, have map[string]uint16, conflicts []uint16) (map[string]uint16, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := maps.Clone(have)
	for _, slot := range slices.Sorted(maps.Keys(have)) {
		port := have[slot]
		_, wire, _, ok := parseSlot(slot)
		if !ok || len(conflicts) > 0 && !slices.Contains(conflicts, port) {
			continue
		}
		fresh := h.next(wire)
		if fresh == 0 {
			return nil, noPort(slot)
		}
		me := portOwner{id, slot}
		if h.owner[portKey(wire, port)] == me {
			delete(h.owner, portKey(wire, port))
		}
		h.owner[portKey(wire, fresh)] = me
		out[slot] = fresh
	}
	return out, nil
}

// ruled is the host port of what a rule is about: the container's, or that of
// the one service of a project which declares the port. Of several it is none.
func ruled(have map[string]uint16, r protocol.PortRule) (host uint16, ok bool) {
	for slot, port := range have {
		if _, wire, declared, sound := parseSlot(slot); !sound || wire != r.Wire() || declared != r.Port {
			continue
		}
		if ok {
			return 0, false
		}
		host, ok = port, true
	}
	return host, ok
}

// release frees every port of an app.
func (h *hostPorts) release(id protocol.AppID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.owner, func(_ string, o portOwner) bool { return o.app == id })
}

// check says why an app may not have a host port for what it declares, if so.
func (h *hostPorts) check(id protocol.AppID, wire string, declared, port uint16) protocol.PortReason {
	h.mu.Lock()
	who, taken := h.owner[portKey(wire, port)]
	h.mu.Unlock()
	_, _, of, _ := parseSlot(who.slot)
	switch {
	case denied[portKey(wire, port)]:
		return protocol.PortDenylisted
	case taken && (who.app != id || of != declared):
		return protocol.PortTakenByApp
	case !taken && !h.free(wire, port):
		return protocol.PortTakenByProcess
	}
	return protocol.PortAvailable
}

// publishers counts the services that publish a declared port, by what runs or
// what is wanted.
func publishers(have map[string]uint16, definition map[string]any, wire string, declared uint16) int {
	found := map[string]bool{}
	for slot := range have {
		if service, w, port, ok := parseSlot(slot); ok && service != "" && w == wire && port == declared {
			found[service] = true
		}
	}
	listed, _ := services(definition) // of a bad one nothing is published
	for name, s := range listed {
		entries, _ := s["ports"].([]any)
		for _, entry := range entries {
			if p, ok := protocol.ParseComposePort(entry); ok && p.Wire == wire && p.Declared() == declared {
				found[name] = true
			}
		}
	}
	return len(found)
}

// CheckHostPort says why an app may not have a host port, "" if it may.
func (a *Apps) CheckHostPort(_ context.Context, q protocol.CheckHostPortArgs) (protocol.PortReason, error) {
	wire := protocol.PortRule{Protocol: q.Protocol}.Wire()
	have, _, err := a.cfg.Store.Actual(q.App)
	if err != nil {
		return "", err
	}
	wish, _, err := a.cfg.Store.Wanted(q.App)
	if err != nil {
		return "", err
	}
	if publishers(have.HostPorts, wish.Request.DockerCompose, wire, q.Port) > 1 {
		return protocol.PortAmbiguous, nil // one rule, and several services that it may mean
	}
	return a.ports.check(q.App, wire, q.Port, q.HostPort), nil
}

// bindable reports whether nobody listens on a port of this host. Ports that the
// engine forwards without a listening process show only when the container
// starts; replace is for them.
func bindable(wire string, port uint16) bool {
	addr := fmt.Sprintf(":%d", port)
	if wire == "udp" {
		c, err := net.ListenPacket("udp", addr)
		if err != nil {
			return false
		}
		return c.Close() == nil
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return false
	}
	return l.Close() == nil
}
