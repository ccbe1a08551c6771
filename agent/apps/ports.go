package apps

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"

	"reagent/container"
	"reagent/protocol"
)

// The pool from which host ports are taken (life §3.6).
const (
	firstHostPort = 40000
	lastHostPort  = 49999
)

// hostPorts knows which host port belongs to which app. It is filled from the
// records at start, so a port survives stop, start and a restart of the agent;
// only an uninstall frees it. Safe for concurrent use.
type hostPorts struct {
	mu    sync.Mutex
	owner map[string]portOwner // by "tcp/40000"
	free  func(protocol string, port uint16) bool
}

type portOwner struct {
	app      protocol.AppID
	declared uint16
}

func newHostPorts(free func(string, uint16) bool) *hostPorts {
	return &hostPorts{owner: map[string]portOwner{}, free: free}
}

func portKey(wire string, port uint16) string { return fmt.Sprintf("%s/%d", wire, port) }

// restore enters what a record says. A port that two records claim stays with
// the first.
func (h *hostPorts) restore(id protocol.AppID, ports map[string]uint16) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, declared := range slices.Sorted(maps.Keys(ports)) {
		var wire string
		var port uint16
		if _, err := fmt.Sscanf(declared, "%3s/%d", &wire, &port); err != nil {
			continue
		}
		key := portKey(wire, ports[declared])
		if _, taken := h.owner[key]; !taken {
			h.owner[key] = portOwner{id, port}
		}
	}
}

// assign chooses a host port for every rule that is published, in the contract's
// order: the one that the app has, the one that its container has, the one that
// the rule asks for, the first free one of the pool. have and bound are by
// "tcp/8080". The answer is have with the new ones added.
func (h *hostPorts) assign(id protocol.AppID, rules []protocol.PortRule, have map[string]uint16, bound []container.Port) (map[string]uint16, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := maps.Clone(have)
	if out == nil {
		out = map[string]uint16{}
	}
	for _, r := range rules {
		if r.LocalIP != "" {
			continue
		}
		declared := portKey(r.Wire(), r.Port)
		candidates := []uint16{out[declared]}
		for _, b := range bound {
			if b.Container == r.Port && b.Protocol == r.Wire() {
				candidates = append(candidates, b.Host)
			}
		}
		candidates = append(candidates, r.HostPort)
		port := h.choose(id, r, candidates)
		if port == 0 {
			return nil, fmt.Errorf("no free host port between %d and %d for port %s", firstHostPort, lastHostPort, declared)
		}
		h.owner[portKey(r.Wire(), port)] = portOwner{id, r.Port}
		out[declared] = port
	}
	return out, nil
}

func (h *hostPorts) choose(id protocol.AppID, r protocol.PortRule, candidates []uint16) uint16 {
	me := portOwner{id, r.Port}
	for _, port := range candidates {
		if port == 0 {
			continue
		}
		if who, taken := h.owner[portKey(r.Wire(), port)]; !taken || who == me {
			return port
		}
	}
	return h.next(r.Wire())
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
	for _, declared := range slices.Sorted(maps.Keys(have)) {
		port := have[declared]
		if len(conflicts) > 0 && !slices.Contains(conflicts, port) {
			continue
		}
		wire := declared[:3]
		fresh := h.next(wire)
		if fresh == 0 {
			return nil, fmt.Errorf("no free host port between %d and %d for port %s", firstHostPort, lastHostPort, declared)
		}
		who := h.owner[portKey(wire, port)]
		delete(h.owner, portKey(wire, port))
		h.owner[portKey(wire, fresh)] = portOwner{id, who.declared}
		out[declared] = fresh
	}
	return out, nil
}

// release frees every port of an app.
func (h *hostPorts) release(id protocol.AppID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	maps.DeleteFunc(h.owner, func(_ string, o portOwner) bool { return o.app == id })
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
